//! What the store has of all datasets: one list of the rights and one of the moves, however many there are.

use super::kept::Kept;
use crate::clock::Clock;
use crate::coordinator::Coordinator;
use crate::db::{LIST_PAGE, keys};
use crate::error::CoordinatorError;
use drover_exec::write_right::Sighting;
use drover_model::DatasetId;
use drover_model::write_right::{BootTime, MoveRecord};
use drover_store::Revision;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// A right as it was read.
#[derive(Debug)]
pub(super) struct ReadRight {
    pub(super) kept: Kept,
    pub(super) revision: Revision,
    /// When this coordinator first saw it so.
    pub(super) sighting: Sighting,
}

/// Rights by dataset. One that makes no sense hides no other.
pub(super) type ReadRights = BTreeMap<DatasetId, Result<ReadRight, CoordinatorError>>;

/// All that is kept of datasets.
pub(super) struct ReadDatasets {
    pub(super) rights: ReadRights,
    /// The last move of each that ever moved.
    pub(super) moves: BTreeMap<DatasetId, Result<MoveRecord, CoordinatorError>>,
    /// When that was.
    pub(super) at: BootTime,
}

impl ReadDatasets {
    /// A move whose end nobody wrote down.
    pub(super) fn is_moving(&self, dataset: &DatasetId) -> bool {
        matches!(self.moves.get(dataset), Some(Ok(last)) if last.ended.is_none())
    }
}

/// A key below a prefix, as a dataset's name. No other key is ever written there.
fn dataset_of(key: &str, prefix: &str) -> Option<DatasetId> {
    DatasetId::new(key.strip_prefix(prefix)?).ok()
}

/// What is below a key, by dataset and with its revision, or why it makes no sense.
type Listed<T> = BTreeMap<DatasetId, Result<(T, Revision), CoordinatorError>>;

impl Coordinator {
    async fn list_of_datasets<T: DeserializeOwned>(
        &self,
        prefix: &str,
    ) -> Result<Listed<T>, CoordinatorError> {
        let (mut all, mut after) = (Listed::new(), None::<String>);
        loop {
            let page = self.db.store().list(prefix, after.as_deref(), LIST_PAGE).await;
            let page = page.map_err(|e| CoordinatorError::store(format!("list {prefix}"), e))?;
            for item in page.items {
                let Some(dataset) = dataset_of(&item.key, prefix) else { continue };
                let read = item.versioned.decode_json(&item.key).map(|read| (read.value, read.mod_revision));
                let unreadable = |e| CoordinatorError::store(format!("read {}", item.key), e);
                all.insert(dataset, read.map_err(unreadable));
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// Every right that is in the store, configured or not.
    pub(super) async fn read_rights(&self) -> Result<ReadRights, CoordinatorError> {
        let listed = self.list_of_datasets::<Kept>(keys::WRITE_RIGHTS).await?;
        let seen = |(dataset, read): (DatasetId, Result<(Kept, Revision), CoordinatorError>)| {
            let right = read.map(|(kept, revision)| {
                let sighting = self.datasets.saw(&dataset, revision);
                ReadRight { kept, revision, sighting }
            });
            (dataset, right)
        };
        Ok(listed.into_iter().map(seen).collect())
    }

    /// The moves as well.
    pub(super) async fn read_datasets(&self) -> Result<ReadDatasets, CoordinatorError> {
        let rights = self.read_rights().await?;
        let listed = self.list_of_datasets::<MoveRecord>(keys::DATASET_MOVES).await?;
        let moves = listed.into_iter().map(|(dataset, read)| (dataset, read.map(|(last, _)| last))).collect();
        Ok(ReadDatasets { rights, moves, at: Clock::boot() })
    }
}
