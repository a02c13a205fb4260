//! Packets dropped by where they come from, as a broken network drops them: the sender gets no answer at all.
//!
//! A program that accepts and stays silent is not the same, since its connections are made; and filtering packets for
//! the whole machine needs rights that a demo should not ask for. A socket may filter its own packets, though: a listener
//! with such a filter never sees the first packet of a connection, so that none is made.

use socket2::{SockFilter, SockRef};
use std::io;
use std::net::Ipv4Addr;
use tokio::net::TcpListener;

/// Sources that one listener may drop: a jump in a filter reaches 255 instructions.
pub const SOURCES_MAX: usize = 200;

/// Where the network header begins, for a filter that sees the transport header first (`SKF_NET_OFF`, -0x100000).
const NETWORK_HEADER: u32 = 0xfff0_0000;
/// The source address in an IPv4 header.
const SOURCE_OFFSET: u32 = 12;

// Classic BPF: load a word at a fixed place, jump if equal, return.
const LOAD_WORD_ABSOLUTE: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// From now on `listener` is deaf to packets from `sources`, and to no others.
///
/// # Errors
/// When the kernel does not take the filter, or there are more than [`SOURCES_MAX`] sources.
pub fn drop_from(listener: &TcpListener, sources: &[Ipv4Addr]) -> io::Result<()> {
    let too_many = || io::Error::other(format!("{} sources, {SOURCES_MAX} allowed", sources.len()));
    let count =
        u8::try_from(sources.len()).ok().filter(|n| usize::from(*n) <= SOURCES_MAX).ok_or_else(too_many)?;
    let mut program = vec![SockFilter::new(LOAD_WORD_ABSOLUTE, 0, 0, NETWORK_HEADER + SOURCE_OFFSET)];
    for (source, index) in sources.iter().zip(0..count) {
        // From instruction i of n there are n - i instructions until the last, which drops.
        program.push(SockFilter::new(JUMP_IF_EQUAL, count - index, 0, u32::from(*source)));
    }
    program.push(SockFilter::new(RETURN, 0, 0, u32::MAX));
    program.push(SockFilter::new(RETURN, 0, 0, 0));
    SockRef::from(listener).attach_filter(&program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::net::{TcpSocket, TcpStream};

    async fn reach(listener: &TcpListener, source: Ipv4Addr) -> bool {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        let connect = socket.connect(listener.local_addr().unwrap());
        let connected: Result<io::Result<TcpStream>, _> =
            tokio::time::timeout(Duration::from_millis(300), connect).await;
        // Dropped is silence; a refusal would be another thing.
        connected.is_ok_and(|c| c.is_ok())
    }

    #[tokio::test]
    async fn only_the_named_sources_are_cut_off_and_they_come_back() {
        let [cut, other, fine] = [2, 3, 4].map(|n| Ipv4Addr::new(127, 98, 0, n));
        let listener = TcpListener::bind((Ipv4Addr::new(127, 98, 0, 1), 0)).await.unwrap();
        drop_from(&listener, &[cut, other]).unwrap();
        assert!(!reach(&listener, cut).await);
        assert!(!reach(&listener, other).await);
        assert!(reach(&listener, fine).await);
        drop_from(&listener, &[]).unwrap();
        assert!(reach(&listener, cut).await);
    }

    #[tokio::test]
    async fn more_sources_than_a_filter_can_hold_are_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sources = vec![Ipv4Addr::LOCALHOST; SOURCES_MAX + 1];
        assert!(drop_from(&listener, &sources).unwrap_err().to_string().contains("201 sources, 200 allowed"));
    }
}
