//! Servers that are missing, removed, quiesced; ways that are missing or not known.

use furiwake_engine::{host::Hook, reason::Reason};

use crate::{
    director::{Director, Fate},
    network::{GATEWAY, in_network, set_sysctl},
    packet::{ACK, Datagram, SYN, arrives, arrives_at, leaves, leaves_to, own_error, tcp, udp},
    row::{Group, Row, dropped, fast, passed, play, play_with, slow},
};

const CLIENT: &str = "10.0.0.100:5000";
const VIP: &str = "10.0.0.1:80";
const SERVER: &str = "192.168.1.1:80";

#[test]
fn missing_servers_and_ways_are_told() {
    play(&[no_server, to_servers, to_clients]);
}

fn to(says: &'static str, request: &Datagram, server: &str) -> Row {
    fast(says, request.arrives(), request.clone().to(server).leaves())
}

fn no_server() -> Group {
    let refused = |says, request: Datagram| {
        let error = own_error("10.0.0.1", "10.0.0.100", (3, 3, 0), &request.packet());
        slow(says, request.arrives(), Fate::Sent(leaves(&error)))
    };
    Group {
        commands: &[
            "ipvsadm -A -t 10.0.0.1:80 -s rr",
            "ipvsadm -A -u 10.0.0.1:80 -s wrr",
            "ipvsadm -a -u 10.0.0.1:80 -r 192.168.1.1 -m -w 0",
        ],
        rows: vec![
            refused("no server at all", tcp(CLIENT, VIP, SYN)),
            refused("none with weight", udp(CLIENT, VIP)),
            refused("an odd length", udp(CLIENT, VIP).payload(7)),
            refused("as long as can be quoted", udp(CLIENT, VIP).payload(520)),
            passed("not a new connection", tcp(CLIENT, VIP, ACK).arrives()),
            passed(
                "from everybody",
                arrives(&udp("255.255.255.255:5000", VIP).packet()),
            ),
        ],
        reasons: &[
            (Reason::NotSyn, 1),
            (Reason::BadSource, 1),
            (Reason::NoServer, 4),
        ],
        stats: &[
            "TCP 10.0.0.1:80 0 0 0 0 0",
            "UDP 10.0.0.1:80 0 0 0 0 0",
            "-> 192.168.1.1:80 0 0 0 0 0",
        ],
    }
}

fn to_servers() -> Group {
    let to_lost = udp(CLIENT, "10.0.0.2:80");
    let to_nowhere = udp(CLIENT, "10.0.0.3:80");
    let request = to_nowhere.packet();
    let unreachable = own_error("10.0.0.3", "10.0.0.100", (3, 1, 0), &request);
    let frame = to_lost.arrives().frame;
    let out = to_lost.clone().to("192.168.1.20:80").packet();
    Group {
        commands: &[
            "ipvsadm -A -u 10.0.0.2:80 -s rr",
            "ipvsadm -a -u 10.0.0.2:80 -r 192.168.1.20 -m",
            "ipvsadm -A -u 10.0.0.3:80 -s rr",
            "ipvsadm -a -u 10.0.0.3:80 -r 192.168.1.40 -m",
        ],
        rows: vec![
            slow(
                "the neighbour is not known: the kernel finds it",
                to_lost.arrives(),
                Fate::ToNeighbour([&frame[..14], &out].concat()),
            ),
            slow(
                "no route: the client is told",
                to_nowhere.arrives(),
                Fate::Sent(leaves(&unreachable)),
            ),
        ],
        reasons: &[(Reason::NoRouteToServer, 1)],
        stats: &[
            "UDP 10.0.0.2:80 1 1 0 36 0",
            "-> 192.168.1.20:80 1 1 0 36 0",
            "UDP 10.0.0.3:80 1 1 0 36 0",
            "-> 192.168.1.40:80 1 1 0 36 0",
        ],
    }
}

fn to_clients() -> Group {
    let mut rows = Vec::new();
    let opened = |client: &str| to("opened", &tcp(client, VIP, SYN), SERVER);
    let reply = |client: &str| tcp(SERVER, client, SYN | ACK);
    let [behind, lost, lost_behind, nowhere, local] = [
        "172.16.0.5:5000",
        "10.0.0.200:5000",
        "172.17.0.5:5000",
        "172.18.0.5:5000",
        "10.0.0.254:5000",
    ];
    rows.extend([behind, lost, lost_behind, nowhere, local].map(opened));
    let out = reply(behind).from(VIP).packet();
    let arrival = reply(behind).arrives();
    rows.push(fast(
        "behind a gateway",
        arrival.clone(),
        leaves_to(GATEWAY, &out),
    ));
    rows.push(fast(
        "once more, now learned",
        arrival,
        leaves_to(GATEWAY, &out),
    ));
    for (says, client) in [
        ("a neighbour that is not known", lost),
        ("a gateway that is not known", lost_behind),
    ] {
        let frame = reply(client).arrives().frame;
        let out = reply(client).from(VIP).packet();
        let fate = Fate::ToNeighbour([&frame[..14], &out].concat());
        rows.push(slow(says, reply(client).arrives(), fate));
    }
    rows.push(slow("no route", reply(nowhere).arrives(), Fate::Dropped));
    rows.push(slow(
        "the director's own address",
        reply(local).arrives(),
        Fate::Dropped,
    ));
    let expired = tcp(nowhere, VIP, ACK).ttl(1);
    rows.push(slow(
        "nobody can be told",
        arrives_at(crate::network::Wire::Front, &expired.packet()),
        Fate::Dropped,
    ));
    Group {
        commands: ONE,
        rows,
        reasons: &[(Reason::TtlExceeded, 1), (Reason::NoRouteToClient, 3)],
        stats: &[
            "TCP 10.0.0.1:80 5 6 4 288 192",
            "-> 192.168.1.1:80 5 6 4 288 192",
        ],
    }
}

const ONE: &[&str] = &[
    "ipvsadm -A -t 10.0.0.1:80 -s rr",
    "ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.1 -m",
];

#[test]
fn changes_of_servers_take_effect_at_once() {
    in_network(|| {
        let mut director = Director::new(Hook::Tc);
        for hook in Hook::ALL {
            director.reset(hook);
            let more = |rows, reasons, stats, commands| Group {
                commands,
                rows,
                reasons,
                stats,
            };
            let request = |client: &str, flags| tcp(client, VIP, flags);
            let (old, new) = (CLIENT, "10.0.0.101:5000");
            let reply = tcp(SERVER, old, ACK);
            let opened = vec![to("opened", &request(old, SYN), SERVER)];
            play_with(
                &mut director,
                more(
                    opened,
                    &[],
                    &["TCP 10.0.0.1:80 1 1 0 48 0", "-> 192.168.1.1:80 1 1 0 48 0"],
                    ONE,
                ),
            );
            let quiesced = vec![
                to("goes on", &request(old, ACK), SERVER),
                to("goes to the other", &request(new, SYN), "192.168.1.2:80"),
            ];
            play_with(
                &mut director,
                more(
                    quiesced,
                    &[],
                    &[
                        "TCP 10.0.0.1:80 2 3 0 144 0",
                        "-> 192.168.1.1:80 1 2 0 96 0",
                        "-> 192.168.1.2:80 1 1 0 48 0",
                    ],
                    &[
                        "ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.2 -m",
                        "ipvsadm -e -t 10.0.0.1:80 -r 192.168.1.1 -m -w 0",
                    ],
                ),
            );
            let removed = vec![
                dropped("its server is gone", request(old, ACK).arrives()),
                fast(
                    "what it still says goes out, uncounted",
                    reply.arrives(),
                    reply.clone().from(VIP).leaves(),
                ),
            ];
            play_with(
                &mut director,
                more(
                    removed,
                    &[(Reason::ServerRemoved, 1)],
                    &[
                        "TCP 10.0.0.1:80 2 3 0 144 0",
                        "-> 192.168.1.2:80 1 1 0 48 0",
                    ],
                    &["ipvsadm -d -t 10.0.0.1:80 -r 192.168.1.1"],
                ),
            );
            let back = vec![to("goes on again", &request(old, ACK), SERVER)];
            play_with(
                &mut director,
                more(
                    back,
                    &[],
                    &[
                        "TCP 10.0.0.1:80 2 4 0 192 0",
                        "-> 192.168.1.1:80 1 3 0 144 0",
                        "-> 192.168.1.2:80 1 1 0 48 0",
                    ],
                    &["ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.1 -m"],
                ),
            );
            let gone = vec![
                dropped("its service is gone", request(old, ACK).arrives()),
                passed("no new ones", request("10.0.0.102:1", SYN).arrives()),
            ];
            play_with(
                &mut director,
                more(
                    gone,
                    &[(Reason::NoService, 1), (Reason::ServerRemoved, 1)],
                    &["TCP 10.0.0.9:80 0 0 0 0 0"],
                    &[
                        "ipvsadm -A -t 10.0.0.9:80 -s rr",
                        "ipvsadm -D -t 10.0.0.1:80",
                    ],
                ),
            );
            let cleared = vec![
                passed("nothing is looked at", request(old, ACK).arrives()),
                passed("nor this way", reply.arrives()),
            ];
            play_with(
                &mut director,
                more(cleared, &[(Reason::NoMatch, 2)], &[], &["ipvsadm -C"]),
            );
        }
    });
}

#[test]
fn replies_stop_when_the_host_may_not_forward() {
    in_network(|| {
        let mut director = Director::new(Hook::Tc);
        for hook in Hook::ALL {
            director.reset(hook);
            ONE.iter().for_each(|line| drop(director.command(line)));
            let reply = tcp(SERVER, CLIENT, SYN | ACK);
            set_sysctl("ipv4/ip_forward", "0").unwrap();
            director.receive(&tcp(CLIENT, VIP, SYN).arrives());
            let got = director.receive(&reply.arrives());
            assert_eq!(got.fate, Fate::Dropped);
            assert_eq!(director.reasons(), [(Reason::ForwardingDisabled, 1)]);
            set_sysctl("ipv4/ip_forward", "1").unwrap();
            let got = director.receive(&reply.arrives());
            assert_eq!(got.fate, Fate::Sent(reply.from(VIP).leaves()));
        }
    });
}

#[test]
fn errors_are_limited() {
    in_network(|| {
        let mut director = Director::new(Hook::Tc);
        ONE.iter().for_each(|line| drop(director.command(line)));
        director.datapath.memory().config.errors_per_second.set(3);
        let one_processor = crate::processor::stay_on(0);
        let expired = tcp(CLIENT, VIP, SYN).ttl(1).arrives();
        // More than two seconds' worth, in much less.
        let fates: Vec<_> = (0..10).map(|_| director.receive(&expired).fate).collect();
        let told = fates.iter().filter(|fate| matches!(fate, Fate::Sent(_)));
        let told = told.count() as u64;
        assert!(told == 3 || told == 6, "{told}");
        assert_eq!(
            director.reasons(),
            [
                (Reason::TtlExceeded, told),
                (Reason::ErrorLimited, 10 - told)
            ]
        );
        drop(one_processor);
    });
}
