//! A real server's end of tunnels: one program of the object, alive as long as the value that loaded it.
//!
//! Nothing is pinned. Links of tcx end with the process however it ends; a filter of kernels before 6.6 is
//! taken off when the value is dropped, and by the next one that attaches there.

use std::net::IpAddr;

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, LpmTrie, Map, MapError, PerCpuArray, lpm_trie::Key},
    programs::{
        ProgramError, SchedClassifier, TcAttachType, TestRun as _, TestRunOptions,
        links::LinkOrder,
        tc::{self, NlOptions, TcAttachOptions},
    },
};
use furiwake_engine::decap::{Address, Event, Settings, mapped};

use crate::{
    Error, attach, load,
    trial::{Answer, Arrival, buffer_context},
};

/// The program.
pub(crate) const PROGRAM: &str = "furiwake_decap";

/// Most virtual addresses, and most prefixes of senders: the sizes of the maps.
const ENTRIES: u32 = 4096;

/// A kind of tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tunnel {
    /// IP in IP, any family in any.
    Ipip,
    /// Generic UDP encapsulation.
    Gue,
    /// Generic routing encapsulation.
    Gre,
}

/// What is decapsulated.
#[derive(Debug, Clone)]
pub struct Options {
    /// Inner destinations.
    pub virtuals: Vec<IpAddr>,
    /// Prefixes that outer sources must be in; empty: any source.
    pub senders: Vec<(IpAddr, u8)>,
    /// Kinds of tunnels.
    pub tunnels: Vec<Tunnel>,
    /// UDP port of GUE.
    pub gue_port: u16,
}

/// How often something happened to packets of tunnels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// Stable name.
    pub name: &'static str,
    /// What it means, a sentence.
    pub meaning: &'static str,
    /// Whether such packets are dropped.
    pub drops: bool,
    /// Packets so far.
    pub packets: u64,
    /// Bytes of inner packets so far, where one was taken out.
    pub bytes: u64,
}

/// The loaded program. Dropping it ends decapsulation.
pub struct Decap {
    object: Ebpf,
    /// Interfaces with a filter, which has no link to end by itself.
    filters: Vec<String>,
}

impl std::fmt::Debug for Decap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decap")
            .field("filters", &self.filters)
            .finish_non_exhaustive()
    }
}

impl Decap {
    /// Load the program. It sees no packets until it is attached.
    pub fn load(options: &Options) -> Result<Self, Error> {
        let mut loader = EbpfLoader::new();
        // The object is the director's as well: its maps are made, too, but with room for nothing.
        for name in load::PINNED {
            loader.map_max_entries(name, 1);
        }
        let mut object = loader.load(load::OBJECT).map_err(|e| Error::Aya {
            what: "load the kernel object",
            path: PROGRAM.into(),
            source: Box::new(e),
        })?;
        let program = object
            .program_mut(PROGRAM)
            .ok_or(Error::Missing("program furiwake_decap"))?;
        load::load_program(PROGRAM, program)?;
        configure(&mut object, options)?;
        Ok(Self {
            object,
            filters: Vec::new(),
        })
    }

    /// Attach to an interface, in front of what is there; gives the name of the mechanism, `tcx` or `clsact`.
    pub fn attach(&mut self, interface: &str) -> Result<&'static str, Error> {
        let failed = |source: ProgramError| Error::Aya {
            what: "attach to tc ingress",
            path: interface.into(),
            source: Box::new(source),
        };
        let program: &mut SchedClassifier = self
            .object
            .program_mut(PROGRAM)
            .ok_or(Error::Missing("program furiwake_decap"))?
            .try_into()
            .map_err(failed)?;
        let first = TcAttachOptions::TcxOrder(LinkOrder::first());
        match program.attach_with_options(interface, TcAttachType::Ingress, first) {
            Ok(_) => return Ok("tcx"),
            Err(error) if attach::is_before_tcx(&error) => {}
            Err(error) => return Err(failed(error)),
        }
        // It may be there. What a process that was killed left is not needed any more.
        let _ = tc::qdisc_add_clsact(interface);
        let _ = tc::qdisc_detach_program(interface, TcAttachType::Ingress, PROGRAM);
        let options = TcAttachOptions::Netlink(NlOptions::default());
        program
            .attach_with_options(interface, TcAttachType::Ingress, options)
            .map_err(failed)?;
        self.filters.push(interface.to_owned());
        Ok("clsact")
    }

    /// What happened so far.
    pub fn counts(&self) -> Result<Vec<Count>, Error> {
        let map: PerCpuArray<_, [u64; 2]> = map(&self.object, "DECAP_EVENT")?;
        let count = |&event: &Event| {
            let values = map.get(&(event as u32), 0).map_err(not_read)?;
            let total = |at: usize| values.iter().map(|value| value[at]).sum();
            Ok(Count {
                name: event.name(),
                meaning: event.meaning(),
                drops: event.drops(),
                packets: total(0),
                bytes: total(1),
            })
        };
        Event::ALL
            .iter()
            .filter(|e| **e != Event::None)
            .map(count)
            .collect()
    }

    /// Lead a frame through the program, for tests.
    #[doc(hidden)]
    pub fn try_frame(&self, arrival: &Arrival<'_>) -> Result<Answer, Error> {
        let failed = |source: ProgramError| Error::Aya {
            what: "run the program",
            path: PROGRAM.into(),
            source: Box::new(source),
        };
        let program: &SchedClassifier = self
            .object
            .program(PROGRAM)
            .ok_or(Error::Missing("program furiwake_decap"))?
            .try_into()
            .map_err(failed)?;
        let mut frame = vec![0; arrival.frame.len() + 64];
        let options = TestRunOptions {
            data_in: Some(arrival.frame),
            data_out: Some(&mut frame),
            ctx_in: Some(&buffer_context(arrival)),
            ..TestRunOptions::default()
        };
        let result = program.test_run(options).map_err(failed)?;
        frame.truncate(result.data_size_out as usize);
        Ok(Answer {
            action: result.return_value.cast_signed(),
            frame,
        })
    }

    /// Entries that each map of the object has room for, for tests.
    #[doc(hidden)]
    pub fn map_sizes(&self) -> Vec<(String, u32)> {
        let size = |(name, map): (&str, &Map)| {
            let (Map::Array(data)
            | Map::HashMap(data)
            | Map::LruHashMap(data)
            | Map::PerCpuArray(data)) = map
            else {
                return None;
            };
            Some((name.to_owned(), data.info().ok()?.max_entries()))
        };
        self.object.maps().filter_map(size).collect()
    }
}

impl Drop for Decap {
    fn drop(&mut self) {
        for interface in &self.filters {
            // The interface may be gone, and the filter with it.
            let _ = tc::qdisc_detach_program(interface, TcAttachType::Ingress, PROGRAM);
        }
    }
}

fn configure(object: &mut Ebpf, options: &Options) -> Result<(), Error> {
    let full = |what, length: usize| match length > ENTRIES as usize {
        true => Err(Error::Full {
            what,
            limit: ENTRIES,
        }),
        false => Ok(()),
    };
    full("virtual address", options.virtuals.len())?;
    full("prefix of senders", options.senders.len())?;

    let mut virtuals: HashMap<_, Address, u32> = map_mut(object, "DECAP_VIRTUAL")?;
    for &address in &options.virtuals {
        virtuals.insert(words(address), 1, 0).map_err(not_written)?;
    }
    let mut senders: LpmTrie<_, Address, u32> = map_mut(object, "DECAP_SENDER")?;
    for &(address, length) in &options.senders {
        let length = u32::from(length) + if address.is_ipv4() { 96 } else { 0 };
        senders
            .insert(&Key::new(length, words(address)), 1, 0)
            .map_err(not_written)?;
    }
    let kinds = options.tunnels.iter().fold(0, |kinds, tunnel| {
        kinds
            | match tunnel {
                Tunnel::Ipip => Settings::IPIP,
                Tunnel::Gue => Settings::GUE,
                Tunnel::Gre => Settings::GRE,
            }
    });
    let settings = RawSettings(Settings {
        kinds,
        gue_port: options.gue_port.to_be().into(),
        restricted: u32::from(!options.senders.is_empty()),
    });
    let mut map: Array<_, RawSettings> = map_mut(object, "DECAP_SETTINGS")?;
    map.set(0, settings, 0).map_err(not_written)
}

/// [`Settings`] for aya.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct RawSettings(Settings);

// SAFETY: plain numbers without padding.
unsafe impl aya::Pod for RawSettings {}

/// An address as it is in the maps.
fn words(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => mapped(u32::from_ne_bytes(address.octets())),
        IpAddr::V6(address) => {
            let octets = address.octets();
            let word = |at: usize| u32::from_ne_bytes(std::array::from_fn(|i| octets[at * 4 + i]));
            std::array::from_fn(word)
        }
    }
}

fn map<'a, M: TryFrom<&'a Map, Error = MapError>>(
    object: &'a Ebpf,
    name: &'static str,
) -> Result<M, Error> {
    let map = object
        .map(name)
        .ok_or(Error::Missing("map of furiwake_decap"))?;
    M::try_from(map).map_err(|e| refused(name, "open map", e))
}

fn map_mut<'a, M: TryFrom<&'a mut Map, Error = MapError>>(
    object: &'a mut Ebpf,
    name: &'static str,
) -> Result<M, Error> {
    let map = object
        .map_mut(name)
        .ok_or(Error::Missing("map of furiwake_decap"))?;
    M::try_from(map).map_err(|e| refused(name, "open map", e))
}

fn not_read(source: MapError) -> Error {
    refused("DECAP_EVENT", "read counters", source)
}

fn not_written(source: MapError) -> Error {
    refused(PROGRAM, "write the settings of", source)
}

fn refused(name: &'static str, what: &'static str, source: MapError) -> Error {
    Error::Aya {
        what,
        path: name.into(),
        source: Box::new(source),
    }
}
