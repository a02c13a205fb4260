//! The words that every part of drover shares: identifiers, units, configuration, and the versioned types
//! that are sent or stored. Pure data: nothing here reads a clock, a file or a socket, and nothing decides.
//!
//! Types that are stored (`journal`, `plan`, `decision`, `traffic`) or sent (`probe`, `api`) are promises: an
//! old journal must replay for ever, so fields are added with a default and never change their meaning.

mod acceptance;
pub mod access;
pub mod api;
pub mod approvals;
pub mod audit;
mod beside;
pub mod break_glass;
mod chain;
pub mod config;
pub mod decision;
pub mod ids;
pub mod journal;
pub mod machine;
pub mod out_of_service;
pub mod plan;
pub mod probe;
pub mod reason;
pub mod runbook;
mod shared;
pub mod sight;
mod text;
pub mod time;
pub mod traffic;
pub mod units;
mod weights;
mod world;
pub mod write_right;

pub use beside::beside;
pub use chain::chain;
pub use ids::{
    AgentId, DatasetId, DecisionId, EndpointKey, MachineName, PlanId, RegionId, RunId, ServiceId, TokenName,
};
pub use shared::Shared;
pub use time::{Span, Timestamp};
pub use units::{Epoch, Generation, Percent, RequestsPerSecond, Weight};
pub use weights::Weights;
