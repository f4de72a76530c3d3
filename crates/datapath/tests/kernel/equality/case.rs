//! A case: one random table and what happens to it, and how it is told and made shorter.

use std::panic::{self, AssertUnwindSafe};

use furiwake_lvs::plan::Change;

use super::{choice::Choice, compare, kernel::Kernel, packets, twin::Twin, world::World};
use crate::director::Incoming;

/// What happens in a case.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Change(Change),
    Packet(Incoming),
    /// So many seconds pass, and a little more, so that no deadline is met to the tick.
    Wait(u32),
    /// The sweeper goes round once.
    Sweep,
}

/// Waits in a case, at most: what they have more than whole seconds is less than one together.
const WAITS: usize = 5;

/// The steps of the case with this seed.
pub(crate) fn steps(seed: u64) -> Vec<Step> {
    let mut choice = Choice::new(seed);
    let mut world = World::new(&mut choice);
    let beginning = world.beginning(&mut choice);
    let mut steps: Vec<Step> = beginning.into_iter().map(Step::Change).collect();
    let mut waits = 0;
    for _ in 0..4 + choice.below(36) {
        steps.push(match choice.below(24) {
            0 | 1 => Step::Change(world.change(&mut choice)),
            2 if waits < WAITS => {
                waits += 1;
                Step::Wait(choice.one_of(&[0, 1, 2, 9, 58, 60, 119, 300, 900]))
            }
            3 => Step::Sweep,
            _ => Step::Packet(packets::packet(&mut choice, &world)),
        });
    }
    steps
}

/// Play some steps on both; says what differs.
pub(crate) fn play(kernel: &mut Kernel, steps: &[&Step]) -> Result<(), String> {
    let played = panic::catch_unwind(AssertUnwindSafe(|| {
        kernel.begin();
        let mut host = Twin::of(kernel, uses_rings(steps));
        for (number, step) in steps.iter().enumerate() {
            host.step(kernel, step)
                .map_err(|difference| format!("step {number}: {difference}"))?;
        }
        compare::compare(&host, kernel)
    }));
    played.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

/// How many slots of hash rings these steps need.
fn uses_rings(steps: &[&Step]) -> u32 {
    let slots = |step: &&Step| match step {
        Step::Change(Change::AddService(config) | Change::EditService(config)) => {
            match config.scheduler.0.as_str() {
                "maglev" => 3 * 65540,
                "mh" | "dh" | "sh" => 3 * 4096,
                _ => 4,
            }
        }
        _ => 4,
    };
    steps.iter().map(slots).max().unwrap_or(4)
}

/// The shortest part of some steps that differs as well, found by leaving out ever fewer at once.
pub(crate) fn shorten<'a>(kernel: &mut Kernel, steps: &'a [Step]) -> (Vec<&'a Step>, String) {
    let mut kept: Vec<&Step> = steps.iter().collect();
    let mut difference = play(kernel, &kept).err().unwrap_or_default();
    let mut length = kept.len() / 2;
    while length > 0 {
        let mut at = 0;
        let mut is_shorter = false;
        while at < kept.len() {
            let mut fewer = kept.clone();
            fewer.drain(at..(at + length).min(kept.len()));
            match play(kernel, &fewer) {
                Err(found) => (kept, difference, is_shorter) = (fewer, found, true),
                Ok(()) => at += length,
            }
        }
        if length > 1 || !is_shorter {
            length /= 2;
        }
    }
    (kept, difference)
}

/// Steps, a line each.
pub(crate) fn told(steps: &[&Step]) -> String {
    let line = |(number, step): (usize, &&Step)| match step {
        Step::Packet(Incoming { wire, frame, .. }) => {
            let bytes: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("  {number}: {wire:?} {bytes}\n")
        }
        Step::Change(Change::SetSettings(settings)) => {
            let changed = settings.changed();
            let words = changed.map(|one| format!("{}={} ", one.name, one.value(settings)));
            format!("  {number}: {}\n", words.collect::<String>())
        }
        step => format!("  {number}: {step:?}\n"),
    };
    steps.iter().enumerate().map(line).collect()
}
