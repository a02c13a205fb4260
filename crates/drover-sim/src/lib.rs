//! A small world in which nothing is real but drover's decisions and runs.
//!
//! Time, networks, services and DNS are data; opinions, verdicts, guards, plans, the checker and the driver of runs
//! are the very code that production runs. The world advances by steps of at most a second, in an order that never
//! changes, so that a script tells the same story every time.
//!
//! - [`Simulation`] is the world with a leader in it. Its verbs are those of the command line, and those of fate
//!   (`break`, `silence`, `crash`).
//! - `invariants` looks after every event whether something happened that must never happen. It counts by itself, from
//!   what is true in this world, and asks neither the verdicts nor the planner.
//! - [`seeds`] makes worlds and faults from a number, and [`what_if`] plays a user's own world.
//! - [`Script`] is a text file of verbs with what they are expected to print.
//!
//! This crate decides nothing: what it adds to the core is hands, a store, and the order of things.

mod agent;
mod believable;
mod deposed;
mod hands;
mod invariants;
mod judging;
mod leader;
mod planted;
mod publishing;
mod render;
mod rights;
mod runs;
mod script;
pub mod seeds;
mod sim;
mod state;
mod stepping_back;
mod truth;
mod validating;
mod verbs;
pub mod what_if;
mod world;

#[cfg(feature = "planted-bugs")]
pub use planted::Planted;
pub use script::{Script, ScriptError};
pub use sim::Simulation;
pub use world::{Runbooks, WorldError, WorldFiles};
