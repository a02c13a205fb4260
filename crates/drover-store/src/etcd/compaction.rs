//! Keeping history to what watches need.
//!
//! etcd keeps every value that a key ever had until it is told to forget. Watches that were away for a moment need
//! some of it, nothing needs all of it, and a database that reaches its quota takes no more writes. So one process
//! (the leader) calls [`compact`](crate::EtcdStore::compact) again and again: a revision is written down, and once it
//! is as old as history is to be kept, what lies before it is forgotten and the next one is written down. History is
//! thereby between one and two such lengths long, also when the process was started anew in between.
//!
//! The age is told by wall clocks. One that is wrong can make history too short, after which a watch lists again, or
//! too long: never can it lose a record.

use super::Inner;
use super::failure::Fault;
use super::layout::end_of;
use super::reading::revision_of;
use super::wire::{
    COMPACT, CompactionRequest, CompactionResponse, Compare, RANGE, RangeRequest, RangeResponse, RequestOp,
    TXN, TxnRequest, TxnResponse,
};
use crate::error::ReadError;
use crate::types::Revision;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

/// Marks swept at once.
const SWEEP_MAX: usize = 100;

/// The revision to which history goes next.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Next {
    revision: i64,
    /// When it was the store's latest.
    unix_seconds: u64,
}

/// What one call did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// History before it is gone; `None`: nothing was old enough.
    pub to: Option<Revision>,
    /// Marks of ended processes that were removed.
    pub marks_swept: usize,
}

impl Inner {
    pub(super) async fn compact(&self, keep: Duration) -> Result<Compacted, ReadError> {
        self.compacted(keep).await.map_err(|fault| fault.into_read_error(&self.name))
    }

    async fn compacted(&self, keep: Duration) -> Result<Compacted, Fault> {
        let key = self.layout.compaction();
        let range = RangeRequest { key: key.clone(), ..RangeRequest::default() };
        let answer: RangeResponse = self.ask(RANGE, range).await?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let latest = answer.header.unwrap_or_default().revision;
        let stored = answer.kvs.into_iter().next();
        let put_at = stored.as_ref().map_or(0, |kv| kv.mod_revision);
        // One that can't be read is replaced: it stands for nothing but a wait.
        let next = stored.and_then(|kv| serde_json::from_slice::<Next>(&kv.value).ok());
        let due = next.filter(|next| now.saturating_sub(next.unix_seconds) >= keep.as_secs());
        let mut done = Compacted::default();
        if let Some(due) = due {
            match self
                .ask::<_, CompactionResponse>(COMPACT, CompactionRequest { revision: due.revision })
                .await
            {
                // Somebody else was further already, such as etcd by its own setting.
                Ok(_) | Err(Fault::Compacted) => done.to = Some(revision_of(due.revision)),
                Err(fault) => return Err(fault),
            }
            done.marks_swept = self.sweep(due.revision).await?;
        } else if next.is_some() {
            return Ok(done);
        }
        let next = Next { revision: latest, unix_seconds: now };
        let value = serde_json::to_vec(&next).map_err(|error| Fault::Refused(error.to_string()))?;
        let write = TxnRequest {
            compare: vec![Compare::put_at(key.clone(), put_at)],
            success: vec![RequestOp::put(key, value)],
            failure: Vec::new(),
        };
        // Whoever else wrote it has begun the same wait, so that it does not matter who did.
        self.ask::<_, TxnResponse>(TXN, write).await?;
        Ok(done)
    }

    /// Removes marks that were last used before `revision`. A process that still lives finds its mark gone, and
    /// begins it anew.
    async fn sweep(&self, revision: i64) -> Result<usize, Fault> {
        let key = self.layout.marks();
        let mut swept = 0;
        loop {
            let range = RangeRequest {
                range_end: end_of(&key),
                key: key.clone(),
                limit: i64::try_from(SWEEP_MAX).unwrap_or(i64::MAX),
                keys_only: true,
                max_mod_revision: revision,
                ..RangeRequest::default()
            };
            let old: RangeResponse = self.ask(RANGE, range).await?;
            if old.kvs.is_empty() {
                return Ok(swept);
            }
            let delete = TxnRequest {
                compare: old.kvs.iter().map(|kv| Compare::put_at(kv.key.clone(), kv.mod_revision)).collect(),
                success: old.kvs.iter().map(|kv| RequestOp::delete(kv.key.clone())).collect(),
                failure: Vec::new(),
            };
            let answer: TxnResponse = self.ask(TXN, delete).await?;
            if !answer.succeeded {
                // One of them is in use again: the rest has time until the next call.
                return Ok(swept);
            }
            swept += old.kvs.len();
        }
    }
}
