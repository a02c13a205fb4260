//! The write rights of datasets, as coordinators keep them (I5).
//!
//! Any coordinator renews a right for its holder: that is a swap of one record on condition that it is unchanged, and
//! nobody need lead for it. The leader alone grants a right first, changes who could take it over, and transfers it
//! (`moving`). [Write rights](../../../docs/write-rights.md) has the protocol; a step in a comment is one of it.

mod kept;
mod moving;
mod reading;
#[cfg(test)]
mod tests;
mod view;

use crate::api::problem::ApiError;
use crate::clock::Clock;
use crate::coordinator::Coordinator;
use crate::db::{Leader, keys};
use crate::error::CoordinatorError;
use crate::leading::fence_of;
use axum::http::StatusCode;
use drover_exec::write_right::{Sighting, TransferEvent, change_members, renew};
use drover_model::config::Dataset;
use drover_model::write_right::{
    DatasetRecord, Incarnation, Members, RenewAnswer, RenewRequest, RightForAgent, RightIntervals,
    RightSettings, RightState, Sealed, WriteGeneration, WriteRight,
};
use drover_model::{AgentId, DatasetId, Generation};
use drover_store::{Expect, Revision, Txn};
use kept::Kept;
use reading::{ReadDatasets, ReadRight};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
pub(crate) use view::attention;

/// Between two looks of the leader at every dataset.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A renewal that another change of the record keeps overtaking is given up; the holder asks again.
const RENEW_TRIES: u32 = 3;

/// What a coordinator knows of datasets beside the store.
#[derive(Default)]
pub(crate) struct Datasets {
    /// When this coordinator first saw each record as it is (step 9).
    sightings: Mutex<BTreeMap<DatasetId, Sighting>>,
    /// Transfers under way, by whom they are told what happens.
    moving: Mutex<BTreeMap<DatasetId, mpsc::Sender<TransferEvent>>>,
    /// As they were at the last look, for `status`.
    looked: Mutex<view::Looked>,
}

impl Datasets {
    fn saw(&self, dataset: &DatasetId, revision: Revision) -> Sighting {
        let mut sightings = self.sightings.lock().unwrap_or_else(PoisonError::into_inner);
        let before = sightings.get(dataset).copied();
        let now = Sighting::of(before, fence_of(revision), Clock::boot());
        sightings.insert(dataset.clone(), now);
        now
    }

    fn moving(&self) -> MutexGuard<'_, BTreeMap<DatasetId, mpsc::Sender<TransferEvent>>> {
        self.moving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An agent is sealed. Where no transfer waits for it, it is said again.
    pub(crate) fn sealed(&self, dataset: &DatasetId, sealed: Sealed) {
        if let Some(transfer) = self.moving().get(dataset) {
            // A full queue loses one of many: it is ordered, and said, again.
            let _ = transfer.try_send(TransferEvent::Sealed(sealed));
        }
    }
}

/// The intervals that a record was granted with. They held together then.
fn intervals_of(dataset: &DatasetId, settings: RightSettings) -> Result<RightIntervals, CoordinatorError> {
    RightIntervals::new(settings)
        .map_err(|e| CoordinatorError::store(format!("use the intervals of dataset {dataset}"), e))
}

/// Everybody whose database could write, but the holder.
fn promotable(dataset: &Dataset, holder: &AgentId) -> BTreeSet<AgentId> {
    dataset.agents().into_iter().filter(|agent| agent != holder).collect()
}

impl Coordinator {
    /// A dataset of this name, which must be configured.
    pub(crate) fn dataset(&self, name: &str) -> Result<Dataset, ApiError> {
        let loaded = self.loaded();
        let found = DatasetId::new(name).ok().and_then(|id| loaded.config.datasets.get(&id).cloned());
        found.ok_or_else(|| {
            let known = loaded.config.datasets.keys().map(ToString::to_string).collect();
            ApiError::not_found(format!("dataset {name}"), known)
        })
    }

    /// The record of a dataset, with when this coordinator first saw it so.
    async fn right_of(&self, dataset: &DatasetId) -> Result<Option<ReadRight>, CoordinatorError> {
        let found = self.db.get::<Kept>(&keys::write_right(dataset)).await?;
        Ok(found.map(|(kept, revision)| ReadRight {
            kept,
            revision,
            sighting: self.datasets.saw(dataset, revision),
        }))
    }

    /// Swaps a write right that is as it was seen, under the conditions that `txn` has already: none, and any coordinator may,
    /// or the leader's fence. Of two that do it at once one fails, and a store that was given up for a copy, or is at a later drover's level, renews nothing. It
    /// may use the journal's reserve, since a full disk must stop no writer.
    ///
    /// # Errors
    /// When the store fails, or the fence says that another one leads.
    async fn swap_right(
        &self,
        txn: Txn,
        dataset: &DatasetId,
        seen: Revision,
        record: &Kept,
    ) -> Result<Option<Revision>, CoordinatorError> {
        let key = keys::write_right(dataset);
        let not_ours = [keys::RETIRED, keys::IMPORTING, keys::LEVEL].into_iter();
        let txn = not_ours.fold(txn, |txn, mark| txn.expect(mark, Expect::Absent));
        let txn = self.db.put_op(txn.expect(&key, Expect::ModRevision(seen)), &key, record)?.for_journal();
        self.db.commit(&format!("swap {key}"), txn).await
    }

    /// All datasets of which this agent is a member, and whose right was granted once.
    pub(crate) async fn rights_for(&self, agent: &AgentId) -> Result<Vec<RightForAgent>, CoordinatorError> {
        let loaded = self.loaded();
        let is_beside = |dataset: &&Dataset| dataset.members.iter().any(|member| member.agent == *agent);
        let beside: Vec<&Dataset> = loaded.config.datasets.values().filter(is_beside).collect();
        if beside.is_empty() {
            return Ok(Vec::new());
        }
        let mut read = self.read_rights().await?;
        let mut rights = Vec::new();
        for dataset in beside {
            let record = match read.remove(&dataset.name) {
                Some(Ok(right)) => right.kept.record,
                None => continue,
                // The agent keeps what it knows of this one, and hears of the others.
                Some(Err(e)) => {
                    tracing::warn!(dataset = %dataset.name, error = &e as &dyn std::error::Error, "an agent is not told of a dataset");
                    continue;
                }
            };
            let others = dataset.members.iter().filter(|member| member.agent != *agent);
            let peers: BTreeMap<_, _> = others.map(|member| (member.agent.clone(), member.peer)).collect();
            let region = |agent: &AgentId| loaded.config.region_of_agent(agent).cloned();
            rights.push(RightForAgent {
                dataset: dataset.name.clone(),
                right: record.right,
                intervals: record.intervals,
                regions: peers.keys().filter_map(|peer| Some((peer.clone(), region(peer)?))).collect(),
                peers,
            });
        }
        Ok(rights)
    }

    /// Renews a right for its holder, whoever leads (step 2).
    pub(crate) async fn renew_right(
        &self,
        dataset: &DatasetId,
        RenewRequest { renew: asked, writing }: &RenewRequest,
    ) -> Result<RenewAnswer, ApiError> {
        for _ in 0..RENEW_TRIES {
            let Some(ReadRight { kept, revision, .. }) = self.right_of(dataset).await? else {
                return Err(ApiError::not_found(format!("a write right of {dataset}"), Vec::new()));
            };
            let record = kept.record.clone();
            self.must_be_of_this_store(&record.right).await?;
            let renewal = match renew(&record.right, asked) {
                Ok(renewal) => renewal,
                Err(why) => {
                    tracing::info!(%dataset, agent = %asked.from, %why, "a write right was not renewed");
                    return Ok(RenewAnswer::Refused { right: record.right });
                }
            };
            let right = renewal.record().clone();
            let now = self.clock.now();
            let not_writing_since = if *writing { None } else { record.not_writing_since.or(Some(now)) };
            let renewed = kept.with(DatasetRecord { right, renewed_at: now, not_writing_since, ..record });
            if let Some(revision) = self.swap_right(Txn::new(), dataset, revision, &renewed).await? {
                self.datasets.saw(dataset, revision);
                return Ok(RenewAnswer::Renewed { renewed: renewal.committed() });
            }
        }
        let detail = format!(
            "the write right of {dataset} changed {RENEW_TRIES} times meanwhile, or the store was retired or is at a higher level"
        );
        Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "right_contended", detail))
    }

    /// What a copy of a store grants or renews could be granted by the original at the same time: a right counts under the
    /// incarnation that it was granted in.
    async fn must_be_of_this_store(&self, right: &WriteRight) -> Result<(), ApiError> {
        let mut current = self.db.epoch().incarnation;
        if current == 0 {
            // Before a follower's first look.
            current = self.db.get::<Leader>(keys::LEADER).await?.map_or(0, |(l, _)| l.epoch.incarnation);
        }
        if right.incarnation == Incarnation(current) {
            return Ok(());
        }
        let detail = format!(
            "the write right was granted by another store ({}), of which this one ({}) is a copy: nothing is renewed or \
             moved here",
            right.incarnation,
            Incarnation(current)
        );
        Err(ApiError::new(StatusCode::CONFLICT, "another_incarnation", detail))
    }

    /// Grants what nobody has yet, keeps the members as they are wanted, and goes on with what a leader before left.
    pub(crate) async fn run_datasets(self: Arc<Self>) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            if let Err(e) = self.tend_datasets().await {
                self.datasets.went_unread();
                tracing::warn!(error = &e as &dyn std::error::Error, "can't look at datasets");
            }
        }
    }

    /// One reading, to tend by and to show. A right that was taken out of the configuration is still gone on with, where it moves.
    async fn tend_datasets(self: &Arc<Self>) -> Result<(), CoordinatorError> {
        let loaded = self.loaded();
        let read = self.read_datasets().await?;
        let names: BTreeSet<&DatasetId> = loaded.config.datasets.keys().chain(read.rights.keys()).collect();
        for name in names {
            if let Err(e) = self.tend(name, loaded.config.datasets.get(name), &read).await {
                tracing::warn!(dataset = %name, error = &e as &dyn std::error::Error, "can't tend to a dataset");
            }
        }
        self.show_datasets(&loaded.config, &read);
        Ok(())
    }

    async fn tend(
        self: &Arc<Self>,
        name: &DatasetId,
        configured: Option<&Dataset>,
        read: &ReadDatasets,
    ) -> Result<(), CoordinatorError> {
        let ReadRight { kept, revision, .. } = match (read.rights.get(name), configured) {
            (Some(Ok(right)), _) => right,
            // Whoever asks how it stands is told why.
            (Some(Err(_)), _) | (None, None) => return Ok(()),
            (None, Some(dataset)) => return self.grant_first(dataset).await,
        };
        let record = &kept.record;
        if self.datasets.moving().contains_key(name) {
            return Ok(());
        }
        if let RightState::Closing { .. } = record.right.state {
            return self.resume_move(name).await;
        }
        if read.is_moving(name) {
            self.settle_move(name).await?;
        }
        let Some(dataset) = configured else { return Ok(()) };
        let wanted = promotable(dataset, &record.right.holder);
        if record.right.members.promotable == wanted {
            return Ok(());
        }
        match change_members(&record.right, wanted) {
            Ok(right) => {
                if !self.acts() {
                    return Ok(());
                }
                // One that a renewal overtakes is made at the next look.
                let changed = kept.with(DatasetRecord { right, ..record.clone() });
                self.swap_right(self.db.fenced(), name, *revision, &changed).await?;
            }
            Err(why) => tracing::debug!(dataset = %name, %why, "the members stay as they are for now"),
        }
        Ok(())
    }

    /// The first record of a dataset. Its members are acknowledged, since its holder has heard of no others.
    async fn grant_first(&self, dataset: &Dataset) -> Result<(), CoordinatorError> {
        let promotable = promotable(dataset, &dataset.holder);
        let members = Members { version: Generation(1), promotable };
        let right = WriteRight {
            incarnation: Incarnation(self.db.epoch().incarnation),
            generation: WriteGeneration(1),
            holder: dataset.holder.clone(),
            acknowledged: members.clone(),
            members,
            sync_set: BTreeSet::new(),
            state: RightState::Open,
        };
        let (intervals, renewed_at) = (dataset.write_right, self.clock.now());
        let record = Kept::new(DatasetRecord { right, intervals, renewed_at, not_writing_since: None });
        if self.db.create(&keys::write_right(&dataset.name), &record).await? {
            tracing::info!(dataset = %dataset.name, holder = %dataset.holder, "the write right was granted first");
        }
        Ok(())
    }
}
