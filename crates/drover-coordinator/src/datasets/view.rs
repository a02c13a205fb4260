//! Datasets as people see them.

use super::{Datasets, intervals_of};
use crate::clock::Clock;
use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::error::CoordinatorError;
use drover_exec::write_right::Sighting;
use drover_model::Timestamp;
use drover_model::api::{Attention, DatasetView, RightStanding, Severity};
use drover_model::config::{Config, Dataset};
use drover_model::write_right::{DatasetRecord, MoveRecord, RightState};
use std::collections::BTreeSet;
use std::sync::PoisonError;

impl Datasets {
    /// As they were at the last look.
    pub(crate) fn shown(&self, now: Timestamp) -> Vec<DatasetView> {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for view in &mut views {
            view.renewed_ago = view.renewed_at.map(|at| now.since(at));
        }
        views
    }
}

impl Coordinator {
    /// Reads what `status` shows of datasets.
    pub(crate) async fn look_at_datasets(&self) -> Result<(), CoordinatorError> {
        let views = self.dataset_views().await?;
        *self.datasets.views.lock().unwrap_or_else(PoisonError::into_inner) = views;
        Ok(())
    }

    /// Every dataset that is configured.
    pub(crate) async fn dataset_views(&self) -> Result<Vec<DatasetView>, CoordinatorError> {
        let loaded = self.loaded();
        let mut views = Vec::new();
        for dataset in loaded.config.datasets.values() {
            let seen = self.right_of(&dataset.name).await?.map(|(record, _, sighting)| (record, sighting));
            let last_move = self.db.get::<MoveRecord>(&keys::dataset_move(&dataset.name)).await?;
            let last_move = last_move.map(|(last, _)| last);
            views.push(match seen {
                Some(seen) => granted(&loaded.config, dataset, &seen, last_move, self.clock.now())?,
                None => ungranted(&loaded.config, dataset),
            });
        }
        Ok(views)
    }
}

/// What a person should do about a dataset.
pub(crate) fn attention(view: &DatasetView) -> Option<Attention> {
    let id = &view.dataset;
    let (severity, code, sentence, next) = match (view.standing, &view.target) {
        (RightStanding::Lapsed, _) => (
            Severity::Critical,
            "dataset_unwritten",
            format!(
                "{} does not renew its right to write {id}: nobody writes, unless every other member vouches for it",
                view.holder
            ),
            format!("drover dataset move {id} --to REGION --reason TEXT"),
        ),
        (RightStanding::Closing, Some(target)) => (
            Severity::Warning,
            "dataset_moving",
            format!("the right to write {id} goes from {} to {target}", view.holder),
            format!("drover dataset status {id}"),
        ),
        _ => return None,
    };
    let (subject, code) = (id.to_string(), code.to_owned());
    Some(Attention { severity, subject, sentence, code, next: Some(next), since: view.renewed_at })
}

fn ungranted(config: &Config, dataset: &Dataset) -> DatasetView {
    DatasetView {
        dataset: dataset.name.clone(),
        standing: RightStanding::Ungranted,
        holder: dataset.holder.clone(),
        region: config.region_of_agent(&dataset.holder).cloned(),
        generation: None,
        renewed_at: None,
        renewed_ago: None,
        target: None,
        plan: None,
        ready: BTreeSet::new(),
        waiting: dataset.agents(),
        intervals: None,
        intervals_differ: false,
        last_move: None,
    }
}

fn granted(
    config: &Config,
    dataset: &Dataset,
    (record, sighting): &(DatasetRecord, Sighting),
    last_move: Option<MoveRecord>,
    now: Timestamp,
) -> Result<DatasetView, CoordinatorError> {
    let right = &record.right;
    // What was not renewed while nobody looked says nothing: a holder renews again once a coordinator answers.
    let unrenewed = Clock::boot().since(sighting.since());
    let over = intervals_of(&dataset.name, record)?.over();
    let (standing, target, plan) = match &right.state {
        RightState::Closing { target, plan } => {
            (RightStanding::Closing, Some(target.clone()), Some(plan.clone()))
        }
        RightState::Open if unrenewed > over => (RightStanding::Lapsed, None, None),
        RightState::Open => (RightStanding::Held, None, None),
    };
    let is_ready = |agent: &&drover_model::AgentId| right.acknowledged.promotable.contains(*agent);
    let wanted = &right.members.promotable;
    Ok(DatasetView {
        dataset: dataset.name.clone(),
        standing,
        holder: right.holder.clone(),
        region: config.region_of_agent(&right.holder).cloned(),
        generation: Some(right.generation),
        renewed_at: Some(record.renewed_at),
        renewed_ago: Some(now.since(record.renewed_at)),
        target,
        plan,
        ready: wanted.iter().filter(is_ready).cloned().collect(),
        waiting: wanted.iter().filter(|agent| !is_ready(agent)).cloned().collect(),
        intervals: Some(record.intervals),
        intervals_differ: record.intervals != dataset.write_right,
        last_move,
    })
}
