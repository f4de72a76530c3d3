//! From words to a [`Command`], with the checks of ipvsadm in the order of ipvsadm.

use super::{
    Names,
    command::{Command, Failure, ListOptions, try_help, usage_error},
    number::bounded,
    options::{Action, Verb},
    popt::Popt,
};
use crate::{
    model::{Settings, Timeouts},
    operation::Operation,
};

mod draft;
mod finish;

use draft::Draft;

/// 31 days, the most that ipvsadm takes for a timeout.
const MAX_TIMEOUT: i64 = 86400 * 31;
/// Understand one command line; `args[0]` is the name of the program, for messages.
pub fn parse(args: &[String], names: &dyn Names) -> Result<Command, Failure> {
    let (program, words) = match args.split_first() {
        Some((program, words)) => (program.as_str(), words),
        None => ("ipvsadm", args),
    };
    if words.is_empty() {
        return Ok(Command::List(ListOptions::default()));
    }

    let mut popt = Popt::new(words);
    let Ok(Some((Action::Verb(verb), value))) = popt.next_option() else {
        return Err(try_help(program));
    };
    match verb {
        Verb::Help => return Ok(Command::Help),
        Verb::Version => return Ok(Command::Version),
        _ => {}
    }
    let mut draft = Draft::new(names);
    draft.start(verb, value)?;

    loop {
        match popt.next_option() {
            Ok(Some((Action::Verb(_), _))) => {
                return Err(usage_error(format!(
                    "invalid option `{}'",
                    popt.last_word()
                )));
            }
            Ok(Some((action, value))) => draft.take(action, value)?,
            Ok(None) => break,
            Err(fault) => {
                return Err(Failure {
                    text: format!("{}: {}", popt.last_word(), fault.text()),
                    code: 255,
                    stops_restore: false,
                });
            }
        }
    }
    if verb == Verb::Set {
        draft.timeouts = timeouts(&mut popt)?;
    }
    if verb == Verb::Setting {
        draft.setting = setting(value.unwrap_or_default(), &mut popt)?;
    }
    if let Some(word) = popt.next_word() {
        return Err(usage_error(format!("unexpected argument {word}")));
    }
    draft.finish(verb)
}

fn timeouts(popt: &mut Popt<'_>) -> Result<Timeouts, Failure> {
    let (Some(tcp), Some(tcp_fin), Some(udp)) =
        (popt.next_word(), popt.next_word(), popt.next_word())
    else {
        return Err(usage_error("--set option requires 3 timeout values"));
    };
    Ok(Timeouts {
        tcp: timeout(tcp, 0)?,
        tcp_fin: timeout(tcp_fin, 0)?,
        udp: timeout(udp, 0)?,
    })
}

/// `--setting NAME=VALUE`, whose value may go on in the words after it, or `--setting defaults`.
fn setting(first: &str, popt: &mut Popt<'_>) -> Result<Operation, Failure> {
    if first == "defaults" {
        return Ok(Operation::SetSettings(Settings::default()));
    }
    let (name, value) = first
        .split_once('=')
        .ok_or_else(|| usage_error("--setting takes NAME=VALUE, or the word defaults"))?;
    let mut value = value.to_owned();
    while let Some(word) = popt.next_word() {
        value.push(' ');
        value.push_str(word);
    }
    Ok(Operation::Set {
        name: name.to_owned(),
        value,
    })
}

fn timeout(text: &str, least: i64) -> Result<u32, Failure> {
    number(text, least, MAX_TIMEOUT)
        .ok_or_else(|| usage_error(format!("invalid timeout value `{text}' specified")))
}

/// A number within bounds, of the type that the place for it has.
fn number<T: TryFrom<i64>>(text: &str, least: i64, most: i64) -> Option<T> {
    T::try_from(bounded(text, least, most)?).ok()
}
