//! Settings: kept as they were given, so that the next daemon finds them, and what follows from them for the programs.

use furiwake_engine::{
    settings as bits,
    shared::Shared64,
    state::State,
    tables::{KEPT_WORDS, Kept},
};
use furiwake_lvs::model::{Settings, Timeouts};

use crate::{Error, defence, load::Maps};

/// Most bytes of the settings that are not as at first.
const ROOM: usize = KEPT_WORDS * 8;

/// Put settings in force, and keep them.
pub(crate) fn set(maps: &mut Maps, settings: &Settings) -> Result<(), Error> {
    keep(&maps.kept[0], settings)?;
    maps.settings = settings.clone();
    enforce(maps);
    Ok(())
}

/// Take over what an earlier daemon kept.
pub(crate) fn take_over(maps: &mut Maps) {
    maps.settings = kept(&maps.kept[0]);
    enforce(maps);
    let config = &maps.config[0];
    // As this version has them.
    config.set_transitions(config.settings.get() & bits::SECURE_TCP != 0);
}

/// Tell the programs what follows from the settings.
fn enforce(maps: &mut Maps) {
    let settings = &maps.settings;
    let switches = [
        (settings.expire_nodest_conn, bits::EXPIRE_NODEST_CONN),
        (
            settings.expire_quiescent_template,
            bits::EXPIRE_QUIESCENT_TEMPLATE,
        ),
        (settings.sloppy_tcp, bits::SLOPPY_TCP),
        (settings.pmtu_disc, bits::PMTU_DISC),
        (settings.schedule_icmp, bits::SCHEDULE_ICMP),
        (settings.reset_without_server, bits::RESET_WITHOUT_SERVER),
    ];
    let on = switches.iter().filter(|(value, _)| *value != 0);
    let config = &maps.config[0];
    // What depends on the memory that is left is brought up to date below.
    let defence = config.settings.get() & (bits::DROP_ENTRY | bits::SECURE_TCP);
    config
        .settings
        .set(on.fold(defence, |all, (_, bit)| all | bit));
    config
        .conn_reuse_mode
        .set(settings.conn_reuse_mode.cast_unsigned());
    let seconds = |value: i32| value.max(0).cast_unsigned();
    config
        .lblc_expiration
        .set(seconds(settings.lblc_expiration));
    config
        .lblcr_expiration
        .set(seconds(settings.lblcr_expiration));
    defence::adjust(maps);
}

/// Write the settings that are not as at first. The text that counts is the old one or the new one, whole.
fn keep(place: &Kept, settings: &Settings) -> Result<(), Error> {
    let lines = settings
        .changed()
        .map(|setting| format!("{} {}\n", setting.name, setting.value(settings)));
    let text: String = lines.collect();
    if text.len() > ROOM {
        return Err(Error::Full {
            what: "byte of settings",
            limit: ROOM as u32,
        });
    }
    let next = (place.current.get() + 1) & 1;
    let mut bytes = text.into_bytes();
    bytes.resize(ROOM, 0);
    let (words, _) = bytes.as_chunks();
    for (cell, word) in place.texts[next as usize].iter().zip(words) {
        cell.set(u64::from_ne_bytes(*word));
    }
    place.current.set(next);
    Ok(())
}

/// Read what was kept. A setting that this version does not know, or a value that it does not take, is left out.
fn kept(place: &Kept) -> Settings {
    let cells: &[Shared64] = &place.texts[(place.current.get() & 1) as usize];
    let bytes: Vec<u8> = cells
        .iter()
        .flat_map(|cell| cell.get().to_ne_bytes())
        .take_while(|byte| *byte != 0)
        .collect();
    let mut settings = Settings::default();
    for line in String::from_utf8_lossy(&bytes).lines() {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        if let Err(error) = settings.set(name, value) {
            tracing::warn!(%error, "a setting of an earlier furiwake is left out");
        }
    }
    settings
}

/// States whose timeouts `ipvsadm --set` changes.
const TIMED: [State; 3] = [State::Established, State::FinWait, State::Udp];

/// Put timeouts in force.
pub(crate) fn set_timeouts(maps: &Maps, timeouts: &Timeouts) {
    let config = &maps.config[0];
    let per_second = config.ticks_per_second.get();
    let seconds = [timeouts.tcp, timeouts.tcp_fin, timeouts.udp];
    for (state, seconds) in TIMED.into_iter().zip(seconds) {
        config.timeouts[state as usize].set(seconds.saturating_mul(per_second));
    }
}

/// The timeouts in force.
pub(crate) fn timeouts(maps: &Maps) -> Timeouts {
    let config = &maps.config[0];
    let [tcp, tcp_fin, udp] = TIMED
        .map(|state| config.timeouts[state as usize].get() / config.ticks_per_second.get().max(1));
    Timeouts { tcp, tcp_fin, udp }
}

#[cfg(test)]
mod tests {
    use furiwake_lvs::model::SETTINGS;

    use super::*;

    fn place() -> Kept {
        Kept {
            current: Shared64::default(),
            texts: std::array::from_fn(|_| std::array::from_fn(|_| Shared64::default())),
        }
    }

    #[test]
    fn what_was_never_kept_is_as_at_first() {
        assert_eq!(kept(&place()), Settings::default());
    }

    #[test]
    fn every_setting_is_kept_and_can_be_taken_back() {
        let place = place();
        let mut settings = Settings::default();
        for (name, value) in [
            ("drop_packet", "3"),
            ("pmtu_disc", "0"),
            ("sloppy_tcp", "7"),
            ("sync_threshold", "5 60"),
            ("est_cpulist", "0-3,6"),
            ("conn_reuse_mode", "-1"),
            ("sync_qlen_max", "9223372036854775807"),
        ] {
            settings.set(name, value).unwrap();
            keep(&place, &settings).unwrap();
            assert_eq!(kept(&place), settings, "after {name}");
        }
        keep(&place, &Settings::default()).unwrap();
        assert_eq!(kept(&place), Settings::default());
    }

    #[test]
    fn all_settings_at_once_find_room() {
        let longest: usize = SETTINGS
            .iter()
            .map(|setting| setting.name.len() + 2 + 24)
            .sum();
        assert!(longest < ROOM, "{longest} bytes");
    }

    #[test]
    fn a_text_that_does_not_fit_changes_nothing() {
        let place = place();
        let mut settings = Settings::default();
        settings.set("drop_packet", "3").unwrap();
        keep(&place, &settings).unwrap();
        let too_long = Settings {
            est_cpulist: "0,".repeat(ROOM),
            ..Settings::default()
        };
        assert!(keep(&place, &too_long).is_err());
        assert_eq!(kept(&place), settings);
    }
}
