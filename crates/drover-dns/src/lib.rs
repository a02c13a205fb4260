//! Drover's DNS: an embedded authoritative server that answers by weight, and the `RecordSets` trait behind
//! which every provider of record sets stands.
//!
//! The path of a change: a [`Batch`](publish::Batch) of compare-and-swap changes reaches an instance through
//! its control listener; the [`Publisher`](publish::Publisher) checks the epoch's fence (I3) and the expected
//! generations, writes the new state to disk, and only then swaps the [`Snapshot`](zone::Snapshot) that the
//! sockets answer from. [`verify`](provider::RecordSets::verify) asks the instance over DNS itself what is
//! live.
//!
//! Two rules hold whatever happens: a published record set is never empty and never all zero (I4), so a value
//! of that kind can't be built ([`ValidRecordSet`](zone::ValidRecordSet)); and an instance that lost its
//! coordinator answers on from its last snapshot, also after a restart (I12).

pub mod answer;
mod background;
pub mod break_glass;
pub mod lock;
pub mod provider;
pub mod publish;
pub mod resolver;
pub mod server;
pub mod sight;
pub mod zone;

pub use drover_model::Epoch;
