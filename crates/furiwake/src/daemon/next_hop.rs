//! Where packets to each server go next: events of the kernel's routing in, actions out, no I/O.
//!
//! A server's next hop follows from three things that change on their own: the route to its address, the
//! neighbour entry of the gateway on that route, and the interface. The data plane does no lookups towards
//! servers; it uses what was last told, so what is told must be right and told only when it changes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque, btree_map::Entry},
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use furiwake_datapath::NextHop;

/// How long until an unresolved neighbour is asked for again; doubled up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest pause between two attempts to resolve.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How often a stale entry is poked. The kernel probes a stale neighbour only when its own stack sends to
/// it, and our packets do not pass there.
const POKE_EVERY: Duration = Duration::from_secs(10);
/// The most neighbours towards clients that are poked.
const MOST_CLIENTS: usize = 1024;

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// Index.
    pub(crate) ifindex: u32,
    /// Name.
    pub(crate) name: String,
    /// Whether it speaks Ethernet (loopback does not count).
    pub(crate) ethernet: bool,
    /// Whether it is up.
    pub(crate) up: bool,
    /// Its own MAC address.
    pub(crate) mac: Option<[u8; 6]>,
    /// Largest IP packet.
    pub(crate) mtu: u32,
    /// The bond, bridge or team that it is a port of.
    pub(crate) port_of: Option<u32>,
    /// The interface whose VLAN it is.
    pub(crate) vlan_of: Option<u32>,
}

/// How far the kernel trusts a neighbour entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Confirmed, being confirmed, or set by hand.
    Fresh,
    /// Known but not confirmed for a while.
    Stale,
    /// Not known: being resolved, failed, or no entry.
    Unknown,
}

/// An entry of the kernel's neighbour table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Neighbour {
    /// Interface.
    pub(crate) ifindex: u32,
    /// Address that was resolved.
    pub(crate) address: Ipv4Addr,
    /// MAC address, if known.
    pub(crate) mac: Option<[u8; 6]>,
    /// How far it can be trusted.
    pub(crate) trust: Trust,
}

/// The kernel's answer to "how do packets get to this address".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// Through an interface.
    Via {
        /// Interface.
        ifindex: u32,
        /// Gateway, or the address itself when it is on the link.
        gateway: Ipv4Addr,
        /// Source address of packets of this host's own that go there.
        own_address: Ipv4Addr,
        /// MTU of the route, when it has one of its own.
        mtu: Option<u32>,
    },
    /// It is an address of this host.
    Local,
    /// There is none.
    None,
}

/// What the daemon is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ask the kernel for the route to a server; the answer goes to [`NextHops::handle_route`].
    LookUpRoute(Ipv4Addr),
    /// Ask the kernel to resolve, or to confirm, a neighbour.
    Resolve {
        /// Interface.
        ifindex: u32,
        /// Address.
        address: Ipv4Addr,
    },
    /// Tell the data plane.
    SetNextHop(IpAddr, NextHop),
    /// Tell the data plane that next hops towards clients may have changed.
    RoutesChanged,
}

/// A server's way, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Way {
    /// The server's address.
    pub(crate) server: IpAddr,
    /// Name of the interface, if there is a route.
    pub(crate) interface: Option<String>,
    /// Next hop as the data plane has it.
    pub(crate) hop: Option<NextHop>,
    /// What the state means.
    pub(crate) state: &'static str,
}

/// The routing that matters to a director.
#[derive(Debug, Default)]
pub(crate) struct NextHops {
    links: BTreeMap<u32, Link>,
    neighbours: HashMap<(u32, Ipv4Addr), Neighbour>,
    targets: BTreeMap<Ipv4Addr, Target>,
    /// Addresses of a family that has no next hops yet.
    unsupported: BTreeSet<IpAddr>,
    /// Neighbours that packets to clients go to: interface and MAC address.
    clients: HashSet<(u32, [u8; 6])>,
    /// Neighbours that servers or clients need and that must be asked for, or poked.
    asking: BTreeMap<(u32, Ipv4Addr), Asking>,
    routes_changed: bool,
    actions: VecDeque<Action>,
}

impl NextHops {
    /// The addresses that need a next hop are these now.
    pub(crate) fn set_servers(&mut self, servers: &[IpAddr], now: Instant) {
        let mut wanted = BTreeSet::new();
        self.unsupported.clear();
        for server in servers {
            match server {
                IpAddr::V4(address) => wanted.insert(*address),
                IpAddr::V6(_) => self.unsupported.insert(*server),
            };
        }
        self.targets.retain(|address, _| wanted.contains(address));
        for address in wanted {
            if let Entry::Vacant(place) = self.targets.entry(address) {
                place.insert(Target::default());
                self.look_up(address);
            }
        }
        self.refresh(now);
    }

    /// The data plane sends packets to clients by these neighbours, interface and MAC address.
    pub(crate) fn set_clients(&mut self, neighbours: HashSet<(u32, [u8; 6])>) {
        self.clients = neighbours;
    }

    /// The data plane may have forgotten what it was told about a server: tell it again.
    pub(crate) fn repeat(&mut self, server: IpAddr) {
        if let IpAddr::V4(address) = server
            && let Some(target) = self.targets.get_mut(&address)
        {
            target.told = None;
            self.tell(address);
        }
    }

    /// The data plane could not be told about a server: [`NextHops::set_servers`] makes it be told again.
    pub(crate) fn handle_not_told(&mut self, server: IpAddr) {
        if let IpAddr::V4(address) = server
            && let Some(target) = self.targets.get_mut(&address)
        {
            target.told = None;
        }
    }

    /// An interface appeared or changed.
    pub(crate) fn handle_link(&mut self, link: Link, now: Instant) {
        if self.links.get(&link.ifindex) == Some(&link) {
            return;
        }
        self.links.insert(link.ifindex, link);
        self.handle_routes(now);
    }

    /// An interface is gone.
    pub(crate) fn handle_link_gone(&mut self, ifindex: u32, now: Instant) {
        if self.links.remove(&ifindex).is_some() {
            self.neighbours.retain(|(on, _), _| *on != ifindex);
            self.handle_routes(now);
        }
    }

    /// A neighbour entry appeared or changed; an entry that was removed comes with [`Trust::Unknown`].
    pub(crate) fn handle_neighbour(&mut self, neighbour: Neighbour, now: Instant) {
        let key = (neighbour.ifindex, neighbour.address);
        let before = if neighbour.trust == Trust::Unknown {
            self.neighbours.remove(&key)
        } else {
            self.neighbours.insert(key, neighbour)
        };
        let usable = |entry: &Neighbour| entry.mac.filter(|_| entry.trust != Trust::Unknown);
        // Who was not known before was not cached by the data plane either.
        if let Some(mac) = before.as_ref().and_then(usable)
            && usable(&neighbour) != Some(mac)
        {
            self.routes_changed = true;
        }
        if self.is_gateway(key) {
            self.refresh(now);
        }
    }

    /// Some route, address or rule changed: every route is looked up anew.
    pub(crate) fn handle_routes(&mut self, now: Instant) {
        self.routes_changed = true;
        let addresses: Vec<_> = self.targets.keys().copied().collect();
        for address in addresses {
            self.look_up(address);
        }
        self.refresh(now);
    }

    /// Everything is told anew, after messages were lost.
    pub(crate) fn handle_snapshot(
        &mut self,
        links: Vec<Link>,
        neighbours: Vec<Neighbour>,
        now: Instant,
    ) {
        self.links = links.into_iter().map(|link| (link.ifindex, link)).collect();
        self.neighbours = neighbours
            .into_iter()
            .filter(|neighbour| neighbour.trust != Trust::Unknown)
            .map(|neighbour| ((neighbour.ifindex, neighbour.address), neighbour))
            .collect();
        // Answers may have been lost, too. One that is still to come does no harm.
        for target in self.targets.values_mut() {
            target.lookup = Lookup::Idle;
        }
        self.handle_routes(now);
    }

    /// The answer to [`Action::LookUpRoute`].
    pub(crate) fn handle_route(&mut self, server: Ipv4Addr, route: Route, now: Instant) {
        let Some(target) = self.targets.get_mut(&server) else {
            return;
        };
        let gateway_before = target.gateway();
        target.route = Some(route);
        let gateway = target.gateway();
        let again = matches!(target.lookup, Lookup::OutstandingAndOld);
        target.lookup = Lookup::Idle;
        if again {
            self.look_up(server);
        }
        if gateway_before.is_some() && gateway != gateway_before {
            // The one before may be needed no more.
            self.refresh(now);
            return;
        }
        // There may be thousands of answers: each concerns one server.
        self.tell(server);
        if let Some(key) = gateway.filter(|key| needs_neighbour(&self.links, key)) {
            let trust = trust(&self.neighbours, &key);
            ask_for(&mut self.asking, key, trust, now);
        }
    }

    /// Ask again for what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for ((ifindex, address), asking) in &mut self.asking {
            if asking.next <= now {
                asking.next = now + asking.wait;
                asking.wait = match asking.trust {
                    Trust::Stale => POKE_EVERY,
                    _ => (asking.wait * 2).min(LONGEST_WAIT),
                };
                self.actions.push_back(Action::Resolve {
                    ifindex: *ifindex,
                    address: *address,
                });
            }
        }
    }

    /// When [`NextHops::handle_timeout`] is due.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.asking.values().map(|asking| asking.next).min()
    }

    /// What to do next.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        // Last, and once for many events: it makes the data plane look up every client anew.
        self.actions
            .pop_front()
            .or_else(|| std::mem::take(&mut self.routes_changed).then_some(Action::RoutesChanged))
    }

    /// The interface of this name.
    pub(crate) fn link_named(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// Every server's way.
    pub(crate) fn ways(&self) -> Vec<Way> {
        let known = self.targets.iter().map(|(address, target)| Way {
            server: IpAddr::V4(*address),
            interface: match target.route {
                Some(Route::Via { ifindex, .. }) => {
                    self.links.get(&ifindex).map(|link| link.name.clone())
                }
                _ => None,
            },
            hop: target.told,
            state: self.describe(target),
        });
        let unsupported = self.unsupported.iter().map(|server| Way {
            server: *server,
            interface: None,
            hop: None,
            state: "IPv6 is not supported yet",
        });
        known.chain(unsupported).collect()
    }

    fn describe(&self, target: &Target) -> &'static str {
        match target.route {
            None => "route not known yet",
            Some(Route::None) => "no route",
            Some(Route::Local) => "an address of this host: left to its own stack",
            Some(Route::Via {
                ifindex, gateway, ..
            }) => {
                match (
                    self.links.get(&ifindex),
                    self.neighbours.get(&(ifindex, gateway)),
                ) {
                    (None, _) => "interface gone",
                    (Some(link), _) if !link.up => "interface down",
                    (Some(link), _) if !link.ethernet => "not Ethernet: left to the host's stack",
                    (
                        _,
                        Some(Neighbour {
                            trust: Trust::Fresh,
                            ..
                        }),
                    ) => "reachable",
                    (
                        _,
                        Some(Neighbour {
                            trust: Trust::Stale,
                            ..
                        }),
                    ) => "known, not confirmed lately",
                    _ => "does not answer ARP yet: left to the host's stack",
                }
            }
        }
    }

    fn look_up(&mut self, server: Ipv4Addr) {
        let Some(target) = self.targets.get_mut(&server) else {
            return;
        };
        target.lookup = match target.lookup {
            Lookup::Idle => {
                self.actions.push_back(Action::LookUpRoute(server));
                Lookup::Outstanding
            }
            Lookup::Outstanding | Lookup::OutstandingAndOld => Lookup::OutstandingAndOld,
        };
    }

    fn is_gateway(&self, key: (u32, Ipv4Addr)) -> bool {
        self.targets
            .values()
            .any(|target| target.gateway() == Some(key))
    }

    /// Tell where packets to a server go, if that is known and was not told.
    fn tell(&mut self, server: Ipv4Addr) {
        if let Some(target) = self.targets.get_mut(&server)
            && let Some(route) = target.route
        {
            let hop = next_hop(route, &self.links, &self.neighbours);
            if target.told != Some(hop) {
                target.told = Some(hop);
                self.actions
                    .push_back(Action::SetNextHop(IpAddr::V4(server), hop));
            }
        }
    }

    /// Tell what changed, and see to it that what is missing is asked for.
    fn refresh(&mut self, now: Instant) {
        let mut needed = BTreeMap::new();
        let servers: Vec<_> = self.targets.keys().copied().collect();
        for server in servers {
            self.tell(server);
        }
        let gateways = self.targets.values().filter_map(Target::gateway);
        for key in gateways.filter(|key| needs_neighbour(&self.links, key)) {
            needed.insert(key, trust(&self.neighbours, &key));
        }
        // Those of clients the data plane found by itself. The kernel's lookup takes a stale one for good and nothing
        // else confirms it.
        let stale = self.neighbours.iter().filter(|(key, entry)| {
            entry.trust == Trust::Stale
                && entry
                    .mac
                    .is_some_and(|mac| self.clients.contains(&(key.0, mac)))
        });
        for (key, entry) in stale.take(MOST_CLIENTS) {
            needed.entry(*key).or_insert(entry.trust);
        }
        self.asking
            .retain(|key, asking| needed.get(key) == Some(&asking.trust));
        for (key, trust) in needed {
            ask_for(&mut self.asking, key, trust, now);
        }
    }
}

/// Whether packets to a gateway carry its MAC address.
fn needs_neighbour(links: &BTreeMap<u32, Link>, (ifindex, _): &(u32, Ipv4Addr)) -> bool {
    links
        .get(ifindex)
        .is_some_and(|link| link.ethernet && link.up)
}

fn trust(neighbours: &HashMap<(u32, Ipv4Addr), Neighbour>, key: &(u32, Ipv4Addr)) -> Trust {
    neighbours
        .get(key)
        .map_or(Trust::Unknown, |entry| entry.trust)
}

/// See to it that a neighbour is asked for, or poked, if it is to be.
fn ask_for(
    asking: &mut BTreeMap<(u32, Ipv4Addr), Asking>,
    key: (u32, Ipv4Addr),
    trust: Trust,
    now: Instant,
) {
    let (next, wait) = match trust {
        Trust::Fresh => return,
        Trust::Stale => (now + POKE_EVERY, POKE_EVERY),
        Trust::Unknown => (now, FIRST_WAIT),
    };
    let asked = asking.entry(key).or_insert(Asking { trust, next, wait });
    if asked.trust != trust {
        *asked = Asking { trust, next, wait };
    }
}

/// An address that needs a next hop.
#[derive(Debug, Default)]
struct Target {
    lookup: Lookup,
    route: Option<Route>,
    told: Option<NextHop>,
}

impl Target {
    fn gateway(&self) -> Option<(u32, Ipv4Addr)> {
        match self.route {
            Some(Route::Via {
                ifindex, gateway, ..
            }) => Some((ifindex, gateway)),
            _ => None,
        }
    }
}

/// Where the question for a route stands.
#[derive(Debug, Default, Clone, Copy)]
enum Lookup {
    #[default]
    Idle,
    Outstanding,
    /// Routes changed since it was asked: the answer may be old.
    OutstandingAndOld,
}

#[derive(Debug)]
struct Asking {
    trust: Trust,
    next: Instant,
    wait: Duration,
}

fn next_hop(
    route: Route,
    links: &BTreeMap<u32, Link>,
    neighbours: &HashMap<(u32, Ipv4Addr), Neighbour>,
) -> NextHop {
    let Route::Via {
        ifindex,
        gateway,
        own_address,
        mtu,
    } = route
    else {
        return match route {
            Route::Local => NextHop::Local,
            _ => NextHop::Unreachable,
        };
    };
    let Some(link) = links.get(&ifindex).filter(|link| link.up) else {
        return NextHop::Unreachable;
    };
    let mtu = u16::try_from(mtu.unwrap_or(link.mtu).min(link.mtu)).unwrap_or(u16::MAX);
    let neighbour = neighbours
        .get(&(ifindex, gateway))
        .and_then(|entry| entry.mac);
    match (link.ethernet, link.mac, neighbour) {
        (true, Some(source), Some(neighbour)) => NextHop::Resolved {
            ifindex,
            mtu,
            neighbour,
            source,
            gateway,
            own_address,
        },
        _ => NextHop::Unresolved {
            ifindex,
            mtu,
            gateway,
            own_address,
        },
    }
}

#[cfg(test)]
mod tests;
