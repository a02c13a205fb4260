//! Reads: always through the leader's agreement, so that nobody is shown less than he was told was committed.

use super::Inner;
use super::failure::Fault;
use super::layout::end_of;
use super::wire::{KeyValue, RANGE, RangeRequest, RangeResponse};
use crate::error::ReadError;
use crate::types::{Entry, LIST_LIMIT_MAX, PAGE_BYTES_MAX, Page, Revision, Versioned};

/// Records of the first request of a page. If all were largest values, that would be 128 MiB; as they are, some tens
/// of KiB, after which the rest of the page is asked for by what they weighed.
const FIRST_REQUEST: usize = 128;

pub(super) fn revision_of(revision: i64) -> Revision {
    Revision(u64::try_from(revision).unwrap_or(0))
}

pub(super) fn versioned(kv: KeyValue) -> Versioned {
    Versioned {
        value: kv.value,
        create_revision: revision_of(kv.create_revision),
        mod_revision: revision_of(kv.mod_revision),
    }
}

impl Inner {
    pub(super) async fn read(&self, request: RangeRequest) -> Result<RangeResponse, ReadError> {
        self.ask(RANGE, request).await.map_err(|fault| fault.into_read_error(&self.name))
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Versioned>, ReadError> {
        let request = RangeRequest { key: self.layout.record(key), ..RangeRequest::default() };
        Ok(self.read(request).await?.kvs.into_iter().next().map(versioned))
    }

    pub(super) async fn revision(&self) -> Result<Revision, ReadError> {
        let request = RangeRequest { key: self.layout.own(), count_only: true, ..RangeRequest::default() };
        let header = self.read(request).await?.header.unwrap_or_default();
        Ok(revision_of(header.revision))
    }

    pub(super) async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, ReadError> {
        // A page whose snapshot is compacted between two requests is begun again; a second time can't be chance.
        match self.page(prefix, after, limit, Revision(0)).await {
            Err(Fault::Compacted) => self.page(prefix, after, limit, Revision(0)).await,
            page => page,
        }
        .map_err(|fault| fault.into_read_error(&self.name))
    }

    pub(super) async fn list_at(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Revision,
    ) -> Result<Page, ReadError> {
        self.page(prefix, after, limit, at).await.map_err(|fault| fault.into_read_error(&self.name))
    }

    /// One page, in requests that stay small, all of one revision: the given one, or where that is zero what the first
    /// request finds.
    async fn page(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Revision,
    ) -> Result<Page, Fault> {
        let limit = if limit == 0 { LIST_LIMIT_MAX } else { limit.min(LIST_LIMIT_MAX) };
        let start = self.layout.record(prefix);
        let range_end = end_of(&start);
        let mut key = match after {
            Some(after) if after >= prefix => just_after(self.layout.record(after)),
            _ => start,
        };
        // Also past the end, where etcd would read backwards as "nothing": it has the revision to tell.
        if key >= range_end {
            key.clone_from(&range_end);
        }
        let mut page = Page { items: Vec::new(), revision: at, next: None };
        let (mut bytes, mut count) = (0, limit.min(FIRST_REQUEST));
        loop {
            let request = RangeRequest {
                key: key.clone(),
                range_end: range_end.clone(),
                limit: i64::try_from(count).unwrap_or(i64::MAX),
                revision: i64::try_from(page.revision.0).unwrap_or(i64::MAX),
                ..RangeRequest::default()
            };
            let answer: RangeResponse = match self.ask(RANGE, request).await {
                Err(Fault::TooLargeAnswer(_)) if count > 1 => {
                    count /= 2;
                    continue;
                }
                answer => answer?,
            };
            if page.revision == Revision(0) {
                page.revision = revision_of(answer.header.unwrap_or_default().revision);
            }
            let mut more = answer.more;
            for kv in answer.kvs {
                if page.items.len() >= limit || bytes >= PAGE_BYTES_MAX {
                    more = true;
                    break;
                }
                key = just_after(kv.key.clone());
                let Some(record) = self.layout.key_of(&kv.key) else { continue };
                bytes += kv.value.len();
                page.items.push(Entry { key: record, versioned: versioned(kv) });
            }
            if !more {
                return Ok(page);
            }
            if page.items.len() >= limit || bytes >= PAGE_BYTES_MAX {
                page.next = page.items.last().map(|entry| entry.key.clone());
                return Ok(page);
            }
            let by_weight = (PAGE_BYTES_MAX - bytes) * page.items.len().max(1) / bytes.max(1);
            count = by_weight.clamp(1, limit - page.items.len());
        }
    }
}

/// The key that follows `key` directly.
fn just_after(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}
