//! The kernel's real messages, in a network namespace of the test's own. Needs root.

use std::{future::Future, thread, time::Duration};

use nix::sched::{CloneFlags, unshare};
use rtnetlink::{LinkUnspec, LinkVeth};
use tokio::time::timeout;

use super::*;

const DIRECTOR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
const FAR: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 1);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 10];

/// A namespace with an interface `eth1` that has an address, and the task that follows it.
struct Namespace {
    handle: Handle,
    eth1: u32,
    events: mpsc::Receiver<Event>,
    queries: mpsc::UnboundedSender<Query>,
}

impl Namespace {
    async fn new() -> Self {
        let (events_out, events) = mpsc::channel(1024);
        let (queries, queries_in) = mpsc::unbounded_channel();
        let netlink = Netlink::open(events_out, queries_in).expect("netlink");
        // By another socket: the kernel's news of what a socket changes itself look like its answers.
        let (connection, handle, _) = rtnetlink::new_connection().expect("netlink");
        tokio::spawn(connection);
        let pair = LinkVeth::new("eth1", "peer").build();
        handle
            .link()
            .add(pair)
            .execute()
            .await
            .expect("a veth pair");
        let links = netlink.links().await.expect("links");
        let index = |name| {
            links
                .iter()
                .find(|link| link.name == name)
                .expect("is there")
                .ifindex
        };
        let eth1 = index("eth1");
        for ifindex in [eth1, index("peer")] {
            let up = LinkUnspec::new_with_index(ifindex).up().build();
            handle.link().set(up).execute().await.expect("is up");
        }
        let address = handle.address().add(eth1, IpAddr::V4(DIRECTOR), 24);
        address.execute().await.expect("an address");
        tokio::spawn(netlink.run());
        Self {
            handle,
            eth1,
            events,
            queries,
        }
    }

    /// The first event that fits; others are passed over.
    async fn wait_for(&mut self, what: &str, fits: impl Fn(&Event) -> bool) -> Event {
        let waiting = async {
            loop {
                let event = self.events.recv().await.expect("the task runs");
                if fits(&event) {
                    return event;
                }
            }
        };
        timeout(Duration::from_secs(10), waiting)
            .await
            .unwrap_or_else(|_| panic!("no {what}"))
    }

    async fn route_to(&mut self, address: Ipv4Addr) -> Route {
        self.queries
            .send(Query::Route(address))
            .expect("the task runs");
        let answers = |event: &Event| matches!(event, Event::Route(to, _) if *to == address);
        match self.wait_for("answer", answers).await {
            Event::Route(_, route) => route,
            other => unreachable!("{other:?}"),
        }
    }

    async fn set_neighbour(&self, address: Ipv4Addr, mac: [u8; 6]) {
        let neighbour = self.handle.neighbours().add(self.eth1, IpAddr::V4(address));
        let neighbour = neighbour
            .state(NeighbourState::Reachable)
            .link_layer_address(&mac);
        neighbour.replace().execute().await.expect("a neighbour");
    }
}

/// News of what was made before may come first.
fn is_snapshot(event: &Event) -> bool {
    matches!(event, Event::Snapshot { .. })
}

/// Run a test in a network namespace, which ends with its thread.
fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let ended = thread::spawn(|| {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            panic!("a network namespace could not be made ({error}): run as root: ./test");
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(test());
    });
    ended.join().expect("the test passes");
}

#[test]
fn the_snapshot_tells_ethernet_from_loopback() {
    in_namespace(|| async {
        let mut namespace = Namespace::new().await;
        let snapshot = namespace.wait_for("snapshot", is_snapshot).await;
        let Event::Snapshot { links, .. } = snapshot else {
            panic!("{snapshot:?}")
        };
        let link = |name| {
            links
                .iter()
                .find(|link: &&Link| link.name == name)
                .expect("is there")
        };
        assert!(link("eth1").ethernet && link("eth1").up && link("eth1").mac.is_some());
        assert_eq!(link("eth1").mtu, 1500);
        assert!(!link("lo").ethernet);
    });
}

#[test]
fn routes_are_answered_with_gateway_and_mtu() {
    in_namespace(|| async {
        let mut namespace = Namespace::new().await;
        let ifindex = namespace.eth1;
        let via = |gateway, mtu| Route::Via {
            ifindex,
            gateway,
            own_address: DIRECTOR,
            mtu,
        };
        assert_eq!(namespace.route_to(SERVER).await, via(SERVER, None));
        assert_eq!(namespace.route_to(FAR).await, Route::None);
        assert_eq!(namespace.route_to(DIRECTOR).await, Route::Local);

        let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(Ipv4Addr::new(172, 16, 0, 0), 16)
            .gateway(GATEWAY)
            .build();
        let mtu = RouteAttribute::Metrics(vec![RouteMetric::Mtu(1400)]);
        route.attributes.push(mtu);
        namespace
            .handle
            .route()
            .add(route)
            .execute()
            .await
            .expect("a route");
        namespace
            .wait_for("news of the route", |event| matches!(event, Event::Routes))
            .await;
        assert_eq!(namespace.route_to(FAR).await, via(GATEWAY, Some(1400)));
    });
}

#[test]
fn neighbours_are_followed_from_known_to_gone() {
    in_namespace(|| async {
        let mut namespace = Namespace::new().await;
        let about = |trust| {
            move |event: &Event| {
                matches!(event, Event::Neighbour(neighbour)
                    if neighbour.address == SERVER && neighbour.trust == trust)
            }
        };
        namespace.set_neighbour(SERVER, MAC).await;
        let known = namespace
            .wait_for("known neighbour", about(Trust::Fresh))
            .await;
        assert!(
            matches!(known, Event::Neighbour(Neighbour { mac: Some(MAC), .. })),
            "{known:?}"
        );
        let mut entry = NeighbourMessage::default();
        entry.header.family = AddressFamily::Inet;
        entry.header.ifindex = namespace.eth1;
        entry.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet(
            SERVER,
        ))];
        namespace
            .handle
            .neighbours()
            .del(entry)
            .execute()
            .await
            .expect("is removed");
        namespace
            .wait_for("removed neighbour", about(Trust::Unknown))
            .await;
    });
}

#[test]
fn a_neighbour_that_is_asked_for_is_resolved_by_the_kernel() {
    in_namespace(|| async {
        let mut namespace = Namespace::new().await;
        let ifindex = namespace.eth1;
        let query = Query::Resolve {
            ifindex,
            address: SERVER,
        };
        namespace.queries.send(query).expect("the task runs");
        // Nobody answers: the kernel asks three times, says so, and so do we.
        let failed = |event: &Event| {
            matches!(event, Event::Neighbour(neighbour)
                if neighbour.address == SERVER && neighbour.trust == Trust::Unknown)
        };
        namespace.wait_for("failed neighbour", failed).await;
    });
}

#[test]
fn an_interface_that_goes_is_gone() {
    in_namespace(|| async {
        let mut namespace = Namespace::new().await;
        let eth1 = namespace.eth1;
        namespace
            .handle
            .link()
            .del(eth1)
            .execute()
            .await
            .expect("is removed");
        let gone = move |event: &Event| matches!(event, Event::LinkGone(index) if *index == eth1);
        namespace.wait_for("interface gone", gone).await;
    });
}

#[test]
fn ports_of_a_bridge_are_known() {
    in_namespace(|| async {
        let mut namespace = Namespace::new().await;
        namespace.wait_for("snapshot", is_snapshot).await;
        let eth1 = namespace.eth1;
        let bridge = rtnetlink::LinkBridge::new("br0").build();
        let added = namespace.handle.link().add(bridge).execute().await;
        added.expect("a bridge, which the lab needs as well");
        let is_bridge = |event: &Event| matches!(event, Event::Link(link) if link.name == "br0");
        let Event::Link(bridge) = namespace.wait_for("bridge", is_bridge).await else {
            unreachable!()
        };
        assert_eq!(bridge.port_of, None);
        for controller in [bridge.ifindex, 0] {
            let change = LinkUnspec::new_with_index(eth1).controller(controller);
            let change = change.build();
            let changed = namespace.handle.link().set(change).execute();
            changed.await.expect("is changed");
            let wanted = (controller != 0).then_some(controller);
            let is_told = |event: &Event| matches!(event, Event::Link(link) if link.ifindex == eth1 && link.port_of == wanted);
            namespace.wait_for("port", is_told).await;
        }
    });
}
