//! Threads that stay on one processor.

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// Keeps the calling thread where it is until dropped.
pub(crate) struct Stay(CpuSet);

/// The processors that this process may use.
pub(crate) fn allowed() -> Vec<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).unwrap();
    (0..CpuSet::count())
        .filter(|&n| set.is_set(n).unwrap())
        .collect()
}

/// Keep the calling thread on one of the [`allowed`] processors, the `number`th of them.
pub(crate) fn stay_on(number: usize) -> Stay {
    let before = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let allowed = allowed();
    let mut set = CpuSet::new();
    set.set(allowed[number % allowed.len()]).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
    Stay(before)
}

impl Drop for Stay {
    fn drop(&mut self) {
        let _ = sched_setaffinity(Pid::from_raw(0), &self.0);
    }
}
