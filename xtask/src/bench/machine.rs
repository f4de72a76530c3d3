//! The machine that was measured on, in a few words.

use std::{fmt, fs, thread};

use serde::Serialize;

/// The machine.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    processor: String,
    processors: usize,
    kernel: String,
    memory_gib: u64,
    load: String,
    virtual_machine: bool,
}

impl Machine {
    /// This one, now.
    pub(crate) fn this() -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let meminfo = read("/proc/meminfo");
        let kilobytes = meminfo
            .split_whitespace()
            .nth(1)
            .and_then(|word| word.parse::<u64>().ok());
        let load: Vec<_> = read("/proc/loadavg")
            .split_whitespace()
            .take(3)
            .map(str::to_owned)
            .collect();
        Self {
            processor: field("model name").unwrap_or_else(|| std::env::consts::ARCH.into()),
            processors: thread::available_parallelism().map_or(1, Into::into),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_gib: (kilobytes.unwrap_or(0) + (1 << 19)) >> 20,
            load: load.join(" "),
            virtual_machine: field("flags")
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.virtual_machine {
            ", virtual"
        } else {
            ""
        };
        writeln!(
            f,
            "{} × {}{place}, {} GiB",
            self.processors, self.processor, self.memory_gib
        )?;
        write!(
            f,
            "Linux {}, load before the run {}",
            self.kernel, self.load
        )
    }
}
