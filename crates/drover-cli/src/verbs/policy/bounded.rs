//! A reader that gives up on a line without an end, before it is in memory.

use std::io::{self, Read};

/// The longest line of a history, in bytes: a row has about a hundred.
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// Reads through, and counts since the last end of a line.
pub struct Bounded<R> {
    inner: R,
    since_line_end: usize,
}

impl<R: Read> Bounded<R> {
    /// At the beginning of a line.
    pub fn new(inner: R) -> Self {
        Self { inner, since_line_end: 0 }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        for piece in buffer[..read].split_inclusive(|b| *b == b'\n') {
            self.since_line_end += piece.len();
            if self.since_line_end > LINE_BYTES_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a line has more than {LINE_BYTES_MAX} bytes: this is no history of probes"),
                ));
            }
            if piece.ends_with(b"\n") {
                self.since_line_end = 0;
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_longest_is_read_and_one_byte_more_is_not() {
        let line = [vec![b'x'; LINE_BYTES_MAX - 1], vec![b'\n']].concat();
        let twice = [line.clone(), line.clone()].concat();
        let mut read = Vec::new();
        assert_eq!(Bounded::new(&twice[..]).read_to_end(&mut read).unwrap(), 2 * LINE_BYTES_MAX);
        let longer = [vec![b'x'], line].concat();
        let e = Bounded::new(&longer[..]).read_to_end(&mut read).unwrap_err();
        assert!(e.to_string().contains("65536 bytes"), "{e}");
    }
}
