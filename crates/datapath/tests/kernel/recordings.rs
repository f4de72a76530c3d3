//! Recordings of the real IPVS, played again through the kernel object. Recordings and player are the engine's; its
//! `tests/golden/README.md` says what they are and what is compared.

#[path = "../../../engine/tests/recordings/play/mod.rs"]
mod play;

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use furiwake_datapath::NextHop;
use furiwake_engine::{host::Hook, sweep, tables::ticks};
use furiwake_lvs::{
    ipvsadm::{self, Director as _, NoNames},
    model::{Setting, Settings},
    operation::Operation,
};
use play::{Fate, Seen, mac_of};

use crate::{
    director::{self, Director, Incoming},
    life::{pass, wait_until},
    network::{Wire, in_network},
    packet::frame,
};

#[test]
fn the_kernel_object_does_as_recorded_at_xdp() {
    play_all(Hook::Xdp);
}

#[test]
fn the_kernel_object_does_as_recorded_at_tc() {
    play_all(Hook::Tc);
}

fn play_all(hook: Hook) {
    in_network(move || {
        let mut director = Recorded {
            director: Director::new(hook),
            back_mtu: 1500,
            start: Instant::now(),
        };
        let complaints: Vec<String> = play::FILES
            .iter()
            .flat_map(|(file, _)| play::play_all(file, &mut director))
            .collect();
        assert!(
            complaints.is_empty(),
            "{hook:?}, {} complaints\n{}",
            complaints.len(),
            complaints.join("\n")
        );
    });
}

/// The kernel object as the director of the recordings.
struct Recorded {
    director: Director,
    back_mtu: u16,
    /// When the scenario began: time goes by in which the recorded director's stood still.
    start: Instant,
}

impl Recorded {
    /// Say where packets to servers go.
    fn tell_next_hops(&mut self) {
        for server in self.director.datapath.servers() {
            let IpAddr::V4(address) = server else {
                continue;
            };
            let mut hop = director::next_hop(address);
            if let NextHop::Resolved { mtu, .. } = &mut hop {
                *mtu = self.back_mtu;
            }
            self.director.datapath.set_next_hop(server, hop).unwrap();
        }
    }

    /// Seconds until the next connection is over, if one is within `seconds`.
    fn next_end(&self, seconds: u32) -> Option<u32> {
        let memory = self.director.datapath.memory();
        let config = memory.config;
        let now = ticks(self.director.datapath.jiffies().unwrap(), config);
        let per_second = config.ticks_per_second.get();
        let left = memory.connections.iter().flat_map(|bucket| {
            let tags = bucket.tags.get();
            let used = bucket.ways.iter().enumerate();
            let used = used.filter(move |(lane, _)| tags >> (16 * lane) & 0xffff > 1);
            used.map(|(_, way)| way.expires.get().wrapping_sub(now) as i32)
        });
        let next = left.min()?.max(0).cast_unsigned().div_ceil(per_second);
        (next <= seconds).then_some(next)
    }

    fn has_expired(&self) -> bool {
        let memory = self.director.datapath.memory();
        let now = ticks(self.director.datapath.jiffies().unwrap(), memory.config);
        memory.connections.iter().any(|bucket| {
            let tags = bucket.tags.get();
            let mut ways = bucket.ways.iter().enumerate();
            ways.any(|(lane, way)| {
                tags >> (16 * lane) & 0xffff > 1 && sweep::is_over(way.expires.get(), now)
            })
        })
    }
}

impl play::Director for Recorded {
    fn reset(&mut self) {
        self.director.reset(self.director.hook);
        let anew = Operation::SetSettings(Settings::default());
        self.director.apply(&anew).unwrap();
        self.director.command("ipvsadm --set 900 120 300");
        self.back_mtu = 1500;
        self.start = Instant::now();
    }

    fn ipvsadm(&mut self, line: &str) -> (String, u8) {
        let args: Vec<String> = line.split_whitespace().map(String::from).collect();
        let output = ipvsadm::run(&args, &mut std::io::empty(), &NoNames, &mut self.director);
        self.tell_next_hops();
        (output.stdout + &output.stderr, output.code)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let operation = Operation::Set {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let done = self.director.apply(&operation);
        done.map_err(|error| error.to_string())
    }

    fn setting(&mut self, name: &str) -> String {
        let setting = Setting::named(name).unwrap();
        setting.value(&self.director.view().unwrap().settings)
    }

    fn set_mtu(&mut self, wire: play::Wire, mtu: u16) {
        assert_eq!(wire, play::Wire::Back, "only the way to servers changes");
        self.back_mtu = mtu;
        self.tell_next_hops();
    }

    /// From one end of a connection to the next: what ends has a say in what goes on (templates).
    fn pass(&mut self, seconds: u32) {
        let mut left = seconds;
        while left > 0 {
            let step = self.next_end(left).map_or(left, |next| next.max(1));
            pass(&self.director.datapath, step);
            wait_until("the sweeper has been round", || !self.has_expired());
            left -= step;
        }
    }

    fn receive(&mut self, wire: play::Wire, packet: &[u8]) -> Fate {
        let wire = match wire {
            play::Wire::Front => Wire::Front,
            play::Wire::Back => Wire::Back,
        };
        let mut frame = frame(wire.mac(), [2, 4, 0, 0, 0, 9], packet);
        if packet[0] >> 4 == 6 {
            frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        }
        let incoming = Incoming {
            wire,
            frame,
            segment_size: None,
        };
        match self.director.receive(&incoming).fate {
            director::Fate::Passed => Fate::Host(packet.to_vec()),
            director::Fate::Stack(frame) => Fate::Host(frame[14..].to_vec()),
            director::Fate::Dropped => Fate::Dropped,
            director::Fate::Sent(frame) => {
                let to = frame[..6].try_into().unwrap();
                seen(to, frame[6..12].try_into().unwrap(), &frame[14..])
            }
            director::Fate::ToNeighbour(frame) => {
                let to = Ipv4Addr::new(frame[30], frame[31], frame[32], frame[33]);
                match play::Wire::towards(to) {
                    Some(wire) => seen(mac_of(to), wire.mac(), &frame[14..]),
                    None => Fate::Dropped,
                }
            }
        }
    }

    fn slack(&self) -> u32 {
        1 + self.start.elapsed().as_secs() as u32
    }
}

/// A packet that left by the wire whose MAC address it has.
fn seen(to: [u8; 6], from: [u8; 6], packet: &[u8]) -> Fate {
    let wires = [play::Wire::Front, play::Wire::Back];
    let wire = wires.into_iter().find(|wire| wire.mac() == from);
    Fate::Sent(vec![Seen {
        wire: wire.expect("the wire's own MAC address"),
        to,
        packet: packet.to_vec(),
    }])
}
