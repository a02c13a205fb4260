//! Whether it is still the store that was opened.
//!
//! Behind the same endpoints another cluster can appear: an empty one, a copy, or this one as it was at a snapshot an
//! hour ago. All of them answer without a word about it, and the last would let orders be given twice that were
//! already carried out. Three things tell: the cluster's id, which is also written down in the store's own record;
//! that record's creation, which every transaction compares; and the revision, which a linearizable answer never
//! takes back. Once one of them is wrong, nothing more is asked or told until the store is opened again.

use super::failure::Fault;
use super::wire::Header;
use serde::{Deserialize, Serialize};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

/// The format of keys and records in etcd.
pub(super) const FORMAT: u32 = 1;

/// The store's own record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Own {
    pub format: u32,
    /// The cluster in which the store was begun, in hexadecimal as `etcdctl` prints it.
    pub cluster_id: String,
}

#[derive(Debug, Default)]
pub(super) struct Identity {
    cluster_id: OnceLock<u64>,
    /// The highest revision that any answer told.
    floor: AtomicI64,
    /// When the store's own record was created.
    begun: AtomicI64,
    refusal: OnceLock<String>,
}

impl Identity {
    /// Take it before a request goes out: its answer can't be older.
    pub(super) fn floor(&self) -> i64 {
        self.floor.load(Ordering::Acquire)
    }

    pub(super) fn begun(&self) -> i64 {
        self.begun.load(Ordering::Acquire)
    }

    pub(super) fn begin(&self, created: i64) {
        self.begun.store(created, Ordering::Release);
    }

    /// The cluster that answered first; zero when none did.
    pub(super) fn cluster_id(&self) -> u64 {
        self.cluster_id.get().copied().unwrap_or(0)
    }

    /// Says whether nothing more may be asked.
    pub(super) fn check(&self) -> Result<(), Fault> {
        self.refusal.get().map_or(Ok(()), |reason| Err(Fault::Refused(reason.clone())))
    }

    /// Nothing more is asked of this store.
    pub(super) fn refuse(&self, reason: &str) -> Fault {
        let what_to_do =
            "drover uses it no more until it is started again; compare `etcdctl endpoint status --cluster`";
        let reason = self.refusal.get_or_init(|| format!("{reason}; {what_to_do}"));
        tracing::error!(%reason, "the store in etcd is not the one that was opened");
        Fault::Refused(reason.clone())
    }

    /// Judges an answer to a request that went out when the floor was `floor`.
    pub(super) fn accept(&self, header: Option<&Header>, floor: i64) -> Result<(), Fault> {
        let Some(header) = header else {
            return Err(Fault::Unclear("an answer does not say from which cluster it comes".to_owned()));
        };
        self.accept_cluster(header)?;
        if header.revision < floor {
            return Err(self.refuse(&format!(
                "etcd answered with revision {}, after {floor} was seen: it was put back to an earlier state, as by \
                 restoring a snapshot",
                header.revision
            )));
        }
        self.floor.fetch_max(header.revision, Ordering::AcqRel);
        Ok(())
    }

    /// Judges the cluster alone: the member that serves a watch may lag behind.
    pub(super) fn accept_cluster(&self, header: &Header) -> Result<(), Fault> {
        let first = *self.cluster_id.get_or_init(|| header.cluster_id);
        if first == header.cluster_id {
            return Ok(());
        }
        Err(self
            .refuse(&format!("etcd cluster {first:016x} was opened, and {:016x} answers", header.cluster_id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(cluster_id: u64, revision: i64) -> Header {
        Header { cluster_id, member_id: 1, revision }
    }

    #[test]
    fn a_revision_taken_back_ends_it_and_answers_out_of_order_do_not() {
        let identity = Identity::default();
        let floor = identity.floor();
        identity.accept(Some(&header(7, 10)), floor).unwrap();
        // Asked beside the first, answered after it.
        identity.accept(Some(&header(7, 9)), floor).unwrap();
        assert_eq!(identity.floor(), 10);
        identity.accept(Some(&header(7, 10)), identity.floor()).unwrap();
        let Err(Fault::Refused(told)) = identity.accept(Some(&header(7, 9)), identity.floor()) else {
            panic!()
        };
        assert!(told.contains("revision 9, after 10"), "{told}");
        assert!(identity.check().is_err(), "for good");
    }

    #[test]
    fn another_cluster_ends_it() {
        let identity = Identity::default();
        identity.accept(Some(&header(7, 10)), 0).unwrap();
        let told = identity.accept(Some(&header(8, 11)), 0).unwrap_err().reason();
        assert!(told.contains("0000000000000007") && told.contains("0000000000000008"), "{told}");
        assert_eq!(identity.check().unwrap_err().reason(), told);
    }
}
