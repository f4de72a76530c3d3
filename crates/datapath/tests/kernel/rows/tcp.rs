//! TCP: connections made, used and closed, in both directions.

use furiwake_datapath::trial::Stage;
use furiwake_engine::{host::Hook, reason::Reason};

use crate::{
    director::{Director, XDP_PASS},
    network::in_network,
    packet::{ACK, FIN, RST, SYN, checksum, tcp},
    row::{Group, fast, passed, play},
};

const CLIENT: &str = "10.0.0.100:5000";
const VIP: &str = "10.0.0.1:80";

#[test]
fn connections_are_made_used_and_closed() {
    play(&[a_life, turns]);
}

/// A local sender on veth leaves the checksum to an interface that it never comes to: the field holds the sum of the
/// pseudo header. XDP cannot tell tc that, so it leaves such packets alone.
#[test]
fn unfinished_checksums_on_veth_are_left_to_tc() {
    in_network(|| {
        let mut director = Director::new(Hook::XdpVeth);
        for line in [
            "ipvsadm -A -t 10.0.0.1:80 -s rr",
            "ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.1 -m",
        ] {
            director.command(line);
        }
        let mut unfinished = tcp(CLIENT, VIP, SYN).arrives();
        let ip = &mut unfinished.frame[14..];
        let pseudo_header = [&ip[12..20], &[0, 6, 0, ip.len() as u8 - 20]].concat();
        let sum = !checksum(&pseudo_header);
        ip[36..38].copy_from_slice(&sum.to_be_bytes());
        let left = director.try_at(Stage::XdpVeth, &unfinished);
        assert_eq!(
            (left.action, left.frame),
            (XDP_PASS, unfinished.frame.clone())
        );
        assert_eq!(director.datapath.connections().unwrap(), []);
        let taken = director.try_at(Stage::Xdp, &unfinished);
        assert_ne!(taken.frame, unfinished.frame);
    });
}

fn a_life() -> Group {
    let server = "192.168.1.1:8080";
    let request = |flags| tcp(CLIENT, VIP, flags);
    let reply = |flags| tcp(server, CLIENT, flags);
    let to_server = |says, flags| {
        let out = request(flags).to(server);
        fast(says, request(flags).arrives(), out.leaves())
    };
    let to_client = |says, flags| {
        let out = reply(flags).from(VIP);
        fast(says, reply(flags).arrives(), out.leaves())
    };
    Group {
        commands: &[
            "ipvsadm -A -t 10.0.0.1:80 -s rr",
            "ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.1:8080 -m",
        ],
        rows: vec![
            passed("no connection yet", reply(ACK).arrives()),
            passed("no connection yet, no SYN", request(ACK).arrives()),
            passed("SYN with RST", request(SYN | RST).arrives()),
            to_server("SYN opens it", SYN),
            to_client("the server answers", SYN | ACK),
            to_server("established", ACK),
            to_client("data back", ACK),
            to_server("the client closes", FIN | ACK),
            to_client("so does the server", FIN | ACK),
            to_server("last acknowledgement", ACK),
            to_server("the same port again after TIME_WAIT", SYN),
            to_client("refused", RST | ACK),
            to_server("and again after CLOSE", SYN),
            to_server("a reset", RST),
        ],
        reasons: &[(Reason::NoConnection, 1), (Reason::NotSyn, 2)],
        stats: &[
            "TCP 10.0.0.1:80 3 7 4 336 192",
            "-> 192.168.1.1:8080 3 7 4 336 192",
        ],
    }
}

/// wrr of 3 and 1: once each, for it begins at weight 0 (`ip_vs_wrr.c`), then three to one, newest first.
fn turns() -> Group {
    let asks = |says, vip: &str, port, server| {
        let request = tcp(&format!("10.0.0.100:{port}"), vip, SYN);
        let out = request.clone().to(&format!("192.168.1.{server}:80"));
        fast(says, request.arrives(), out.leaves())
    };
    let wrr = [2, 1, 1, 1, 2, 1, 1, 1].into_iter().zip(6000..);
    let mut rows: Vec<_> = wrr
        .map(|(server, port)| asks("wrr", "10.0.0.2:80", port, server))
        .collect();
    let rr = [2, 1, 2, 1].into_iter().zip(6000..);
    rows.extend(rr.map(|(server, port)| asks("rr", VIP, port, server)));
    let request = tcp(CLIENT, "10.0.0.1:81", SYN);
    rows.push(passed("a port without service", request.arrives()));
    let request = tcp("10.0.0.101:20", VIP, SYN);
    rows.push(passed("FTP data", request.arrives()));
    Group {
        commands: &[
            "ipvsadm -A -t 10.0.0.1:80 -s rr",
            "ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.1 -m",
            "ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.2 -m",
            "ipvsadm -A -t 10.0.0.2:80 -s wrr",
            "ipvsadm -a -t 10.0.0.2:80 -r 192.168.1.1 -m -w 3",
            "ipvsadm -a -t 10.0.0.2:80 -r 192.168.1.2 -m -w 1",
        ],
        rows,
        reasons: &[(Reason::NoService, 1), (Reason::FtpData, 1)],
        stats: &[
            "TCP 10.0.0.1:80 4 4 0 192 0",
            "-> 192.168.1.1:80 2 2 0 96 0",
            "-> 192.168.1.2:80 2 2 0 96 0",
            "TCP 10.0.0.2:80 8 8 0 384 0",
            "-> 192.168.1.1:80 6 6 0 288 0",
            "-> 192.168.1.2:80 2 2 0 96 0",
        ],
    }
}
