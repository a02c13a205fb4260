//! Reading what may make no sense: a record that somebody damaged, or wrote by hand, or that another version of drover
//! wrote. It is noted and named, and whoever reads decides whether it can do without it; nobody ends because of it.

use super::{Db, LIST_PAGE};
use crate::error::CoordinatorError;
use crate::kinds::Placed;
use crate::unreadable::Unreadable;
use drover_store::{JsonError, Revision};
use serde::de::DeserializeOwned;

impl Db {
    /// What was read and makes no sense.
    pub(crate) fn unreadable(&self) -> &Unreadable {
        &self.unreadable
    }

    /// The error of a record that was not read; noted, when that lies in the record.
    pub(super) fn not_read(&self, key: &str, error: JsonError) -> CoordinatorError {
        let error = CoordinatorError::store(format!("read {key}"), error);
        if error.is_of_one_record() {
            self.unreadable.note(key, &error);
        }
        error
    }

    /// The record, or nothing where it makes no sense.
    pub(super) fn sound_or_noted<T>(&self, key: &str, read: Result<T, JsonError>) -> Option<T> {
        read.map_err(|error| self.not_read(key, error)).ok()
    }

    /// Reads every record under a prefix, where one that is missing would be another world: a run's journal.
    ///
    /// # Errors
    /// When the store fails or a record is not what was expected.
    pub(crate) async fn list_whole<T: DeserializeOwned>(
        &self,
        prefix: &str,
    ) -> Result<Vec<(String, T)>, CoordinatorError> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let (items, next) = self.list_page_as_it_is(prefix, after, LIST_PAGE).await?;
            for (key, read) in items {
                let value = read.map_err(|error| self.not_read(&key, error))?;
                all.push((key, value));
            }
            match next {
                Some(next) => after = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// As [`Db::list`], of records that say where they belong: one that lies elsewhere speaks for nothing.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn list_placed<T: Placed>(
        &self,
        prefix: &str,
    ) -> Result<Vec<(String, T)>, CoordinatorError> {
        let placed = |(key, record): (String, T)| {
            let read = record.in_its_place(&key);
            self.sound_or_noted(&key, read).map(|record| (key, record))
        };
        Ok(self.list::<T>(prefix).await?.into_iter().filter_map(placed).collect())
    }

    /// As [`Db::get`], of a record that says where it belongs.
    ///
    /// # Errors
    /// When the store fails or the record is not what was expected.
    pub(crate) async fn get_placed<T: Placed>(
        &self,
        key: &str,
    ) -> Result<Option<(T, Revision)>, CoordinatorError> {
        let Some((record, revision)) = self.get::<T>(key).await? else { return Ok(None) };
        let record = record.in_its_place(key).map_err(|error| self.not_read(key, error))?;
        Ok(Some((record, revision)))
    }

    /// As [`Db::get`], where what makes no sense counts as if it were not there; it is noted.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn get_sound<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<(T, Revision)>, CoordinatorError> {
        match self.get(key).await {
            Err(e) if e.is_of_one_record() => Ok(None),
            read => read,
        }
    }
}
