//! Which BPF programs interfaces have, asked of the kernel itself.

use std::io;

use furiwake_lab::Node;

use super::ok;

/// The programs that see packets of a node's interfaces: `eth0 xdp`, `eth0 tcx`, `eth0 clsact`.
pub(crate) fn programs(node: &Node) -> Vec<String> {
    let mut found = Vec::new();
    let links = ok(node, "ip -o link");
    for line in links.lines() {
        let mut fields = line.split(": ");
        let ifindex: u32 = fields.next().unwrap().trim().parse().unwrap();
        let name = fields.next().unwrap().split('@').next().unwrap();
        if ok(node, &format!("ip -d link show dev {name}")).contains("prog/xdp") {
            found.push(format!("{name} xdp"));
        }
        if node.run(|| tcx_programs(ifindex)).unwrap() > 0 {
            found.push(format!("{name} tcx"));
        }
        if ok(node, &format!("tc filter show dev {name} ingress")).contains("bpf") {
            found.push(format!("{name} clsact"));
        }
    }
    found
}

/// Number of programs at an interface's tcx ingress; none on kernels that have no tcx.
fn tcx_programs(ifindex: u32) -> u32 {
    const PROG_QUERY: i64 = 16;
    const TCX_INGRESS: u32 = 46;
    #[repr(C)]
    #[derive(Default)]
    struct Query {
        target: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        ids: u64,
        count: u32,
        padding: u32,
        more: [u64; 4],
    }
    let mut query = Query {
        target: ifindex,
        attach_type: TCX_INGRESS,
        ..Query::default()
    };
    // SAFETY: the kernel reads and writes the structure only, whose size it is told; no ids are asked for.
    let failed = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_QUERY,
            &raw mut query,
            size_of::<Query>(),
        )
    };
    if failed < 0 {
        let error = io::Error::last_os_error();
        assert!(
            matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)),
            "{error}"
        );
        return 0;
    }
    query.count
}
