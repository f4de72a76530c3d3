//! Defence against floods, as the kernel does it (`ip_vs_ctl.c`, `update_defense_level`): three settings with four
//! levels each. 0 is off, 3 is on; 1 and 2 mean that it is on while memory is short, and which of the two is shown
//! says whether it is.

use std::fs;

use furiwake_engine::settings::{DROP_ENTRY, SECURE_TCP};
use furiwake_lvs::model::Settings;

use crate::{load::Maps, memory::page_size};

/// Bring what the programs do up to date with the memory that is left. Once a second.
pub(crate) fn adjust(maps: &mut Maps) {
    let settings = &maps.settings;
    let levels = [
        settings.drop_entry,
        settings.drop_packet,
        settings.secure_tcp,
    ];
    let is_asked = levels.iter().any(|level| matches!(level, 1 | 2));
    maps.shortage = if is_asked { shortage(settings) } else { None };
    let config = &maps.config[0];
    let rate = drop_rate(settings, maps.shortage);
    if config.drop_rate.get() == 0 {
        // The first one after it is turned on is dropped.
        config.drop_turn.set(0);
    }
    config.drop_rate.set(rate);
    let before = config.settings.get();
    let bits = [
        (settings.drop_entry, DROP_ENTRY),
        (settings.secure_tcp, SECURE_TCP),
    ];
    let on = bits
        .into_iter()
        .filter(|(level, _)| is_on(*level, maps.shortage));
    let after = on.fold(before & !(DROP_ENTRY | SECURE_TCP), |all, (_, bit)| {
        all | bit
    });
    if (before ^ after) & SECURE_TCP != 0 {
        config.set_transitions(after & SECURE_TCP != 0);
    }
    config.settings.set(after);
}

/// The settings as the kernel would show them now: it turns 1 into 2 while memory is short, and back.
pub(crate) fn shown(maps: &Maps) -> Settings {
    let mut settings = maps.settings.clone();
    for level in [
        &mut settings.drop_entry,
        &mut settings.drop_packet,
        &mut settings.secure_tcp,
    ] {
        if matches!(*level, 1 | 2) {
            *level = if maps.shortage.is_some() { 2 } else { 1 };
        }
    }
    settings
}

/// How much memory is missing, as the rate at which the kernel would drop new flows; `None` when there is enough, or
/// nobody can say.
fn shortage(settings: &Settings) -> Option<u32> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    rate(&text, settings.amemthresh, page_size())
}

fn rate(meminfo: &str, threshold: i32, page: usize) -> Option<u32> {
    let kilobytes = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    let free = (kilobytes("MemFree:")? + kilobytes("Buffers:")?) * 1024 / page.max(1) as u64;
    let threshold = u64::try_from(threshold).ok()?;
    let missing = threshold.checked_sub(free).filter(|missing| *missing > 0)?;
    u32::try_from(threshold / missing).ok()
}

fn is_on(level: i32, shortage: Option<u32>) -> bool {
    match level {
        1 | 2 => shortage.is_some(),
        3 => true,
        _ => false,
    }
}

fn drop_rate(settings: &Settings, shortage: Option<u32>) -> u32 {
    match settings.drop_packet {
        1 | 2 => shortage.unwrap_or(0),
        // Below zero the kernel's countdown is over at once.
        3 => u32::try_from(settings.am_droprate).unwrap_or(1),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(drop_packet: i32) -> Settings {
        Settings {
            drop_packet,
            ..Settings::default()
        }
    }

    #[test]
    fn the_rate_grows_as_memory_gets_short() {
        let meminfo =
            |free: u64| format!("MemTotal: 8000 kB\nMemFree:  {free} kB\nBuffers: 40 kB\n");
        let rate = |free| rate(&meminfo(free), 1024, 4096);
        assert_eq!(rate(4096), None);
        assert_eq!(rate(4056), None);
        assert_eq!(rate(4052), Some(1024));
        assert_eq!(rate(2008), Some(2));
        assert_eq!(rate(0), Some(1));
    }

    #[test]
    fn unknown_memory_is_enough_memory() {
        assert_eq!(rate("", 1024, 4096), None);
        assert_eq!(rate("MemFree: x kB\nBuffers: 0 kB\n", 1024, 4096), None);
        assert_eq!(rate("MemFree: 0 kB\nBuffers: 0 kB\n", -1, 4096), None);
    }

    #[test]
    fn automatic_levels_follow_memory_and_the_others_do_not() {
        for (level, plenty, short) in [(0, 0, 0), (1, 0, 7), (2, 0, 7), (3, 10, 10)] {
            assert_eq!(drop_rate(&with(level), None), plenty, "level {level}");
            assert_eq!(drop_rate(&with(level), Some(7)), short, "level {level}");
            assert_eq!(is_on(level, None), plenty != 0);
            assert_eq!(is_on(level, Some(7)), short != 0);
        }
    }
}
