//! All records out of one store, and into another.
//!
//! The hard part is not the copying: a copy of a store can give orders that the original has given already, under the
//! same epochs. So a copy commands under an incarnation of its own, which every receiver refuses until a person has it
//! adopted; unless the file carries the proof that the original gives no orders any more. `retire` makes that proof:
//! in one transaction the leader is deposed and the store marked, and no coordinator starts on it again. What was
//! retired lives on in the copy, under its own incarnation and the next counter.

use crate::clock::Clock;
use crate::db::{Leader, keys};
use crate::error::CoordinatorError;
use crate::level;
use crate::records::STORE_FILE;
use drover_model::{Epoch, Timestamp};
use drover_store::{
    EXPORT_FORMAT, EmbeddedStore, EtcdOptions, EtcdStore, Expect, ExportEnd, ExportError, ExportHeader,
    Exporter, Importer, Page, ReadError, Revision, Store, TXN_BYTES_MAX, TXN_OPS_MAX, Txn, TxnError,
    get_json,
};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes of records in one transaction of an import: one largest record always fits beside them.
const BATCH_BYTES: usize = TXN_BYTES_MAX / 5;
/// Records in one.
const BATCH_RECORDS: usize = TXN_OPS_MAX - 1;

/// A store that is spoken of on the command line.
#[derive(Clone, Debug)]
pub enum Place {
    /// The one in a state directory.
    Embedded(PathBuf),
    /// The one under a prefix of a cluster.
    Etcd(EtcdOptions),
}

impl Place {
    /// How messages name it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Embedded(state) => state.join(STORE_FILE).display().to_string(),
            Self::Etcd(options) => options.name(),
        }
    }

    /// Opens the store, which must be there.
    ///
    /// # Errors
    /// When it is not there, in use by a coordinator (an embedded one), or damaged.
    pub async fn open(&self) -> Result<Opened, CoordinatorError> {
        match self {
            Self::Embedded(state) => {
                let path = state.join(STORE_FILE);
                if !path.is_file() {
                    return Err(CoordinatorError::NoStore { place: self.name() });
                }
                // Reading must not be what fills the disk.
                let options = drover_store::Options { reserve_bytes: 0, ..drover_store::Options::default() };
                let (store, report) = EmbeddedStore::open(path, options).map_err(|e| self.failed(e))?;
                tracing::debug!(?report, "opened");
                Ok(Opened::Embedded(Arc::new(store)))
            }
            Self::Etcd(options) => {
                let found = EtcdStore::open_existing(options.clone()).await.map_err(|e| self.failed(e))?;
                let (store, _) = found.ok_or_else(|| CoordinatorError::NoStore { place: self.name() })?;
                Ok(Opened::Etcd(Arc::new(store)))
            }
        }
    }

    /// Opens the store, or begins it.
    ///
    /// # Errors
    /// When that can't be done.
    pub async fn open_or_begin(&self) -> Result<Opened, CoordinatorError> {
        match self {
            Self::Embedded(state) => {
                std::fs::create_dir_all(state).map_err(|e| self.failed(e))?;
                let options = drover_store::Options::default();
                let (store, _) =
                    EmbeddedStore::open(state.join(STORE_FILE), options).map_err(|e| self.failed(e))?;
                Ok(Opened::Embedded(Arc::new(store)))
            }
            Self::Etcd(options) => {
                let (store, _) = EtcdStore::open(options.clone()).await.map_err(|e| self.failed(e))?;
                Ok(Opened::Etcd(Arc::new(store)))
            }
        }
    }

    fn failed(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CoordinatorError {
        CoordinatorError::OpenStore { place: self.name(), source: source.into() }
    }
}

/// An opened one.
pub enum Opened {
    /// Nobody else has it.
    Embedded(Arc<EmbeddedStore>),
    /// Others may have it, too.
    Etcd(Arc<EtcdStore>),
}

impl Opened {
    /// The store.
    #[must_use]
    pub fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Embedded(store) => store.clone(),
            Self::Etcd(store) => store.clone(),
        }
    }

    /// Its latest revision.
    ///
    /// # Errors
    /// When it can't be asked.
    pub async fn revision(&self) -> Result<Revision, CoordinatorError> {
        self.store().revision().await.map_err(|e| CoordinatorError::store("read the store's revision", e))
    }

    /// Finishes and closes it.
    pub fn close(&self) {
        match self {
            Self::Embedded(store) => store.close(),
            Self::Etcd(store) => store.close(),
        }
    }

    /// A page of all records as they were `at` a revision.
    async fn page(&self, after: Option<&str>, at: Revision) -> Result<Page, ReadError> {
        match self {
            Self::Etcd(store) => store.list_at("", after, 0, at).await,
            // Nobody else has it open, so that all pages show the same.
            Self::Embedded(store) => store.list("", after, 0).await,
        }
    }

    /// Reads every record of one revision, which is all that can be asked of a cluster that checks itself.
    ///
    /// # Errors
    /// When one can't be read.
    pub async fn read_all(
        &self,
        at: Revision,
        mut each: impl FnMut(&str, &[u8]) -> Result<(), CoordinatorError>,
    ) -> Result<u64, CoordinatorError> {
        let failed = |e: ReadError| CoordinatorError::store("read the store's records", e);
        let (mut after, mut records) = (None::<String>, 0);
        loop {
            let page = self.page(after.as_deref(), at).await.map_err(failed)?;
            for entry in &page.items {
                each(&entry.key, &entry.versioned.value)?;
                records += 1;
            }
            after = page.next;
            if after.is_none() {
                return Ok(records);
            }
        }
    }
}

/// Says in a store that no coordinator may start on it any more.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Retired {
    at: Timestamp,
}

/// Says in a store that its records are not all there yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Importing {
    sha256: String,
}

/// Ends a store's use for good: whoever leads is deposed, and nobody leads again. Done twice it is done once.
///
/// # Errors
/// When that can't be written.
pub async fn retire(store: &dyn Store) -> Result<(), CoordinatorError> {
    level::refuse_higher(store).await?;
    let what = "retire the store";
    let failed = |e: TxnError| CoordinatorError::store(what, e);
    let retired =
        get_json::<Retired>(store, keys::RETIRED).await.map_err(|e| CoordinatorError::store(what, e))?;
    if retired.is_some() {
        return Ok(());
    }
    let now = Clock::start().now();
    let held = get_json::<Leader>(store, keys::LEADER).await.map_err(|e| CoordinatorError::store(what, e))?;
    let mut txn = Txn::new().expect(keys::RETIRED, Expect::Absent);
    txn = match held {
        None => txn.expect(keys::LEADER, Expect::Absent),
        Some(held) => {
            // The next epoch, which nobody holds: what the deposed leader has on its way is refused.
            let counter = held.value.epoch.counter.saturating_add(1);
            let nobody = Leader {
                epoch: Epoch { counter, ..held.value.epoch },
                pid: std::process::id(),
                since: now,
                advertise: None,
                // Where these records go, whoever comes first leads at once.
                released: true,
            };
            txn.expect(keys::LEADER, Expect::ModRevision(held.mod_revision))
                .put_json(keys::LEADER, &nobody)
                .map_err(|e| CoordinatorError::store(what, e))?
        }
    };
    let txn =
        txn.put_json(keys::RETIRED, &Retired { at: now }).map_err(|e| CoordinatorError::store(what, e))?;
    store.txn(txn).await.map_err(failed)?;
    Ok(())
}

/// Writes every record of a store.
///
/// # Errors
/// When one can't be read or written.
pub async fn export<W: Write>(
    from: &Opened,
    source: String,
    out: W,
) -> Result<(W, ExportEnd, ExportHeader), CoordinatorError> {
    let what = "export the store";
    let store = from.store();
    let held =
        get_json::<Leader>(&*store, keys::LEADER).await.map_err(|e| CoordinatorError::store(what, e))?;
    let retired =
        get_json::<Retired>(&*store, keys::RETIRED).await.map_err(|e| CoordinatorError::store(what, e))?;
    refuse_unfinished(&*store).await?;
    let revision = from.revision().await?;
    let header = ExportHeader {
        drover_store_export: EXPORT_FORMAT,
        source,
        revision,
        incarnation: held.map(|held| held.value.epoch.incarnation),
        retired: retired.is_some(),
    };
    let failed = |e: ExportError| CoordinatorError::store(what, e);
    let mut exporter = Exporter::begin(out, &header).map_err(failed)?;
    from.read_all(revision, |key, value| exporter.record(key, value).map_err(failed)).await?;
    let (out, end) = exporter.end().map_err(failed)?;
    Ok((out, end, header))
}

/// What an import did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// What the file says of itself.
    pub header: ExportHeader,
    /// Records that were written.
    pub records: u64,
    /// Whether the new store commands under the incarnation of the old one.
    pub keeps_incarnation: bool,
}

/// Rebuilds a store from an export. The file is read twice: whole before the first record is written.
///
/// # Errors
/// When the file is damaged, the store is not empty, or it can't be written. One that was begun and not finished says so
/// to every coordinator.
pub async fn import<R: BufRead>(
    store: &dyn Store,
    file: impl Fn() -> std::io::Result<R>,
) -> Result<Imported, CoordinatorError> {
    let what = "import the records";
    let open = || file().map_err(|e| CoordinatorError::store("open the export", e));
    let end = verify(open()?)?;
    let page = store.list("", None, 1).await.map_err(|e| CoordinatorError::store(what, e))?;
    refuse_unfinished(store).await?;
    if let Some(first) = page.items.first() {
        return Err(CoordinatorError::NotEmpty { key: first.key.clone() });
    }
    let begin = Txn::new()
        .expect(keys::IMPORTING, Expect::Absent)
        .put_json(keys::IMPORTING, &Importing { sha256: end.sha256.clone() })
        .map_err(|e| CoordinatorError::store(what, e))?;
    let failed = |e: TxnError| CoordinatorError::store(what, e);
    let begun = store.txn(begin).await.map_err(failed)?.revision;
    let batch = || Txn::new().expect(keys::IMPORTING, Expect::ModRevision(begun));

    let mut importer = Importer::begin(open()?).map_err(|e| CoordinatorError::store("read the export", e))?;
    let header = importer.header().clone();
    let (mut txn, mut bytes, mut records) = (batch(), 0, 0);
    while let Some((key, value)) =
        importer.next_record().map_err(|e| CoordinatorError::store("read the export", e))?
    {
        if !is_carried_over(&key, &header) {
            continue;
        }
        if txn.ops.len() >= BATCH_RECORDS
            || bytes + key.len() + value.len() > BATCH_BYTES && !txn.ops.is_empty()
        {
            store.txn(std::mem::replace(&mut txn, batch())).await.map_err(failed)?;
            bytes = 0;
        }
        bytes += key.len() + value.len();
        records += 1;
        txn = txn.put(key, value);
    }
    if importer.end() != Some(&end) {
        return Err(CoordinatorError::store(what, ExportError::CutShort { line: records }));
    }
    store.txn(txn).await.map_err(failed)?;
    store.txn(batch().delete(keys::IMPORTING)).await.map_err(failed)?;
    let keeps_incarnation = header.retired && header.incarnation.is_some();
    Ok(Imported { header, records, keeps_incarnation })
}

/// Reads a whole export and says what its end says.
///
/// # Errors
/// When it is damaged, or of a higher level than this drover knows.
pub fn verify(read: impl BufRead) -> Result<ExportEnd, CoordinatorError> {
    let failed = |e: ExportError| CoordinatorError::store("read the export", e);
    let mut importer = Importer::begin(read).map_err(failed)?;
    while let Some((key, value)) = importer.next_record().map_err(failed)? {
        level::refuse_exported(&key, &value)?;
    }
    importer.end().cloned().ok_or_else(|| failed(ExportError::CutShort { line: 0 }))
}

/// The mark of the retired one stays with it. The leader's record goes along only with the proof that nobody leads under
/// it any more; without it the next leader begins an incarnation.
fn is_carried_over(key: &str, header: &ExportHeader) -> bool {
    match key {
        keys::RETIRED | keys::IMPORTING | keys::LEADER_BEAT => false,
        keys::LEADER => header.retired,
        _ => true,
    }
}

/// A store that was retired, or whose import is not finished, is nobody's to lead; one of a higher level is a later drover's.
pub(crate) async fn refuse_unusable(store: &dyn Store) -> Result<(), CoordinatorError> {
    refuse_unfinished(store).await?;
    level::refuse_higher(store).await?;
    let what = "look whether the store may be used";
    let retired =
        get_json::<Retired>(store, keys::RETIRED).await.map_err(|e| CoordinatorError::store(what, e))?;
    match retired {
        None => Ok(()),
        Some(retired) => Err(CoordinatorError::Retired { at: retired.value.at }),
    }
}

async fn refuse_unfinished(store: &dyn Store) -> Result<(), CoordinatorError> {
    let what = "look whether an import was finished";
    let importing =
        get_json::<Importing>(store, keys::IMPORTING).await.map_err(|e| CoordinatorError::store(what, e))?;
    importing
        .map_or(Ok(()), |importing| Err(CoordinatorError::HalfImported { sha256: importing.value.sha256 }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Db;

    async fn filled(directory: &std::path::Path) -> Opened {
        let opened = Place::Embedded(directory.to_owned()).open_or_begin().await.unwrap();
        Db::take_over(opened.store(), Timestamp::from_millis(1), 77).await.unwrap();
        for n in 0..300 {
            let value = if n % 50 == 0 { vec![7; 200 << 10] } else { format!("{{\"n\":{n}}}").into_bytes() };
            opened.store().txn(Txn::new().put(format!("runs/{n:04}"), value)).await.unwrap();
        }
        opened
    }

    async fn exported(opened: &Opened) -> Vec<u8> {
        export(opened, "here".to_owned(), Vec::new()).await.unwrap().0
    }

    async fn all(opened: &Opened) -> Vec<(String, Vec<u8>)> {
        let mut all = Vec::new();
        let each = |key: &str, value: &[u8]| {
            all.push((key.to_owned(), value.to_vec()));
            Ok(())
        };
        opened.read_all(opened.revision().await.unwrap(), each).await.unwrap();
        all
    }

    #[tokio::test]
    async fn a_copy_commands_under_an_incarnation_of_its_own_unless_the_original_was_retired() {
        let (from, copy, moved) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let original = filled(from.path()).await;
        let file = exported(&original).await;
        let target = Place::Embedded(copy.path().to_owned()).open_or_begin().await.unwrap();
        let done = import(&*target.store(), || Ok(file.as_slice())).await.unwrap();
        assert_eq!((done.records, done.keeps_incarnation), (300, false));
        let expected: Vec<_> =
            all(&original).await.into_iter().filter(|(key, _)| key != keys::LEADER).collect();
        assert_eq!(all(&target).await, expected);
        let leads = Db::take_over(target.store(), Timestamp::from_millis(2), 99).await.unwrap();
        assert_eq!(leads.epoch(), Epoch { incarnation: 99, counter: 1 });

        let deposed = Db::take_over(original.store(), Timestamp::from_millis(3), 0).await.unwrap();
        retire(&*original.store()).await.unwrap();
        retire(&*original.store()).await.unwrap();
        assert!(!deposed.leads().await.unwrap(), "whoever led is deposed");
        let refused = Db::take_over(original.store(), Timestamp::from_millis(4), 0).await.err().unwrap();
        assert!(matches!(refused, CoordinatorError::Retired { .. }), "{refused}");
        let file = exported(&original).await;
        let target = Place::Embedded(moved.path().to_owned()).open_or_begin().await.unwrap();
        let done = import(&*target.store(), || Ok(file.as_slice())).await.unwrap();
        assert!(done.keeps_incarnation);
        let leads = Db::take_over(target.store(), Timestamp::from_millis(5), 99).await.unwrap();
        assert_eq!(leads.epoch().incarnation, 77);
        assert!(leads.epoch().counter > deposed.epoch().counter, "above all that was ever given out");
    }

    #[tokio::test]
    async fn nothing_is_written_from_a_damaged_file_or_into_a_store_that_is_not_empty() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let original = filled(from.path()).await;
        let file = exported(&original).await;
        let target = Place::Embedded(to.path().to_owned()).open_or_begin().await.unwrap();
        let cut = &file[..file.len() / 2];
        import(&*target.store(), || Ok(cut)).await.unwrap_err();
        assert_eq!(all(&target).await, []);
        let error = import(&*original.store(), || Ok(file.as_slice())).await.unwrap_err();
        assert!(matches!(error, CoordinatorError::NotEmpty { .. }), "{error}");
    }

    #[tokio::test]
    async fn an_import_that_was_not_finished_is_refused_by_coordinators_and_imports() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = exported(&filled(from.path()).await).await;
        let target = Place::Embedded(to.path().to_owned()).open_or_begin().await.unwrap();
        // The file changes between its two readings, as one that is still being copied does.
        let reads = std::cell::Cell::new(0);
        let half = &file[..file.len() / 2];
        let read = || {
            reads.set(reads.get() + 1);
            Ok(if reads.get() == 1 { file.as_slice() } else { half })
        };
        import(&*target.store(), read).await.unwrap_err();
        let refused = Db::take_over(target.store(), Timestamp::from_millis(1), 1).await.err().unwrap();
        assert!(matches!(refused, CoordinatorError::HalfImported { .. }), "{refused}");
        let again = import(&*target.store(), || Ok(file.as_slice())).await.unwrap_err();
        assert!(matches!(again, CoordinatorError::HalfImported { .. }), "{again}");
    }
}
