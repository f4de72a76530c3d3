//! UDP: with and without checksum, and checksums that come out as zero.

use crate::{
    director::Fate,
    packet::{Datagram, udp},
    row::{Group, fast, play, slow},
};

const CLIENT: &str = "10.0.0.100:5000";
const VIP: &str = "10.0.0.1:53";
const SERVER: &str = "192.168.1.1:5353";

#[test]
fn datagrams_are_forwarded_with_checksums() {
    play(&[checksums]);
}

fn checksums() -> Group {
    let request = udp(CLIENT, VIP);
    let reply = udp(SERVER, CLIENT);
    let empty = request.clone().payload(0);
    let odd = request.clone().payload(1);
    let unlucky = with_checksum_of_ones(request.clone());
    let in_and_out = |says, request: &Datagram| {
        let out = request.clone().to(SERVER);
        fast(says, request.arrives(), out.leaves())
    };
    // Who sends none gets one, as from IPVS (`ip_vs_proto_udp.c`).
    let given = |says, datagram: Datagram, out: Datagram| {
        let incoming = datagram.without_checksum().arrives();
        slow(says, incoming, Fate::Sent(out.leaves()))
    };
    Group {
        commands: &[
            "ipvsadm -A -u 10.0.0.1:53 -s rr",
            "ipvsadm -a -u 10.0.0.1:53 -r 192.168.1.1:5353 -m",
        ],
        rows: vec![
            given(
                "a new connection, no checksum",
                request.clone(),
                request.clone().to(SERVER),
            ),
            in_and_out("a request", &request),
            fast("a reply", reply.arrives(), reply.clone().from(VIP).leaves()),
            given(
                "no checksum in a reply",
                reply.clone(),
                reply.clone().from(VIP),
            ),
            in_and_out("nothing in it", &empty),
            in_and_out("one byte", &odd),
            given("one byte, no checksum", odd.clone(), odd.clone().to(SERVER)),
            in_and_out(
                "a checksum that comes out as zero is sent as ones",
                &unlucky,
            ),
            given(
                "the same, without one",
                unlucky.clone(),
                unlucky.clone().to(SERVER),
            ),
        ],
        reasons: &[],
        stats: &[
            "UDP 10.0.0.1:53 1 7 2 230 72",
            "-> 192.168.1.1:5353 1 7 2 230 72",
        ],
    }
}

/// A datagram whose checksum at the server computes to zero.
fn with_checksum_of_ones(datagram: Datagram) -> Datagram {
    let candidates = (0..=u16::MAX).map(|word| Datagram {
        payload: [&b"furiwa"[..], &word.to_be_bytes()].concat(),
        ..datagram.clone()
    });
    candidates
        .into_iter()
        .find(|d| d.clone().to(SERVER).segment()[6..8] == [0xff, 0xff])
        .unwrap()
}
