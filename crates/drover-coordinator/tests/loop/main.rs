//! The loop in one process: played vantages, and everything behind them real.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod deciding;
mod mended;
mod once;
mod operating;
mod remembered;
mod returning;
mod truths;
mod world;
