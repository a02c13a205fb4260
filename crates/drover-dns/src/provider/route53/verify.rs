//! Asks the name servers what they answer: the proof that a change is live.
//!
//! A weighted set shows one value at a time, so answers alone can't tell two versions apart. The API shows which version is in
//! the zone; the fence at a name server shows that it has that zone; and answers are drawn to see that no value without weight is
//! among them.

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use drover_model::config::ZoneServer;
use futures::future::join_all;

use super::live::Live;
use super::zone::Fence;
use super::{CALLED, HostedZone};
use crate::provider::drawn::{OneOf, none_of};
use crate::provider::finding::{Finding, invalid, sum_up};
use crate::provider::marks::ZoneFence;
use crate::provider::{InstanceMismatch, Mismatch, ProviderError, Verification};
use crate::zone::{DnsName, RecordKey, RecordSet, ValidRecordSet};

/// From one answer whether a change has reached all servers to the next question: so they can't come closer together on their way.
const ASK_AFTER: Duration = Duration::from_secs(1);
/// A name server that did not answer is left in peace for so long, where answers are drawn of all.
const SILENT_FOR: Duration = Duration::from_secs(3);
/// Between two looks at a name server that shows an earlier zone.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A change that may not have reached all servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pending {
    /// What Route 53 calls it; none: the answer that would have said so was lost.
    pub(super) change: Option<String>,
    pub(super) since: Instant,
}

/// What the name servers must show.
struct Expected {
    fence: Option<(DnsName, ZoneFence)>,
    answers: OneOf,
}

impl HostedZone {
    pub(super) async fn verified(
        &self,
        key: &RecordKey,
        wanted: Option<&RecordSet>,
    ) -> Result<Verification, ProviderError> {
        let zone = self.look().await?;
        let live = Live::of(&zone, key).map_err(invalid)?;
        // Values as servers write them.
        let wanted =
            wanted.map(|set| ValidRecordSet::with_aliases(set.clone())).transpose().map_err(invalid)?;
        let wanted = wanted.as_ref().map(ValidRecordSet::document);
        if let Some(found) = in_the_zone(&live, wanted) {
            return Ok(mismatch(CALLED, found));
        }
        if let Some(found) = self.still_pending().await? {
            return Ok(mismatch(CALLED, found));
        }
        let name = self.fence_name()?;
        let fence = match (zone.fence(&name), wanted) {
            (Fence::Held(fence), _) => Some((name, fence)),
            // Nobody has written anything yet.
            (Fence::None, None) => None,
            (Fence::None | Fence::Unreadable, _) => return Ok(mismatch(CALLED, Mismatch::Unfenced)),
        };
        let expected = Expected { fence, answers: OneOf::of(wanted) };
        let servers = &self.settings.servers;
        let findings = join_all(servers.iter().map(|server| self.settled(server, key, &expected))).await;
        sum_up(servers.iter().map(|server| server.name.clone()).zip(findings))
    }

    /// Asks the name servers alone, since the API may be what is down: none of these values may be among so many answers of each.
    pub(super) async fn not_drawn(
        &self,
        key: &RecordKey,
        values: &BTreeSet<String>,
        draws: u32,
    ) -> Result<Verification, ProviderError> {
        let servers = &self.settings.servers;
        let findings = join_all(servers.iter().map(|server| self.drawn_of(server, key, values, draws))).await;
        sum_up(servers.iter().map(|server| server.name.clone()).zip(findings))
    }

    /// A server that was silent a moment ago is not asked again for each of a hundred services.
    async fn drawn_of(
        &self,
        server: &ZoneServer,
        key: &RecordKey,
        values: &BTreeSet<String>,
        draws: u32,
    ) -> Finding {
        let known = {
            let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
            let recent = silent.get(&server.name).filter(|(at, _)| at.elapsed() < SILENT_FOR);
            recent.map(|(_, reason)| reason.clone())
        };
        if let Some(reason) = known {
            return Finding::Missing(reason);
        }
        match none_of(values, draws, server.query, key, self.settings.timeout.to_duration()).await {
            Ok(found) => found,
            Err(reason) => {
                let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
                silent.insert(server.name.clone(), (Instant::now(), reason.clone()));
                Finding::Missing(reason)
            }
        }
    }

    /// From now on this change is waited for, also by whoever waits for an earlier one: all of that is in it.
    pub(super) fn wait_for(&self, change: Option<String>) {
        *self.pending() = Some(Pending { change, since: Instant::now() });
    }

    fn pending(&self) -> MutexGuard<'_, Option<Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the newest change has reached all servers, as Route 53 itself says; what is told: it takes too long.
    async fn still_pending(&self) -> Result<Option<Mismatch>, ProviderError> {
        let (began, within) = (Instant::now(), self.settings.in_sync_within.to_duration());
        loop {
            let Some(standing) = self.pending().clone() else { return Ok(None) };
            if self.has_arrived(&standing).await? {
                let mut pending = self.pending();
                if *pending == Some(standing) {
                    *pending = None;
                }
                continue;
            }
            if began.elapsed() > within {
                let after = standing.since.elapsed();
                return Ok(Some(Mismatch::Pending { change: standing.change, after }));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Asked at most once a second, however many wait.
    async fn has_arrived(&self, pending: &Pending) -> Result<bool, ProviderError> {
        let Some(change) = &pending.change else {
            return Ok(pending.since.elapsed() > self.settings.in_sync_within.to_duration());
        };
        let mut polled = self.polled.lock().await;
        if polled.is_some_and(|at| at.elapsed() < ASK_AFTER) || self.pending().as_ref() != Some(pending) {
            return Ok(false);
        }
        // Also where whoever waits gives up before the answer is there.
        *polled = Some(Instant::now());
        let answered = self.api.is_in_sync(change).await;
        *polled = Some(Instant::now());
        answered.map_err(Self::not_read)
    }

    /// What a server shows, once it has the zone, or the time for one exchange is over.
    async fn settled(&self, server: &ZoneServer, key: &RecordKey, expected: &Expected) -> Finding {
        let (began, timeout) = (Instant::now(), self.settings.timeout.to_duration());
        if let Some((name, fence)) = &expected.fence {
            loop {
                match self.shows(server, name, *fence, timeout).await {
                    Ok(true) => break,
                    Ok(false) if began.elapsed() < timeout => {
                        tokio::time::sleep(LOOK_EVERY).await;
                    }
                    Ok(false) => return Finding::Mismatch(Mismatch::Earlier),
                    Err(reason) => return Finding::Missing(reason),
                }
            }
        }
        expected.answers.drawn(server.query, key, timeout).await.unwrap_or_else(Finding::Missing)
    }
}

/// What the zone itself shows that was not expected.
fn in_the_zone(live: &Live<'_>, wanted: Option<&RecordSet>) -> Option<Mismatch> {
    let shown = live.shown();
    match (shown, wanted) {
        (None, None) => None,
        (Some(shown), Some(_)) if shown.is_changed_by_hand => Some(Mismatch::ChangedByHand),
        (Some(shown), Some(wanted)) if shown.set.same_target(wanted) => None,
        (Some(shown), None) => {
            let value = shown.set.members.into_iter().next().map(|member| member.value);
            Some(Mismatch::Value { value: value.unwrap_or_default() })
        }
        (shown, Some(wanted)) => Some(Mismatch::Generation {
            expected: wanted.generation,
            found: shown.map(|shown| shown.set.generation),
        }),
    }
}

fn mismatch(instance: &str, found: Mismatch) -> Verification {
    let mismatches = vec![InstanceMismatch { instance: instance.to_owned(), found }];
    Verification::Mismatch { mismatches, verified: vec![], missing: vec![] }
}
