//! The provider of drover's own instances: each holds the whole zone, and is told by its control listener.
//!
//! Every write goes to every instance. It counts when at least one took it; the rest is named as missing, and
//! is caught up by the next write or by `diff`, which sees who is behind. An instance that missed a write
//! shows an older generation than the writer expects: nobody else wrote there (a later leader would have
//! raised its fence), so the writer's expectation is moved back to what that instance shows. An instance that
//! shows a *newer* generation is a conflict, always.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use drover_model::Epoch;
use drover_model::config::defaults;
use futures::future::{join_all, try_join_all};
use hyper::Method;
use serde::{Deserialize, Serialize};

use super::control_client::{self, CallError};
use super::{
    Applied, BatchSigner, Capabilities, Commands, Coverage, Lagging, LaggingState, MissingInstance, Observed,
    ProviderError, RecordSets, Verification, verify,
};
use crate::publish::{
    AppliedBatch, Batch, CHANGES_PER_BATCH_MAX, Change, Conflict, Fence, FenceReason, Published, Seal,
    SentBatchView, Shortened,
};
use crate::server::{Adoption, AppliedReply, ProblemCode, RecordSetReply, RecordSetsReply};
use crate::zone::{RecordKey, RecordSet, WEIGHT_MAX};

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// Its name, for messages.
    pub name: String,
    /// Where it takes changes.
    pub control: SocketAddr,
    /// Where it answers DNS.
    pub query: SocketAddr,
}

/// So many record sets are asked for one by one; of more, the whole zone is read.
const ONE_BY_ONE_MAX: usize = 8;

/// For telling one server about times to live, at most: one that swallows everything must not hold up what the others are told.
const SHORTEN_TIMEOUT_MAX: Duration = Duration::from_secs(1);

/// How long the provider waits, and how much it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// While a failover seems near answers may be given for so little, in seconds.
    pub ttl_floor_seconds: u32,
    /// Clients whom no region may answer are refused ([`DnsSettings::refuses_clients`](drover_model::config::DnsSettings::refuses_clients)): who
    /// asks may be one of them.
    pub refuses_clients: bool,
    /// How long one control request may take.
    pub control_timeout: Duration,
    /// How long one DNS question may take, its repetitions included.
    pub query_timeout: Duration,
    /// How many answers are drawn to verify a record set at one instance. The generation proves which set is
    /// live; the draws show that its weights are obeyed: a value with one part in ten is missed by 64 draws
    /// once in 850 times.
    pub draws: u32,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            control_timeout: Duration::from_secs(5),
            query_timeout: Duration::from_secs(2),
            draws: 64,
            refuses_clients: false,
            ttl_floor_seconds: (defaults::TTL_FLOOR.as_millis() / 1_000) as u32,
        }
    }
}

/// A provider without instances could not publish anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot publish DNS: no instance is configured")]
pub struct NoInstances;

/// Drover's own instances.
#[derive(Debug, Clone)]
pub struct EmbeddedInstances {
    instances: Vec<Instance>,
    options: EmbeddedOptions,
    signer: Option<BatchSigner>,
}

/// What one instance did with a batch.
enum Outcome {
    Done(Published),
    Conflict(Vec<Conflict>),
    Fenced { highest: Epoch, reason: FenceReason },
    Refused { code: String, detail: String },
    Missing { reason: String, is_outcome_known: bool },
}

impl EmbeddedInstances {
    /// The provider of these instances.
    ///
    /// # Errors
    /// Without any instance.
    pub fn new(instances: Vec<Instance>, options: EmbeddedOptions) -> Result<Self, NoInstances> {
        if instances.is_empty() {
            return Err(NoInstances);
        }
        Ok(Self { instances, options, signer: None })
    }

    /// The same, signing what it publishes, so that instances can hand it to each other.
    #[must_use]
    pub fn signed_by(self, signer: BatchSigner) -> Self {
        Self { signer: Some(signer), ..self }
    }

    /// The instances.
    #[must_use]
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// Who may write to each instance; with those that could not be asked.
    pub async fn fences(&self) -> (Vec<(String, Fence)>, Vec<MissingInstance>) {
        let (known, missing) = self.get_from_all::<Fence>("/v1/fence").await;
        (known.into_iter().map(|(instance, fence)| (instance.name.clone(), fence)).collect(), missing)
    }

    /// The batches that each instance remembers; with those that could not be asked.
    pub async fn applied(&self) -> (Vec<(String, Vec<AppliedBatch>)>, Vec<MissingInstance>) {
        let (known, missing) = self.get_from_all::<AppliedReply>("/v1/changes").await;
        (known.into_iter().map(|(instance, reply)| (instance.name.clone(), reply.applied)).collect(), missing)
    }

    /// Lets the store incarnation of `to` command one instance, whose highest epoch is known to be `from`: a
    /// deliberate act after a store was lost or restored.
    ///
    /// # Errors
    /// `Fenced` if the instance has seen another epoch by now; not reached, or no answer in time.
    pub async fn adopt(
        &self,
        instance: &Instance,
        from: Option<Epoch>,
        to: Epoch,
    ) -> Result<Fence, ProviderError> {
        let timeout = self.options.control_timeout;
        let adopted = control_client::send(
            instance.control,
            Method::POST,
            "/v1/fence",
            &Adoption { from, to },
            timeout,
        )
        .await;
        adopted.map_err(|error| match Outcome::of(error) {
            Outcome::Fenced { highest, reason } => {
                ProviderError::Fenced { instance: instance.name.clone(), highest, reason }
            }
            Outcome::Refused { code, detail } => {
                ProviderError::Refused { instance: instance.name.clone(), code, detail }
            }
            Outcome::Missing { reason, is_outcome_known: true } => ProviderError::Unreachable {
                missing: vec![MissingInstance { instance: instance.name.clone(), reason }],
            },
            _ => ProviderError::TimedOut { after: timeout },
        })
    }

    async fn get_from_all<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
    ) -> (Vec<(&Instance, T)>, Vec<MissingInstance>) {
        let timeout = self.options.control_timeout;
        self.ask_all(|instance| control_client::get(instance.control, path, timeout)).await
    }

    /// Just these record sets: a zone of a thousand services is a megabyte, and a failover of one waits for it.
    async fn get_these_from_all(
        &self,
        keys: &[RecordKey],
    ) -> (Vec<(&Instance, RecordSetsReply)>, Vec<MissingInstance>) {
        let timeout = self.options.control_timeout;
        self.ask_all(|instance| async move {
            let paths = keys.iter().map(|key| format!("/v1/recordsets/{}/{}", key.name, key.rtype));
            let calls = paths.map(|path| async move {
                match control_client::get::<RecordSetReply>(instance.control, &path, timeout).await {
                    Ok(reply) => Ok(Some(reply)),
                    Err(CallError::Problem(p)) if p.code == ProblemCode::NotFound => Ok(None),
                    Err(error) => Err(error),
                }
            });
            let found: Vec<RecordSetReply> = try_join_all(calls).await?.into_iter().flatten().collect();
            let generation = found.iter().map(|reply| reply.generation).max().unwrap_or_default();
            let unsealed = found.iter().filter(|reply| reply.is_unsealed);
            let unsealed = unsealed.filter_map(|reply| reply.record_set.key()).collect();
            let record_sets = found.into_iter().map(|reply| reply.record_set).collect();
            Ok(RecordSetsReply { generation, record_sets, unsealed })
        })
        .await
    }

    async fn ask_all<'a, T, F>(
        &'a self,
        ask: impl Fn(&'a Instance) -> F,
    ) -> (Vec<(&'a Instance, T)>, Vec<MissingInstance>)
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let (mut known, mut missing) = (vec![], vec![]);
        for (instance, reply) in self.instances.iter().zip(join_all(self.instances.iter().map(ask)).await) {
            match reply {
                Ok(reply) => known.push((instance, reply)),
                Err(error) => {
                    missing
                        .push(MissingInstance { instance: instance.name.clone(), reason: error.to_string() });
                }
            }
        }
        (known, missing)
    }

    /// The signatures over a batch; none without a key.
    async fn seal(&self, batch: &Batch) -> Result<Vec<Seal>, ProviderError> {
        let Some(signer) = &self.signer else { return Ok(vec![]) };
        let numbered = match signer.generations.next(batch.epoch) {
            Some(numbered) => numbered,
            None => {
                let (fences, missing) = self.fences().await;
                fences.iter().for_each(|(_, fence)| signer.generations.see(fence.generation));
                // Whoever has shown none is at 1 at least, so that nobody could be asked.
                let numbered = signer.generations.next(batch.epoch);
                numbered.ok_or(ProviderError::Unreachable { missing })?
            }
        };
        signer.seal(batch, numbered).await
    }

    /// The zone's generation at an instance, which the next one must be above.
    fn see(&self, generation: u64) {
        if let Some(signer) = &self.signer {
            signer.generations.see(generation);
        }
    }

    async fn apply_to(&self, instance: &Instance, batch: &Batch, seals: &[Seal]) -> Outcome {
        match self.put(instance, batch, seals).await {
            // What is signed is what shall be live, not what was before.
            Outcome::Conflict(conflicts) => match caught_up(batch, &conflicts) {
                Some(batch) => self.put(instance, &batch, seals).await,
                None => Outcome::Conflict(conflicts),
            },
            outcome => outcome,
        }
    }

    async fn put(&self, instance: &Instance, batch: &Batch, seals: &[Seal]) -> Outcome {
        let timeout = self.options.control_timeout;
        let sent = SentBatchView { batch, seals };
        let put = control_client::send(instance.control, Method::PUT, "/v1/recordsets", &sent, timeout).await;
        put.map_or_else(Outcome::of, Outcome::Done)
    }
}

impl Outcome {
    fn of(error: CallError) -> Self {
        let problem = match error {
            CallError::Problem(problem) => problem,
            CallError::NotSent { .. } => {
                return Self::Missing { reason: error.to_string(), is_outcome_known: true };
            }
            CallError::Broken { .. } | CallError::TimedOut { .. } => {
                return Self::Missing { reason: error.to_string(), is_outcome_known: false };
            }
        };
        match problem.code {
            ProblemCode::Conflict => Self::Conflict(problem.conflicts),
            ProblemCode::Fenced => match (problem.highest, problem.fence_reason) {
                (Some(highest), Some(reason)) => Self::Fenced { highest, reason },
                _ => Self::Missing {
                    reason: "it refuses the epoch without saying why".into(),
                    is_outcome_known: true,
                },
            },
            // The instance is in trouble, not the request: it counts as one that could not be told.
            // So it is while keys are being changed, here and there.
            ProblemCode::NotSigned | ProblemCode::NotWritten => {
                Self::Missing { reason: problem.detail, is_outcome_known: true }
            }
            ProblemCode::NotDurable | ProblemCode::TimedOut => {
                Self::Missing { reason: problem.detail, is_outcome_known: false }
            }
            code => {
                let code = serde_json::to_value(code).ok();
                let code = code.and_then(|code| code.as_str().map(str::to_owned)).unwrap_or_default();
                Self::Refused { code, detail: problem.detail }
            }
        }
    }
}

/// The batch with its expectations moved back to what an instance that is behind shows; `None` if it is not
/// behind everywhere.
fn caught_up(batch: &Batch, conflicts: &[Conflict]) -> Option<Batch> {
    let mut batch = batch.clone();
    for conflict in conflicts {
        let live = conflict.current.as_ref().map(|live| live.generation);
        let expected = conflict.expected_generation?;
        if live.is_some_and(|live| live >= expected) {
            return None;
        }
        let change = batch.changes.iter_mut().find(|change| change.key().as_ref() == Some(&conflict.key))?;
        match change {
            Change::Put { expected_generation, .. } => *expected_generation = live,
            Change::Delete { expected_generation, .. } => *expected_generation = live?,
        }
    }
    Some(batch)
}

#[async_trait]
impl RecordSets for EmbeddedInstances {
    fn name(&self) -> &str {
        "embedded"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            has_weights: true,
            weight_max: WEIGHT_MAX,
            is_batch_atomic: true,
            batch_changes_max: CHANGES_PER_BATCH_MAX,
            shows_generation: true,
            shortens_ttls: true,
        }
    }

    async fn observe(&self, keys: &[RecordKey]) -> Result<Vec<Observed>, ProviderError> {
        let (known, missing) = if keys.len() <= ONE_BY_ONE_MAX {
            self.get_these_from_all(keys).await
        } else {
            self.get_from_all("/v1/recordsets").await
        };
        if known.is_empty() {
            return Err(ProviderError::Unreachable { missing });
        }
        known.iter().for_each(|(_, reply)| self.see(reply.generation));
        let must_sign = self.signer.is_some();
        Ok(keys.iter().map(|key| observe_one(key, &known, &missing, must_sign)).collect())
    }

    async fn commands(&self) -> Result<Commands, ProviderError> {
        let (fences, missing) = self.fences().await;
        if fences.is_empty() {
            return Err(ProviderError::Unreachable { missing });
        }
        fences.iter().for_each(|(_, fence)| self.see(fence.generation));
        let known = fences.into_iter().map(|(name, fence)| (name, fence.highest_epoch)).collect();
        Ok(Commands { known, missing })
    }

    async fn take_command(&self, from: &[(String, Epoch)], to: Epoch) -> Result<Coverage, ProviderError> {
        let mut coverage = Coverage { instances: vec![], missing: vec![] };
        for (name, epoch) in from {
            let Some(instance) = self.instances.iter().find(|one| one.name == *name) else { continue };
            match self.adopt(instance, Some(*epoch), to).await {
                Ok(_) => coverage.instances.push(name.clone()),
                Err(e) => {
                    let reason = e.to_string();
                    coverage.missing.push(MissingInstance { instance: name.clone(), reason });
                }
            }
        }
        Ok(coverage)
    }

    async fn apply(&self, batch: &Batch) -> Result<Applied, ProviderError> {
        let seals = self.seal(batch).await?;
        let calls = self.instances.iter().map(|instance| self.apply_to(instance, batch, &seals));
        let outcomes = join_all(calls).await;
        summarise(&self.instances, outcomes, self.options.control_timeout)
    }

    async fn shorten(&self, told: &Shortened) -> Result<(), ProviderError> {
        let timeout = self.options.control_timeout.min(SHORTEN_TIMEOUT_MAX);
        let tell = |instance: &'_ Instance| {
            let control = instance.control;
            async move { control_client::send::<_, Fence>(control, Method::PUT, "/v1/ttls", told, timeout).await }
        };
        for (instance, answer) in self.instances.iter().zip(join_all(self.instances.iter().map(tell)).await) {
            // Whoever was not reached is told again in a moment, and the reconciler shows it. A server of an earlier version knows no such
            // thing, and answers as it did.
            if let Err(Outcome::Fenced { highest, reason }) = answer.map_err(Outcome::of) {
                return Err(ProviderError::Fenced { instance: instance.name.clone(), highest, reason });
            }
        }
        Ok(())
    }

    async fn verify(
        &self,
        key: &RecordKey,
        expected: Option<&RecordSet>,
    ) -> Result<Verification, ProviderError> {
        verify::verify(&self.instances, &self.options, key, expected).await
    }
}

fn observe_one(
    key: &RecordKey,
    known: &[(&Instance, RecordSetsReply)],
    missing: &[MissingInstance],
    must_sign: bool,
) -> Observed {
    let find = |reply: &RecordSetsReply| -> Option<RecordSet> {
        reply.record_sets.iter().find(|set| set.rtype == key.rtype && set.name == key.name.as_str()).cloned()
    };
    let live: Vec<(&Instance, Option<RecordSet>)> =
        known.iter().map(|(one, reply)| (*one, find(reply))).collect();
    let newest = live.iter().filter_map(|(_, set)| set.as_ref()).max_by_key(|set| set.generation).cloned();
    let behind = live.iter().filter(|(_, set)| match (set, &newest) {
        (Some(set), Some(newest)) => !set.same_target(newest),
        (None, None) => false,
        _ => true,
    });
    let behind = behind.map(|(instance, set)| Lagging {
        instance: instance.name.clone(),
        state: LaggingState::Behind { generation: set.as_ref().map(|set| set.generation) },
    });
    let unsigned = known.iter().zip(&live).filter(|((_, reply), (_, set))| {
        let shows = set.as_ref().zip(newest.as_ref()).is_some_and(|(set, newest)| set.same_target(newest));
        must_sign && shows && reply.unsealed.contains(key)
    });
    let unsigned =
        unsigned.map(|((one, _), _)| Lagging { instance: one.name.clone(), state: LaggingState::Unsigned });
    let unsigned: Vec<Lagging> = unsigned.collect();
    let not_reached = missing.iter().map(|one| Lagging {
        instance: one.instance.clone(),
        state: LaggingState::NotReached { reason: one.reason.clone() },
    });
    let lagging = behind.chain(unsigned).chain(not_reached).collect();
    Observed { key: key.clone(), current: newest, is_changed_by_hand: false, lagging }
}

/// One instance that knows better outweighs all that obeyed: the writer must stop and look.
fn summarise(
    instances: &[Instance],
    outcomes: Vec<Outcome>,
    after: Duration,
) -> Result<Applied, ProviderError> {
    let mut coverage = Coverage { instances: vec![], missing: vec![] };
    let (mut has_changed, mut are_outcomes_known) = (false, true);
    let (mut fenced, mut conflict, mut refused) = (None, None, None);
    for (instance, outcome) in instances.iter().zip(outcomes) {
        let instance = instance.name.clone();
        match outcome {
            Outcome::Done(published) => {
                has_changed |= matches!(published, Published::Changed { .. });
                coverage.instances.push(instance);
            }
            Outcome::Missing { reason, is_outcome_known } => {
                are_outcomes_known &= is_outcome_known;
                coverage.missing.push(MissingInstance { instance, reason });
            }
            Outcome::Fenced { highest, reason } => {
                fenced = fenced.or(Some(ProviderError::Fenced { instance, highest, reason }));
            }
            Outcome::Conflict(conflicts) => {
                conflict = conflict.or(Some(ProviderError::Conflict { instance, conflicts }));
            }
            Outcome::Refused { code, detail } => {
                refused = refused.or(Some(ProviderError::Refused { instance, code, detail }));
            }
        }
    }
    if let Some(error) = fenced.or(conflict).or(refused) {
        return Err(error);
    }
    match (coverage.instances.is_empty(), are_outcomes_known) {
        (true, true) => Err(ProviderError::Unreachable { missing: coverage.missing }),
        (true, false) => Err(ProviderError::TimedOut { after }),
        (false, _) if has_changed => Ok(Applied::Changed(coverage)),
        (false, _) => Ok(Applied::Unchanged(coverage)),
    }
}
