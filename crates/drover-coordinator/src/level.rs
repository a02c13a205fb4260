//! Which level a store is at: what may be in it that an older drover would misread or lose (decision 0039).
//!
//! This drover knows level 1, which is a store without the record. So every condition is that the record is absent: in the
//! transactions by which somebody begins to lead or renews a right, so that nobody who was away while the level was raised
//! does either.

use crate::db::keys;
use crate::error::CoordinatorError;
use drover_store::{Store, get_json};
use serde::{Deserialize, Serialize};

/// What a store of a higher level says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Level {
    /// The level.
    pub level: u32,
    /// The first version that knows it, for people.
    #[serde(default)]
    pub needs: String,
}

/// The level that this drover knows.
pub(crate) const KNOWN: u32 = 1;

/// Refuses a store that is at a higher level, or that says something about it that can't be read.
///
/// # Errors
/// When it is refused, or can't be read.
pub(crate) async fn refuse_higher(store: &dyn Store) -> Result<(), CoordinatorError> {
    match get_json::<Level>(store, keys::LEVEL).await {
        Ok(None) => Ok(()),
        Ok(Some(found)) => Err(refused(&found.value)),
        Err(e) => Err(CoordinatorError::store("look at which level the store is", e)),
    }
}

/// The same, of an export's record.
///
/// # Errors
/// When it is refused.
pub(crate) fn refuse_exported(key: &str, value: &[u8]) -> Result<(), CoordinatorError> {
    if key != keys::LEVEL {
        return Ok(());
    }
    let failed = |e| CoordinatorError::store("look at which level the export is", e);
    Err(refused(&serde_json::from_slice(value).map_err(failed)?))
}

fn refused(found: &Level) -> CoordinatorError {
    CoordinatorError::HigherLevel { level: found.level, needs: found.needs.clone() }
}
