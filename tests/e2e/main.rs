//! End-to-end tests: one binary, a module a story.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "all of this is test code, also the helpers that clippy does not recognise as such"
)]

mod backtest;
mod break_glass;
#[allow(dead_code, reason = "its other half is for the tests of the store itself")]
#[path = "../../crates/drover-store/src/etcd/tests/cluster.rs"]
mod cluster;
mod control_plane;
mod crash;
mod datasets;
mod delegation;
mod distributed;
mod failover;
mod faults;
mod faults_run;
mod gate;
mod holding;
mod killpoints;
mod leadership;
mod leaving;
mod network;
mod operating;
mod output;
mod partial;
mod people;
mod pki;
mod poison;
mod programs;
mod readme;
mod refusals;
mod returning;
mod simulate;
mod tidy;
mod vantage;
mod verbs;
mod versions;
mod wire;
mod world;
