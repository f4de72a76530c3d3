//! The texts of `-h` and `-v`.

use std::fmt::Write as _;

use super::options::{OPTIONS, Section, Spec};

/// What `-v` prints, and `-h` first.
pub(super) const VERSION: &str = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n";

/// The text of `-h`.
pub(super) fn usage(program: &str) -> String {
    let mut text = String::from(VERSION);
    text.push_str("Usage:\n");
    for line in [
        "-A|E virtual-service [-s scheduler] [-p [timeout]] [-M netmask] \
         [--pe persistence_engine] [-b sched-flags]",
        "-D virtual-service",
        "-C",
        "-R",
        "-S [-n]",
        "-a|e virtual-service -r server-address [options]",
        "-d virtual-service -r server-address",
        "-L|l [virtual-service] [options]",
        "-Z [virtual-service]",
        "--set tcp tcpfin udp",
        "--start-daemon {master|backup} [daemon-options]",
        "--stop-daemon {master|backup}",
        "-h",
    ] {
        let _ = writeln!(text, "  {program} {line}");
    }
    text.push_str("\nCommands:\nEither long or short options are allowed.\n");
    section(&mut text, Section::Commands);
    text.push_str("\nvirtual-service:\n");
    section(&mut text, Section::Services);
    text.push_str("\nOptions:\n");
    section(&mut text, Section::Options);
    text.push_str("Daemon Options:\n");
    section(&mut text, Section::Daemon);
    text
}

fn section(text: &mut String, section: Section) {
    let width = if section == Section::Commands { 28 } else { 36 };
    for spec in OPTIONS.iter().filter(|spec| spec.section == section) {
        let mut left = left_column(spec);
        for help in spec.help {
            let _ = writeln!(text, "  {left:<width$}{help}");
            left.clear();
        }
    }
}

fn left_column(spec: &Spec) -> String {
    let Spec {
        long, value_name, ..
    } = spec;
    let shorts: Vec<String> = spec
        .shorts
        .chars()
        .map(|letter| format!("-{letter}"))
        .collect();
    let shorts = shorts.join("|");
    match spec.section {
        Section::Commands if !value_name.is_empty() => format!("--{long} {value_name}"),
        Section::Commands => format!("{:<18}{shorts}", format!("--{long}")),
        Section::Services if shorts.is_empty() => {
            format!("{:<17} {value_name}", format!("--{long}"))
        }
        Section::Services => format!("{:<17} {value_name}", format!("--{long}|{shorts}")),
        // ipvsadm does not mention the letter of --exact.
        Section::Options if shorts.is_empty() || *long == "exact" => {
            format!("{:<15} {value_name}", format!("--{long}"))
        }
        Section::Options => format!("{:<15}{shorts} {value_name}", format!("--{long}")),
        Section::Daemon | Section::Hidden => format!("--{long} {value_name}"),
    }
}
