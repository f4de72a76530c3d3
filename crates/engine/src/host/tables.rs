//! The tables in vectors.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    net::Ipv4Addr,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use crate::{
    connection::Bucket,
    reason::{REASONS, Reason},
    settings,
    shared::Shared64,
    state::TIMEOUTS,
    tables::{
        self, CLIENT_HOPS, CacheKey, Cached, Config, Counters, Counts, FILTER_WORDS, Filter,
        FragmentKey, FragmentPorts, Hop, LINKS, Link, Outcome, PORTS, Port, RING_SLOTS, Route,
        SERVER_HOPS, SERVERS, SERVICES, SchedulerState, Server, Service, ServiceKey, Tables,
    },
};

/// How much fits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Buckets of the connection table; a power of two.
    pub buckets: u32,
    /// Services.
    pub services: u32,
    /// Servers.
    pub servers: u32,
    /// Next hops towards servers.
    pub server_hops: u32,
    /// Slots of all hash rings together.
    pub ring_slots: u32,
}

impl Sizes {
    /// Enough for most tests, and quickly made.
    pub const SMALL: Self = Self {
        buckets: 256,
        services: 64,
        servers: 256,
        server_hops: 256,
        ring_slots: 1 << 18,
    };
    /// Those of the kernel object's maps.
    pub const KERNEL: Self = Self {
        buckets: 1024,
        services: SERVICES,
        servers: SERVERS,
        server_hops: SERVER_HOPS,
        ring_slots: RING_SLOTS,
    };
}

impl Default for Sizes {
    fn default() -> Self {
        Self::SMALL
    }
}

/// Jiffies in a second here, as in a kernel with `CONFIG_HZ=1000`.
const JIFFIES_PER_SECOND: u64 = 1000;
/// The shift that makes about 128 ticks a second of them.
const TICK_SHIFT: u32 = 3;
const FRAGMENTS: usize = 16384;

type RouteFunction = dyn Fn(Ipv4Addr, Ipv4Addr, u8) -> Route + Send + Sync;

/// The state of a director in this process's memory.
pub struct HostTables {
    jiffies: Shared64,
    config: Config,
    filter: Box<Filter>,
    buckets: Vec<Bucket>,
    pub(super) service_index: HashMap<ServiceKey, u32>,
    pub(super) services: Vec<Service>,
    scheduler_states: Vec<SchedulerState>,
    pub(super) servers: Vec<Server>,
    pub(super) counts: Vec<Counts>,
    counters: Vec<Counters>,
    pub(super) server_hops: Vec<Hop>,
    client_hops: OnceLock<Vec<Hop>>,
    hop_by_server: HashMap<Ipv4Addr, u32>,
    ports: HashMap<u32, Port>,
    no_port: Port,
    reasons: Vec<Shared64>,
    fragments: Mutex<Fragments>,
    errors: Mutex<Errors>,
    pub(super) rings: Vec<Shared64>,
    cached: Mutex<HashMap<CacheKey, Cached>>,
    links: Mutex<HashMap<u32, Link>>,
    random: Shared64,
    routes: HashMap<Ipv4Addr, Route>,
    otherwise: Box<RouteFunction>,
}

#[derive(Default)]
struct Fragments {
    ports: HashMap<FragmentKey, FragmentPorts>,
    order: VecDeque<FragmentKey>,
}

#[derive(Default)]
struct Errors {
    window: u64,
    sent: u64,
}

impl HostTables {
    /// Tables without services, with default timeouts, whose clock stands still a while after boot.
    ///
    /// # Panics
    /// When the number of buckets is not a power of two.
    pub fn new(sizes: Sizes) -> Self {
        assert!(sizes.buckets.is_power_of_two(), "buckets: a power of two");
        let tables = Self {
            jiffies: Shared64::new(1_000 * JIFFIES_PER_SECOND),
            config: Config::default(),
            filter: Box::new(Filter {
                virtuals: [const { Shared64::new(0) }; FILTER_WORDS],
                servers: [const { Shared64::new(0) }; FILTER_WORDS],
            }),
            buckets: many(sizes.buckets),
            service_index: HashMap::new(),
            services: many(sizes.services),
            scheduler_states: many(sizes.services),
            servers: many(sizes.servers),
            counts: many(sizes.servers),
            counters: many(sizes.servers),
            server_hops: many(sizes.server_hops),
            client_hops: OnceLock::new(),
            hop_by_server: HashMap::new(),
            ports: HashMap::new(),
            no_port: Port::default(),
            reasons: many(REASONS),
            fragments: Mutex::default(),
            errors: Mutex::default(),
            rings: many(sizes.ring_slots / 4),
            cached: Mutex::default(),
            links: Mutex::default(),
            random: Shared64::new(0x2545_f491_4f6c_dd1d),
            routes: HashMap::new(),
            otherwise: Box::new(|_, _, _| Route::none(Outcome::Unreachable)),
        };
        // What has no hop yet is at this one, and nothing is too long for it.
        if let Some(hop) = tables.server_hops.first() {
            hop.mtu.set(u32::MAX >> 1);
        }
        let config = &tables.config;
        config.seed.set(0x5eed_0f7a_b1e5_c0de);
        config.bucket_mask.set(sizes.buckets - 1);
        config.tick_shift.set(TICK_SHIFT);
        config
            .ticks_per_second
            .set((JIFFIES_PER_SECOND >> TICK_SHIFT) as u32);
        config.errors_per_second.set(1000);
        config.sweep_step.set(512);
        config.set_transitions(false);
        config.settings.set(settings::DEFAULT);
        config.conn_reuse_mode.set(settings::CONN_REUSE_MODE);
        config.lblc_expiration.set(settings::LBLC_EXPIRATION);
        config.lblcr_expiration.set(settings::LBLC_EXPIRATION);
        for (state, seconds) in TIMEOUTS.iter().enumerate() {
            tables.set_timeout(state, *seconds);
        }
        tables
    }

    /// Set how long connections in a state (by its number) live after a packet.
    pub fn set_timeout(&self, state: usize, seconds: u32) {
        if let Some(timeout) = self.config.timeouts.get(state) {
            timeout.set(seconds * self.config.ticks_per_second.get());
        }
    }

    /// Set the clock.
    pub fn set_jiffies(&self, jiffies: u64) {
        self.jiffies.set(jiffies);
    }

    /// Move the clock forward. Nothing is swept by that, see [`sweep`](Self::sweep).
    pub fn advance_ms(&self, milliseconds: u64) {
        let jiffies = milliseconds * JIFFIES_PER_SECOND / 1000;
        self.jiffies.set(self.jiffies.get() + jiffies);
    }

    /// Settings, to be changed.
    pub fn settings(&self) -> &Config {
        &self.config
    }

    /// Addresses worth a look, to be changed.
    pub fn addresses(&self) -> &Filter {
        &self.filter
    }

    /// Tell of an interface of the director.
    pub fn set_port(&mut self, ifindex: u32, mac: [u8; 6], takes_xdp: bool) {
        let [a, b, c, d, e, f] = mac;
        let flags = if takes_xdp { Port::XDP } else { 0 };
        let port = Port::default();
        port.mac_head.set(u32::from_ne_bytes([a, b, c, d]));
        port.mac_tail_flags
            .set(u16::from_ne_bytes([e, f]) as u32 | flags);
        self.ports.insert(ifindex, port);
    }

    /// Set the answer about the way to an address.
    pub fn set_route(&mut self, destination: Ipv4Addr, route: Route) {
        self.routes.insert(destination, route);
    }

    /// Set who answers about the way to addresses without an answer of their own: asked with source,
    /// destination and type of service. At first all of them are unreachable.
    pub fn set_route_function(
        &mut self,
        function: impl Fn(Ipv4Addr, Ipv4Addr, u8) -> Route + Send + Sync + 'static,
    ) {
        self.otherwise = Box::new(function);
    }

    /// Index of the hop towards a server's address.
    pub(super) fn hop_to(&self, server: Ipv4Addr) -> Option<u32> {
        self.hop_by_server.get(&server).copied()
    }

    pub(super) fn remember_hop(&mut self, server: Ipv4Addr, hop: u32) {
        self.hop_by_server.insert(server, hop);
    }

    /// How often a reason was counted.
    pub fn reason(&self, reason: Reason) -> u64 {
        self.reasons[reason as usize].get()
    }

    /// Every reason that was counted, and how often.
    pub fn reasons(&self) -> Vec<(Reason, u64)> {
        let counted = |&reason: &Reason| (reason, self.reason(reason));
        Reason::ALL
            .iter()
            .map(counted)
            .filter(|&(_, n)| n > 0)
            .collect()
    }

    /// Every bucket of the connection table.
    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }
}

impl Default for HostTables {
    fn default() -> Self {
        Self::new(Sizes::default())
    }
}

impl fmt::Debug for HostTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostTables")
            .field("jiffies", &self.jiffies)
            .field("services", &self.service_index)
            .field("reasons", &self.reasons())
            .finish_non_exhaustive()
    }
}

impl Tables for HostTables {
    fn now(&self) -> u64 {
        self.jiffies.get()
    }

    fn config(&self) -> Option<&Config> {
        Some(&self.config)
    }

    fn filter(&self) -> Option<&Filter> {
        Some(&self.filter)
    }

    fn bucket(&self, index: u32) -> Option<&Bucket> {
        self.buckets.get(index as usize)
    }

    fn find_service(&self, key: &ServiceKey) -> Option<u32> {
        self.service_index.get(key).copied()
    }

    fn service(&self, index: u32) -> Option<&Service> {
        self.services.get(index as usize)
    }

    fn scheduler_state(&self, service: u32) -> Option<&SchedulerState> {
        self.scheduler_states.get(service as usize)
    }

    fn server(&self, index: u32) -> Option<&Server> {
        self.servers.get(index as usize)
    }

    fn counts(&self, server: u32) -> Option<&Counts> {
        self.counts.get(server as usize)
    }

    fn counters(&self, server: u32) -> Option<&Counters> {
        self.counters.get(server as usize)
    }

    fn hop(&self, index: u32) -> Option<&Hop> {
        match index.checked_sub(SERVER_HOPS) {
            None => self.server_hops.get(index as usize),
            Some(index) => self
                .client_hops
                .get_or_init(|| many(CLIENT_HOPS))
                .get(index as usize),
        }
    }

    fn ring(&self, word: u32) -> Option<&Shared64> {
        self.rings.get(word as usize)
    }

    fn cached(&self, key: &CacheKey) -> Option<Cached> {
        lock(&self.cached).get(key).copied()
    }

    fn cache(&self, key: &CacheKey, cached: &Cached) {
        lock(&self.cached).insert(*key, *cached);
    }

    fn link(&self, position: u32) -> Option<Link> {
        lock(&self.links).get(&position).copied()
    }

    fn set_link(&self, position: u32, link: Option<Link>) -> bool {
        let mut links = lock(&self.links);
        match link {
            Some(_) if links.len() >= LINKS as usize => return false,
            Some(link) => links.insert(position, link),
            None => links.remove(&position),
        };
        true
    }

    fn random(&self) -> u32 {
        // xorshift64*: the same sequence in every run.
        let mut x = self.random.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random.set(x);
        (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    fn count(&self, reason: Reason) {
        self.reasons[reason as usize].add(1);
    }

    fn remember_fragment(&self, key: &FragmentKey, ports: FragmentPorts) {
        let mut fragments = lock(&self.fragments);
        if fragments.ports.insert(*key, ports).is_some() {
            return;
        }
        fragments.order.push_back(*key);
        if fragments.order.len() > FRAGMENTS
            && let Some(oldest) = fragments.order.pop_front()
        {
            fragments.ports.remove(&oldest);
        }
    }

    fn find_fragment(&self, key: &FragmentKey) -> Option<FragmentPorts> {
        lock(&self.fragments).ports.get(key).copied()
    }

    fn may_send_error(&self) -> bool {
        let mut errors = lock(&self.errors);
        let now = tables::ticks(self.now(), &self.config) as u64;
        if now.wrapping_sub(errors.window) >= self.config.ticks_per_second.get() as u64 {
            errors.window = now;
            errors.sent = 0;
        }
        errors.sent += 1;
        errors.sent <= self.config.errors_per_second.get() as u64
    }

    fn port(&self, ifindex: u32) -> Option<&Port> {
        // The kernel's map is an array: what was never set is zero.
        (ifindex < PORTS).then(|| self.ports.get(&ifindex).unwrap_or(&self.no_port))
    }

    fn repeat<F: FnMut() -> bool>(&self, times: u32, mut turn: F) {
        for _ in 0..times {
            if turn() {
                return;
            }
        }
    }

    fn route(&self, source: u32, destination: u32, tos: u8) -> Route {
        let destination = Ipv4Addr::from(destination.to_ne_bytes());
        match self.routes.get(&destination) {
            Some(route) => *route,
            None => (self.otherwise)(Ipv4Addr::from(source.to_ne_bytes()), destination, tos),
        }
    }
}

fn many<T: Default>(count: u32) -> Vec<T> {
    (0..count).map(|_| T::default()).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
