//! Brings a batch to the zone: looks, decides, sends, and begins anew when the zone was not as it was remembered.

use std::time::{Duration, Instant};

use aws_sdk_route53::types::{Change, ChangeAction, ResourceRecord, ResourceRecordSet, RrType};
use drover_model::Epoch;

use super::api::CallError;
use super::live::{Follow, Live, change};
use super::look::ONE_BY_ONE_MAX;
use super::zone::{Fence, Zone, txt};
use super::{CALLED, HostedZone};
use crate::provider::marks::ZoneFence;
use crate::provider::wanted::{Asked, Wanted, wanted};
use crate::provider::{Applied, Coverage, ProviderError};
use crate::publish::Batch;
use crate::zone::{RecordKey, ValidRecordSet};

/// How often a batch is decided anew when the zone was not as it was remembered.
const ATTEMPTS: u32 = 5;
/// Before the second attempt; before later ones a multiple, and up to as much again by chance.
const PAUSE: Duration = Duration::from_millis(100);
/// Route 53's own limit on one call: values of CREATE and DELETE.
const RECORDS_MAX: usize = 1000;
/// Route 53's own limit on all values of one call, in characters.
const VALUE_CHARS_MAX: usize = 32_000;

/// What an attempt led to.
enum Attempt {
    Applied(Applied),
    /// The zone was not as it was remembered, or these changes are none that it can take.
    Rejected {
        detail: String,
        changes: Vec<Change>,
    },
}

/// What became of changes that were sent.
pub(super) enum Wrote {
    /// All are in.
    All,
    /// A call was refused because the zone was not as it was remembered. Those before it are in.
    Rejected { detail: String, changes: Vec<Change> },
}

impl HostedZone {
    pub(super) async fn apply_batch(&self, batch: &Batch) -> Result<Applied, ProviderError> {
        let wanted = wanted(batch).map_err(|detail| Self::refused("invalid", &detail))?;
        let keys: Vec<RecordKey> = wanted.iter().map(|one| one.key.clone()).collect();
        let _one_at_a_time = self.updating.lock().await;
        // What a hand added to a set, no DELETE would meet. Many sets are decided from memory, because reading them first
        // would take longer than writing them; such an addition is found when they are verified.
        if keys.len() <= ONE_BY_ONE_MAX {
            self.read_from(Instant::now(), &keys);
        }
        let mut rejected: Option<(String, Vec<Change>)> = None;
        for number in 0..ATTEMPTS {
            tokio::time::sleep(PAUSE * number + PAUSE.mul_f64(f64::from(number) * fastrand::f64())).await;
            let attempt = self.attempt(batch, &wanted, rejected.as_ref()).await?;
            // What comes next, the proof or another attempt, is of a reading that began after.
            self.read_from(Instant::now(), &keys);
            match attempt {
                Attempt::Applied(applied) => return Ok(applied),
                Attempt::Rejected { detail, changes } => rejected = Some((detail, changes)),
            }
        }
        let last = rejected.map_or_else(String::new, |(detail, _)| detail);
        Err(Self::not_now(format!(
            "the zone was not as it was read {ATTEMPTS} times: somebody else is changing it; last {last}"
        )))
    }

    async fn attempt(
        &self,
        batch: &Batch,
        wanted: &[Wanted<'_>],
        rejected: Option<&(String, Vec<Change>)>,
    ) -> Result<Attempt, ProviderError> {
        let zone = self.look().await?;
        let name = self.fence_name()?;
        let fence = self.commanded(&zone, batch.epoch)?;
        let Decided { pieces, refused } = decide(wanted, &zone, &self.follow())?;
        let has_changed = !pieces.is_empty();
        if let (Some(refused), false) = (&refused, has_changed) {
            return Err(refused.clone());
        }
        let coverage = || Coverage { instances: vec![CALLED.into()], missing: vec![] };
        if !has_changed && fence.is_some_and(|f| f.epoch == batch.epoch) {
            if rejected.is_some() {
                // An earlier try of this very call may have done it: when it reaches all servers is not known.
                self.wait_for(None);
            }
            return Ok(Attempt::Applied(Applied::Unchanged(coverage())));
        }
        let standing: Vec<ResourceRecordSet> = zone.at(&name, RrType::Txt.as_str()).to_vec();
        match self.write(batch.epoch, standing, fence, pieces, rejected).await? {
            Wrote::Rejected { detail, changes } => return Ok(Attempt::Rejected { detail, changes }),
            Wrote::All => {}
        }
        if let Some(refused) = refused {
            return Err(refused);
        }
        let applied = if has_changed { Applied::Changed(coverage()) } else { Applied::Unchanged(coverage()) };
        Ok(Attempt::Applied(applied))
    }

    /// Raises the fence under `to`, where it still is the one that was shown.
    pub(super) async fn taken_command(
        &self,
        from: &[(String, Epoch)],
        to: Epoch,
    ) -> Result<Coverage, ProviderError> {
        let _one_at_a_time = self.updating.lock().await;
        let (zone, name) = (self.look().await?, self.fence_name()?);
        let fence = zone.fence(&name).held();
        if !fence.is_some_and(|fence| fence.is_among(from)) {
            return Err(Self::not_now("its fence is not any more what was shown".to_owned()));
        }
        let standing: Vec<ResourceRecordSet> = zone.at(&name, RrType::Txt.as_str()).to_vec();
        match self.write(to, standing, fence, vec![], None).await? {
            Wrote::All => Ok(Coverage { instances: vec![CALLED.into()], missing: vec![] }),
            Wrote::Rejected { detail, .. } => Err(Self::not_now(detail)),
        }
    }

    /// Sends these changes in as few calls as they need, each with the fence raised; one at least, which raises it.
    pub(super) async fn write(
        &self,
        epoch: Epoch,
        mut standing: Vec<ResourceRecordSet>,
        mut fence: Option<ZoneFence>,
        pieces: Vec<Vec<Change>>,
        rejected: Option<&(String, Vec<Change>)>,
    ) -> Result<Wrote, ProviderError> {
        let (name, calls) = (self.fence_name()?, calls(pieces));
        for (number, some) in calls.iter().enumerate() {
            let raised = ZoneFence::raised(fence, epoch);
            let next =
                txt(&name, &raised.describe()).ok_or_else(|| Self::refused("invalid", &"the fence"))?;
            let mut changes = replacing(&standing, &next)?;
            changes.extend(some.iter().cloned());
            if let Some((detail, _)) = rejected.filter(|(_, before)| *before == changes) {
                // Read anew in between, and decided as before: it is the changes that are wrong.
                return Err(Self::refused("rejected", detail));
            }
            let sent = Sent::of(self);
            let changed = self.api.change(changes.clone()).await;
            sent.answered();
            match changed {
                Ok(id) => self.accepted(id, fence, &changes).await?,
                Err(CallError::Stale { detail }) => return Ok(Wrote::Rejected { detail, changes }),
                Err(e) => return Err(self.stopped(e, number, calls.len())),
            }
            (standing, fence) = (vec![next], Some(raised));
        }
        Ok(Wrote::All)
    }

    /// I3: who commands the zone, if this epoch may.
    pub(super) fn commanded(&self, zone: &Zone, given: Epoch) -> Result<Option<ZoneFence>, ProviderError> {
        let name = self.fence_name()?;
        match zone.fence(&name) {
            Fence::None => Ok(None),
            Fence::Held(fence) => fence.check(given, CALLED).map(|()| Some(fence)),
            Fence::Unreadable => Err(self.unreadable_fence()?),
        }
    }

    /// That nobody can say who commands the zone.
    pub(super) fn unreadable_fence(&self) -> Result<ProviderError, ProviderError> {
        Ok(Self::not_now(format!("{} TXT holds no fence that this build can read", self.fence_name()?)))
    }

    async fn accepted(
        &self,
        change: String,
        before: Option<ZoneFence>,
        changes: &[Change],
    ) -> Result<(), ProviderError> {
        self.wait_for(Some(change));
        let before = before.map_or(Fence::None, Fence::Held);
        self.memory.lock().await.apply(before, &self.fence_name()?, changes);
        Ok(())
    }

    /// What one call that failed says of the whole batch.
    fn stopped(&self, error: CallError, done: usize, all: usize) -> ProviderError {
        let error = Self::not_changed(error);
        if matches!(error, ProviderError::Unclear { .. }) {
            self.outcome_is_unknown();
        }
        if done == 0 {
            return error;
        }
        let detail = format!("{done} of {all} calls are in, then: {error}");
        ProviderError::Unclear { instance: CALLED.into(), detail }
    }

    /// What a call did, memory does not know, nor when it reaches all servers if it did.
    fn outcome_is_unknown(&self) {
        self.read_everything_from(Instant::now());
        self.wait_for(None);
    }
}

/// A call that was sent. Whoever stops waiting for its answer, as at the end of a step's time, leaves word that its outcome is
/// unknown.
struct Sent<'p>(Option<&'p HostedZone>);

impl<'p> Sent<'p> {
    fn of(provider: &'p HostedZone) -> Self {
        Self(Some(provider))
    }

    fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        if let Some(provider) = self.0 {
            provider.outcome_is_unknown();
        }
    }
}

/// What is left of a batch.
struct Decided {
    /// The changes of each record set, which is never half changed.
    pieces: Vec<Vec<Change>>,
    /// Why another can't be changed at all: that keeps no other from its change.
    refused: Option<ProviderError>,
}

fn decide(wanted: &[Wanted<'_>], zone: &Zone, follow: &Follow) -> Result<Decided, ProviderError> {
    let (mut pieces, mut conflicts, mut refused) = (vec![], vec![], None);
    for one in wanted {
        let key = &one.key;
        let live = Live::of(zone, key).map_err(|e| HostedZone::refused("invalid", &e))?;
        match one.judge(live.shown().as_ref()) {
            Asked::Done => {}
            Asked::Write => match live.changes(one.set.as_ref().map(ValidRecordSet::document), follow) {
                Ok(changes) => pieces.push(changes),
                Err(e) => {
                    let error = || HostedZone::refused("inexpressible", &format!("{key}: {e}"));
                    refused = refused.or_else(|| Some(error()));
                }
            },
            Asked::Conflict(conflict) => conflicts.push(conflict),
            Asked::Foreign { owner } => {
                let detail = format!("{key} belongs to {owner}; drover dns adopt takes it");
                refused = refused.or_else(|| Some(HostedZone::refused("owned_by_other", &detail)));
            }
        }
    }
    if conflicts.is_empty() {
        return Ok(Decided { pieces, refused });
    }
    Err(ProviderError::Conflict { instance: CALLED.into(), conflicts })
}

fn replacing(standing: &[ResourceRecordSet], next: &ResourceRecordSet) -> Result<Vec<Change>, ProviderError> {
    let deletes = standing.iter().map(|set| (ChangeAction::Delete, set.clone()));
    let all = deletes.chain([(ChangeAction::Create, next.clone())]);
    let changes = all.map(|(action, set)| change(action, set)).collect::<Result<_, _>>();
    changes.map_err(|e| HostedZone::refused("inexpressible", &e))
}

/// The pieces in as many calls as they need, with room for the fence in each; at least one, which raises it.
fn calls(pieces: Vec<Vec<Change>>) -> Vec<Vec<Change>> {
    const FENCE_RECORDS: usize = 2;
    const FENCE_CHARS: usize = FENCE_RECORDS * crate::provider::marks::STRING_BYTES_MAX;
    let mut calls: Vec<Vec<Change>> = vec![vec![]];
    let (mut chars, mut count) = (FENCE_CHARS, FENCE_RECORDS);
    for piece in pieces {
        let of_piece: usize = piece.iter().flat_map(values).map(|value| value.chars().count()).sum();
        let records: usize = piece.iter().map(|change| values(change).count().max(1)).sum();
        let is_full = count + records > RECORDS_MAX || chars + of_piece > VALUE_CHARS_MAX;
        if is_full && calls.last().is_some_and(|last| !last.is_empty()) {
            calls.push(vec![]);
            (chars, count) = (FENCE_CHARS, FENCE_RECORDS);
        }
        (chars, count) = (chars + of_piece, count + records);
        if let Some(last) = calls.last_mut() {
            last.extend(piece);
        }
    }
    calls
}

fn values(change: &Change) -> impl Iterator<Item = &str> {
    let records = change.resource_record_set().into_iter().flat_map(ResourceRecordSet::resource_records);
    records.map(ResourceRecord::value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::route53::zone::record_set;
    use crate::zone::DnsName;

    fn piece(changes: usize, value: &str) -> Vec<Change> {
        let name = DnsName::parse("a.example.test").unwrap();
        let set = record_set(&name, RrType::Txt, 60, value).build().unwrap();
        (0..changes).map(|_| change(ChangeAction::Create, set.clone()).unwrap()).collect()
    }

    fn sizes(pieces: Vec<Vec<Change>>) -> Vec<usize> {
        calls(pieces).iter().map(Vec::len).collect()
    }

    #[test]
    fn a_call_keeps_to_both_limits_and_divides_no_record_set() {
        assert_eq!(sizes(vec![]), [0], "one call raises the fence");
        assert_eq!(sizes(vec![piece(6, "x"); 300]), [996, 804]);
        assert_eq!(sizes(vec![piece(2, "x"); 499]), [998]);
        assert_eq!(sizes(vec![piece(2, "x"); 500]), [998, 2]);
        let long = "x".repeat(100);
        assert_eq!(sizes(vec![piece(2, &long); 200]), [314, 86]);
    }
}
