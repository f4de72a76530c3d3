//! Servers that leave, by removal or by weight 0, and those who still come.

use std::time::Duration;

use furiwake_lab::{Hook, Nat};

use crate::support::{ask, datagrams_from, echo, eventually, ipvsadm, nat, reason, set, stats};

#[test]
fn w3_datagrams_of_a_removed_server_reach_another_if_asked() {
    for hook in [Hook::Xdp, Hook::Tc] {
        let lab = nat("w3", hook);
        ipvsadm(&lab, "-A -u 192.168.56.50:7 -s rr");
        for server in ["10.0.0.10", "10.0.0.20"] {
            ipvsadm(&lab, &format!("-a -u 192.168.56.50:7 -r {server} -m"));
        }
        let socket = datagrams_from(&lab, Nat::CLIENT, 7);
        echo(&socket).unwrap();
        assert_eq!(stats(&lab, "10.0.0.20:7")[0], 1);
        // The kernel's way, which is the default.
        ipvsadm(&lab, "-d -u 192.168.56.50:7 -r 10.0.0.20");
        let dropped = reason(&lab, "server_removed");
        socket.send(b"anyone there?").unwrap();
        eventually("the datagram is dropped", || {
            (reason(&lab, "server_removed") > dropped).then_some(())
        });
        socket
            .set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        assert!(socket.recv(&mut [0; 16]).is_err());
        socket
            .set_read_timeout(Some(crate::support::PATIENCE))
            .unwrap();
        // The next one after the setting is made goes to who is there.
        set(&lab, "expire_nodest_conn 1");
        echo(&socket).unwrap();
        assert_eq!(stats(&lab, "10.0.0.10:7")[..2], [1, 1]);
    }
}

#[test]
fn w5_a_persistent_client_leaves_a_quiesced_server_if_asked() {
    let lab = nat("w5", Hook::Xdp);
    ipvsadm(&lab, "-E -t 192.168.56.50:80 -s rr -p 300");
    assert_eq!(ask(&lab, 2), ["rs2"; 2]);
    ipvsadm(&lab, "-e -t 192.168.56.50:80 -r 10.0.0.20 -m -w 0");
    assert_eq!(ask(&lab, 2), ["rs2"; 2], "the kernel's way is the default");
    set(&lab, "expire_quiescent_template 1");
    assert_eq!(ask(&lab, 3), ["rs1"; 3]);
    let connections = ipvsadm(&lab, "-Lnc");
    assert!(connections.contains("192.168.56.50:65535"), "{connections}");
}
