//! `sendmmsg`: many datagrams, each to its own address, in one call.
//!
//! nix has a safe wrapper, but how many were sent can be learned from it only by reading addresses that it never wrote.
#![allow(unsafe_code)]

use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc::{MSG_DONTWAIT, c_uint, iovec, mmsghdr, sendmmsg};
use nix::sys::socket::{SockaddrLike, SockaddrStorage};

/// A datagram to be sent.
pub(super) struct Datagram {
    pub(super) to: SockaddrStorage,
    pub(super) bytes: Vec<u8>,
}

/// Sends as many as the socket takes now, in their order; says how many.
///
/// # Errors
/// Why the first could not be sent.
pub(super) fn send_many(socket: &UdpSocket, datagrams: &[Datagram]) -> Result<usize, Errno> {
    let part = |datagram: &Datagram| iovec {
        iov_base: datagram.bytes.as_ptr().cast_mut().cast(),
        iov_len: datagram.bytes.len(),
    };
    let mut parts: Vec<iovec> = datagrams.iter().map(part).collect();
    let header = |(datagram, part): (&Datagram, &mut iovec)| {
        // SAFETY: a header is numbers and pointers, for which zero is a value: none.
        let mut header: mmsghdr = unsafe { std::mem::zeroed() };
        header.msg_hdr.msg_name = datagram.to.as_ptr().cast_mut().cast();
        header.msg_hdr.msg_namelen = datagram.to.len();
        header.msg_hdr.msg_iov = part;
        header.msg_hdr.msg_iovlen = 1;
        header
    };
    let mut headers: Vec<mmsghdr> = datagrams.iter().zip(&mut parts).map(header).collect();
    let count = c_uint::try_from(headers.len()).unwrap_or(c_uint::MAX);
    // SAFETY: there are `count` headers. Each points to one part and one address, and the part to bytes; all of them
    // outlive the call, which reads them and writes nothing but each header's `msg_len`.
    let sent = unsafe { sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, MSG_DONTWAIT) };
    Errno::result(sent).map(|sent| usize::try_from(sent).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    #[test]
    fn each_datagram_comes_to_its_own_address_in_order() {
        let listeners: Vec<UdpSocket> =
            ["127.0.0.1:0", "127.0.0.1:0"].iter().map(|at| UdpSocket::bind(at).unwrap()).collect();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let datagrams: Vec<Datagram> = (0..10_u8)
            .map(|n| {
                let to: SocketAddr = listeners[usize::from(n % 2)].local_addr().unwrap();
                Datagram { to: to.into(), bytes: vec![n; usize::from(n) + 1] }
            })
            .collect();
        assert_eq!(send_many(&sender, &datagrams), Ok(10));
        for n in 0..10_u8 {
            let mut buffer = [0; 64];
            let length = listeners[usize::from(n % 2)].recv(&mut buffer).unwrap();
            assert_eq!(buffer[..length], vec![n; usize::from(n) + 1]);
        }
        assert_eq!(send_many(&sender, &[]), Ok(0));
    }
}
