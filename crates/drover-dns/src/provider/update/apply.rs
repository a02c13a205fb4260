//! Brings a batch to the primary: looks, decides, sends, and begins anew when the zone changed in between.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::base::iana::Rtype;
use drover_model::Epoch;

use super::DynamicUpdates;
use super::exchange::UpdateError;
use super::key;
use super::live::{self, Live};
use super::look::Seen;
use super::message::{Records, Step, UPDATE_BYTES_MAX};
use super::proof;
use super::registry::txt_rdata;
use crate::provider::marks::{FENCE_TTL_SECONDS, ZoneFence};
use crate::provider::wanted::{Asked, Wanted, wanted};
use crate::provider::{Applied, Coverage, ProviderError};
use crate::publish::Batch;
use crate::resolver::Rcode;
use crate::zone::RecordKey;

/// How often a batch is decided anew when the zone changed between looking and updating.
const ATTEMPTS: u32 = 8;
/// Before the second attempt; before later ones a multiple, and up to as much again by chance.
const PAUSE: Duration = Duration::from_millis(20);
/// What an attempt led to.
enum Attempt {
    Applied(Applied),
    /// The zone was not as it was read.
    Overtaken,
}

/// What becomes of one record set; all of it happens at once.
struct Replacement {
    steps: Vec<Step>,
    is_first_program: bool,
}

/// The fence as it stands, and who raises it.
struct Command {
    epoch: Epoch,
    stands: Records,
    fence: Option<ZoneFence>,
}

impl DynamicUpdates {
    pub(super) async fn apply_batch(&self, batch: &Batch) -> Result<Applied, ProviderError> {
        let wanted = wanted(batch).map_err(|detail| self.refused("invalid", &detail))?;
        let keys: Vec<RecordKey> = wanted.iter().map(|one| one.key.clone()).collect();
        let _one_at_a_time = self.updating.lock().await;
        for number in 0..ATTEMPTS {
            tokio::time::sleep(PAUSE * number + PAUSE.mul_f64(f64::from(number) * fastrand::f64())).await;
            // What a wildcard answers stands at no name: taking such a set over requires that there is none.
            let synthesised = number % 2 == 1;
            if let Attempt::Applied(applied) = self.attempt(batch, &wanted, &keys, synthesised).await? {
                return Ok(applied);
            }
        }
        Err(self.not_now(format!(
            "what the update requires did not hold {ATTEMPTS} times: somebody else is changing the zone, or other records \
             stand at a name of the batch"
        )))
    }

    async fn attempt(
        &self,
        batch: &Batch,
        wanted: &[Wanted<'_>],
        keys: &[RecordKey],
        synthesised: bool,
    ) -> Result<Attempt, ProviderError> {
        let mut seen = self.look(keys).await?;
        let fence = self.check_fence(&seen.fence, batch.epoch)?;
        let steps = self.decide(wanted, &seen, synthesised)?;
        let coverage = || Coverage { instances: vec![self.called.clone()], missing: vec![] };
        if steps.is_empty() && fence.is_some_and(|f| f.epoch == batch.epoch) {
            return Ok(Attempt::Applied(Applied::Unchanged(coverage())));
        }
        let has_changed = !steps.is_empty();
        let mut command = Command { epoch: batch.epoch, stands: seen.fence, fence };
        if steps.iter().any(|one| one.is_first_program) {
            let proof = seen.proof.take().and_then(proof::step);
            if let Some(step) = proof
                && !self.raise(&mut command, vec![step]).await?
            {
                return Ok(Attempt::Overtaken);
            }
            self.check_programs().await?;
        }
        let messages = messages(steps);
        let all = messages.len();
        for (done, some) in messages.into_iter().enumerate() {
            match self.raise(&mut command, some).await {
                Ok(true) => {}
                Ok(false) => return Ok(Attempt::Overtaken),
                Err(e) if done > 0 => {
                    return Err(self.unclear(format!("{done} of {all} messages are in, then: {e}")));
                }
                Err(e) => return Err(e),
            }
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
        let stands = self.look(&[]).await?.fence;
        let fence = self.read_fence(&stands)?;
        if !fence.is_some_and(|fence| fence.is_among(from)) {
            return Err(self.not_now("its fence is not any more what was shown".to_owned()));
        }
        let mut command = Command { epoch: to, stands, fence };
        if !self.raise(&mut command, vec![]).await? {
            return Err(self.not_now("its fence was changed in the meantime".to_owned()));
        }
        Ok(Coverage { instances: vec![self.called.clone()], missing: vec![] })
    }

    /// One message: these steps, and the fence as it stands, raised. False: anything was other than it requires.
    async fn raise(&self, command: &mut Command, steps: Vec<Step>) -> Result<bool, ProviderError> {
        let raised = ZoneFence::raised(command.fence, command.epoch);
        let text = txt_rdata(&[raised.describe()]);
        let to = Records::new(command.stands.name.clone(), Rtype::TXT, FENCE_TTL_SECONDS, vec![text]);
        let mut all = vec![Step { from: command.stands.clone(), to: to.clone() }];
        all.extend(steps);
        let has_happened = self.send(&all).await?;
        if has_happened {
            (command.stands, command.fence) = (to, Some(raised));
        }
        Ok(has_happened)
    }

    /// What is left to do of a batch; the fence is not among it.
    fn decide(
        &self,
        wanted: &[Wanted<'_>],
        seen: &Seen,
        synthesised: bool,
    ) -> Result<Vec<Replacement>, ProviderError> {
        let live: BTreeMap<&RecordKey, &Live> = seen.live.iter().map(|live| (&live.key, live)).collect();
        let (mut steps, mut conflicts) = (vec![], vec![]);
        for one in wanted {
            let key = &one.key;
            let Some(live) = live.get(key) else {
                let detail =
                    format!("the primary does not answer for {key}, so that it can't be in charge of it");
                return Err(self.refused("not_observed", &detail));
            };
            match live::steps_of(live, one, synthesised) {
                Ok((Asked::Done | Asked::Write, of_one)) => {
                    let is_first_program = proof::is_first(one, live);
                    steps.extend(of_one.map(|steps| Replacement { steps, is_first_program }));
                }
                Ok((Asked::Conflict(conflict), _)) => conflicts.push(conflict),
                Ok((Asked::Foreign { owner }, _)) => {
                    let detail = format!("{key} belongs to {owner}; drover dns adopt takes it");
                    return Err(self.refused("owned_by_other", &detail));
                }
                Err(e) => return Err(self.refused("inexpressible", &format!("{key}: {e}"))),
            }
        }
        if conflicts.is_empty() {
            return Ok(steps);
        }
        Err(ProviderError::Conflict { instance: self.called.clone(), conflicts })
    }

    /// Did the update happen? It did not if anything was other than it requires.
    async fn send(&self, steps: &[Step]) -> Result<bool, ProviderError> {
        let key = key::load(&self.settings.key).await.map_err(|e| self.not_now(drover_model::chain(&e)))?;
        let id = getrandom::u32().map_err(|e| self.not_now(e.to_string()))? as u16;
        let rcode = match self.primary.update(&self.zone, steps, &key, id).await {
            Ok(rcode) => rcode,
            Err(UpdateError::TooLarge(e)) => return Err(self.refused("too_large", &e)),
            Err(UpdateError::Exchange(e)) => return Err(self.failed(&e)),
        };
        match rcode {
            Rcode::NOERROR => Ok(true),
            // YXDOMAIN, YXRRSET, NXRRSET: a prerequisite does not hold.
            Rcode::NXDOMAIN | Rcode(6..=8) => Ok(false),
            // It could not: whether before or after the change, it does not say.
            Rcode::SERVFAIL => Err(self.unclear("it answers SERVFAIL to the update")),
            // As while a zone is frozen for an edit by hand, or where the key may not change this.
            other => Err(self.not_now(format!("it answers {other} to the update"))),
        }
    }

    /// I3: who commands the zone, if this epoch may.
    fn check_fence(&self, records: &Records, given: Epoch) -> Result<Option<ZoneFence>, ProviderError> {
        let fence = self.read_fence(records)?;
        fence.map_or(Ok(()), |fence| fence.check(given, &self.called))?;
        Ok(fence)
    }

    /// Who commands the zone.
    pub(super) fn read_fence(&self, records: &Records) -> Result<Option<ZoneFence>, ProviderError> {
        if records.rdata.is_empty() {
            return Ok(None);
        }
        let read = live::texts(records).and_then(|strings| ZoneFence::read(&strings));
        let unreadable = || {
            let name = &records.name;
            self.not_now(format!("{name} TXT holds no fence that this build can read"))
        };
        read.map(Some).ok_or_else(unreadable)
    }
}

/// Steps in as many messages as they need; at least one, which raises the fence.
fn messages(replacements: Vec<Replacement>) -> Vec<Vec<Step>> {
    let mut messages = vec![vec![]];
    let mut room = UPDATE_BYTES_MAX;
    for Replacement { steps, .. } in replacements {
        let bytes: usize = steps.iter().map(Step::bytes).sum();
        if bytes > room {
            messages.push(vec![]);
            room = UPDATE_BYTES_MAX;
        }
        room = room.saturating_sub(bytes);
        if let Some(last) = messages.last_mut() {
            last.extend(steps);
        }
    }
    messages
}
