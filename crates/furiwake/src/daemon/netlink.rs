//! The netlink task: the kernel's links, neighbours, addresses and routes, as events for the director.
//!
//! Only translation happens here; what events mean is decided in [`super::next_hop`]. Questions have a socket
//! of their own: on the one for notifications an overrun could drop an answer. So an answer may overtake the
//! change it already knows of, or be older than one that was told. It converges all the same: an answer that
//! routes changed under is asked for again, and so is every route when a change is told later.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use anyhow::Context as _;
use futures_channel::mpsc::UnboundedReceiver;
use futures_util::{StreamExt as _, TryStreamExt as _};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{
        InfoKind, InfoPortKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
    },
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia},
};
use rtnetlink::{
    Handle, MulticastGroup, RouteMessageBuilder, new_connection, new_multicast_connection,
    sys::SocketAddr,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, warn};

use super::next_hop::{Link, Neighbour, Route, Trust};

/// The kernel answers at once; what it has not answered by then was lost.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// After messages were lost: until those that were not are read, which are older than the snapshot.
const SETTLED_AFTER: Duration = Duration::from_millis(200);
/// How long until a snapshot that failed is taken again; doubled up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest pause between two attempts at a snapshot.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What the kernel says.
#[derive(Debug)]
pub(crate) enum Event {
    /// All there is: at the start, and when messages were lost.
    Snapshot {
        /// Every interface.
        links: Vec<Link>,
        /// Every neighbour entry.
        neighbours: Vec<Neighbour>,
    },
    /// An interface appeared or changed.
    Link(Link),
    /// An interface is gone.
    LinkGone(u32),
    /// A neighbour entry appeared, changed or went.
    Neighbour(Neighbour),
    /// A route, address or rule changed.
    Routes,
    /// The answer to [`Query::Route`].
    Route(Ipv4Addr, Route),
}

/// What the director asks of the kernel.
#[derive(Debug)]
pub(crate) enum Query {
    /// The route to an address.
    Route(Ipv4Addr),
    /// Resolve or confirm a neighbour.
    Resolve {
        /// Interface.
        ifindex: u32,
        /// Address.
        address: Ipv4Addr,
    },
}

/// The task.
pub(crate) struct Netlink {
    /// For questions.
    handle: Handle,
    messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    events: mpsc::Sender<Event>,
    queries: mpsc::UnboundedReceiver<Query>,
    /// When the next snapshot is to be taken, if one is.
    snapshot_due: Option<Instant>,
    /// The pause after a snapshot that fails.
    wait: Duration,
}

impl Netlink {
    /// Open the sockets and subscribe. Must be called inside a runtime.
    pub(crate) fn open(
        events: mpsc::Sender<Event>,
        queries: mpsc::UnboundedReceiver<Query>,
    ) -> anyhow::Result<Self> {
        let (connection, _, messages) = new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv4Rule,
        ])
        .context("cannot listen to the kernel's routing messages (netlink)")?;
        tokio::spawn(connection);
        let (connection, handle, _) =
            new_connection().context("cannot ask the kernel about routing (netlink)")?;
        tokio::spawn(connection);
        Ok(Self {
            handle,
            messages,
            events,
            queries,
            snapshot_due: None,
            wait: FIRST_WAIT,
        })
    }

    /// Every interface of the namespace.
    pub(crate) async fn links(&self) -> anyhow::Result<Vec<Link>> {
        let links = self.handle.link().get().execute();
        let links: Vec<_> = answer(links.try_collect())
            .await
            .context("cannot list the interfaces")?;
        Ok(links.iter().map(link).collect())
    }

    /// Run until the director goes away.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        self.snapshot().await;
        loop {
            tokio::select! {
                () = until(self.snapshot_due) => self.snapshot().await,
                message = self.messages.next() => {
                    let (message, _) = message.context("the kernel's routing messages ended")?;
                    match message.payload {
                        NetlinkPayload::InnerMessage(message) => {
                            if let Some(event) = event(&message)
                                && self.events.send(event).await.is_err()
                            {
                                return Ok(());
                            }
                        }
                        NetlinkPayload::Overrun(_) => {
                            debug!("routing messages were lost: reading everything anew");
                            self.snapshot_due = Some(Instant::now() + SETTLED_AFTER);
                        }
                        _ => {}
                    }
                }
                query = self.queries.recv() => {
                    let Some(query) = query else { return Ok(()) };
                    if let Err(failure) = self.ask(&query).await {
                        // Everything is asked anew after a snapshot.
                        warn!(?query, error = format!("{failure:#}"), "an answer was lost");
                        self.snapshot_due.get_or_insert(Instant::now() + FIRST_WAIT);
                    }
                }
            }
        }
    }

    async fn snapshot(&mut self) {
        match self.everything().await {
            Ok(everything) => {
                self.snapshot_due = None;
                self.wait = FIRST_WAIT;
                // The director going away is noticed by whoever waits on it.
                let _ = self.events.send(everything).await;
            }
            Err(failure) => {
                warn!(
                    error = format!("{failure:#}"),
                    "asking again in {:?}", self.wait
                );
                self.snapshot_due = Some(Instant::now() + self.wait);
                self.wait = (self.wait * 2).min(LONGEST_WAIT);
            }
        }
    }

    async fn everything(&self) -> anyhow::Result<Event> {
        let links = self.links().await?;
        let neighbours = self
            .handle
            .neighbours()
            .get()
            .set_address_family(AddressFamily::Inet)
            .execute();
        let neighbours: Vec<_> = answer(neighbours.try_collect())
            .await
            .context("cannot list the neighbours")?;
        let neighbours = neighbours.iter().filter_map(neighbour).collect();
        Ok(Event::Snapshot { links, neighbours })
    }

    /// Ask, and pass the answer on. That there was none is the error.
    async fn ask(&self, query: &Query) -> anyhow::Result<()> {
        match *query {
            Query::Route(address) => {
                let request = RouteMessageBuilder::<Ipv4Addr>::new()
                    .destination_prefix(address, 32)
                    .build();
                let mut routes = std::pin::pin!(self.handle.route().get(request).execute());
                let found = match answer(routes.try_next()).await {
                    Ok(found) => found,
                    // "Network is unreachable" is an answer, and so are its relatives.
                    Err(Unanswered::Failed(error @ rtnetlink::Error::NetlinkError(_))) => {
                        debug!(%address, %error, "no route");
                        None
                    }
                    Err(lost) => return Err(lost.into()),
                };
                let route = found.map_or(Route::None, |found| route(address, &found));
                let _ = self.events.send(Event::Route(address, route)).await;
            }
            Query::Resolve { ifindex, address } => {
                let request = self
                    .handle
                    .neighbours()
                    .add(ifindex, IpAddr::V4(address))
                    .state(NeighbourState::None)
                    .flags(NeighbourFlags::Use)
                    .replace();
                match answer(request.execute()).await {
                    Ok(()) => {}
                    Err(Unanswered::Failed(error)) => {
                        warn!(%address, ifindex, %error, "the kernel does not resolve this neighbour");
                    }
                    Err(lost) => return Err(lost.into()),
                }
            }
        }
        Ok(())
    }
}

/// Why the kernel gave no good answer.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error(transparent)]
    Failed(rtnetlink::Error),
    #[error("the kernel did not answer within {ANSWERED_WITHIN:?}")]
    Late,
}

async fn answer<T>(
    request: impl Future<Output = Result<T, rtnetlink::Error>>,
) -> Result<T, Unanswered> {
    timeout(ANSWERED_WITHIN, request)
        .await
        .map_err(|_| Unanswered::Late)?
        .map_err(Unanswered::Failed)
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn event(message: &RouteNetlinkMessage) -> Option<Event> {
    match message {
        RouteNetlinkMessage::NewLink(message) if !of_a_bridge(message) => {
            Some(Event::Link(link(message)))
        }
        RouteNetlinkMessage::DelLink(message) if !of_a_bridge(message) => {
            Some(Event::LinkGone(message.header.index))
        }
        RouteNetlinkMessage::NewNeighbour(message) => neighbour(message).map(Event::Neighbour),
        RouteNetlinkMessage::DelNeighbour(message) => neighbour(message).map(|entry| {
            Event::Neighbour(Neighbour {
                trust: Trust::Unknown,
                mac: None,
                ..entry
            })
        }),
        RouteNetlinkMessage::NewAddress(_)
        | RouteNetlinkMessage::DelAddress(_)
        | RouteNetlinkMessage::NewRoute(_)
        | RouteNetlinkMessage::DelRoute(_)
        | RouteNetlinkMessage::NewRule(_)
        | RouteNetlinkMessage::DelRule(_) => Some(Event::Routes),
        _ => None,
    }
}

/// A bridge tells of its ports in link messages of its own family: "gone" there means "left the bridge".
fn of_a_bridge(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Bridge
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        ifindex: message.header.index,
        name: String::new(),
        ethernet: message.header.link_layer_type == LinkLayerType::Ether,
        up: message.header.flags.contains(LinkFlags::Up),
        mac: None,
        mtu: 0,
        port_of: None,
        vlan_of: None,
    };
    let (mut controller, mut lower) = (None, None);
    let (mut is_port, mut is_vlan) = (false, false);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(index) => controller = Some(*index),
            LinkAttribute::Link(index) => lower = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                is_vlan = infos.contains(&LinkInfo::Kind(InfoKind::Vlan));
                // What a VRF holds goes on working by itself.
                is_port = infos.iter().any(
                    |info| matches!(info, LinkInfo::PortKind(kind) if *kind != InfoPortKind::Vrf),
                );
            }
            _ => {}
        }
    }
    link.port_of = controller.filter(|_| is_port);
    link.vlan_of = lower.filter(|_| is_vlan);
    link
}

fn neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(destination)) => {
                address = Some(*destination);
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            _ => {}
        }
    }
    let trust = match message.header.state {
        NeighbourState::Reachable
        | NeighbourState::Delay
        | NeighbourState::Probe
        | NeighbourState::Noarp
        | NeighbourState::Permanent => Trust::Fresh,
        NeighbourState::Stale => Trust::Stale,
        _ => Trust::Unknown,
    };
    Some(Neighbour {
        ifindex: message.header.ifindex,
        address: address?,
        mac,
        trust,
    })
}

fn route(address: Ipv4Addr, answer: &RouteMessage) -> Route {
    match answer.header.kind {
        RouteType::Unicast => {}
        RouteType::Local => return Route::Local,
        _ => return Route::None,
    }
    let mut ifindex = None;
    let mut gateway = address;
    let mut own_address = Ipv4Addr::UNSPECIFIED;
    let mut mtu = None;
    for attribute in &answer.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(address))
            | RouteAttribute::Via(RouteVia::Inet(address)) => gateway = *address,
            RouteAttribute::PrefSource(RouteAddress::Inet(address)) => own_address = *address,
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    ifindex.map_or(Route::None, |ifindex| Route::Via {
        ifindex,
        gateway,
        own_address,
        mtu,
    })
}

#[cfg(test)]
mod tests;
