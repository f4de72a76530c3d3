//! The only hand on the maps: load, pin, attach, apply a plan, take a snapshot.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use furiwake_lvs::{
    model::{ServiceKey, Table},
    plan::Change,
    view::{ConnectionView, View},
};

/// How to open a data plane.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder for this director's pins, below a bpffs; made if missing.
    pub pin_directory: PathBuf,
    /// Room in the connection table, in connections; used when the table is made, ignored when adopted.
    pub connections: u32,
}

/// Why the data plane could not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Placeholder.
    #[error("not built yet")]
    NotBuilt,
}

/// Which hook an interface should get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HookChoice {
    /// Native XDP where it is the right one (not on veth, not on virtio with GRO), tc elsewhere.
    Auto,
    /// Native XDP in front of tc.
    Xdp,
    /// Generic XDP in front of tc.
    XdpGeneric,
    /// tc only.
    Tc,
}

/// An interface that the director listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// Index of the interface.
    pub ifindex: u32,
    /// Name of the interface when it was attached.
    pub name: String,
    /// What was attached, as people read it: `xdp+tcx`, `tcx`, `clsact`, `xdp-generic+tcx`.
    pub hook: String,
    /// Why, when the hook is not the first choice.
    pub reason: Option<String>,
}

/// Where packets to an address go next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NextHop {
    /// The neighbour is known.
    Resolved {
        /// Interface to send on.
        ifindex: u32,
        /// Largest IP packet on the way, bytes.
        mtu: u16,
        /// Destination MAC address.
        neighbour: [u8; 6],
        /// Source MAC address: the interface's own.
        source: [u8; 6],
        /// The address that was resolved: gateway, or the destination itself.
        gateway: Ipv4Addr,
    },
    /// The route is known, the neighbour is not (yet): the kernel is to resolve it.
    Unresolved {
        /// Interface to send on.
        ifindex: u32,
        /// Largest IP packet on the way, bytes.
        mtu: u16,
        /// Gateway, or the destination itself.
        gateway: Ipv4Addr,
    },
    /// No route.
    Unreachable,
}

/// How often packets met a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReasonCount {
    /// Stable name, snake_case.
    pub name: &'static str,
    /// What it means, a sentence.
    pub meaning: &'static str,
    /// Whether such packets are dropped (otherwise they go to the host's own stack).
    pub drops: bool,
    /// Packets so far.
    pub packets: u64,
}

/// A loaded data plane.
#[derive(Debug)]
pub struct Datapath {}

impl Datapath {
    /// Load the programs, or adopt what an earlier daemon left pinned.
    pub fn open(_options: &Options) -> Result<Self, Error> {
        Err(Error::NotBuilt)
    }
    /// Whether [`Datapath::open`] found a running data plane and took it over.
    pub fn adopted(&self) -> bool {
        false
    }
    /// What the maps hold, as a table.
    pub fn table(&self) -> Table {
        Table::default()
    }
    /// Carry out one change.
    pub fn apply(&mut self, _change: &Change) -> Result<(), Error> {
        Err(Error::NotBuilt)
    }
    /// Set the zero point of counters, of one service or all (`ipvsadm -Z`).
    pub fn zero(&mut self, _service: Option<&ServiceKey>) -> Result<(), Error> {
        Err(Error::NotBuilt)
    }
    /// Services, servers, counts and counters, exact at this moment. Rates are left at zero.
    pub fn view(&self) -> Result<View, Error> {
        Err(Error::NotBuilt)
    }
    /// The connection table.
    pub fn connections(&self) -> Result<Vec<ConnectionView>, Error> {
        Err(Error::NotBuilt)
    }
    /// Listen on an interface. Idempotent: an adopted attachment is kept (the program is swapped atomically).
    pub fn attach(&mut self, _name: &str, _ifindex: u32, _choice: HookChoice) -> Result<Attached, Error> {
        Err(Error::NotBuilt)
    }
    /// Stop listening on an interface, or forget one that is gone.
    pub fn detach(&mut self, _ifindex: u32) -> Result<(), Error> {
        Err(Error::NotBuilt)
    }
    /// Every interface listened on.
    pub fn attached(&self) -> Vec<Attached> {
        Vec::new()
    }
    /// Addresses of every server that packets may still go to: those that need a next hop.
    pub fn servers(&self) -> Vec<IpAddr> {
        Vec::new()
    }
    /// Tell where packets to a server go next.
    pub fn set_next_hop(&mut self, _server: IpAddr, _hop: NextHop) -> Result<(), Error> {
        Err(Error::NotBuilt)
    }
    /// A route, neighbour or address changed: next hops towards clients are looked up anew.
    pub fn routes_changed(&mut self) -> Result<(), Error> {
        Err(Error::NotBuilt)
    }
    /// Counted reasons of packets that were not forwarded.
    pub fn reasons(&self) -> Result<Vec<ReasonCount>, Error> {
        Err(Error::NotBuilt)
    }
    /// Housekeeping, to be called about once a second: free what removed servers held until their last connection ended.
    pub fn maintain(&mut self) -> Result<(), Error> {
        Err(Error::NotBuilt)
    }
    /// Remove every trace of a director: links, filters, pins. Returns what was removed, a line each.
    pub fn remove(_pin_directory: &Path) -> Result<Vec<String>, Error> {
        Err(Error::NotBuilt)
    }
}
