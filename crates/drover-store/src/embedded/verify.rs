//! Reading the whole store before any of it is trusted.
//!
//! Three layers, each for what the one below can't see: redb verifies its page checksums and rebuilds its
//! allocator; every record's envelope is checked against its key; and the records must add up to the totals.

use super::backend::{BackendHandle, HeldBackend};
use super::envelope::{Envelope, u32_at};
use super::failure::Failure;
use super::space::Reserve;
use super::totals::Totals;
use crate::types::{Revision, validate_key};
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Arc;

/// Key → envelope. Keys as bytes: a damaged `&str` key would panic inside redb.
pub(crate) const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
/// What the store knows of itself: `format` and `totals`. This table's name, types and `format` never change, so
/// that every later version can tell what it has before it.
pub(crate) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(crate) const META_FORMAT: &str = "format";
pub(crate) const META_TOTALS: &str = "totals";

/// A store whose pages are sound, its writes still held.
#[derive(Debug)]
pub(crate) struct Opened {
    pub database: Database,
    pub backend: BackendHandle,
    pub format: u32,
}

/// Opens the file, every page verified, nothing of it changed.
pub(crate) fn open_held(path: &Path, reserve: &Arc<Reserve>, cache_bytes: usize) -> Result<Opened, Failure> {
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(Failure::Io)?;
    if file.metadata().map_err(Failure::Io)?.len() == 0 {
        // redb would make a new, empty store of it.
        return Err(Failure::Corrupt("the file is empty".to_owned()));
    }
    let (backend, handle) = HeldBackend::new(file, Arc::clone(reserve)).map_err(Failure::Io)?;
    let (database, format) = Failure::catch(|| {
        let database = Builder::new()
            .set_cache_size(cache_bytes)
            .set_check_integrity_on_open(true)
            .create_with_backend(backend)
            .map_err(Failure::of)?;
        let format = read_format(&database)?;
        Ok((database, format))
    })?;
    Ok(Opened { database, backend: handle, format })
}

/// The format in the store: a number and its checksum.
fn read_format(database: &Database) -> Result<u32, Failure> {
    let read = database.begin_read().map_err(Failure::of)?;
    let meta = read.open_table(META).map_err(Failure::of)?;
    let stored = meta.get(META_FORMAT).map_err(Failure::of)?;
    let bytes = stored.as_ref().map(|stored| stored.value()).unwrap_or_default();
    if bytes.len() != 8 || crc32c::crc32c(&bytes[..4]) != u32_at(bytes, 4) {
        return Err(Failure::Corrupt("its format number is missing or damaged".to_owned()));
    }
    Ok(u32_at(bytes, 0))
}

/// How a format is stored.
pub(crate) fn encode_format(format: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&format.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..4]);
    bytes[4..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Checks every record, and that they add up; the totals they add up to.
pub(crate) fn verify_records(database: &Database) -> Result<Totals, Failure> {
    Failure::catch(|| {
        let read = database.begin_read().map_err(Failure::of)?;
        let meta = read.open_table(META).map_err(Failure::of)?;
        let stored = meta.get(META_TOTALS).map_err(Failure::of)?;
        let stored = stored.and_then(|stored| Totals::decode(stored.value()));
        let stored =
            stored.ok_or_else(|| Failure::Corrupt("its totals are missing or damaged".to_owned()))?;
        let mut counted = Totals { revision: stored.revision, ..Totals::default() };
        let records = read.open_table(RECORDS).map_err(Failure::of)?;
        for record in records.iter().map_err(Failure::of)? {
            let (key, value) = record.map_err(Failure::of)?;
            counted.add(verify_record(key.value(), value.value(), stored.revision)?);
        }
        if counted != stored {
            return Err(Failure::Corrupt(format!(
                "it has {} records with digest {:016x}, its totals say {} with {:016x}",
                counted.records, counted.digest, stored.records, stored.digest
            )));
        }
        Ok(counted)
    })
}

/// Checks one record; its part in the digest.
fn verify_record(key: &[u8], value: &[u8], latest: Revision) -> Result<u64, Failure> {
    let named =
        |problem: String| Failure::Corrupt(format!("key {:?}: {problem}", String::from_utf8_lossy(key)));
    let text = std::str::from_utf8(key).map_err(|error| named(error.to_string()))?;
    validate_key(text).map_err(|problem| named(problem.to_string()))?;
    let envelope = Envelope::decode(key, value).map_err(named)?;
    if envelope.create_revision > envelope.mod_revision || envelope.mod_revision > latest {
        return Err(named(format!(
            "created at revision {}, written at {}, in a store at {latest}",
            envelope.create_revision, envelope.mod_revision
        )));
    }
    Ok(envelope.digest())
}
