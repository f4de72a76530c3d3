//! `furiwake decap`: a real server's end of the director's tunnels.
//!
//! The data plane lives as long as this process. Interfaces are followed: those that come later are attached
//! to as well, or again.

mod advice;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Write as _},
    net::IpAddr,
    str::FromStr,
};

use anyhow::{Context as _, bail};
use furiwake_datapath::decap::{self, Count, Decap, Tunnel};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use crate::daemon::{
    environment,
    netlink::{Event, Netlink},
    next_hop::Link,
    options::Selection,
    systemd::ServiceManager,
};

/// News of interfaces that may wait.
const QUEUE: usize = 64;

/// What `furiwake decap` can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Virtual addresses: what is to others stays in its tunnel.
    #[arg(value_name = "VIP", required = true, value_parser = virtual_address)]
    addresses: Vec<IpAddr>,

    /// Listen on this interface only; can be repeated. Without it: every Ethernet interface.
    #[arg(long = "interface", value_name = "NAME")]
    interfaces: Vec<String>,

    /// Take tunnels from this director, or prefix, only; can be repeated. Without it: from anybody.
    #[arg(long = "from", value_name = "ADDRESS[/PREFIX]")]
    senders: Vec<Prefix>,

    /// Take this kind of tunnel only; can be repeated. Without it: all.
    #[arg(long = "kind", value_name = "KIND", value_enum)]
    kinds: Vec<Kind>,

    /// UDP port of GUE, as the director's --tun-port.
    #[arg(long, value_name = "PORT", default_value_t = 6080, value_parser = clap::value_parser!(u16).range(1..))]
    gue_port: u16,
}

/// A kind of tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
enum Kind {
    /// IP in IP, any family in any.
    Ipip,
    /// Generic UDP encapsulation.
    Gue,
    /// Generic routing encapsulation.
    Gre,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Ipip, Self::Gue, Self::Gre];
}

/// An address and how many bits of it count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Prefix(IpAddr, u8);

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| format!("\"{address}\" is not an IP address"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => most,
            Some(length) => length
                .parse()
                .ok()
                .filter(|length| *length <= most)
                .ok_or(format!(
                    "\"{length}\" is not a prefix length: say 0 to {most}"
                ))?,
        };
        Ok(Self(address, length))
    }
}

fn virtual_address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text
        .parse()
        .map_err(|_| "not an IP address; without a prefix, please".to_owned())?;
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        return Err("not an address that a virtual service can have".to_owned());
    }
    Ok(address)
}

/// Decapsulate until told to stop.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    environment::check()?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(decapsulate(options))
}

async fn decapsulate(options: &Options) -> anyhow::Result<()> {
    let (events, mut news) = mpsc::channel(QUEUE);
    // Nobody asks for routes; the task ends when nobody could.
    let (_queries, queries) = mpsc::unbounded_channel();
    let netlink = Netlink::open(events, queries)?;
    let selection = Selection::new(&options.interfaces, &[]);
    let links = netlink.links().await?;
    selection.check(links.iter())?;
    // Before anything is attached, so that nobody ends us without our noticing.
    let mut signals = Signals::listen()?;

    let mut end = End {
        decap: Decap::load(&options.data_plane()).context("cannot load the data plane")?,
        selection,
        attached: BTreeMap::new(),
    };
    for link in &links {
        end.look_at(link)?;
    }
    if end.attached.is_empty() {
        bail!("there is no Ethernet interface in this network namespace to listen on");
    }
    let names: Vec<_> = end.attached.values().map(String::as_str).collect();
    say(&options.summary(&names.join(", ")));
    for line in advice::advice(&options.addresses, &names) {
        warn(&line);
    }
    let manager = ServiceManager::from_environment();
    manager.ready();

    let mut netlink = tokio::spawn(netlink.run());
    loop {
        tokio::select! {
            () = received(&mut signals.end) => break,
            () = received(&mut signals.interrupt) => break,
            () = received(&mut signals.show) => say(&counters(&end.decap.counts()?)),
            Some(event) = news.recv() => end.hear(&event),
            ended = &mut netlink => {
                ended.context("the netlink task failed")??;
                bail!("the kernel's news of interfaces ended");
            }
        }
    }
    manager.stopping();
    say(&counters(&end.decap.counts()?));
    Ok(())
}

impl Options {
    fn kinds(&self) -> Vec<Kind> {
        let mut kinds = self.kinds.clone();
        if kinds.is_empty() {
            kinds.extend(Kind::ALL);
        }
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    fn data_plane(&self) -> decap::Options {
        let tunnel = |kind| match kind {
            Kind::Ipip => Tunnel::Ipip,
            Kind::Gue => Tunnel::Gue,
            Kind::Gre => Tunnel::Gre,
        };
        decap::Options {
            virtuals: self.addresses.clone(),
            senders: self
                .senders
                .iter()
                .map(|prefix| (prefix.0, prefix.1))
                .collect(),
            tunnels: self.kinds().into_iter().map(tunnel).collect(),
            gue_port: self.gue_port,
        }
    }

    /// What is done, in one line.
    fn summary(&self, interfaces: &str) -> String {
        let kinds: Vec<_> = self.kinds().iter().map(|kind| self.name(*kind)).collect();
        let addresses: Vec<_> = self.addresses.iter().map(IpAddr::to_string).collect();
        let mut line = format!(
            "taking packets to {} out of {} on {interfaces}",
            addresses.join(", "),
            kinds.join(", ")
        );
        if !self.senders.is_empty() {
            let senders: Vec<_> = self.senders.iter().map(Prefix::to_string).collect();
            line.push_str(" from ");
            line.push_str(&senders.join(", "));
        }
        line.push_str("; counters: SIGUSR1\n");
        line
    }

    fn name(&self, kind: Kind) -> String {
        match kind {
            Kind::Ipip => "ipip".to_owned(),
            Kind::Gue => format!("gue (port {})", self.gue_port),
            Kind::Gre => "gre".to_owned(),
        }
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whole = if self.0.is_ipv4() { 32 } else { 128 };
        if self.1 == whole {
            return write!(f, "{}", self.0);
        }
        write!(f, "{}/{}", self.0, self.1)
    }
}

/// This end of the tunnels.
struct End {
    decap: Decap,
    selection: Selection,
    /// Interfaces that are attached to, by index.
    attached: BTreeMap<u32, String>,
}

impl End {
    /// An interface came, changed or went.
    fn hear(&mut self, event: &Event) {
        let links = match event {
            Event::Link(link) => std::slice::from_ref(link),
            Event::Snapshot { links, .. } => {
                self.attached
                    .retain(|index, _| links.iter().any(|link| link.ifindex == *index));
                links.as_slice()
            }
            Event::LinkGone(index) => {
                self.attached.remove(index);
                return;
            }
            _ => return,
        };
        for link in links {
            if let Err(error) = self.look_at(link) {
                warn(&format!("{error:#}"));
            }
        }
    }

    /// Attach to an interface, if it is to be and is not.
    fn look_at(&mut self, link: &Link) -> anyhow::Result<()> {
        if self.attached.contains_key(&link.ifindex) || self.selection.choice(link).is_none() {
            return Ok(());
        }
        match self.decap.attach(&link.name) {
            Ok(_) => {
                self.attached.insert(link.ifindex, link.name.clone());
            }
            Err(error) if self.selection.names(&link.name) => return Err(error.into()),
            // One of all that there are, which may be gone again.
            Err(error) => warn(&error.to_string()),
        }
        Ok(())
    }
}

/// The signals that mean something.
struct Signals {
    end: Signal,
    interrupt: Signal,
    show: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            end: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            show: listen(SignalKind::user_defined1())?,
        })
    }
}

async fn received(signal: &mut Signal) {
    signal.recv().await;
}

/// Counters, a line for each that is not zero.
fn counters(counts: &[Count]) -> String {
    let mut text = String::new();
    for count in counts.iter().filter(|count| count.packets > 0) {
        let Count { name, packets, .. } = count;
        // Writing to a string does not fail.
        let _ = match count.bytes {
            0 => writeln!(text, "{name:<18} {packets:>12}  {}", count.meaning),
            bytes => writeln!(text, "{name:<18} {packets:>12}  {bytes} bytes"),
        };
    }
    if text.is_empty() {
        text.push_str("no packets of tunnels\n");
    }
    text
}

/// Print. Whoever read it may be gone: the work goes on.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn warn(text: &str) {
    let _ = writeln!(io::stderr(), "furiwake: warning: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(line: &str) -> Result<Options, String> {
        Line::try_parse_from(line.split_whitespace())
            .map(|line| line.options)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn everything_but_the_addresses_has_a_default() {
        let options = parse("decap 10.0.0.5 2001:db8::5").expect("is fine");
        assert_eq!(
            options.summary("eth0, eth1"),
            "taking packets to 10.0.0.5, 2001:db8::5 out of ipip, gue (port 6080), gre on eth0, eth1; counters: SIGUSR1\n"
        );
        assert!(parse("decap").is_err_and(|e| e.contains("<VIP>")));
    }

    #[test]
    fn what_is_chosen_is_said() {
        let line = "decap --kind gre --kind gue --kind gre --gue-port 7 --from 10.0.0.1 --from 10.1.0.0/16 10.0.0.5";
        let options = parse(line).expect("is fine");
        assert_eq!(
            options.summary("eth0"),
            "taking packets to 10.0.0.5 out of gue (port 7), gre on eth0 from 10.0.0.1, 10.1.0.0/16; counters: SIGUSR1\n"
        );
        let plane = options.data_plane();
        assert_eq!(plane.tunnels, [Tunnel::Gue, Tunnel::Gre]);
        assert_eq!(plane.senders[1], ("10.1.0.0".parse().expect("address"), 16));
    }

    #[test]
    fn words_that_are_no_addresses_are_named() {
        for (line, words) in [
            ("decap 10.0.0.5/32", "without a prefix"),
            ("decap 127.0.0.1", "virtual service"),
            ("decap --from 10.0.0.1/33 10.0.0.5", "say 0 to 32"),
            (
                "decap --from director 10.0.0.5",
                "\"director\" is not an IP address",
            ),
            ("decap --gue-port 0 10.0.0.5", "0"),
            ("decap --kind vxlan 10.0.0.5", "ipip, gue, gre"),
        ] {
            let message = parse(line).expect_err(line);
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn counters_that_are_zero_are_not_shown() {
        assert_eq!(counters(&[]), "no packets of tunnels\n");
        let count = |name, packets, bytes| Count {
            name,
            meaning: "Why.",
            drops: false,
            packets,
            bytes,
        };
        let counts = [
            count("ipip", 2, 120),
            count("gue", 0, 0),
            count("not_local", 1, 0),
        ];
        assert_eq!(
            counters(&counts),
            "ipip                          2  120 bytes\nnot_local                     1  Why.\n"
        );
    }
}
