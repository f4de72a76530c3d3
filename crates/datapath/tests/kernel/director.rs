//! The director under test: the kernel object, commanded by ipvsadm.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use aya::maps::{HashMap, Map, MapData};
use furiwake_datapath::{
    Datapath, HookChoice, NextHop, Options,
    trial::{Answer, Arrival, Stage},
};
use furiwake_engine::{
    host::Hook,
    reason::Reason,
    tables::{FragmentKey, FragmentPorts, LAYOUT},
};
use furiwake_lvs::{
    ipvsadm::{self, DirectorError, NoNames},
    operation::Operation,
    plan::plan,
    view::{ConnectionView, View},
};

use crate::network::{BPFFS, Wire, mac_of, neighbour};

/// A frame on its way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Incoming {
    pub(crate) wire: Wire,
    pub(crate) frame: Vec<u8>,
    /// See [`Arrival::segment_size`].
    pub(crate) segment_size: Option<u16>,
}

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// To the host's stack, or to whoever is next on the hook: as it came.
    Passed,
    /// To the host's stack, rewritten.
    Stack(Vec<u8>),
    Dropped,
    /// Out of an interface, whole.
    Sent(Vec<u8>),
    /// Out of an interface, to a neighbour that the kernel finds: the MAC addresses are still the old ones.
    ToNeighbour(Vec<u8>),
}

const XDP_DROP: i32 = 1;
pub(crate) const XDP_PASS: i32 = 2;
const XDP_TX: i32 = 3;
const XDP_REDIRECT: i32 = 4;
const TC_ACT_UNSPEC: i32 = -1;
const TC_ACT_SHOT: i32 = 2;
const TC_ACT_REDIRECT: i32 = 7;

pub(crate) struct Director {
    pub(crate) datapath: Datapath,
    pub(crate) hook: Hook,
    reasons_before: Vec<u64>,
}

impl Director {
    /// A new one with room for `connections`, attached to every wire.
    pub(crate) fn with_room(hook: Hook, connections: u32) -> Self {
        let options = Options {
            pin_directory: pins(),
            connections,
        };
        let datapath = Datapath::open(&options).unwrap();
        let mut director = Self {
            datapath,
            hook,
            reasons_before: Vec::new(),
        };
        director.attach();
        // The host's own packets, should there be any, are not the test's.
        director.forget_reasons();
        director
    }

    pub(crate) fn new(hook: Hook) -> Self {
        Self::with_room(hook, 1)
    }

    /// Begin anew, at another hook: no services, servers, connections, fragments or counts. What the daemon would
    /// keep until the last connection ended goes at once.
    pub(crate) fn reset(&mut self, hook: Hook) {
        self.command("ipvsadm -C");
        let memory = self.datapath.memory();
        for bucket in memory.connections {
            bucket.tags.set(0);
            bucket.spilled.set(0);
        }
        for counts in memory.counts {
            counts.active.set(0);
            counts.total.set(0);
            counts.persistent.set(0);
            counts.overloaded.set(0);
        }
        memory.servers.iter().for_each(|server| server.flags.set(0));
        memory
            .services
            .iter()
            .for_each(|service| service.flags.set(0));
        self.datapath.read_maps();
        let path = pins().join(format!("layout-{LAYOUT}/maps/FRAGMENT"));
        let map = Map::LruHashMap(MapData::from_pin(path).unwrap());
        let mut fragments: HashMap<_, Key, Ports> = HashMap::try_from(map).unwrap();
        let keys: Vec<_> = fragments.keys().map(Result::unwrap).collect();
        keys.iter().for_each(|key| fragments.remove(key).unwrap());
        if hook != self.hook {
            self.hook = hook;
            self.attach();
        }
        self.forget_reasons();
    }

    /// Attach to every wire, or take over what is attached.
    pub(crate) fn attach(&mut self) {
        let choice = match self.hook {
            Hook::Tc => HookChoice::Tc,
            Hook::Xdp | Hook::XdpVeth => HookChoice::Xdp,
        };
        for wire in Wire::ALL {
            self.datapath
                .attach(wire.name(), wire.ifindex(), choice)
                .unwrap();
        }
    }

    /// Type a command; gives what it prints.
    pub(crate) fn command(&mut self, line: &str) -> String {
        let words: Vec<String> = line.split_whitespace().map(String::from).collect();
        let output = ipvsadm::run(&words, &mut std::io::empty(), &NoNames, self);
        assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{line}");
        self.tell_next_hops();
        output.stdout
    }

    /// Say where packets to servers go, as the daemon does: to known neighbours, and towards 192.168.1.17 to .31
    /// to a neighbour that is not known.
    pub(crate) fn tell_next_hops(&mut self) {
        for server in self.datapath.servers() {
            let IpAddr::V4(address) = server else {
                continue;
            };
            self.datapath
                .set_next_hop(server, next_hop(address))
                .unwrap();
        }
    }

    /// Lead a frame through the hook's stages.
    pub(crate) fn receive(&self, incoming: &Incoming) -> Received {
        let first = match self.hook {
            Hook::Xdp => Some(Stage::Xdp),
            Hook::XdpVeth => Some(Stage::XdpVeth),
            Hook::Tc => None,
        };
        if let Some(stage) = first {
            let Answer { action, frame } = self.try_at(stage, incoming);
            let fate = match action {
                XDP_DROP => Some(Fate::Dropped),
                XDP_TX | XDP_REDIRECT => Some(Fate::Sent(frame)),
                XDP_PASS => {
                    assert_eq!(frame, incoming.frame, "XDP left a packet, but changed it");
                    None
                }
                other => panic!("XDP action {other}"),
            };
            if let Some(fate) = fate {
                return Received { fate, at_xdp: true };
            }
        }
        let Answer { action, frame } = self.try_at(Stage::Tc, incoming);
        let has_old_macs = frame.get(..12) == incoming.frame.get(..12);
        let fate = match action {
            TC_ACT_SHOT => Fate::Dropped,
            TC_ACT_UNSPEC if frame == incoming.frame => Fate::Passed,
            TC_ACT_UNSPEC => Fate::Stack(frame),
            TC_ACT_REDIRECT if has_old_macs => Fate::ToNeighbour(frame),
            TC_ACT_REDIRECT => Fate::Sent(frame),
            other => panic!("tc action {other}"),
        };
        Received {
            fate,
            at_xdp: false,
        }
    }

    /// Give a frame to one program.
    pub(crate) fn try_at(&self, stage: Stage, incoming: &Incoming) -> Answer {
        let arrival = Arrival {
            ifindex: incoming.wire.ifindex(),
            frame: &incoming.frame,
            segment_size: incoming.segment_size,
        };
        self.datapath.try_frame(stage, &arrival).unwrap()
    }

    /// Count from zero.
    pub(crate) fn forget_reasons(&mut self) {
        self.reasons_before = self.counted();
    }

    /// Reasons counted since, by name, without those that were not met.
    pub(crate) fn reasons(&self) -> Vec<(Reason, u64)> {
        let now = self.counted();
        Reason::ALL
            .iter()
            .zip(now.iter().zip(&self.reasons_before))
            .map(|(reason, (now, before))| (*reason, now - before))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    fn counted(&self) -> Vec<u64> {
        let reasons = self.datapath.reasons().unwrap();
        reasons.iter().map(|reason| reason.packets).collect()
    }
}

/// What became of a frame, and whether XDP had the last word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) fate: Fate,
    pub(crate) at_xdp: bool,
}

/// What the map of fragments holds, as plain words.
type Key = [u32; size_of::<FragmentKey>() / 4];
type Ports = [u32; size_of::<FragmentPorts>() / 4];

/// The pins of the calling test's director.
pub(crate) fn pins() -> PathBuf {
    PathBuf::from(BPFFS).join("furiwake")
}

/// Where packets to a server go next: known neighbours for .1 to .16 on the back wire, those of .3 and .4 behind a way of
/// 1400 bytes; none for .40 and beyond; a neighbour that is not known for others.
pub(crate) fn next_hop(server: Ipv4Addr) -> NextHop {
    let last = server.octets()[3];
    let mtu = if matches!(last, 3 | 4) { 1400 } else { 1500 };
    let ifindex = Wire::Back.ifindex();
    match neighbour(server) {
        Some(wire) => NextHop::Resolved {
            ifindex,
            mtu,
            neighbour: mac_of(server),
            source: wire.mac(),
            gateway: server,
            own_address: OWN_ADDRESS,
        },
        None if last >= 40 => NextHop::Unreachable,
        None => NextHop::Unresolved {
            ifindex,
            mtu,
            gateway: server,
            own_address: OWN_ADDRESS,
        },
    }
}

/// The director's address on the back wire.
const OWN_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 254);

impl ipvsadm::Director for Director {
    fn view(&mut self) -> Result<View, DirectorError> {
        Ok(self.datapath.view().unwrap())
    }

    fn connections(&mut self) -> Result<Vec<ConnectionView>, DirectorError> {
        Ok(self.datapath.connections().unwrap())
    }

    fn apply(&mut self, operation: &Operation) -> Result<(), DirectorError> {
        if let Operation::Zero(service) = operation {
            self.datapath.zero(service.as_ref()).unwrap();
            return Ok(());
        }
        let mut desired = self.datapath.table();
        desired.apply(operation)?;
        for change in plan(&self.datapath.table(), &desired) {
            let done = self.datapath.apply(&change);
            done.map_err(|error| DirectorError::Unavailable(error.to_string()))?;
        }
        Ok(())
    }
}
