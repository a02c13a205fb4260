//! Records by number: walked downwards, and where their numbers go on.

use super::{Db, LIST_PAGE, keys};
use crate::audit::number_of_key;
use crate::error::CoordinatorError;
use drover_store::JsonError;
use serde::de::DeserializeOwned;

impl Db {
    /// Reads numbered records below `below`, the highest first, `limit` at most. `last` is the highest number there is.
    ///
    /// The store lists upwards only, so this walks down in windows of numbers; a window that retention has emptied makes
    /// the next one larger.
    ///
    /// One that makes no sense is noted, and hides no other.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_below<T: DeserializeOwned>(
        &self,
        prefix: &str,
        mut below: u64,
        last: u64,
        limit: usize,
    ) -> Result<Vec<(u64, T)>, CoordinatorError> {
        let mut items = Vec::new();
        while items.len() < limit {
            let found = self.list_below_as_it_is(prefix, below, last, limit - items.len()).await?;
            let Some((lowest, _)) = found.last() else { break };
            below = *lowest;
            for (number, read) in found {
                let read = self.sound_or_noted(&keys::numbered(prefix, number), read);
                items.extend(read.map(|record| (number, record)));
            }
        }
        Ok(items)
    }

    /// The same, where a record that is not what was expected is an answer.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_below_as_it_is<T: DeserializeOwned>(
        &self,
        prefix: &str,
        below: u64,
        last: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Result<T, JsonError>)>, CoordinatorError> {
        let mut found = Vec::new();
        let mut high = below.min(last.saturating_add(1));
        let mut width = limit.clamp(1, LIST_PAGE);
        while found.len() < limit && high > 1 {
            let low = high.saturating_sub(width as u64).max(1);
            let mut window = Vec::new();
            let mut after = keys::numbered(prefix, low - 1);
            loop {
                let width = width.min(LIST_PAGE);
                let (items, next) = self.list_page_as_it_is(prefix, Some(after), width).await?;
                let passed = items.last().is_some_and(|(k, _)| *k >= keys::numbered(prefix, high));
                for (key, read) in items {
                    // What has no number of drover's making is none of these.
                    let number = number_of_key(&key);
                    if number < high && key == keys::numbered(prefix, number) {
                        window.push((number, read));
                    }
                }
                match next.filter(|_| !passed) {
                    Some(next) => after = next,
                    None => break,
                }
            }
            width = if window.is_empty() { width.saturating_mul(2) } else { limit.clamp(1, LIST_PAGE) };
            found.extend(window.into_iter().rev());
            high = low;
        }
        found.truncate(limit);
        Ok(found)
    }

    /// The highest number under a prefix, whether a record's own or that of a group such as a run's journal; 0 when
    /// there is none. The store lists upwards only, so the number is halved down to: some forty reads of one record,
    /// however many there are.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn last_number(&self, prefix: &str) -> Result<u64, CoordinatorError> {
        self.last_number_from(prefix, 0).await
    }

    /// The same, where the number is known to be `known` at least: fewer reads, the less was added since.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn last_number_from(&self, prefix: &str, known: u64) -> Result<u64, CoordinatorError> {
        // There is nothing above `high`, and something above every number below `low`. Until something bounds the search
        // from above, its steps double.
        let (mut low, mut high, mut step) = (known, keys::NUMBER_MAX, 1);
        let mut is_bounded = false;
        while low < high {
            let middle = if is_bounded { low + (high - low) / 2 } else { (low + step - 1).min(high - 1) };
            if self.has_number_above(prefix, middle).await? {
                (low, step) = (middle + 1, step * 2);
            } else {
                (high, is_bounded) = (middle, true);
            }
        }
        Ok(low)
    }

    /// Whether a record, or a group, has a higher number. A key that drover never makes has none, whatever stands in it: it
    /// must not be counted on from.
    async fn has_number_above(&self, prefix: &str, number: u64) -> Result<bool, CoordinatorError> {
        // After the last key of that number: `~` comes after `/`.
        let (mut after, mut width) = (format!("{}~", keys::numbered(prefix, number)), 1);
        loop {
            let page = self.store.list(prefix, Some(&after), width).await;
            let page = page.map_err(|e| CoordinatorError::store(format!("list {prefix}"), e))?;
            if page.items.iter().any(|item| group_number(prefix, &item.key).is_some_and(|n| n > number)) {
                return Ok(true);
            }
            match page.next {
                Some(next) => (after, width) = (next, LIST_PAGE),
                None => return Ok(false),
            }
        }
    }
}

/// The number of a record, or of the group that it is of, when its key is one of drover's.
fn group_number(prefix: &str, key: &str) -> Option<u64> {
    let digits = key.strip_prefix(prefix)?.split('/').next()?;
    let number = digits.parse().ok().filter(|number| *number <= keys::NUMBER_MAX)?;
    (keys::numbered(prefix, number).len() == prefix.len() + digits.len()).then_some(number)
}
