//! The commands' side of the control socket: a small blocking HTTP client over a Unix socket.

use std::{io, path::PathBuf, time::Duration};

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, StatusCode, body::Bytes, header};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, time::timeout};

use crate::api::problem::Problem;

/// Longer than a director that works takes for anything short.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// And for each kilobyte that it is sent: long lists of operations take longer.
const AND_FOR_EACH_KILOBYTE: Duration = Duration::from_millis(20);

/// Which director to talk to.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Socket {
    /// The director's control socket.
    #[arg(
        long = "socket",
        value_name = "PATH",
        env = "FURIWAKE_SOCKET",
        default_value = Socket::DEFAULT
    )]
    pub(crate) path: PathBuf,
}

impl Socket {
    const DEFAULT: &str = "/run/furiwake/control.sock";

    /// As the environment says, for commands that take no options of ours.
    pub(crate) fn from_environment() -> Self {
        let path = std::env::var_os("FURIWAKE_SOCKET").filter(|path| !path.is_empty());
        Self {
            path: path.unwrap_or_else(|| Self::DEFAULT.into()).into(),
        }
    }
}

/// Why a request had no good end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nobody listens.
    #[error("no director answers on {}: {reason}", socket.display())]
    NoDirector {
        /// The socket that was tried.
        socket: PathBuf,
        /// What the kernel said, in our words.
        reason: String,
        /// Whether the reason is that nobody is there, rather than that we may not.
        absent: bool,
    },
    /// The director said no.
    #[error("{}", .0.detail)]
    Refused(Problem),
    /// It took the question and said nothing.
    #[error("the director does not answer on {}", socket.display())]
    Silent {
        /// The socket that was tried.
        socket: PathBuf,
    },
    /// The conversation broke.
    #[error("the conversation with the director broke: {0:#}")]
    Broken(anyhow::Error),
}

impl Error {
    /// What to do about it, if there is something.
    pub(crate) fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::NoDirector { absent: true, .. } => Some(
                "start one with `furiwake run`, or name its socket by --socket or FURIWAKE_SOCKET",
            ),
            Self::NoDirector { absent: false, .. } => Some("try again as root"),
            Self::Silent { .. } => Some(
                "look at its log; it can be killed and `furiwake run` started again, forwarding goes on",
            ),
            Self::Refused(_) | Self::Broken(_) => None,
        }
    }
}

/// A connection to a director, made anew for each request: commands ask one or two things.
#[derive(Debug)]
pub(crate) struct Client {
    socket: Socket,
}

impl Client {
    /// A client of the director on this socket; nothing is opened yet.
    pub(crate) fn new(socket: Socket) -> Self {
        Self { socket }
    }

    /// GET a document.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.request(Method::GET, path, Bytes::new())
    }

    /// POST a document and read the answer.
    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(|error| Error::Broken(error.into()))?;
        self.request(Method::POST, path, body.into())
    }

    fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, Error> {
        // A director that dies while we speak is an error to report, not a signal to die of.
        let _ignored = IgnoredPipeSignal::new();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|error| Error::Broken(error.into()))?;
        let kilobytes = u32::try_from(body.len() / 1024).unwrap_or(u32::MAX);
        let patience =
            ANSWERED_WITHIN.saturating_add(AND_FOR_EACH_KILOBYTE.saturating_mul(kilobytes));
        let (status, body) = runtime.block_on(self.exchange(method, path, body, patience))?;
        if status.is_success() {
            serde_json::from_slice(&body)
                .context("its answer is not what was expected: is it another version?")
                .map_err(Error::Broken)
        } else {
            Err(Error::Refused(
                serde_json::from_slice(&body).unwrap_or_else(|_| {
                    Problem::new(status.as_u16(), format!("the director answered {status}"))
                }),
            ))
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        answered_within: Duration,
    ) -> Result<(StatusCode, Bytes), Error> {
        let stream = UnixStream::connect(&self.socket.path)
            .await
            .map_err(|error| self.no_director(&error))?;
        let conversation = async {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header(header::HOST, "furiwake")
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(body))?;
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            anyhow::Ok((status, body))
        };
        match timeout(answered_within, conversation).await {
            Ok(answer) => answer.map_err(Error::Broken),
            Err(_) => Err(Error::Silent {
                socket: self.socket.path.clone(),
            }),
        }
    }

    fn no_director(&self, error: &io::Error) -> Error {
        let (absent, reason) = match error.kind() {
            io::ErrorKind::NotFound => (true, "there is no such socket".into()),
            io::ErrorKind::ConnectionRefused => (true, "it has stopped".into()),
            io::ErrorKind::PermissionDenied => (false, "permission denied".into()),
            _ => (true, error.to_string()),
        };
        Error::NoDirector {
            socket: self.socket.path.clone(),
            reason,
            absent,
        }
    }
}

/// Commands die of SIGPIPE when their output is not wanted any more; while we talk to a director they
/// must not.
struct IgnoredPipeSignal {
    before: Option<nix::sys::signal::SigHandler>,
}

impl IgnoredPipeSignal {
    fn new() -> Self {
        use nix::sys::signal::{SigHandler, Signal, signal};
        // SAFETY: ignoring a signal installs no handler code.
        let before = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) }.ok();
        Self { before }
    }
}

impl Drop for IgnoredPipeSignal {
    fn drop(&mut self) {
        use nix::sys::signal::{Signal, signal};
        if let Some(before) = self.before {
            // SAFETY: puts back what was in force before.
            let _ = unsafe { signal(Signal::SIGPIPE, before) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_director_that_takes_the_question_and_says_nothing_is_an_error_with_a_remedy() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("control.sock");
        let _silent = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
        let client = Client::new(Socket { path });
        let moment = Duration::from_millis(20);
        let error = client
            .exchange(Method::GET, "/api/v1/status", Bytes::new(), moment)
            .await
            .expect_err("nobody answers");
        let message = error.to_string();
        assert!(
            message.starts_with("the director does not answer on /"),
            "{message}"
        );
        assert!(error.remedy().is_some());
    }
}
