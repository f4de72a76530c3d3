//! A door from the host into the lab: a loopback listener whose outgoing sockets belong to a node.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use crate::{
    error::{Result, Step},
    node::Node,
};

/// Passes every connection to `listener` on to `target`, as seen from `node`, until the process ends.
pub fn serve(listener: &TcpListener, node: &Node, target: SocketAddr) -> Result<()> {
    loop {
        let (visitor, _) = listener.accept().step(|| "take a connection".into())?;
        let node = node.clone();
        thread::spawn(move || {
            let timeout = Duration::from_secs(5);
            // The visitor sees a closed connection when the lab does not answer.
            if let Ok(Ok(inside)) = node.run(|| TcpStream::connect_timeout(&target, timeout)) {
                let _ = pass(&visitor, &inside);
            }
        });
    }
}

/// Copies both ways until both sides have ended.
fn pass(one: &TcpStream, other: &TcpStream) -> io::Result<()> {
    thread::scope(|scope| {
        let back = scope.spawn(|| copy(other, one));
        let result = copy(one, other);
        back.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        result
    })
}

fn copy(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    let result = io::copy(&mut from, &mut to);
    // Half a connection may end while the other half goes on.
    let _ = to.shutdown(Shutdown::Write);
    if result.is_err() {
        let _ = from.shutdown(Shutdown::Both);
    }
    result.map(drop)
}
