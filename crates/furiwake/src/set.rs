//! `furiwake set`: the settings of a director, which have the names of the kernel's sysctls.

use anyhow::{Context as _, bail};
use furiwake_lvs::{model::Setting, operation::Operation};

use crate::{
    api::schema::SettingStatus,
    client::{Client, Socket},
    daemon::operate::Outcome,
    words,
};

/// What `furiwake set` can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The setting; without one all are listed.
    name: Option<String>,

    /// Its new value; without one it is shown.
    #[arg(allow_negative_numbers = true, requires = "name")]
    value: Vec<String>,

    #[command(flatten)]
    socket: Socket,

    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// List, show or change; what to print.
pub(crate) fn run(options: Options) -> anyhow::Result<String> {
    let Options {
        name,
        value,
        socket,
        json,
    } = options;
    let client = Client::new(socket);
    if let Some(name) = &name {
        Setting::named(name)?;
        if !value.is_empty() {
            change(&client, name, &value.join(" "))?;
        }
    }
    let mut settings: Vec<SettingStatus> = client.get("/api/v1/settings")?;
    let Some(name) = name else {
        return if json {
            Ok(serde_json::to_string_pretty(&settings)? + "\n")
        } else {
            Ok(list(&settings))
        };
    };
    settings.retain(|setting| setting.name == name);
    let setting = settings
        .first()
        .with_context(|| format!("the director does not know {name}: is it another version?"))?;
    if json {
        Ok(serde_json::to_string_pretty(setting)? + "\n")
    } else {
        Ok(show(setting))
    }
}

fn change(client: &Client, name: &str, value: &str) -> anyhow::Result<()> {
    let operation = Operation::Set {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let outcomes: Vec<Outcome> = client.post("/api/v1/operations", &[operation])?;
    match outcomes.into_iter().next() {
        Some(Outcome::Done) => Ok(()),
        Some(Outcome::Refused(error)) => Err(error.into()),
        None => bail!("the director's answer is incomplete"),
    }
}

/// Every setting; those that are not at their default stand out.
fn list(settings: &[SettingStatus]) -> String {
    let mut text = String::from("  setting                    value         default\n");
    for setting in settings {
        let mark = if setting.value == setting.default {
            ' '
        } else {
            '*'
        };
        let SettingStatus {
            name,
            value,
            default,
            ..
        } = setting;
        text.push_str(format!("{mark} {name:<26} {value:<13} {default}").trim_end());
        text.push('\n');
        text.push_str(&remarks(setting));
    }
    text
}

/// One setting, in full.
fn show(setting: &SettingStatus) -> String {
    let SettingStatus {
        name,
        value,
        default,
        range,
        ..
    } = setting;
    let mut text = format!("{name} = {value}\n");
    text.push_str(&words::wrapped(
        &format!("takes {range}; by default {default}"),
        4,
    ));
    text.push_str(&remarks(setting));
    text
}

fn remarks(setting: &SettingStatus) -> String {
    let mut text = words::wrapped(&setting.meaning, 4);
    if !setting.in_force {
        text.push_str(&words::wrapped(&setting.effect, 4));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::{fake::FakePlane, rig::Rig};

    fn typed(rig: &Rig, words: &[&str]) -> Result<String, String> {
        let mut value: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let name = (!value.is_empty()).then(|| value.remove(0));
        let options = Options {
            name,
            value,
            socket: Socket {
                path: rig.socket.clone(),
            },
            json: false,
        };
        run(options).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn settings_are_listed_changed_and_shown() {
        let rig = Rig::start(FakePlane::default());
        let all = typed(&rig, &[]).expect("a list");
        assert!(all.lines().all(|line| line.chars().count() <= 80), "{all}");
        assert!(!all.contains('*'), "{all}");
        let start = "  \
  setting                    value         default
  am_droprate                10            10
    With drop_packet 3, one in so many new flows is dropped
";
        assert!(all.starts_with(start), "{all}");

        let changed = typed(&rig, &["sync_threshold", "5", "10"]).expect("it is changed");
        assert_eq!(
            changed,
            "\
sync_threshold = 5 10
    takes two numbers with a blank between them, the first below the second or
    the second 0; by default 3 50
    Packets of a connection after which it is sent, and then every so many
    kept, without effect yet: the wire of the sync daemon comes later
"
        );
        let all = typed(&rig, &[]).expect("a list");
        assert!(
            all.contains("\n* sync_threshold             5 10          3 50\n"),
            "{all}"
        );
        rig.stop();
    }

    #[test]
    fn what_is_refused_says_range_and_default() {
        let rig = Rig::start(FakePlane::default());
        assert_eq!(
            typed(&rig, &["conn_lfactor", "-9"]),
            Err(
                "conn_lfactor cannot be \"-9\": it takes a number from -8 to 8, by default -4"
                    .into()
            )
        );
        assert_eq!(
            typed(&rig, &["nosuch"]),
            Err("there is no setting nosuch: `furiwake set` lists them".into())
        );
        rig.stop();
    }
}
