//! Times to live that are shorter than the record sets say, for a while.
//!
//! Whoever is about to move traffic says so beforehand: what resolvers fetch from then on they keep for less long, and the move is
//! seen sooner. It is no part of the state. It ends by itself unless it is said again, so that nobody who is gone leaves it
//! behind; it is not written down, and raises no generation.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use drover_model::Epoch;
use serde::{Deserialize, Serialize};

use crate::zone::{DnsName, RecordKey, RecordType};

/// The longest that it lasts without being said again.
pub const SHORTENED_SECONDS_MAX: u32 = 60;

/// What an instance is told; it replaces what it was told before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shortened {
    /// Under whose command (I3).
    pub epoch: Epoch,
    /// For how long, unless it is said again; at most [`SHORTENED_SECONDS_MAX`].
    pub for_seconds: u32,
    /// All that are shortened.
    pub times: Vec<ShortTime>,
}

/// One record set's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShortTime {
    /// The owner name.
    pub name: DnsName,
    /// The type.
    pub rtype: RecordType,
    /// What is answered, unless the record set's own is shorter.
    pub ttl_seconds: u32,
}

/// Of each record set that is shortened, in seconds.
pub type ShortTimes = BTreeMap<RecordKey, u32>;

impl Shortened {
    /// By record set.
    #[must_use]
    pub fn by_key(&self) -> ShortTimes {
        let times = self.times.iter();
        times.map(|time| (RecordKey::new(time.name.clone(), time.rtype), time.ttl_seconds)).collect()
    }

    /// When it ends, said `now`.
    #[must_use]
    pub fn until(&self, now: Instant) -> Instant {
        now + Duration::from_secs(self.for_seconds.min(SHORTENED_SECONDS_MAX).into())
    }
}
