//! Clients of which one says where they ask from: an address, a port, or both.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
};

use furiwake_lab::{Lab, Nat, Node};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};

use super::{PATIENCE, client, director, eventually, ok};

/// Connects to the virtual address from one address and port, which may have just been used.
pub(crate) fn connect_from(lab: &Lab, from: SocketAddrV4, port: u16) -> io::Result<TcpStream> {
    let attempt = || {
        let socket = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        bind(socket.as_raw_fd(), &SockaddrIn::from(from))?;
        let to = SockaddrIn::from(SocketAddrV4::new(Nat::VIP, port));
        connect(socket.as_raw_fd(), &to)?;
        Ok::<_, io::Error>(TcpStream::from(socket))
    };
    let node = client(lab);
    // The last acknowledgement of the connection before may still be on its way.
    let stream = eventually("the port is free", || match node.run(attempt).unwrap() {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable
            ) =>
        {
            None
        }
        result => Some(result),
    })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Asks a page on a connection from one address and port: the name that answered.
pub(crate) fn ask_from(lab: &Lab, from: SocketAddrV4) -> String {
    finish(connect_from(lab, from, 80).unwrap())
}

/// Asks a page on a connection that is open already.
pub(crate) fn finish(mut stream: TcpStream) -> String {
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    answer(stream)
}

/// The name in the answer.
pub(crate) fn answer(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().last().unwrap().to_owned()
}

/// Asks pages with curl, which is told more words: the names that answered.
pub(crate) fn ask_vip(node: &Node, times: u32, words: &str) -> Vec<String> {
    let line = format!(
        "for i in $(seq {times}); do curl -sS --max-time 20 {words} http://192.168.56.50/ || exit 1; done"
    );
    ok(node, &line).lines().map(str::to_owned).collect()
}

/// Gives the client a network of addresses that nobody has, `198.51.100.0/24` for example.
pub(crate) fn give_addresses(lab: &Lab, network: &str) {
    ok(
        &client(lab),
        &format!("ip route add local {network} dev lo"),
    );
    ok(
        &director(lab),
        &format!("ip route add {network} via {}", Nat::CLIENT),
    );
}

/// A socket of the client that sends to a UDP service and does not wait for ever.
pub(crate) fn datagrams_from(lab: &Lab, from: Ipv4Addr, port: u16) -> UdpSocket {
    let open = || {
        let socket = UdpSocket::bind((from, 0))?;
        socket.connect((Nat::VIP, port))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok::<_, io::Error>(socket)
    };
    client(lab).run(open).unwrap().unwrap()
}

/// Sends a datagram and hears it again.
pub(crate) fn echo(socket: &UdpSocket) -> io::Result<()> {
    socket.send(b"echo")?;
    let mut heard = [0; 8];
    let length = socket.recv(&mut heard)?;
    assert_eq!(heard[..length], *b"echo");
    Ok(())
}
