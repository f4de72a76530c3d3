//! Long transfers, compared byte by byte.

use std::thread;

use furiwake_lab::{Hook, Lab, Nat};

use crate::support::{bare, client, connect, director, ipvsadm, listen, ok, read_body, send_body};

const GIB: u64 = 1 << 30;

#[test]
fn a_gibibyte_arrives_intact_with_tc_and_offloads() {
    let lab = bare("gib-tc", Hook::Tc);
    arrives_intact(&lab, GIB);
}

#[test]
fn a_gibibyte_arrives_intact_with_xdp() {
    let lab = bare("gib-xdp", Hook::Xdp);
    arrives_intact(&lab, GIB);
}

#[test]
fn unfinished_checksums_and_super_packets_arrive_intact_although_xdp_sees_them() {
    let lab = bare("gib-mixed", Hook::Xdp);
    for name in ["client", "rs1", "rs2"] {
        let node = lab.node(name).unwrap();
        ok(&node, "ethtool -K eth0 tx on tso on gso on");
    }
    ok(
        &director(&lab),
        "ethtool -K eth0 tx on tso on gso on; ethtool -K eth1 tx on tso on gso on",
    );
    arrives_intact(&lab, GIB / 4);
}

/// Down and then up, on one connection each.
fn arrives_intact(lab: &Lab, length: u64) {
    const PORT: u16 = 8080;
    ipvsadm(lab, "-A -t 192.168.56.50:8080 -s rr");
    ipvsadm(lab, "-a -t 192.168.56.50:8080 -r 10.0.0.10 -m");
    let listener = listen(&lab.node("rs1").unwrap(), PORT);
    let upload = length / 8;
    thread::scope(|scope| {
        scope.spawn(|| {
            let (stream, _) = listener.accept().unwrap();
            send_body(stream, length).unwrap();
            let (stream, _) = listener.accept().unwrap();
            assert_eq!(read_body(stream).unwrap(), upload);
        });
        let stream = connect(&client(lab), Nat::VIP, PORT).unwrap();
        assert_eq!(read_body(stream).unwrap(), length);
        let stream = connect(&client(lab), Nat::VIP, PORT).unwrap();
        send_body(stream, upload).unwrap();
    });
}
