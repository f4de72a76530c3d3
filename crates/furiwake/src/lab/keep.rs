//! `furiwake lab up`: a lab that a process of its own keeps in the background.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, ExitCode, Stdio},
};

use anyhow::Context;
use furiwake_lab::{
    Attached, Error, Lab,
    report::{Paint, head, next_steps},
    supervisor::{Request, Response, Supervisor},
};
use serde::{Deserialize, Serialize};

use super::exercise::NetworkOptions;

/// What to keep.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    network: NetworkOptions,
    /// Name of the lab; several may run side by side [default: the network's]
    #[arg(long)]
    name: Option<String>,
    /// Leave the virtual address and the services to be typed by hand
    #[arg(long)]
    by_hand: bool,
    /// The director only routes (for tests of the lab itself)
    #[arg(long, hide = true)]
    no_director: bool,
}

/// The same, for the process that keeps it.
#[derive(Debug, clap::Args)]
pub(super) struct Supervise {
    #[command(flatten)]
    options: Options,
}

/// The one line that the keeper says to whoever started it.
#[derive(Debug, Serialize, Deserialize)]
enum Birth {
    Ready { name: String },
    Failed { problem: String },
    Precondition { problem: String, remedy: String },
}

pub(super) fn up(options: &Options) -> anyhow::Result<ExitCode> {
    furiwake_lab::require_root()?;
    let topology = options.network.topology()?;
    let program = std::env::current_exe().context("find this program's own file")?;
    // Whatever came after `lab up` is what the keeper needs to know, too.
    let words = std::env::args_os().skip_while(|word| word != "up").skip(1);
    let mut keeper = Command::new(program)
        .args(["lab", "supervise"])
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("start the process that keeps the lab")?;
    let mut line = String::new();
    if let Some(output) = keeper.stdout.take() {
        BufReader::new(output)
            .read_line(&mut line)
            .context("wait for the lab")?;
    }
    let name = match serde_json::from_str(&line) {
        Ok(Birth::Ready { name }) => name,
        Ok(Birth::Failed { problem }) => anyhow::bail!(problem),
        Ok(Birth::Precondition { problem, remedy }) => {
            return Err(Error::Precondition { problem, remedy }.into());
        }
        Err(_) => {
            let status = keeper
                .wait()
                .context("wait for the process that keeps the lab")?;
            anyhow::bail!("the process that keeps the lab ended ({status}) without a word");
        }
    };
    let lab = Attached::open(&name)?;
    let Response::Status(status) = lab.ask(&Request::Status)? else {
        anyhow::bail!("the keeper of the lab said something odd")
    };
    let attached: Vec<(String, String)> = status.attached.into_iter().collect();
    let paint = Paint::for_stdout();
    let ready_in = std::time::Duration::from_secs_f64(status.ready_seconds.max(0.0));
    let shown = format!(
        "{}\n{}",
        head(&topology, lab.hook(), &attached, ready_in, paint),
        next_steps(&topology, &name, options.by_hand, paint)
    );
    let _ = std::io::stdout().write_all(shown.as_bytes());
    Ok(ExitCode::SUCCESS)
}

impl Supervise {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        // The lab outlives the terminal it was started from.
        nix::unistd::setsid().context("leave the terminal")?;
        let supervisor = match self.build() {
            Ok(supervisor) => supervisor,
            Err(error) => {
                let birth = match error.downcast::<Error>() {
                    Ok(Error::Precondition { problem, remedy }) => {
                        Birth::Precondition { problem, remedy }
                    }
                    Ok(error) => Birth::Failed {
                        problem: error.to_string(),
                    },
                    Err(error) => Birth::Failed {
                        problem: format!("{error:#}"),
                    },
                };
                tell(&birth)?;
                return Ok(ExitCode::FAILURE);
            }
        };
        tell(&Birth::Ready {
            name: supervisor.lab().name().to_owned(),
        })?;
        supervisor.run()?;
        Ok(ExitCode::SUCCESS)
    }

    fn build(&self) -> anyhow::Result<Supervisor> {
        let Options {
            network,
            name,
            by_hand,
            no_director,
        } = &self.options;
        let mut options = network.lab_options(name.clone(), !by_hand)?;
        options.director = !no_director;
        let lab = Lab::up(&network.topology()?, &options)?;
        Ok(Supervisor::new(lab)?)
    }
}

fn tell(birth: &Birth) -> anyhow::Result<()> {
    let line = serde_json::to_string(birth)? + "\n";
    std::io::stdout()
        .write_all(line.as_bytes())
        .context("tell that the lab is ready")
}
