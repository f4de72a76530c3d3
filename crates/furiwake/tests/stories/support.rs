//! What the stories share: labs with a name of their own, commands that must succeed, waiting for events,
//! and a look at the wire.

mod clients;
mod programs;
mod wire;

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    process::Output,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use furiwake_lab::{Hook, Lab, Nat, Node, Options, Topology, WebServer};

pub(crate) use clients::{
    answer, ask_from, ask_vip, connect_from, datagrams_from, echo, finish, give_addresses,
};
pub(crate) use programs::programs;
pub(crate) use wire::{Packet, Wire};

/// Longest wait for anything that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The exercise with two equal servers, running.
pub(crate) fn nat(name: &str, hook: Hook) -> Lab {
    nat_of(2, name, hook)
}

/// The exercise with so many equal servers, running.
pub(crate) fn nat_of(servers: usize, name: &str, hook: Hook) -> Lab {
    let topology = Nat::equal(servers).topology().unwrap();
    up(&topology, &options(name, hook))
}

/// The exercise without anything on the real servers, and without services.
pub(crate) fn bare(name: &str, hook: Hook) -> Lab {
    let options = Options {
        server: WebServer::None,
        services: false,
        ..options(name, hook)
    };
    let lab = up(&Nat::equal(2).topology().unwrap(), &options);
    ok(
        &director(&lab),
        "ip addr add 192.168.56.50 label eth0-lvsvip dev eth0",
    );
    lab
}

/// The usual options, with a name that no other run has.
pub(crate) fn options(name: &str, hook: Hook) -> Options {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    Options {
        name: Some(format!("{name}-{}-{number}", std::process::id())),
        hook,
        ..Options::new(env!("CARGO_BIN_EXE_furiwake"))
    }
}

/// A lab that must come up.
pub(crate) fn up(topology: &Topology, options: &Options) -> Lab {
    Lab::up(topology, options).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn client(lab: &Lab) -> Node {
    lab.node("client").unwrap()
}

pub(crate) fn director(lab: &Lab) -> Node {
    lab.node("director").unwrap()
}

/// Runs a command line that must succeed and gives what it prints.
pub(crate) fn ok(node: &Node, line: &str) -> String {
    let output = node.shell(line).unwrap();
    assert!(
        output.status.success(),
        "{line:?} on {}: {output:?}",
        node.name()
    );
    stdout(&output)
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs `ipvsadm` on the director; it must succeed.
pub(crate) fn ipvsadm(lab: &Lab, words: &str) -> String {
    ok(&director(lab), &format!("ipvsadm {words}"))
}

/// Changes a setting of the director.
pub(crate) fn set(lab: &Lab, setting: &str) {
    ok(&director(lab), &format!("furiwake set {setting}"));
}

/// The fields of a listing's line behind a name, which is a server's or a service's.
pub(crate) fn fields(listing: &str, name: &str) -> Vec<String> {
    let mut lines = listing.lines();
    let line = lines
        .find(|line| line.split_whitespace().nth(1) == Some(name))
        .unwrap_or_else(|| panic!("{name} in\n{listing}"));
    line.split_whitespace().skip(2).map(str::to_owned).collect()
}

/// The numbers of `--stats --exact` behind a name: connections, packets in and out, bytes in and out.
pub(crate) fn stats(lab: &Lab, name: &str) -> Vec<u64> {
    let listing = ipvsadm(lab, "-Ln --stats --exact");
    let fields = fields(&listing, name);
    fields.iter().map(|field| field.parse().unwrap()).collect()
}

/// Kills the daemon without a word.
pub(crate) fn kill(lab: &Lab) {
    lab.signal("director", nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    eventually("the daemon ends", || {
        (lab.is_running("director") == Some(false)).then_some(())
    });
}

/// Asks a page of the virtual service from the client, as often as said: the names that answered.
pub(crate) fn ask(lab: &Lab, times: u32) -> Vec<String> {
    let line = format!(
        "for i in $(seq {times}); do curl -sS --max-time 20 http://192.168.56.50/ || exit 1; done"
    );
    ok(&client(lab), &line).lines().map(str::to_owned).collect()
}

/// The director's `furiwake status --json`.
pub(crate) fn status(lab: &Lab) -> serde_json::Value {
    let text = ok(&director(lab), "furiwake status --json");
    let mut document: serde_json::Value = serde_json::from_str(&text).unwrap();
    document["status"].take()
}

/// How often a packet met a reason not to be forwarded.
pub(crate) fn reason(lab: &Lab, name: &str) -> u64 {
    let status = status(lab);
    let reasons = status["reasons"].as_array().unwrap();
    let reason = reasons.iter().find(|reason| reason["name"] == name);
    reason.unwrap()["packets"].as_u64().unwrap()
}

/// The state of a server's next hop, in words; nothing when there is no such server.
pub(crate) fn next_hop(lab: &Lab, server: &str) -> Option<serde_json::Value> {
    let mut status = status(lab);
    let hops = status["next_hops"].as_array_mut().unwrap();
    hops.iter_mut()
        .find(|hop| hop["server"] == server)
        .map(serde_json::Value::take)
}

/// Waits until the next hop of a server is as wanted.
pub(crate) fn await_next_hop(lab: &Lab, server: &str, field: &str, value: &str) {
    eventually(&format!("{field} of {server} is {value:?}"), || {
        let hop = next_hop(lab, server);
        (hop.as_ref()?[field] == value).then_some(())
    });
}

/// Asks again and again until there is an answer; for what tells nobody when it happens.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::ZERO;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        thread::sleep(pause);
        pause = (pause + Duration::from_millis(1)).min(Duration::from_millis(20));
    }
}

/// Makes a TCP listener on a node.
pub(crate) fn listen(node: &Node, port: u16) -> TcpListener {
    let listen = || node.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)));
    // Programs that other tests are just starting hold a copy of the one before for a moment.
    eventually("the port is free", || match listen().unwrap() {
        Err(error) if error.kind() == ErrorKind::AddrInUse => None,
        result => Some(result.unwrap()),
    })
}

/// Connects from a node, and does not wait for ever.
pub(crate) fn connect(node: &Node, address: Ipv4Addr, port: u16) -> std::io::Result<TcpStream> {
    let stream = node
        .run(|| TcpStream::connect_timeout(&SocketAddrV4::new(address, port).into(), PATIENCE))
        .unwrap()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends a body in which every block differs from every other.
pub(crate) fn send_body(mut stream: impl Write, length: u64) -> std::io::Result<()> {
    let mut block = Block::new();
    for number in 0..length.div_ceil(Block::SIZE) {
        let size = (length - number * Block::SIZE).min(Block::SIZE);
        stream.write_all(&block.numbered(number)[..size as usize])?;
    }
    Ok(())
}

/// Reads that body to the end, comparing every byte; gives its length.
pub(crate) fn read_body(mut stream: impl Read) -> std::io::Result<u64> {
    let mut wanted = Block::new();
    let mut buffer = vec![0; Block::SIZE as usize];
    let (mut number, mut length) = (0, 0);
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            match stream.read(&mut buffer[filled..])? {
                0 => break,
                more => filled += more,
            }
        }
        assert!(
            buffer[..filled] == wanted.numbered(number)[..filled],
            "block {number} is not what was sent"
        );
        length += filled as u64;
        number += 1;
        if filled < buffer.len() {
            return Ok(length);
        }
    }
}

/// Bytes that look random, the same every time, with the block's number at the front.
struct Block(Vec<u8>);

impl Block {
    const SIZE: u64 = 64 * 1024;

    fn new() -> Self {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let bytes = (0..Self::SIZE).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        });
        Self(bytes.collect())
    }

    fn numbered(&mut self, number: u64) -> &[u8] {
        self.0[..8].copy_from_slice(&number.to_be_bytes());
        &self.0
    }
}
