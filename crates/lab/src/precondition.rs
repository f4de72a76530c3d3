//! What a machine must offer before a lab can be tried.

use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::geteuid,
};

use crate::error::{Error, Result};

/// Refuses, with the line to type instead, when we are not root.
pub fn require_root() -> Result<()> {
    if geteuid().is_root() {
        return Ok(());
    }
    let words: Vec<String> = std::env::args_os()
        .map(|word| quote(&word.to_string_lossy()))
        .collect();
    Err(Error::Precondition {
        problem: "a lab needs root: it makes network namespaces and loads BPF programs".into(),
        remedy: format!("type: sudo {}", words.join(" ")),
    })
}

/// Asks for as many open files as this process may have: a thousand connections need more than the usual 1024.
pub fn raise_open_files() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // With fewer, connections fail one by one and say so.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

/// Says what is missing when the kernel refused a step of building the network.
pub(crate) fn explain(error: Error) -> Error {
    let Error::System { step, source } = &error else {
        return error;
    };
    let remedy = match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "root is not enough here: a container needs CAP_SYS_ADMIN and CAP_NET_ADMIN and the right to mount"
        }
        Some(
            libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::ENODEV | libc::EAFNOSUPPORT,
        ) => {
            "the kernel lacks something: a lab needs Linux 5.15 with NET_NS, UTS_NS, PID_NS, VETH, BRIDGE and PACKET"
        }
        Some(libc::ENOSPC | libc::EUSERS) => {
            "a limit on namespaces is reached: see /proc/sys/user/max_net_namespaces, furiwake lab list"
        }
        _ => return error,
    };
    Error::Precondition {
        problem: format!("{step}: {source}"),
        remedy: remedy.into(),
    }
}

/// A word as a shell takes it.
fn quote(word: &str) -> String {
    let plain =
        |character: char| character.is_ascii_alphanumeric() || "-_./:=,@%+".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(quote("--weights=3,1"), "--weights=3,1");
        assert_eq!(quote("apache2 -D FOREGROUND"), "'apache2 -D FOREGROUND'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }
}
