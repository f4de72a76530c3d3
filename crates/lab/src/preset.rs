//! Labs that can be asked for by name: files that come with the program, to run or to start one's own from.

use crate::{error::Result, file::Choices, topology::Topology};

/// A file that comes with the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// What it shows, in one line.
    pub about: &'static str,
    /// The file.
    pub text: &'static str,
}

/// The presets, the simplest first.
const PRESETS: [Preset; 5] = [
    Preset {
        name: "nat",
        about: "the classic exercise: the director rewrites addresses, both ways",
        text: include_str!("../presets/nat.toml"),
    },
    Preset {
        name: "dr",
        about: "direct routing: servers have the VIP, too, and answer the client themselves",
        text: include_str!("../presets/dr.toml"),
    },
    Preset {
        name: "tun-ipip",
        about: "servers behind a router, reached through IP in IP (also called tun)",
        text: include_str!("../presets/tun-ipip.toml"),
    },
    Preset {
        name: "tun-gue",
        about: "the same through UDP (generic UDP encapsulation)",
        text: include_str!("../presets/tun-gue.toml"),
    },
    Preset {
        name: "tun-gre",
        about: "the same through GRE",
        text: include_str!("../presets/tun-gre.toml"),
    },
];

impl Preset {
    /// All of them.
    #[must_use]
    pub fn all() -> &'static [Self] {
        &PRESETS
    }

    /// The one of that name; `tun` is `tun-ipip`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let name = if name == "tun" { "tun-ipip" } else { name };
        PRESETS.iter().find(|preset| preset.name == name).copied()
    }

    /// What it is made of.
    pub fn topology(&self, choices: &Choices) -> Result<Topology> {
        Topology::parse(
            &format!("preset {}", self.name),
            self.name,
            self.text,
            choices,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Method, Role};

    #[test]
    fn every_preset_is_without_a_mistake_and_says_what_it_is() {
        for preset in Preset::all() {
            let topology = preset.topology(&Choices::default()).unwrap();
            assert_eq!(topology.name, preset.name);
            assert_eq!(topology.services.len(), 2, "{}", preset.name);
            let about = format!("about = \"{}\"", preset.about);
            assert!(preset.text.contains(&about), "{}", preset.name);
        }
    }

    #[test]
    fn servers_that_answer_by_themselves_have_the_virtual_address_and_hide_it() {
        for preset in Preset::all() {
            let topology = preset.topology(&Choices::default()).unwrap();
            for server in topology.machines(Role::Server) {
                let returns = topology.services[0].method == Method::Masq;
                assert_eq!(server.lo.is_empty(), returns, "{}", preset.name);
                assert_eq!(server.sysctls.is_empty(), returns, "{}", preset.name);
            }
        }
    }

    #[test]
    fn presets_take_other_weights() {
        for preset in Preset::all() {
            let weights = Some(vec![3, 2, 1]);
            let topology = preset
                .topology(&Choices {
                    weights,
                    scheduler: None,
                })
                .unwrap();
            assert_eq!(
                topology.machines(Role::Server).count(),
                3,
                "{}",
                preset.name
            );
            assert_eq!(topology.services[0].scheduler.name(), "wrr");
        }
    }
}
