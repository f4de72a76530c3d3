//! Services, servers and next hops put into [`HostTables`] as the daemon puts them into the maps.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::HostTables;
use crate::{
    connection::{self, Bucket},
    list,
    packet::TCP,
    schedule::Scheduler,
    shared::Shared64,
    state, sweep,
    tables::{Config, FILTER_WORDS, Filter, Hop, NONE, Server, Service, ServiceKey, Tables, ticks},
    transmit::{GATEWAY, MASQUERADE, TUNNEL},
};

/// Where packets to a server go next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Interface to send on.
    pub ifindex: u32,
    /// Largest IP packet on the way.
    pub mtu: u32,
    /// The neighbour that it goes to.
    pub gateway: Ipv4Addr,
    /// MAC addresses of the neighbour and of the interface, when known.
    pub macs: Option<([u8; 6], [u8; 6])>,
    /// Whether the interface takes packets that XDP redirects.
    pub takes_xdp: bool,
    /// The director's address on this way: source of a tunnel's outer header.
    pub source: Ipv4Addr,
}

/// What a service has besides its servers and scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceOptions {
    /// Of the flags of a [`Service`]: one-packet scheduling and those of the scheduler.
    pub flags: u32,
    /// Seconds that a persistence template lives; 0: the service is not persistent.
    pub persistence: u32,
    /// Part of the client's address that persistence goes by.
    pub netmask: Ipv4Addr,
    /// Seconds over which a new or returning server's share grows; 0: it has all at once.
    pub slow_start: u32,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            flags: 0,
            persistence: 0,
            netmask: Ipv4Addr::BROADCAST,
            slow_start: 0,
        }
    }
}

/// How a server gets its packets, and how many connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerOptions {
    /// Forwarding method.
    pub method: Method,
    /// Weight; 0 is quiesced.
    pub weight: u32,
    /// Connections at which it gets no new ones; 0: no limit.
    pub upper: u32,
    /// Connections below which an overloaded server gets new ones again; 0: three quarters of the upper limit.
    pub lower: u32,
}

/// Forwarding method of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Network address translation.
    Masquerade,
    /// Direct routing.
    Gateway,
    /// Encapsulation, with parameters as [`Server::tunnel`] holds them.
    Tunnel(u32),
}

impl Method {
    /// IPVS's number.
    const fn number(self) -> u16 {
        match self {
            Self::Masquerade => MASQUERADE,
            Self::Gateway => GATEWAY,
            Self::Tunnel(_) => TUNNEL,
        }
    }

    const fn tunnel(self) -> u32 {
        match self {
            Self::Tunnel(parameters) => parameters,
            Self::Masquerade | Self::Gateway => 0,
        }
    }
}

impl ServerOptions {
    /// Masqueraded, without thresholds.
    pub const fn masqueraded(weight: u32) -> Self {
        Self {
            method: Method::Masquerade,
            weight,
            upper: 0,
            lower: 0,
        }
    }
}

impl NextHop {
    fn flags(&self) -> u32 {
        let resolved = if self.macs.is_some() {
            Hop::RESOLVED
        } else {
            0
        };
        let xdp = if self.takes_xdp { Hop::XDP } else { 0 };
        Hop::ROUTED | resolved | xdp
    }
}

/// A connection, as `ipvsadm -Lnc` lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection {
    /// IP protocol.
    pub protocol: u8,
    /// The client's end.
    pub client: SocketAddrV4,
    /// The virtual end.
    pub virtual_end: SocketAddrV4,
    /// The server's end.
    pub server: SocketAddrV4,
    /// State, as ipvsadm names it.
    pub state: &'static str,
    /// Whole seconds until it expires.
    pub seconds: u32,
    /// Whether it is a persistence template.
    pub template: bool,
}

/// Ethernet addresses as they lie at the start of a frame to `destination` from `source`.
pub(crate) fn mac_words(destination: [u8; 6], source: [u8; 6]) -> [u32; 3] {
    let mut bytes = [0; 12];
    bytes[..6].copy_from_slice(&destination);
    bytes[6..].copy_from_slice(&source);
    let word =
        |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    [word(0), word(4), word(8)]
}

impl HostTables {
    /// Add a service; gives its index. `None` when there is one, or no room.
    pub fn add_service(
        &mut self,
        end: SocketAddrV4,
        protocol: u8,
        scheduler: Scheduler,
    ) -> Option<u32> {
        let key = service_key(end, protocol);
        let is_free = |service: &Service| service.flags.get() & Service::USED == 0;
        let index = self.services.iter().position(is_free)? as u32;
        if self.service_index.contains_key(&key) {
            return None;
        }
        let service = self.service(index)?;
        service.address.set(key.address[0]);
        service
            .port_protocol
            .set(key.port as u32 | (protocol as u32) << 16);
        service.head.set(NONE);
        service.flags.set(Service::USED);
        service.created.set(index);
        list::set_scheduler(self, index, scheduler).ok()?;
        self.set_options(index, &ServiceOptions::default())?;
        self.service_index.insert(key, index);
        self.services_changed();
        Some(index)
    }

    /// Give a service its options, all at once.
    pub fn set_options(&self, service: u32, options: &ServiceOptions) -> Option<()> {
        let service = self.service(service)?;
        let kept = service.flags.get() & (Service::USED | Service::REMOVED);
        service.flags.set(kept | options.flags);
        service.persistence.set(options.persistence);
        let netmask = options.netmask.octets();
        service.netmask.set(u32::from_ne_bytes(netmask));
        service.slow_start.set(options.slow_start);
        Some(())
    }

    /// Index of a service.
    pub fn service_at(&self, end: SocketAddrV4, protocol: u8) -> Option<u32> {
        self.find_service(&service_key(end, protocol))
    }

    /// Remove a service and its servers. Their connections stay until they expire.
    pub fn remove_service(&mut self, index: u32) -> Option<()> {
        for server in self.servers_of(index) {
            list::unlink(self, server)?;
        }
        self.service_index.retain(|_, at| *at != index);
        self.service(index)?
            .flags
            .set(Service::USED | Service::REMOVED);
        self.services_changed();
        Some(())
    }

    /// Servers of a service, newest first.
    pub fn servers_of(&self, service: u32) -> Vec<u32> {
        match self.service(service) {
            Some(service) => list::servers(self, service).collect(),
            None => Vec::new(),
        }
    }

    /// Index of a service's server.
    pub fn server_at(&self, service: u32, end: SocketAddrV4) -> Option<u32> {
        let is_it = |&at: &u32| self.server(at).is_some_and(|server| is_at(server, end));
        self.servers_of(service).into_iter().find(is_it)
    }

    /// Add a server, masqueraded, as [`add_server_with`](Self::add_server_with) does.
    pub fn add_server(&mut self, service: u32, end: SocketAddrV4, weight: u32) -> Option<u32> {
        self.add_server_with(service, end, &ServerOptions::masqueraded(weight))
    }

    /// Add a server at the head of a service's list; gives its index. One that was removed and
    /// still has its slot comes back with its connections. `None` when it is there, or no room.
    pub fn add_server_with(
        &mut self,
        service: u32,
        end: SocketAddrV4,
        options: &ServerOptions,
    ) -> Option<u32> {
        if self.server_at(service, end).is_some() {
            return None;
        }
        let is_revived = |server: &Server| {
            server.flags.get() & (Server::USED | Server::AVAILABLE) == Server::USED
                && self.are_alike(server.service.get(), service)
                && is_at(server, end)
        };
        let is_free = |server: &Server| server.flags.get() == 0;
        let slots = &self.servers;
        let revived = slots.iter().position(is_revived);
        let index = revived.or_else(|| slots.iter().position(is_free))? as u32;
        let server = self.server(index)?;
        server.address.set(u32::from_ne_bytes(end.ip().octets()));
        server.port.set(end.port().to_be());
        server.since.set(self.second());
        server.hop.set(self.hop_to(*end.ip()).unwrap_or(0));
        if server.service.get() != service {
            // The service was made anew: its servers' connections live on, what they counted does not.
            let counters = self.counters(index)?;
            counters.connections.set(0);
            counters.in_packets.set(0);
            counters.in_bytes.set(0);
            counters.out_packets.set(0);
            counters.out_bytes.set(0);
        }
        // Of one that comes back as well, and 0 as well (`__ip_vs_update_dest`).
        server.last_weight.set(options.weight);
        self.write_options(index, options)?;
        list::link(self, service, index)?;
        self.mark_addresses();
        Some(index)
    }

    /// Give a server other options. It keeps its place in the list; connections keep the method that they have.
    pub fn edit_server(&mut self, server: u32, options: &ServerOptions) -> Option<()> {
        if self.server(server)?.weight.get() == 0 {
            self.server(server)?.since.set(self.second());
        }
        self.write_options(server, options)?;
        self.mark_addresses();
        list::weights_changed(self, self.server(server)?.service.get())
    }

    fn write_options(&self, index: u32, options: &ServerOptions) -> Option<()> {
        let (server, counts) = (self.server(index)?, self.counts(index)?);
        server.method.set(options.method.number());
        if options.method == Method::Masquerade {
            server.flags.set(server.flags.get() | Server::REPLIES);
        }
        server.tunnel.set(options.method.tunnel());
        server.weight.set(options.weight);
        if options.weight != 0 {
            server.last_weight.set(options.weight);
        }
        // A lower limit is seen with the next connection only (`__ip_vs_update_dest`).
        if options.upper == 0 || options.upper > server.upper.get() {
            counts.overloaded.set(0);
        }
        server.upper.set(options.upper);
        server.lower.set(options.lower);
        Some(())
    }

    /// Second since boot.
    fn second(&self) -> u32 {
        let per_second = self.settings().ticks_per_second.get().max(1);
        ticks(self.now(), self.settings()) / per_second
    }

    /// Whether two services have the same address, port and protocol.
    fn are_alike(&self, one: u32, other: u32) -> bool {
        let key = |index| {
            let service = self.service(index)?;
            Some((service.address.get(), service.port_protocol.get()))
        };
        key(one) == key(other)
    }

    /// Change a server's weight.
    pub fn set_weight(&self, server: u32, weight: u32) -> Option<()> {
        let server = self.server(server)?;
        server.weight.set(weight);
        if weight != 0 {
            server.last_weight.set(weight);
        }
        list::weights_changed(self, server.service.get())
    }

    /// Change a service's scheduler.
    pub fn set_scheduler(&self, service: u32, scheduler: Scheduler) -> Option<()> {
        list::set_scheduler(self, service, scheduler).ok()
    }

    /// Remove a server from its service. Its connections stay until they expire, or until the sweeper finds them when
    /// `expire_nodest_conn` is on.
    pub fn remove_server(&self, server: u32) -> Option<()> {
        list::unlink(self, server)
    }

    /// Tell where packets to a server's address go next, in all services and those to come. Hops are written
    /// once: this makes a new one.
    pub fn set_next_hop(&mut self, server: Ipv4Addr, next: NextHop) -> Option<()> {
        let index = self.free_hop()?;
        let hop = &self.server_hops[index];
        if let Some((destination, source)) = next.macs {
            let words = mac_words(destination, source);
            let cells = hop.macs.iter().zip(words);
            cells.for_each(|(cell, word)| cell.set(word));
        }
        hop.ifindex.set(next.ifindex);
        hop.gateway.set(u32::from_ne_bytes(next.gateway.octets()));
        hop.mtu.set(next.mtu);
        hop.source.set(u32::from_ne_bytes(next.source.octets()));
        hop.flags.set(next.flags());
        self.point_at_hop(server, index as u32);
        Some(())
    }

    /// Tell that there is no route to a server's address.
    pub fn set_unreachable(&mut self, server: Ipv4Addr) -> Option<()> {
        let index = self.free_hop()?;
        self.server_hops[index].mtu.set(u32::MAX >> 1);
        self.server_hops[index].flags.set(Hop::UNREACHABLE);
        self.point_at_hop(server, index as u32);
        Some(())
    }

    fn free_hop(&self) -> Option<usize> {
        (1..self.server_hops.len()).find(|&at| self.server_hops[at].flags.get() == 0)
    }

    fn point_at_hop(&mut self, address: Ipv4Addr, hop: u32) {
        let word = u32::from_ne_bytes(address.octets());
        for server in &self.servers {
            if server.flags.get() != 0 && server.address.get() == word {
                server.hop.set(hop);
            }
        }
        self.remember_hop(address, hop);
    }

    /// Run the sweeper once over the whole connection table.
    pub fn sweep(&self) {
        let mut from = 0;
        let step = self.settings().sweep_step.get() as usize;
        for _ in 0..self.buckets().len().div_ceil(step) {
            from = sweep::sweep(self, from);
        }
    }

    /// Every connection, in order.
    pub fn connections(&self) -> Vec<Connection> {
        let mut all: Vec<_> = self
            .buckets()
            .iter()
            .flat_map(|b| self.in_bucket(b))
            .collect();
        all.sort();
        all
    }

    /// Tell which kinds of services there are, and mark addresses anew.
    fn services_changed(&self) {
        let kind = |key: &ServiceKey| match u16::from_be(key.port) {
            0 => Config::EVERY_PORT,
            21 => Config::FTP,
            _ => 0,
        };
        let kinds = self.service_index.keys().map(kind);
        self.settings()
            .kinds
            .set(kinds.fold(0, |all, kind| all | kind));
        self.mark_addresses();
    }

    /// Mark the addresses that packets are to be looked at for: of services, and of servers that masquerade or have
    /// connections that may; also of removed ones. As in IPVS, whose hooks go with the last service, nothing is looked at when
    /// there is none left.
    fn mark_addresses(&self) {
        let filter = self.addresses();
        let words = filter.virtuals.iter().chain(&filter.servers);
        words.for_each(|word| word.set(0));
        if self.service_index.is_empty() {
            return;
        }
        for service in self.services.iter().filter(|s| s.flags.get() != 0) {
            mark(&filter.virtuals, service.address.get());
        }
        let servers = self.servers.iter();
        for server in servers.filter(|server| server.flags.get() & Server::REPLIES != 0) {
            mark(&filter.servers, server.address.get());
        }
    }

    fn in_bucket(&self, bucket: &Bucket) -> Vec<Connection> {
        let tags = bucket.tags.get();
        let now = ticks(self.now(), self.settings());
        let mut found = Vec::new();
        for (lane, way) in bucket.ways.iter().enumerate() {
            let word = way.word.get();
            let (Some(server), Some(state)) = (
                self.server(way.server.get()),
                state::NAMES.get(connection::state_of(word) as usize),
            ) else {
                continue;
            };
            if tags >> (16 * lane) & 0xffff <= 1 {
                continue;
            }
            let ports = way.ports.get();
            let left = way.expires.get().wrapping_sub(now) as i32;
            let template = word & connection::TEMPLATE != 0;
            found.push(Connection {
                protocol: connection::protocol_of(word),
                client: end(way.client.get(), connection::first(ports)),
                virtual_end: end(way.virtual_address.get(), connection::last(ports)),
                server: end(server.address.get(), way.server_port(server)),
                template,
                state,
                seconds: left.max(0) as u32 / self.settings().ticks_per_second.get().max(1),
            });
        }
        found
    }
}

impl Connection {
    /// The protocol's name as ipvsadm prints it.
    pub fn protocol_name(&self) -> &'static str {
        if self.protocol == TCP { "TCP" } else { "UDP" }
    }
}

fn service_key(end: SocketAddrV4, protocol: u8) -> ServiceKey {
    ServiceKey::v4(
        u32::from_ne_bytes(end.ip().octets()),
        end.port().to_be(),
        protocol,
    )
}

fn is_at(server: &Server, end: SocketAddrV4) -> bool {
    server.address.get() == u32::from_ne_bytes(end.ip().octets())
        && server.port.get() == end.port().to_be()
}

fn end(address: u32, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from(address.to_ne_bytes()), u16::from_be(port))
}

fn mark(words: &[Shared64; FILTER_WORDS], address: u32) {
    let (word, bit) = Filter::place(address);
    words[word].set(words[word].get() | 1 << bit);
}
