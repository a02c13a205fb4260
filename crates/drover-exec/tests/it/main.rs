//! The execution against a scripted world: every transition, every failure, every crash.

#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests fail by panicking.

mod commands;
mod crash;
mod driver;
mod failures;
mod fixtures;
mod giving_way;
mod harness;
mod planned;
mod ramp;
mod receiver;
mod table;
mod times;
mod world;
