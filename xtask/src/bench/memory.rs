//! What a million connections take in the kernel.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use aya::maps::MapInfo;

use super::{
    Setting,
    bed::{Bed, Kind},
    director::{Furiwake, Hook},
    table::{Must, Samples, Section},
    tool,
};

/// So many connections.
const CONNECTIONS: u32 = 1_000_000;
const MIB: f64 = (1 << 20) as f64;

/// Fills the table of a director with room for a million, and weighs its maps.
pub(crate) fn measure(setting: &Setting) -> Result<Section> {
    setting.tell("memory: a million connections");
    let mut bed = Bed::up(Kind::Furiwake(Hook::Xdp), setting, CONNECTIONS)?;
    let furiwake = |bed: &Bed| -> Result<(u64, u64)> {
        let furiwake = bed.furiwake().context("the bed has our director")?;
        Ok((connections(furiwake)?, refused(furiwake)?))
    };
    let before = furiwake(&bed)?;
    let flows = u64::from(CONNECTIONS).next_power_of_two();
    let shot = bed.shoot(CONNECTIONS, flows, 0)?;
    let after = furiwake(&bed)?;
    let maps = map_memory(bed.furiwake().context("the bed has our director")?)?;
    let total: u64 = maps.values().map(|map| map.bytes).sum();

    let one = |name: &str, value: f64, must| Samples {
        name: name.into(),
        values: vec![value],
        must: Some(must),
    };
    let held = (after.0 - before.0) as f64;
    let mut section = Section::new(
        "A million NAT connections",
        "",
        None,
        &[
            one(
                "memory of all maps, MiB",
                total as f64 / MIB,
                Must::AtMost(128.0),
            ),
            one("connections held", held, Must::Be(f64::from(CONNECTIONS))),
            one(
                "refused or put out",
                (after.1 - before.1) as f64,
                Must::Be(0.0),
            ),
            one("packets lost", shot.lost() as f64, Must::Be(0.0)),
        ],
    );
    let mut largest: Vec<&Map> = maps.values().collect();
    largest.sort_by_key(|map| std::cmp::Reverse(map.bytes));
    let largest: Vec<String> = largest
        .iter()
        .take(3)
        .map(|map| format!("{} {:.1} MiB", map.name, map.bytes as f64 / MIB))
        .collect();
    section
        .notes
        .push(format!("largest maps: {}", largest.join(", ")));
    Ok(section)
}

fn connections(furiwake: &Furiwake) -> Result<u64> {
    let status = furiwake.status()?;
    let count = |kind: &str| status["connections"][kind].as_u64().unwrap_or(0);
    Ok(count("active") + count("inactive"))
}

fn refused(furiwake: &Furiwake) -> Result<u64> {
    furiwake
        .counted(|reason| reason["name"] == "table_full" || reason["name"] == "half_open_evicted")
}

/// A map and what it takes.
struct Map {
    name: String,
    bytes: u64,
}

/// Every map that the director has pinned or holds open, by number.
fn map_memory(furiwake: &Furiwake) -> Result<BTreeMap<u64, Map>> {
    let root = format!("/proc/{}/root/sys/fs/bpf", furiwake.node().holder());
    let mut maps = BTreeMap::new();
    for pin in files_below(Path::new(&root))? {
        // Links are pinned next to maps, in a folder of their own.
        if !pin.parent().is_some_and(|folder| folder.ends_with("maps")) {
            continue;
        }
        let info = MapInfo::from_pin(&pin).with_context(|| format!("open {}", pin.display()))?;
        let fd = info.fd()?;
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd()))?;
        let name = info.name_as_str().unwrap_or("?").to_owned();
        maps.extend(read_fdinfo(&text).map(|(id, bytes)| (id, Map { name, bytes })));
    }
    let pid = furiwake.status()?["pid"]
        .as_u64()
        .context("furiwake's status tells its process")?;
    let open = format!("for file in /proc/{pid}/fdinfo/*; do cat $file; echo; done");
    let open = tool::run(furiwake.node().command("/bin/sh").args(["-c", &open]), "")?;
    for text in open.split("\n\n") {
        if let Some((id, bytes)) = read_fdinfo(text) {
            let name = "(not pinned)".to_owned();
            maps.entry(id).or_insert(Map { name, bytes });
        }
    }
    Ok(maps)
}

/// Number and memory of a map, from what /proc says of a descriptor of it.
fn read_fdinfo(text: &str) -> Option<(u64, u64)> {
    let field = |name: &str| {
        text.lines().find_map(|line| {
            line.strip_prefix(name)?
                .strip_prefix(':')?
                .trim()
                .parse()
                .ok()
        })
    };
    Some((field("map_id")?, field("memlock")?))
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(files_below(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_map_has_a_number_and_memory() {
        let map = "pos:\t0\nmap_type:\t2\nmemlock:\t4096\nmap_id:\t7\nfrozen:\t0\n";
        assert_eq!(read_fdinfo(map), Some((7, 4096)));
        assert_eq!(
            read_fdinfo("prog_type:\t6\nmemlock:\t4096\nprog_id:\t7\n"),
            None
        );
    }
}
