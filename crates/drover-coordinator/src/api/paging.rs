//! How lists are walked: `limit` items from after `cursor`, newest first.

use super::problem::ApiError;
use axum::extract::{FromRequestParts, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use drover_model::api::Page;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Items in a page, at most and by default.
pub const PAGE_ITEMS_MAX: usize = 200;

/// The query of a request; what is wrong with it comes back as a problem.
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(e) => Err(bad_query(e.body_text())),
        }
    }
}

/// A query that can't be answered.
pub fn bad_query(detail: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "bad_query", detail)
}

/// Of lists whose items have numbers.
#[derive(Debug, Deserialize)]
pub struct Paging {
    cursor: Option<u64>,
    limit: Option<std::num::NonZeroUsize>,
}

/// `limit` as it counts: a larger one is no error, the page then has a next one.
pub fn limited(limit: Option<std::num::NonZeroUsize>) -> usize {
    limit.map_or(PAGE_ITEMS_MAX, |n| n.get().min(PAGE_ITEMS_MAX))
}

impl Paging {
    /// Below `cursor`.
    pub fn new(cursor: Option<u64>, limit: Option<std::num::NonZeroUsize>) -> Self {
        Self { cursor, limit }
    }

    /// Items at most.
    pub fn limit(&self) -> usize {
        limited(self.limit)
    }

    /// Only items with smaller numbers.
    pub fn below(&self) -> u64 {
        self.cursor.unwrap_or(u64::MAX)
    }

    /// One page of what is sorted newest first, by number. More items than [`Self::limit`] tell that there is a next.
    pub fn page<T>(&self, items: Vec<(u64, T)>) -> Page<T> {
        let (limit, below) = (self.limit(), self.below());
        let mut rest = items.into_iter().filter(|(n, _)| *n < below).peekable();
        let mut page = Vec::new();
        let mut last = None;
        while page.len() < limit {
            let Some((n, item)) = rest.next() else { break };
            last = Some(n);
            page.push(item);
        }
        Page { items: page, next_cursor: rest.peek().and(last).map(|n| n.to_string()) }
    }
}
