//! Too many at once, and shares that are not shares.

use std::{
    io::Write as _,
    net::{Ipv4Addr, TcpStream},
    os::fd::AsRawFd as _,
};

use furiwake_lab::{Hook, Lab, Nat, Options};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

use crate::support::{
    answer, ask, client, connect, datagrams_from, director, echo, eventually, give_addresses,
    ipvsadm, nat, ok, options, reason, stats, status, up,
};

#[test]
fn w20_a_flood_of_half_open_connections_puts_out_no_established_one() {
    let lab = up(
        &Nat::equal(2).topology().unwrap(),
        &Options {
            director: false,
            services: false,
            ..options("w20", Hook::Tc)
        },
    );
    let log = std::fs::File::create(lab.folder().join("by-hand.log")).unwrap();
    let mut running = director(&lab)
        .command("furiwake")
        .args(["run", "--connections", "1024"])
        .stderr(log)
        .spawn()
        .unwrap();
    eventually("the director answers", || {
        let output = director(&lab).shell("furiwake status").unwrap();
        output.status.success().then_some(())
    });
    ok(
        &director(&lab),
        "ip addr add 192.168.56.50 label eth0-lvsvip dev eth0",
    );
    ipvsadm(&lab, "-A -t 192.168.56.50:80 -s rr");
    for server in ["10.0.0.10", "10.0.0.20"] {
        ipvsadm(&lab, &format!("-a -t 192.168.56.50:80 -r {server} -m"));
    }
    let held: Vec<TcpStream> = (0..100)
        .map(|_| connect(&client(&lab), Nat::VIP, 80).unwrap())
        .collect();
    // A word each, so that the director knows that they have been spoken.
    for mut stream in &held {
        stream.write_all(b"GET / HTTP/1.0\r\n").unwrap();
    }
    let room = status(&lab)["connections"]["room"].as_u64().unwrap() as u32;
    flood(&lab, 4 * room);
    eventually("the flood is over", || {
        let answered = stats(&lab, "192.168.56.50:80")[0];
        (answered + reason(&lab, "table_full") >= u64::from(4 * room)).then_some(())
    });
    // Newcomers find room as well.
    assert_eq!(ask(&lab, 4).len(), 4);
    for mut stream in held {
        stream.write_all(b"\r\n").unwrap();
        assert!(answer(stream).starts_with("rs"));
    }
    ok(
        &director(&lab),
        "curl -sS --unix-socket $FURIWAKE_SOCKET -X POST http://director/api/v1/stop",
    );
    running.wait().unwrap();
}

/// SYNs from addresses that nobody has.
fn flood(lab: &Lab, packets: u32) {
    let open = || {
        socket(
            AddressFamily::Inet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::Raw,
        )
    };
    let raw = client(lab).run(open).unwrap().unwrap();
    let [a, b, c, d] = Nat::VIP.octets();
    let to = SockaddrIn::new(a, b, c, d, 80);
    for number in 0..packets {
        let from = Ipv4Addr::from(0x0a80_0000 + number).octets();
        sendto(raw.as_raw_fd(), &syn(from, number), &to, MsgFlags::empty()).unwrap();
    }
}

fn syn(from: [u8; 4], number: u32) -> Vec<u8> {
    let mut tcp = vec![0; 20];
    tcp[..2].copy_from_slice(&(1024 + (number % 60_000) as u16).to_be_bytes());
    tcp[3] = 80;
    tcp[12..16].copy_from_slice(&[0x50, 2, 0xff, 0xff]);
    let pseudo = [&from[..], &Nat::VIP.octets(), &[0, 6, 0, 20], &tcp].concat();
    let words = pseudo
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    tcp[16..18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    let mut packet = vec![0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0];
    packet.extend(from);
    packet.extend(Nat::VIP.octets());
    packet.extend(tcp);
    packet
}

#[test]
fn w21_large_weights_are_shares_with_maglev() {
    let lab = nat("w21", Hook::Tc);
    give_addresses(&lab, "198.51.100.0/24");
    let shares = |scheduler: &str| {
        ipvsadm(&lab, &format!("-A -u 192.168.56.50:7 -s {scheduler}"));
        for server in ["10.0.0.10", "10.0.0.20"] {
            ipvsadm(
                &lab,
                &format!("-a -u 192.168.56.50:7 -r {server} -m -w 1000"),
            );
        }
        for host in 0..=255 {
            echo(&datagrams_from(&lab, Ipv4Addr::new(198, 51, 100, host), 7)).unwrap();
        }
        let shares = ["10.0.0.10:7", "10.0.0.20:7"].map(|server| stats(&lab, server)[0]);
        ipvsadm(&lab, "-D -u 192.168.56.50:7");
        shares
    };
    assert_eq!(shares("sh"), [0, 256], "the kernel's rule starves one");
    let [one, other] = shares("maglev");
    assert_eq!(one + other, 256);
    assert!(one.abs_diff(other) <= 64, "{one} {other}");
}
