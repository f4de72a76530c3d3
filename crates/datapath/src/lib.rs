//! The only hand on the maps: load, pin, attach, apply a plan, take a snapshot.

mod attach;
mod clock;
mod connections;
pub mod decap;
mod defence;
mod driver;
mod error;
mod filter;
mod hops;
mod index;
mod load;
mod memory;
mod netdev;
mod reclaim;
mod remove;
mod repair;
mod services;
mod settings;
mod statistics;
mod translate;
#[doc(hidden)]
pub mod trial;

use std::{
    collections::HashSet,
    fs, mem,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    programs::{Program, TestRun as _, TestRunOptions},
};
use furiwake_engine::{connection::WAYS, reason::Reason, tables::Port};
use furiwake_lvs::{
    model::{Service, ServiceKey, Table},
    plan::Change,
    view::{ConnectionView, Rates, ServerView, ServiceView, View},
};

pub use crate::error::Error;
use crate::{attach::Hooks, clock::Clock, hops::Hops, index::Index, load::Maps, reclaim::Reclaim};

/// How to open a data plane.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder for this director's pins, below a bpffs; made if missing.
    pub pin_directory: PathBuf,
    /// Room in the connection table, in connections; used when the table is made, ignored when adopted.
    pub connections: u32,
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
        /// The director's address that its own packets have on this way: the outer source of tunnels.
        own_address: Ipv4Addr,
    },
    /// The route is known, the neighbour is not (yet): the kernel is to resolve it.
    Unresolved {
        /// Interface to send on.
        ifindex: u32,
        /// Largest IP packet on the way, bytes.
        mtu: u16,
        /// Gateway, or the destination itself.
        gateway: Ipv4Addr,
        /// The director's address that its own packets have on this way: the outer source of tunnels.
        own_address: Ipv4Addr,
    },
    /// The destination is the director itself.
    Local,
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
///
/// Dropping it changes nothing: programs, maps and links live on in their pins.
pub struct Datapath {
    object: Ebpf,
    maps: Maps,
    links: PathBuf,
    adopted: bool,
    clock: Clock,
    hops: Hops,
    reclaim: Reclaim,
    attached: Vec<Hooks>,
}

impl std::fmt::Debug for Datapath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Datapath")
            .field("links", &self.links)
            .field("attached", &self.attached)
            .finish_non_exhaustive()
    }
}

impl Datapath {
    /// Load the programs, or adopt what an earlier daemon left pinned: its maps stay, the programs are
    /// replaced by this version's as interfaces are attached.
    pub fn open(options: &Options) -> Result<Self, Error> {
        let load::Loaded {
            object,
            maps,
            adopted,
            links,
        } = load::load(options)?;
        let attached = pinned_links(&links)
            .into_iter()
            .map(Hooks::adopted)
            .collect();
        let mut datapath = Self {
            object,
            maps,
            links,
            adopted,
            clock: Clock::at(0),
            hops: Hops::default(),
            reclaim: Reclaim::default(),
            attached,
        };
        datapath.clock = Clock::at(datapath.now()?);
        if adopted {
            repair::repair(&mut datapath.maps)?;
        }
        datapath.read_maps();
        Ok(datapath)
    }

    /// Make what is known of the maps from the maps, and what follows from it. For tests that write to them, too.
    #[doc(hidden)]
    pub fn read_maps(&mut self) {
        let maps = &mut self.maps;
        maps.index = Index::of(maps);
        maps.config[0].kinds.set(maps.index.kinds());
        settings::take_over(maps);
        filter::refresh(maps);
    }

    /// A loaded program, for tests and benchmarks that run it themselves.
    #[doc(hidden)]
    pub fn program(&self, name: &str) -> Option<&Program> {
        self.object.program(name)
    }

    /// Whether [`Datapath::open`] found a running data plane and took it over.
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// What the maps hold, as a table.
    pub fn table(&self) -> Table {
        let services = services::all_services(&self.maps).into_iter().map(|index| {
            let service = &self.maps.service[index as usize];
            let servers = services::servers(&self.maps, service);
            Service {
                config: translate::config(service),
                servers: servers
                    .iter()
                    .map(|&at| translate::server(&self.maps.server[at as usize]))
                    .collect(),
            }
        });
        Table {
            services: services.collect(),
            timeouts: settings::timeouts(&self.maps),
            settings: self.maps.settings.clone(),
            sync_daemons: Vec::new(),
        }
    }

    /// Carry out one change. On error the maps are as before, but for what the error says.
    pub fn apply(&mut self, change: &Change) -> Result<(), Error> {
        let second = self.clock.second(&self.maps);
        services::apply(&mut self.maps, change, second)
    }

    /// Set the zero point of counters, of one service or all (`ipvsadm -Z`).
    pub fn zero(&mut self, service: Option<&ServiceKey>) -> Result<(), Error> {
        let indices = match service {
            Some(key) => vec![services::find_service(&self.maps, key)?],
            None => services::all_services(&self.maps),
        };
        indices
            .into_iter()
            .try_for_each(|index| statistics::zero(&self.maps, index))
    }

    /// Services, servers, counts and counters, exact at this moment. Rates are left at zero.
    pub fn view(&self) -> Result<View, Error> {
        let maps = &self.maps;
        let totals = statistics::services(maps)?;
        let mut services = Vec::new();
        for index in services::all_services(maps) {
            let service = &maps.service[index as usize];
            let mut servers = Vec::new();
            for at in services::servers(maps, service) {
                let slot = at as usize;
                let total = shown(maps.counts[slot].total.get());
                let active = shown(maps.counts[slot].active.get());
                servers.push(ServerView {
                    server: translate::server(&maps.server[slot]),
                    active,
                    inactive: total.saturating_sub(active),
                    persistent: shown(maps.counts[slot].persistent.get()),
                    counters: statistics::server(maps, slot)?,
                    rates: Rates::default(),
                });
            }
            services.push(ServiceView {
                config: translate::config(service),
                counters: totals.get(index as usize).copied().unwrap_or_default(),
                rates: Rates::default(),
                servers,
            });
        }
        let connection_table_size =
            u32::try_from(maps.connections.len() * WAYS).unwrap_or(u32::MAX);
        Ok(View {
            connection_table_size,
            services,
            timeouts: settings::timeouts(maps),
            settings: defence::shown(maps),
            sync_daemons: Vec::new(),
        })
    }

    /// The connection table.
    pub fn connections(&self) -> Result<Vec<ConnectionView>, Error> {
        Ok(connections::list(&self.maps, self.now()?))
    }

    /// The current tick, from the kernel's own clock.
    fn now(&self) -> Result<u32, Error> {
        let mut out = [0u8; 64];
        let options = TestRunOptions {
            data_in: Some(&[0; 64]),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        };
        let Some(Program::Xdp(program)) = self.object.program("furiwake_clock") else {
            return Err(Error::Missing("program furiwake_clock"));
        };
        program.test_run(options).map_err(|e| Error::Aya {
            what: "run the program",
            path: "furiwake_clock".into(),
            source: Box::new(e),
        })?;
        let jiffies = u64::from_ne_bytes(out[..8].try_into().unwrap_or([0; 8]));
        Ok(furiwake_engine::tables::ticks(
            jiffies,
            &self.maps.config[0],
        ))
    }

    /// Listen on an interface. Idempotent: an adopted attachment is kept (the program is swapped atomically).
    pub fn attach(
        &mut self,
        name: &str,
        ifindex: u32,
        choice: HookChoice,
    ) -> Result<Attached, Error> {
        // A port must be known before XDP looks for it.
        self.set_port(name, ifindex, None);
        let hooks = attach::attach(&mut self.object, &self.links, name, ifindex, choice)?;
        self.set_port(name, ifindex, Some(hooks.takes_xdp));
        let attached = hooks.shown();
        self.attached.retain(|a| a.ifindex() != ifindex);
        self.attached.push(hooks);
        self.attached.sort_by_key(Hooks::ifindex);
        self.hops.refresh(&mut self.maps)?;
        self.routes_changed()?;
        Ok(attached)
    }

    /// Enter an interface's MAC address, and whether it takes what XDP redirects (`None`: as it is).
    fn set_port(&self, name: &str, ifindex: u32, takes_xdp: Option<bool>) {
        let Some(port) = self.maps.port.get(ifindex as usize) else {
            return;
        };
        let mac = attach::mac(name).unwrap_or_default();
        let flags = match takes_xdp {
            Some(true) => Port::XDP,
            Some(false) => 0,
            None => port.mac_tail_flags.get() & Port::XDP,
        };
        port.mac_head
            .set(u32::from_ne_bytes([mac[0], mac[1], mac[2], mac[3]]));
        port.mac_tail_flags
            .set(u32::from(u16::from_ne_bytes([mac[4], mac[5]])) | flags);
    }

    /// Stop listening on an interface, or forget one that is gone.
    pub fn detach(&mut self, ifindex: u32) -> Result<(), Error> {
        attach::detach(&self.links, ifindex)?;
        if let Some(port) = self.maps.port.get(ifindex as usize) {
            port.mac_tail_flags.set(0);
            port.mac_head.set(0);
        }
        self.attached.retain(|a| a.ifindex() != ifindex);
        self.hops.refresh(&mut self.maps)?;
        self.routes_changed()
    }

    /// Every interface listened on.
    pub fn attached(&self) -> Vec<Attached> {
        self.attached.iter().map(Hooks::shown).collect()
    }

    /// Addresses of every server that packets may still go to: those that need a next hop.
    pub fn servers(&self) -> Vec<IpAddr> {
        let is_listed = |at: &u32| index::is_listed(&self.maps.server[*at as usize]);
        let wanted = self.maps.index.addresses();
        let wanted = wanted.filter(|(_, slots)| slots.iter().any(is_listed));
        let mut addresses: Vec<IpAddr> = wanted
            .map(|([address, ..], _)| translate::address(*address).into())
            .collect();
        addresses.sort_unstable();
        addresses
    }

    /// Tell where packets to a server go next.
    pub fn set_next_hop(&mut self, server: IpAddr, hop: NextHop) -> Result<(), Error> {
        match server {
            IpAddr::V4(address) => self.hops.set(&mut self.maps, address, hop),
            IpAddr::V6(_) => Err(Error::NoServer(server)),
        }
    }

    /// A route, neighbour or address changed: next hops towards clients are looked up anew.
    pub fn routes_changed(&mut self) -> Result<(), Error> {
        self.maps.config[0].route_generation.add(1);
        Ok(())
    }

    /// Neighbours that packets to clients go to, as the programs learned them: interface and MAC address.
    pub fn client_neighbours(&self) -> HashSet<(u32, [u8; 6])> {
        hops::learned(&self.maps)
    }

    /// Counted reasons of packets that were not forwarded.
    pub fn reasons(&self) -> Result<Vec<ReasonCount>, Error> {
        let count = |&reason: &Reason| {
            let values = self
                .maps
                .reason
                .get(&(reason as u32), 0)
                .map_err(|e| Error::Aya {
                    what: "read counters",
                    path: "REASON".into(),
                    source: Box::new(e),
                })?;
            let packets = values.iter().sum();
            Ok(ReasonCount {
                name: reason.name(),
                meaning: reason.meaning(),
                drops: reason.drops(),
                packets,
            })
        };
        Reason::ALL.iter().map(count).collect()
    }

    /// Housekeeping, to be called about once a second: free what removed servers held until their last connection ended.
    pub fn maintain(&mut self) -> Result<(), Error> {
        let now = self.now()?;
        self.clock = Clock::at(now);
        let second = self.clock.second(&self.maps);
        services::maintain(&mut self.maps, second)?;
        defence::adjust(&mut self.maps);
        self.reclaim.go_on(&self.maps, now);
        self.look_at_ports()
    }

    /// See whether interfaces still take what XDP redirects: a veth's other end decides, wherever it is.
    fn look_at_ports(&mut self) -> Result<(), Error> {
        let mut hooks = mem::take(&mut self.attached);
        let mut changed = false;
        for hooks in &mut hooks {
            if hooks.look() {
                self.set_port(hooks.name(), hooks.ifindex(), Some(hooks.takes_xdp));
                changed = true;
            }
        }
        self.attached = hooks;
        if changed {
            self.hops.refresh(&mut self.maps)?;
            self.routes_changed()?;
        }
        Ok(())
    }

    /// Remove every trace of a director: filters, links, pins. Returns what was removed, a line each.
    pub fn remove(pin_directory: &Path) -> Result<Vec<String>, Error> {
        remove::everything(pin_directory)
    }
}

/// A count of connections as it is shown: processors that add and subtract at once may take it below zero for
/// a moment.
fn shown(count: u32) -> u32 {
    count.cast_signed().max(0).cast_unsigned()
}

/// Indices of the interfaces that links are pinned for.
fn pinned_links(links: &Path) -> Vec<u32> {
    let names = fs::read_dir(links)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned());
    let mut found: Vec<u32> = names
        .filter_map(|name| {
            name.rsplit_once('-')
                .and_then(|(_, index)| index.parse().ok())
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}
