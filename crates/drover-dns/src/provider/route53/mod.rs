//! The provider of a hosted zone of Amazon Route 53.
//!
//! The intuition: a change is a list of DELETE and CREATE that happens whole or not at all, and a DELETE holds only where the
//! record set is exactly as it says. So every call of drover's deletes what it has read and creates what shall be, the zone's
//! fence among it: a predecessor's late call fails, and so does one that somebody else's change has overtaken (I3). UPSERT is
//! never used, for it replaces whatever is there.
//!
//! Weighted records stand there for every region, those without weight included. What else drover must know of a set (its
//! version, and whether a hand has changed it since) is part of their set identifiers ([`live`]), so that a failover writes
//! nothing but them and the fence.
//!
//! The hard case is the account's five requests a second: nobody can read a zone of thousands every few seconds. So the zone is
//! kept in memory, the fence tells whether another drover has changed it, and once a minute it is read anew, because a hand's
//! work leaves the fence alone. A write from memory that is out of date fails by its DELETE, and drover reads and decides anew.

mod api;
mod api_checks;
mod apply;
mod checks;
mod live;
mod look;
mod pace;
mod provision;
mod verify;
mod zone;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex as StdMutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use drover_model::api::CheckFound;
use drover_model::config::Route53Dns;
use drover_model::{Epoch, RegionId};
use tokio::sync::Mutex;

use self::api::{Api, CallError};
use self::live::{Follow, Live};
use self::look::{Memory, Stale};
use self::verify::Pending;
use self::zone::Fence;
use super::health_checks::WantedChecks;
use super::{
    Applied, Capabilities, Commands, Coverage, MissingInstance, Observed, ProviderError, RecordSets,
    Verification,
};
use crate::publish::Batch;
use crate::zone::{DnsName, RecordKey, RecordSet, WEIGHT_MAX};

/// What the API is called in messages; its name servers have names of their own.
const CALLED: &str = "route53";

/// Bounds what one batch keeps others waiting: some twenty calls.
const BATCH_CHANGES_MAX: usize = 5_000;
/// A reading that began so long ago is of now to who asks again and again.
const LOOKED_A_MOMENT_AGO: Duration = Duration::from_secs(2);

/// The provider. See the module.
#[derive(Debug)]
pub struct HostedZone {
    zone: DnsName,
    settings: Route53Dns,
    api: Api,
    memory: Mutex<Memory>,
    stale: StdMutex<Stale>,
    /// The newest change, while it may not have reached all servers.
    pending: StdMutex<Option<Pending>>,
    /// When it was asked for last; one at a time.
    polled: Mutex<Option<Instant>>,
    /// Every call replaces the zone's one fence, so that two at once could only get in each other's way.
    updating: Mutex<()>,
    /// The health checks that the zone should have, where it should.
    checks: Option<WantedChecks>,
    /// Which of them records are to follow.
    follow: StdMutex<Follow>,
    /// The name servers that did not answer when answers were drawn, since when and why.
    silent: StdMutex<BTreeMap<String, (Instant, String)>>,
}

impl HostedZone {
    /// A provider for one zone. Nothing is asked before the first use.
    #[must_use]
    pub fn new(zone: DnsName, settings: Route53Dns) -> Self {
        Self::with_checks(zone, settings, None)
    }

    /// The same, with health checks that records follow.
    #[must_use]
    pub fn with_checks(zone: DnsName, settings: Route53Dns, checks: Option<WantedChecks>) -> Self {
        let api = Api::new(settings.clone());
        Self {
            zone,
            settings,
            api,
            memory: Mutex::default(),
            stale: StdMutex::default(),
            pending: StdMutex::default(),
            polled: Mutex::default(),
            updating: Mutex::default(),
            checks,
            follow: StdMutex::new(Follow::AsTheyDo),
            silent: StdMutex::default(),
        }
    }

    /// It will never be accepted as it is.
    fn refused(code: &str, detail: &impl ToString) -> ProviderError {
        ProviderError::Refused { instance: CALLED.into(), code: code.to_owned(), detail: detail.to_string() }
    }

    /// Nothing changed, and it may go better later.
    fn not_now(detail: impl Into<String>) -> ProviderError {
        ProviderError::NotNow { instance: CALLED.into(), detail: detail.into() }
    }

    /// Of a call that only reads.
    fn not_read(error: CallError) -> ProviderError {
        match error {
            CallError::Lost { detail } => {
                let missing = MissingInstance { instance: CALLED.into(), reason: detail };
                ProviderError::Unreachable { missing: vec![missing] }
            }
            CallError::Refused { code, detail } => Self::refused(&code, &detail),
            CallError::NotNow { detail } | CallError::Busy { detail } | CallError::Stale { detail } => {
                Self::not_now(detail)
            }
        }
    }

    /// Of a call that changes.
    fn not_changed(error: CallError) -> ProviderError {
        match error {
            CallError::Lost { detail } | CallError::Busy { detail } => {
                ProviderError::Unclear { instance: CALLED.into(), detail }
            }
            CallError::Refused { code, detail } => Self::refused(&code, &detail),
            CallError::NotNow { detail } | CallError::Stale { detail } => Self::not_now(detail),
        }
    }
}

#[async_trait]
impl RecordSets for HostedZone {
    fn name(&self) -> &str {
        "route53"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            has_weights: true,
            weight_max: WEIGHT_MAX,
            is_batch_atomic: false,
            // It fills its calls itself: the fewer batches, the fewer calls that are not full.
            batch_changes_max: BATCH_CHANGES_MAX,
            shows_generation: true,
            // Each would be a change of a record, for which a failover may have to wait.
            shortens_ttls: false,
        }
    }

    async fn observe(&self, keys: &[RecordKey]) -> Result<Vec<Observed>, ProviderError> {
        let zone = self.look().await?;
        let lagging = self.lagging(&zone).await?;
        // What has no name for its registry is not observed.
        let live = keys.iter().filter_map(|key| Live::of(&zone, key).ok());
        Ok(live.map(|live| Observed::of(live.shown(), live.key, lagging.clone())).collect())
    }

    async fn commands(&self) -> Result<Commands, ProviderError> {
        let epoch = match self.glance().await? {
            Fence::None => None,
            Fence::Held(fence) => Some(fence.epoch),
            Fence::Unreadable => return Err(self.unreadable_fence()?),
        };
        Ok(Commands { known: vec![(CALLED.to_owned(), epoch)], missing: vec![] })
    }

    async fn take_command(&self, from: &[(String, Epoch)], to: Epoch) -> Result<Coverage, ProviderError> {
        self.taken_command(from, to).await
    }

    fn forget(&self, keys: &[RecordKey]) {
        // What was read a moment ago serves whoever only looks.
        let from = Instant::now().checked_sub(LOOKED_A_MOMENT_AGO).unwrap_or_else(Instant::now);
        self.read_from(from, keys);
    }

    async fn apply(&self, batch: &Batch) -> Result<Applied, ProviderError> {
        self.apply_batch(batch).await
    }

    async fn provision(
        &self,
        epoch: Epoch,
        keys: &[RecordKey],
        declared: &BTreeSet<RegionId>,
    ) -> Result<Vec<CheckFound>, ProviderError> {
        self.provisioned(epoch, keys, declared).await
    }

    async fn unanswered(
        &self,
        key: &RecordKey,
        values: &BTreeSet<String>,
        draws: u32,
    ) -> Result<Verification, ProviderError> {
        self.not_drawn(key, values, draws).await
    }

    async fn verify(
        &self,
        key: &RecordKey,
        expected: Option<&RecordSet>,
    ) -> Result<Verification, ProviderError> {
        self.verified(key, expected).await
    }
}
