//! The options of `furiwake run`, and which interfaces they choose.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    str::FromStr,
};

use anyhow::bail;
use furiwake_datapath::HookChoice;

use super::next_hop::Link;

/// What `furiwake run` can be told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) socket: crate::client::Socket,

    /// Folder for the pins of maps and links, below a bpffs; one per network namespace unless given.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) pins: Option<PathBuf>,

    /// Listen on this interface only; can be repeated. Without it: every Ethernet interface.
    #[arg(long = "interface", value_name = "NAME")]
    pub(crate) interfaces: Vec<String>,

    /// Where to take packets: auto, tc, xdp or xdp-generic, for all or as INTERFACE=CHOICE; can be repeated.
    #[arg(long = "hook", value_name = "CHOICE")]
    pub(crate) hooks: Vec<Hook>,

    /// Room in the connection table; used when the table is made, an adopted one keeps its size.
    #[arg(long, value_name = "NUMBER", default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,

    /// How log lines are written to standard error.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// A line of text.
    Text,
    /// A JSON object.
    Json,
}

/// One `--hook`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hook {
    interface: Option<String>,
    choice: HookChoice,
}

impl FromStr for Hook {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (interface, choice) = match text.split_once('=') {
            Some((interface, choice)) => (Some(interface.to_owned()), choice),
            None => (None, text),
        };
        let choice = match choice {
            "auto" => HookChoice::Auto,
            "tc" => HookChoice::Tc,
            "xdp" => HookChoice::Xdp,
            "xdp-generic" => HookChoice::XdpGeneric,
            other => {
                return Err(format!(
                    "\"{other}\" is no hook: say auto, tc, xdp or xdp-generic, for all or as \
                     INTERFACE=CHOICE"
                ));
            }
        };
        Ok(Self { interface, choice })
    }
}

/// Which interfaces are listened on, and how.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    only: BTreeSet<String>,
    all: HookChoice,
    hooks: BTreeMap<String, HookChoice>,
}

impl Selection {
    /// As the options say. Of contradicting ones the last wins.
    pub(crate) fn new(interfaces: &[String], hooks: &[Hook]) -> Self {
        let mut selection = Self {
            only: interfaces.iter().cloned().collect(),
            all: HookChoice::Auto,
            hooks: BTreeMap::new(),
        };
        for hook in hooks {
            match &hook.interface {
                Some(interface) => {
                    selection.hooks.insert(interface.clone(), hook.choice);
                }
                None => selection.all = hook.choice,
            }
        }
        selection
    }

    /// The hook for an interface, if it is one to listen on.
    pub(crate) fn choice(&self, link: &Link) -> Option<HookChoice> {
        // What a port of a bond, bridge or team receives may be what that does not want: from the idle half of a bond,
        // from a port that the spanning tree blocks.
        let is_free = link.port_of.is_none() || self.names(&link.name);
        let chosen = (self.only.is_empty() || self.only.contains(&link.name)) && is_free;
        (link.ethernet && chosen).then(|| self.hooks.get(&link.name).copied().unwrap_or(self.all))
    }

    /// Whether an option names this interface, so that failing to listen on it is an error.
    pub(crate) fn names(&self, interface: &str) -> bool {
        self.only.contains(interface) || self.hooks.contains_key(interface)
    }

    /// Whether every interface is meant.
    pub(crate) fn is_open(&self) -> bool {
        self.only.is_empty()
    }

    /// Every interface that is named must be there and speak Ethernet.
    pub(crate) fn check<'a>(&self, links: impl Iterator<Item = &'a Link>) -> anyhow::Result<()> {
        let links: BTreeMap<_, _> = links
            .map(|link| (link.name.as_str(), link.ethernet))
            .collect();
        for name in self.only.iter().chain(self.hooks.keys()) {
            let ethernet: Vec<_> = links
                .iter()
                .filter(|(_, ethernet)| **ethernet)
                .map(|(name, _)| *name)
                .collect();
            let there = if ethernet.is_empty() {
                "none".to_owned()
            } else {
                ethernet.join(", ")
            };
            match links.get(name.as_str()) {
                Some(true) => {}
                Some(false) => bail!(
                    "{name} is not an Ethernet interface; those in this network namespace: {there}"
                ),
                None => bail!(
                    "there is no interface {name}; Ethernet interfaces in this network namespace: \
                     {there}"
                ),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, ethernet: bool) -> Link {
        Link {
            ifindex: 1,
            name: name.into(),
            ethernet,
            up: true,
            mac: None,
            mtu: 1500,
            port_of: None,
            vlan_of: None,
        }
    }

    fn selection(interfaces: &[&str], hooks: &[&str]) -> Selection {
        let interfaces: Vec<_> = interfaces.iter().map(|name| (*name).to_owned()).collect();
        let hooks: Vec<_> = hooks
            .iter()
            .map(|hook| hook.parse().expect("a hook"))
            .collect();
        Selection::new(&interfaces, &hooks)
    }

    #[test]
    fn every_ethernet_interface_is_chosen_by_default() {
        let selection = selection(&[], &[]);
        assert_eq!(
            selection.choice(&link("eth0", true)),
            Some(HookChoice::Auto)
        );
        assert_eq!(selection.choice(&link("lo", false)), None);
    }

    #[test]
    fn an_interface_may_have_its_own_hook() {
        let selection = selection(&[], &["tc", "eth1=xdp"]);
        assert_eq!(selection.choice(&link("eth0", true)), Some(HookChoice::Tc));
        assert_eq!(selection.choice(&link("eth1", true)), Some(HookChoice::Xdp));
    }

    #[test]
    fn ports_of_bonds_and_bridges_are_left_out_unless_they_are_named() {
        let port = Link {
            port_of: Some(7),
            ..link("eth1", true)
        };
        assert_eq!(selection(&[], &["xdp"]).choice(&port), None);
        assert_eq!(
            selection(&["eth1"], &[]).choice(&port),
            Some(HookChoice::Auto)
        );
        assert_eq!(
            selection(&[], &["eth1=tc"]).choice(&port),
            Some(HookChoice::Tc)
        );
    }

    #[test]
    fn chosen_interfaces_exclude_the_others() {
        let selection = selection(&["eth1"], &["xdp-generic"]);
        assert_eq!(selection.choice(&link("eth0", true)), None);
        assert_eq!(
            selection.choice(&link("eth1", true)),
            Some(HookChoice::XdpGeneric)
        );
    }

    #[test]
    fn an_unknown_interface_is_an_error_that_names_those_that_exist() {
        let links = [link("eth0", true), link("lo", false), link("eth1", true)];
        for selection in [selection(&["eth7"], &[]), selection(&[], &["eth7=tc"])] {
            let error = selection
                .check(links.iter())
                .expect_err("is unknown")
                .to_string();
            assert_eq!(
                error,
                "there is no interface eth7; Ethernet interfaces in this network namespace: \
                 eth0, eth1"
            );
        }
        let error = selection(&["lo"], &[])
            .check(links.iter())
            .expect_err("is refused");
        assert!(
            error
                .to_string()
                .starts_with("lo is not an Ethernet interface"),
            "{error}"
        );
    }

    #[test]
    fn a_hook_that_does_not_exist_is_refused_with_those_that_do() {
        let error = "eth0=fast".parse::<Hook>().expect_err("is no hook");
        assert!(
            error.contains("\"fast\" is no hook: say auto, tc, xdp or xdp-generic"),
            "{error}"
        );
    }
}
