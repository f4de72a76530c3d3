//! Tunnels and direct routing: who wraps, and what leaves in pieces. Bytes of every kind are in the recordings.

use furiwake_engine::{host::Hook, reason::Reason};

use crate::{
    director::{Director, Fate},
    far::Far,
    network::in_network,
    packet::{ACK, Datagram, SYN, checksum, leaves, leaves_to, own_error, tcp, udp},
    row::{Group, fast, play, slow},
};

const CLIENT: &str = "10.0.0.100:5000";
const VIP: &str = "10.0.0.1:80";
const IPIP: u8 = 4;
const GRE: u8 = 47;

#[test]
fn requests_are_wrapped_by_the_first_stage_that_can() {
    play(&[ipip, gre_with_checksum, gateway]);
}

/// A request as it leaves in a tunnel to 192.168.1.1, with what is between the outer header and the request.
fn wrapped(request: &Datagram, protocol: u8, between: &[u8]) -> Vec<u8> {
    let inner = passed_on(request);
    let mut outer = vec![0x45, 0];
    outer.extend(((20 + between.len() + inner.len()) as u16).to_be_bytes());
    outer.extend([0, 0, 0x40, 0, request.ttl - 1, protocol, 0, 0]);
    outer.extend([192, 168, 1, 254, 192, 168, 1, 1]);
    let sum = checksum(&outer);
    outer[10..12].copy_from_slice(&sum.to_be_bytes());
    [&outer, between, &inner].concat()
}

/// A request with one hop counted.
fn passed_on(request: &Datagram) -> Vec<u8> {
    request.clone().ttl(request.ttl - 1).packet()
}

fn ipip() -> Group {
    let request = tcp(CLIENT, VIP, SYN);
    let out = wrapped(&request, IPIP, &[]);
    let long = tcp(CLIENT, VIP, ACK).payload(1441);
    let told = own_error(
        "10.0.0.1",
        "10.0.0.100",
        (3, 4, 1480),
        &passed_on(&long)[..548],
    );
    let options = tcp(CLIENT, VIP, ACK).options(&[1; 4]);
    let lost = tcp("10.0.0.100:5001", "10.0.0.2:80", SYN);
    let unreachable = own_error("10.0.0.2", "10.0.0.100", (3, 1, 0), &lost.packet());
    Group {
        commands: &[
            "ipvsadm -A -t 10.0.0.1:80 -s rr",
            "ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.1 -i",
            "ipvsadm -A -t 10.0.0.2:80 -s rr",
            "ipvsadm -a -t 10.0.0.2:80 -r 192.168.1.40 -i",
        ],
        rows: vec![
            fast("plain", request.arrives(), leaves(&out)),
            slow(
                "with options",
                options.arrives(),
                Fate::Sent(leaves(&wrapped(&options, IPIP, &[]))),
            ),
            slow("too long", long.arrives(), Fate::Sent(leaves(&told))),
            slow("no route", lost.arrives(), Fate::Sent(leaves(&unreachable))),
        ],
        reasons: &[(Reason::TooLong, 1), (Reason::NoRouteToServer, 1)],
        stats: &[
            "TCP 10.0.0.1:80 1 3 1 1581 576",
            "-> 192.168.1.1:80 1 3 1 1581 576",
            "TCP 10.0.0.2:80 1 1 1 48 76",
            "-> 192.168.1.40:80 1 1 1 48 76",
        ],
    }
}

fn gre_with_checksum() -> Group {
    let gre = |request: &Datagram| {
        let mut header = vec![0x80, 0, 8, 0, 0, 0, 0, 0];
        let sum = checksum(&[&header[..], &passed_on(request)].concat());
        header[4..6].copy_from_slice(&sum.to_be_bytes());
        leaves(&wrapped(request, GRE, &header))
    };
    let summed = udp(CLIENT, VIP);
    let plain = udp(CLIENT, VIP).payload(101).without_checksum();
    Group {
        commands: &[
            "ipvsadm -A -u 10.0.0.1:80 -s rr",
            "ipvsadm -a -u 10.0.0.1:80 -r 192.168.1.1 -i --tun-type gre --tun-csum",
        ],
        rows: vec![
            fast("the sum follows", summed.arrives(), gre(&summed)),
            slow(
                "it must be summed",
                plain.arrives(),
                Fate::Sent(gre(&plain)),
            ),
        ],
        reasons: &[],
        stats: &[
            "UDP 10.0.0.1:80 1 2 0 165 0",
            "-> 192.168.1.1:80 1 2 0 165 0",
        ],
    }
}

fn gateway() -> Group {
    let plain = udp(CLIENT, VIP).without_checksum();
    let to_server = |request: &Datagram| leaves_to([192, 168, 1, 1].into(), &passed_on(request));
    let options = udp(CLIENT, VIP).options(&[1; 4]);
    Group {
        commands: &[
            "ipvsadm -A -u 10.0.0.1:80 -s rr",
            "ipvsadm -a -u 10.0.0.1:80 -r 192.168.1.1 -g",
        ],
        rows: vec![
            fast("no checksum is needed", plain.arrives(), to_server(&plain)),
            slow(
                "with options",
                options.arrives(),
                Fate::Sent(to_server(&options)),
            ),
        ],
        reasons: &[],
        stats: &["UDP 10.0.0.1:80 1 2 0 76 0", "-> 192.168.1.1:80 1 2 0 76 0"],
    }
}

#[test]
fn what_does_not_fit_leaves_in_pieces_that_make_the_whole() {
    in_network(|| {
        let mut director = Director::new(Hook::Tc);
        let far = Far::of("back").unwrap();
        for (method, headers) in [
            ("-g", 0),
            ("-i", 20),
            ("-i --tun-type gre", 24),
            ("-i --tun-type gue --tun-port 6080", 32),
        ] {
            director.reset(Hook::Tc);
            director.command("ipvsadm -A -u 10.0.0.1:80 -s rr");
            // Behind a way of 1400 bytes.
            director.command(&format!(
                "ipvsadm -a -u 10.0.0.1:80 -r 192.168.1.3 {method}"
            ));
            let request = udp(CLIENT, VIP).payload(1472).fragment(0);
            let got = director.receive(&request.arrives());
            let Fate::Sent(last) = got.fate else {
                panic!("{method}: {got:?} {:?}", director.reasons());
            };
            let pieces = [far.arrived(), vec![last]].concat();
            assert_eq!(pieces.len(), 2, "{method}");
            let offset = |piece: &[u8]| u16::from_be_bytes([piece[20], piece[21]]);
            assert_eq!((offset(&pieces[0]), offset(&pieces[1])), (0x2000, 172));
            assert!(pieces.iter().all(|piece| piece.len() <= 1414));
            assert!(pieces.iter().all(|piece| checksum(&piece[14..34]) == 0));
            let data: Vec<u8> = pieces
                .iter()
                .flat_map(|piece| &piece[34..])
                .copied()
                .collect();
            let inner = passed_on(&request);
            let tail = inner.len().min(inner.len() + headers - 20);
            assert!(data.ends_with(&inner[inner.len() - tail..]), "{method}");
            assert_eq!(data.len() + 20, inner.len() + headers);
        }
    });
}
