//! Reclaiming: next hops towards clients that the programs learned and no connection uses any more.
//!
//! Programs only add them, so a director that has seen many neighbours would one day learn no more. A slot is given
//! back in three steps, with time between them for whoever is at work with it: nobody finds it any more, nobody
//! refers to it any more, it is free.

use std::collections::HashSet;

use furiwake_engine::{
    connection::{Bucket, TEMPLATE, Way},
    tables::{CLIENT_HOPS, Hop, SERVER_HOPS},
};

use crate::load::Maps;

/// How many may be in use before some are given back.
const ENOUGH: usize = CLIENT_HOPS as usize / 2;
/// Seconds between two steps.
const GRACE: u32 = 2;
/// Seconds before it begins again: it looks at the whole connection table.
const REST: u32 = 60;

/// How far it is.
#[derive(Debug, Default)]
pub(crate) struct Reclaim {
    step: Step,
    /// Second in which the next step is due.
    due: Option<u32>,
}

#[derive(Debug, Default)]
enum Step {
    #[default]
    Idle,
    /// These slots are not found any more.
    Hidden(HashSet<u32>),
    /// Nor does a connection refer to them.
    Alone(HashSet<u32>),
}

impl Reclaim {
    /// Go on, if it is time. `now` in ticks.
    pub(crate) fn go_on(&mut self, maps: &Maps, now: u32) {
        let second = now / maps.config[0].ticks_per_second.get().max(1);
        if self
            .due
            .is_some_and(|due| second.wrapping_sub(due).cast_signed() < 0)
        {
            return;
        }
        let (step, pause) = match std::mem::take(&mut self.step) {
            Step::Idle if learned(maps).count() <= ENOUGH => return,
            Step::Idle => (Step::Hidden(hide(maps, now)), GRACE),
            Step::Hidden(slots) => {
                // A template has something else there.
                let refers = |way: &&Way| way.word.get() & TEMPLATE == 0;
                for way in ways(maps).filter(refers) {
                    let hop = way.hop.get();
                    if !slots.contains(&(hop & 0xffff)) {
                        continue;
                    }
                    // Should it fail, the way has another hop.
                    way.hop.replace(hop, 0);
                }
                (Step::Alone(slots), GRACE)
            }
            Step::Alone(slots) => {
                for slot in &slots {
                    maps.hop[*slot as usize].flags.replace(Hop::CLAIMED, 0);
                }
                tracing::debug!(slots = slots.len(), "next hops towards clients given back");
                (Step::Idle, REST)
            }
        };
        self.step = step;
        self.due = Some(second.wrapping_add(pause));
    }
}

/// Hide the slots that no connection used lately: with these flags no program takes them for free or for its own.
/// One that a program is about to fill, or that a daemon which is gone has hidden, has them already.
fn hide(maps: &Maps, now: u32) -> HashSet<u32> {
    let generation = maps.config[0].route_generation.get().wrapping_add(now >> 9);
    let is_of_late = |hop: u32| generation.wrapping_sub(hop >> 16) & 0xffff <= 1;
    let used: HashSet<u32> = ways(maps)
        .map(|way| way.hop.get())
        .filter(|hop| is_of_late(*hop))
        .map(|hop| hop & 0xffff)
        .collect();
    learned(maps)
        .filter(|(slot, _)| !used.contains(slot))
        .filter(|(_, hop)| hop.flags.replace(hop.flags.get(), Hop::CLAIMED))
        .map(|(slot, _)| slot)
        .collect()
}

fn learned(maps: &Maps) -> impl Iterator<Item = (u32, &Hop)> {
    let slots = (0..).zip(&*maps.hop).skip(SERVER_HOPS as usize);
    slots.filter(|(_, hop)| hop.flags.get() != 0)
}

fn ways(maps: &Maps) -> impl Iterator<Item = &Way> {
    maps.connections
        .iter()
        .flat_map(|bucket: &Bucket| &bucket.ways)
}
