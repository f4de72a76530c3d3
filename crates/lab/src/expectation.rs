//! What the scheduler must give, computed from the rules alone.
//!
//! Written anew on purpose: a test that asked the director's own scheduler would agree with any mistake.

use crate::topology::{RealServer, Scheduler, Service, Share};

/// What can be told before a service is asked, by one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prediction<'a> {
    /// Server by server, as [`names`] gives them.
    Sequence,
    /// One server answers everything; which, only the director knows.
    OneServer,
    /// The file gives counts.
    Counts {
        servers: &'a [(String, usize)],
        tolerance: usize,
    },
    /// Nothing.
    Unknown,
}

/// What the file says must come of requests, or what the scheduler must give.
pub(crate) fn predict(service: &Service) -> Prediction<'_> {
    match &service.expectation.share {
        Share::Counts { servers, tolerance } => {
            return Prediction::Counts {
                servers,
                tolerance: *tolerance,
            };
        }
        Share::OneServer => return Prediction::OneServer,
        Share::Any => return Prediction::Unknown,
        Share::Scheduler => {}
    }
    let by_port = service
        .flags
        .iter()
        .any(|flag| ["sh-port", "mh-port", "flag-2"].contains(&flag.as_str()));
    match service.scheduler {
        Scheduler::None => Prediction::Unknown,
        _ if service.persistence.is_some() => Prediction::OneServer,
        Scheduler::Rr | Scheduler::Wrr => Prediction::Sequence,
        Scheduler::Fo | Scheduler::Dh => Prediction::OneServer,
        Scheduler::Sh | Scheduler::Mh if !by_port => Prediction::OneServer,
        _ => Prediction::Unknown,
    }
}

/// How many of `requests` new connections each server must get, in the order of `service.servers`, counting
/// from the service's creation.
pub(crate) fn counts(service: &Service, requests: usize) -> Vec<usize> {
    let mut counts = vec![0; service.servers.len()];
    for position in sequence(service).take(requests) {
        counts[position] += 1;
    }
    counts
}

/// The servers' names, pick by pick.
pub(crate) fn names(service: &Service) -> impl Iterator<Item = &str> {
    sequence(service).filter_map(|position| {
        service
            .servers
            .get(position)
            .map(|server| server.name.as_str())
    })
}

/// Positions in `service.servers`, pick by pick. Empty when no server has any weight.
fn sequence(service: &Service) -> Box<dyn Iterator<Item = usize> + '_> {
    // A new server goes to the head of the list, so the list runs from the newest to the oldest.
    let list: Vec<usize> = (0..service.servers.len()).rev().collect();
    let weight = |position: usize| {
        service
            .servers
            .get(position)
            .map_or(0, |server| server.weight)
    };
    if list.iter().all(|position| weight(*position) == 0) {
        return Box::new(std::iter::empty());
    }
    match service.scheduler {
        Scheduler::Rr => Box::new(
            list.into_iter()
                .filter(move |position| weight(*position) > 0)
                .collect::<Vec<_>>()
                .into_iter()
                .cycle(),
        ),
        Scheduler::Wrr => Box::new(Wrr::after_adding(&service.servers)),
        // These go by what the director alone has seen.
        _ => Box::new(std::iter::empty()),
    }
}

/// The kernel's weighted round robin.
#[derive(Debug)]
struct Wrr {
    /// Weights from the head of the list to its tail.
    weights: Vec<i64>,
    /// Where the last pick was; nothing before the first.
    current: Option<usize>,
    /// Divisor of all weights, current weight, and what it starts from.
    divisor: i64,
    current_weight: i64,
    most: i64,
}

impl Wrr {
    /// Its state after the servers were added one by one: the current weight survives each addition.
    fn after_adding(servers: &[RealServer]) -> Self {
        let mut state = Self {
            weights: Vec::new(),
            current: None,
            divisor: 1,
            current_weight: 0,
            most: 0,
        };
        for server in servers {
            state.weights.insert(0, i64::from(server.weight));
            state.divisor = state
                .weights
                .iter()
                .copied()
                .filter(|weight| *weight > 0)
                .fold(0, gcd)
                .max(1);
            let heaviest = state.weights.iter().copied().max().unwrap_or(0);
            state.most = heaviest - (state.divisor - 1);
            if state.current_weight > state.most || state.current_weight == 0 {
                state.current_weight = state.most;
            } else if state.divisor > 1 {
                state.current_weight = state.current_weight / state.divisor * state.divisor + 1;
            }
        }
        state
    }
}

impl Iterator for Wrr {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.most <= 0 {
            return None;
        }
        let mut from = self.current.map_or(0, |current| current + 1);
        loop {
            let found = self
                .weights
                .iter()
                .enumerate()
                .skip(from)
                .find(|(_, weight)| **weight >= self.current_weight);
            if let Some((position, _)) = found {
                self.current = Some(position);
                // The list runs newest first, the answer is in the order of adding.
                return Some(self.weights.len() - 1 - position);
            }
            self.current_weight -= self.divisor;
            if self.current_weight <= 0 {
                self.current_weight = self.most;
            }
            from = 0;
        }
    }
}

fn gcd(one: i64, other: i64) -> i64 {
    if other == 0 {
        one
    } else {
        gcd(other, one % other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Nat;

    fn service(scheduler: Scheduler, weights: &[u32]) -> Service {
        Nat {
            weights: weights.to_vec(),
            scheduler,
        }
        .topology()
        .unwrap()
        .services
        .remove(0)
    }

    fn letters(scheduler: Scheduler, weights: &[u32], picks: usize) -> String {
        sequence(&service(scheduler, weights))
            .take(picks)
            .map(|position| char::from(b'A' + position as u8))
            .collect()
    }

    #[test]
    fn weighted_round_robin_follows_the_recorded_sequences() {
        assert_eq!(
            letters(Scheduler::Wrr, &[4, 3, 2], 18),
            "CBAABACBACBAABACBA"
        );
        assert_eq!(letters(Scheduler::Wrr, &[1, 1, 1], 6), "CBACBA");
        assert_eq!(letters(Scheduler::Wrr, &[2, 4], 9), "BABBABBAB");
        assert_eq!(letters(Scheduler::Wrr, &[3, 1], 9), "BAAABAAAB");
        assert_eq!(letters(Scheduler::Wrr, &[100, 50], 6), "BAABAA");
    }

    #[test]
    fn round_robin_starts_with_the_newest_and_passes_over_weight_zero() {
        assert_eq!(letters(Scheduler::Rr, &[1, 1, 1], 6), "CBACBA");
        assert_eq!(letters(Scheduler::Rr, &[1, 0, 1], 4), "CACA");
        assert_eq!(letters(Scheduler::Rr, &[0, 0], 4), "");
        assert_eq!(letters(Scheduler::Wrr, &[0, 0], 4), "");
    }

    #[test]
    fn what_cannot_be_told_is_not_predicted() {
        let of = |scheduler, change: fn(&mut Service)| {
            let mut service = service(scheduler, &[1, 1]);
            change(&mut service);
            format!("{:?}", predict(&service))
        };
        assert_eq!(of(Scheduler::Wrr, |_| {}), "Sequence");
        let persistent = |service: &mut Service| {
            service.persistence = Some(crate::topology::Persistence {
                seconds: 60,
                netmask: std::net::Ipv4Addr::BROADCAST,
            });
        };
        assert_eq!(of(Scheduler::Rr, persistent), "OneServer");
        assert_eq!(of(Scheduler::Sh, |_| {}), "OneServer");
        let by_port = |service: &mut Service| service.flags.push("sh-port".into());
        assert_eq!(of(Scheduler::Sh, by_port), "Unknown");
        assert_eq!(of(Scheduler::Wlc, |_| {}), "Unknown");
        let any = |service: &mut Service| service.expectation.share = Share::Any;
        assert_eq!(of(Scheduler::Rr, any), "Unknown");
    }

    #[test]
    fn an_odd_request_goes_to_the_newest() {
        assert_eq!(counts(&service(Scheduler::Rr, &[1, 1]), 101), [50, 51]);
        assert_eq!(counts(&service(Scheduler::Wrr, &[3, 1]), 100), [75, 25]);
    }
}
