//! New HTTP connections per second: wrk asks, nginx answers, each request on a connection of its own.

use anyhow::{Context, Result, ensure};
use furiwake_lab::Nat;

use super::{
    Setting,
    exercise::{Exercise, NFTABLES, PEERS},
    table::{Samples, Section},
    tool,
};

/// Connections at a time.
const CONNECTIONS: u32 = 64;
const SERVERS: usize = 2;

/// Measures every peer.
pub(crate) fn measure(setting: &Setting) -> Result<Section> {
    let settings = setting.objects.join("nginx.conf");
    std::fs::write(&settings, include_str!("../../bench/nginx.conf"))
        .with_context(|| format!("cannot write {}", settings.display()))?;
    let server = format!(
        "cp '{}' \"$SERVER_DIR\" && exec nginx -p \"$SERVER_DIR\" -c nginx.conf",
        settings.display()
    );
    setting.tell("http: building");
    let mut exercises = Vec::new();
    for peer in PEERS {
        exercises.push(Exercise::up(peer, SERVERS, &server, setting)?);
    }
    let mut rows = PEERS.map(|peer| Samples {
        name: peer.name().into(),
        ..Samples::default()
    });
    let mut failed = Vec::new();
    for round in 0..=setting.long_rounds() {
        // Nobody always comes after the same other.
        for turn in 0..rows.len() {
            let turn = (turn + round) % rows.len();
            let (row, exercise) = (&mut rows[turn], &exercises[turn]);
            setting.tell(&format!("http: {}, round {round}", row.name));
            let said = ask(exercise)?;
            let rate = rate(&said).with_context(|| format!("wrk says no rate: {said}"))?;
            ensure!(
                rate > 0.0,
                "no answer through {}: {said}",
                exercise.peer.name()
            );
            if let Some(errors) = said.lines().find(|line| line.contains("Socket errors")) {
                failed.push(format!("{}: {}", row.name, errors.trim()));
            }
            // Round 0 warms up.
            if round > 0 {
                row.values.push(rate);
            }
        }
    }
    let mut section = Section::new(
        format!("New HTTP connections, {SERVERS} servers (wrk, nginx)"),
        "per second",
        Some(NFTABLES),
        &rows,
    );
    section.notes.push(format!(
        "{CONNECTIONS} at a time; client, director and servers share this machine's processors"
    ));
    section.notes.extend(failed);
    Ok(section)
}

fn ask(exercise: &Exercise) -> Result<String> {
    let mut wrk = exercise.client.command("wrk");
    wrk.args(["-t", "1", "-c", &CONNECTIONS.to_string(), "-d", "1s"])
        .args(["-H", "Connection: close"])
        .arg(format!("http://{}/", Nat::VIP));
    tool::run(&mut wrk, "")
}

fn rate(said: &str) -> Option<f64> {
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("Requests/sec:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read_from_what_wrk_says() {
        assert_eq!(
            rate("Running\nRequests/sec:   9133.44\nTransfer/sec: 1MB"),
            Some(9133.44)
        );
        assert_eq!(rate("unable to connect"), None);
    }
}
