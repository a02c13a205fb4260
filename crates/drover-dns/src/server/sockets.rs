//! The sockets that DNS is answered on: UDP and TCP at one address and port.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// The default buffer (some 200 KB) drops a burst of a few hundred small queries.
const UDP_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Connections that the kernel holds for us.
const TCP_BACKLOG: i32 = 256;

/// A free UDP port may be taken for TCP: how often another one is tried.
const FREE_PORT_ATTEMPTS: usize = 16;

pub(super) struct Pair {
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
    pub(super) address: SocketAddr,
}

pub(super) fn bind_pair(address: SocketAddr) -> io::Result<Pair> {
    let attempts = if address.port() == 0 { FREE_PORT_ATTEMPTS } else { 1 };
    let mut result = try_bind_pair(address);
    for _ in 1..attempts {
        match &result {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => result = try_bind_pair(address),
            _ => break,
        }
    }
    result
}

fn try_bind_pair(address: SocketAddr) -> io::Result<Pair> {
    let udp = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // No SO_REUSEADDR here: on UDP it would let a second instance take the port, and half of the queries with
    // it.
    prepare(&udp, address)?;
    // As much of it as the system allows; a smaller buffer is no reason not to serve.
    let _ = udp.set_recv_buffer_size(UDP_BUFFER_BYTES);
    let _ = udp.set_send_buffer_size(UDP_BUFFER_BYTES);
    udp.bind(&address.into())?;
    let udp: UdpSocket = udp.into();
    let address = udp.local_addr()?;

    let tcp = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    prepare(&tcp, address)?;
    // A restart must not wait for the old connections' last minutes.
    tcp.set_reuse_address(true)?;
    tcp.bind(&address.into())?;
    tcp.listen(TCP_BACKLOG)?;
    Ok(Pair { udp, tcp: TcpListener::from_std(tcp.into())?, address })
}

fn prepare(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        // [::] and 0.0.0.0 are configured apart, so that a client's address always has its own family.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)
}
