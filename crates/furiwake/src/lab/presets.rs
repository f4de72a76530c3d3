//! The files that come with the program: which there are, and what one says.

use std::{io::Write, process::ExitCode};

use furiwake_lab::Preset;

/// `lab show`.
#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// Its name, of those in `furiwake lab presets`
    preset: String,
}

/// `lab presets`.
pub(super) fn list() -> ExitCode {
    let lines = Preset::all()
        .iter()
        .map(|preset| format!("{:<10} {}\n", preset.name, preset.about));
    let hint = "\nfuriwake lab run NAME tries one; furiwake lab show NAME > my.toml is a file to start your own from\n";
    say(&lines.chain([hint.to_owned()]).collect::<String>());
    ExitCode::SUCCESS
}

impl Show {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let preset = Preset::named(&self.preset).ok_or_else(|| unknown(&self.preset))?;
        say(preset.text);
        Ok(ExitCode::SUCCESS)
    }
}

/// What to say about a name that is no preset's.
pub(super) fn unknown(name: &str) -> anyhow::Error {
    let names: Vec<&str> = Preset::all().iter().map(|preset| preset.name).collect();
    anyhow::anyhow!(
        "there is no preset {name:?}: choose {}; a file of your own is named with its ending, as {name}.toml",
        names.join(", ")
    )
}

/// Prints; a reader who has seen enough is no error.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
