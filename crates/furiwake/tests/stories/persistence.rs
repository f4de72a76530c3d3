//! Clients that stay with their server.

use furiwake_lab::{Hook, Lab, Nat};

use crate::support::{
    ask, ask_vip, client, datagrams_from, echo, eventually, give_addresses, ipvsadm, nat, set,
    stats,
};

#[test]
fn a_client_stays_with_its_server_and_others_are_balanced() {
    let lab = nat("persist", Hook::Tc);
    give_addresses(&lab, "198.51.100.0/24");
    ipvsadm(&lab, "-E -t 192.168.56.50:80 -s rr -p 300");
    assert_eq!(ask(&lab, 10), ["rs2"; 10]);
    assert_eq!(from(&lab, "198.51.100.1", 5), ["rs1"; 5]);
    assert_eq!(from(&lab, "198.51.100.2", 5), ["rs2"; 5]);
    assert_eq!(ask(&lab, 5), ["rs2"; 5]);
    for client in ["192.168.56.1:0", "198.51.100.1:0", "198.51.100.2:0"] {
        let seconds = left(&lab, client);
        assert!((240..=300).contains(&seconds), "{client}: {seconds}");
    }
    let first = left(&lab, "198.51.100.1:0");
    eventually("time passes", || {
        (left(&lab, "198.51.100.1:0") < first).then_some(())
    });
    // Every connection begins the time anew; other clients' connections do not.
    let (mine, other) = (left(&lab, "192.168.56.1:0"), left(&lab, "198.51.100.1:0"));
    assert!(mine < 300 && other < 300);
    assert_eq!(ask(&lab, 1), ["rs2"]);
    assert!(left(&lab, "192.168.56.1:0") >= 299.min(mine + 1));
    assert!(left(&lab, "198.51.100.1:0") <= other);

    let listing = ipvsadm(&lab, "-Ln");
    assert!(
        listing.contains("TCP  192.168.56.50:80 rr persistent 300\n"),
        "{listing}"
    );
    // Templates are no connections.
    assert_eq!(stats(&lab, "192.168.56.50:80")[0], 26);
}

#[test]
fn under_a_netmask_neighbours_are_one_client() {
    let lab = nat("netmask", Hook::Xdp);
    give_addresses(&lab, "198.51.0.0/16");
    ipvsadm(&lab, "-E -t 192.168.56.50:80 -s rr -p 300 -M 255.255.255.0");
    assert_eq!(from(&lab, "198.51.100.1", 2), ["rs2"; 2]);
    assert_eq!(from(&lab, "198.51.100.77", 2), ["rs2"; 2]);
    assert_eq!(from(&lab, "198.51.101.1", 2), ["rs1"; 2]);
    assert_eq!(from(&lab, "198.51.100.255", 1), ["rs2"]);
    assert_eq!(from(&lab, "198.51.101.255", 1), ["rs1"]);
    let connections = ipvsadm(&lab, "-Lnc");
    let mut templates: Vec<&str> = connections
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3))
        .filter(|client| client.ends_with(":0"))
        .collect();
    templates.sort_unstable();
    assert_eq!(templates, ["198.51.100.0:0", "198.51.101.0:0"]);
}

#[test]
fn a_client_is_free_when_its_time_is_up() {
    let lab = nat("forgotten", Hook::Tc);
    ipvsadm(&lab, "--set 0 0 1");
    ipvsadm(&lab, "-A -u 192.168.56.50:7 -s rr -p 2");
    for server in ["10.0.0.10", "10.0.0.20"] {
        ipvsadm(&lab, &format!("-a -u 192.168.56.50:7 -r {server} -m"));
    }
    for server in ["10.0.0.20:7", "10.0.0.10:7"] {
        let before = stats(&lab, server)[0];
        for _ in 0..3 {
            echo(&datagrams_from(&lab, Nat::CLIENT, 7)).unwrap();
        }
        assert_eq!(stats(&lab, server)[0], before + 3, "{server}");
        eventually("the client is forgotten", || {
            (!ipvsadm(&lab, "-Lnc").contains("UDP")).then_some(())
        });
    }
}

#[test]
fn a_restarted_daemon_keeps_clients_with_their_servers() {
    let lab = nat("persist-kill", Hook::Xdp);
    give_addresses(&lab, "198.51.100.0/24");
    ipvsadm(&lab, "-E -t 192.168.56.50:80 -s rr -p 300");
    assert_eq!(from(&lab, "198.51.100.1", 1), ["rs2"]);
    assert_eq!(from(&lab, "198.51.100.2", 1), ["rs1"]);
    crate::support::kill(&lab);
    assert_eq!(from(&lab, "198.51.100.1", 3), ["rs2"; 3]);
    lab.mend_node("director").unwrap();
    assert_eq!(from(&lab, "198.51.100.2", 3), ["rs1"; 3]);
    assert_eq!(from(&lab, "198.51.100.1", 3), ["rs2"; 3]);
}

#[test]
fn clients_of_a_quiesced_server_move_if_asked() {
    let lab = nat("quiesced", Hook::Tc);
    give_addresses(&lab, "198.51.100.0/24");
    ipvsadm(&lab, "-E -t 192.168.56.50:80 -s rr -p 300");
    assert_eq!(from(&lab, "198.51.100.1", 2), ["rs2"; 2]);
    ipvsadm(&lab, "-e -t 192.168.56.50:80 -r 10.0.0.20 -m -w 0");
    assert_eq!(from(&lab, "198.51.100.1", 2), ["rs2"; 2]);
    assert_eq!(from(&lab, "198.51.100.2", 2), ["rs1"; 2]);
    set(&lab, "expire_quiescent_template 1");
    assert_eq!(from(&lab, "198.51.100.1", 2), ["rs1"; 2]);
    ipvsadm(&lab, "-e -t 192.168.56.50:80 -r 10.0.0.20 -m -w 1");
    assert_eq!(from(&lab, "198.51.100.1", 2), ["rs1"; 2]);
}

fn from(lab: &Lab, address: &str, times: u32) -> Vec<String> {
    ask_vip(&client(lab), times, &format!("--interface {address}"))
}

/// Seconds that a client's template of port 80 has left, by `ipvsadm -Lnc`.
fn left(lab: &Lab, client: &str) -> u32 {
    let connections = ipvsadm(lab, "-Lnc");
    let mut lines = connections.lines();
    let line = lines.find(|line| line.split_whitespace().nth(3) == Some(client));
    let line = line.unwrap_or_else(|| panic!("{client} in\n{connections}"));
    let time = line.split_whitespace().nth(1).unwrap();
    let (minutes, seconds) = time.split_once(':').unwrap();
    minutes.parse::<u32>().unwrap() * 60 + seconds.parse::<u32>().unwrap()
}
