//! Why a figure could not be measured. One that was measured and falls short is no error: it is in the figure.

use std::error::Error;

/// What a figure's measurement gives.
pub type Result<T> = std::result::Result<T, BenchError>;

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Something that was attempted failed.
    #[error("can't {what}")]
    Failed {
        /// What was attempted.
        what: String,
        /// Why not.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A program that the figure needs is not there.
    #[error("{program} is missing; install it: {command}")]
    Missing {
        /// Which.
        program: String,
        /// How it comes to be there.
        command: String,
    },
    /// The product did something else than the figure is about.
    #[error("{0}")]
    Unexpected(String),
}

impl BenchError {
    /// The error and its causes in one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        text
    }
}

/// Says what was attempted.
pub trait Attempt<T> {
    /// The error becomes "can't `what`".
    fn attempt(self, what: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> Attempt<T> for std::result::Result<T, E> {
    fn attempt(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|e| BenchError::Failed { what: what.into(), source: e.into() })
    }
}

/// An error of this text.
pub fn unexpected<T>(text: impl Into<String>) -> Result<T> {
    Err(BenchError::Unexpected(text.into()))
}
