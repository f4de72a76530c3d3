//! A data plane in memory, for tests of everything above the real one.

use std::{
    collections::HashSet,
    net::IpAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Duration,
};

use anyhow::bail;
use furiwake_datapath::{Attached, HookChoice, NextHop, ReasonCount};
use furiwake_lvs::{
    model::{ServiceKey, Table},
    plan::Change,
    view::{ConnectionView, Counters, Rates, ServerView, ServiceView, View},
};

use super::data_plane::DataPlane;

/// Longer than any test waits for something that happens.
const TOO_LONG: Duration = Duration::from_secs(10);

/// The data plane, shared between the director and the test that looks on.
#[derive(Debug, Clone, Default)]
pub(crate) struct FakePlane {
    shared: Arc<(Mutex<State>, Condvar)>,
}

/// What the data plane holds and what it was told.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) adopted: bool,
    pub(crate) table: Table,
    pub(crate) changes: Vec<Change>,
    pub(crate) zeroed: Vec<Option<ServiceKey>>,
    pub(crate) attached: Vec<Attached>,
    pub(crate) next_hops: Vec<(IpAddr, NextHop)>,
    pub(crate) routes_changed: usize,
    pub(crate) connections: Vec<ConnectionView>,
    pub(crate) reasons: Vec<ReasonCount>,
    /// How many changes go well before one, and only one, fails.
    pub(crate) fails_after: Option<usize>,
    /// How many servers a service has room for, if that is limited.
    pub(crate) room: Option<usize>,
    /// An interface that cannot be attached to.
    pub(crate) broken_interface: Option<&'static str>,
    /// How often a next hop cannot be set before it can.
    pub(crate) refused_next_hops: usize,
    /// Interfaces in the order in which they were attached.
    pub(crate) attaches: Vec<String>,
    /// Neighbours that packets to clients go to.
    pub(crate) client_neighbours: HashSet<(u32, [u8; 6])>,
    /// Addresses of the director itself.
    pub(crate) own_addresses: Vec<IpAddr>,
    /// Whether `net.ipv4.ip_forward` is 0.
    pub(crate) host_does_not_forward: bool,
}

impl FakePlane {
    /// A data plane that an earlier daemon left behind.
    pub(crate) fn left_behind(table: Table) -> Self {
        let plane = Self::default();
        plane.change(|state| {
            state.table = table;
            state.adopted = true;
        });
        plane
    }

    /// Look at it.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().expect("no test panicked with it")
    }

    /// Change it.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.shared.1.notify_all();
        result
    }

    /// Wait until something holds.
    pub(crate) fn wait_until(&self, what: &str, holds: impl Fn(&State) -> bool) {
        let waited = self
            .shared
            .1
            .wait_timeout_while(self.state(), TOO_LONG, |state| !holds(state));
        let (state, result) = waited.expect("no test panicked with it");
        assert!(
            !result.timed_out(),
            "waited in vain until {what}: {state:?}"
        );
    }
}

impl DataPlane for FakePlane {
    fn adopted(&self) -> bool {
        self.state().adopted
    }

    fn table(&self) -> Table {
        self.state().table.clone()
    }

    fn apply(&mut self, change: &Change) -> anyhow::Result<()> {
        self.change(|state| {
            match &mut state.fails_after {
                Some(0) => {
                    state.fails_after = None;
                    bail!("no room for another server");
                }
                Some(left) => *left -= 1,
                None => {}
            }
            if let (Some(room), Change::AddServer { service, .. }) = (state.room, change)
                && state
                    .table
                    .service(service)
                    .is_some_and(|service| service.servers.len() >= room)
            {
                bail!("no room for another server");
            }
            change.apply_to(&mut state.table);
            state.changes.push(change.clone());
            Ok(())
        })
    }

    fn zero(&mut self, service: Option<&ServiceKey>) -> anyhow::Result<()> {
        self.change(|state| state.zeroed.push(service.copied()));
        Ok(())
    }

    fn view(&self) -> anyhow::Result<View> {
        let state = self.state();
        let services = state.table.services.iter().map(|service| ServiceView {
            config: service.config.clone(),
            counters: Counters::default(),
            rates: Rates::default(),
            servers: service
                .servers
                .iter()
                .map(|server| ServerView {
                    server: *server,
                    active: 1,
                    inactive: 2,
                    persistent: 0,
                    counters: Counters::default(),
                    rates: Rates::default(),
                })
                .collect(),
        });
        Ok(View {
            connection_table_size: 4096,
            services: services.collect(),
            timeouts: state.table.timeouts,
            settings: state.table.settings.clone(),
            sync_daemons: state.table.sync_daemons.clone(),
        })
    }

    fn connections(&self) -> anyhow::Result<Vec<ConnectionView>> {
        Ok(self.state().connections.clone())
    }

    fn attach(&mut self, name: &str, ifindex: u32, choice: HookChoice) -> anyhow::Result<Attached> {
        self.change(|state| {
            if state.broken_interface == Some(name) {
                bail!("cannot listen on {name}: the driver says no");
            }
            state
                .attached
                .retain(|attached| attached.ifindex != ifindex);
            state.attaches.push(name.to_owned());
            let hook = format!("{choice:?}").to_lowercase();
            let attached = Attached {
                ifindex,
                name: name.into(),
                hook,
                reason: None,
            };
            state.attached.push(attached.clone());
            Ok(attached)
        })
    }

    fn detach(&mut self, ifindex: u32) -> anyhow::Result<()> {
        self.change(|state| {
            state
                .attached
                .retain(|attached| attached.ifindex != ifindex)
        });
        Ok(())
    }

    fn attached(&self) -> Vec<Attached> {
        self.state().attached.clone()
    }

    fn servers(&self) -> Vec<IpAddr> {
        let state = self.state();
        let servers = state
            .table
            .services
            .iter()
            .flat_map(|service| &service.servers);
        servers.map(|server| server.key.address).collect()
    }

    fn set_next_hop(&mut self, server: IpAddr, hop: NextHop) -> anyhow::Result<()> {
        self.change(|state| {
            if state.refused_next_hops > 0 {
                state.refused_next_hops -= 1;
                bail!("no room for another next hop");
            }
            state.next_hops.push((server, hop));
            Ok(())
        })
    }

    fn routes_changed(&mut self) -> anyhow::Result<()> {
        self.change(|state| state.routes_changed += 1);
        Ok(())
    }

    fn client_neighbours(&self) -> HashSet<(u32, [u8; 6])> {
        self.state().client_neighbours.clone()
    }

    fn own_addresses(&self) -> HashSet<IpAddr> {
        self.state().own_addresses.iter().copied().collect()
    }

    fn host_forwards(&self) -> bool {
        !self.state().host_does_not_forward
    }

    fn reasons(&self) -> anyhow::Result<Vec<ReasonCount>> {
        Ok(self.state().reasons.clone())
    }

    fn maintain(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}
