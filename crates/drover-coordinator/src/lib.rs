//! The coordinator: takes reports in, decides, runs plans, keeps DNS true, and answers people over HTTP.
//!
//! Deciding is done by `drover-core`, running by `drover-exec`; this crate holds the loops that feed them, the hands
//! that do what they say, and the API. `Live` is what is known now, the store is what must not be lost.

pub mod access;
pub mod allocator;
pub mod api;
mod attention;
pub mod audit;
pub mod break_glass;
mod clock;
pub mod config_dir;
mod connections;
pub mod coordinator;
mod datasets;
mod db;
mod decider;
mod dns_command;
mod drift;
mod endpoint;
mod error;
mod fault;
mod ingest;
mod journal;
mod kept_world;
pub mod kinds;
mod leader_record;
mod leading;
mod level;
pub mod listen;
mod live;
mod mirror;
mod observations;
mod operator;
mod out_of_service;
pub mod outbox;
mod partial;
mod probe_list;
pub mod programs;
mod published;
mod reconciler;
mod recorder;
pub mod records;
mod reload;
mod retention;
mod roster;
mod rotation;
mod runs;
mod runs_index;
mod scrape;
mod scraper;
mod short_ttls;
mod sights;
mod source;
mod steps;
mod stopping;
#[cfg(test)]
mod testbed;
mod text;
mod traffic;
pub mod transfer;
mod unreadable;
mod verdicts;
mod views;
mod world;
mod worlds;
mod zone;

pub use clock::Clock;
pub use coordinator::{Coordinator, Options};
pub use error::CoordinatorError;
