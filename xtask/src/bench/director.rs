//! Directors on a lab's node: ours, and Linux with nftables.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddrV4},
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use furiwake_lab::{Node, Process};
use serde_json::Value;

use super::tool;

pub(crate) use furiwake_lab::Hook;

/// Longest wait for our director to be ready.
const PATIENCE: Duration = Duration::from_secs(20);

/// `furiwake run` on a node; dropping it kills it, and its pins go with the node's mounts.
pub(crate) struct Furiwake {
    node: Node,
    child: Child,
}

impl Furiwake {
    /// Starts it and waits until it listens on every interface by the hook asked for.
    pub(crate) fn start(node: &Node, hook: Hook, connections: u32) -> Result<Self> {
        let path = node.folder().join("bench.notify");
        let ready =
            UnixDatagram::bind(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let log = node.folder().join("furiwake.log");
        let output =
            File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        let child = node
            .command("furiwake")
            .args(["run", "--hook", &hook.to_string()])
            .args(["--connections", &connections.to_string()])
            .env("NOTIFY_SOCKET", &path)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start furiwake run")?;
        let mut furiwake = Self {
            node: node.clone(),
            child,
        };
        furiwake.wait_until_ready(&ready, &log)?;
        let hooks = furiwake.hooks()?;
        ensure!(
            hooks
                .iter()
                .all(|used| used.contains("xdp") == hook.is_xdp()),
            "furiwake was to use {hook} and uses {}",
            hooks.join(", ")
        );
        Ok(furiwake)
    }

    fn wait_until_ready(&mut self, ready: &UnixDatagram, log: &PathBuf) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        // Short turns, so that one that ends before it is ready is noticed.
        ready.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut message = [0; 4096];
        loop {
            if let Ok(length) = ready.recv(&mut message)
                && message[..length]
                    .split(|byte| *byte == b'\n')
                    .any(|line| line == b"READY=1")
            {
                return Ok(());
            }
            if self.child.try_wait()?.is_some() || Instant::now() > deadline {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                bail!("furiwake run did not become ready; it said:\n{said}");
            }
        }
    }

    /// Makes a service (`-t` or `-u`) over these servers, masquerading, round robin.
    pub(crate) fn add_service(
        &self,
        protocol: &str,
        service: SocketAddrV4,
        servers: &[Ipv4Addr],
    ) -> Result<()> {
        let mut rules = format!("-A {protocol} {service} -s rr\n");
        for server in servers {
            rules += &format!("-a {protocol} {service} -r {server} -m\n");
        }
        tool::run(self.node.command("ipvsadm").arg("-R"), &rules).map(|_| ())
    }

    /// Its status, as JSON.
    pub(crate) fn status(&self) -> Result<Value> {
        let json = tool::run(self.node.command("furiwake").args(["status", "--json"]), "")?;
        let mut document: Value = serde_json::from_str(&json).context("read furiwake's status")?;
        Ok(document["status"].take())
    }

    /// How many packets or events it counted for a reason.
    pub(crate) fn counted(&self, is_counted: impl Fn(&Value) -> bool) -> Result<u64> {
        let status = self.status()?;
        let reasons = status["reasons"].as_array().cloned().unwrap_or_default();
        Ok(reasons
            .iter()
            .filter(|reason| is_counted(reason))
            .filter_map(|reason| reason["packets"].as_u64())
            .sum())
    }

    /// The node that it runs on.
    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    fn hooks(&self) -> Result<Vec<String>> {
        let status = self.status()?;
        let interfaces = status["interfaces"].as_array().cloned().unwrap_or_default();
        ensure!(!interfaces.is_empty(), "furiwake listens on no interface");
        Ok(interfaces
            .iter()
            .map(|interface| interface["hook"].as_str().unwrap_or_default().to_owned())
            .collect())
    }
}

impl Drop for Furiwake {
    fn drop(&mut self) {
        // What we started is a go-between; the kernel kills the director with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has Linux translate the destination of each new connection to the next of these servers.
pub(crate) fn add_dnat(
    node: &Node,
    protocol: &str,
    service: SocketAddrV4,
    servers: &[Ipv4Addr],
) -> Result<()> {
    let map: Vec<String> = servers
        .iter()
        .enumerate()
        .map(|(number, server)| format!("{number} : {server}"))
        .collect();
    let rules = format!(
        "table ip bench {{\n chain prerouting {{\n  type nat hook prerouting priority dstnat;\n  \
         ip daddr {} {protocol} dport {} dnat to numgen inc mod {} map {{ {} }}\n }}\n}}\n",
        service.ip(),
        service.port(),
        servers.len(),
        map.join(", ")
    );
    tool::run(node.command("nft").args(["-f", "-"]), &rules).map(|_| ())
}

/// Starts HAProxy as a proxy of TCP connections, round robin over these servers.
pub(crate) fn start_haproxy(
    node: &Node,
    service: SocketAddrV4,
    servers: &[Ipv4Addr],
) -> Result<Process> {
    let mut settings = format!(
        "global\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  \
         timeout server 30s\nlisten service\n  bind {service}\n  balance roundrobin\n"
    );
    for (number, server) in servers.iter().enumerate() {
        settings += &format!("  server rs{number} {server}:{}\n", service.port());
    }
    let file = node.folder().join("haproxy.cfg");
    std::fs::write(&file, settings).with_context(|| format!("cannot write {}", file.display()))?;
    let file = file.display().to_string();
    Ok(node.start_listener("haproxy", &["haproxy", "-db", "-f", &file], service.port())?)
}
