//! redb's many error types, sorted by what the store does about them, and its panics turned into errors.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What went wrong with the file.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The bytes are not what was written.
    Corrupt(String),
    /// Another process has it.
    InUse,
    /// The system refused.
    Io(io::Error),
}

impl Failure {
    /// Sorts any of redb's errors.
    pub fn of(error: impl Into<redb::Error>) -> Self {
        match error.into() {
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            redb::Error::Io(error) => Self::of_io(error),
            other => Self::Corrupt(other.to_string()),
        }
    }

    /// A file that ends too early, or is no database at all, is damaged; all else is the system's answer.
    pub fn of_io(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => Self::Corrupt(error.to_string()),
            _ => Self::Io(error),
        }
    }

    /// Runs `work`; a panic in it is damage. redb trusts what it has verified, but some of what it reads while
    /// opening is covered by no checksum, and a nonsensical number there ends in an assertion.
    pub fn catch<T>(work: impl FnOnce() -> Result<T, Self>) -> Result<T, Self> {
        // Unwind safe: on a panic all that `work` touched is dropped, and the file was not written.
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(result) => result,
            Err(panic) => Err(Self::Corrupt(format!("reading it panicked: {}", message_of(&*panic)))),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Corrupt(detail) => f.write_str(detail),
            Self::InUse => f.write_str("another process has it open"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> &str {
    if let Some(message) = panic.downcast_ref::<&str>() {
        message
    } else if let Some(message) = panic.downcast_ref::<String>() {
        message
    } else {
        "no message"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_damage_with_its_message() {
        let caught = Failure::catch::<()>(|| panic!("page {} makes no sense", 7));
        let Err(Failure::Corrupt(detail)) = caught else { panic!("{caught:?}") };
        assert!(detail.contains("page 7 makes no sense"), "{detail}");
    }
}
