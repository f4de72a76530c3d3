//! `furiwake status`: how a director is, for people in 80 columns, or as JSON.

use furiwake_lvs::{
    model::{Effect, Forward, ServiceConfig, TunnelKind},
    view::{ServerView, ServiceView, View},
};
use serde_json::json;

use crate::{
    api::schema::{NextHopStatus, Reason, Status},
    client::Client,
    words,
};

/// Columns that a line may have.
const WIDTH: usize = 80;

/// Ask the director and lay out the answer.
pub(crate) fn run(client: &Client, json: bool) -> anyhow::Result<String> {
    let status: Status = client.get("/api/v1/status")?;
    let view: View = client.get("/api/v1/view")?;
    if json {
        let document = json!({ "schema_version": 1, "status": status, "view": view });
        return Ok(serde_json::to_string_pretty(&document)? + "\n");
    }
    Ok(text(&status, &view))
}

/// The status in words.
fn text(status: &Status, view: &View) -> String {
    let mut page = Page::default();
    let data_plane = if status.adopted {
        "adopted from an earlier daemon"
    } else {
        "loaded anew"
    };
    page.line(format!(
        "furiwake {}   process {}",
        status.version, status.pid
    ));
    page.line(format!(
        "runs since {}; data plane {data_plane}",
        utc(status.since)
    ));

    if !status.warnings.is_empty() {
        page.heading("To be looked at");
        for warning in &status.warnings {
            page.entry("!", warning);
        }
    }

    page.heading("Interfaces");
    for interface in &status.interfaces {
        let reason = interface.reason.as_deref().unwrap_or_default();
        page.entry(
            format!("{:<15} {:<15}", interface.name, interface.hook),
            reason,
        );
    }
    for interface in &status.unattached {
        page.entry(
            format!("{:<15} NOT LISTENING  ", interface.name),
            &interface.reason,
        );
    }
    if status.interfaces.is_empty() && status.unattached.is_empty() {
        page.entry("none", "no Ethernet interface is here (yet)");
    }

    page.heading("Services");
    for service in &view.services {
        page.service(service);
    }
    if view.services.is_empty() {
        page.entry("none", "add one: ipvsadm -A -t ADDRESS:PORT -s rr");
    }

    if !status.next_hops.is_empty() {
        page.heading("Next hops");
        for hop in &status.next_hops {
            page.next_hop(hop);
        }
    }

    page.heading("Connections");
    let connections = &status.connections;
    page.entry(
        format!(
            "{} active, {} inactive",
            connections.active, connections.inactive
        ),
        &format!("room for {}", connections.room),
    );

    let changed: Vec<_> = view.settings.changed().collect();
    if !changed.is_empty() {
        page.heading("Settings that are not at their default");
        for setting in changed {
            let value = format!("{}={}", setting.name, setting.value(&view.settings));
            let remark = match setting.effect {
                Effect::Works => setting.meaning.to_owned(),
                effect => effect.to_string(),
            };
            page.entry(format!("{value:<29}"), &remark);
        }
    }

    if !view.sync_daemons.is_empty() {
        page.heading("Sync daemons");
        for daemon in &view.sync_daemons {
            let what = format!(
                "{} on {}, id {}",
                daemon.role.name(),
                daemon.interface,
                daemon.sync_id
            );
            page.entry(what, "kept as state; nothing is sent or heard yet");
        }
    }

    page.heading("Packets not forwarded");
    let mut seen: Vec<_> = status
        .reasons
        .iter()
        .filter(|reason| reason.packets > 0)
        .collect();
    seen.sort_by_key(|reason| std::cmp::Reverse(reason.packets));
    for reason in &seen {
        page.reason(reason);
    }
    if seen.is_empty() {
        page.entry("none", "");
    }
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref().trim_end());
        self.text.push('\n');
    }

    fn heading(&mut self, heading: &str) {
        self.line("");
        self.line(heading);
    }

    /// A fact and a remark, which is wrapped into its own column.
    fn entry(&mut self, fact: impl AsRef<str>, remark: &str) {
        let fact = fact.as_ref();
        let column = 2 + fact.chars().count() + 2;
        let mut line = format!("  {fact}  ");
        // A column too narrow for words is worse than a line of its own.
        let indent = if WIDTH.saturating_sub(column) < 24 {
            6
        } else {
            column
        };
        if indent != column && !remark.is_empty() {
            self.line(&line);
            line = " ".repeat(indent);
        }
        let mut used = line.chars().count();
        for word in remark.split_whitespace() {
            let length = word.chars().count();
            if used + length > WIDTH && used > indent {
                self.line(&line);
                line = " ".repeat(indent);
                used = indent;
            }
            line.push_str(word);
            line.push(' ');
            used += length + 1;
        }
        self.line(&line);
    }

    fn service(&mut self, service: &ServiceView) {
        let rate = service.rates.connections;
        self.line(format!(
            "  {}  {}   {rate} conn/s",
            words::service(&service.config.key),
            kind(&service.config)
        ));
        for server in &service.servers {
            self.server(server);
        }
        if service.servers.is_empty() {
            self.entry("  no server", "add one: ipvsadm -a ... -r ADDRESS:PORT -m");
        }
    }

    fn server(&mut self, view: &ServerView) {
        let server = &view.server;
        let address = words::server(&server.key);
        let forward = match server.forward {
            Forward::Masquerade => "masq",
            Forward::Gateway => "route",
            Forward::Tunnel => match server.tunnel.kind {
                TunnelKind::Ipip => "ipip",
                TunnelKind::Gue => "gue",
                TunnelKind::Gre => "gre",
            },
        };
        let weight = if server.weight == 0 {
            "quiesced".to_owned()
        } else {
            format!("weight {}", server.weight)
        };
        let full = if server.upper_threshold != 0 {
            format!(" of {}", server.upper_threshold)
        } else {
            String::new()
        };
        self.line(format!(
            "    -> {address:<21} {forward:<6} {weight:<10} {} active, {} inactive{full}",
            view.active, view.inactive
        ));
    }

    fn next_hop(&mut self, hop: &NextHopStatus) {
        let mut way = Vec::new();
        if let Some(interface) = &hop.interface {
            way.push(interface.clone());
        }
        if let Some(gateway) = hop.gateway.filter(|gateway| hop.server != *gateway) {
            way.push(format!("via {gateway}"));
        }
        if let Some(mac) = &hop.mac {
            way.push(mac.clone());
        }
        let server = hop.server.to_string();
        self.entry(format!("{server:<15} {:<26}", way.join(" ")), &hop.state);
    }

    fn reason(&mut self, reason: &Reason) {
        let fate = if reason.drops {
            "dropped"
        } else {
            "to the host's stack"
        };
        let meaning = reason.meaning.trim_end_matches('.');
        let remark = format!("{}: {meaning} ({fate})", reason.name);
        self.entry(format!("{:>12}", reason.packets), &remark);
    }
}

/// How a service chooses servers: `wlc, persistent 300 s, slow start 30 s`.
fn kind(config: &ServiceConfig) -> String {
    let mut kind = config.scheduler.0.clone();
    if let Some(persistence) = config.persistence {
        kind.push_str(&format!(", persistent {} s", persistence.timeout));
    }
    if config.one_packet {
        kind.push_str(", one packet each");
    }
    if config.slow_start != 0 {
        kind.push_str(&format!(", slow start {} s", config.slow_start));
    }
    kind
}

/// A time in UTC: what the log shows, and what needs no data base of time zones.
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// The date of a day counted from 1970-01-01: eras of 400 years, years that begin in March.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests;
