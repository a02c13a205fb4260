//! Running a plan, one durable step at a time.
//!
//! Think of a cautious engineer with a logbook: writes down what comes next, does it, writes down what came of it, and
//! only then turns the page. If the engineer is replaced between any two lines, the successor reads the book and knows
//! exactly what may be half done.
//!
//! - [`Execution`] is that logbook and its reader: a state machine with no clock, no I/O and no randomness. Events go
//!   in, [`Effect`]s come out. Replaying a journal and living through it use the same transition function.
//! - [`Journal`] and [`Effects`] are what programs provide; [`drive()`] connects the three, and is the only place that
//!   waits.
//! - [`Approved`] is the only way into a run: a plan that a person named, or that the policy lets pass.
//!
//! - [`write_right`] is who may write a dataset, at an agent and at the leader.
//! - [`leadership`] is who leads among coordinators that share a store.
//!
//! The hard case is the crash between an effect and its record. A step kind is observable or keyed, so that the new
//! leader takes the run over on the record, and tries the step again as a further attempt; a kind that is neither stops
//! for a person. The barrier that keeps the old leader's effect from landing late is the epoch: on one machine the old
//! process is dead before its successor holds the store's lock, so the barrier is met by starting at all. Where coordinators
//! share a store, [`leadership`] keeps the old one from acting before the new one may.

mod append;
pub mod approved;
mod commands;
pub mod drive;
pub mod error;
mod giving_way;
mod handle;
pub mod journal;
pub mod leadership;
mod pages;
mod policy;
mod progress;
mod replay;
mod shares;
pub mod state;
mod transitions;
mod undo;
pub mod view;
pub mod write_right;

pub use approved::{Approved, Consent, NotApproved};
pub use commands::Command;
pub use drive::{Outcome, Ports, Reply, Request, drive};
pub use error::{IllegalRecord, Refused, StandDown};
pub use handle::{Effect, Event};
pub use journal::{Effects, Journal, JournalError, Order, PageAbout, PageOrder};
pub use progress::{Progress, StepProgress, StepStatus};
pub use state::{Execution, Origin};
