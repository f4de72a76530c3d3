//! Lists with numbers in them, which the recordings of empty directors do not have.

use super::*;
use crate::view::{EngineData, EntryProtocol};

fn view() -> View {
    let mut director = MemoryDirector::default();
    for line in [
        "ipvsadm -A -t 192.0.2.1:443 -s wlc -p 360 -M 255.255.255.0",
        "ipvsadm -a -t 192.0.2.1:443 -r 10.0.0.2 -w 100 -x 10 -y 7",
        "ipvsadm -A -u 192.0.2.1:53 -s rr -o",
        "ipvsadm -a -u 192.0.2.1:53 -r 10.0.0.6 -i --tun-type gue --tun-port 65535 --tun-remcsum",
    ] {
        assert_eq!(typed(&mut director, line), Output::default(), "{line}");
    }
    let mut view = View::of_table(&director.table);
    let service = &mut view.services[0];
    service.counters = Counters {
        connections: 99_999_999,
        in_packets: 100_000_000,
        out_packets: 999_999_999,
        in_bytes: 1_000_000_000,
        out_bytes: 99_999_999_999,
    };
    service.rates = Rates {
        connections: 100_000_000_000,
        in_packets: 100_000_000_000_000,
        out_packets: 5,
        in_bytes: 123_456_789_012,
        out_bytes: 1,
    };
    let server = &mut service.servers[0];
    (server.active, server.inactive, server.persistent) = (5, 6, 2);
    server.counters = Counters {
        in_bytes: 1 << 33,
        ..Counters::default()
    };
    server.rates = service.rates;
    view
}

fn listed(format: Format, exact: bool) -> Vec<String> {
    let options = ListOptions {
        format,
        exact,
        numeric: true,
        ..ListOptions::default()
    };
    let text = list(&view(), &options, &NoNames).unwrap();
    text.lines().skip(3).map(str::to_owned).collect()
}

#[test]
fn default_columns() {
    assert_eq!(
        listed(Format::Default, false),
        [
            "TCP  192.0.2.1:443 wlc persistent 360 mask 255.255.255.0",
            "  -> 10.0.0.2:443                 Route   100    5          6         ",
            "UDP  192.0.2.1:53 rr ops",
            "  -> 10.0.0.6:53                  Tunnel  1      0          0         ",
        ]
    );
}

#[test]
fn counters_are_scaled_and_those_of_servers_do_not_wrap() {
    assert_eq!(
        listed(Format::Stats, false)[..2],
        [
            "TCP  192.0.2.1:443                99999999  100000K  999999K    1000M   99999M",
            "  -> 10.0.0.2:443                        0        0        0    8589M        0",
        ]
    );
}

#[test]
fn exact_counters_have_every_digit() {
    assert_eq!(
        listed(Format::Stats, true)[..2],
        [
            "TCP  192.0.2.1:443                99999999 100000000 999999999 1000000000 99999999999",
            "  -> 10.0.0.2:443                        0        0        0 8589934592        0",
        ]
    );
}

#[test]
fn rates_of_servers_are_scaled_in_bytes_only() {
    assert_eq!(
        listed(Format::Rate, false)[..2],
        [
            "TCP  192.0.2.1:443                    100G     100T        5     123G        1",
            "  -> 10.0.0.2:443                 100000000000 100000000000000        5     123G        1",
        ]
    );
}

#[test]
fn thresholds_persistent_connections_and_tunnels() {
    assert_eq!(
        listed(Format::Thresholds, false)[1],
        "  -> 10.0.0.2:443                 10         7          5          6         "
    );
    assert_eq!(
        listed(Format::PersistentConn, false)[1],
        "  -> 10.0.0.2:443                 100       2           5          6         "
    );
    assert_eq!(
        listed(Format::TunnelInfo, false)[3],
        "  -> 10.0.0.6:53                  Tunnel  gue:65535:r+c 1      0          0         "
    );
}

#[test]
fn connections_are_listed_in_the_order_of_the_table() {
    let connection = |client: &str, virtual_address: &str, state: &str, expires| ConnectionView {
        protocol: EntryProtocol::Tcp,
        state: state.to_owned(),
        expires,
        client: client.parse().unwrap(),
        client_port: 50000,
        virtual_address: virtual_address.parse().unwrap(),
        virtual_port: 80,
        server: "10.0.0.1".parse().unwrap(),
        server_port: 8080,
        template: false,
        engine: None,
    };
    let connections = [
        connection("10.0.0.100", "192.0.2.1", "ESTABLISHED", 899),
        connection("2001:db8::1", "2001:db8::80", "SYN_RECV", 66 * 60 + 40),
        connection("10.0.0.101", "192.0.2.1", "ESTABLISHED", 6000),
    ];
    let options = ListOptions {
        numeric: true,
        ..ListOptions::default()
    };
    assert_eq!(
        list_connections(&connections, &options, &NoNames),
        "IPVS connection entries\n\
         pro expire state       source             virtual            destination\n\
         TCP 14:59  ESTABLISHED 10.0.0.100:50000   192.0.2.1:80       10.0.0.1:8080\n\
         TCP 66:40  SYN_RECV    [2001:db8::1]:50000 [2001:db8::80]:80  10.0.0.1:8080\n\
         TCP 100:00 ESTABLISHED 10.0.0.101:50000   192.0.2.1:80       10.0.0.1:8080\n"
    );
}

#[test]
fn templates_of_marks_and_data_of_engines_have_rows_of_their_own() {
    let template = |protocol, virtual_address: [u8; 4], virtual_port, engine| ConnectionView {
        protocol,
        state: "ASSURED".into(),
        expires: 59,
        client: [10, 0, 0, 100].into(),
        client_port: 0,
        virtual_address: virtual_address.into(),
        virtual_port,
        server: [192, 168, 1, 3].into(),
        server_port: virtual_port,
        template: true,
        engine,
    };
    let engine = EngineData {
        name: "sip".into(),
        data: "7@example.org".into(),
    };
    let rows = [
        template(EntryProtocol::Ip, [0, 0, 0, 1], 0, None),
        template(EntryProtocol::Udp, [10, 0, 0, 1], 5060, Some(engine)),
    ];
    let listed = |format| {
        let options = ListOptions {
            format,
            numeric: true,
            ..ListOptions::default()
        };
        list_connections(&rows, &options, &NoNames)
    };
    // The row of the mark is as recorded.
    assert_eq!(
        listed(Format::Default),
        "IPVS connection entries\n\
         pro expire state       source             virtual            destination\n\
         IP  00:59  ASSURED     10.0.0.100:0       0.0.0.1:0          192.168.1.3:0\n\
         UDP 00:59  ASSURED     10.0.0.100:0       10.0.0.1:5060      192.168.1.3:5060\n"
    );
    assert_eq!(
        listed(Format::PersistentConn),
        "IPVS connection entries\n\
         pro expire state       source             virtual            destination        pe name          pe_data\n\
         IP  00:59  ASSURED     10.0.0.100:0       0.0.0.1:0          192.168.1.3:0\n\
         UDP 00:59  ASSURED     10.0.0.100:0       10.0.0.1:5060      192.168.1.3:5060 sip                7@example.org\n"
    );
}

#[test]
fn long_names_of_ipv4_are_cut() {
    struct Long;
    impl Names for Long {
        fn host(&self, _: &str) -> Option<Ipv4Addr> {
            None
        }
        fn host_name(&self, _: IpAddr) -> Option<String> {
            Some("a-host-with-a-rather-long-name.example.org".into())
        }
        fn port(&self, _: &str, _: Protocol) -> Option<u16> {
            None
        }
        fn port_name(&self, _: u16, _: Protocol) -> Option<String> {
            None
        }
    }
    let text = list(&view(), &ListOptions::default(), &Long).unwrap();
    let lines: Vec<&str> = text.lines().skip(3).collect();
    assert_eq!(
        lines[..2],
        [
            "TCP  a-host-with-a-rather-long-na wlc persistent 360 mask 255.255.255.0",
            "  -> a-host-with-a-rather-long-na Route   100    5          6         ",
        ]
    );
}

#[test]
fn a_server_of_another_port_is_another_server() {
    let mut director = MemoryDirector::default();
    typed(&mut director, "ipvsadm -A -t 10.0.0.1:80 -s rr");
    typed(&mut director, "ipvsadm -a -t 10.0.0.1:80 -r 10.0.0.2:81 -m");
    typed(&mut director, "ipvsadm -a -t 10.0.0.1:80 -r 10.0.0.2:80 -m");
    let Table { services, .. } = director.table;
    let ports: Vec<u16> = services[0]
        .servers
        .iter()
        .map(|server| {
            let ServerKey { port, .. } = server.key;
            port
        })
        .collect();
    assert_eq!(ports, [80, 81]);
}
