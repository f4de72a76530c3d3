//! Rates of services and servers, by the arithmetic of the IPVS estimator (`ip_vs_est.c`), to the bit.
//!
//! A sample is taken every two seconds; a quarter of the difference to it is added to the estimate, which
//! smooths over about eight seconds. The estimator never looks at a clock: who samples late gets what the
//! kernel's would have given.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use furiwake_lvs::{
    model::{Server, ServerKey, ServiceConfig, ServiceKey},
    plan::Change,
    view::{Counters, Rates, View},
};

/// Time between two samples.
pub(crate) const INTERVAL: Duration = Duration::from_secs(2);

/// The estimators of a director: one for each service and each server.
#[derive(Debug, Default)]
pub(crate) struct Estimators {
    of: HashMap<Subject, Estimator>,
}

impl Estimators {
    /// Estimators of an adopted data plane: what was counted before says nothing about the rate now.
    pub(crate) fn starting_at(view: &View) -> Self {
        let of = subjects(view)
            .map(|(subject, counters)| (subject, Estimator::starting_at(counters)))
            .collect();
        Self { of }
    }

    /// Take the sample that is due every [`INTERVAL`], and forget what is gone.
    pub(crate) fn sample(&mut self, view: &View) {
        let mut before = std::mem::take(&mut self.of);
        for (subject, counters) in subjects(view) {
            let mut estimator = before.remove(&subject).unwrap_or_default();
            estimator.sample(counters);
            self.of.insert(subject, estimator);
        }
    }

    /// Write the rates into a view.
    pub(crate) fn fill(&self, view: &mut View) {
        let rates = |subject| {
            self.of
                .get(&subject)
                .map_or_else(Rates::default, Estimator::rates)
        };
        for service in &mut view.services {
            let key = service.config.key;
            service.rates = rates((key, None));
            for server in &mut service.servers {
                server.rates = rates((key, Some(server.server.key)));
            }
        }
    }

    /// Start over for one service or all: counters begin at zero again (`ipvsadm -Z`, or made anew).
    pub(crate) fn restart(&mut self, service: Option<&ServiceKey>) {
        self.of
            .retain(|(key, _), _| service.is_some_and(|service| service != key));
    }

    /// Start over for what these changes made or removed: it is new under an old name.
    pub(crate) fn restart_changed(&mut self, changes: &[Change]) {
        let mut services = HashSet::new();
        for change in changes {
            match change {
                Change::AddService(ServiceConfig { key, .. }) | Change::RemoveService(key) => {
                    services.insert(*key);
                }
                Change::AddServer {
                    service,
                    server: Server { key, .. },
                }
                | Change::RemoveServer {
                    service,
                    server: key,
                } => {
                    self.of.remove(&(*service, Some(*key)));
                }
                Change::EditService(_)
                | Change::EditServer { .. }
                | Change::SetTimeouts(_)
                | Change::SetSettings(_) => {}
            }
        }
        if !services.is_empty() {
            self.of.retain(|(key, _), _| !services.contains(key));
        }
    }
}

/// A service, or one of its servers.
type Subject = (ServiceKey, Option<ServerKey>);

fn subjects(view: &View) -> impl Iterator<Item = (Subject, &Counters)> {
    view.services.iter().flat_map(|service| {
        let key = service.config.key;
        let servers = service.servers.iter();
        std::iter::once(((key, None), &service.counters))
            .chain(servers.map(move |server| ((key, Some(server.server.key)), &server.counters)))
    })
}

/// One estimator. Estimates of connections and packets are scaled by 2^10, of bytes by 2^5.
#[derive(Debug, Clone, Copy, Default)]
struct Estimator {
    last: Counters,
    scaled: Rates,
}

impl Estimator {
    fn starting_at(counters: &Counters) -> Self {
        Self {
            last: *counters,
            scaled: Rates::default(),
        }
    }

    fn sample(&mut self, now: &Counters) {
        let (last, scaled) = (self.last, &mut self.scaled);
        // Over two seconds: per second in units of 2^-10 is delta / 2 * 2^10, and of 2^-5 likewise.
        let units = |now: u64, last: u64| now.saturating_sub(last) << 9;
        let bytes = |now: u64, last: u64| now.saturating_sub(last) << 4;
        approach(
            &mut scaled.connections,
            units(now.connections, last.connections),
        );
        approach(
            &mut scaled.in_packets,
            units(now.in_packets, last.in_packets),
        );
        approach(
            &mut scaled.out_packets,
            units(now.out_packets, last.out_packets),
        );
        approach(&mut scaled.in_bytes, bytes(now.in_bytes, last.in_bytes));
        approach(&mut scaled.out_bytes, bytes(now.out_bytes, last.out_bytes));
        self.last = *now;
    }

    fn rates(&self) -> Rates {
        let units = |scaled: u64| (scaled + 0x1ff) >> 10;
        let bytes = |scaled: u64| (scaled + 0xf) >> 5;
        Rates {
            connections: units(self.scaled.connections),
            in_packets: units(self.scaled.in_packets),
            out_packets: units(self.scaled.out_packets),
            in_bytes: bytes(self.scaled.in_bytes),
            out_bytes: bytes(self.scaled.out_bytes),
        }
    }
}

/// A quarter of the way from the estimate to the sample; the shift is arithmetic, so it rounds down.
fn approach(estimate: &mut u64, sample: u64) {
    let step = (sample as i64).wrapping_sub(*estimate as i64) >> 2;
    *estimate = estimate.wrapping_add_signed(step);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_connections_every_two_seconds_show_as_ipvs_shows_them() {
        let mut estimator = Estimator::default();
        let shown: Vec<u64> = (1..=8)
            .map(|tick| {
                estimator.sample(&Counters {
                    connections: 100 * tick,
                    ..Counters::default()
                });
                estimator.rates().connections
            })
            .collect();
        assert_eq!(shown, [12, 22, 29, 34, 38, 41, 43, 45]);
    }

    #[test]
    fn two_megabytes_every_two_seconds_show_as_ipvs_shows_them() {
        let mut estimator = Estimator::default();
        let shown: Vec<u64> = (1..=8)
            .map(|tick| {
                estimator.sample(&Counters {
                    in_bytes: 2_000_000 * tick,
                    ..Counters::default()
                });
                estimator.rates().in_bytes
            })
            .collect();
        assert_eq!(
            shown,
            [
                250_000, 437_500, 578_125, 683_594, 762_695, 822_021, 866_516, 899_887
            ]
        );
    }

    #[test]
    fn rates_settle_at_the_truth_and_fall_to_zero() {
        let mut estimator = Estimator::default();
        let mut counters = Counters::default();
        for _ in 0..60 {
            counters.out_packets += 100;
            estimator.sample(&counters);
        }
        assert_eq!(estimator.rates().out_packets, 50);
        for _ in 0..60 {
            estimator.sample(&counters);
        }
        assert_eq!(estimator.rates().out_packets, 0);
    }

    #[test]
    fn what_was_counted_before_adoption_is_no_rate() {
        let counters = Counters {
            in_packets: 1_000_000,
            ..Counters::default()
        };
        let mut estimator = Estimator::starting_at(&counters);
        estimator.sample(&counters);
        assert_eq!(estimator.rates(), Rates::default());
    }

    #[test]
    fn counters_that_went_back_give_no_absurd_rate() {
        let mut estimator = Estimator::starting_at(&Counters {
            in_bytes: u64::MAX,
            ..Counters::default()
        });
        estimator.sample(&Counters::default());
        assert_eq!(estimator.rates(), Rates::default());
    }
}
