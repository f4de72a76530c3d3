//! What people read, compared as a whole.

use furiwake_lvs::model::{
    Protocol, SchedulerName, Server, ServerKey, ServiceConfig, ServiceKey, Settings, Timeouts,
    TunnelChecksum,
};
use furiwake_lvs::{
    sync::{SyncDaemon, SyncRole},
    view::{Counters, Rates},
};

use super::*;
use crate::api::schema::{Connections, Interface, Unattached};

fn busy() -> (Status, View) {
    let server = |last: u8, weight| ServerView {
        server: Server {
            key: ServerKey {
                address: [10, 0, 0, last].into(),
                port: 80,
            },
            forward: Forward::Masquerade,
            weight,
            upper_threshold: 0,
            lower_threshold: 0,
            tunnel: furiwake_lvs::model::Tunnel {
                checksum: TunnelChecksum::None,
                ..Default::default()
            },
        },
        active: 3,
        inactive: 12,
        persistent: 0,
        counters: Counters::default(),
        rates: Rates::default(),
    };
    let view = View {
        connection_table_size: 1_048_576,
        services: vec![ServiceView {
            config: ServiceConfig {
                key: ServiceKey::Address {
                    protocol: Protocol::Tcp,
                    address: [192, 168, 56, 50].into(),
                    port: 80,
                },
                scheduler: SchedulerName("rr".into()),
                scheduler_flags: 0,
                persistence: None,
                persistence_engine: None,
                one_packet: false,
                slow_start: 0,
            },
            counters: Counters::default(),
            rates: Rates {
                connections: 37,
                ..Rates::default()
            },
            servers: vec![server(20, 1), server(10, 0)],
        }],
        timeouts: Timeouts::default(),
        settings: Settings::default(),
        sync_daemons: Vec::new(),
    };
    let status = Status {
        version: "0.1.0".into(),
        pid: 4711,
        since: 1_700_000_000,
        adopted: true,
        interfaces: vec![
            Interface {
                ifindex: 2,
                name: "eth0".into(),
                hook: "xdp+tcx".into(),
                reason: None,
            },
            Interface {
                ifindex: 3,
                name: "eth1".into(),
                hook: "tcx".into(),
                reason: Some(
                    "veth hands over super-packets, which native XDP would have to refuse".into(),
                ),
            },
        ],
        unattached: vec![Unattached {
            name: "eth2".into(),
            reason: "cannot listen on eth2: the driver says no".into(),
        }],
        next_hops: vec![
            NextHopStatus {
                server: [10, 0, 0, 10].into(),
                interface: Some("eth1".into()),
                gateway: Some([10, 0, 0, 10].into()),
                mac: Some("02:00:00:00:00:0a".into()),
                mtu: Some(1500),
                state: "reachable".into(),
            },
            NextHopStatus {
                server: [10, 0, 0, 20].into(),
                interface: Some("eth1".into()),
                gateway: Some([10, 0, 0, 20].into()),
                mac: None,
                mtu: Some(1500),
                state: "does not answer ARP yet: left to the host's stack".into(),
            },
        ],
        reasons: vec![
            Reason {
                name: "no_service".into(),
                meaning: "No virtual service matches the packet.".into(),
                drops: false,
                packets: 12_345,
            },
            Reason {
                name: "unseen".into(),
                meaning: "".into(),
                drops: true,
                packets: 0,
            },
        ],
        services: 1,
        servers: 2,
        connections: Connections {
            active: 6,
            inactive: 24,
            room: 1_048_576,
        },
        warnings: Vec::new(),
    };
    (status, view)
}

#[test]
fn a_busy_director_is_told_in_eighty_columns() {
    let (status, view) = busy();
    let text = text(&status, &view);
    assert!(
        text.lines().all(|line| line.chars().count() <= WIDTH),
        "{text}"
    );
    assert_eq!(
        text,
        "\
furiwake 0.1.0   process 4711
runs since 2023-11-14 22:13:20 UTC; data plane adopted from an earlier daemon

Interfaces
  eth0            xdp+tcx
  eth1            tcx              veth hands over super-packets, which native
                                   XDP would have to refuse
  eth2            NOT LISTENING    cannot listen on eth2: the driver says no

Services
  tcp 192.168.56.50:80  rr   37 conn/s
    -> 10.0.0.20:80          masq   weight 1   3 active, 12 inactive
    -> 10.0.0.10:80          masq   quiesced   3 active, 12 inactive

Next hops
  10.0.0.10       eth1 02:00:00:00:00:0a      reachable
  10.0.0.20       eth1                        does not answer ARP yet: left to
                                              the host's stack

Connections
  6 active, 24 inactive  room for 1048576

Packets not forwarded
         12345  no_service: No virtual service matches the packet (to the host's
                stack)
"
    );
}

#[test]
fn an_empty_director_says_what_to_do_first() {
    let (status, _) = busy();
    let status = Status {
        interfaces: Vec::new(),
        unattached: Vec::new(),
        next_hops: Vec::new(),
        reasons: Vec::new(),
        adopted: false,
        ..status
    };
    let text = text(&status, &View::default());
    assert!(
        text.contains("add one: ipvsadm -A -t ADDRESS:PORT -s rr"),
        "{text}"
    );
    assert!(
        text.contains("no Ethernet interface is here (yet)"),
        "{text}"
    );
}

#[test]
fn what_is_wrong_comes_first_and_what_is_changed_is_told() {
    let (mut status, mut view) = busy();
    status.warnings = vec!["net.ipv4.ip_forward is 0".into()];
    view.settings.conn_reuse_mode = 0;
    view.settings.est_nice = 5;
    view.sync_daemons.push(SyncDaemon {
        role: SyncRole::Backup,
        interface: "eth0".into(),
        sync_id: 7,
        max_length: None,
        group: None,
        port: None,
        ttl: None,
    });
    let service = &mut view.services[0];
    service.config.slow_start = 30;
    service.config.one_packet = true;
    service.servers[0].server.upper_threshold = 100;
    let text = text(&status, &view);
    assert!(
        text.lines().all(|line| line.chars().count() <= WIDTH),
        "{text}"
    );
    for part in [
        "\n\nTo be looked at\n  !  net.ipv4.ip_forward is 0\n\nInterfaces\n",
        "rr, one packet each, slow start 30 s   37 conn/s\n",
        "3 active, 12 inactive of 100\n",
        "\
Settings that are not at their default
  conn_reuse_mode=0              A new connection on a used port is scheduled
                                 anew: 0 never, 1 when the old one ended, 2 also
                                 in FIN_WAIT
  est_nice=5                     kept, without effect here: rates are estimated
                                 by the daemon, counters by the programs

Sync daemons
  backup on eth0, id 7  kept as state; nothing is sent or heard yet
",
    ] {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
}

#[test]
fn times_are_dates() {
    assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
    assert_eq!(utc(951_827_696), "2000-02-29 12:34:56 UTC");
    assert_eq!(utc(1_735_689_599), "2024-12-31 23:59:59 UTC");
}
