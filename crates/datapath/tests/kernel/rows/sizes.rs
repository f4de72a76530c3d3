//! Fragments, packets too long for the way, and super-packets.

use furiwake_engine::{host::Hook, reason::Reason};

use crate::{
    director::Fate,
    packet::{ACK, DF, SYN, arrives, leaves, own_error, tcp, udp},
    row::{Group, Row, fast, passed, play, play_at, slow},
};

const CLIENT: &str = "10.0.0.100:5000";
const VIP: &str = "10.0.0.1:80";
const SERVER: &str = "192.168.1.1:80";
/// Behind a way of 1400 bytes.
const FAR_SERVER: &str = "192.168.1.3:80";

#[test]
fn every_size_gets_there_or_is_told() {
    play(&[fragments, too_long_for_the_server, too_long_for_the_client]);
}

#[test]
fn super_packets_are_judged_by_their_segments() {
    play_at(&[Hook::Tc], &[super_packets]);
}

fn fragments() -> Group {
    let mut rows = Vec::new();
    let (request, reply) = (udp(CLIENT, VIP), udp(SERVER, CLIENT));
    let request = request.payload(2000).fragment(0);
    let reply = reply.payload(2000).fragment(0);
    let (to_server, to_client) = (request.clone().to(SERVER), reply.clone().from(VIP));
    let tcp_request = tcp(CLIENT, VIP, SYN).payload(40).fragment(0);
    let without = udp("10.0.0.101:5000", VIP).payload(100).fragment(0);
    let (without, all) = (without.clone().without_checksum(), without);
    let sent =
        |says, packet: &[u8], out: &[u8]| slow(says, arrives(packet), Fate::Sent(leaves(out)));
    rows.push(passed(
        "a later one before the first",
        arrives(&request.part(1200, 2008)),
    ));
    for (says, whole, out, parts) in [
        ("a request", &request, &to_server, [0, 800, 1600, 2008]),
        ("a reply", &reply, &to_client, [0, 1480, 1600, 2008]),
    ] {
        for part in parts.windows(2) {
            let (from, to) = (part[0], part[1]);
            rows.push(sent(says, &whole.part(from, to), &out.part(from, to)));
        }
    }
    let out = tcp_request.clone().to(SERVER);
    rows.push(sent("TCP", &tcp_request.part(0, 32), &out.part(0, 32)));
    rows.push(sent("TCP", &tcp_request.part(32, 60), &out.part(32, 60)));
    rows.push(sent(
        "no checksum: stays so, for it cannot be summed here",
        &without.part(0, 48),
        &without.clone().to(SERVER).part(0, 48),
    ));
    rows.push(sent(
        "the rest of it",
        &all.part(48, 108),
        &all.clone().to(SERVER).part(48, 108),
    ));
    rows.push(passed(
        "a first one without the whole header",
        arrives(&tcp_request.part(0, 16)),
    ));
    Group {
        commands: &[
            "ipvsadm -A -u 10.0.0.1:80 -s rr",
            "ipvsadm -a -u 10.0.0.1:80 -r 192.168.1.1 -m",
            "ipvsadm -A -t 10.0.0.1:80 -s rr",
            "ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.1 -m",
        ],
        rows,
        reasons: &[(Reason::Truncated, 1), (Reason::FragmentUnknown, 1)],
        stats: &[
            "TCP 10.0.0.1:80 1 2 0 100 0",
            "-> 192.168.1.1:80 1 2 0 100 0",
            "UDP 10.0.0.1:80 2 5 3 2216 2068",
            "-> 192.168.1.1:80 2 5 3 2216 2068",
        ],
    }
}

const FAR: &[&str] = &[
    "ipvsadm -A -t 10.0.0.1:80 -s rr",
    "ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.3 -m",
];

fn too_long_for_the_server() -> Group {
    let data = |length: usize| tcp(CLIENT, VIP, ACK).payload(length - 40);
    // The hop is counted by then, as in IPVS.
    let told = data(1401).ttl(63).packet();
    let error = own_error("10.0.0.1", "10.0.0.100", (3, 4, 1400), &told[..548]);
    let fragmentable = data(1401).fragment(0);
    Group {
        commands: FAR,
        rows: vec![
            opened(),
            fast(
                "just fits",
                data(1400).arrives(),
                data(1400).to(FAR_SERVER).leaves(),
            ),
            slow(
                "one byte too long: the client is told",
                data(1401).arrives(),
                Fate::Sent(leaves(&error)),
            ),
            slow(
                "may be fragmented: the host does it",
                fragmentable.arrives(),
                Fate::Stack(rewritten(
                    &fragmentable.arrives().frame,
                    &fragmentable.to(FAR_SERVER).ttl(64).packet(),
                )),
            ),
        ],
        reasons: &[(Reason::Fragmented, 1), (Reason::TooLong, 1)],
        stats: &[
            "TCP 10.0.0.1:80 1 4 0 4250 0",
            "-> 192.168.1.3:80 1 4 0 4250 0",
        ],
    }
}

fn opened() -> Row {
    let request = tcp(CLIENT, VIP, SYN);
    let out = request.clone().to(FAR_SERVER);
    fast("opened", request.arrives(), out.leaves())
}

/// A frame for the host: the old Ethernet header, and the time to live as it came, for the host counts it down.
fn rewritten(old: &[u8], packet: &[u8]) -> Vec<u8> {
    [&old[..14], packet].concat()
}

fn too_long_for_the_client() -> Group {
    let client = "10.9.0.100:5000";
    let request = tcp(client, VIP, SYN);
    let data = |length: usize| tcp(FAR_SERVER, client, ACK).payload(length - 40);
    let fits = data(1300);
    Group {
        commands: FAR,
        rows: vec![
            fast(
                "opened",
                request.arrives(),
                request.clone().to(FAR_SERVER).leaves(),
            ),
            fast("just fits", fits.arrives(), fits.clone().from(VIP).leaves()),
            passed(
                "one byte too long: the host tells the server",
                data(1301).fragment(DF).arrives(),
            ),
            slow(
                "may be fragmented, but not here",
                data(1301).fragment(0).arrives(),
                Fate::Dropped,
            ),
        ],
        reasons: &[(Reason::ReplyUndeliverable, 1), (Reason::TooLong, 1)],
        stats: &[
            "TCP 10.0.0.1:80 1 1 1 48 1300",
            "-> 192.168.1.3:80 1 1 1 48 1300",
        ],
    }
}

fn super_packets() -> Group {
    let data = tcp(CLIENT, VIP, ACK).payload(3000);
    let reply = tcp(FAR_SERVER, CLIENT, ACK).payload(3000);
    let of = |size, mut incoming: crate::director::Incoming| {
        incoming.segment_size = Some(size);
        incoming
    };
    let may_be_fragmented = data.clone().fragment(0);
    let frame = may_be_fragmented.arrives().frame;
    let to_stack = rewritten(
        &frame,
        &may_be_fragmented.clone().to(FAR_SERVER).ttl(64).packet(),
    );
    Group {
        commands: FAR,
        rows: vec![
            opened(),
            fast(
                "segments that fit",
                of(1360, data.arrives()),
                data.clone().to(FAR_SERVER).leaves(),
            ),
            slow(
                "one byte too long, may be fragmented",
                of(1361, may_be_fragmented.arrives()),
                Fate::Stack(to_stack),
            ),
            fast(
                "back",
                of(1460, reply.arrives()),
                reply.clone().from(VIP).leaves(),
            ),
            passed("too long on the way back", of(1461, reply.arrives())),
        ],
        reasons: &[(Reason::ReplyUndeliverable, 1), (Reason::Fragmented, 1)],
        stats: &[
            "TCP 10.0.0.1:80 1 3 1 6128 3040",
            "-> 192.168.1.3:80 1 3 1 6128 3040",
        ],
    }
}
