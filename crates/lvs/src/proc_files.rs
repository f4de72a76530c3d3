//! The kernel's files about IPVS below /proc/net, as text: for programs that read those and cannot have them
//! here, because only the kernel's code can make such files.
//!
//! Addresses and ports are hexadecimal there, and a persistence timeout is in ticks.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv6Addr},
};

use crate::{
    model::{Family, Forward, Protocol, ServiceConfig, ServiceKey},
    view::{ConnectionView, ServerView, View},
};

/// Ticks in a second, as in the kernels of Debian.
const TICKS: u32 = 250;

/// `ip_vs`: services and servers, in the director's order.
pub fn services(view: &View) -> String {
    let mut text = format!(
        "IP Virtual Server version 1.2.1 (size={})\n\
         Prot LocalAddress:Port Scheduler Flags\n  \
         -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n",
        view.connection_table_size
    );
    for service in &view.services {
        let ServiceConfig {
            key,
            scheduler,
            persistence,
            one_packet,
            ..
        } = &service.config;
        let ops = if *one_packet { "ops " } else { "" };
        let scheduler = &scheduler.0;
        let _ = match *key {
            ServiceKey::Mark { mark, .. } => write!(text, "FWM  {mark:08X} {scheduler} {ops}"),
            ServiceKey::Address {
                protocol,
                address,
                port,
            } => {
                let (protocol, end) = (name(protocol), endpoint(address, port));
                match address {
                    IpAddr::V4(_) => write!(text, "{protocol}  {end} {scheduler} {ops} "),
                    IpAddr::V6(_) => write!(text, "{protocol}  {end} {scheduler} "),
                }
            }
        };
        if let Some(persistence) = persistence {
            let mask = match key.family() {
                Family::V4 => persistence.netmask,
                Family::V6 => persistence.netmask.swap_bytes(),
            };
            let ticks = persistence.timeout.saturating_mul(TICKS);
            let _ = write!(text, "persistent {ticks} {mask:08X}");
        }
        text.push('\n');
        for server in &service.servers {
            self::server(&mut text, server);
        }
    }
    text
}

fn server(text: &mut String, view: &ServerView) {
    let server = &view.server;
    let method = match server.forward {
        Forward::Masquerade => "Masq",
        Forward::Gateway => "Route",
        Forward::Tunnel => "Tunnel",
    };
    let _ = writeln!(
        text,
        "  -> {}      {method:<7} {:<6} {:<10} {:<10}",
        endpoint(server.key.address, server.key.port),
        server.weight,
        view.active,
        view.inactive
    );
}

/// `ip_vs_conn`: the connection table.
pub fn connections(connections: &[ConnectionView]) -> String {
    let mut text = String::from(
        "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n",
    );
    for entry in connections {
        let _ = write!(
            text,
            "{} {:<11} {:>7}",
            ends(entry),
            entry.state,
            entry.expires
        );
        if let Some(engine) = &entry.engine {
            let _ = write!(text, " {} {}", engine.name, engine.data);
        }
        text.push('\n');
    }
    text
}

/// `ip_vs_conn_sync`: the same with where an entry came from; nothing is synchronised yet.
pub fn synchronised_connections(connections: &[ConnectionView]) -> String {
    let mut text =
        String::from("Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Origin Expires\n");
    for entry in connections {
        let _ = writeln!(
            text,
            "{} {:<11} {:<6} {:>7}",
            ends(entry),
            entry.state,
            "LOCAL",
            entry.expires
        );
    }
    text
}

/// `ip_vs_stats`: counters and rates of all services together. Those of services that are gone are not in it,
/// as they are in the kernel's.
pub fn statistics(view: &View) -> String {
    let mut counters = [0_u64; 5];
    let mut rates = [0_u64; 5];
    for service in &view.services {
        for (sum, more) in counters.iter_mut().zip(service.counters.columns()) {
            *sum = sum.wrapping_add(more);
        }
        for (sum, more) in rates.iter_mut().zip(service.rates.columns()) {
            *sum = sum.wrapping_add(more);
        }
    }
    format!(
        "   Total Incoming Outgoing         Incoming         Outgoing\n   \
         Conns  Packets  Packets            Bytes            Bytes\n\
         {}\n \
         Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n\
         {}",
        hexadecimal(counters),
        hexadecimal(rates)
    )
}

fn hexadecimal([a, b, c, d, e]: [u64; 5]) -> String {
    format!("{a:>8X} {b:>8X} {c:>8X} {d:>16X} {e:>16X}\n")
}

/// Protocol and the three ends of an entry.
fn ends(entry: &ConnectionView) -> String {
    let protocol = entry.protocol.transport().map_or("IP", name);
    let end = |address, port| format!("{} {port:04X}", hexadecimal_address(address));
    format!(
        "{protocol:<3} {} {} {}",
        end(entry.client, entry.client_port),
        end(entry.virtual_address, entry.virtual_port),
        end(entry.server, entry.server_port)
    )
}

const fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}

fn endpoint(address: IpAddr, port: u16) -> String {
    match address {
        IpAddr::V4(_) => format!("{}:{port:04X}", hexadecimal_address(address)),
        IpAddr::V6(_) => format!("[{}]:{port:04X}", hexadecimal_address(address)),
    }
}

fn hexadecimal_address(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{:08X}", u32::from(address)),
        IpAddr::V6(address) => full(address),
    }
}

/// Every digit of an IPv6 address (`%pI6`).
fn full(address: Ipv6Addr) -> String {
    let groups = address.segments().map(|group| format!("{group:04x}"));
    groups.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{EngineData, EntryProtocol};

    #[test]
    fn rows_of_the_connection_table_are_hexadecimal() {
        let entry = ConnectionView {
            protocol: EntryProtocol::Tcp,
            state: "ESTABLISHED".into(),
            expires: 899,
            client: [10, 0, 0, 100].into(),
            client_port: 50000,
            virtual_address: [192, 0, 2, 1].into(),
            virtual_port: 80,
            server: [10, 0, 0, 1].into(),
            server_port: 8080,
            template: false,
            engine: None,
        };
        let mark = ConnectionView {
            protocol: EntryProtocol::Ip,
            engine: Some(EngineData {
                name: "sip".into(),
                data: "7@x".into(),
            }),
            ..entry.clone()
        };
        let text = connections(&[entry.clone(), mark]);
        let rows: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(
            rows,
            [
                "TCP 0A000064 C350 C0000201 0050 0A000001 1F90 ESTABLISHED     899",
                "IP  0A000064 C350 C0000201 0050 0A000001 1F90 ESTABLISHED     899 sip 7@x",
            ]
        );
        assert!(
            synchronised_connections(&[entry])
                .ends_with("0A000001 1F90 ESTABLISHED LOCAL      899\n")
        );
    }
}
