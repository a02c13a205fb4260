//! One vantage point: it probes what the coordinators ask for, checks itself, holds opinions, and reports.
//!
//! An agent knows only its identity and its coordinators. It pulls its probe list, keeps it on disk, and goes on with
//! it for as long as no coordinator answers; what it observes meanwhile waits in a bounded [`buffer`] and is delivered
//! late, as history. It never draws a conclusion that moves traffic: its opinions are inputs for a quorum.
//!
//! The hard case is the agent's own trouble. A lost network, a full descriptor table or a stopped process look like
//! dead endpoints from inside. So a failure on the agent's own side is a kind of its own ([`FailureKind::Local`]), and
//! [`selfcheck`] tells a vantage that sees nothing at all (blind) from one that sees a dead region.
//!
//! [`FailureKind::Local`]: drover_model::probe::FailureKind::Local

pub mod asking;
pub mod buffer;
pub mod client;
pub mod clock;
pub mod declaration;
pub mod error;
pub mod gate;
pub mod identity;
pub mod ledger;
pub mod meter;
pub mod probe;
pub mod report;
pub mod rights;
pub mod roster;
mod run;
pub mod schedule;
pub mod selfcheck;
pub mod state;
pub mod status;
pub mod status_pages;
pub mod target;

pub use error::AgentError;
pub use identity::Identity;
pub use run::{run, run_announced};
pub use status::AgentStatus;
