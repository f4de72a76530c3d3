//! Verdict rows: what each shows, packet in, verdict, packet out; reasons and counts at the end of a group.

use furiwake_engine::{host::Hook, reason::Reason};

use crate::{
    director::{Director, Fate, Incoming},
    network::in_network,
};

/// One packet and what becomes of it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    says: &'static str,
    incoming: Incoming,
    /// Whether XDP does it; it leaves the rest to tc.
    at_xdp: bool,
    fate: Fate,
}

/// XDP does it, and tc does it where there is no XDP.
pub(crate) fn fast(says: &'static str, incoming: Incoming, frame: Vec<u8>) -> Row {
    Row {
        says,
        incoming,
        at_xdp: true,
        fate: Fate::Sent(frame),
    }
}

/// XDP leaves it to tc.
pub(crate) fn slow(says: &'static str, incoming: Incoming, fate: Fate) -> Row {
    Row {
        says,
        incoming,
        at_xdp: false,
        fate,
    }
}

/// XDP drops it, and tc where there is no XDP.
pub(crate) fn dropped(says: &'static str, incoming: Incoming) -> Row {
    Row {
        says,
        incoming,
        at_xdp: true,
        fate: Fate::Dropped,
    }
}

/// It goes on to the host as it came.
pub(crate) fn passed(says: &'static str, incoming: Incoming) -> Row {
    slow(says, incoming, Fate::Passed)
}

/// Rows that belong together.
pub(crate) struct Group {
    /// Commands before.
    pub(crate) commands: &'static [&'static str],
    pub(crate) rows: Vec<Row>,
    /// Reasons counted in the end.
    pub(crate) reasons: &'static [(Reason, u64)],
    /// `ipvsadm -Ln --stats` in the end, without its head, words apart by one space.
    pub(crate) stats: &'static [&'static str],
}

/// Play groups at every hook, each from the beginning.
pub(crate) fn play(groups: &'static [fn() -> Group]) {
    play_at(&Hook::ALL, groups);
}

/// Play groups at some hooks, each from the beginning.
pub(crate) fn play_at(hooks: &'static [Hook], groups: &'static [fn() -> Group]) {
    in_network(move || {
        let mut director = Director::new(Hook::Tc);
        for hook in hooks {
            for group in groups {
                director.reset(*hook);
                play_with(&mut director, group());
            }
        }
    });
}

/// Play a group with a director.
pub(crate) fn play_with(director: &mut Director, group: Group) {
    let hook = director.hook;
    for command in group.commands {
        director.command(command);
    }
    director.forget_reasons();
    for row in group.rows {
        let got = director.receive(&row.incoming);
        let at_xdp = row.at_xdp && hook != Hook::Tc;
        assert!(
            got.fate == row.fate && got.at_xdp == at_xdp,
            "{hook:?}: {}\n    in: {}\nwanted: {}{}\n   got: {}{}",
            row.says,
            hex(&row.incoming.frame),
            described(&row.fate),
            by(at_xdp),
            described(&got.fate),
            by(got.at_xdp),
        );
    }
    assert_eq!(director.reasons(), group.reasons, "{hook:?}");
    let stats = director.command("ipvsadm -Ln --stats");
    let stats: Vec<String> = stats.lines().skip(3).map(one_space).collect();
    assert_eq!(stats, group.stats, "{hook:?}");
}

/// A line with its words apart by one space.
pub(crate) fn one_space(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn by(at_xdp: bool) -> &'static str {
    if at_xdp { " by XDP" } else { " by tc" }
}

fn described(fate: &Fate) -> String {
    match fate {
        Fate::Passed => "passed".to_owned(),
        Fate::Dropped => "dropped".to_owned(),
        Fate::Stack(frame) => format!("to the stack {}", hex(frame)),
        Fate::Sent(frame) => format!("sent {}", hex(frame)),
        Fate::ToNeighbour(frame) => format!("to a neighbour {}", hex(frame)),
    }
}

/// Ethernet, IP and the rest, apart.
pub(crate) fn hex(frame: &[u8]) -> String {
    let digits = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let (mac, rest) = frame.split_at(frame.len().min(14));
    let (ip, rest) = rest.split_at(rest.len().min(20));
    format!("{} {} {}", digits(mac), digits(ip), digits(rest))
}
