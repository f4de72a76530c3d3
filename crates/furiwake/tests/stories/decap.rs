//! A machine at the end of tunnels: what comes in ipip, GUE and GRE reaches its own server, which sees the
//! client and the virtual address.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsRawFd as _, OwnedFd},
    process::{Child, ChildStdout, Stdio},
};

use furiwake_lab::{Hook, Lab, Node};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

use crate::support::{PATIENCE, bare, director, eventually, ok, programs, stderr};

const VIP: [u8; 4] = [203, 0, 113, 5];
const CLIENT: [u8; 4] = [198, 51, 100, 7];
const DIRECTOR: [u8; 4] = [10, 0, 0, 1];
const HERE: [u8; 4] = [10, 0, 0, 10];
const GUE_PORT: u16 = 6080;

#[test]
fn a_server_behind_every_kind_of_tunnel_sees_client_and_virtual_address() {
    let lab = bare("decap", Hook::Tc);
    let server = server(&lab);
    let socket = listen(&server);
    let mut running = Running::start(&server, "203.0.113.5");
    let said = running.line();
    assert!(
        said.starts_with("taking packets to 203.0.113.5 out of ipip, gue (port 6080), gre on eth0"),
        "{said}"
    );
    assert_eq!(programs(&server), ["eth0 tcx"]);

    let sender = Sender::on(&director(&lab));
    let request = request(b"ipip");
    sender.send(4, &request);
    assert_eq!(heard(&socket), "ipip");
    for has_checksum in [false, true] {
        sender.send(47, &gre(&self::request(b"gre"), has_checksum));
        assert_eq!(heard(&socket), "gre");
        sender.send(17, &gue(&self::request(b"gue"), has_checksum));
        assert_eq!(heard(&socket), "gue");
    }
    // A wrong one: it is counted, and the next is heard.
    let mut wrong = gre(&request, true);
    wrong[4] ^= 1;
    sender.send(47, &wrong);
    let large = vec![b'x'; 1400];
    sender.send(4, &self::request(&large));
    assert_eq!(heard(&socket).len(), large.len());

    running.signal("USR1");
    let ipip = running.line();
    assert_eq!(ipip, "ipip                          2  1460 bytes\n");
    let (last, _) = running.end();
    let counted = |name: &str, packets: &str| {
        last.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(name) && words.next() == Some(packets)
        })
    };
    assert!(
        counted("gue", "2") && counted("gre", "2") && counted("bad_checksum", "1"),
        "{last}"
    );
    assert!(programs(&server).is_empty());
}

#[test]
fn a_killed_end_of_tunnels_leaves_nothing_attached() {
    let lab = bare("decap-killed", Hook::Tc);
    let server = server(&lab);
    let mut running = Running::start(&server, "203.0.113.5");
    running.line();
    running.signal("KILL");
    running.child.wait().unwrap();
    eventually("the link is gone", || {
        programs(&server).is_empty().then_some(())
    });
}

#[test]
fn what_keeps_a_machine_from_serving_is_said_with_the_remedy() {
    let lab = bare("decap-advice", Hook::Tc);
    let server = server(&lab);
    ok(&server, "sysctl -w net.ipv4.conf.eth0.rp_filter=1");
    let mut running = Running::start(&server, "--interface eth0 203.0.113.99");
    running.line();
    let (_, said) = running.end();
    for remedy in [
        "ip addr add 203.0.113.99/32 dev lo",
        "sysctl -w net.ipv4.conf.eth0.rp_filter=2",
    ] {
        assert!(said.contains(remedy), "{said}");
    }
    let output = server
        .shell("furiwake decap --interface eth7 203.0.113.5")
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("there is no interface eth7"),
        "{output:?}"
    );
}

/// A real server with the virtual address.
fn server(lab: &Lab) -> Node {
    let server = lab.node("rs1").unwrap();
    ok(&server, "ip addr add 203.0.113.5/32 dev lo");
    ok(
        &server,
        "sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0",
    );
    server
}

/// The command, running.
struct Running<'a> {
    node: &'a Node,
    child: Child,
    /// Its number on the node.
    number: String,
    lines: BufReader<ChildStdout>,
}

impl<'a> Running<'a> {
    fn start(node: &'a Node, words: &str) -> Self {
        let mut child = node
            .command("/bin/sh")
            .args(["-c", &format!("echo $$; exec furiwake decap {words}")])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut running = Self {
            node,
            lines: BufReader::new(child.stdout.take().unwrap()),
            child,
            number: String::new(),
        };
        running.number = running.line();
        running
    }

    /// The next line that it prints.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }

    fn signal(&self, name: &str) {
        ok(self.node, &format!("kill -{name} {}", self.number));
    }

    /// Ends it, which must succeed; gives what it has printed since and its standard error.
    fn end(mut self) -> (String, String) {
        self.signal("TERM");
        let mut last = String::new();
        self.lines.read_to_string(&mut last).unwrap();
        let output = self.child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        (last, stderr(&output))
    }
}

fn listen(server: &Node) -> UdpSocket {
    let address = SocketAddr::new(IpAddr::from(VIP), 80);
    let socket = server.run(|| UdpSocket::bind(address)).unwrap().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// What the server at the virtual address hears next; it comes from the client.
fn heard(socket: &UdpSocket) -> String {
    let mut bytes = [0; 2000];
    let (length, from) = socket.recv_from(&mut bytes).unwrap();
    assert_eq!(from, SocketAddr::new(IpAddr::from(CLIENT), 5000));
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

/// Where tunnels begin.
struct Sender(OwnedFd);

impl Sender {
    fn on(node: &Node) -> Self {
        // IPPROTO_RAW: the IP header is ours to write.
        let open = || {
            socket(
                AddressFamily::Inet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::Raw,
            )
        };
        Self(node.run(open).unwrap().unwrap())
    }

    fn send(&self, protocol: u8, payload: &[u8]) {
        let packet = ip(DIRECTOR, HERE, protocol, payload);
        let [a, b, c, d] = HERE;
        let to = SockaddrIn::new(a, b, c, d, 0);
        sendto(self.0.as_raw_fd(), &packet, &to, MsgFlags::empty()).unwrap();
    }
}

fn ip(from: [u8; 4], to: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0];
    bytes.extend(((20 + payload.len()) as u16).to_be_bytes());
    bytes.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
    bytes.extend(from);
    bytes.extend(to);
    let sum = checksum(&bytes);
    bytes[10..12].copy_from_slice(&sum);
    bytes.extend(payload);
    bytes
}

/// A datagram of the client to the virtual address.
fn request(payload: &[u8]) -> Vec<u8> {
    ip(CLIENT, VIP, 17, &udp(CLIENT, VIP, (5000, 80), payload))
}

fn udp(from: [u8; 4], to: [u8; 4], ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let mut bytes = ports.0.to_be_bytes().to_vec();
    bytes.extend(ports.1.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(payload);
    let pseudo = [&from[..], &to, &[0, 17], &length.to_be_bytes(), &bytes].concat();
    let sum = checksum(&pseudo);
    bytes[6..8].copy_from_slice(&sum);
    bytes
}

fn gue(inner: &[u8], has_checksum: bool) -> Vec<u8> {
    let payload = [&[0, 4, 0, 0], inner].concat();
    let mut bytes = udp(DIRECTOR, HERE, (40000, GUE_PORT), &payload);
    if !has_checksum {
        bytes[6..8].fill(0);
    }
    bytes
}

fn gre(inner: &[u8], has_checksum: bool) -> Vec<u8> {
    if !has_checksum {
        return [&[0, 0, 8, 0], inner].concat();
    }
    let mut bytes = [&[0x80, 0, 8, 0, 0, 0, 0, 0], inner].concat();
    let sum = checksum(&bytes);
    bytes[4..6].copy_from_slice(&sum);
    bytes
}

/// The Internet checksum (RFC 1071), as it goes on the wire.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let word =
        |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or_default());
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}
