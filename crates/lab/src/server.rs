//! The built-in web server of a real server: says its own name, keeps an access log.
//!
//! It answers `Connection: close` and carries its icon in the page, because a browser that reuses its
//! connection or asks for an icon makes correct round robin look broken.

mod access_log;
mod request;
mod upload;

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use access_log::AccessLog;
use request::Request;

use crate::{
    error::{Error, Result, Step},
    precondition::raise_open_files,
};

/// What the server is told by its environment.
#[derive(Debug, Clone)]
struct Settings {
    name: String,
    folder: PathBuf,
    tls: Option<Arc<ServerConfig>>,
}

/// Longest silence of a client.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves HTTP on port 80, HTTPS on port 443 and UDP echo on port 7, until killed.
///
/// Reads SERVER_NAME, SERVER_DIR, SERVER_CERT and SERVER_KEY, as every server command of a lab may.
pub fn run() -> Result<()> {
    raise_open_files();
    let settings = Settings::from_environment()?;
    let log = Arc::new(AccessLog::open(&settings.folder.join("access.log"))?);
    let listen = |port: u16| {
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
            .step(|| format!("listen on TCP port {port}"))
    };
    let http = listen(80)?;
    let echo =
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 7)).step(|| "listen on UDP port 7".into())?;
    thread::spawn(move || echo_datagrams(&echo));
    if let Some(tls) = &settings.tls {
        let (listener, settings, log, tls) = (
            listen(443)?,
            settings.clone(),
            Arc::clone(&log),
            Arc::clone(tls),
        );
        thread::spawn(move || {
            accept(&listener, |stream, client| {
                let connection =
                    ServerConnection::new(Arc::clone(&tls)).map_err(io::Error::other)?;
                serve(
                    StreamOwned::new(connection, stream),
                    client,
                    &settings,
                    &log,
                )
            });
        });
    }
    notify_ready();
    accept(&http, |stream, client| {
        serve(stream, client, &settings, &log)
    });
    Ok(())
}

/// Byte number `position` of every download: a pattern in which a lost, doubled or moved piece shows.
#[must_use]
pub fn download_byte(position: u64) -> u8 {
    // Changes with every byte and, by the higher terms, with every block.
    (position ^ (position >> 8) ^ (position >> 16) ^ (position >> 24)) as u8
}

impl Settings {
    fn from_environment() -> Result<Self> {
        let name = match env::var("SERVER_NAME") {
            Ok(name) => name,
            Err(_) => nix::unistd::gethostname()
                .step(|| "read the host name".into())?
                .to_string_lossy()
                .into_owned(),
        };
        let folder = env::var_os("SERVER_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
        let tls = match (env::var_os("SERVER_CERT"), env::var_os("SERVER_KEY")) {
            (Some(certificate), Some(key)) => Some(tls(Path::new(&certificate), Path::new(&key))?),
            _ => None,
        };
        Ok(Self { name, folder, tls })
    }
}

fn tls(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>> {
    let wrong = |path: &Path, error: &dyn std::fmt::Display| {
        Error::Invalid(format!("read {}: {error}", path.display()))
    };
    let chain =
        CertificateDer::from_pem_file(certificate).map_err(|error| wrong(certificate, &error))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_no_client_auth()
                    .with_single_cert(vec![chain], secret)
            })
            .map_err(|error| wrong(certificate, &error))?;
    Ok(Arc::new(config))
}

/// Takes connections for ever, each on a thread of its own.
fn accept(listener: &TcpListener, serve: impl Fn(TcpStream, SocketAddr) -> io::Result<()> + Sync) {
    thread::scope(|scope| {
        loop {
            // Out of descriptors or a client gone already: the next one may fare better.
            let Ok((stream, client)) = listener.accept() else {
                continue;
            };
            let serve = &serve;
            let spawned =
                thread::Builder::new()
                    .stack_size(256 * 1024)
                    .spawn_scoped(scope, move || {
                        let _ = stream.set_read_timeout(Some(PATIENCE));
                        let _ = stream.set_write_timeout(Some(PATIENCE));
                        let _ = stream.set_nodelay(true);
                        // A client that goes away is its own business.
                        let _ = serve(stream, client);
                    });
            drop(spawned);
        }
    });
}

/// Answers one request and closes.
fn serve<S: Read + Write>(
    stream: S,
    client: SocketAddr,
    settings: &Settings,
    log: &AccessLog,
) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let Some(head) = read_head(&mut reader)? else {
        return Ok(());
    };
    let Ok(request) = Request::parse(&head) else {
        let mut stream = reader.into_inner();
        log.write(client.ip(), "-", 400, 0);
        return answer(
            &mut stream,
            "400 Bad Request",
            "text/plain",
            b"not an HTTP request\n",
            true,
        );
    };
    let uploaded = match (
        request.method.as_str(),
        request.path.as_str(),
        request.length,
    ) {
        ("POST", "/bytes", Some(length)) => Some(upload::receive(&mut reader, length)?),
        _ => None,
    };
    let mut stream = reader.into_inner();
    let (status, kind, body) = match request.path.strip_prefix("/bytes/").map(str::parse::<u64>) {
        _ if uploaded == Some(None) => ("200 OK", "text/plain", format!("{}\n", settings.name)),
        _ if uploaded.is_some() => (
            "400 Bad Request",
            "text/plain",
            format!(
                "byte {} is not what was sent\n",
                uploaded.flatten().unwrap_or(0)
            ),
        ),
        _ if request.method != "GET" && request.method != "HEAD" => (
            "405 Method Not Allowed",
            "text/plain",
            "GET or HEAD; POST /bytes\n".into(),
        ),
        Some(Ok(length)) => {
            log.write(client.ip(), &request.line, 200, length);
            return download(&mut stream, length, request.method == "GET");
        }
        Some(Err(_)) => ("404 Not Found", "text/plain", "/bytes/NUMBER\n".into()),
        None if request.wants_html => (
            "200 OK",
            "text/html; charset=utf-8",
            page(&settings.name, client),
        ),
        None => (
            "200 OK",
            "text/plain; charset=utf-8",
            format!("{}\n", settings.name),
        ),
    };
    let code = status
        .get(..3)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    // Before the answer, so that whoever has read it finds the line.
    log.write(client.ip(), &request.line, code, body.len() as u64);
    answer(
        &mut stream,
        status,
        kind,
        body.as_bytes(),
        request.method != "HEAD",
    )
}

/// Everything up to the empty line; nothing when the client said nothing.
fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    const MOST: u64 = 16 * 1024;
    let mut head = Vec::new();
    let mut limited = reader.take(MOST);
    loop {
        let before = head.len();
        limited.read_until(b'\n', &mut head)?;
        let line = head.get(before..).unwrap_or_default();
        if line.is_empty() {
            return Ok((!head.is_empty()).then_some(head));
        }
        if line == b"\r\n" || line == b"\n" {
            return Ok(Some(head));
        }
    }
}

fn answer(
    stream: &mut impl Write,
    status: &str,
    kind: &str,
    body: &[u8],
    with_body: bool,
) -> io::Result<()> {
    let mut reply = head(status, kind, body.len() as u64).into_bytes();
    if with_body {
        reply.extend_from_slice(body);
    }
    stream.write_all(&reply)?;
    stream.flush()
}

fn download(stream: &mut impl Write, length: u64, with_body: bool) -> io::Result<()> {
    stream.write_all(head("200 OK", "application/octet-stream", length).as_bytes())?;
    let mut position = 0;
    while with_body && position < length {
        let end = (position + 64 * 1024).min(length);
        let piece: Vec<u8> = (position..end).map(download_byte).collect();
        stream.write_all(&piece)?;
        position = end;
    }
    stream.flush()
}

fn head(status: &str, kind: &str, length: u64) -> String {
    format!(
        "HTTP/1.1 {status}\r\nServer: furiwake-lab\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
}

fn page(name: &str, client: SocketAddr) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{name}</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <style>body {{ font: 2rem sans-serif; text-align: center; margin-top: 20vh }} h1 {{ font-size: 6rem }}</style>\n\
         <h1>{name}</h1>\n<p>you are {}</p>\n<p>reload: every page is a new connection</p>\n</html>\n",
        client.ip()
    )
}

fn echo_datagrams(socket: &UdpSocket) {
    let mut datagram = vec![0; 65535];
    loop {
        // An error here is an ICMP message about an earlier answer.
        if let Ok((length, from)) = socket.recv_from(&mut datagram) {
            let _ = socket.send_to(&datagram[..length], from);
        }
    }
}

/// sd_notify: tells whoever started us that every port is open.
fn notify_ready() {
    if let Some(path) = env::var_os("NOTIFY_SOCKET")
        && let Ok(socket) = UnixDatagram::unbound()
    {
        let _ = socket.send_to(b"READY=1\n", path);
    }
}

/// The client addresses in a node's access logs, whatever server wrote them: the first word of every line
/// of every file called `*access*log` in the node's folder.
pub(crate) fn logged_clients(node_folder: &Path) -> Vec<String> {
    let mut clients = Vec::new();
    let mut folders = vec![node_folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() && name.contains("access") && name.ends_with("log") => {
                    let text = fs::read(entry.path()).unwrap_or_default();
                    let text = String::from_utf8_lossy(&text);
                    clients.extend(
                        text.lines()
                            .filter_map(|line| line.split_whitespace().next())
                            .map(str::to_owned),
                    );
                }
                _ => {}
            }
        }
    }
    clients
}

#[cfg(test)]
mod tests;
