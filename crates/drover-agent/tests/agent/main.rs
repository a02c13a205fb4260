//! The agent against real sockets: endpoints that fail in every way, and coordinators that come and go.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail the test")]

mod agent;
mod asking;
mod coordinator;
mod http;
mod proxy;
mod schedule;
mod sight;
mod status_pages;
mod tls;
mod transport;
mod world;
