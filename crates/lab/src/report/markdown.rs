//! The report as a document to hand in or to keep.

use super::{Report, data_plane, picture::picture};
use crate::check::Status;

/// The report as Markdown.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let measured = &report.measured;
    let verdict = if report.passed() { "PASS" } else { "FAIL" };
    let mut text = format!(
        "# furiwake lab: {}\n\nVerdict: **{verdict}** ({} passed, {} failed, {} skipped). The lab was ready in {:.2} s.\n\n## Network\n\n```text\n{}\n```\n",
        measured.topology.name,
        report.count(Status::Passed),
        report.count(Status::Failed),
        report.count(Status::Skipped),
        measured.ready_in.as_secs_f64(),
        picture(
            &measured.topology,
            &data_plane(measured.hook, &measured.attached)
        )
        .join("\n"),
    );
    text.push_str("\n## Checks\n\n| | check | found, and how |\n|---|---|---|\n");
    for check in &report.checks {
        let mark = match check.status {
            Status::Passed => "ok",
            Status::Failed => "**FAIL**",
            Status::Skipped => "skipped",
        };
        let details: Vec<String> = check.details.iter().map(|detail| cell(detail)).collect();
        text.push_str(&format!(
            "| {mark} | {} | {} |\n",
            cell(&check.title),
            details.join("<br>")
        ));
    }
    let on_servers = measured.topology.server_commands();
    if !on_servers.is_empty() {
        let commands = on_servers.join("\n");
        text.push_str(&format!(
            "\n## The same by hand, on every real server\n\n```sh\n{commands}\n```\n"
        ));
    }
    text.push_str("\n## The same by hand, on the director\n\n```sh\n");
    text.push_str(&measured.topology.commands().join("\n"));
    text.push_str("\n```\n");
    for (title, listing) in [
        ("ipvsadm -Ln", &measured.listing),
        ("ipvsadm -Ln --stats --exact", &measured.stats),
        ("ipvsadm -Lnc", &measured.connections),
    ] {
        const MOST: usize = 40;
        let count = listing.lines().count();
        let mut lines: Vec<&str> = listing.lines().take(MOST).collect();
        let more = format!("… {} lines more", count.saturating_sub(MOST));
        if count > MOST {
            lines.push(&more);
        }
        text.push_str(&format!(
            "\n## `{title}` afterwards\n\n```text\n{}\n```\n",
            lines.join("\n")
        ));
    }
    text
}

/// Text that cannot break out of a cell of a table.
fn cell(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('|', "\\|")
        .replace('<', "&lt;")
}
