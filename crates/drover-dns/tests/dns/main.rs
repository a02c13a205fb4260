//! The DNS instance as others see it: over real sockets, read by a second, independent DNS library.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on says so by panicking")]

mod break_glass;
mod common;
mod contract;
mod control;
mod converge;
mod fixed;
mod geography;
mod health_checks;
mod hosted;
mod matrix;
mod peers;
mod peers_distrust;
mod persistence;
mod programs;
mod properties;
mod provider;
mod rate;
mod route53;
mod servers;
mod several;
mod subnet;
mod tcp;
mod update;
mod weights;
