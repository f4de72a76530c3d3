//! The rules of the reference (§1), told once more in the plainest way: a list in a vector, numbers as wide as
//! it takes, loops as they come. For the schedulers that go by the list alone.

use super::*;

/// A server as the rules see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fellow {
    pub(super) number: u8,
    pub(super) weight: u32,
    pub(super) active: u32,
    pub(super) total: u32,
    pub(super) overloaded: bool,
}

impl Fellow {
    fn is_usable(&self) -> bool {
        self.weight > 0 && !self.overloaded
    }

    fn overhead(&self) -> u128 {
        256 * self.active as u128 + self.total as u128
    }
}

pub(super) struct Model {
    pub(super) scheduler: Scheduler,
    /// Newest first.
    pub(super) list: Vec<Fellow>,
    /// Number of the server last picked; none: before the head.
    last: Option<u8>,
    /// The weight that wrr is at.
    current: i64,
}

impl Model {
    pub(super) fn new(scheduler: Scheduler) -> Self {
        Self {
            scheduler,
            list: Vec::new(),
            last: None,
            current: 0,
        }
    }

    fn gcd(&self) -> i64 {
        let weights = self.list.iter().map(|s| s.weight).filter(|w| *w > 0);
        let divides = |d: u32| weights.clone().all(|w| w.is_multiple_of(d));
        weights
            .clone()
            .min()
            .and_then(|least| (1..=least).rev().find(|d| divides(*d)))
            .unwrap_or(1) as i64
    }

    fn mark(&self) -> i64 {
        let greatest = self.list.iter().map(|s| s.weight).max().unwrap_or(0) as i64;
        greatest - (self.gcd() - 1)
    }

    /// What a change of servers or weights does.
    pub(super) fn after_change(&mut self) {
        if self.scheduler == Scheduler::Wrr {
            self.last = None;
            let (gcd, mark) = (self.gcd(), self.mark());
            if self.current > mark || self.current == 0 {
                self.current = mark;
            } else if gcd > 1 {
                self.current = self.current / gcd * gcd + 1;
            }
        }
    }

    pub(super) fn position(&self, number: u8) -> Option<usize> {
        self.list.iter().position(|s| s.number == number)
    }

    pub(super) fn remove(&mut self, number: u8) {
        let at = self.position(number).unwrap();
        if self.last == Some(number) {
            self.last = at.checked_sub(1).map(|before| self.list[before].number);
        }
        self.list.remove(at);
        self.after_change();
    }

    pub(super) fn pick(&mut self) -> Option<u8> {
        let usable = || self.list.iter().filter(|s| s.is_usable());
        // The first of those for which a fraction is least.
        let least = |fraction: fn(&Fellow) -> (u128, u128)| {
            let better = |best: &'_ Fellow, next: &'_ Fellow| {
                let (best, next) = (fraction(best), fraction(next));
                best.0 * next.1 > next.0 * best.1
            };
            usable().reduce(|best, next| if better(best, next) { next } else { best })
        };
        let sed = |s: &Fellow| (s.active as u128 + 1, s.weight as u128);
        let heaviest = |s: &Fellow| (1, s.weight as u128);
        let picked = match self.scheduler {
            Scheduler::Rr => return self.rr(),
            Scheduler::Wrr => return self.wrr(),
            Scheduler::Lc => least(|s| (s.overhead(), 1)),
            Scheduler::Wlc => least(|s| (s.overhead(), s.weight as u128)),
            Scheduler::Sed => least(sed),
            Scheduler::Nq => usable().find(|s| s.active == 0).or_else(|| least(sed)),
            Scheduler::Fo => least(heaviest),
            Scheduler::Ovf => usable()
                .filter(|s| s.active <= s.weight)
                .reduce(|best, next| {
                    if next.weight > best.weight {
                        next
                    } else {
                        best
                    }
                }),
            other => panic!("{other:?} is not modelled here"),
        };
        picked.map(|s| s.number)
    }

    fn start(&self) -> usize {
        self.last.map_or(0, |last| self.position(last).unwrap() + 1)
    }

    fn rr(&mut self) -> Option<u8> {
        let (start, n) = (self.start(), self.list.len());
        let around = (0..n).map(|step| self.list[(start + step) % n]);
        let picked = around.into_iter().find(Fellow::is_usable)?.number;
        self.last = Some(picked);
        self.last
    }

    /// Step by step as `ip_vs_wrr_schedule`.
    fn wrr(&mut self) -> Option<u8> {
        let (gcd, mark) = (self.gcd(), self.mark());
        if self.list.iter().all(|s| s.weight == 0) {
            return None;
        }
        let (mut last_pass, mut restarted, mut stop) = (false, false, None);
        let mut at = self.start();
        loop {
            while let Some(server) = self.list.get(at) {
                if !server.overloaded && server.weight as i64 >= self.current {
                    self.last = Some(server.number);
                    return self.last;
                }
                if Some(server.number) == stop {
                    return None;
                }
                at += 1;
            }
            self.current -= gcd;
            if self.current <= 0 {
                self.current = mark;
                if last_pass {
                    self.last = None;
                    return None;
                }
                restarted = true;
            }
            last_pass = self.current <= gcd;
            if last_pass && restarted {
                stop = self.last;
            }
            at = 0;
        }
    }
}
