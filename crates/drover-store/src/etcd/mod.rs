//! The store in an etcd cluster: no single machine whose loss would be the loss of the records.
//!
//! Read `transaction` for how a lost answer is found out, `identity` for how a cluster that was put back to an earlier
//! state is told from the one that was opened, `watching` for what a member's death means to a watch.

mod compaction;
mod failure;
mod identity;
mod layout;
mod marks;
mod members;
mod options;
mod reading;
#[cfg(test)]
mod tests;
mod transaction;
mod watching;
mod wire;

pub use compaction::Compacted;
pub use failure::OpenEtcdError;
pub use options::{ETCD_ENDPOINTS_MAX, ETCD_PREFIX_BYTES_MAX, EtcdOptions};

use crate::error::{ReadError, TxnError};
use crate::store::Store;
use crate::types::{Committed, Page, Revision, Txn, Versioned};
use crate::watch::{WATCHERS_MAX, Watch};
use async_trait::async_trait;
use failure::Fault;
use identity::{FORMAT, Identity, Own};
use layout::{Layout, end_of};
use marks::Marks;
use members::{Attempts, Members};
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use wire::{Compare, RangeRequest, RequestOp, TXN, TxnRequest, TxnResponse};

/// The implementation of [`Store`] in an etcd cluster.
///
/// Every call is tried at one member after another until its time is over, and then refused with the reason: reads,
/// too, because what can't be agreed on may be old. Dropping the store ends its watches.
#[derive(Debug)]
pub struct EtcdStore {
    inner: Arc<Inner>,
    closing: watch::Sender<bool>,
}

/// What was found when a store was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdReport {
    /// Whether the store was begun by this.
    pub created: bool,
    /// The cluster, as `etcdctl` prints it.
    pub cluster_id: String,
    /// Its revision, which other installations in it move, too.
    pub revision: Revision,
}

#[derive(Debug)]
struct Inner {
    name: String,
    options: EtcdOptions,
    layout: Layout,
    members: Members,
    identity: Identity,
    marks: Marks,
    watchers: Arc<Semaphore>,
    closed: watch::Receiver<bool>,
}

impl EtcdStore {
    /// Opens the store under the options' prefix, or begins it there. Needs a runtime.
    ///
    /// # Errors
    /// See [`OpenEtcdError`]: each says what to do next.
    pub async fn open(options: EtcdOptions) -> Result<(Self, EtcdReport), OpenEtcdError> {
        let inner = Self::prepared(options)?;
        let mut created = false;
        while !inner.0.find().await? {
            created |= inner.0.begin().await?;
        }
        Self::opened(inner, created).await
    }

    /// Opens the store under the options' prefix; `None` when there is none.
    ///
    /// # Errors
    /// See [`OpenEtcdError`]: each says what to do next.
    pub async fn open_existing(options: EtcdOptions) -> Result<Option<(Self, EtcdReport)>, OpenEtcdError> {
        let inner = Self::prepared(options)?;
        if !inner.0.find().await? {
            return Ok(None);
        }
        Self::opened(inner, false).await.map(Some)
    }

    fn prepared(options: EtcdOptions) -> Result<(Inner, watch::Sender<bool>), OpenEtcdError> {
        options.validate()?;
        let (closing, closed) = watch::channel(false);
        let inner = Inner {
            name: options.name(),
            layout: Layout::new(&options.prefix),
            members: Members::new(&options)?,
            identity: Identity::default(),
            marks: Marks::new(options.in_flight_max),
            watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
            closed,
            options,
        };
        Ok((inner, closing))
    }

    async fn opened(
        (inner, closing): (Inner, watch::Sender<bool>),
        created: bool,
    ) -> Result<(Self, EtcdReport), OpenEtcdError> {
        let report = EtcdReport {
            created,
            cluster_id: format!("{:016x}", inner.identity.cluster_id()),
            revision: inner.revision().await?,
        };
        Ok((Self { inner: Arc::new(inner), closing }, report))
    }

    /// Refuses later calls as `Closed`, and ends all watches.
    pub fn close(&self) {
        self.inner.marks.close();
        self.closing.send_replace(true);
    }

    /// The latest revision that any answer told. Whoever opens the store again can know by it that it did not go back.
    #[must_use]
    pub fn seen(&self) -> Revision {
        reading::revision_of(self.inner.identity.floor())
    }

    /// How messages name this store.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// As [`Store::list`], of the store as it was at a revision that is not compacted yet.
    ///
    /// # Errors
    /// When it can't be read, or not any more.
    pub async fn list_at(
        &self,
        prefix: &str,
        after_key: Option<&str>,
        limit: usize,
        at: Revision,
    ) -> Result<Page, ReadError> {
        self.inner.check_open()?;
        self.inner.list_at(prefix, after_key, limit, at).await
    }

    /// Forgets history that is older than `keep`, if some is old enough; to be called again and again, a few times in
    /// `keep`, by one process. The history of a cluster is one: other installations in it lose theirs, too.
    ///
    /// # Errors
    /// When the cluster can't be asked. Nothing is lost then.
    pub async fn compact(&self, keep: Duration) -> Result<Compacted, ReadError> {
        self.inner.compact(keep).await
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    /// Finds the store's own record, and whether it belongs here.
    async fn find(&self) -> Result<bool, OpenEtcdError> {
        let own = RangeRequest { key: self.layout.own(), ..RangeRequest::default() };
        let Some(own) = self.read(own).await?.kvs.into_iter().next() else { return Ok(false) };
        self.check_opened(&own.value)?;
        self.identity.begin(own.create_revision);
        Ok(true)
    }

    fn check_opened(&self, value: &[u8]) -> Result<(), OpenEtcdError> {
        let odd = || OpenEtcdError::Format {
            key: String::from_utf8_lossy(&self.layout.own()).into_owned(),
            found: String::from_utf8_lossy(value).chars().take(200).collect(),
        };
        let own: Own = serde_json::from_slice(value).map_err(|_| odd())?;
        if own.format != FORMAT {
            return Err(odd());
        }
        let begun = u64::from_str_radix(&own.cluster_id, 16).map_err(|_| odd())?;
        let now = self.identity.cluster_id();
        if begun == now || self.options.accepts_restored {
            Ok(())
        } else {
            Err(OpenEtcdError::OtherCluster { begun, now })
        }
    }

    /// Writes the store's own record where nothing is; `false` when another process was first.
    async fn begin(&self) -> Result<bool, OpenEtcdError> {
        let root = self.layout.root();
        let all =
            RangeRequest { range_end: end_of(&root), key: root, count_only: true, ..RangeRequest::default() };
        let keys = self.read(all).await?.count;
        if keys != 0 {
            let own = RangeRequest { key: self.layout.own(), count_only: true, ..RangeRequest::default() };
            if self.read(own).await?.count != 0 {
                return Ok(false);
            }
            return Err(OpenEtcdError::Foreign { prefix: self.options.prefix.clone(), keys });
        }
        let own = Own { format: FORMAT, cluster_id: format!("{:016x}", self.identity.cluster_id()) };
        let value = serde_json::to_vec(&own)
            .map_err(|error| OpenEtcdError::Options { problem: error.to_string() })?;
        let begin = TxnRequest {
            compare: vec![Compare::created_at(self.layout.own(), 0)],
            success: vec![RequestOp::put(self.layout.own(), value)],
            failure: Vec::new(),
        };
        let answer: TxnResponse =
            self.ask(TXN, begin).await.map_err(|fault| fault.into_txn_error(&self.name))?;
        Ok(answer.succeeded)
    }

    /// One attempt at one member. Whoever calls again is served by another.
    async fn once<Asked, Answered>(&self, path: &'static str, request: Asked) -> Result<Answered, Fault>
    where
        Asked: Message + 'static,
        Answered: wire::Answer,
    {
        self.identity.check()?;
        let (member, floor) = (self.members.current(), self.identity.floor());
        match self.members.call::<Asked, Answered>(member, path, request).await {
            Ok(answer) => {
                self.identity.accept(answer.header(), floor)?;
                Ok(answer)
            }
            Err(fault) => {
                if fault.passes() {
                    self.members.leave(member);
                }
                Err(fault)
            }
        }
    }

    /// Asks until there is an answer or the call's time is over. Only for what may be done twice.
    async fn ask<Asked, Answered>(&self, path: &'static str, request: Asked) -> Result<Answered, Fault>
    where
        Asked: Message + Clone + 'static,
        Answered: wire::Answer,
    {
        let mut attempts = Attempts::new(&self.options);
        loop {
            let fault = match self.once(path, request.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            if !fault.passes() || !attempts.pause().await {
                return Err(fault);
            }
        }
    }

    fn check_open(&self) -> Result<(), ReadError> {
        if *self.closed.borrow() { Err(ReadError::Closed) } else { Ok(()) }
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn get(&self, key: &str) -> Result<Option<Versioned>, ReadError> {
        self.inner.check_open()?;
        self.inner.get(key).await
    }

    async fn list(&self, prefix: &str, after_key: Option<&str>, limit: usize) -> Result<Page, ReadError> {
        self.inner.check_open()?;
        self.inner.list(prefix, after_key, limit).await
    }

    async fn txn(&self, txn: Txn) -> Result<Committed, TxnError> {
        self.inner.txn(&txn).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, ReadError> {
        self.inner.check_open()?;
        watching::watch(&self.inner, self.closing.subscribe(), prefix, after).await
    }

    async fn revision(&self) -> Result<Revision, ReadError> {
        self.inner.check_open()?;
        self.inner.revision().await
    }
}
