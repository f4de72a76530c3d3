//! Small packets per second through a director between two cables.

use anyhow::{Result, ensure};

use super::{
    Setting,
    bed::{Bed, Kind, SERVERS, Shot},
    director::Hook,
    table::{Must, Samples, Section},
};

/// Flows of the established rows.
const FLOWS: u64 = 4096;
/// Connections of the other rows; conntrack's usual limit is twice that.
const NEW: u32 = 1 << 17;
/// Room in our table, for the default and for a million.
const CONNECTIONS: u32 = 1 << 20;
const NFTABLES: &str = "nftables DNAT";
const XDP: Kind = Kind::Furiwake(Hook::Xdp);
const TC: Kind = Kind::Furiwake(Hook::Tc);

/// Measures both sections.
pub(crate) fn measure(setting: &Setting) -> Result<Vec<Section>> {
    Ok(vec![established(setting)?, every_packet_new(setting)?])
}

/// The directors' rows while they are filled.
struct Rows {
    samples: Vec<Samples>,
    lost: Vec<(u64, u64)>,
    uncounted: Samples,
}

fn established(setting: &Setting) -> Result<Section> {
    let kinds = [Kind::Nftables, Kind::Forwarding, Kind::Relay, XDP, TC];
    let mut rows = Rows::new(&kinds, 3.0);
    let mut beds = Vec::new();
    for kind in kinds {
        setting.tell(&format!("rate: building {}", name(kind)));
        let mut bed = Bed::up(kind, setting, CONNECTIONS)?;
        // Twice around makes every flow known.
        bed.shoot(2 * FLOWS as u32, FLOWS, 0)?;
        beds.push((kind, bed));
    }
    for round in 1..=setting.rounds() {
        setting.tell(&format!("rate, established: round {round}"));
        for (row, (_, bed)) in beds.iter_mut().enumerate() {
            let dropped = dropped(bed)?;
            let shot = bed.shoot(setting.packets(), FLOWS, 0)?;
            rows.add(row, bed, shot, dropped)?;
        }
    }
    let title = format!("Small packets, {FLOWS} established flows to {SERVERS} servers");
    Ok(rows.section(title))
}

fn every_packet_new(setting: &Setting) -> Result<Section> {
    let kinds = [XDP, TC, Kind::Nftables];
    let mut rows = Rows::new(&kinds, 4.0);
    for round in 1..=setting.rounds() {
        setting.tell(&format!("rate, new connections: round {round}"));
        // New machines for each round, all of them before anything is timed: their tables are empty, and what
        // the kernel does to clear away those of the round before is over.
        let beds = kinds.map(|kind| Bed::up(kind, setting, CONNECTIONS));
        for (row, bed) in beds.into_iter().enumerate() {
            let mut bed = bed?;
            let dropped = dropped(&bed)?;
            let shot = bed.shoot(NEW, u64::from(NEW), 0)?;
            rows.add(row, &bed, shot, dropped)?;
        }
    }
    rows.samples.rotate_right(1);
    rows.lost.rotate_right(1);
    let title = format!("Small packets, every one a new connection ({NEW} to an empty table)");
    Ok(rows.section(title))
}

impl Rows {
    fn new(kinds: &[Kind], must: f64) -> Self {
        let samples = kinds.iter().map(|&kind| Samples {
            name: name(kind).into(),
            values: Vec::new(),
            must: (kind == XDP).then_some(Must::RatioAtLeast(must)),
        });
        Self {
            samples: samples.collect(),
            lost: vec![(0, 0); kinds.len()],
            uncounted: Samples {
                name: "furiwake: lost, uncounted".into(),
                values: Vec::new(),
                must: Some(Must::Be(0.0)),
            },
        }
    }

    fn add(&mut self, row: usize, bed: &Bed, shot: Shot, dropped_before: u64) -> Result<()> {
        ensure!(
            shot.arrived > 0,
            "{}: no packet came to the sink",
            self.samples[row].name
        );
        self.samples[row].values.push(shot.rate());
        self.lost[row].0 += shot.lost();
        self.lost[row].1 += shot.sent;
        if bed.furiwake().is_some() {
            let counted = dropped(bed)? - dropped_before;
            self.uncounted
                .values
                .push(shot.lost().saturating_sub(counted) as f64);
        }
        Ok(())
    }

    fn section(self, title: String) -> Section {
        let mut section = Section::new(title, "Mpps", Some(NFTABLES), &self.samples);
        let uncounted = Section::new("", "", None, &[self.uncounted]);
        section.rows.extend(uncounted.rows);
        let lost: Vec<String> = self
            .samples
            .iter()
            .zip(&self.lost)
            .filter(|(_, (lost, _))| *lost > 0)
            .map(|(row, (lost, sent))| format!("{} {lost} of {sent}", row.name))
            .collect();
        section.notes.push(if lost.is_empty() {
            "lost packets: none".into()
        } else {
            format!("lost packets: {}", lost.join(", "))
        });
        section
    }
}

/// Packets that our director dropped and counted.
fn dropped(bed: &Bed) -> Result<u64> {
    match bed.furiwake() {
        Some(furiwake) => furiwake.counted(|reason| reason["drops"] == true),
        None => Ok(0),
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Forwarding => "kernel IP forwarding",
        Kind::Nftables => NFTABLES,
        Kind::Relay => "bare XDP redirect",
        Kind::Furiwake(hook) if hook.is_xdp() => "furiwake, XDP",
        Kind::Furiwake(_) => "furiwake, tc",
    }
}
