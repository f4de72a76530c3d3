//! The director task: the one owner of the desired table and the one writer of the data plane.
//!
//! Everybody else sends it messages: the API what people ask, the netlink task what the kernel says.

mod interfaces;
mod warnings;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Instant,
};

use anyhow::Context as _;
use furiwake_datapath::NextHop;
use furiwake_lvs::{
    model::Table,
    plan::Change,
    view::{ConnectionView, View},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Duration, Interval, MissedTickBehavior, interval, sleep_until},
};
use tracing::{debug, error, info, warn};

use super::{
    data_plane::DataPlane,
    estimator::{self, Estimators},
    kept::Kept,
    netlink::{Event, Query},
    next_hop::{Action, Link, NextHops},
    operate::{Outcome, Refusal},
    options::Selection,
    systemd::ServiceManager,
};
use crate::api::schema::{Connections, Interface, NextHopStatus, Reason, Status, Unattached};

/// How often the data plane's housekeeping is called.
const MAINTAIN_EVERY: Duration = Duration::from_secs(1);
/// How often an interface that could not be listened on is tried again.
const ATTACH_EVERY: Duration = Duration::from_secs(5);
/// A watchdog that nobody set: long enough never to matter.
const NO_WATCHDOG: Duration = Duration::from_secs(24 * 60 * 60);

/// What is asked of the director. A reply that nobody waits for any more is dropped.
pub(crate) enum Request {
    /// Services, servers, counters and rates.
    View(Reply<anyhow::Result<View>>),
    /// What is wanted.
    Table(Reply<Table>),
    /// The connection table.
    Connections(Reply<anyhow::Result<Vec<ConnectionView>>>),
    /// Change something.
    Operate {
        /// Steps in order.
        operations: Vec<furiwake_lvs::operation::Operation>,
        /// All or nothing.
        atomic: bool,
        /// One outcome for each step; or, when atomic, which step was refused.
        reply: Reply<Result<Vec<Outcome>, Refusal>>,
    },
    /// How the director itself is.
    Status(Reply<anyhow::Result<Status>>),
    /// Stop; forwarding goes on.
    Stop(Reply<()>),
}

/// Where an answer goes.
pub(crate) type Reply<T> = oneshot::Sender<T>;

/// The director's ends of its channels.
pub(crate) struct Channels {
    /// From the API.
    pub(crate) requests: mpsc::Receiver<Request>,
    /// From the kernel.
    pub(crate) events: mpsc::Receiver<Event>,
    /// To the kernel. Unbounded so that the two tasks never wait for each other; there is at most one
    /// question for each server, and one for each neighbour and second.
    pub(crate) queries: mpsc::UnboundedSender<Query>,
}

/// The task.
pub(crate) struct Director<D> {
    pub(super) plane: D,
    pub(super) table: Table,
    pub(super) estimators: Estimators,
    pub(super) hops: NextHops,
    pub(super) kept: Kept,
    selection: Selection,
    /// Interfaces as they were when we last attached to them, or tried to.
    tried: BTreeMap<u32, Link>,
    unattached: BTreeMap<u32, Unattached>,
    /// Servers whose next hop the data plane could not be told, so that it is said once.
    untold: BTreeSet<IpAddr>,
    channels: Channels,
    manager: ServiceManager,
    since: u64,
    /// Whether reading the counters failed the last time, so that it is said once.
    blind: bool,
}

impl<D: DataPlane> Director<D> {
    /// Take over a data plane: what it holds is what is wanted, so nothing changes.
    pub(crate) fn new(
        mut plane: D,
        selection: Selection,
        channels: Channels,
        manager: ServiceManager,
        since: u64,
        mut kept: Kept,
    ) -> Self {
        let mut table = plane.table();
        if !plane.adopted() {
            kept.forget();
        } else if kept.recall(&mut table)
            && let Err(failure) = plane.apply(&Change::SetSettings(table.settings.clone()))
        {
            warn!(
                error = format!("{failure:#}"),
                "the data plane refuses settings"
            );
        }
        let estimators = plane.view().map(|view| Estimators::starting_at(&view));
        info!(
            adopted = plane.adopted(),
            services = table.services.len(),
            "data plane {}",
            if plane.adopted() { "adopted" } else { "loaded" }
        );
        Self {
            plane,
            table,
            estimators: estimators.unwrap_or_default(),
            hops: NextHops::default(),
            kept,
            selection,
            tried: BTreeMap::new(),
            unattached: BTreeMap::new(),
            untold: BTreeSet::new(),
            channels,
            manager,
            since,
            blind: false,
        }
    }

    /// Whether the data plane was there before.
    pub(crate) fn adopted(&self) -> bool {
        self.plane.adopted()
    }

    /// Work until told to stop.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        self.hops.set_servers(&self.plane.servers(), now);
        self.act();
        self.manager.ready();

        let mut sampling = every(estimator::INTERVAL);
        let mut maintaining = every(MAINTAIN_EVERY);
        let mut attaching = every(ATTACH_EVERY);
        let mut watchdog = every(self.manager.watchdog().unwrap_or(NO_WATCHDOG));
        loop {
            let hops_due = self.hops.next_timeout();
            tokio::select! {
                request = self.channels.requests.recv() => match request {
                    Some(Request::Stop(reply)) => {
                        let _ = reply.send(());
                        break;
                    }
                    Some(request) => self.answer(request),
                    None => break,
                },
                event = self.channels.events.recv() => {
                    let event = event.context("the task that follows the kernel's routing ended")?;
                    self.handle(event);
                }
                () = until(hops_due) => self.hops.handle_timeout(Instant::now()),
                _ = sampling.tick() => self.sample(),
                _ = maintaining.tick() => self.maintain(),
                _ = attaching.tick() => self.attach_again(),
                _ = watchdog.tick() => self.manager.alive(),
            }
            self.act();
        }
        self.manager.stopping();
        info!("director stopped: forwarding goes on, `furiwake run` takes it over again");
        Ok(())
    }

    fn answer(&mut self, request: Request) {
        // Sending fails when the asker is gone, and then nobody minds.
        match request {
            Request::View(reply) => drop(reply.send(self.view())),
            Request::Table(reply) => drop(reply.send(self.table.clone())),
            Request::Connections(reply) => drop(reply.send(self.plane.connections())),
            Request::Operate {
                operations,
                atomic,
                reply,
            } => {
                let answer = if atomic {
                    self.operate_atomically(&operations)
                } else {
                    Ok(self.operate_all(&operations))
                };
                self.hops.set_servers(&self.plane.servers(), Instant::now());
                drop(reply.send(answer));
            }
            Request::Status(reply) => drop(reply.send(self.status())),
            Request::Stop(reply) => drop(reply.send(())),
        }
    }

    fn handle(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Snapshot { links, neighbours } => {
                self.detach_unwanted(&links);
                for link in &links {
                    self.attach(link);
                }
                self.hops.handle_snapshot(links, neighbours, now);
            }
            Event::Link(link) => {
                self.attach(&link);
                self.hops.handle_link(link, now);
            }
            Event::LinkGone(ifindex) => {
                self.forget(ifindex);
                self.hops.handle_link_gone(ifindex, now);
            }
            Event::Neighbour(neighbour) => self.hops.handle_neighbour(neighbour, now),
            Event::Routes => self.hops.handle_routes(now),
            Event::Route(server, route) => self.hops.handle_route(server, route, now),
        }
    }

    /// Do what the next hops ask for.
    fn act(&mut self) {
        while let Some(action) = self.hops.poll_action() {
            let done = match action {
                Action::LookUpRoute(address) => self.ask(Query::Route(address)),
                Action::Resolve { ifindex, address } => {
                    self.ask(Query::Resolve { ifindex, address })
                }
                Action::SetNextHop(server, hop) => {
                    self.set_next_hop(server, hop);
                    Ok(())
                }
                Action::RoutesChanged => self.plane.routes_changed(),
            };
            if let Err(error) = done {
                error!(
                    error = format!("{error:#}"),
                    "cannot tell the data plane about routing"
                );
            }
        }
    }

    fn set_next_hop(&mut self, server: IpAddr, hop: NextHop) {
        match self.plane.set_next_hop(server, hop) {
            Ok(()) => {
                self.untold.remove(&server);
                info!(%server, hop = in_words(&hop), "next hop");
            }
            Err(failure) => {
                self.hops.handle_not_told(server);
                if self.untold.insert(server) {
                    let error = format!("{failure:#}");
                    error!(%server, error, "cannot tell the data plane the next hop: trying again");
                }
            }
        }
    }

    fn ask(&self, query: Query) -> anyhow::Result<()> {
        self.channels
            .queries
            .send(query)
            .ok()
            .context("the task that asks the kernel ended")
    }

    fn sample(&mut self) {
        match self.plane.view() {
            Ok(view) => {
                self.blind = false;
                self.estimators.sample(&view);
            }
            Err(failure) if !self.blind => {
                self.blind = true;
                warn!(error = format!("{failure:#}"), "rates are not estimated");
            }
            Err(_) => {}
        }
    }

    fn maintain(&mut self) {
        if let Err(failure) = self.plane.maintain() {
            debug!(error = format!("{failure:#}"), "housekeeping failed");
        }
        self.hops.set_clients(self.plane.client_neighbours());
        let servers = self.plane.servers();
        self.untold.retain(|server| servers.contains(server));
        self.hops.set_servers(&servers, Instant::now());
    }

    /// A server of the data plane is new or was changed: it may not know its next hop.
    pub(super) fn repeat_next_hop(&mut self, server: IpAddr) {
        self.hops.repeat(server);
    }

    fn view(&self) -> anyhow::Result<View> {
        let mut view = self.plane.view()?;
        self.estimators.fill(&mut view);
        view.settings = self.table.settings.clone();
        view.sync_daemons.clone_from(&self.table.sync_daemons);
        Ok(view)
    }

    fn status(&self) -> anyhow::Result<Status> {
        let view = self.plane.view()?;
        let servers = || view.services.iter().flat_map(|service| &service.servers);
        let reasons = self.plane.reasons()?;
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            since: self.since,
            adopted: self.plane.adopted(),
            interfaces: self
                .plane
                .attached()
                .into_iter()
                .map(Interface::from)
                .collect(),
            unattached: self.unattached.values().cloned().collect(),
            next_hops: self.next_hops(),
            reasons: reasons.iter().map(Reason::from).collect(),
            services: view.services.len(),
            servers: servers().count(),
            connections: Connections {
                active: servers().map(|server| u64::from(server.active)).sum(),
                inactive: servers().map(|server| u64::from(server.inactive)).sum(),
                room: view.connection_table_size,
            },
            warnings: warnings::of(&self.table, &self.plane),
        })
    }

    fn next_hops(&self) -> Vec<NextHopStatus> {
        let ways = self.hops.ways().into_iter();
        ways.map(|way| {
            let (gateway, mac, mtu) = match way.hop {
                Some(NextHop::Resolved {
                    gateway,
                    neighbour,
                    mtu,
                    ..
                }) => (Some(gateway), Some(mac(neighbour)), Some(mtu)),
                Some(NextHop::Unresolved { gateway, mtu, .. }) => (Some(gateway), None, Some(mtu)),
                Some(NextHop::Local | NextHop::Unreachable) | None => (None, None, None),
            };
            NextHopStatus {
                server: way.server,
                interface: way.interface,
                gateway,
                mac,
                mtu,
                state: way.state.into(),
            }
        })
        .collect()
    }
}

fn in_words(hop: &NextHop) -> String {
    match hop {
        NextHop::Resolved {
            ifindex,
            mtu,
            neighbour,
            gateway,
            ..
        } => {
            let neighbour = mac(*neighbour);
            format!("{gateway} at {neighbour} on interface {ifindex}, mtu {mtu}")
        }
        NextHop::Unresolved {
            ifindex, gateway, ..
        } => {
            format!("{gateway} on interface {ifindex}, not resolved")
        }
        NextHop::Local => "the director itself".into(),
        NextHop::Unreachable => "unreachable".into(),
    }
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    // The first tick is at once, which would be a sample of no time at all.
    interval.reset();
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
