//! Who may write a dataset (I5), as state machines: no write at a generation after any write at the next.
//!
//! Think of a key to a room with one desk. Whoever has it must have it stamped every second, and lays down the pen
//! when the stamp is old. To give the key to somebody else, first the stamping ends, then the successor signs that the
//! old stamp is worth nothing to it, then everybody waits until the last stamp is old by the slowest clock.
//!
//! - [`Keeper`] runs in every agent, and is holder and peer in one: it renews, asks its peers when nobody answers, vouches
//!   for another holder, seals itself, and says when its database may write ([`MayWrite`]).
//! - [`Gate`] runs beside the database, and stops it when the agent can't. [`Supervisor`] is what its process decides.
//! - [`renew`] and [`change_members`] are what any coordinator decides about the record.
//! - [`Transfer`] is the leader's: close, seal, wait, grant, or abort. It knows nothing but what the record says.
//!
//! All of them take their time as [`BootTime`](drover_model::write_right::BootTime) of their own machine. What must be
//! durable before it counts is an effect whose event comes back: a seal is answered after `Sealed`, a renewal handed
//! out by [`Renewal::committed`]. `model` drives these very machines through every order of messages, crashes and
//! pauses within its bounds.

mod gate;
mod keeper;
#[cfg(test)]
mod model;
mod renewal;
mod rules;
mod supervisor;
#[cfg(test)]
mod tests;
mod transfer;

pub use gate::{Gate, GateLook};
pub use keeper::{Keeper, KeeperEffect, KeeperEvent, MayWrite};
pub use renewal::{MembersFrozen, NotRenewed, Renewal, change_members, renew};
pub use supervisor::{GateStep, StaysStopped, StopReason, Supervisor};
pub use transfer::{
    Intent, NotTransferred, Outcome, Revision, Sighting, Swap, SwapKind, Transfer, TransferEffect,
    TransferEvent,
};
