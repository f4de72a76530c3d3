//! Time on the processors, ahead of whatever else the machine does.

use anyhow::{Context, Result};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// Niceness of everything but the bursts: the lowest there is.
const NICENESS: i32 = -20;
/// Priority among real-time threads.
const PRIORITY: i32 = 10;

/// Puts this process, and every program that it will start, ahead of programs of usual priority.
pub(crate) fn go_ahead() -> Result<()> {
    // SAFETY: the call takes numbers.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
    if result < 0 {
        return Err(std::io::Error::last_os_error()).context("ask for a better priority");
    }
    Ok(())
}

/// Puts the calling thread on the last processor it may use, at real-time priority. For short-lived threads:
/// it stays so.
pub(crate) fn claim() -> Result<()> {
    let last = *allowed()?
        .last()
        .context("this thread may use no processor")?;
    let mut only = CpuSet::new();
    only.set(last)?;
    sched_setaffinity(Pid::from_raw(0), &only).context("choose a processor")?;
    let priority = libc::sched_param {
        sched_priority: PRIORITY,
    };
    // SAFETY: the call reads the structure, which outlives it.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) };
    if result < 0 {
        return Err(std::io::Error::last_os_error()).context("ask for real-time priority");
    }
    Ok(())
}

/// The first and the last processor that this thread may use, if they are two.
pub(crate) fn two() -> Result<Option<(usize, usize)>> {
    let allowed = allowed()?;
    Ok(match allowed.as_slice() {
        [first, .., last] => Some((*first, *last)),
        _ => None,
    })
}

fn allowed() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).context("ask for our processors")?;
    let is_allowed = |processor: &usize| set.is_set(*processor).unwrap_or(false);
    Ok((0..CpuSet::count()).filter(is_allowed).collect())
}
