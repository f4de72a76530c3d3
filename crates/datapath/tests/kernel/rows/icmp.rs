//! ICMP errors about connections, from both sides; and other ICMP, which is not ours.

use furiwake_engine::reason::Reason;

use crate::{
    director::{Fate, Incoming},
    network::Wire,
    packet::{ACK, Datagram, MF, SYN, arrives, arrives_at, checksum, icmp, leaves, tcp, udp},
    row::{Group, Row, fast, passed, play, slow},
};

const CLIENT: &str = "10.0.0.100";
const VIP: &str = "10.0.0.1";
const SERVER: &str = "192.168.1.1";
/// A router between director and server, or client.
const INNER_ROUTER: &str = "192.168.1.9";
const OUTER_ROUTER: &str = "10.0.0.150";

#[test]
fn errors_about_connections_reach_the_other_end() {
    play(&[about_tcp, about_udp, unrelated]);
}

const COMMANDS: &[&str] = &[
    "ipvsadm -A -t 10.0.0.1:80 -s rr",
    "ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.1:8080 -m",
    "ipvsadm -A -u 10.0.0.1:80 -s rr",
    "ipvsadm -a -u 10.0.0.1:80 -r 192.168.1.1:8080 -m",
];

/// What errors can be about, as a server and as a client got it, and what either sent of it.
struct Talk {
    request: Datagram,
    request_at_server: Datagram,
    reply: Datagram,
    reply_at_client: Datagram,
}

impl Talk {
    fn new(of: fn(&str, &str) -> Datagram) -> Self {
        let request = of("10.0.0.100:5000", "10.0.0.1:80").payload(40);
        let reply = of("192.168.1.1:8080", "10.0.0.100:5000").payload(40);
        Self {
            request_at_server: request.clone().to("192.168.1.1:8080"),
            reply_at_client: reply.clone().from("10.0.0.1:80"),
            request,
            reply,
        }
    }

    fn rows(&self) -> Vec<Row> {
        let opened = self.request_at_server.leaves();
        let answered = self.reply_at_client.leaves();
        let mut rows = vec![
            fast("opened", self.request.arrives(), opened),
            fast("answered", self.reply.arrives(), answered),
        ];
        let kinds = [
            (3, 0, 0),
            (3, 3, 0),
            (3, 4, 1400),
            (3, 13, 0),
            (4, 0, 0),
            (11, 0, 0),
            (11, 1, 0),
        ];
        for said in kinds {
            rows.push(self.inside("from the server", SERVER, said, 28));
            rows.push(self.outside("from the client", CLIENT, said, 28));
        }
        for quoted in [29, 40, 68] {
            rows.push(self.inside("from a router inside", INNER_ROUTER, kinds[0], quoted));
            rows.push(self.outside("from a router outside", OUTER_ROUTER, kinds[0], quoted));
        }
        rows
    }

    /// An error about a request, from the servers' side, to the client.
    fn inside(&self, says: &'static str, from: &str, said: (u8, u8, u32), quoted: usize) -> Row {
        let quote = &self.request_at_server.packet()[..quoted];
        let seen = with_end(quote, 16, 22, [10, 0, 0, 1], 80);
        let packet = icmp(VIP, CLIENT, 63, said, &seen);
        let arrival = arrives_at(Wire::Back, &icmp(from, CLIENT, 64, said, quote));
        slow(says, arrival, Fate::Sent(leaves(&packet)))
    }

    /// An error about a reply, from the clients' side, to the server.
    fn outside(&self, says: &'static str, from: &str, said: (u8, u8, u32), quoted: usize) -> Row {
        let quote = &self.reply_at_client.packet()[..quoted];
        let seen = with_end(quote, 12, 20, [192, 168, 1, 1], 8080);
        let packet = icmp(from, SERVER, 63, said, &seen);
        let arrival = arrives(&icmp(from, VIP, 64, said, quote));
        slow(says, arrival, Fate::Sent(leaves(&packet)))
    }
}

/// A quotation with another address and port; the checksum of its segment stays, as from IPVS.
fn with_end(
    quote: &[u8],
    address_at: usize,
    port_at: usize,
    address: [u8; 4],
    port: u16,
) -> Vec<u8> {
    let mut bytes = quote.to_vec();
    bytes[address_at..address_at + 4].copy_from_slice(&address);
    bytes[port_at..port_at + 2].copy_from_slice(&port.to_be_bytes());
    bytes[10..12].fill(0);
    let checksum = checksum(&bytes[..20]);
    bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

fn about_tcp() -> Group {
    Group {
        commands: COMMANDS,
        rows: Talk::new(|source, destination| tcp(source, destination, SYN)).rows(),
        reasons: &[],
        stats: &[
            "TCP 10.0.0.1:80 1 11 11 693 693",
            "-> 192.168.1.1:8080 1 11 11 693 693",
            "UDP 10.0.0.1:80 0 0 0 0 0",
            "-> 192.168.1.1:8080 0 0 0 0 0",
        ],
    }
}

fn about_udp() -> Group {
    Group {
        commands: COMMANDS,
        rows: Talk::new(udp).rows(),
        reasons: &[],
        stats: &[
            "TCP 10.0.0.1:80 0 0 0 0 0",
            "-> 192.168.1.1:8080 0 0 0 0 0",
            "UDP 10.0.0.1:80 1 11 11 681 681",
            "-> 192.168.1.1:8080 1 11 11 681 681",
        ],
    }
}

fn unrelated() -> Group {
    let talk = Talk::new(|source, destination| tcp(source, destination, ACK | SYN));
    let opened = fast(
        "opened",
        talk.request.arrives(),
        talk.request_at_server.leaves(),
    );
    let about_reply = talk.reply_at_client.packet();
    let outside = |kind, quote: &[u8]| arrives(&icmp(CLIENT, VIP, 64, (kind, 0, 0), quote));
    let stranger = tcp("10.0.0.1:80", "10.0.0.100:5001", ACK).packet();
    let other_protocol = {
        let mut packet = about_reply.clone();
        packet[9] = 132;
        packet
    };
    let later = {
        let mut packet = about_reply.clone();
        packet[7] = 4;
        packet
    };
    let to_other = icmp(CLIENT, "192.168.1.1", 64, (3, 1, 0), &about_reply);
    let fragmented = {
        let mut packet = icmp(CLIENT, VIP, 64, (3, 1, 0), &about_reply);
        packet[6..8].copy_from_slice(&MF.to_be_bytes());
        arrives(&packet)
    };
    let cut = |length: usize| {
        let packet = icmp(CLIENT, VIP, 64, (3, 1, 0), &about_reply);
        arrives(&packet[..length])
    };
    let mut not_for_us: Incoming = outside(3, &about_reply);
    not_for_us.frame[5] = 0x77;
    let mut rows = vec![
        opened,
        passed("a ping", outside(8, b"ping")),
        passed("a redirect", outside(5, &about_reply)),
        passed("a parameter problem", outside(12, &about_reply)),
        passed("about no connection", outside(3, &stranger)),
        passed("about SCTP", outside(3, &other_protocol)),
        passed("about a later fragment", outside(3, &later)),
        passed("to neither end", arrives(&to_other)),
        passed("in fragments", fragmented),
        passed("to another host's MAC", not_for_us),
        slow(
            "no error about an error",
            arrives(&icmp(CLIENT, VIP, 1, (3, 1, 0), &about_reply)),
            Fate::Dropped,
        ),
    ];
    // To the end of the quoted ports.
    for length in 20..20 + 8 + 24 {
        rows.push(passed("cut short", cut(length)));
    }
    Group {
        commands: COMMANDS,
        rows,
        reasons: &[
            (Reason::NotForUs, 1),
            (Reason::IcmpUnrelated, 8 + 32),
            (Reason::TtlExceeded, 1),
        ],
        stats: &[
            "TCP 10.0.0.1:80 1 2 0 188 0",
            "-> 192.168.1.1:8080 1 2 0 188 0",
            "UDP 10.0.0.1:80 0 0 0 0 0",
            "-> 192.168.1.1:8080 0 0 0 0 0",
        ],
    }
}
