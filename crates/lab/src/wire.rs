//! Watching every cable of a lab at its switch: who sent which frame.
//!
//! The switch sees what machines put on the wire, however they did it; a capture on a machine itself would miss
//! what XDP takes or sends there.

mod frame;

pub use frame::{Arp, Encapsulated, Frame, Ip, Mac, Payload};

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt,
};

use crate::{
    error::{Result, Step},
    lab::{Lab, SWITCH},
    netlink,
    watch::Watch,
    wiring,
};

/// A watch that goes on until it is asked for its result.
#[derive(Debug)]
pub struct Wire(Watch<Sightings>);

/// Every kind of frame that was seen, with the number of those.
pub type Sightings = BTreeMap<Sighting, Tally>;

/// A kind of frame, and the machine that put it on the wire.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sighting {
    /// The machine.
    pub machine: String,
    /// What it sent.
    pub frame: Frame,
}

/// How many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames.
    pub frames: u64,
    /// Length of the longest, with its Ethernet header.
    pub longest: usize,
}

impl Wire {
    /// Starts to watch all cables of a lab.
    pub fn watch(lab: &Lab) -> Result<Self> {
        let step = || "watch the cables at the switch".to_owned();
        let switch = lab.node(SWITCH)?;
        let (socket, ports) = switch
            .run(|| {
                let mut ports = BTreeMap::new();
                for machine in &lab.topology().nodes {
                    for number in 0..machine.interfaces.len() {
                        let index = netlink::index(&wiring::port(machine, number))?;
                        ports.insert(index as usize, machine.name.clone());
                    }
                }
                Ok::<_, io::Error>((open()?, ports))
            })?
            .step(step)?;
        let gue = lab.topology().gue_port();
        Watch::start(socket, move |socket, sightings| {
            count_waiting(socket, &ports, gue, sightings)
        })
        .map(Self)
        .step(step)
    }

    /// Ends the watch; every frame that was on the wire by now is counted.
    pub fn finish(self) -> Result<Sightings> {
        self.0
            .finish()
            .step(|| "watch the cables at the switch".into())
    }
}

/// A socket that is given every frame that comes to an interface, before the bridge takes it.
fn open() -> io::Result<OwnedFd> {
    const SOL_PACKET: i32 = 263;
    const PACKET_IGNORE_OUTGOING: i32 = 23;
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::EthAll,
    )?;
    // A smaller buffer would only count less.
    let _ = setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20));
    let on: i32 = 1;
    // SAFETY: the option is an int, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            SOL_PACKET,
            PACKET_IGNORE_OUTGOING,
            (&raw const on).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

fn count_waiting(
    socket: &OwnedFd,
    ports: &BTreeMap<usize, String>,
    gue: Option<u16>,
    sightings: &mut Sightings,
) -> io::Result<()> {
    let mut buffer = [0; 128];
    loop {
        let (length, from) = match receive(socket, &mut buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let seen = buffer.get(..length).unwrap_or(&buffer);
        // What is not from a cable is the bridge's own view of the same frame.
        let (Some(machine), Some(frame)) = (ports.get(&from), Frame::parse(seen, length, gue))
        else {
            continue;
        };
        let machine = machine.clone();
        let tally = sightings.entry(Sighting { machine, frame }).or_default();
        tally.frames += 1;
        tally.longest = tally.longest.max(length);
    }
}

/// Takes the next frame: its whole length, whatever the buffer holds of it, and the interface it came to.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<(usize, usize)> {
    // SAFETY: every field is a number.
    let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: buffer and address are ours, and their sizes are given.
    let length = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            libc::MSG_TRUNC,
            (&raw mut from).cast(),
            &raw mut size,
        )
    };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    Ok((length, usize::try_from(from.sll_ifindex).unwrap_or(0)))
}
