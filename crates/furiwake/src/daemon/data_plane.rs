//! The seam between the daemon and the kernel: what the director asks of a data plane.
//!
//! [`Datapath`] is the real one; tests of the daemon put one in memory behind the same trait.

use std::{collections::HashSet, net::IpAddr};

use anyhow::Context as _;
use furiwake_datapath::{Attached, Datapath, HookChoice, NextHop, ReasonCount};
use furiwake_lvs::{
    model::{ServiceKey, Table},
    plan::Change,
    view::{ConnectionView, View},
};

use super::environment;

/// What the director asks of a data plane; see [`Datapath`] for what each does.
pub(crate) trait DataPlane: Send + 'static {
    fn adopted(&self) -> bool;
    fn table(&self) -> Table;
    fn apply(&mut self, change: &Change) -> anyhow::Result<()>;
    fn zero(&mut self, service: Option<&ServiceKey>) -> anyhow::Result<()>;
    fn view(&self) -> anyhow::Result<View>;
    fn connections(&self) -> anyhow::Result<Vec<ConnectionView>>;
    fn attach(&mut self, name: &str, ifindex: u32, choice: HookChoice) -> anyhow::Result<Attached>;
    fn detach(&mut self, ifindex: u32) -> anyhow::Result<()>;
    fn attached(&self) -> Vec<Attached>;
    fn servers(&self) -> Vec<IpAddr>;
    fn set_next_hop(&mut self, server: IpAddr, hop: NextHop) -> anyhow::Result<()>;
    fn routes_changed(&mut self) -> anyhow::Result<()>;
    fn client_neighbours(&self) -> HashSet<(u32, [u8; 6])>;
    fn own_addresses(&self) -> HashSet<IpAddr>;
    fn host_forwards(&self) -> bool;
    fn reasons(&self) -> anyhow::Result<Vec<ReasonCount>>;
    fn maintain(&mut self) -> anyhow::Result<()>;
}

impl DataPlane for Datapath {
    fn adopted(&self) -> bool {
        self.adopted()
    }

    fn table(&self) -> Table {
        self.table()
    }

    fn apply(&mut self, change: &Change) -> anyhow::Result<()> {
        Ok(self.apply(change)?)
    }

    fn zero(&mut self, service: Option<&ServiceKey>) -> anyhow::Result<()> {
        Ok(self.zero(service)?)
    }

    fn view(&self) -> anyhow::Result<View> {
        self.view().context("cannot read the counters")
    }

    fn connections(&self) -> anyhow::Result<Vec<ConnectionView>> {
        self.connections()
            .context("cannot read the connection table")
    }

    fn attach(&mut self, name: &str, ifindex: u32, choice: HookChoice) -> anyhow::Result<Attached> {
        self.attach(name, ifindex, choice)
            .with_context(|| format!("cannot listen on {name}"))
    }

    fn detach(&mut self, ifindex: u32) -> anyhow::Result<()> {
        Ok(self.detach(ifindex)?)
    }

    fn attached(&self) -> Vec<Attached> {
        self.attached()
    }

    fn servers(&self) -> Vec<IpAddr> {
        self.servers()
    }

    fn set_next_hop(&mut self, server: IpAddr, hop: NextHop) -> anyhow::Result<()> {
        Ok(self.set_next_hop(server, hop)?)
    }

    fn routes_changed(&mut self) -> anyhow::Result<()> {
        Ok(self.routes_changed()?)
    }

    fn client_neighbours(&self) -> HashSet<(u32, [u8; 6])> {
        self.client_neighbours()
    }

    fn own_addresses(&self) -> HashSet<IpAddr> {
        environment::own_addresses()
    }

    fn host_forwards(&self) -> bool {
        environment::host_forwards()
    }

    fn reasons(&self) -> anyhow::Result<Vec<ReasonCount>> {
        self.reasons().context("cannot read the reason counters")
    }

    fn maintain(&mut self) -> anyhow::Result<()> {
        Ok(self.maintain()?)
    }
}
