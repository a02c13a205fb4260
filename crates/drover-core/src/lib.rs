//! Opinions, verdicts, weights, guards, planner and plan checker: pure decisions

pub mod agenda;
pub mod backtest;
pub mod capacity;
pub mod check;
pub mod damping;
pub mod decide;
pub mod diff;
pub mod failback;
pub mod opinion;
pub mod out_of_service;
pub mod panel;
pub mod plan;
pub mod predicates;
pub mod quorum;
pub mod replay;
pub mod short_ttl;
mod sweep;
pub mod targets;
#[cfg(test)]
mod testworld;
pub mod vantage;
pub mod verdict;
pub mod weights;
pub mod window;

pub use sweep::of_service;

#[cfg(test)]
pub(crate) mod fixture;
