//! Loading: the object, its maps and their pins; taking over what an earlier daemon left.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{MapData, PerCpuArray, ProgramArray},
    programs::{Program, ProgramError, TestRun, TestRunOptions, Xdp},
};
use furiwake_engine::{
    connection::{Bucket, WAYS},
    settings,
    shared::Shared64,
    state::TIMEOUTS,
    tables::{
        Config, Counters, Counts, Filter, HOPS, Hop, Kept, LAYOUT, Port, SchedulerState, Server,
        Service, ServiceKey,
    },
};
use furiwake_lvs::model::Settings;

use crate::{
    Error, Options, decap,
    index::Index,
    memory::{self, Mapped},
    remove,
};

/// The kernel object, built by `cargo xtask bpf`.
pub(crate) static OBJECT: &[u8] = aya::include_bytes_aligned!("../bpf/furiwake.o");

/// Maps that live as pins, by the names that the object gives them.
pub(crate) const PINNED: &[&str] = &[
    "CONFIG",
    "SETTINGS",
    "FILTER",
    "CONNECTIONS",
    "SERVICE_INDEX",
    "SERVICE",
    "SCHEDULER",
    "SERVER",
    "COUNTS",
    "COUNTERS",
    "SERVER_ZERO",
    "SERVICE_BASE",
    "HOP",
    "RING",
    "CACHED",
    "LINK",
    "PORT",
    "REASON",
    "FRAGMENT",
    "ERRORS",
    "STAGE",
    "XDP_STAGE",
    "PASSAGE",
    "MOVE",
    "SWEEPER",
];

/// Index in `STAGE` and name of each program that others end in (crate `ebpf`, `maps.rs`).
const STAGES: [(u32, &str); 6] = [
    (0, "furiwake_tc_complete"),
    (1, "furiwake_tc_reject"),
    (2, "furiwake_tc_icmp"),
    (3, "furiwake_tc_connect"),
    (4, "furiwake_tc_send"),
    (5, "furiwake_tc_tunnel"),
];

/// The same for `XDP_STAGE`.
const XDP_STAGES: [(u32, &str); 3] = [
    (0, "furiwake_xdp_connect"),
    (1, "furiwake_xdp_send"),
    (2, "furiwake_xdp_tunnel"),
];

/// Steps of the sweeper in a second; a step looks at its share of the table.
const SWEEPS_PER_SECOND: u32 = 200;

/// Share of the connection table that is to be filled at most, in percent.
const FILL: u64 = 80;

/// The maps, as memory or handles.
pub(crate) struct Maps {
    /// What is in use, for want of searching.
    pub(crate) index: Index,
    /// Settings as they were given.
    pub(crate) settings: Settings,
    /// Memory that is missing, see [`crate::defence`].
    pub(crate) shortage: Option<u32>,
    /// Processors that counters are kept for.
    pub(crate) processors: usize,
    pub(crate) config: Mapped<Config>,
    pub(crate) kept: Mapped<Kept>,
    pub(crate) filter: Mapped<Filter>,
    pub(crate) connections: Mapped<Bucket>,
    pub(crate) service: Mapped<Service>,
    pub(crate) scheduler: Mapped<SchedulerState>,
    pub(crate) server: Mapped<Server>,
    pub(crate) counts: Mapped<Counts>,
    pub(crate) server_zero: Mapped<Counters>,
    pub(crate) service_base: Mapped<Counters>,
    pub(crate) hop: Mapped<Hop>,
    pub(crate) ring: Mapped<Shared64>,
    pub(crate) port: Mapped<Port>,
    pub(crate) service_index: aya::maps::HashMap<MapData, RawServiceKey, u32>,
    pub(crate) counters: PerCpuArray<MapData, RawCounters>,
    pub(crate) reason: PerCpuArray<MapData, u64>,
}

/// [`ServiceKey`] for aya.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct RawServiceKey(pub(crate) ServiceKey);

// SAFETY: plain numbers without padding.
unsafe impl aya::Pod for RawServiceKey {}

/// [`Counters`] of one processor for aya, in the order of its fields.
pub(crate) type RawCounters = [u64; 5];

/// A loaded object with its maps.
pub(crate) struct Loaded {
    pub(crate) object: Ebpf,
    pub(crate) maps: Maps,
    pub(crate) adopted: bool,
    pub(crate) links: PathBuf,
}

/// Load the programs over new maps, or over those that are pinned in the folder.
pub(crate) fn load(options: &Options) -> Result<Loaded, Error> {
    let folder = layout_folder(&options.pin_directory)?;
    let (maps, links) = (folder.join("maps"), folder.join("links"));
    for folder in [&maps, &links] {
        fs::create_dir_all(folder).map_err(|source| Error::Map {
            path: folder.clone(),
            source,
        })?;
    }
    let adopted = is_whole(&maps)?;
    if !adopted {
        remove::wipe(&links, &maps)?;
    }
    let mut object = load_object(&maps, buckets(options.connections))?;
    let own = object
        .programs_mut()
        .filter(|(name, _)| *name != decap::PROGRAM);
    for (name, program) in own {
        load_program(name, program)?;
    }
    let maps = open_maps(&maps)?;
    if !adopted {
        configure(&object, &maps)?;
    }
    fill_stages(&mut object)?;
    start_sweeper(&mut object)?;
    Ok(Loaded {
        object,
        maps,
        adopted,
        links,
    })
}

/// The folder of this version's layout; an error when there is one of another.
fn layout_folder(pins: &Path) -> Result<PathBuf, Error> {
    let name = format!("layout-{LAYOUT}");
    let entries = match fs::read_dir(pins) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(pins.join(name)),
        Err(source) => {
            return Err(Error::Map {
                path: pins.to_path_buf(),
                source,
            });
        }
    };
    for entry in entries.flatten() {
        let found = entry.file_name().to_string_lossy().into_owned();
        if let Some(found) = found.strip_prefix("layout-").filter(|_| found != name) {
            return Err(Error::StalePins {
                path: pins.to_path_buf(),
                found: found.to_owned(),
                wanted: LAYOUT,
            });
        }
    }
    Ok(pins.join(name))
}

/// Whether the folder holds a data plane. What was half made or half removed is none, and may be wiped; a pin
/// that cannot be opened says nothing about that, and is an error.
fn is_whole(maps: &Path) -> Result<bool, Error> {
    for name in PINNED {
        let path = maps.join(name);
        match fs::symlink_metadata(&path) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(Error::Map { path, source }),
        }
    }
    let config = Mapped::<Config>::open(&maps.join("CONFIG"))?;
    let connections = Mapped::<Bucket>::open(&maps.join("CONNECTIONS"))?;
    // The length of a second is written last: without it the settings are not complete.
    let [config] = &*config else { return Ok(false) };
    let buckets = config.bucket_mask.get() as usize + 1;
    Ok(config.ticks_per_second.get() != 0 && buckets == connections.len())
}

/// Buckets for so many connections, a power of two.
fn buckets(connections: u32) -> u32 {
    let ways = u64::from(connections.max(1024)) * 100 / FILL;
    let buckets = ways.div_ceil(WAYS as u64).next_power_of_two();
    u32::try_from(buckets)
        .unwrap_or(1 << 28)
        .clamp(512, 1 << 28)
}

fn load_object(maps: &Path, buckets: u32) -> Result<Ebpf, Error> {
    let pins: Vec<_> = PINNED.iter().map(|name| (*name, maps.join(name))).collect();
    let mut loader = EbpfLoader::new();
    loader.map_max_entries("CONNECTIONS", buckets);
    for (name, path) in &pins {
        loader.map_pin_path(name, path.as_path());
    }
    loader.load(OBJECT).map_err(|e| Error::Aya {
        what: "load the kernel object",
        path: maps.to_path_buf(),
        source: Box::new(e),
    })
}

pub(crate) fn load_program(name: &str, program: &mut Program) -> Result<(), Error> {
    let result = match program {
        Program::Xdp(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        _ => Ok(()),
    };
    result.map_err(|e| refused(name, &e))
}

fn refused(name: &str, error: &ProgramError) -> Error {
    let reason = match error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => {
            let log = verifier_log.to_string();
            // The verifier's statistics come after what it says.
            let is_statistics = |line: &str| {
                ["processed", "stack depth", "verification time"]
                    .iter()
                    .any(|start| line.starts_with(start))
            };
            let last = log
                .lines()
                .rev()
                .find(|line| !is_statistics(line) && !line.trim().is_empty());
            format!(
                "{io_error} ({})",
                last.unwrap_or("no word from the verifier")
            )
        }
        other => crate::error::chain(other),
    };
    let program = STAGES
        .iter()
        .map(|(_, n)| *n)
        .chain([
            "furiwake_tc",
            "furiwake_xdp",
            "furiwake_xdp_unfinished",
            "furiwake_sweep",
            "furiwake_clock",
            decap::PROGRAM,
        ])
        .find(|n| *n == name);
    Error::Refused {
        program: program.unwrap_or("furiwake"),
        reason,
        remedy: "it needs Linux 5.17 or newer with BTF and the BPF JIT, and CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON".to_owned(),
    }
}

fn open_maps(pins: &Path) -> Result<Maps, Error> {
    Ok(Maps {
        index: Index::default(),
        settings: Settings::default(),
        shortage: None,
        processors: aya::util::nr_cpus().map_err(|(path, source)| Error::Map {
            path: path.into(),
            source,
        })?,
        config: Mapped::open(&pins.join("CONFIG"))?,
        kept: Mapped::open(&pins.join("SETTINGS"))?,
        filter: Mapped::open(&pins.join("FILTER"))?,
        connections: Mapped::open(&pins.join("CONNECTIONS"))?,
        service: Mapped::open(&pins.join("SERVICE"))?,
        scheduler: Mapped::open(&pins.join("SCHEDULER"))?,
        server: Mapped::open(&pins.join("SERVER"))?,
        counts: Mapped::open(&pins.join("COUNTS"))?,
        server_zero: Mapped::open(&pins.join("SERVER_ZERO"))?,
        service_base: Mapped::open(&pins.join("SERVICE_BASE"))?,
        hop: Mapped::open(&pins.join("HOP"))?,
        ring: Mapped::open(&pins.join("RING"))?,
        port: Mapped::open(&pins.join("PORT"))?,
        service_index: open(pins, "SERVICE_INDEX", aya::maps::Map::HashMap)?,
        counters: open(pins, "COUNTERS", aya::maps::Map::PerCpuArray)?,
        reason: open(pins, "REASON", aya::maps::Map::PerCpuArray)?,
    })
}

/// Open a pinned map that is reached by system calls.
fn open<M, E>(pins: &Path, name: &str, kind: fn(MapData) -> aya::maps::Map) -> Result<M, Error>
where
    M: TryFrom<aya::maps::Map, Error = E>,
    E: std::error::Error + Send + Sync + 'static,
{
    let path = pins.join(name);
    let data = MapData::from_pin(&path).map_err(|e| Error::Aya {
        what: "open map",
        path: path.clone(),
        source: Box::new(e),
    })?;
    M::try_from(kind(data)).map_err(|e| Error::Aya {
        what: "open map",
        path,
        source: Box::new(e),
    })
}

/// Settings of a new data plane. How long a second is comes last: it says that the rest is there.
fn configure(object: &Ebpf, maps: &Maps) -> Result<(), Error> {
    let config = &maps.config[0];
    let (shift, per_second) = measure_ticks(object)?;
    let buckets = u32::try_from(maps.connections.len()).unwrap_or(1);
    config.seed.set(memory::secret()?);
    config.bucket_mask.set(buckets - 1);
    config.tick_shift.set(shift);
    config.errors_per_second.set(1000);
    config.set_transitions(false);
    config.settings.set(settings::DEFAULT);
    config.conn_reuse_mode.set(settings::CONN_REUSE_MODE);
    config.lblc_expiration.set(settings::LBLC_EXPIRATION);
    config.lblcr_expiration.set(settings::LBLC_EXPIRATION);
    // Once round in a second, in steps that stay well below a millisecond for tables of millions.
    config
        .sweep_step
        .set((buckets / SWEEPS_PER_SECOND).max(128));
    config
        .sweep_interval_ns
        .set(1_000_000_000 / u64::from(SWEEPS_PER_SECOND));
    for (cell, seconds) in config.timeouts.iter().zip(TIMEOUTS) {
        cell.set(seconds * per_second);
    }
    for state in &*maps.scheduler {
        state.0.set(SchedulerState::START);
    }
    // Whatever has no hop yet is at this one, and nothing is too long for it.
    maps.hop[0].mtu.set(u32::MAX >> 1);
    debug_assert_eq!(maps.hop.len(), HOPS as usize);
    config.ticks_per_second.set(per_second);
    Ok(())
}

/// How far to shift jiffies for about a hundred ticks a second, and how many that gives.
fn measure_ticks(object: &Ebpf) -> Result<(u32, u32), Error> {
    let clock = || -> Result<(u64, u64), Error> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Aya {
            what: "run the program",
            path: "furiwake_clock".into(),
            source,
        };
        let program: &Xdp = object
            .program("furiwake_clock")
            .ok_or(Error::Missing("program furiwake_clock"))?
            .try_into()
            .map_err(|e: ProgramError| failed(Box::new(e)))?;
        let mut out = [0u8; 64];
        let options = TestRunOptions {
            data_in: Some(&[0; 64]),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        };
        program.test_run(options).map_err(|e| failed(Box::new(e)))?;
        let word = |at: usize| u64::from_ne_bytes(out[at..at + 8].try_into().unwrap_or([0; 8]));
        Ok((word(0), word(8)))
    };
    let (jiffies, nanoseconds) = clock()?;
    thread::sleep(Duration::from_millis(100));
    let (jiffies_later, nanoseconds_later) = clock()?;
    let elapsed = (nanoseconds_later - nanoseconds).max(1);
    let measured = (jiffies_later - jiffies) * 1_000_000_000 / elapsed;
    Ok(match measured {
        0..175 => (0, 100),
        175..275 => (1, 125),
        275..600 => (1, 150),
        _ => (3, 125),
    })
}

fn fill_stages(object: &mut Ebpf) -> Result<(), Error> {
    fill(object, "STAGE", &STAGES)?;
    fill(object, "XDP_STAGE", &XDP_STAGES)
}

/// Put programs into a map of programs.
fn fill(object: &mut Ebpf, map: &'static str, programs: &[(u32, &str)]) -> Result<(), Error> {
    let failed = |name: &str, source: Box<dyn std::error::Error + Send + Sync>| Error::Aya {
        what: "chain the program",
        path: name.into(),
        source,
    };
    let data = object
        .take_map(map)
        .ok_or(Error::Missing("map of stages"))?;
    let mut stages = ProgramArray::try_from(data).map_err(|e| failed(map, Box::new(e)))?;
    for &(index, name) in programs {
        let fd = match object.program(name) {
            Some(Program::SchedClassifier(program)) => program.fd(),
            Some(Program::Xdp(program)) => program.fd(),
            _ => return Err(Error::Missing("program")),
        }
        .map_err(|e| failed(name, Box::new(e)))?;
        stages
            .set(index, fd, 0)
            .map_err(|e| failed(name, Box::new(e)))?;
    }
    Ok(())
}

/// Have the kernel expire connections, with this version's code.
fn start_sweeper(object: &mut Ebpf) -> Result<(), Error> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Aya {
        what: "start the sweeper",
        path: "furiwake_sweep".into(),
        source,
    };
    let program: &Xdp = object
        .program("furiwake_sweep")
        .ok_or(Error::Missing("program furiwake_sweep"))?
        .try_into()
        .map_err(|e: ProgramError| failed(Box::new(e)))?;
    let options = TestRunOptions {
        data_in: Some(&[0; 64]),
        ..TestRunOptions::default()
    };
    let result = program.test_run(options).map_err(|e| failed(Box::new(e)))?;
    // XDP_PASS
    if result.return_value == 2 {
        Ok(())
    } else {
        Err(failed("the kernel gave it no timer".into()))
    }
}
