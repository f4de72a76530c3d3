//! Trials: frames led through the loaded programs without being sent anywhere (`BPF_PROG_TEST_RUN`).

use aya::programs::{Program, ProgramError, TestRun as _, TestRunOptions, TestRunResult};
use furiwake_engine::{
    connection::Bucket,
    tables::{Config, Counts, Filter, Hop, Port, SchedulerState, Server, Service},
};
use furiwake_lvs::view::Counters;

use crate::{Datapath, Error, attach, services, statistics};

/// The program that a frame is given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// XDP on interfaces whose packets come from a wire.
    Xdp,
    /// XDP on veth.
    XdpVeth,
    /// tc, and the stages behind it.
    Tc,
}

/// A frame that comes in.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Interface, of the calling thread's network namespace.
    pub ifindex: u32,
    /// The frame from its Ethernet header on; the kernel wants those 14 bytes at least.
    pub frame: &'a [u8],
    /// For super-packets at tc: bytes of payload in each of the packets that it will be on a wire.
    pub segment_size: Option<u16>,
}

/// What the program made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `XDP_*` or `TC_ACT_*`.
    pub action: i32,
    /// The frame as it is then.
    pub frame: Vec<u8>,
}

/// The maps as they are in memory.
#[derive(Clone, Copy, Debug)]
pub struct Memory<'a> {
    /// Settings.
    pub config: &'a Config,
    /// Addresses worth a look.
    pub filter: &'a Filter,
    /// The connection table.
    pub connections: &'a [Bucket],
    /// Services.
    pub services: &'a [Service],
    /// What their schedulers remember.
    pub schedulers: &'a [SchedulerState],
    /// Servers.
    pub servers: &'a [Server],
    /// Their connections.
    pub counts: &'a [Counts],
    /// Next hops.
    pub hops: &'a [Hop],
    /// Interfaces by index.
    pub ports: &'a [Port],
}

/// Room for what a program adds to a frame.
const ROOM: usize = 256;

impl Datapath {
    /// Lead a frame through a program. State and counters change as for a real one.
    pub fn try_frame(&self, stage: Stage, arrival: &Arrival<'_>) -> Result<Answer, Error> {
        let name = match stage {
            Stage::Xdp => "furiwake_xdp",
            Stage::XdpVeth => "furiwake_xdp_unfinished",
            Stage::Tc => "furiwake_tc",
        };
        let context = match stage {
            Stage::Tc => buffer_context(arrival),
            Stage::Xdp | Stage::XdpVeth => frame_context(arrival),
        };
        let mut frame = vec![0; arrival.frame.len() + ROOM];
        let result = self.test_run(
            name,
            TestRunOptions {
                data_in: Some(arrival.frame),
                data_out: Some(&mut frame),
                ctx_in: Some(&context),
                ..TestRunOptions::default()
            },
        )?;
        frame.truncate(result.data_size_out as usize);
        Ok(Answer {
            action: result.return_value.cast_signed(),
            frame,
        })
    }

    /// The kernel's clock: jiffies.
    pub fn jiffies(&self) -> Result<u64, Error> {
        let mut out = [0; 64];
        let options = TestRunOptions {
            data_in: Some(&[0; 64]),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        };
        self.test_run("furiwake_clock", options)?;
        Ok(u64::from_ne_bytes(out[..8].try_into().unwrap_or([0; 8])))
    }

    /// Free what removed servers and services hold, as [`maintain`](Datapath::maintain) does in this second, and nothing
    /// else.
    pub fn free_removed(&mut self, second: u32) -> Result<(), Error> {
        services::maintain(&mut self.maps, second)
    }

    /// What a server has counted: connections, packets and bytes in, packets and bytes out.
    pub fn counters(&self, server: usize) -> Result<Counters, Error> {
        statistics::server(&self.maps, server)
    }

    /// Attach to tc as on a kernel before 6.6.
    pub fn attach_filter(&mut self, name: &str, ifindex: u32) -> Result<(), Error> {
        let Some(Program::SchedClassifier(program)) = self.object.program_mut("furiwake_tc") else {
            return Err(Error::Missing("program"));
        };
        attach::attach_filter(program, &self.links, name, ifindex).map_err(|source| Error::Aya {
            what: "attach to tc ingress",
            path: name.into(),
            source,
        })
    }

    /// The maps as they are in memory.
    pub fn memory(&self) -> Memory<'_> {
        let maps = &self.maps;
        Memory {
            config: &maps.config[0],
            filter: &maps.filter[0],
            connections: &maps.connections,
            services: &maps.service,
            schedulers: &maps.scheduler,
            servers: &maps.server,
            counts: &maps.counts,
            hops: &maps.hop,
            ports: &maps.port,
        }
    }

    fn test_run(
        &self,
        name: &'static str,
        options: TestRunOptions<'_>,
    ) -> Result<TestRunResult, Error> {
        let failed = |source: ProgramError| Error::Aya {
            what: "run the program",
            path: name.into(),
            source: Box::new(source),
        };
        match self.object.program(name) {
            Some(Program::Xdp(program)) => program.test_run(options).map_err(failed),
            Some(Program::SchedClassifier(program)) => program.test_run(options).map_err(failed),
            _ => Err(Error::Missing("program")),
        }
    }
}

/// A `struct xdp_md` that says by which interface the frame came in.
fn frame_context(arrival: &Arrival<'_>) -> Vec<u8> {
    let end = u32::try_from(arrival.frame.len()).unwrap_or(u32::MAX);
    // data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
    words(&[0, end, 0, arrival.ifindex, 0, 0])
}

/// A `struct __sk_buff` that says by which interface the frame came in and what it will be cut into.
pub(crate) fn buffer_context(arrival: &Arrival<'_>) -> Vec<u8> {
    const WORDS: usize = 48;
    const IFINDEX: usize = 10;
    const GSO_SEGMENTS: usize = 41;
    const GSO_SIZE: usize = 44;
    let mut context = [0; WORDS];
    context[IFINDEX] = arrival.ifindex;
    if let Some(size) = arrival.segment_size {
        let segments = arrival.frame.len().div_ceil(usize::from(size.max(1)));
        context[GSO_SEGMENTS] = u32::try_from(segments).unwrap_or(u32::MAX);
        context[GSO_SIZE] = size.into();
    }
    words(&context)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}
