//! The changes behind a state: appended to the state's own file, so that one changed record set does not cost
//! the writing of all others, and so that a state and its changes can't be parted.
//!
//! A change is one line: its length in bytes, its CRC-32C (both eight hexadecimal digits), its JSON. The
//! checksum goes on from the one before it, the first from the state's: a line that is lost, doubled or of
//! another file breaks the chain. A change is acknowledged after its line was synced, so only the last line
//! can have been cut short by a crash, and only one that nobody was told of. It ends early, then, or holds a
//! block that was never written; that is dropped. Whatever else does not match is damage, and refused.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use drover_model::Epoch;
use serde::{Deserialize, Serialize};

use super::ledger::Ledger;
use super::proofs::{Sealed, SealedView};
use super::state_file::{STATE_BYTES_MAX, StateBody, are_plain};
use super::{AppliedBatch, CHANGES_BYTES_MAX};
use crate::zone::{RecordKey, RecordSet, RecordType};

/// `0000012a 89abcdef `
const PREFIX_BYTES: usize = 18;

/// What a file system writes at once: a crash leaves whole ones of zeros, never parts of one.
const SECTOR_BYTES: usize = 512;

/// One step from a state to the next.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StateChange {
    generation: u64,
    highest_epoch: Option<Epoch>,
    put: Vec<RecordSet>,
    removed: Vec<RecordKey>,
    applied: Option<AppliedBatch>,
    /// The seals of what it put or removed, or of what was there already.
    #[serde(default)]
    pub(super) sealed: Option<Sealed>,
}

impl StateChange {
    /// Its seals; that it had some is still known.
    pub(super) fn take_sealed(&mut self) -> Option<Sealed> {
        self.sealed.as_mut().map(std::mem::take)
    }
}

/// The same, as it is written.
#[derive(Debug, Serialize)]
pub(super) struct StateChangeView<'a> {
    pub(super) generation: u64,
    pub(super) highest_epoch: Option<Epoch>,
    pub(super) put: Vec<&'a RecordSet>,
    pub(super) removed: Vec<&'a RecordKey>,
    /// None: just the epoch changed.
    pub(super) applied: Option<&'a AppliedBatch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sealed: Option<SealedView<'a>>,
}

impl StateChangeView<'_> {
    fn is_plain(&self) -> bool {
        self.sealed.is_none() && are_plain(&self.put, self.applied)
    }
}

/// The changes that a file holds behind its state.
#[derive(Debug)]
pub(super) struct Changes {
    pub(super) whole: Vec<StateChange>,
    /// The length of a last one that a crash cut short; 0: there is none.
    pub(super) torn_bytes: usize,
}

/// Reads what stands behind a state. `offset` is where it begins in the file, `seed` the state's checksum.
pub(super) fn parse(bytes: &[u8], offset: usize, seed: u32) -> Result<Changes, String> {
    let mut changes = Changes { whole: vec![], torn_bytes: 0 };
    let (mut at, mut chain) = (0, seed);
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = rest.iter().position(|byte| *byte == b'\n').map(|newline| newline + 1);
        let line = &rest[..end.unwrap_or(rest.len())];
        match parse_line(line, chain) {
            Ok((change, checksum)) => {
                changes.whole.push(change);
                chain = checksum;
            }
            Err(_) if line.len() == rest.len() && is_torn(line, offset + at) => {
                changes.torn_bytes = line.len()
            }
            Err(reason) => return Err(format!("its change {}: {reason}", changes.whole.len() + 1)),
        }
        at += line.len();
    }
    Ok(changes)
}

/// The change of a line, and the line's checksum.
fn parse_line(line: &[u8], chain: u32) -> Result<(StateChange, u32), String> {
    let (length, written) = prefix(line).ok_or("it does not begin with a length and a checksum")?;
    let json = &line[PREFIX_BYTES..];
    let Some((b'\n', json)) = json.split_last().filter(|(_, json)| json.len() == length) else {
        return Err(format!("it has {} bytes where {} were written", line.len(), full_length(length)));
    };
    let checksum = crc32c::crc32c_append(chain, json);
    if checksum != written {
        return Err(format!("its checksum is {checksum:08x} where {written:08x} was written"));
    }
    let change = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    Ok((change, checksum))
}

/// The length and the checksum that a line begins with.
fn prefix(line: &[u8]) -> Option<(usize, u32)> {
    let prefix = std::str::from_utf8(line.get(..PREFIX_BYTES)?).ok()?;
    let mut parts = prefix.strip_suffix(' ')?.split(' ');
    let (length, checksum) = (parts.next()?, parts.next()?);
    let is_written_by_us =
        |part: &str| part.len() == 8 && part.bytes().all(|b| b"0123456789abcdef".contains(&b));
    if parts.next().is_some() || !is_written_by_us(length) || !is_written_by_us(checksum) {
        return None;
    }
    Some((usize::from_str_radix(length, 16).ok()?, u32::from_str_radix(checksum, 16).ok()?))
}

const fn full_length(json_bytes: usize) -> usize {
    PREFIX_BYTES + json_bytes + 1
}

/// Can a crash have left the last line like this, before it was synced? No flip of one bit looks like it: the
/// line's end would still be there, or all bytes up to it.
fn is_torn(line: &[u8], offset: usize) -> bool {
    let is_cut = line.last() != Some(&b'\n')
        && match prefix(line) {
            Some((length, _)) => line.len() < full_length(length),
            None => line.len() < PREFIX_BYTES,
        };
    let is_one_line = prefix(line).is_none_or(|(length, _)| line.len() <= full_length(length));
    is_cut || is_one_line && has_unwritten_sector(line, offset)
}

/// JSON holds no zero byte.
fn has_unwritten_sector(line: &[u8], offset: usize) -> bool {
    let first = (SECTOR_BYTES - offset % SECTOR_BYTES).min(line.len());
    let (first, others) = line.split_at(first);
    std::iter::once(first)
        .chain(others.chunks(SECTOR_BYTES))
        .any(|sector| sector.iter().all(|byte| *byte == 0))
}

/// Brings a state forward by the changes behind it.
pub(super) fn apply(state: StateBody, changes: Vec<StateChange>) -> Result<StateBody, String> {
    if changes.is_empty() {
        return Ok(state);
    }
    let key = |set: &RecordSet| (set.name.clone(), set.rtype);
    let mut sets: BTreeMap<(String, RecordType), RecordSet> =
        state.record_sets.into_iter().map(|set| (key(&set), set)).collect();
    let mut ledger = Ledger {
        highest_epoch: state.highest_epoch,
        applied: state.applied.into_iter().map(Arc::new).collect(),
    };
    let mut generation = state.generation;
    for (index, change) in changes.into_iter().enumerate() {
        let expected = generation + u64::from(change.applied.is_some());
        // What is signed has the zone's generation: others may have seen some in between, and what closes a gap raises none.
        let is_next = match change.sealed {
            Some(_) => change.generation >= generation,
            None => change.generation == expected,
        };
        if !is_next {
            let (number, found) = (index + 1, change.generation);
            return Err(format!("its change {number} leads to generation {found} where {expected} is next"));
        }
        generation = change.generation;
        for removed in change.removed {
            if sets.remove(&(removed.name.as_str().to_owned(), removed.rtype)).is_none() {
                return Err(format!("its change {} removes {removed}, which is not there", index + 1));
            }
        }
        sets.extend(change.put.into_iter().map(|set| (key(&set), set)));
        ledger.highest_epoch = change.highest_epoch;
        if let Some(batch) = change.applied {
            ledger.remember(Arc::new(batch));
        }
    }
    Ok(StateBody {
        zone: state.zone,
        generation,
        highest_epoch: ledger.highest_epoch,
        record_sets: sets.into_values().collect(),
        sealed: None,
        applied: ledger.applied.into_iter().map(Arc::unwrap_or_clone).collect(),
    })
}

/// What is asked of a file that is appended to; tests have it fail.
pub(super) trait Appending: Debug + Send {
    /// Behind what is there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Everything that was appended is on disk afterwards.
    fn sync(&mut self) -> io::Result<()>;
    /// The same file still stands at this path, with this length.
    fn is_at(&self, path: &Path, length: u64) -> io::Result<bool>;
}

impl Appending for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn is_at(&self, path: &Path, length: u64) -> io::Result<bool> {
        let (ours, there) = (self.metadata()?, fs::metadata(path)?);
        Ok((ours.dev(), ours.ino(), ours.len()) == (there.dev(), there.ino(), length))
    }
}

/// A state file that this process wrote as a whole, and may append to.
#[derive(Debug)]
pub(super) struct ChangeLog {
    file: Box<dyn Appending>,
    /// The file's.
    length: u64,
    changes_bytes: u64,
    chain: u32,
    /// The file says that an earlier drover may read it.
    is_plain: bool,
}

/// How an attempt to append ended.
#[derive(Debug)]
pub(super) enum Appended {
    /// It is on disk.
    Durable(ChangeLog),
    /// It is not in the file, at most a part that is dropped at the next start.
    No(WhyNot),
    /// It is in the file and may be on disk or not. Nothing about the file's end is certain any more.
    Uncertain(io::Error),
}

/// Why a change was not appended.
#[derive(Debug)]
pub(super) enum WhyNot {
    /// The changes are at their limit.
    Full,
    /// The file says that an earlier drover may read it, and that one could not read this.
    NotPlain,
    /// The file at the path is not the one that was written, or has another length.
    Replaced,
    /// It could not be written.
    Failed(io::Error),
}

impl ChangeLog {
    /// Behind a state of this length and checksum, which are all that the file holds.
    pub(super) fn new(file: Box<dyn Appending>, length: u64, seed: u32, is_plain: bool) -> Self {
        Self { file, length, changes_bytes: 0, chain: seed, is_plain }
    }

    /// Appends a change and syncs it. Gives the log back only if all went well: what a failed sync leaves
    /// behind no later one reports, so such a file is never appended to again.
    pub(super) fn append(mut self, path: &Path, change: &StateChangeView<'_>) -> Appended {
        if self.is_plain && !change.is_plain() {
            return Appended::No(WhyNot::NotPlain);
        }
        let (line, chain) = match line(change, self.chain) {
            Ok(line) => line,
            Err(error) => return Appended::No(WhyNot::Failed(error.into())),
        };
        let bytes = line.len() as u64;
        // What was appended must fit into a whole, or no later one could ever be written.
        if self.changes_bytes + bytes > CHANGES_BYTES_MAX || self.length + bytes > STATE_BYTES_MAX {
            return Appended::No(WhyNot::Full);
        }
        // What is appended to a file that was removed or replaced would be lost.
        match self.file.is_at(path, self.length) {
            Ok(true) => {}
            Ok(false) => return Appended::No(WhyNot::Replaced),
            Err(error) => return Appended::No(WhyNot::Failed(error)),
        }
        if let Err(error) = self.file.append(&line) {
            return Appended::No(WhyNot::Failed(error));
        }
        if let Err(error) = self.file.sync() {
            return Appended::Uncertain(error);
        }
        self.length += bytes;
        self.changes_bytes += bytes;
        self.chain = chain;
        Appended::Durable(self)
    }

    #[cfg(test)]
    pub(super) fn with_file(mut self, wrap: impl FnOnce(Box<dyn Appending>) -> Box<dyn Appending>) -> Self {
        self.file = wrap(self.file);
        self
    }
}

/// A change as it is appended, and its checksum.
fn line(change: &StateChangeView<'_>, chain: u32) -> Result<(Vec<u8>, u32), serde_json::Error> {
    let json = serde_json::to_vec(change)?;
    let chain = crc32c::crc32c_append(chain, &json);
    let mut line = format!("{:08x} {chain:08x} ", json.len()).into_bytes();
    line.extend_from_slice(&json);
    line.push(b'\n');
    Ok((line, chain))
}
