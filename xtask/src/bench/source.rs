//! Small packets put on the wire by the kernel itself, and the programs at the other end.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf, Pod,
    maps::{Array, MapData},
    programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp, XdpMode},
};
use furiwake_lab::Node;

use super::processor;

/// A MAC address.
pub(crate) type Mac = [u8; 6];

/// Bytes of a frame on the wire, without the checksum that Ethernet adds.
const FRAME: usize = 64;
/// Frames handed over at a time.
const BATCH: u32 = 64;

/// `struct plan` of `rate.bpf.c`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Plan {
    flow_mask: u64,
    first_flow: u64,
    sequence: u64,
    last: u64,
    began: u64,
    ended: u64,
    ifindex: u32,
    destination: u32,
    port: u16,
    pad: u16,
    macs: [u32; 3],
}

// SAFETY: plain numbers without implicit padding.
unsafe impl Pod for Plan {}

/// `struct way` of `rate.bpf.c`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Way {
    ifindex: u32,
    macs: [u32; 3],
}

// SAFETY: plain numbers without padding.
unsafe impl Pod for Way {}

/// Where packets go.
pub(crate) struct Destination {
    /// Interface by which they leave.
    pub(crate) ifindex: u32,
    /// Address and port.
    pub(crate) address: std::net::SocketAddrV4,
    /// MAC addresses of the receiver and of the sender.
    pub(crate) macs: (Mac, Mac),
}

/// A source of UDP packets in a node.
pub(crate) struct Source {
    object: Ebpf,
    node: Node,
    plan: Plan,
}

impl Source {
    /// Loads it.
    pub(crate) fn load(node: &Node, objects: &Path, to: &Destination) -> Result<Self> {
        let mut object = load(objects)?;
        program(&mut object, "source")?.load()?;
        let plan = Plan {
            flow_mask: 0,
            first_flow: 0,
            sequence: 0,
            last: 0,
            began: 0,
            ended: 0,
            ifindex: to.ifindex,
            destination: u32::from_ne_bytes(to.address.ip().octets()),
            port: to.address.port().to_be(),
            pad: 0,
            macs: words(to.macs),
        };
        Ok(Self {
            object,
            node: node.clone(),
            plan,
        })
    }

    /// Sends `packets` packets of `flows` flows (a power of two) in turn, the first being number `first`, and
    /// tells how long it took from the first to the last. Everything that happens to a packet up to the sink
    /// happens within that time, on the same processor.
    ///
    /// The packets themselves look at the clock: around the call lie milliseconds that are none of theirs.
    pub(crate) fn shoot(&mut self, packets: u32, flows: u64, first: u64) -> Result<Duration> {
        let plan = Plan {
            flow_mask: flows - 1,
            first_flow: first,
            last: u64::from(packets) - 1,
            ..self.plan
        };
        self.plan_map()?.set(0, plan, 0)?;
        let program = program(&mut self.object, "source")?;
        let send = || -> Result<()> {
            processor::claim()?;
            let options = TestRunOptions {
                data_in: Some(&[0; FRAME]),
                repeat: packets,
                attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                ..TestRunOptions::default()
            };
            program.test_run(options).context("send live frames")?;
            Ok(())
        };
        self.node.run(send)??;
        let plan = self.plan_map()?.get(&0, 0)?;
        ensure!(
            plan.sequence == u64::from(packets) && plan.ended > plan.began,
            "{} of {packets} packets were made",
            plan.sequence
        );
        Ok(Duration::from_nanos(plan.ended - plan.began))
    }

    fn plan_map(&mut self) -> Result<Array<&mut MapData, Plan>> {
        let map = self.object.map_mut("PLAN").context("rate.o has no PLAN")?;
        Ok(Array::try_from(map)?)
    }
}

/// Attaches the sink to an interface of a node, for as long as the result lives.
pub(crate) fn attach_sink(node: &Node, objects: &Path, ifindex: u32) -> Result<Ebpf> {
    attach(node, load(objects)?, "sink", ifindex)
}

/// Attaches the relay to an interface of a node: what comes in leaves by `out`.
pub(crate) fn attach_relay(
    node: &Node,
    objects: &Path,
    ifindex: u32,
    out: u32,
    macs: (Mac, Mac),
) -> Result<Ebpf> {
    let mut object = load(objects)?;
    let map = object.map_mut("WAY").context("rate.o has no WAY")?;
    let way = Way {
        ifindex: out,
        macs: words(macs),
    };
    Array::try_from(map)?.set(0, way, 0)?;
    attach(node, object, "relay", ifindex)
}

fn attach(node: &Node, mut object: Ebpf, name: &str, ifindex: u32) -> Result<Ebpf> {
    let program = program(&mut object, name)?;
    program.load()?;
    node.run(|| program.attach_to_if_index(ifindex, XdpMode::Driver))?
        .with_context(|| format!("attach {name} on {}", node.name()))?;
    Ok(object)
}

fn load(objects: &Path) -> Result<Ebpf> {
    let file = objects.join("rate.o");
    Ebpf::load_file(&file).with_context(|| format!("load {}", file.display()))
}

fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(object
        .program_mut(name)
        .with_context(|| format!("rate.o has no program {name}"))?
        .try_into()?)
}

/// Destination and source as they lie in a frame, in three words.
fn words((destination, source): (Mac, Mac)) -> [u32; 3] {
    let [a, b, c, d, e, f] = destination;
    let [g, h, i, j, k, l] = source;
    [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(u32::from_ne_bytes)
}
