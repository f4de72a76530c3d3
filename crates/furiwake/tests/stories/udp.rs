//! UDP through the director.

use std::{
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsRawFd as _,
    thread,
};

use furiwake_lab::{Hook, Lab, Nat, Node};

use crate::support::{PATIENCE, Packet, Wire, bare, client, eventually, ipvsadm, nat, reason};

#[test]
fn datagrams_are_answered_by_the_virtual_address_with_xdp() {
    datagrams_are_answered(&nat("udp-xdp", Hook::Xdp));
}

#[test]
fn datagrams_are_answered_by_the_virtual_address_with_tc() {
    datagrams_are_answered(&nat("udp-tc", Hook::Tc));
}

fn datagrams_are_answered(lab: &Lab) {
    echo_service(lab, 7);
    for round in 0..10_u8 {
        let socket = connected(&client(lab), 7);
        for length in [0, 1, 2, 999, 1472] {
            assert_eq!(echo(&socket, &vec![round; length]), vec![round; length]);
        }
    }
    let listing = ipvsadm(lab, "-Ln -u 192.168.56.50:7");
    for server in ["10.0.0.10:7", "10.0.0.20:7"] {
        let row = listing.lines().find(|line| line.contains(server)).unwrap();
        assert!(row.trim_end().ends_with("0          5"), "{row}");
    }
}

#[test]
fn datagrams_larger_than_a_packet_arrive_whole_with_xdp() {
    large_datagrams_arrive(&nat("large-xdp", Hook::Xdp));
}

#[test]
fn datagrams_larger_than_a_packet_arrive_whole_with_tc() {
    large_datagrams_arrive(&nat("large-tc", Hook::Tc));
}

fn large_datagrams_arrive(lab: &Lab) {
    echo_service(lab, 7);
    let wire = Wire::tap(&client(lab));
    for _ in 0..4 {
        let socket = connected(&client(lab), 7);
        for length in [1473, 3000, 20_000] {
            let sent: Vec<u8> = (0..length).map(|at: u32| (at ^ (at >> 8)) as u8).collect();
            assert_eq!(echo(&socket, &sent), sent);
        }
    }
    let fragments =
        wire.ip(|packet| packet.source() == "192.168.56.50" && packet.bytes[6] & 0x20 != 0);
    assert!(fragments.len() >= 4 * 4, "{} fragments", fragments.len());
}

#[test]
fn datagrams_without_a_checksum_pass_with_xdp() {
    datagrams_without_checksum_pass(&bare("nosum-xdp", Hook::Xdp));
}

#[test]
fn datagrams_without_a_checksum_pass_with_tc() {
    datagrams_without_checksum_pass(&bare("nosum-tc", Hook::Tc));
}

fn datagrams_without_checksum_pass(lab: &Lab) {
    const PORT: u16 = 5353;
    echo_service(lab, PORT);
    let servers = ["rs1", "rs2"].map(|name| {
        let node = lab.node(name).unwrap();
        let socket = node.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)));
        without_checksums(socket.unwrap().unwrap())
    });
    let wire = Wire::tap(&lab.node("rs1").unwrap());
    let rounds = 8;
    thread::scope(|scope| {
        for server in &servers {
            scope.spawn(move || {
                let mut datagram = [0; 2048];
                for _ in 0..rounds / 2 {
                    let (length, from) = server.recv_from(&mut datagram).unwrap();
                    server.send_to(&datagram[..length], from).unwrap();
                }
            });
        }
        for round in 0..rounds {
            let socket = without_checksums(connected(&client(lab), PORT));
            assert_eq!(echo(&socket, &[round; 100]), [round; 100]);
        }
    });
    let answers = wire.ip(|packet| packet.sent && packet.protocol() == 17);
    assert_eq!(answers.len(), usize::from(rounds / 2));
    for answer in answers {
        assert_eq!(
            answer.payload()[6..8],
            [0, 0],
            "the server adds no checksum"
        );
    }
}

#[test]
fn datagrams_with_ip_options_and_the_last_hop_are_answered() {
    let lab = nat("options", Hook::Xdp);
    echo_service(&lab, 7);
    let socket = connected(&client(&lab), 7);
    // Record route, with room for four.
    let mut record = [0_u8; 20];
    record[..3].copy_from_slice(&[7, 19, 4]);
    set(&socket, libc::IPPROTO_IP, libc::IP_OPTIONS, &record);
    assert_eq!(echo(&socket, b"by the way"), b"by the way");

    // Two hops are just enough: the director is one.
    let socket = connected(&client(&lab), 7);
    socket.set_ttl(2).unwrap();
    assert_eq!(echo(&socket, b"far"), b"far");
    let wire = Wire::tap(&client(&lab));
    socket.set_ttl(1).unwrap();
    socket.send(b"too far").unwrap();
    let complaint = eventually("the client is told", || {
        let packets = wire.ip(|packet| !packet.sent);
        packets.iter().find_map(Packet::icmp)
    });
    const TIME_EXCEEDED: u8 = 11;
    let about = ("192.168.56.1".to_owned(), "192.168.56.50".to_owned());
    assert_eq!(complaint, (TIME_EXCEEDED, 0, about.0, about.1));
    assert_eq!(reason(&lab, "ttl_exceeded"), 1);
}

fn echo_service(lab: &Lab, port: u16) {
    ipvsadm(lab, &format!("-A -u 192.168.56.50:{port} -s rr"));
    for server in ["10.0.0.10", "10.0.0.20"] {
        ipvsadm(lab, &format!("-a -u 192.168.56.50:{port} -r {server} -m"));
    }
}

/// A socket that takes answers from the virtual address only.
fn connected(node: &Node, port: u16) -> UdpSocket {
    let socket = node.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Nat::VIP, port))?;
        Ok::<_, std::io::Error>(socket)
    });
    let socket = socket.unwrap().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn echo(socket: &UdpSocket, message: &[u8]) -> Vec<u8> {
    socket.send(message).unwrap();
    let mut answer = vec![0; 65536];
    let length = socket.recv(&mut answer).unwrap();
    answer.truncate(length);
    answer
}

fn without_checksums(socket: UdpSocket) -> UdpSocket {
    set(
        &socket,
        libc::SOL_SOCKET,
        libc::SO_NO_CHECK,
        &1_i32.to_ne_bytes(),
    );
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn set(socket: &UdpSocket, level: i32, option: i32, value: &[u8]) {
    // SAFETY: the kernel reads as many bytes as there are.
    let failed = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    };
    assert_eq!(failed, 0, "{}", std::io::Error::last_os_error());
}
