//! What must be true of any bytes that reach drover from outside. Each module has one function that takes them and
//! panics when it is not.
//!
//! `tests/run fuzz` lets libFuzzer look for bytes that make it panic; `cargo test` tries the seeds.

#![allow(clippy::expect_used, reason = "test code: a property that does not hold says so by panicking")]

pub mod api;
pub mod config;
pub mod dns;
