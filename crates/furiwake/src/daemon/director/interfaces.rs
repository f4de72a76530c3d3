//! Which interfaces the director listens on, as they come, change and go.

use tracing::{error, info, warn};

use super::{
    super::{data_plane::DataPlane, next_hop::Link},
    Director,
};
use crate::api::schema::Unattached;

impl<D: DataPlane> Director<D> {
    /// Listen on the interfaces that are there. One that was named and cannot be listened on is an error.
    pub(crate) fn attach_all(&mut self, links: &[Link]) -> anyhow::Result<()> {
        let (chosen, others): (Vec<_>, Vec<_>) = links
            .iter()
            .partition(|link| self.selection.choice(link).is_some());
        let before: Vec<_> = self.plane.attached().iter().map(|at| at.ifindex).collect();
        for link in &chosen {
            self.attach(link);
            if let Some(failed) = self.unattached.get(&link.ifindex)
                && self.selection.names(&link.name)
            {
                let failure = anyhow::anyhow!("{}", failed.reason);
                // The one that failed, too: it may be half attached.
                for link in chosen.iter().filter(|link| !before.contains(&link.ifindex)) {
                    if let Err(error) = self.plane.detach(link.ifindex) {
                        warn!(interface = %link.name, %error, "cannot let go of an interface");
                    }
                }
                return Err(failure);
            }
        }
        // Only now: a start that fails leaves what was listening before.
        self.detach_unwanted(links);
        for link in others {
            self.attach(link);
        }
        Ok(())
    }

    pub(super) fn attach(&mut self, link: &Link) {
        if let Some(lower) = link.vlan_of
            && self.tried.get(&link.ifindex) != Some(link)
            && let Some(lower) = self.tried.remove(&lower)
        {
            // It may be that it should not have XDP any more.
            self.attach(&lower);
        }
        let Some(choice) = self.selection.choice(link) else {
            // It may have had another name a moment ago.
            let said = self.unattached.remove(&link.ifindex);
            self.forget(link.ifindex);
            self.explain(link, said);
            return;
        };
        if self.tried.get(&link.ifindex) == Some(link) {
            return;
        }
        let known = self.tried.insert(link.ifindex, link.clone()).is_some();
        match self.plane.attach(&link.name, link.ifindex, choice) {
            Ok(attached) => {
                let failed_before = self.unattached.remove(&link.ifindex).is_some();
                if !known || failed_before {
                    let reason = attached.reason.as_deref();
                    info!(interface = %link.name, hook = %attached.hook, reason, "listening");
                }
            }
            Err(failure) => {
                let reason = format!("{failure:#}");
                let failed = Unattached {
                    name: link.name.clone(),
                    reason,
                };
                if self.unattached.get(&link.ifindex) != Some(&failed) {
                    error!(interface = %failed.name, reason = %failed.reason, "not listening");
                    self.unattached.insert(link.ifindex, failed);
                }
            }
        }
    }

    /// Try what failed again: what was in the way may be gone.
    pub(super) fn attach_again(&mut self) {
        // What is left out on purpose is unattached, too, but was not tried.
        let failed: Vec<_> = self
            .tried
            .extract_if(.., |ifindex, _| self.unattached.contains_key(ifindex))
            .collect();
        for (_, link) in failed {
            self.attach(&link);
        }
    }

    /// Say why an Ethernet interface is left out that nobody excluded.
    fn explain(&mut self, link: &Link, said: Option<Unattached>) {
        let Some(of) = link.port_of.filter(|_| self.selection.is_open()) else {
            return;
        };
        let of = self
            .tried
            .get(&of)
            .map_or_else(|| format!("interface {of}"), |of| of.name.clone());
        let name = &link.name;
        let left_out = Unattached {
            name: name.clone(),
            reason: format!(
                "a port of {of}, where its packets are taken; --interface {name} insists"
            ),
        };
        if said.as_ref() != Some(&left_out) {
            info!(interface = %left_out.name, reason = %left_out.reason, "not listening");
        }
        self.unattached.insert(link.ifindex, left_out);
    }

    /// Let go of adopted interfaces that are gone or not chosen any more.
    pub(super) fn detach_unwanted(&mut self, links: &[Link]) {
        let chosen = |ifindex| {
            links
                .iter()
                .any(|link| link.ifindex == ifindex && self.selection.choice(link).is_some())
        };
        let unwanted: Vec<_> = self
            .plane
            .attached()
            .iter()
            .map(|attached| attached.ifindex)
            .filter(|ifindex| !chosen(*ifindex))
            .collect();
        for ifindex in unwanted {
            self.forget(ifindex);
        }
    }

    pub(super) fn forget(&mut self, ifindex: u32) {
        self.tried.remove(&ifindex);
        self.unattached.remove(&ifindex);
        let attached = self.plane.attached();
        let Some(attached) = attached.iter().find(|attached| attached.ifindex == ifindex) else {
            return;
        };
        match self.plane.detach(ifindex) {
            Ok(()) => info!(interface = %attached.name, "no longer listening"),
            Err(failure) => {
                let error = format!("{failure:#}");
                warn!(interface = %attached.name, error, "cannot let go of an interface");
            }
        }
    }
}
