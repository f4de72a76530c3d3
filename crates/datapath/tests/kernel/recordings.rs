//! Recordings of the real IPVS, played again through the kernel object. Recordings and player are the engine's; its
//! `tests/golden/README.md` says what they are and what is compared.

#[path = "../../../engine/tests/recordings/play/mod.rs"]
mod play;

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use furiwake_datapath::NextHop;
use furiwake_engine::{
    connection::{TEMPLATE, Way},
    host::Hook,
    settings::EXPIRE_NODEST_CONN,
    sweep,
    tables::{self, ticks},
};
use furiwake_lvs::{
    ipvsadm::{self, Director as _, NoNames},
    model::{Setting, Settings},
    operation::Operation,
};
use play::{Fate, Seen, mac_of};

use crate::{
    director::{self, Director, Incoming},
    far::Far,
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
            far: [Wire::Front, Wire::Back].map(|wire| Far::of(wire.name()).unwrap()),
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
    /// Where fragments arrive.
    far: [Far; 2],
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

    /// Every entry of the connection table.
    fn entries(&self) -> impl Iterator<Item = &Way> {
        let memory = self.director.datapath.memory();
        memory.connections.iter().flat_map(|bucket| {
            let tags = bucket.tags.get();
            let used = bucket.ways.iter().enumerate();
            let used = used.filter(move |(lane, _)| tags >> (16 * lane) & 0xffff > 1);
            used.map(|(_, way)| way)
        })
    }

    fn now(&self) -> u32 {
        let config = self.director.datapath.memory().config;
        ticks(self.director.datapath.jiffies().unwrap(), config)
    }

    /// Seconds until the next connection is over, if one is within `seconds`.
    fn next_end(&self, seconds: u32) -> Option<u32> {
        let per_second = self
            .director
            .datapath
            .memory()
            .config
            .ticks_per_second
            .get();
        let now = self.now();
        let left = self
            .entries()
            .map(|way| way.expires.get().wrapping_sub(now) as i32);
        let next = left.min()?.max(0).cast_unsigned().div_ceil(per_second);
        (next <= seconds).then_some(next)
    }

    fn has_expired(&self) -> bool {
        let now = self.now();
        self.entries()
            .any(|way| sweep::is_over(way.expires.get(), now))
    }

    fn has_templates(&self) -> bool {
        self.entries().any(|way| way.word.get() & TEMPLATE != 0)
    }

    /// Whether the sweeper has still to take out connections of removed servers.
    fn has_abandoned(&self) -> bool {
        let memory = self.director.datapath.memory();
        let is_abandoned = |way: &Way| {
            let server = memory.servers.get(way.server.get() as usize);
            server.is_some_and(|s| s.flags.get() & tables::Server::AVAILABLE == 0)
        };
        memory.config.settings.get() & EXPIRE_NODEST_CONN != 0 && self.entries().any(is_abandoned)
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
        wait_until("the sweeper has been round", || !self.has_abandoned());
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

    /// From one end of a connection to the next: what ends has a say in what goes on. A template does a second before
    /// its own end, so its last two seconds are real ones.
    fn pass(&mut self, seconds: u32) {
        let mut left = seconds;
        while left > 0 {
            let step = self.next_end(left).map_or(left, |next| next.max(1));
            let real = if self.has_templates() { step.min(2) } else { 0 };
            pass(&self.director.datapath, step - real);
            let start = Instant::now();
            wait_until("the last seconds are over", || {
                start.elapsed().as_secs() >= real.into()
            });
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
        self.far.iter().for_each(|far| drop(far.arrived()));
        let fate = self.director.receive(&incoming).fate;
        let mut sent: Vec<Seen> = self.far.iter().flat_map(Far::arrived).map(seen).collect();
        match fate {
            director::Fate::Passed => return Fate::Host(packet.to_vec()),
            director::Fate::Stack(frame) => return Fate::Host(frame[14..].to_vec()),
            director::Fate::Dropped => {}
            director::Fate::Sent(frame) => sent.push(seen(frame)),
            director::Fate::ToNeighbour(mut frame) => {
                let to = Ipv4Addr::new(frame[30], frame[31], frame[32], frame[33]);
                // Nobody is at an address of no wire.
                if let Some(wire) = play::Wire::towards(to) {
                    frame[..6].copy_from_slice(&mac_of(to));
                    frame[6..12].copy_from_slice(&wire.mac());
                    sent.push(seen(frame));
                }
            }
        }
        if sent.is_empty() {
            Fate::Dropped
        } else {
            Fate::Sent(sent)
        }
    }

    fn slack(&self) -> u32 {
        1 + self.start.elapsed().as_secs() as u32
    }
}

/// A frame that left by the wire whose MAC address it has.
fn seen(frame: Vec<u8>) -> Seen {
    let wires = [play::Wire::Front, play::Wire::Back];
    let wire = wires.into_iter().find(|wire| frame[6..12] == wire.mac());
    Seen {
        wire: wire.expect("the wire's own MAC address"),
        to: frame[..6].try_into().unwrap(),
        packet: frame[14..].to_vec(),
    }
}
