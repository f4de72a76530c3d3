//! Nanoseconds per packet by `BPF_PROG_TEST_RUN`, against the least that a director can cost.
//!
//! `xtask/bench/harness.bpf.c` runs in front of the program under test, restores the packet and picks the
//! flow; in front of a trivial program it gives the floor. Floor and target are run in pairs, in short
//! bursts at real-time priority on one processor, and the thread's own processor time is what counts. The
//! anchor is `lean.bpf.c`: a tunnel director with a connection table and nothing else.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, HashMap, MapData, ProgramArray},
    programs::{Program, ProgramFd, Xdp},
};
use furiwake_datapath::{Datapath, HookChoice, NextHop, Options};
use furiwake_lvs::{
    model::{
        Forward, Protocol, SchedulerName, Server, ServerKey, ServiceConfig, ServiceKey, Tunnel,
    },
    plan::Change,
};

/// Servers behind the service, as many as the anchor has.
const SERVERS: u32 = 100;
const FIRST_SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const VIRTUAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PORT: u16 = 80;
const ACK: u8 = 0x10;
const SYN: u8 = 0x02;
/// `XDP_PASS`, `XDP_TX`.
const PASS: u32 = 2;
const TX: u32 = 3;

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Pairs of floor and target per row.
    pub(crate) rounds: usize,
    /// Packets per sample.
    pub(crate) packets: u32,
}

/// One measured row, in nanoseconds per packet net of the floor.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) name: String,
    /// Median of target less floor.
    pub(crate) net: f64,
    /// Least and greatest difference.
    pub(crate) spread: (f64, f64),
    /// The anchor's net for the same flows, where there is one.
    pub(crate) anchor: Option<f64>,
    /// What must be reached, and whether it was.
    pub(crate) target: Option<(String, bool)>,
}

/// Measure everything. Must run in a process that may put itself into namespaces of its own.
pub(crate) fn measure(objects: &Path, effort: Effort) -> Result<Vec<Row>> {
    let network = Network::make()?;
    pin_to_one_processor()?;
    let lean = measure_lean(objects, effort)?;
    let mut rows: Vec<Row> = lean
        .iter()
        .map(|(name, sample)| sample.row(format!("lean: {name}")))
        .collect();
    rows.extend(measure_furiwake(objects, &network, effort, &lean)?);
    Ok(rows)
}

/// The samples of one row.
#[derive(Clone, Debug)]
struct Sample {
    differences: Vec<f64>,
}

impl Sample {
    fn net(&self) -> f64 {
        let mut sorted = self.differences.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }

    fn row(&self, name: String) -> Row {
        let least = self
            .differences
            .iter()
            .copied()
            .fold(f64::INFINITY, f64::min);
        let most = self
            .differences
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max);
        Row {
            name,
            net: self.net(),
            spread: (least, most),
            anchor: None,
            target: None,
        }
    }
}

/// `struct plan` of the harness.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Plan {
    flow_mask: u64,
    scatter: u32,
    pushed: u32,
    length: u32,
    servers: u32,
    virtual_address: u32,
    first_server: u32,
    port: u16,
    reply: u16,
    pad: u32,
    sequence: u64,
    misshapen: u64,
}

// SAFETY: plain numbers without implicit padding.
unsafe impl Pod for Plan {}

/// The harness, loaded.
struct Harness {
    object: Ebpf,
    ifindex: u32,
}

impl Harness {
    fn load(objects: &Path, ifindex: u32) -> Result<Self> {
        let mut object = load(&objects.join("harness.o"))?;
        for (_, program) in object.programs_mut() {
            let program: &mut Xdp = program.try_into()?;
            program.load()?;
        }
        Ok(Self { object, ifindex })
    }

    fn plan(&mut self) -> Result<Array<&mut MapData, Plan>> {
        Ok(Array::try_from(
            self.object
                .map_mut("PLAN")
                .context("the harness has no PLAN")?,
        )?)
    }

    fn aim(&mut self, program: &ProgramFd) -> Result<()> {
        let map = self
            .object
            .map_mut("TARGET")
            .context("the harness has no TARGET")?;
        Ok(ProgramArray::try_from(map)?.set(0, program, 0)?)
    }

    fn run(&self, packet: &[u8], repeat: u32) -> Result<(u32, f64)> {
        let program: &Xdp = self
            .object
            .program("harness")
            .context("no harness")?
            .try_into()?;
        test_run(program.fd()?.as_fd(), packet, repeat, self.ifindex)
    }

    /// Take pairs of floor and target.
    fn measure(&mut self, case: &Case<'_>, effort: Effort) -> Result<Sample> {
        let mut packet = vec![0; case.pushed];
        packet.extend_from_slice(case.packet);
        let floor = self.floor(case.pushed)?;
        let mut plan = case.plan;
        plan.pushed = case.pushed as u32;
        plan.length = case.packet.len() as u32;
        self.plan()?.set(0, plan, 0)?;
        if case.fill > 0 {
            // Every flow once, in turn: the table knows them then.
            let mut turn = plan;
            turn.scatter = 0;
            self.plan()?.set(0, turn, 0)?;
            self.aim(case.program)?;
            self.run(&packet, case.fill)?;
            turn.scatter = plan.scatter;
            turn.sequence = 0;
            self.plan()?.set(0, turn, 0)?;
        }
        let mut differences = Vec::new();
        for _ in 0..effort.rounds {
            self.aim(&floor)?;
            self.run(&packet, effort.packets / 10)?;
            let (floor_action, floor_ns) = self.run(&packet, effort.packets)?;
            ensure!(
                floor_action == TX,
                "{}: the floor gave action {floor_action}",
                case.name
            );
            self.aim(case.program)?;
            self.run(&packet, effort.packets / 10)?;
            let (action, ns) = self.run(&packet, effort.packets)?;
            ensure!(
                case.actions.contains(&action),
                "{}: action {action}, expected one of {:?}",
                case.name,
                case.actions
            );
            differences.push(ns - floor_ns);
            thread::sleep(Duration::from_millis(20));
        }
        let misshapen = self.plan()?.get(&0, 0)?.misshapen;
        ensure!(
            misshapen == 0,
            "{}: {misshapen} packets came back misshapen",
            case.name
        );
        Ok(Sample { differences })
    }

    fn floor(&self, pushed: usize) -> Result<ProgramFd> {
        let name = if pushed == 0 {
            "floor_plain"
        } else {
            "floor_push"
        };
        let program: &Xdp = self.object.program(name).context("no floor")?.try_into()?;
        Ok(program.fd()?.try_clone()?)
    }
}

/// What to run.
struct Case<'a> {
    name: &'a str,
    program: &'a ProgramFd,
    packet: &'a [u8],
    plan: Plan,
    pushed: usize,
    /// Packets to send in turn before, so that the flows are known.
    fill: u32,
    actions: &'a [u32],
}

const FLOWS: [(&str, u64); 3] = [("1 flow", 1), ("64k flows", 1 << 16), ("1M flows", 1 << 20)];

fn measure_lean(objects: &Path, effort: Effort) -> Result<BTreeMap<&'static str, Sample>> {
    let mut lean = load_lean(&objects.join("lean.o"))?;
    let program: &mut Xdp = lean.program_mut("lean").context("no lean")?.try_into()?;
    program.load()?;
    let program = program.fd()?.try_clone()?;
    let mut harness = Harness::load(objects, 1)?;
    let mut found = BTreeMap::new();
    for (name, flows) in FLOWS {
        let case = Case {
            name,
            program: &program,
            packet: &tcp_packet(ACK),
            plan: requests(flows, true),
            pushed: 20,
            fill: u32::try_from(flows)?,
            actions: &[TX],
        };
        found.insert(name, harness.measure(&case, effort)?);
    }
    let case = Case {
        name: NEW,
        program: &program,
        packet: &tcp_packet(SYN),
        plan: requests(1 << 38, false),
        pushed: 20,
        fill: 1 << 22,
        actions: &[TX],
    };
    found.insert(NEW, harness.measure(&case, effort)?);
    Ok(found)
}

const NEW: &str = "every packet a new connection";

fn measure_furiwake(
    objects: &Path,
    network: &Network,
    effort: Effort,
    lean: &BTreeMap<&'static str, Sample>,
) -> Result<Vec<Row>> {
    let mut director = network.director(4_000_000)?;
    let program = xdp(&director)?;
    let mut harness = Harness::load(objects, network.ifindex)?;
    let mut rows = Vec::new();

    let miss = Case {
        name: "miss",
        program: &program,
        packet: &tcp_packet(ACK),
        plan: Plan {
            virtual_address: wire(Ipv4Addr::new(203, 0, 113, 9)),
            ..requests(1 << 16, true)
        },
        pushed: 0,
        fill: 0,
        actions: &[PASS],
    };
    let sample = harness.measure(&miss, effort)?;
    let mut row = sample.row("miss: not for any service".to_owned());
    row.target = Some(("≤ 25 ns".to_owned(), row.net <= 25.0));
    rows.push(row);

    for (name, flows) in FLOWS {
        // The flows are opened by SYNs in turn, so that flow f is at server f mod SERVERS.
        director = network.fresh(director, 4_000_000)?;
        let program = xdp(&director)?;
        let open = Case {
            name,
            program: &program,
            packet: &tcp_packet(SYN),
            plan: requests(flows, false),
            pushed: 0,
            fill: u32::try_from(flows)?,
            actions: &[TX],
        };
        harness.measure(
            &open,
            Effort {
                rounds: 0,
                packets: 0,
            },
        )?;
        let requests_case = Case {
            name,
            program: &program,
            packet: &tcp_packet(ACK),
            plan: requests(flows, true),
            pushed: 0,
            fill: u32::try_from(flows)?,
            actions: &[TX],
        };
        let to_server = harness.measure(&requests_case, effort)?;
        let replies_case = Case {
            plan: replies(flows),
            ..requests_case
        };
        let to_client = harness.measure(&replies_case, effort)?;
        rows.push(to_server.row(format!("NAT to the server, {name}")));
        rows.push(to_client.row(format!("NAT to the client, {name}")));
        let both: Vec<f64> = to_server
            .differences
            .iter()
            .zip(&to_client.differences)
            .map(|(a, b)| (a + b) / 2.0)
            .collect();
        let mut row = Sample { differences: both }.row(format!("NAT both ways, {name}"));
        let limit = if flows == 1 { 2.2 } else { 2.0 };
        row.compare(lean[name].net(), limit);
        rows.push(row);
        no_drops(&director)?;
    }

    director = network.fresh(director, 4_000_000)?;
    let program = xdp(&director)?;
    let new = Case {
        name: NEW,
        program: &program,
        packet: &tcp_packet(SYN),
        plan: requests(1 << 38, false),
        pushed: 0,
        fill: 1 << 22,
        actions: &[TX],
    };
    let mut row = harness.measure(&new, effort)?.row(format!("NAT, {NEW}"));
    row.compare(lean[NEW].net(), 2.5);
    rows.push(row);
    Ok(rows)
}

impl Row {
    fn compare(&mut self, anchor: f64, limit: f64) {
        self.anchor = Some(anchor);
        self.target = Some((format!("≤ {limit} × lean"), self.net <= limit * anchor));
    }
}

/// A run in which packets were dropped measured something else.
fn no_drops(director: &Datapath) -> Result<()> {
    for reason in director.reasons()? {
        ensure!(
            !(reason.drops && reason.packets > 0),
            "{} packets were dropped: {}",
            reason.packets,
            reason.meaning
        );
    }
    Ok(())
}

fn requests(flows: u64, scatter: bool) -> Plan {
    Plan {
        flow_mask: flows - 1,
        scatter: scatter.into(),
        virtual_address: wire(VIRTUAL),
        port: PORT.to_be(),
        ..Plan::default()
    }
}

fn replies(flows: u64) -> Plan {
    Plan {
        reply: 1,
        servers: SERVERS,
        first_server: wire(FIRST_SERVER),
        ..requests(flows, true)
    }
}

fn wire(address: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(address.octets())
}

/// A TCP packet of 64 bytes; the harness fills in addresses and ports.
fn tcp_packet(flags: u8) -> Vec<u8> {
    let mut packet = vec![0u8; 64];
    packet[12..14].copy_from_slice(&[8, 0]);
    packet[14] = 0x45;
    packet[16..18].copy_from_slice(&50u16.to_be_bytes());
    packet[20] = 0x40;
    packet[22] = 64;
    packet[23] = 6;
    packet[46] = 0x50;
    packet[47] = flags;
    packet[50..52].copy_from_slice(&[0x12, 0x34]);
    packet
}

fn load(path: &Path) -> Result<Ebpf> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    EbpfLoader::new()
        .load(&bytes)
        .with_context(|| format!("cannot load {}", path.display()))
}

/// Key and value types of the anchor's maps.
type Bytes<const N: usize> = [u8; N];

fn load_lean(path: &Path) -> Result<Ebpf> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    // { buckets_mask, probation }
    let settings: [u32; 2] = [(1 << 19) - 1, 1];
    let mut object = EbpfLoader::new()
        .override_global("L", &settings, true)
        .load(&bytes)?;
    let mut key = [0; 8];
    key[..4].copy_from_slice(&VIRTUAL.octets());
    key[4..6].copy_from_slice(&PORT.to_be_bytes());
    key[6] = 6;
    let mut services: HashMap<_, Bytes<8>, Bytes<8>> =
        HashMap::try_from(object.map_mut("vips").context("no vips")?)?;
    services.insert(key, [0; 8], 0)?;
    let mut ring = [0u16; 65537 + 7];
    for (slot, server) in ring.iter_mut().zip((1..=SERVERS as u16).cycle()) {
        *slot = server;
    }
    let mut rings: Array<_, [u16; 65537 + 7]> =
        Array::try_from(object.map_mut("rings").context("no rings")?)?;
    rings.set(0, ring, 0)?;
    let mut servers: Array<_, Bytes<20>> =
        Array::try_from(object.map_mut("reals").context("no reals")?)?;
    for number in 1..=SERVERS {
        let mut record = [0; 20];
        record[..4].copy_from_slice(&[198, 51, 100, number as u8]);
        record[8..20].copy_from_slice(&[2, 0, 0, 0, 0, 0xfe, 2, 0, 0, 0, 0, 1]);
        servers.set(number, record, 0)?;
    }
    Ok(object)
}

fn xdp(director: &Datapath) -> Result<ProgramFd> {
    let Some(Program::Xdp(program)) = director.program("furiwake_xdp") else {
        bail!("the data plane has no program furiwake_xdp");
    };
    Ok(program.fd()?.try_clone()?)
}

/// A namespace with one wire, a route to every client and server over it, and a bpffs.
struct Network {
    ifindex: u32,
}

impl Network {
    fn make() -> Result<Self> {
        use nix::{
            mount::{MsFlags, mount},
            sched::{CloneFlags, unshare},
        };
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .context("cannot make a network namespace: this needs root")?;
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        mount(
            Some("bpf"),
            "/sys/fs/bpf",
            Some("bpf"),
            MsFlags::empty(),
            none,
        )
        .context("cannot mount a bpffs")?;
        let script = "set -e
            ip link set lo up
            ip link add wire type veth peer name end
            ip link set wire address 02:00:00:00:00:01 up
            ip link set end address 02:00:00:00:00:02 up
            # Without it the near end takes nothing from XDP.
            ethtool -K end gro on
            ip address add 10.255.255.1/30 dev wire
            ip neighbour replace 10.255.255.2 lladdr 02:00:00:00:00:02 dev wire nud permanent
            ip route add 10.0.0.0/8 via 10.255.255.2
            ip route add 198.51.100.0/24 via 10.255.255.2
            echo 1 > /proc/sys/net/ipv4/ip_forward";
        let status = Command::new("sh").args(["-c", script]).status()?;
        ensure!(
            status.success(),
            "cannot set the network up (packages iproute2 and ethtool)"
        );
        let index = nix::net::if_::if_nametoindex("wire")?;
        Ok(Self { ifindex: index })
    }

    /// A data plane with one service of many servers.
    fn director(&self, connections: u32) -> Result<Datapath> {
        let pin_directory = "/sys/fs/bpf/bench".into();
        let mut director = Datapath::open(&Options {
            pin_directory,
            connections,
        })?;
        director.attach("wire", self.ifindex, HookChoice::Xdp)?;
        let key = ServiceKey::Address {
            protocol: Protocol::Tcp,
            address: IpAddr::V4(VIRTUAL),
            port: PORT,
        };
        director.apply(&Change::AddService(ServiceConfig {
            key,
            scheduler: SchedulerName("rr".to_owned()),
            scheduler_flags: 0,
            persistence: None,
            persistence_engine: None,
            one_packet: false,
            slow_start: 0,
        }))?;
        // The newest is picked first: added in reverse, they are picked in order.
        for number in (0..SERVERS).rev() {
            let address = IpAddr::V4(Ipv4Addr::from(u32::from(FIRST_SERVER) + number));
            let server = Server {
                key: ServerKey {
                    address,
                    port: PORT,
                },
                forward: Forward::Masquerade,
                weight: 1,
                upper_threshold: 0,
                lower_threshold: 0,
                tunnel: Tunnel::default(),
            };
            director.apply(&Change::AddServer {
                service: key,
                server,
            })?;
            let hop = NextHop::Resolved {
                ifindex: self.ifindex,
                mtu: 1500,
                neighbour: [2, 0, 0, 0, 0, 2],
                source: [2, 0, 0, 0, 0, 1],
                gateway: Ipv4Addr::new(10, 255, 255, 2),
                own_address: Ipv4Addr::new(10, 255, 255, 1),
            };
            director.set_next_hop(address, hop)?;
        }
        Ok(director)
    }

    /// The same with an empty connection table.
    fn fresh(&self, old: Datapath, connections: u32) -> Result<Datapath> {
        drop(old);
        Datapath::remove(Path::new("/sys/fs/bpf/bench"))?;
        self.director(connections)
    }
}

fn pin_to_one_processor() -> Result<()> {
    use nix::{
        sched::{CpuSet, sched_setaffinity},
        unistd::Pid,
    };
    let mut set = CpuSet::new();
    set.set(thread::available_parallelism().map_or(0, |n| n.get() - 1))?;
    sched_setaffinity(Pid::from_raw(0), &set)?;
    let priority = libc::sched_param { sched_priority: 10 };
    // SAFETY: the structure is valid for the call. Without the right, runs are only less steady.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) };
    Ok(())
}

/// `BPF_PROG_TEST_RUN` with a context; gives the action and the nanoseconds per repetition, from this
/// thread's own processor time: the kernel's figure is a whole number.
fn test_run(
    program: BorrowedFd<'_>,
    packet: &[u8],
    repeat: u32,
    ifindex: u32,
) -> Result<(u32, f64)> {
    /// The part of `union bpf_attr` that this command reads.
    #[repr(C)]
    #[derive(Default)]
    struct Test {
        program: u32,
        action: u32,
        size_in: u32,
        size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
        context_size_in: u32,
        context_size_out: u32,
        context_in: u64,
        context_out: u64,
        flags: u32,
        cpu: u32,
        batch: u32,
        pad: u32,
    }
    const BPF_PROG_TEST_RUN: i32 = 10;
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let context: [u32; 6] = [0, packet.len() as u32, 0, ifindex, 0, 0];
    let mut test = Test {
        program: program.as_raw_fd() as u32,
        size_in: packet.len() as u32,
        data_in: packet.as_ptr() as u64,
        repeat,
        context_size_in: if ifindex > 1 {
            size_of_val(&context) as u32
        } else {
            0
        },
        context_in: if ifindex > 1 {
            context.as_ptr() as u64
        } else {
            0
        },
        ..Test::default()
    };
    let before = thread_time();
    // SAFETY: the attributes point at memory that outlives the call, of the sizes that are given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_TEST_RUN,
            &raw mut test,
            size_of::<Test>(),
        )
    };
    let elapsed = thread_time() - before;
    ensure!(
        result == 0,
        "BPF_PROG_TEST_RUN: {}",
        std::io::Error::last_os_error()
    );
    Ok((test.action, elapsed / f64::from(repeat.max(1))))
}

/// Processor time of this thread in nanoseconds.
fn thread_time() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the structure is valid for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}
