//! A director between two cables: source – director – sink, each machine a node of a lab of its own.
//!
//! No switch in between, unlike in other labs: what is timed is the director and two veth pairs.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use furiwake_lab::{Lab, Machine, Node, Role, Topology, WebServer};

use super::{
    Setting,
    director::{self, Furiwake, Hook},
    source::{self, Destination, Mac, Source},
    tool,
};

/// Where the packets are sent.
pub(crate) const SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 5000);
/// Real servers, all of them the sink.
pub(crate) const SERVERS: u8 = 10;
/// Of the sources that [`Source`] makes, this flow's is seen by nobody else: for the first packets of a bed.
const WARM_UP: u64 = 1 << 22;

const SOURCE: Mac = [2, 0, 0, 0, 0, 9];
const OUTER: Mac = [2, 0, 0, 0, 0, 2];
const INNER: Mac = [2, 0, 0, 0, 0, 3];
const SINK: Mac = [2, 0, 0, 0, 0, 4];

/// What the director is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Linux, forwarding by its routes.
    Forwarding,
    /// Linux with a DNAT rule over a map of the servers.
    Nftables,
    /// An XDP program that only writes MAC addresses.
    Relay,
    /// Ours.
    Furiwake(Hook),
}

/// A network with its director, ready to be sent packets. Dropping it removes everything.
pub(crate) struct Bed {
    source: Source,
    sink: Node,
    furiwake: Option<Furiwake>,
    _programs: Vec<Ebpf>,
    // The nodes go last.
    _lab: Lab,
}

/// One burst.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shot {
    /// Packets sent.
    pub(crate) sent: u64,
    /// Packets that came to the sink.
    pub(crate) arrived: u64,
    /// How long it took.
    pub(crate) took: Duration,
}

impl Shot {
    /// Packets per second that reached the sink, in millions.
    pub(crate) fn rate(&self) -> f64 {
        self.arrived as f64 / self.took.as_secs_f64() / 1e6
    }

    /// Packets that did not.
    pub(crate) fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.arrived)
    }
}

impl Bed {
    /// Builds the network and starts the director, with room for `connections` if it is ours.
    pub(crate) fn up(kind: Kind, setting: &Setting, connections: u32) -> Result<Self> {
        let mut options = furiwake_lab::Options::new(&setting.furiwake);
        options.name = Some(setting.lab_name());
        options.server = WebServer::None;
        options.director = false;
        options.services = false;
        let lab = Lab::up(&topology(), &options)?;
        let (source, director, sink) = (
            lab.node("source")?,
            lab.node("director")?,
            lab.node("sink")?,
        );
        connect(&director, &source, &sink)?;

        let objects = setting.objects.as_path();
        let mut programs = Vec::new();
        let mut furiwake = None;
        let out = ifindex(&director, "d1")?;
        match kind {
            Kind::Forwarding => {}
            Kind::Nftables => director::add_dnat(&director, "udp", SERVICE, &servers())?,
            Kind::Relay => {
                let front = ifindex(&director, "d0")?;
                let macs = (SINK, INNER);
                programs.push(source::attach_relay(&director, objects, front, out, macs)?);
            }
            Kind::Furiwake(hook) => {
                let started = Furiwake::start(&director, hook, connections)?;
                started.add_service("-u", SERVICE, &servers())?;
                furiwake = Some(started);
            }
        }
        if matches!(kind, Kind::Relay | Kind::Furiwake(Hook::Xdp)) {
            let end = ifindex(&sink, "s0")?;
            programs.push(source::attach_sink(&sink, objects, end)?);
        } else {
            // Frames from `source` need NAPI where they arrive; for directors without XDP, GRO switches it on.
            director
                .run(|| tool::run(Command::new("ethtool").args(["-K", "d0", "gro", "on"]), ""))??;
            discard(&sink)?;
        }

        let to = Destination {
            ifindex: ifindex(&source, "g0")?,
            address: SERVICE,
            macs: (OUTER, SOURCE),
        };
        let source = Source::load(&source, objects, &to)?;
        let mut bed = Self {
            source,
            sink,
            furiwake,
            _programs: programs,
            _lab: lab,
        };
        let shot = bed.shoot(1024, 1 << 63, WARM_UP)?;
        ensure!(
            shot.lost() < shot.sent / 100,
            "{kind:?}: of {} packets to the director {} came to the sink",
            shot.sent,
            shot.arrived
        );
        Ok(bed)
    }

    /// Sends packets and counts those that arrive; see [`Source::shoot`].
    pub(crate) fn shoot(&mut self, packets: u32, flows: u64, first: u64) -> Result<Shot> {
        let before = received(&self.sink)?;
        let took = self.source.shoot(packets, flows, first)?;
        let sent = u64::from(packets);
        let deadline = Instant::now() + Duration::from_millis(50);
        let mut arrived = received(&self.sink)? - before;
        // Nothing tells when the last packet is through, if one is missing.
        while arrived < sent && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
            arrived = received(&self.sink)? - before;
        }
        Ok(Shot {
            sent,
            arrived,
            took,
        })
    }

    /// Our director, if it is one.
    pub(crate) fn furiwake(&self) -> Option<&Furiwake> {
        self.furiwake.as_ref()
    }
}

/// Addresses of the servers.
fn servers() -> Vec<Ipv4Addr> {
    (1..=SERVERS)
        .map(|n| Ipv4Addr::new(198, 51, 100, n))
        .collect()
}

/// Three machines without interfaces; the lab's cables lead to a switch, ours do not.
fn topology() -> Topology {
    let machine = |name: &str, role| Machine {
        name: name.into(),
        role,
        ..Machine::default()
    };
    Topology {
        name: "bench".into(),
        nodes: vec![
            machine("source", Role::Client),
            machine("director", Role::Director),
            machine("sink", Role::Client),
        ],
        networks: Vec::new(),
        services: Vec::new(),
    }
}

fn connect(director: &Node, source: &Node, sink: &Node) -> Result<()> {
    let cable = |near: &str, mac: Mac, far: &str, far_mac: Mac, node: &Node| {
        let queues = "numrxqueues 1 numtxqueues 1";
        format!(
            "link add {near} address {} {queues} type veth peer name {far} address {} {queues} \
             netns {}\nlink set {near} up\n",
            text(mac),
            text(far_mac),
            node.holder()
        )
    };
    let mut lines =
        cable("d0", OUTER, "g0", SOURCE, source) + &cable("d1", INNER, "s0", SINK, sink);
    lines += "addr add 10.0.0.1/8 dev d0\naddr add 198.51.100.254/24 dev d1\n";
    for server in servers() {
        lines += &format!(
            "neigh add {server} lladdr {} dev d1 nud permanent\n",
            text(SINK)
        );
    }
    // What a director without a rule for it does with the service's packets.
    lines += &format!("route add {}/32 via 198.51.100.1\n", SERVICE.ip());
    director.run(|| -> Result<()> {
        ip(&lines)?;
        for scope in ["all", "default", "d0", "d1"] {
            let file = format!("/proc/sys/net/ipv4/conf/{scope}/rp_filter");
            fs::write(&file, "0").with_context(|| format!("cannot write {file}"))?;
        }
        Ok(())
    })??;
    source.run(|| ip("link set g0 up\n"))??;
    sink.run(|| ip("link set s0 up\n"))?
}

/// Runs lines of `ip` in the namespace of the calling thread.
fn ip(lines: &str) -> Result<()> {
    tool::run(Command::new("ip").args(["-batch", "-"]), lines).map(|_| ())
}

/// The end of packets that come as socket buffers.
fn discard(sink: &Node) -> Result<()> {
    let rules = "table netdev bench {\n chain end {\n  type filter hook ingress device s0 priority 0; \
                 policy drop;\n }\n}\n";
    sink.run(|| tool::run(Command::new("nft").args(["-f", "-"]), rules))?
        .map(|_| ())
}

fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn ifindex(node: &Node, interface: &str) -> Result<u32> {
    node.run(|| nix::net::if_::if_nametoindex(interface))?
        .with_context(|| format!("no {interface} on {}", node.name()))
}

/// Packets that the sink's interface has received.
fn received(sink: &Node) -> Result<u64> {
    let file = format!("/proc/{}/net/dev", sink.holder());
    let table = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    table
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("s0:"))
        .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .with_context(|| format!("{file} does not count the packets of s0"))
}
