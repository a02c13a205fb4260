//! Faults of the machine that drover runs on: its ports, its disk, its clock, its scheduler, its descriptors, and whoever
//! floods its API. Each with the real program as processes of its own.
//!
//! What drover owes in each: no traffic moved for a reason that is not there, nothing lost that was acknowledged, a
//! sentence that names the trouble and the next step, and going on by itself once the trouble is over.

mod clock;
mod damage;
mod descriptors;
mod disk;
mod flood;
mod ports;
pub mod role;
mod stopped;

use std::time::Duration;

/// Once a fault is there, or over, whoever would act for a wrong reason has begun: a failover begins after three probes of
/// a second, and one to settle.
const SEEN_FOR: Duration = Duration::from_secs(5);
