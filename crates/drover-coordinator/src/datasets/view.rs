//! Datasets as people see them.

use super::intervals_of;
use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::error::CoordinatorError;
use drover_model::Timestamp;
use drover_model::api::{DatasetView, RightStanding};
use drover_model::config::{Config, Dataset};
use drover_model::write_right::{DatasetRecord, MoveRecord, RightState};
use std::collections::BTreeSet;

impl Coordinator {
    /// Every dataset that is configured.
    pub(crate) async fn dataset_views(&self) -> Result<Vec<DatasetView>, CoordinatorError> {
        let loaded = self.loaded();
        let mut views = Vec::new();
        for dataset in loaded.config.datasets.values() {
            let record = self.right_of(&dataset.name).await?.map(|(record, ..)| record);
            let last_move = self.db.get::<MoveRecord>(&keys::dataset_move(&dataset.name)).await?;
            let last_move = last_move.map(|(last, _)| last);
            views.push(match record {
                Some(record) => granted(&loaded.config, dataset, &record, last_move, self.clock.now())?,
                None => ungranted(&loaded.config, dataset),
            });
        }
        Ok(views)
    }
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
    record: &DatasetRecord,
    last_move: Option<MoveRecord>,
    now: Timestamp,
) -> Result<DatasetView, CoordinatorError> {
    let right = &record.right;
    let ago = now.since(record.renewed_at);
    let over = intervals_of(&dataset.name, record)?.over();
    let (standing, target, plan) = match &right.state {
        RightState::Closing { target, plan } => {
            (RightStanding::Closing, Some(target.clone()), Some(plan.clone()))
        }
        RightState::Open if ago > over => (RightStanding::Lapsed, None, None),
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
        renewed_ago: Some(ago),
        target,
        plan,
        ready: wanted.iter().filter(is_ready).cloned().collect(),
        waiting: wanted.iter().filter(|agent| !is_ready(agent)).cloned().collect(),
        intervals: Some(record.intervals),
        intervals_differ: record.intervals != dataset.write_right,
        last_move,
    })
}
