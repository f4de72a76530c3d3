//! `furiwake lab run`: up, checks, report, down; the exit status is the verdict.

use std::{
    fs::{self, File},
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use furiwake_lab::{
    Choices, Hook, Lab, Preset, Scheduler, Topology, Traffic, WebServer,
    check::{Effort, measure},
    report::{Paint, Report, json, markdown, text},
};
use nix::sys::signal::{SigSet, Signal};

use super::presets;

/// The checks were carried out, and some failed.
const VERDICT_FAIL: u8 = 10;

/// What to run.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    network: NetworkOptions,
    /// Name of the lab
    #[arg(long)]
    name: Option<String>,
    /// Requests to the first service, each on a new connection [default: as the file says, or 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    requests: Option<u32>,
    /// Of these at a time [default: as the file says, or 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    concurrency: Option<u32>,
    /// Print one JSON document instead of the report
    #[arg(long)]
    json: bool,
    /// Write the report as Markdown, too
    #[arg(long, value_name = "FILE.md")]
    report: Option<PathBuf>,
}

/// What the network looks like.
#[derive(Debug, clap::Args)]
pub(super) struct NetworkOptions {
    /// A preset (furiwake lab presets) or a file like one (furiwake lab show PRESET)
    #[arg(default_value = "nat", value_name = "PRESET|FILE.toml")]
    what: String,
    /// How many real servers [default: as the file says]
    #[arg(long, value_name = "N")]
    servers: Option<usize>,
    /// Their weights, as 3,1
    #[arg(long, value_name = "W,W", value_delimiter = ',')]
    weights: Vec<u32>,
    /// How the director chooses [default: as the file says; wrr for rr when --weights differ]
    #[arg(long)]
    scheduler: Option<Scheduler>,
    /// Where the director takes packets: auto, tc, xdp or xdp-generic
    #[arg(long, default_value_t = Hook::Auto)]
    hook: Hook,
    /// Program that is director and ipvsadm [default: this one]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Command for real servers instead of the built-in web server; it listens on port 80 and is told
    /// SERVER_NAME, SERVER_ADDRESS, SERVER_DIR (its own), SERVER_CERT and SERVER_KEY
    #[arg(long, value_name = "CMD")]
    server_cmd: Option<String>,
}

impl NetworkOptions {
    /// The network, in terms of the library.
    pub(super) fn topology(&self) -> anyhow::Result<Topology> {
        let choices = self.choices()?;
        if let Some(preset) = Preset::named(&self.what) {
            return Ok(preset.topology(&choices)?);
        }
        let path = Path::new(&self.what);
        let looks_like_a_file = path.extension().is_some() || path.components().count() > 1;
        if !looks_like_a_file && !path.exists() {
            return Err(presets::unknown(&self.what));
        }
        Ok(Topology::read(path, &choices)?)
    }

    fn choices(&self) -> anyhow::Result<Choices> {
        let weights = match (self.weights.len(), self.servers) {
            (0, servers) => servers.map(|servers| vec![1; servers]),
            (count, Some(servers)) if count != servers => {
                anyhow::bail!(
                    "--servers {servers} with {count} weights: leave --servers out or give each its weight"
                )
            }
            _ => Some(self.weights.clone()),
        };
        Ok(Choices {
            weights,
            scheduler: self.scheduler,
        })
    }

    /// How the library is to build it, with this very program as director.
    pub(super) fn lab_options(
        &self,
        name: Option<String>,
        services: bool,
    ) -> anyhow::Result<furiwake_lab::Options> {
        let program = std::env::current_exe().context("find this program's own file")?;
        let mut options = furiwake_lab::Options::new(program);
        if let Some(program) = &self.program {
            options.program.clone_from(program);
        }
        options.name = name;
        options.hook = self.hook;
        options.services = services;
        if let Some(command) = &self.server_cmd {
            options.server = WebServer::Command(command.clone());
        }
        Ok(options)
    }
}

pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    leave_nothing_on_ctrl_c()?;
    let topology = options.network.topology()?;
    let name = options
        .name
        .clone()
        .unwrap_or_else(|| format!("{}-{}", topology.name, std::process::id()));
    let lab_options = options.network.lab_options(Some(name), true)?;
    // Before anything is built: a verdict that took a minute must not be lost to a misspelled folder.
    let file = options.report.as_deref().map(ReportFile::open);
    let mut file = file.transpose()?;
    let progress = Progress::new();
    progress.tell("building the network");
    let measured = Lab::up(&topology, &lab_options).and_then(|lab| {
        let measured = measure(&lab, options.effort(&topology), &|step: &str| {
            progress.tell(step);
        });
        progress.tell("removing the network");
        drop(lab);
        measured
    });
    progress.clear();
    let report = Report::new(measured?);
    let shown = if options.json {
        json(&report) + "\n"
    } else {
        text(&report, Paint::for_stdout())
    };
    // A reader who has seen enough is no error.
    let _ = std::io::stdout().write_all(shown.as_bytes());
    let written = file.as_mut().map(|file| file.write(&markdown(&report)));
    if let Some(Err(error)) = written {
        // The verdict stands, and is what the exit status says.
        eprintln!("furiwake lab: {error:#}");
    }
    Ok(if report.passed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(VERDICT_FAIL)
    })
}

impl Options {
    /// As hard as was asked for here, or else in the file.
    fn effort(&self, topology: &Topology) -> Effort {
        let traffic = topology.services.first().map(|service| service.traffic);
        let Traffic {
            requests,
            concurrency,
            ..
        } = traffic.unwrap_or_default();
        let given = |number: Option<u32>| number.map(|number| number as usize);
        Effort {
            requests: given(self.requests).or(requests).unwrap_or(100),
            concurrency: given(self.concurrency).or(concurrency).unwrap_or(1),
        }
    }
}

/// The file that takes the report; if it is new, it goes again when there is none.
struct ReportFile<'a> {
    path: &'a Path,
    file: File,
    stays: bool,
}

impl<'a> ReportFile<'a> {
    fn open(path: &'a Path) -> anyhow::Result<Self> {
        let stays = path.exists();
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .with_context(|| format!("open {} for the report (nothing was run)", path.display()))?;
        Ok(Self { path, file, stays })
    }

    fn write(&mut self, text: &str) -> anyhow::Result<()> {
        self.stays = true;
        // A device or a pipe has no length to set.
        let _ = self.file.set_len(0);
        let written = self.file.write_all(text.as_bytes());
        written.with_context(|| format!("write the report to {}", self.path.display()))
    }
}

impl Drop for ReportFile<'_> {
    fn drop(&mut self) {
        if !self.stays {
            let _ = fs::remove_file(self.path);
        }
    }
}

/// One line that is overwritten again and again, on a terminal only.
struct Progress {
    shown: bool,
    /// Before this moment nothing is shown: telling of every request would slow them.
    next: Mutex<Instant>,
}

impl Progress {
    const PAUSE: Duration = Duration::from_millis(50);

    fn new() -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            shown: std::io::stderr().is_terminal() && !dumb,
            next: Mutex::new(Instant::now()),
        }
    }

    fn tell(&self, step: &str) {
        if !self.shown {
            return;
        }
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if Instant::now() >= *next {
            let _ = write!(std::io::stderr(), "\r\x1b[K{step} …");
            *next = Instant::now() + Self::PAUSE;
        }
    }

    fn clear(&self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// The kernel removes the network of a process that dies; its files in /run are ours to remove.
fn leave_nothing_on_ctrl_c() -> anyhow::Result<()> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .collect();
    signals.thread_block().context("take charge of signals")?;
    thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            furiwake_lab::forget_mine();
            std::process::exit(128 + signal as i32);
        }
    });
    Ok(())
}
