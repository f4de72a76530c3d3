//! Disposable networks of namespaces: for users who want to try a director, for tests, for benchmarks.
//!
//! A [`Lab`] is a set of machines, each a network, host name, mount and pid namespace of its own, with cables
//! between them. It lives as long as the value (or its process) does: drop it, or kill the process, and
//! the kernel removes every process, interface and mount. The host's own network is never touched.
//!
//! ```no_run
//! use furiwake_lab::{Lab, Nat, Options};
//!
//! let lab = Lab::up(&Nat::equal(2).topology()?, &Options::new("/usr/sbin/furiwake"))?;
//! let output = lab.node("client")?.command("curl").arg("http://192.168.56.50/").output()?;
//! assert_eq!(output.stdout, b"rs2\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod capture;
pub mod check;
pub mod load;
pub mod open;
pub mod report;
pub mod server;
pub mod supervisor;
pub mod wire;

mod certificate;
mod error;
mod ethtool;
mod expectation;
mod file;
mod hook;
mod lab;
mod namespace;
mod netlink;
mod node;
mod precondition;
mod preset;
mod process;
mod program;
mod state;
mod topology;
mod watch;
mod wiring;

pub use error::{Error, Result};
pub use file::{Choices, Problem};
pub use hook::Hook;
pub use lab::{Director, Lab, Options, WebServer};
pub use node::Node;
pub use precondition::{raise_open_files, require_root};
pub use preset::Preset;
pub use process::Process;
pub use state::{Attached, forget_mine, list};
pub use topology::{
    Expectation, Interface, Machine, Method, Nat, Network, Persistence, RealServer, Role, Route,
    Scheduler, Service, Share, Topology, Traffic, Tunnel, TunnelKind,
};
