//! Headers: time to live, options, short and odd packets, frames that are not for us.

use furiwake_datapath::trial::Stage;
use furiwake_engine::{host::Hook, reason::Reason};

use crate::{
    director::{Director, Fate, Incoming, XDP_PASS},
    network::{in_network, mac_of},
    packet::{ACK, Datagram, MF, SYN, arrives, end, frame, ip, leaves, own_error, tcp, udp},
    row::{Group, Row, fast, passed, play, slow},
};

const CLIENT: &str = "10.0.0.100:5000";
const VIP: &str = "10.0.0.1:80";
const SERVER: &str = "192.168.1.1:80";
const COMMANDS: &[&str] = &[
    "ipvsadm -A -t 10.0.0.1:80 -s rr",
    "ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.1 -m",
    "ipvsadm -A -u 10.0.0.1:80 -s rr",
    "ipvsadm -a -u 10.0.0.1:80 -r 192.168.1.1 -m",
];

/// Bytes of an IP header without options.
const IP: usize = 20;

#[test]
fn less_than_an_ip_header_passes_xdp() {
    in_network(|| {
        let mut director = Director::new(Hook::Xdp);
        COMMANDS
            .iter()
            .for_each(|line| drop(director.command(line)));
        for length in 0..IP {
            let mut incoming = tcp(CLIENT, VIP, SYN).arrives();
            incoming.frame.truncate(14 + length);
            for stage in [Stage::Xdp, Stage::XdpVeth] {
                let answer = director.try_at(stage, &incoming);
                assert_eq!(
                    (answer.action, answer.frame),
                    (XDP_PASS, incoming.frame.clone())
                );
            }
        }
    });
}

#[test]
fn headers_decide() {
    play(&[time_to_live, options, cut_short, others]);
}

fn opened() -> [Row; 2] {
    [tcp(CLIENT, VIP, SYN), udp(CLIENT, VIP)].map(|request| {
        let out = request.clone().to(SERVER);
        fast("opened", request.arrives(), out.leaves())
    })
}

fn time_to_live() -> Group {
    let request = |ttl| tcp(CLIENT, VIP, ACK).ttl(ttl);
    let reply = |ttl| tcp(SERVER, CLIENT, ACK).ttl(ttl);
    let exceeded = |ttl| {
        let packet = request(ttl).packet();
        let error = own_error("10.0.0.1", "10.0.0.100", (11, 0, 0), &packet);
        Fate::Sent(leaves(&error))
    };
    let long = request(1).payload(1000);
    let quoted = &long.packet()[..576 - 28];
    let error = own_error("10.0.0.1", "10.0.0.100", (11, 0, 0), quoted);
    let mut rows = Vec::from(opened());
    rows.extend([
        fast(
            "enough for one hop",
            request(2).arrives(),
            request(2).to(SERVER).leaves(),
        ),
        slow("used up", request(1).arrives(), exceeded(1)),
        slow("none left", request(0).arrives(), exceeded(0)),
        slow(
            "a long one is quoted in part",
            long.arrives(),
            Fate::Sent(leaves(&error)),
        ),
        fast(
            "enough, back",
            reply(2).arrives(),
            reply(2).from(VIP).leaves(),
        ),
        passed(
            "used up on the way back: the host tells",
            reply(1).arrives(),
        ),
        passed("the same", reply(0).arrives()),
    ]);
    Group {
        commands: COMMANDS,
        rows,
        reasons: &[(Reason::ReplyUndeliverable, 2), (Reason::TtlExceeded, 3)],
        stats: &[
            "TCP 10.0.0.1:80 1 5 1 1232 48",
            "-> 192.168.1.1:80 1 5 1 1232 48",
            "UDP 10.0.0.1:80 1 1 0 36 0",
            "-> 192.168.1.1:80 1 1 0 36 0",
        ],
    }
}

fn options() -> Group {
    let options = [7, 7, 4, 0, 0, 0, 0, 0];
    let both_ways = |request: Datagram, reply: Datagram| {
        let (request, reply) = (request.options(&options), reply.options(&options));
        let out = request.clone().to(SERVER).leaves();
        let back = reply.clone().from(VIP).leaves();
        [
            slow("options to the server", request.arrives(), Fate::Sent(out)),
            slow("options to the client", reply.arrives(), Fate::Sent(back)),
        ]
    };
    let mut rows = Vec::new();
    rows.extend(both_ways(tcp(CLIENT, VIP, SYN), tcp(SERVER, CLIENT, ACK)));
    rows.extend(both_ways(udp(CLIENT, VIP), udp(SERVER, CLIENT)));
    let most = tcp(CLIENT, VIP, ACK).options(&[1; 40]);
    let out = Fate::Sent(most.clone().to(SERVER).leaves());
    rows.push(slow("as many as there can be", most.arrives(), out));
    let expired = tcp(CLIENT, VIP, ACK).options(&options).ttl(1);
    let error = own_error("10.0.0.1", "10.0.0.100", (11, 0, 0), &expired.packet());
    rows.push(slow(
        "used up, with options",
        expired.arrives(),
        Fate::Sent(leaves(&error)),
    ));
    Group {
        commands: COMMANDS,
        rows,
        reasons: &[(Reason::TtlExceeded, 1)],
        stats: &[
            "TCP 10.0.0.1:80 1 3 1 200 56",
            "-> 192.168.1.1:80 1 3 1 200 56",
            "UDP 10.0.0.1:80 1 1 1 44 44",
            "-> 192.168.1.1:80 1 1 1 44 44",
        ],
    }
}

/// Packets cut behind every byte of their headers. The kernel does not try tc with less than an IP header, see
/// [`less_than_an_ip_header_passes_xdp`].
fn cut_short() -> Group {
    let mut rows = Vec::from(opened());
    for (request, header) in [(tcp(CLIENT, VIP, ACK), 40), (udp(CLIENT, VIP), 28)] {
        let whole = request.payload(0).packet();
        assert_eq!(whole.len(), header);
        for length in IP..header {
            let mut packet = whole[..length].to_vec();
            rows.push(passed("shorter than it claims", arrives(&packet)));
            packet[3] = length as u8;
            rows.push(passed("shorter than its headers", arrives(&packet)));
            packet.resize(whole.len(), 0);
            rows.push(passed("claims to be shorter", arrives(&packet)));
        }
    }
    let with_options = tcp(CLIENT, VIP, ACK).options(&[1; 40]).packet();
    for length in IP..80 {
        let packet = arrives(&with_options[..length]);
        rows.push(passed("cut in its options or behind", packet));
    }
    Group {
        commands: COMMANDS,
        rows,
        // Three times 20 lengths of TCP and 8 of UDP, and 60 with options.
        reasons: &[(Reason::Truncated, 60 + 24 + 60)],
        stats: &[
            "TCP 10.0.0.1:80 1 1 0 48 0",
            "-> 192.168.1.1:80 1 1 0 48 0",
            "UDP 10.0.0.1:80 1 1 0 36 0",
            "-> 192.168.1.1:80 1 1 0 36 0",
        ],
    }
}

fn others() -> Group {
    let request = tcp(CLIENT, VIP, ACK);
    let packet = request.packet();
    let from = mac_of([10, 0, 0, 100].into());
    let changed = |at: usize, value: u8| {
        let mut packet = packet.clone();
        packet[at] = value;
        arrives(&packet)
    };
    let to_mac = |mac| Incoming {
        frame: frame(mac, from, &packet),
        ..request.arrives()
    };
    let of_type = |kind: [u8; 2], payload: &[u8]| {
        let mut incoming = arrives(&packet);
        incoming.frame.truncate(12);
        incoming.frame.extend(kind);
        incoming.frame.extend(payload);
        incoming
    };
    let protocol = |number| {
        let (source, destination) = (*end(CLIENT).ip(), *end(VIP).ip());
        arrives(&ip(source, destination, number, 64, 0, &[], &[0; 40]))
    };
    let mut padded = (
        request.clone().payload(0).arrives(),
        request.clone().payload(0).to(SERVER).leaves(),
    );
    padded.0.frame.extend([0xee; 6]);
    padded.1.extend([0xee; 6]);
    let vlan = [&[0, 5, 8, 0][..], &packet].concat();
    let mut rows = Vec::from(opened());
    rows.extend([
        fast("padding of a short frame stays", padded.0, padded.1),
        passed("IP version 5", changed(0, 0x55)),
        passed("a header of less than it is", changed(0, 0x44)),
        passed("no length", {
            let mut packet = packet.clone();
            packet[2..4].fill(0);
            arrives(&packet)
        }),
        passed("SCTP", protocol(132)),
        passed("GRE", protocol(47)),
        passed("ESP, fragmented", {
            let (source, destination) = (*end(CLIENT).ip(), *end(VIP).ip());
            arrives(&ip(source, destination, 50, 64, MF, &[], &[0; 40]))
        }),
        passed("to another host's MAC", to_mac([2, 0, 0, 0, 9, 9])),
        passed("first half of the MAC is right", to_mac([2, 0, 0, 0, 0, 9])),
        passed("broadcast", to_mac([0xff; 6])),
        passed("multicast", to_mac([1, 0, 0x5e, 0, 0, 1])),
        passed("ARP", of_type([8, 6], &[0; 28])),
        passed("VLAN", of_type([0x81, 0], &vlan)),
        passed("IPv6", of_type([0x86, 0xdd], &[0x60; 60])),
        passed("802.3 length", of_type([0, 40], &[0xaa; 60])),
        passed(
            "to the director itself",
            tcp(CLIENT, "10.0.0.254:22", SYN).arrives(),
        ),
        passed(
            "from a server elsewhere",
            tcp("192.168.1.1:4000", "10.0.0.101:80", SYN).arrives(),
        ),
        passed(
            "between strangers",
            tcp(CLIENT, "192.168.1.9:80", SYN).arrives(),
        ),
    ]);
    Group {
        commands: COMMANDS,
        rows,
        reasons: &[
            (Reason::NotIpv4, 4),
            (Reason::NoMatch, 2),
            (Reason::NotForUs, 4),
            (Reason::OtherProtocol, 3),
            (Reason::Truncated, 3),
            (Reason::NoConnection, 1),
        ],
        stats: &[
            "TCP 10.0.0.1:80 1 2 0 88 0",
            "-> 192.168.1.1:80 1 2 0 88 0",
            "UDP 10.0.0.1:80 1 1 0 36 0",
            "-> 192.168.1.1:80 1 1 0 36 0",
        ],
    }
}
