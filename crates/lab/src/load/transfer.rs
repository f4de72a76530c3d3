//! One large request, or one large answer, with every byte compared.

use std::{
    io::{self, Read, Write},
    time::{Duration, Instant},
};

use super::{Load, client_config, name_in};
use crate::{error::Result, node::Node, server::download_byte};

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What came of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Which way.
    pub way: Way,
    /// How many bytes.
    pub bytes: u64,
    /// How long it took, or why it failed.
    pub outcome: std::result::Result<Duration, String>,
}

impl Load {
    /// Sends or fetches so many bytes in one request from `node`. The server must be the lab's own.
    pub fn transfer(&self, node: &Node, way: Way, bytes: u64) -> Result<Transfer> {
        let tls = self.certificate.clone().map(client_config).transpose()?;
        let outcome = node.run(|| {
            let started = Instant::now();
            let stream = self.open(tls.as_ref())?.stream;
            match way {
                Way::Up => self.send(stream, bytes)?,
                Way::Down => self.fetch(stream, bytes)?,
            }
            Ok::<_, io::Error>(started.elapsed())
        })?;
        Ok(Transfer {
            way,
            bytes,
            outcome: outcome.map_err(|error| error.to_string()),
        })
    }

    fn send(&self, mut stream: impl Read + Write, bytes: u64) -> io::Result<()> {
        let head = format!(
            "POST /bytes HTTP/1.1\r\nHost: {}\r\nContent-Length: {bytes}\r\nConnection: close\r\n\r\n",
            self.address
        );
        stream.write_all(head.as_bytes())?;
        for start in (0..bytes).step_by(PIECE) {
            stream.write_all(&piece(start, bytes))?;
        }
        stream.flush()?;
        let mut answer = Vec::new();
        match stream.take(1 << 16).read_to_end(&mut answer) {
            // Many servers close TLS without saying so.
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
            _ => {}
        }
        name_in(&answer).map(drop)
    }

    fn fetch(&self, mut stream: impl Read + Write, bytes: u64) -> io::Result<()> {
        let question = format!(
            "GET /bytes/{bytes} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.address
        );
        stream.write_all(question.as_bytes())?;
        stream.flush()?;
        let mut answer = Vec::new();
        match stream.take(bytes + (1 << 16)).read_to_end(&mut answer) {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
            _ => {}
        }
        // Its head and a little more; the rest is no text.
        name_in(answer.get(..4096).unwrap_or(&answer))?;
        let wrong = |problem: String| io::Error::new(io::ErrorKind::InvalidData, problem);
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let body = end
            .and_then(|end| answer.get(end + 4..))
            .unwrap_or_default();
        if body.len() as u64 != bytes {
            return Err(wrong(format!("{} of {bytes} bytes came", body.len())));
        }
        match (0..)
            .zip(body)
            .find(|(position, byte)| **byte != download_byte(*position))
        {
            Some((position, _)) => Err(wrong(format!("byte {position} is not what was sent"))),
            None => Ok(()),
        }
    }
}

const PIECE: usize = 64 * 1024;

/// The bytes of a transfer from `start`, one piece at most.
fn piece(start: u64, bytes: u64) -> Vec<u8> {
    let end = (start + PIECE as u64).min(bytes);
    (start..end).map(download_byte).collect()
}
