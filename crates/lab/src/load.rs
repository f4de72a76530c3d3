//! The client's side: requests on new connections, timed; and a ping.

mod transfer;

pub use transfer::{Transfer, Way};

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    os::fd::AsRawFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto,
        setsockopt, socket, sockopt,
    },
    time::{TimeVal, TimeValLike},
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, pki_types::CertificateDer,
};

use crate::{
    error::{Error, Result},
    node::Node,
    precondition::raise_open_files,
};

/// What to ask, and how often.
#[derive(Debug, Clone)]
pub struct Load {
    /// Where.
    pub address: Ipv4Addr,
    /// On which port.
    pub port: u16,
    /// The certificate to trust, for HTTPS; plain HTTP without.
    pub certificate: Option<CertificateDer<'static>>,
    /// How many requests in all.
    pub requests: usize,
    /// How many at once.
    pub concurrency: usize,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Answers, in the order in which they came.
    pub answers: Vec<Answer>,
    /// Requests without an answer, and how often for which reason.
    pub failures: BTreeMap<String, usize>,
    /// From the first request to the last answer.
    pub took: Duration,
}

/// One answered request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// First line of the page: the server's name.
    pub server: String,
    /// From connecting to the last byte.
    pub latency: Duration,
    /// The client's end of the connection.
    pub local: SocketAddr,
    /// The server's end, as the client saw it.
    pub peer: SocketAddr,
}

/// An open connection, plain or not.
struct Conversation {
    stream: Box<dyn Stream>,
    local: SocketAddr,
    peer: SocketAddr,
}

trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// Longest wait for one step of one request.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many unanswered requests in a row are enough to know that nobody is there.
const MOST_SILENCE: usize = 4;

/// Whether a request failed because nothing was heard, for as long as one waits.
fn is_silence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
    )
}

impl Load {
    /// Asks from `node`; tells `progress` the number of requests done after each.
    pub fn run(&self, node: &Node, progress: impl Fn(usize) + Sync) -> Result<Outcome> {
        raise_open_files();
        let tls = self.certificate.clone().map(client_config).transpose()?;
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let outcome = Mutex::new(Outcome::default());
        let started = Instant::now();
        // Requests in a row that nobody answered.
        let silence = AtomicUsize::new(0);
        let ask_until_done = || {
            while next.fetch_add(1, Ordering::Relaxed) < self.requests {
                let result = if silence.load(Ordering::Relaxed) < MOST_SILENCE {
                    self.ask(tls.as_ref())
                } else {
                    Err(io::Error::other(format!(
                        "not tried: {MOST_SILENCE} in a row had no answer"
                    )))
                };
                match &result {
                    Ok(_) => silence.store(0, Ordering::Relaxed),
                    Err(error) if is_silence(error) => {
                        silence.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(_) => {}
                }
                let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
                match result {
                    Ok(answer) => outcome.answers.push(answer),
                    Err(error) => *outcome.failures.entry(error.to_string()).or_default() += 1,
                }
                drop(outcome);
                progress(done.fetch_add(1, Ordering::Relaxed) + 1);
            }
        };
        thread::scope(|scope| {
            let askers: Vec<_> = (0..self.concurrency.max(1))
                .map(|_| scope.spawn(|| node.run(ask_until_done)))
                .collect();
            askers.into_iter().try_for_each(|asker| {
                asker
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })?;
        let mut outcome = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcome.took = started.elapsed();
        Ok(outcome)
    }

    fn ask(&self, tls: Option<&Arc<ClientConfig>>) -> io::Result<Answer> {
        let started = Instant::now();
        let Conversation {
            stream,
            local,
            peer,
        } = self.open(tls)?;
        let page = self.converse(stream)?;
        Ok(Answer {
            server: name_in(&page)?,
            latency: started.elapsed(),
            local,
            peer,
        })
    }

    fn open(&self, tls: Option<&Arc<ClientConfig>>) -> io::Result<Conversation> {
        let stream = TcpStream::connect_timeout(
            &SocketAddrV4::new(self.address, self.port).into(),
            PATIENCE,
        )?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(stream),
            Some(config) => {
                let connection = ClientConnection::new(Arc::clone(config), self.address.into())
                    .map_err(io::Error::other)?;
                Box::new(StreamOwned::new(connection, stream))
            }
        };
        Ok(Conversation {
            stream,
            local,
            peer,
        })
    }

    fn converse(&self, mut stream: impl Read + Write) -> io::Result<Vec<u8>> {
        let question = format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nUser-Agent: furiwake-lab\r\nConnection: close\r\n\r\n",
            self.address
        );
        stream.write_all(question.as_bytes())?;
        stream.flush()?;
        let mut page = Vec::new();
        match stream.take(1 << 20).read_to_end(&mut page) {
            // Many servers close TLS without saying so.
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
            _ => Ok(page),
        }
    }
}

impl Outcome {
    /// The latency that `percent` of the answers did not exceed.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let mut latencies: Vec<Duration> =
            self.answers.iter().map(|answer| answer.latency).collect();
        latencies.sort_unstable();
        let rank = (latencies.len() * percent).div_ceil(100).max(1);
        latencies.get(rank - 1).copied()
    }

    /// How many answers each server gave.
    #[must_use]
    pub fn per_server(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for answer in &self.answers {
            *counts.entry(answer.server.as_str()).or_default() += 1;
        }
        counts
    }

    /// How many requests got no answer.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.failures.values().sum()
    }
}

/// Sends `count` pings from `node`, one after the other's answer, and counts the answers.
pub fn ping(node: &Node, address: Ipv4Addr, count: u16) -> Result<usize> {
    ping_with(node, address, count, b"furiwake lab ping")
}

/// The same with a message of one's own, which may be longer than a packet.
pub fn ping_with(node: &Node, address: Ipv4Addr, count: u16, message: &[u8]) -> Result<usize> {
    let pinged = node.run(|| {
        (1..=count)
            .map(|sequence| ping_once(address, sequence, message))
            .collect::<io::Result<Vec<bool>>>()
    })?;
    let answered = pinged.map_err(|error| Error::System {
        step: format!("ping {address}"),
        source: error,
    })?;
    Ok(answered.into_iter().filter(|answered| *answered).count())
}

fn ping_once(address: Ipv4Addr, sequence: u16, message: &[u8]) -> io::Result<bool> {
    const ECHO_REQUEST: u8 = 8;
    let socket = socket(
        AddressFamily::Inet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::Icmp,
    )?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(2))?;
    let identifier = std::process::id() as u16;
    let mut echo = vec![ECHO_REQUEST, 0, 0, 0];
    echo.extend(identifier.to_be_bytes());
    echo.extend(sequence.to_be_bytes());
    echo.extend(message);
    let sum = internet_checksum(&echo);
    echo[2..4].copy_from_slice(&sum.to_be_bytes());
    sendto(
        socket.as_raw_fd(),
        &echo,
        &SockaddrIn::from(SocketAddrV4::new(address, 0)),
        MsgFlags::empty(),
    )?;
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut packet = vec![0; 1 << 16];
    while Instant::now() < deadline {
        match recv(socket.as_raw_fd(), &mut packet, MsgFlags::empty()) {
            Ok(length) if answers(&packet[..length], address, &echo) => return Ok(true),
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(nix::Error::EAGAIN) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// Whether an IP packet is the echo of what was sent, from where it was sent to, with a right checksum.
fn answers(packet: &[u8], address: Ipv4Addr, echo: &[u8]) -> bool {
    let header = usize::from(packet.first().copied().unwrap_or(0) & 15) * 4;
    let (Some(source), Some(message)) = (packet.get(12..16), packet.get(header..)) else {
        return false;
    };
    source == address.octets()
        && message.first() == Some(&0)
        && message.get(4..) == echo.get(4..)
        && internet_checksum(message) == 0
}

fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The first line of the page, if it is a good one.
fn name_in(page: &[u8]) -> io::Result<String> {
    let bad = |problem: String| io::Error::new(io::ErrorKind::InvalidData, problem);
    let text = String::from_utf8_lossy(page);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or_else(|| bad("the answer ended early".into()))?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(bad(format!("the answer was {status:?}")));
    }
    Ok(body.lines().next().unwrap_or_default().trim().to_owned())
}

fn client_config(certificate: CertificateDer<'static>) -> Result<Arc<ClientConfig>> {
    let refused =
        |error: rustls::Error| Error::Invalid(format!("trust the lab's certificate: {error}"));
    let mut roots = RootCertStore::empty();
    roots.add(certificate).map_err(refused)?;
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(refused)?
            .with_root_certificates(roots)
            .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(latencies: &[u64]) -> Outcome {
        let answer = |millis: &u64| Answer {
            server: "rs1".into(),
            latency: Duration::from_millis(*millis),
            local: ([192, 168, 56, 1], 1).into(),
            peer: ([192, 168, 56, 50], 80).into(),
        };
        Outcome {
            answers: latencies.iter().map(answer).collect(),
            ..Outcome::default()
        }
    }

    #[test]
    fn percentiles_are_latencies_that_were_measured() {
        let hundred: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(
            outcome(&hundred).percentile(50),
            Some(Duration::from_millis(50))
        );
        assert_eq!(
            outcome(&hundred).percentile(99),
            Some(Duration::from_millis(99))
        );
        assert_eq!(outcome(&[7]).percentile(99), Some(Duration::from_millis(7)));
        assert_eq!(outcome(&[]).percentile(50), None);
    }

    #[test]
    fn only_a_whole_good_answer_names_a_server() {
        assert_eq!(
            name_in(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nrs2\nmore").unwrap(),
            "rs2"
        );
        assert!(name_in(b"HTTP/1.1 200 OK\r\n").is_err());
        assert!(name_in(b"HTTP/1.1 503 Busy\r\n\r\nrs2\n").is_err());
        assert!(name_in(b"\xff").is_err());
    }

    #[test]
    fn a_broken_echo_is_no_answer() {
        assert_eq!(
            internet_checksum(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2
        );
        for length in 0..40 {
            assert!(!answers(&vec![0x45; length], Ipv4Addr::LOCALHOST, &[8; 16]));
        }
    }
}
