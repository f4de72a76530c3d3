//! The engine on the host: the same decisions over vectors, for tests, fuzzers and `furiwake explain`.
//!
//! [`HostTables`] stands for the maps, [`HostPacket`] for a packet at one stage, and [`run`] leads a packet from
//! stage to stage as the kernel object does, so that verdict, bytes and counters are those of the kernel.
//! What the kernel adds around the programs, such as finding a neighbour or fragmenting, is not played here.

mod configure;
mod packet;
mod tables;

pub use configure::{Connection, Method, NextHop, ServerOptions, ServiceOptions};
pub use packet::{COMPLETE, HostPacket, TC, XDP, XDP_NEXT, XDP_VETH};
pub use tables::{HostTables, Sizes};

use crate::{
    connect, icmp,
    packet::Packet,
    pipeline::{self, Verdict},
    reject, tunnel,
};

/// Where a packet meets the director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP on an interface whose packets come from a wire, and tc behind it.
    Xdp,
    /// XDP on veth, and tc behind it.
    XdpVeth,
    /// tc alone.
    Tc,
}

impl Hook {
    /// Every hook.
    pub const ALL: [Self; 3] = [Self::Xdp, Self::XdpVeth, Self::Tc];
}

/// A frame that comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Interface that it comes in by.
    pub ifindex: u32,
    /// The frame from its Ethernet header on.
    pub bytes: Vec<u8>,
    /// For super-packets: bytes of payload in each of the packets that it will be on a wire (tc only).
    pub segment_size: Option<u16>,
    /// Whether its TCP or UDP checksum is the sum of the pseudo header, to be completed later. tc knows that
    /// (`CHECKSUM_PARTIAL`); XDP does not and has to guess.
    pub is_unfinished: bool,
    /// Frames that were sent already, and by which interface: fragments before this last one.
    pub sent: Vec<(u32, Vec<u8>)>,
}

impl Frame {
    /// A whole frame as it comes from a wire.
    pub fn new(ifindex: u32, bytes: Vec<u8>) -> Self {
        Self {
            ifindex,
            bytes,
            segment_size: None,
            is_unfinished: false,
            sent: Vec::new(),
        }
    }
}

/// What became of a packet: never a verdict for which there is a next stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The last stage's verdict.
    pub verdict: Verdict,
    /// Whether XDP had the last word.
    pub at_xdp: bool,
    /// The frame as it is then.
    pub bytes: Vec<u8>,
    /// Frames that were sent before it, and by which interface.
    pub sent: Vec<(u32, Vec<u8>)>,
}

/// Lead a whole frame through the stages of a hook.
pub fn run(hook: Hook, tables: &HostTables, ifindex: u32, bytes: &[u8]) -> Outcome {
    run_frame(hook, tables, Frame::new(ifindex, bytes.to_vec()))
}

/// Lead a frame through the stages of a hook.
pub fn run_frame(hook: Hook, tables: &HostTables, frame: Frame) -> Outcome {
    match hook {
        Hook::Tc => tc(tables, frame),
        Hook::Xdp => xdp::<XDP>(tables, frame),
        Hook::XdpVeth => xdp::<XDP_VETH>(tables, frame),
    }
}

/// As the kernel object's `xdp.rs`.
fn xdp<const STAGE: u8>(tables: &HostTables, frame: Frame) -> Outcome {
    let mut packet = HostPacket::<STAGE>::new(frame);
    let mut verdict = pipeline::process(&mut packet, tables);
    let mut packet = HostPacket::<XDP_NEXT>::new(packet.into_frame());
    loop {
        verdict = match verdict {
            Verdict::Connect => connect::process(&mut packet, tables),
            Verdict::Send(server) => {
                packet = HostPacket::chosen(packet.into_frame(), Some(server));
                pipeline::process(&mut packet, tables)
            }
            Verdict::Encapsulate(server) => tunnel::process(&mut packet, tables, server),
            last @ (Verdict::Drop(_) | Verdict::Redirect(_)) => {
                let Frame { bytes, sent, .. } = packet.into_frame();
                return Outcome {
                    verdict: last,
                    at_xdp: true,
                    bytes,
                    sent,
                };
            }
            Verdict::Leave
            | Verdict::LeaveIcmp
            | Verdict::Pass(_)
            | Verdict::Stack(_)
            | Verdict::Reject(_)
            | Verdict::Neighbour(..) => return tc(tables, packet.into_frame()),
        };
    }
}

/// As the kernel object's `tc.rs`.
fn tc(tables: &HostTables, frame: Frame) -> Outcome {
    let mut packet = HostPacket::<TC>::new(frame);
    let mut verdict = pipeline::process(&mut packet, tables);
    let mut chosen = None;
    let mut packet = HostPacket::<COMPLETE>::new(packet.into_frame());
    // A stage ends in another a few times at most.
    loop {
        verdict = match verdict {
            Verdict::Leave => {
                packet = HostPacket::chosen(packet.into_frame(), chosen);
                pipeline::process(&mut packet, tables)
            }
            Verdict::LeaveIcmp => icmp::process(&mut packet, tables),
            Verdict::Connect => connect::process(&mut packet, tables),
            Verdict::Send(server) => {
                chosen = Some(server);
                let mut plain = HostPacket::<TC>::chosen(packet.into_frame(), chosen);
                let verdict = pipeline::process(&mut plain, tables);
                packet = HostPacket::chosen(plain.into_frame(), chosen);
                verdict
            }
            Verdict::Encapsulate(server) => tunnel::process(&mut packet, tables, server),
            Verdict::Reject(complaint) => reject::reject(&mut packet, tables, complaint),
            last @ (Verdict::Pass(_)
            | Verdict::Stack(_)
            | Verdict::Drop(_)
            | Verdict::Redirect(_)
            | Verdict::Neighbour(..)) => {
                debug_assert!(packet.len() >= crate::packet::ETH || !is_sent(last));
                let Frame { bytes, sent, .. } = packet.into_frame();
                return Outcome {
                    verdict: last,
                    at_xdp: false,
                    bytes,
                    sent,
                };
            }
        };
    }
}

fn is_sent(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Redirect(_) | Verdict::Neighbour(..))
}
