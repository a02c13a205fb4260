//! A store as a file that people can read and any store can be rebuilt from.
//!
//! Lines of JSON: a header, one record a line in the order of keys, and an end with their number and the SHA-256 of
//! every byte before it. A record's value stands there as what it is: JSON in nearly all cases, byte for byte as it is
//! stored, so that hashes over it stay true; other text, or bytes in hexadecimal, where it is none.
//!
//! The end makes a file that was cut short, or changed by hand, known as such before anything is rebuilt from it.

use crate::types::{Revision, VALUE_BYTES_MAX, validate_key};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::{self, BufRead, Read, Write};
use thiserror::Error;

/// The version of the file that this build writes, and the only one that it reads.
pub const EXPORT_FORMAT: u32 = 1;
/// Longest line: a largest value, of which every byte is escaped as six, and its key.
const LINE_BYTES_MAX: usize = 6 * VALUE_BYTES_MAX + (64 << 10);

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportHeader {
    /// [`EXPORT_FORMAT`].
    pub drover_store_export: u32,
    /// The store, as messages name it.
    pub source: String,
    /// The revision of which it is the picture.
    pub revision: Revision,
    /// The incarnation under which its leaders command, if one ever led.
    pub incarnation: Option<u64>,
    /// Whether no coordinator starts on the source any more since this was written.
    pub retired: bool,
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportEnd {
    /// Records between header and end.
    pub records: u64,
    /// Of every byte before this line, in hexadecimal.
    pub sha256: String,
}

/// What is wrong with a file.
#[derive(Debug, Error)]
pub enum ExportError {
    /// It can't be read or written.
    #[error("can't {action} the export")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is no export, or one of another version.
    #[error(
        "it is not an export that this drover reads: its first line is no header of format {EXPORT_FORMAT}"
    )]
    Header,
    /// A line is not what it should be.
    #[error("line {line} {problem}; the file was damaged or changed, take another one")]
    Line {
        /// Which, from 1.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// It ends before its end.
    #[error("it is cut short after line {line}; take another one")]
    CutShort {
        /// The last that is there.
        line: u64,
    },
}

/// Writes one.
#[derive(Debug)]
pub struct Exporter<W: Write> {
    out: W,
    digest: Sha256,
    records: u64,
}

impl<W: Write> Exporter<W> {
    /// Begins with the header.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn begin(out: W, header: &ExportHeader) -> Result<Self, ExportError> {
        let mut exporter = Self { out, digest: Sha256::new(), records: 0 };
        exporter.line(&encoded(header)?)?;
        Ok(exporter)
    }

    /// One record; in the order of keys.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn record(&mut self, key: &str, value: &[u8]) -> Result<(), ExportError> {
        let mut line = b"{\"key\":".to_vec();
        line.extend(encoded(&key)?);
        match std::str::from_utf8(value) {
            Ok(text) if is_json_line(text) => {
                line.extend_from_slice(b",\"json\":");
                line.extend_from_slice(value);
            }
            Ok(text) => {
                line.extend_from_slice(b",\"text\":");
                line.extend(encoded(&text)?);
            }
            Err(_) => {
                line.extend_from_slice(b",\"hex\":");
                line.extend(encoded(&hex::encode(value))?);
            }
        }
        line.push(b'}');
        self.records += 1;
        self.line(&line)
    }

    /// Ends it, and hands back where it was written to.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn end(mut self) -> Result<(W, ExportEnd), ExportError> {
        let end = ExportEnd { records: self.records, sha256: hex::encode(self.digest.clone().finalize()) };
        self.line(&encoded(&end)?)?;
        self.out.flush().map_err(writing)?;
        Ok((self.out, end))
    }

    fn line(&mut self, line: &[u8]) -> Result<(), ExportError> {
        for part in [line, b"\n"] {
            self.digest.update(part);
            self.out.write_all(part).map_err(writing)?;
        }
        Ok(())
    }
}

fn writing(source: io::Error) -> ExportError {
    ExportError::Io { action: "write", source }
}

fn encoded(value: &impl Serialize) -> Result<Vec<u8>, ExportError> {
    serde_json::to_vec(value).map_err(|error| writing(error.into()))
}

fn is_json_line(text: &str) -> bool {
    !text.contains(['\n', '\r']) && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Reads one, record by record. Only with the last `None` is it known to be whole.
#[derive(Debug)]
pub struct Importer<R> {
    read: R,
    digest: Sha256,
    line: u64,
    records: u64,
    header: ExportHeader,
    end: Option<ExportEnd>,
}

/// A record of an export.
pub type Exported = (String, Vec<u8>);

impl<R: BufRead> Importer<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// When it is none that this build reads.
    pub fn begin(read: R) -> Result<Self, ExportError> {
        let nothing = ExportHeader {
            drover_store_export: 0,
            source: String::new(),
            revision: Revision(0),
            incarnation: None,
            retired: false,
        };
        let mut importer =
            Self { read, digest: Sha256::new(), line: 0, records: 0, header: nothing, end: None };
        let line = importer.next_line()?.ok_or(ExportError::Header)?;
        importer.header = serde_json::from_str(&line).map_err(|_| ExportError::Header)?;
        if importer.header.drover_store_export != EXPORT_FORMAT {
            return Err(ExportError::Header);
        }
        importer.digest.update(line.as_bytes());
        Ok(importer)
    }

    /// What the header says.
    pub fn header(&self) -> &ExportHeader {
        &self.header
    }

    /// What the last line says, once all was read.
    pub fn end(&self) -> Option<&ExportEnd> {
        self.end.as_ref()
    }

    /// The next record; `None` once all of them were read and the end has vouched for them.
    ///
    /// # Errors
    /// When the file is damaged, changed, or cut short.
    pub fn next_record(&mut self) -> Result<Option<Exported>, ExportError> {
        if self.end.is_some() {
            return Ok(None);
        }
        let Some(line) = self.next_line()? else { return Err(ExportError::CutShort { line: self.line }) };
        if let Ok(end) = serde_json::from_str::<ExportEnd>(&line) {
            self.check_end(&end)?;
            self.end = Some(end);
            return Ok(None);
        }
        let record = parsed(line.trim_end_matches('\n')).map_err(|problem| self.bad(problem))?;
        self.digest.update(line.as_bytes());
        self.records += 1;
        Ok(Some(record))
    }

    fn check_end(&mut self, end: &ExportEnd) -> Result<(), ExportError> {
        let sha256 = hex::encode(self.digest.clone().finalize());
        if end.records != self.records || end.sha256 != sha256 {
            return Err(self.bad(format!(
                "tells of {} records with SHA-256 {}, and before it are {} with {sha256}",
                end.records, end.sha256, self.records
            )));
        }
        match self.next_line()? {
            None => Ok(()),
            Some(_) => Err(self.bad("comes after the end".to_owned())),
        }
    }

    /// With its line end, which every line has.
    fn next_line(&mut self) -> Result<Option<String>, ExportError> {
        let mut bytes = Vec::new();
        let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        let read = self.read.by_ref().take(limit).read_until(b'\n', &mut bytes);
        read.map_err(|source| ExportError::Io { action: "read", source })?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        if bytes.last() != Some(&b'\n') {
            return Err(if bytes.len() < LINE_BYTES_MAX {
                ExportError::CutShort { line: self.line }
            } else {
                self.bad(format!("is longer than {LINE_BYTES_MAX} bytes"))
            });
        }
        String::from_utf8(bytes).map(Some).map_err(|_| self.bad("is not UTF-8".to_owned()))
    }

    fn bad(&self, problem: String) -> ExportError {
        ExportError::Line { line: self.line, problem }
    }
}

/// A record from its line. The value of `json` is taken as it stands, since reading and writing it again would change
/// its bytes.
fn parsed(line: &str) -> Result<Exported, String> {
    let odd = || "is no record".to_owned();
    let rest = line.strip_prefix("{\"key\":").and_then(|rest| rest.strip_suffix('}')).ok_or_else(odd)?;
    let mut keys = serde_json::Deserializer::from_str(rest).into_iter::<String>();
    let key = keys.next().and_then(Result::ok).ok_or_else(odd)?;
    let rest = &rest[keys.byte_offset()..];
    let value = if let Some(json) = rest.strip_prefix(",\"json\":") {
        serde_json::from_str::<IgnoredAny>(json)
            .map_err(|error| format!("has a value that is no JSON: {error}"))?;
        json.as_bytes().to_vec()
    } else if let Some(text) = rest.strip_prefix(",\"text\":") {
        serde_json::from_str::<String>(text).map_err(|_| odd())?.into_bytes()
    } else if let Some(text) = rest.strip_prefix(",\"hex\":") {
        let text = serde_json::from_str::<String>(text).map_err(|_| odd())?;
        hex::decode(text).map_err(|error| format!("has a value that is no hexadecimal: {error}"))?
    } else {
        return Err(odd());
    };
    validate_key(&key).map_err(|problem| format!("has a key that can't be used: {problem}"))?;
    if value.len() > VALUE_BYTES_MAX {
        return Err(format!("has a value of {} bytes, the limit is {VALUE_BYTES_MAX}", value.len()));
    }
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> ExportHeader {
        ExportHeader {
            drover_store_export: EXPORT_FORMAT,
            source: "/var/lib/drover/drover.redb".to_owned(),
            revision: Revision(17),
            incarnation: Some(5),
            retired: true,
        }
    }

    fn exported(records: &[Exported]) -> Vec<u8> {
        let mut exporter = Exporter::begin(Vec::new(), &header()).unwrap();
        records.iter().for_each(|(key, value)| exporter.record(key, value).unwrap());
        exporter.end().unwrap().0
    }

    fn imported(file: &[u8]) -> Result<Vec<Exported>, ExportError> {
        let mut importer = Importer::begin(file)?;
        assert_eq!(importer.header(), &header());
        let mut records = Vec::new();
        while let Some(record) = importer.next_record()? {
            records.push(record);
        }
        assert_eq!(importer.end().unwrap().records, records.len() as u64);
        Ok(records)
    }

    fn sample() -> Vec<Exported> {
        let values: [&[u8]; 7] = [
            b"{\"b\":1, \"a\":1.0}",
            b"plain",
            b"",
            b"{\"sha256\":\"\",\"records\":1}",
            b"[1,\n2]",
            &[0xff, 0],
            b"7",
        ];
        values.iter().enumerate().map(|(n, value)| (format!("k/{n} \"q\""), value.to_vec())).collect()
    }

    #[test]
    fn json_stands_there_as_it_is_stored() {
        let file = String::from_utf8(exported(&sample())).unwrap();
        assert!(file.contains("{\"key\":\"k/0 \\\"q\\\"\",\"json\":{\"b\":1, \"a\":1.0}}\n"), "{file}");
        assert!(file.contains(",\"text\":\"plain\"}\n"), "{file}");
        assert!(file.contains(",\"hex\":\"ff00\"}\n"), "{file}");
        assert_eq!(imported(file.as_bytes()).unwrap(), sample());
    }

    #[test]
    fn no_cut_and_no_flipped_bit_goes_unnoticed() {
        let file = exported(&sample());
        for cut in 0..file.len() {
            assert!(imported(&file[..cut]).is_err(), "cut at {cut}");
        }
        let after_header = file.iter().position(|byte| *byte == b'\n').unwrap();
        for at in after_header..file.len() {
            let mut flipped = file.clone();
            flipped[at] ^= 1;
            assert!(imported(&flipped).is_err(), "flipped at {at}");
        }
        let mut longer = file.clone();
        longer.extend_from_slice(b"{}\n");
        assert!(imported(&longer).is_err());
    }

    proptest! {
        #[test]
        fn what_is_exported_is_imported(records in prop::collection::vec(("[a-z/\"\\\\]{1,12}", prop::collection::vec(any::<u8>(), 0..64)), 0..20)) {
            let records: Vec<Exported> = records;
            prop_assert_eq!(imported(&exported(&records)).unwrap(), records);
        }
    }
}
