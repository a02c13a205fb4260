//! An authority and the TLS that follows it, over real connections.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod authority;
mod joining;
mod shop;
mod tls;
