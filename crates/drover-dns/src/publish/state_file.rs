//! The state on disk: one file, written as a whole now and then, with the changes since behind it.
//!
//! The whole is two lines of JSON: a header with format, length and CRC-32C of the second line, then the body.
//! Written to a neighbour, synced, renamed over the old file, the directory synced: after a crash there is the
//! old file or the new one. What changes after that is appended (see [`super::change_log`]). A file that does
//! not match its checksums is refused by name; serving half of a state would move traffic.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use drover_model::Epoch;
use serde::{Deserialize, Serialize};

use super::change_log::{self, ChangeLog};
use super::proofs::{self, Sealed, SealedView, WrittenSeals};
use super::{AppliedBatch, CHANGES_BYTES_MAX};
use crate::zone::{Answering, RecordSet, RecordType, ZoneConfig};

/// The file's name in the state directory.
pub const STATE_FILE_NAME: &str = "snapshot.json";

/// The newest version of the format that is read, written where there are seals, other types than addresses and aliases, or
/// answers that are not the usual ones.
const FORMAT: u32 = 3;

/// What is written without any of that, so that an earlier drover reads it as well.
const FORMAT_PLAIN: u32 = 2;

/// The oldest that is read: the body reaches to the file's end, no changes behind it.
const FORMAT_WHOLE_ONLY: u32 = 1;

/// The most that a state takes: 100,000 record sets of some 1.3 KiB with their seals. More is no file of ours.
pub(super) const STATE_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// The most that is read: a state and the changes behind it.
const FILE_BYTES_MAX: u64 = STATE_BYTES_MAX + CHANGES_BYTES_MAX;

/// All that an instance must know again after a restart.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StateBody {
    pub(super) zone: ZoneConfig,
    pub(super) generation: u64,
    pub(super) highest_epoch: Option<Epoch>,
    pub(super) record_sets: Vec<RecordSet>,
    pub(super) applied: Vec<AppliedBatch>,
    /// The seals of the record sets, and of those that were removed lately.
    #[serde(default)]
    pub(super) sealed: Option<Sealed>,
}

/// The same, as it is written: a zone is large, and is not copied for every change.
#[derive(Debug, Serialize)]
pub(super) struct StateView<'a> {
    pub(super) zone: &'a ZoneConfig,
    pub(super) generation: u64,
    pub(super) highest_epoch: Option<Epoch>,
    pub(super) record_sets: Vec<&'a RecordSet>,
    pub(super) applied: Vec<&'a AppliedBatch>,
    /// None: this instance trusts no key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sealed: Option<SealedView<'a>>,
}

impl StateView<'_> {
    fn is_plain(&self) -> bool {
        self.sealed.is_none() && are_plain(&self.record_sets, self.applied.iter().copied())
    }
}

/// Is there nothing in these that a drover which knows [`FORMAT_PLAIN`] alone would take for damage?
pub(super) fn are_plain<'a>(
    record_sets: &[&RecordSet],
    applied: impl IntoIterator<Item = &'a AppliedBatch>,
) -> bool {
    let is_plain = |rtype: RecordType| matches!(rtype, RecordType::A | RecordType::Aaaa | RecordType::Cname);
    let mut changes = applied.into_iter().flat_map(|batch| &batch.changes);
    record_sets.iter().all(|set| is_plain(set.rtype) && set.answering == Answering::USUAL)
        && changes.all(|change| is_plain(change.key.rtype))
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u32,
    body_bytes: usize,
    body_crc32c: String,
}

/// Why the state can't be read or written. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    /// The operating system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is not what was written.
    #[error("cannot trust {}: {reason}; restore it, or remove it to start empty", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What does not match.
        reason: String,
    },
    /// The file was written by a later version.
    #[error(
        "cannot read {}: format {found}, this program knows up to {FORMAT}; start the drover that wrote it, or a newer one",
        path.display()
    )]
    NewerFormat {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

/// What a file says.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) state: StateBody,
    pub(super) seals: WrittenSeals,
    /// The length of a last change that a crash cut short; nobody was told of it. 0: there is none.
    pub(super) torn_bytes: usize,
}

/// The state as far as it was written; `None`: there is none yet.
pub(super) fn read(directory: &Path) -> Result<Option<Stored>, StateFileError> {
    let path = directory.join(STATE_FILE_NAME);
    let io = |source| StateFileError::Io { doing: "read", path: path.clone(), source };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
    parse(&path, &bytes).map(Some)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Stored, StateFileError> {
    let corrupt = |reason: String| StateFileError::Corrupt { path: path.to_owned(), reason };
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(corrupt(format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    let end = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .ok_or_else(|| corrupt("it has no header line".into()))?;
    let (header, rest) = (&bytes[..end], &bytes[end + 1..]);
    let header: Header =
        serde_json::from_slice(header).map_err(|error| corrupt(format!("its header: {error}")))?;
    if header.format > FORMAT {
        return Err(StateFileError::NewerFormat { path: path.to_owned(), found: header.format });
    }
    if header.format < FORMAT_WHOLE_ONLY {
        return Err(corrupt(format!("there never was a format {}", header.format)));
    }
    let (body, changes) = split(&header, rest).map_err(corrupt)?;
    let checksum = crc32c::crc32c(body);
    if header.body_crc32c != spelled(checksum) {
        let (found, written) = (spelled(checksum), header.body_crc32c);
        return Err(corrupt(format!("its checksum is {found} where {written} was written")));
    }
    let mut state: StateBody =
        serde_json::from_slice(body).map_err(|error| corrupt(format!("its body: {error}")))?;
    let mut changes = change_log::parse(changes, bytes.len() - changes.len(), checksum).map_err(corrupt)?;
    let torn_bytes = changes.torn_bytes;
    let sealed = changes.whole.iter_mut().filter_map(change_log::StateChange::take_sealed);
    let seals = proofs::collect(state.sealed.take().into_iter().chain(sealed)).map_err(corrupt)?;
    let state = change_log::apply(state, changes.whole).map_err(corrupt)?;
    Ok(Stored { state, seals, torn_bytes })
}

/// The body, and the changes behind it.
fn split<'a>(header: &Header, rest: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), String> {
    let wrong = |found: usize| format!("it has {found} bytes where {} were written", header.body_bytes);
    if header.format == FORMAT_WHOLE_ONLY {
        return if rest.len() == header.body_bytes { Ok((rest, &[])) } else { Err(wrong(rest.len())) };
    }
    let (body, behind) = rest.split_at_checked(header.body_bytes).ok_or_else(|| wrong(rest.len()))?;
    match behind.split_first() {
        Some((b'\n', changes)) => Ok((body, changes)),
        _ => Err("its body does not end where it should".into()),
    }
}

/// How far a failed write came.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The old state is still there.
    NotWritten(StateFileError),
    /// The new state is there, but may be gone after a power failure.
    NotDurable(StateFileError),
}

/// Replaces the file by this state. The log that comes back appends to it.
pub(super) fn write(directory: &Path, body: &StateView<'_>) -> Result<ChangeLog, WriteError> {
    let partial = directory.join(format!("{STATE_FILE_NAME}.partial"));
    let (bytes, checksum) = encode(&partial, body).map_err(WriteError::NotWritten)?;
    let written = write_synced(&partial, &bytes).and_then(|file| {
        fs::rename(&partial, directory.join(STATE_FILE_NAME))?;
        Ok(file)
    });
    let file = written.map_err(|source| {
        WriteError::NotWritten(StateFileError::Io { doing: "write", path: partial, source })
    })?;
    sync_directory(directory).map_err(WriteError::NotDurable)?;
    Ok(ChangeLog::new(Box::new(file), bytes.len() as u64, checksum, body.is_plain()))
}

fn sync_directory(directory: &Path) -> Result<(), StateFileError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|source| StateFileError::Io { doing: "sync", path: directory.to_owned(), source })
}

/// The file's bytes, and its body's checksum.
fn encode(path: &Path, body: &StateView<'_>) -> Result<(Vec<u8>, u32), StateFileError> {
    let failed = |source: io::Error| StateFileError::Io {
        doing: "encode the state for",
        path: path.to_owned(),
        source,
    };
    let format = if body.is_plain() { FORMAT_PLAIN } else { FORMAT };
    let body = serde_json::to_vec(body).map_err(|error| failed(error.into()))?;
    let checksum = crc32c::crc32c(&body);
    let header = Header { format, body_bytes: body.len(), body_crc32c: spelled(checksum) };
    let mut bytes = serde_json::to_vec(&header).map_err(|error| failed(error.into()))?;
    bytes.push(b'\n');
    bytes.extend_from_slice(&body);
    bytes.push(b'\n');
    // It could not be read again.
    if bytes.len() as u64 > STATE_BYTES_MAX {
        return Err(failed(io::Error::from(io::ErrorKind::FileTooLarge)));
    }
    Ok((bytes, checksum))
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(file)
}

fn spelled(checksum: u32) -> String {
    format!("{checksum:08x}")
}
