//! Clients that keep their server, services on every port, datagrams that are scheduled one by one.

use furiwake_engine::reason::Reason;

use crate::{
    director::Fate,
    packet::{ACK, Datagram, RST, SYN, tcp, udp},
    row::{Group, Row, fast, passed, play, slow},
};

#[test]
fn clients_keep_their_server() {
    play(&[on_one_port, on_every_port, one_by_one]);
}

fn to(says: &'static str, request: Datagram, server: &str) -> Row {
    fast(says, request.arrives(), request.clone().to(server).leaves())
}

fn on_one_port() -> Group {
    let request = |client, flags| tcp(client, "10.0.0.1:80", flags);
    Group {
        commands: &[
            "ipvsadm -A -t 10.0.0.1:80 -s rr -p 60 -M 255.255.255.240",
            "ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.1:8080 -m",
            "ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.2:8080 -m",
        ],
        rows: vec![
            to(
                "the first client",
                request("10.0.0.100:1", SYN),
                "192.168.1.2:8080",
            ),
            to("goes on", request("10.0.0.100:1", ACK), "192.168.1.2:8080"),
            to(
                "comes again",
                request("10.0.0.100:2", SYN),
                "192.168.1.2:8080",
            ),
            to(
                "its neighbour",
                request("10.0.0.111:1", SYN),
                "192.168.1.2:8080",
            ),
            to(
                "another network",
                request("10.0.0.112:1", SYN),
                "192.168.1.1:8080",
            ),
            to("over", request("10.0.0.100:1", RST), "192.168.1.2:8080"),
            to(
                "the same port",
                request("10.0.0.100:1", SYN),
                "192.168.1.2:8080",
            ),
        ],
        reasons: &[],
        stats: &[
            "TCP 10.0.0.1:80 4 7 0 336 0",
            "-> 192.168.1.1:8080 1 1 0 48 0",
            "-> 192.168.1.2:8080 3 6 0 288 0",
        ],
    }
}

fn on_every_port() -> Group {
    let request = |virtual_end| tcp("10.0.0.100:1", virtual_end, SYN);
    let reply = tcp("192.168.1.2:5001", "10.0.0.100:1", SYN | ACK);
    Group {
        commands: &[
            "ipvsadm -A -t 10.0.0.1:0 -s rr -p 60",
            "ipvsadm -a -t 10.0.0.1:0 -r 192.168.1.1 -m",
            "ipvsadm -a -t 10.0.0.1:0 -r 192.168.1.2:8080 -m",
            "ipvsadm -A -t 10.0.0.2:21 -s rr -p 60",
            "ipvsadm -a -t 10.0.0.2:21 -r 192.168.1.1:2121 -m",
        ],
        rows: vec![
            to(
                "any port, kept",
                request("10.0.0.1:5000"),
                "192.168.1.2:5000",
            ),
            to("another port", request("10.0.0.1:5001"), "192.168.1.2:5001"),
            fast(
                "its answer",
                reply.arrives(),
                reply.clone().from("10.0.0.1:5001").leaves(),
            ),
            to("control of FTP", request("10.0.0.2:21"), "192.168.1.1:2121"),
            to("its data", request("10.0.0.2:4000"), "192.168.1.1:4000"),
            passed("not its data", request("10.0.0.2:22").arrives()),
        ],
        reasons: &[(Reason::NoService, 1)],
        stats: &[
            "TCP 10.0.0.1:0 2 2 1 96 48",
            "-> 192.168.1.1:0 0 0 0 0 0",
            "-> 192.168.1.2:8080 2 2 1 96 48",
            "TCP 10.0.0.2:21 2 2 0 96 0",
            "-> 192.168.1.1:2121 2 2 0 96 0",
        ],
    }
}

fn one_by_one() -> Group {
    let sent = |says, service, server| {
        let request = udp("10.0.0.100:1", service);
        let frame = request.clone().to(server).leaves();
        slow(says, request.arrives(), Fate::Sent(frame))
    };
    Group {
        commands: &[
            "ipvsadm -A -u 10.0.0.1:53 -s rr -o",
            "ipvsadm -a -u 10.0.0.1:53 -r 192.168.1.1 -m",
            "ipvsadm -a -u 10.0.0.1:53 -r 192.168.1.2 -m",
            "ipvsadm -A -u 10.0.0.1:54 -s rr -o -p 60",
            "ipvsadm -a -u 10.0.0.1:54 -r 192.168.1.1 -m",
            "ipvsadm -a -u 10.0.0.1:54 -r 192.168.1.2 -m",
        ],
        rows: vec![
            sent("one", "10.0.0.1:53", "192.168.1.2:53"),
            sent("the next", "10.0.0.1:53", "192.168.1.1:53"),
            sent("the next again", "10.0.0.1:53", "192.168.1.2:53"),
            sent("persistent", "10.0.0.1:54", "192.168.1.2:54"),
            sent("kept", "10.0.0.1:54", "192.168.1.2:54"),
        ],
        reasons: &[],
        stats: &[
            "UDP 10.0.0.1:53 3 3 0 108 0",
            "-> 192.168.1.1:53 1 1 0 36 0",
            "-> 192.168.1.2:53 2 2 0 72 0",
            "UDP 10.0.0.1:54 2 2 0 72 0",
            "-> 192.168.1.1:54 0 0 0 0 0",
            "-> 192.168.1.2:54 2 2 0 72 0",
        ],
    }
}
