//! Random packets: requests, replies, fragments, ICMP errors, and what is nothing of all this.

use std::net::SocketAddrV4;

use super::{
    choice::{CLIENT_PORTS, CLIENTS, Choice, SERVERS},
    world::World,
};
use crate::{
    director::Incoming,
    network::Wire,
    packet::{Datagram, Transport, arrives_at, checksum, icmp, ip, tcp, udp},
};

/// A packet about a world's services, mostly.
pub(crate) fn packet(choice: &mut Choice, world: &World) -> Incoming {
    let (wire, mut packet) = match choice.below(20) {
        0..3 => error(choice, world),
        3..5 => part(choice, world),
        5 => (choice.one_of(&Wire::ALL), noise(choice)),
        _ => {
            let (wire, datagram) = datagram(choice, world);
            (wire, datagram.packet())
        }
    };
    if choice.one_in(8) {
        spoil(choice, &mut packet);
    }
    // The kernel tries tc with a whole IP header only.
    packet.resize(packet.len().max(20), 0);
    let mut incoming = arrives_at(wire, &packet);
    if choice.one_in(50) {
        let at = choice.below(6);
        incoming.frame[at] ^= 1 << choice.below(8);
    }
    if choice.one_in(80) {
        incoming.frame[12..14].copy_from_slice(&choice.one_of(&[[8, 6], [0x81, 0]]));
    }
    if choice.one_in(20) {
        incoming.frame.extend([0xee; 10]);
    }
    incoming
}

/// A packet from either side, mostly as it should be.
fn datagram(choice: &mut Choice, world: &World) -> (Wire, Datagram) {
    let client = choice.end(CLIENTS, CLIENT_PORTS);
    let (mut virtual_end, is_tcp) = world.virtual_end(choice);
    let is_request = !choice.one_in(3);
    let (source, destination) = if is_request {
        (client, virtual_end)
    } else {
        let mut server = world.server(choice);
        if server.port() == 0 {
            virtual_end.set_ip(*server.ip());
            server = virtual_end;
        }
        (server, client)
    };
    let (source, destination) = (source.to_string(), destination.to_string());
    let mut datagram = if is_tcp {
        let flags = choice.one_of(&[
            2, 2, 2, 2, 0x12, 0x10, 0x10, 0x18, 0x11, 4, 0x14, 0, 0x29, 6, 0x17, 1,
        ]);
        tcp(&source, &destination, flags)
    } else {
        udp(&source, &destination)
    };
    if datagram.transport == Transport::Udp && choice.one_in(5) {
        datagram = datagram.without_checksum();
    }
    let length = match choice.below(12) {
        0 => 0,
        1 => choice.below(1500),
        // About the sizes of the wires, and of tunnels on them.
        2 => 1220 + choice.below(80),
        3 => 1330 + choice.below(170),
        _ => choice.below(40),
    };
    datagram.payload = choice.bytes(length);
    if choice.one_in(10) {
        let words = choice.below(11);
        datagram.options = choice.bytes(4 * words);
    }
    if choice.one_in(10) {
        datagram.ttl = choice.one_of(&[0, 1, 2, 255]);
    }
    if choice.one_in(3) {
        datagram.fragment = 0;
    }
    let wire = match (is_request, client.ip().octets()) {
        (true, [10, 9, ..]) => Wire::Narrow,
        (true, _) => Wire::Front,
        (false, _) => Wire::Back,
    };
    (wire, datagram)
}

/// A fragment.
fn part(choice: &mut Choice, world: &World) -> (Wire, Vec<u8>) {
    let (wire, mut datagram) = datagram(choice, world);
    datagram.payload.resize(64, 7);
    let length = datagram.segment().len();
    let cut = 8 * (1 + choice.below(7));
    match choice.one_in(2) {
        true => (wire, datagram.part(0, cut)),
        false => (wire, datagram.part(cut, length)),
    }
}

/// An ICMP error: from a server or on the way to it, from a client or on the way to it, or from inside a tunnel's way.
fn error(choice: &mut Choice, world: &World) -> (Wire, Vec<u8>) {
    let (_, mut datagram) = datagram(choice, world);
    let client = choice.end(CLIENTS, CLIENT_PORTS);
    let (virtual_end, _) = world.virtual_end(choice);
    let server = world.server(choice);
    let kind = choice.one_of(&[3, 3, 3, 4, 11, 11, 5, 12, 8]);
    let code = match kind {
        3 => choice.one_of(&[0, 1, 3, 4, 4, 13]),
        _ => choice.below(3) as u8,
    };
    let said = (kind, code, choice.one_of(&[1400, 0, 576, 68]));
    let keep = choice.one_of(&[20, 27, 28, 40, 68, 68, 200]);
    let ttl = choice.one_of(&[64, 64, 64, 1]);
    let (wire, from, to, quoted) = match choice.below(4) {
        0 => {
            (datagram.source, datagram.destination) = (client, server);
            (Wire::Back, server, client, datagram.packet())
        }
        1 => {
            (datagram.source, datagram.destination) = (virtual_end, client);
            (Wire::Front, client, virtual_end, datagram.packet())
        }
        // From somewhere on the way, about what the director wrapped.
        2 => {
            (datagram.source, datagram.destination) = (client, virtual_end);
            let router = choice.end(SERVERS, &[0]);
            let director: SocketAddrV4 = "192.168.1.254:0".parse().unwrap();
            let quoted = wrapped(choice, *director.ip(), *server.ip(), &datagram);
            (Wire::Back, router, director, quoted)
        }
        _ => {
            (datagram.source, datagram.destination) = (client, virtual_end);
            (Wire::Front, virtual_end, client, datagram.packet())
        }
    };
    let quoted = &quoted[..keep.min(quoted.len())];
    let (from, to) = (from.ip().to_string(), to.ip().to_string());
    (wire, icmp(&from, &to, ttl, said, quoted))
}

/// A datagram in a tunnel's packet.
fn wrapped(
    choice: &mut Choice,
    from: std::net::Ipv4Addr,
    to: std::net::Ipv4Addr,
    datagram: &Datagram,
) -> Vec<u8> {
    let inner = datagram.packet();
    let (protocol, header): (u8, &[u8]) = choice.one_of(&[
        (4, &[]),
        (47, &[0, 0, 8, 0]),
        (47, &[0x80, 0, 8, 0, 0, 0, 0, 0]),
        (17, &[0xc3, 0x50, 0x17, 0xc0, 0, 100, 0, 0, 0, 4, 0, 0]),
        (17, &[0xc3, 0x50, 0x17, 0xc0, 0, 100, 0, 0]),
    ]);
    let payload = [header, &inner].concat();
    ip(from, to, protocol, 64, 0x4000, &[], &payload)
}

fn noise(choice: &mut Choice) -> Vec<u8> {
    let length = 20 + choice.below(100);
    let mut bytes = choice.bytes(length);
    if choice.one_in(2) {
        bytes[0] = 0x45;
    }
    bytes
}

/// Change some of a packet's headers, with a valid IP checksum or without, or cut it.
fn spoil(choice: &mut Choice, packet: &mut Vec<u8>) {
    match choice.below(6) {
        0 => packet.truncate(20 + choice.below(60)),
        1 => {
            let length = choice.one_of(&[0, 19, 20, 28, 40, 48, 100, 0xffff]);
            packet[2..4].copy_from_slice(&u16::to_be_bytes(length));
        }
        2 => make_unfinished(packet),
        3 => packet[9] = choice.one_of(&[6, 17, 1, 132, 47]),
        _ => {
            let at = choice.below(packet.len().min(60));
            packet[at] ^= 1 << choice.below(8);
        }
    }
    if choice.one_in(2) && packet.len() >= 20 {
        packet[10..12].fill(0);
        let header = usize::from(packet[0] & 15) * 4;
        let checksum = checksum(&packet[..header.clamp(20, packet.len())]);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Put the sum of the pseudo header where the checksum belongs, as a sender does that leaves the rest to its interface.
fn make_unfinished(packet: &mut [u8]) {
    let at = match packet[9] {
        6 => 36,
        17 => 26,
        _ => return,
    };
    if packet.len() < 40 || packet[0] != 0x45 {
        return;
    }
    let length = (packet.len() - 20) as u16;
    let mut pseudo = packet[12..20].to_vec();
    pseudo.extend([0, packet[9]]);
    pseudo.extend(length.to_be_bytes());
    packet[at..at + 2].copy_from_slice(&(!checksum(&pseudo)).to_be_bytes());
}
