//! Direct routing: servers that have the virtual address, too, and answer clients themselves.

use furiwake_lab::{
    Choices, Hook, Lab, Nat, Preset, Role,
    load::{Load, Way},
};

use crate::support::{Wire, ask, client, director, ipvsadm, kill, ok, options, stats, up};

#[test]
fn servers_answer_past_the_director_with_xdp() {
    answers_bypass_the_director(&direct("dr-xdp", Hook::Xdp));
}

#[test]
fn servers_answer_past_the_director_with_tc() {
    answers_bypass_the_director(&direct("dr-tc", Hook::Tc));
}

fn answers_bypass_the_director(lab: &Lab) {
    const SERVERS: [&str; 2] = ["192.168.56.110:80", "192.168.56.120:80"];
    let servers: Vec<_> = lab
        .topology()
        .machines(Role::Server)
        .map(|server| lab.node(&server.name).unwrap())
        .collect();
    let at_servers = servers.iter().map(Wire::tap);
    let at_servers: Vec<_> = at_servers.collect();
    let (at_client, at_director) = (Wire::tap(&client(lab)), Wire::tap(&director(lab)));

    let alternating: Vec<&str> = ["rs2", "rs1"].into_iter().cycle().take(100).collect();
    assert_eq!(ask(lab, 100), alternating);
    for wire in &at_servers {
        let asked = wire.ip(|packet| !packet.sent && packet.is_syn());
        assert_eq!(asked.len(), 50);
        for packet in asked {
            assert_eq!(packet.source(), "192.168.56.1");
            assert_eq!(packet.bytes[16..20], Nat::VIP.octets());
            assert_eq!(packet.bytes[8], 63, "one hop was taken off");
        }
    }
    let answers = at_client.ip(|packet| !packet.sent && packet.protocol() == 6);
    assert!(answers.len() >= 300, "{}", answers.len());
    for packet in answers {
        assert_eq!(packet.source(), "192.168.56.50");
        assert_eq!(packet.bytes[8], 64, "nobody forwarded it");
    }
    let from_vip = |packet: &crate::support::Packet| {
        packet.protocol() == 6 && packet.source() == "192.168.56.50"
    };
    assert_eq!(at_director.ip(from_vip).len(), 0, "answers at the director");

    for server in SERVERS {
        let row = stats(lab, server);
        assert_eq!((row[0], row[2], row[4]), (50, 0, 0), "{server}: {row:?}");
        assert!(
            row[1] >= 4 * 50 && row[3] > 4 * 50 * 40,
            "{server}: {row:?}"
        );
    }
    // The director sees one side only: such connections end in FIN_WAIT.
    let connections = ipvsadm(lab, "-Lnc");
    assert_eq!(
        connections.matches("FIN_WAIT").count(),
        100,
        "{connections}"
    );

    for way in [Way::Down, Way::Up] {
        let load = Load {
            address: Nat::VIP,
            port: 80,
            certificate: None,
            requests: 1,
            concurrency: 1,
        };
        let transfer = load.transfer(&client(lab), way, 64 << 20).unwrap();
        transfer.outcome.unwrap();
    }
    kill(lab);
    assert_eq!(ask(lab, 4), ["rs2", "rs1", "rs2", "rs1"]);
    lab.mend_node("director").unwrap();
    assert_eq!(stats(lab, "192.168.56.50:80")[0], 106);
}

#[test]
fn a_service_can_have_servers_of_both_methods_and_its_connections_keep_theirs() {
    let lab = direct("dr-mixed", Hook::Tc);
    // Answers of a masqueraded server must come by the director.
    ok(
        &lab.node("rs1").unwrap(),
        "ip route add 192.168.56.1/32 via 192.168.56.10 && sysctl -q net.ipv4.conf.all.accept_redirects=0",
    );
    ok(
        &director(&lab),
        "sysctl -q net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0",
    );
    ipvsadm(&lab, "-e -t 192.168.56.50:80 -r 192.168.56.110 -m");
    assert_eq!(ask(&lab, 4), ["rs2", "rs1", "rs2", "rs1"]);
    assert!(stats(&lab, "192.168.56.110:80")[2] > 0);
    assert_eq!(stats(&lab, "192.168.56.120:80")[2], 0);
    let listing = ipvsadm(&lab, "-Ln");
    assert!(
        listing.contains("192.168.56.110:80            Masq")
            && listing.contains("192.168.56.120:80            Route"),
        "{listing}"
    );
}

/// The preset, running.
fn direct(name: &str, hook: Hook) -> Lab {
    let preset = Preset::named("dr").unwrap();
    up(
        &preset.topology(&Choices::default()).unwrap(),
        &options(name, hook),
    )
}
