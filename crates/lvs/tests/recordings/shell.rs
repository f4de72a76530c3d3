//! Just enough of a shell for the recorded commands: quotes, pipes, `;`, `&&` and redirections. ipvsadm
//! runs inside this process on a table in memory; text tools beside it are run by the real shell.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io::Write as _,
    process::{Command, Stdio},
};

use furiwake_lvs::{
    ipvsadm::{MemoryDirector, Output, run, run_restore_script, run_save_script},
    model::{SETTINGS, Setting, Settings},
    proc_files,
    view::View,
};

use super::names::RecordedNames;

/// Where the kernel has its settings.
const SYSCTLS: &str = "/proc/sys/net/ipv4/vs/";
/// Settings that the recorded kernel does not have: of later ones, of modules, and our own.
const NOT_IN_6_1: [&str; 9] = [
    "conn_lfactor",
    "conn_max",
    "conn_tab_bits",
    "debug_level",
    "est_cpulist",
    "est_nice",
    "reset_without_server",
    "scheduler_twos",
    "svc_lfactor",
];

/// What a command printed and its exit code.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A namespace with its director and its files.
#[derive(Default)]
pub(crate) struct Shell {
    director: MemoryDirector,
    files: HashMap<String, String>,
}

impl Shell {
    /// Run a line. Lists of pipelines go from left to right.
    pub(crate) fn run(&mut self, line: &str) -> Finished {
        let mut all = Finished::default();
        // A loop holds semicolons of its own.
        let sequences = if line.starts_with("for ") {
            vec![line.to_owned()]
        } else {
            split(line, ";")
        };
        for sequence in sequences {
            for pipeline in split(&sequence, "&&") {
                let finished = self.pipeline(&pipeline);
                all.code = finished.code;
                all.stdout.push_str(&finished.stdout);
                all.stderr.push_str(&finished.stderr);
                if all.code != 0 {
                    break;
                }
            }
        }
        all
    }

    fn pipeline(&mut self, pipeline: &str) -> Finished {
        let mut stdin = String::new();
        let mut stderr = String::new();
        let mut last = Finished::default();
        for stage in split(pipeline, "|") {
            last = self.stage(stage.trim(), &stdin);
            stdin.clone_from(&last.stdout);
            stderr.push_str(&last.stderr);
        }
        last.stderr = stderr;
        last
    }

    fn stage(&mut self, stage: &str, stdin: &str) -> Finished {
        let mut words = words(stage);
        let program = words.first().cloned().unwrap_or_default();
        let basename = program.rsplit('/').next().unwrap_or_default();
        if program == "ip" {
            return self.ip(&words);
        }
        if let Some(file) = stage.strip_prefix("cat /proc/net/") {
            return self.proc_file(file);
        }
        if stage.contains(SYSCTLS) {
            return self.sysctl(stage);
        }
        if !basename.starts_with("ipvsadm") {
            return self.tool(stage, stdin);
        }

        let mut input = stdin.to_owned();
        let mut target = None;
        words.retain(|word| {
            if let Some(file) = word.strip_prefix('<') {
                input = self.files.get(file).cloned().unwrap_or_default();
                return false;
            }
            if let Some(file) = word.strip_prefix('>') {
                target = Some(file.to_owned());
                return false;
            }
            true
        });
        let Output {
            mut stdout,
            stderr,
            code,
        } = match basename {
            "ipvsadm-save" => run_save_script(&words, &RecordedNames, &mut self.director),
            "ipvsadm-restore" => run_restore_script(
                &words,
                &mut input.as_bytes(),
                &RecordedNames,
                &mut self.director,
            ),
            _ => run(
                &words,
                &mut input.as_bytes(),
                &RecordedNames,
                &mut self.director,
            ),
        };
        if let Some(file) = target {
            self.files.insert(file, std::mem::take(&mut stdout));
        }
        Finished {
            code: code.into(),
            stdout,
            stderr,
        }
    }

    /// Of the network only this matters: an interface that was added is there.
    fn ip(&mut self, words: &[String]) -> Finished {
        if let [_, link, add, name, ..] = words
            && (link.as_str(), add.as_str()) == ("link", "add")
        {
            self.director.interfaces.push((name.clone(), 1500));
        }
        Finished::default()
    }

    /// No connections and no packets are in these recordings.
    fn proc_file(&self, file: &str) -> Finished {
        let view = View::of_table(&self.director.table);
        Finished {
            stdout: match file {
                "ip_vs" => proc_files::services(&view),
                "ip_vs_conn" => proc_files::connections(&[]),
                "ip_vs_conn_sync" => proc_files::synchronised_connections(&[]),
                "ip_vs_stats" => proc_files::statistics(&view),
                other => panic!("no such file: {other}"),
            },
            ..Finished::default()
        }
    }

    /// Settings stand in for the files below /proc/sys.
    fn sysctl(&mut self, stage: &str) -> Finished {
        let settings = &mut self.director.table.settings;
        let (program, file) = stage.split_once(SYSCTLS).unwrap();
        let text = |settings: &Settings, name: &str| Setting::named(name).unwrap().value(settings);
        if program.starts_with("for f in") {
            let mut stdout = String::new();
            let mut names: Vec<&str> = SETTINGS
                .iter()
                .map(|setting| setting.name)
                .filter(|name| !NOT_IN_6_1.contains(name))
                .collect();
            names.sort_unstable();
            for name in names {
                let value = match name {
                    // A share of that machine's memory.
                    "sync_qlen_max" => "7157".to_owned(),
                    _ => text(settings, name),
                };
                writeln!(stdout, "{name} = {value}").unwrap();
            }
            return Finished {
                stdout,
                ..Finished::default()
            };
        }
        if program == "cat " {
            return Finished {
                stdout: text(settings, file).replace(' ', "\t") + "\n",
                ..Finished::default()
            };
        }
        let value = program.strip_prefix("echo ").unwrap().trim_end_matches('>');
        let value = value.trim().trim_matches('\'');
        match settings.set(file, value) {
            Ok(()) => Finished::default(),
            Err(_) => Finished {
                code: 1,
                stdout: String::new(),
                stderr: "sh: 1: echo: echo: I/O error\n".into(),
            },
        }
    }

    fn tool(&self, stage: &str, stdin: &str) -> Finished {
        if let Some(file) = stage.strip_prefix("diff - ") {
            let same = self.files.get(file).is_some_and(|text| text == stdin);
            return Finished {
                code: i32::from(!same),
                ..Finished::default()
            };
        }
        let mut child = Command::new("/bin/sh")
            .args(["-c", stage])
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = child.stdin.take().unwrap();
        // `head` does not read to the end.
        let _ = pipe.write_all(stdin.as_bytes());
        drop(pipe);
        let output = child.wait_with_output().unwrap();
        Finished {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Split at a separator outside quotes.
fn split(text: &str, separator: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quote = None;
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        if quote.is_none() && rest.starts_with(separator) {
            parts.push(String::new());
            rest = &rest[separator.len()..];
            continue;
        }
        track(&mut quote, letter);
        parts.last_mut().unwrap().push(letter);
        rest = &rest[letter.len_utf8()..];
    }
    parts
}

/// Words, without their quotes.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in text.chars() {
        if track(&mut quote, letter) {
            word.get_or_insert_default();
        } else if quote.is_none() && letter == ' ' {
            words.extend(word.take());
        } else {
            word.get_or_insert_default().push(letter);
        }
    }
    words.extend(word);
    words
}

/// Follow quotes; true if this letter is one that opens or closes.
fn track(quote: &mut Option<char>, letter: char) -> bool {
    match *quote {
        None if letter == '\'' || letter == '"' => {
            *quote = Some(letter);
            true
        }
        Some(open) if open == letter => {
            *quote = None;
            true
        }
        _ => false,
    }
}
