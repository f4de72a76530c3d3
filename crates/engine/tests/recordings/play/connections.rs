//! Connections that a recording has made: opened, closed, and to which server they went.

use std::net::{Ipv4Addr, SocketAddrV4};

use serde_json::Value;

use super::{
    Director, Mismatch, Player,
    packet::{ACK, FIN, ICMP, RST, SYN, TCP, UDP, destination, header_length, source, tcp, udp},
    recorded,
    wire::{Seen, Wire, owner},
};

/// A connection that was opened.
#[derive(Clone, Copy)]
pub(super) struct Open {
    client: SocketAddrV4,
    service: SocketAddrV4,
    /// The server's end as its own packets have it: the virtual one, unless it is masqueraded.
    server: SocketAddrV4,
    /// The server's own address.
    address: Ipv4Addr,
    /// Whether what the server sends passes the director.
    answers_pass: bool,
}

/// What became of the first packet of a connection.
enum First {
    To(Open),
    Answered(String),
}

impl<D: Director> Player<'_, D> {
    /// Open connections as a step says, and compare where they went.
    pub(super) fn connect_all(&mut self, step: &Value) -> Result<(), Mismatch> {
        let (protocol, how) = match (step["tcp"].as_str(), step["udp"].as_str()) {
            (Some(how), _) => (TCP, how),
            (_, Some(how)) => (UDP, how),
            _ => return Err(Mismatch::because("a step that is not understood")),
        };
        let mut wanted = Vec::new();
        let mut got = Vec::new();
        for connection in step["connections"].as_array().unwrap() {
            let text: Vec<&str> = connection
                .as_array()
                .unwrap()
                .iter()
                .map(|text| text.as_str().unwrap())
                .collect();
            let (client, service, server) = match text[..] {
                [client, service, server] => (client, service.to_owned(), server.to_owned()),
                [client, server] => (client, self.service.clone().unwrap(), address_of(server)),
                _ => return Err(Mismatch::because("a step that is not understood")),
            };
            let (Ok(client), Ok(service)) = (client.parse(), service.parse()) else {
                return Err(Mismatch::because("IPv6 is not balanced"));
            };
            wanted.push(format!("{client} > {service}: {server}"));
            let went = self.connect(protocol, how, client, service);
            got.push(format!("{client} > {service}: {went}"));
        }
        Mismatch::of(wanted, got)
    }

    /// Close connections as a step of real sockets says.
    pub(super) fn close_all(&mut self, step: &Value) -> Result<(), Mismatch> {
        let by_client = step["first"] == "client";
        let flags = if step["how"] == "rst" { RST } else { FIN };
        for client in step["close"].as_array().unwrap() {
            self.close(client.as_str().unwrap(), by_client, flags)?;
        }
        Ok(())
    }

    /// Do what a note says that was done.
    pub(super) fn noted(&mut self, note: &str, step: &Value) -> Result<(), Mismatch> {
        if let Some(seen) = step["seen"].as_array() {
            // A socket on the director answered.
            return Mismatch::of(seen.iter().map(recorded).collect(), Vec::new());
        }
        let words: Vec<&str> = note.split(' ').collect();
        match words[..] {
            ["connections", .., "closed"] => note
                .split('\'')
                .skip(1)
                .step_by(2)
                .try_for_each(|client| self.close(client, true, FIN)),
            [count, "more", "datagrams", "of", "1500", "bytes,", ..] => {
                let service = self.service.clone().unwrap().parse().unwrap();
                let client = SocketAddrV4::new([10, 0, 0, 100].into(), 20000);
                let datagram = udp(client, service, &[0; 1500 - 28]);
                for _ in 0..count.parse().unwrap() {
                    if self.send(Wire::Front, &datagram).len() != 1 {
                        return Err(Mismatch::because("a datagram that was not forwarded"));
                    }
                }
                Ok(())
            }
            _ => Err(Mismatch::because("a note that is not understood")),
        }
    }

    /// Open a connection; gives the server's address, or what came instead.
    fn connect(
        &mut self,
        protocol: u8,
        how: &str,
        client: SocketAddrV4,
        service: SocketAddrV4,
    ) -> String {
        let request = match protocol {
            TCP => tcp(client, service, (1000, 0), SYN),
            _ => udp(client, service, b"question"),
        };
        let open = match first(client, service, &self.send(Wire::Front, &request)) {
            First::To(open) => open,
            First::Answered(answer) => return answer,
        };
        self.open.insert(client.to_string(), open);
        let server = open.address.to_string();
        if protocol != TCP || how == "syn" {
            return server;
        }
        let done = self.exchange(&open, &[(false, SYN | ACK), (true, ACK)]);
        let done = match (done, how) {
            (Ok(()), "close") => {
                self.exchange(&open, &[(true, FIN | ACK), (false, FIN | ACK), (true, ACK)])
            }
            (done, _) => done,
        };
        match done {
            Ok(()) => server,
            Err(problem) => format!("{server}, then {}", problem.got.join("; ")),
        }
    }

    /// End a connection.
    fn close(&mut self, client: &str, by_client: bool, how: u8) -> Result<(), Mismatch> {
        let Some(open) = self.open.remove(client) else {
            return Err(Mismatch::because(format!("{client} is not connected")));
        };
        if how == RST {
            return self.exchange(&open, &[(by_client, RST | ACK)]);
        }
        let other = !by_client;
        self.exchange(
            &open,
            &[(by_client, FIN | ACK), (other, FIN | ACK), (by_client, ACK)],
        )
    }

    /// Packets of a connection, from the client (true) or from the server. Each must be forwarded.
    fn exchange(&mut self, open: &Open, packets: &[(bool, u8)]) -> Result<(), Mismatch> {
        for &(from_client, flags) in packets {
            if !from_client && !open.answers_pass {
                continue;
            }
            let (wire, packet) = if from_client {
                (
                    Wire::Front,
                    tcp(open.client, open.service, (1001, 5001), flags),
                )
            } else {
                (
                    Wire::Back,
                    tcp(open.server, open.client, (5000, 1001), flags),
                )
            };
            let seen = self.send(wire, &packet);
            if seen.len() != 1 || seen[0].wire == wire {
                return Err(Mismatch::because(format!(
                    "flags {flags:#x} of the {}: {seen:02x?}",
                    if from_client { "client" } else { "server" }
                )));
            }
        }
        Ok(())
    }
}

/// Read what the first packet of a connection led to.
fn first(client: SocketAddrV4, service: SocketAddrV4, seen: &[Seen]) -> First {
    let [Seen { wire, to, packet }] = seen else {
        return First::Answered(match seen.len() {
            0 => "nothing".to_owned(),
            many => format!("{many} packets"),
        });
    };
    let l4 = &packet[header_length(packet)..];
    if *wire == Wire::Front {
        return First::Answered(match packet[9] {
            ICMP => format!("ICMP {}/{}", l4[0], l4[1]),
            TCP if l4[13] & RST != 0 => "RST".to_owned(),
            _ => format!("{packet:02x?}"),
        });
    }
    let is_masqueraded = source(packet) == *client.ip() && destination(packet) == owner(*to);
    let server = if is_masqueraded {
        SocketAddrV4::new(destination(packet), u16::from_be_bytes([l4[2], l4[3]]))
    } else {
        service
    };
    First::To(Open {
        client,
        service,
        server,
        address: owner(*to),
        answers_pass: is_masqueraded,
    })
}

/// The address of a server of the recordings with real sockets, or what came instead.
fn address_of(name: &str) -> String {
    match name.strip_prefix('r') {
        Some(number) => format!("192.168.1.{number}"),
        None => "ICMP 3/3".to_owned(),
    }
}
