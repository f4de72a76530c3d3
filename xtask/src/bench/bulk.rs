//! One long TCP connection through each director, by iperf3.

use anyhow::{Context, Result};
use furiwake_lab::Nat;
use serde_json::Value;

use super::{
    Setting,
    director::Hook,
    exercise::{Exercise, NFTABLES, PEERS, Peer},
    processor,
    table::{Must, Samples, Section},
    tool,
};

/// Measures every peer.
pub(crate) fn measure(setting: &Setting) -> Result<Section> {
    setting.tell("bulk: building");
    let mut exercises = Vec::new();
    for peer in PEERS {
        // One server: iperf3's two connections must meet.
        exercises.push(Exercise::up(
            peer,
            1,
            "exec iperf3 --server --port 80",
            setting,
        )?);
    }
    let mut rows = PEERS.map(|peer| Samples {
        name: peer.name().into(),
        values: Vec::new(),
        must: (peer == Peer::Furiwake(Hook::Tc)).then_some(Must::RatioAtLeast(1.0)),
    });
    for round in 0..=setting.long_rounds() {
        // Nobody always comes after the same other.
        for turn in 0..rows.len() {
            let turn = (turn + round) % rows.len();
            let (row, exercise) = (&mut rows[turn], &exercises[turn]);
            setting.tell(&format!("bulk: {}, round {round}", row.name));
            let rate = send(exercise)?;
            // Round 0 warms up.
            if round > 0 {
                row.values.push(rate);
            }
        }
    }
    Ok(Section::new(
        "Bulk TCP, one connection (iperf3)",
        "Gbit/s",
        Some(NFTABLES),
        &rows,
    ))
}

fn send(exercise: &Exercise) -> Result<f64> {
    let mut iperf = exercise.client.command("iperf3");
    iperf
        .args(["--client", &Nat::VIP.to_string(), "--port", "80", "--json"])
        .args(["--time", "1"]);
    if let Some((first, last)) = processor::two()? {
        // Left to itself, the kernel puts both ends now on one processor, now on two, and that decides all.
        iperf.args(["--affinity", &format!("{first},{last}")]);
    }
    let report = tool::run(&mut iperf, "")
        .with_context(|| format!("bulk TCP through {}", exercise.peer.name()))?;
    let report: Value = serde_json::from_str(&report).context("read iperf3's report")?;
    let received = &report["end"]["sum_received"]["bits_per_second"];
    Ok(received.as_f64().context("iperf3 reports no rate")? / 1e9)
}
