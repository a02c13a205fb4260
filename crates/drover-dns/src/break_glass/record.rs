//! What was done without a coordinator, line by line: JSON, each line with the hash of the one before it and a signature.
//!
//! A command is a session. It begins with a line that names the public key by which its lines are signed, writes what it intends before
//! the provider hears of it, and what came of it after that.
//!
//! What the signatures prove: nobody who has the file alone can change, drop, insert or reorder a line of a session, nor add one to it,
//! without it being found, since the private key of a session is gone with the command (or is the zone's own, `dns.signing_key_file`,
//! where there is one: then they prove that whoever wrote it could sign for the zone). What they don't: whoever has the file can write
//! another one with a key of his own, or leave out the last lines. So the person who brings it to the coordinator vouches for it.

use std::fmt;

use drover_model::break_glass::HeldBy;
use drover_model::traffic::Actor;
use drover_model::{Epoch, ServiceId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::publish::{Digest, PublicKey, Signature, SigningKey};
use crate::zone::RecordSet;

/// The form that this build writes and reads.
const FORM: u16 = 1;
/// Hashed first, so that nothing else has the hash of a line.
const HASHED: &[u8] = b"drover break-glass line 1\n";
/// Signed first, for the same reason.
const SIGNED: &[u8] = b"drover break-glass signature 1\n";

/// Lines of a file, at most: some 250 commands.
pub const RECORD_LINES_MAX: usize = 1_000;
/// Bytes of a file, at most: half of what the coordinator takes in one request.
pub const RECORD_BYTES_MAX: usize = 2 << 20;

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Entry {
    /// A command began.
    Began(Began),
    /// What the provider is about to be given.
    Intends(Intends),
    /// What it did with that.
    Ended(Ended),
    /// What its servers answer since.
    Verified(Verified),
}

/// A command began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Began {
    /// The command's number, as in the owner of what it holds.
    pub session: String,
    /// By what the lines up to the next such one are signed.
    pub key: PublicKey,
    /// Who, as his machine says.
    pub by: Actor,
    /// Why.
    pub reason: String,
    /// The zone.
    pub zone: String,
    /// How it is told: `embedded`, `rfc2136` or `route53`.
    pub provider: String,
    /// By which version of drover.
    pub version: String,
}

/// What the provider is about to be given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intends {
    /// Whose record set.
    pub service: ServiceId,
    /// The epoch that commanded the zone, under which it is written.
    pub epoch: Epoch,
    /// What was live.
    pub before: RecordSet,
    /// What shall be.
    pub after: RecordSet,
}

/// What the provider did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// Whose record set.
    pub service: ServiceId,
    /// In a word.
    pub outcome: Outcome,
    /// In a sentence.
    pub sentence: String,
}

/// What its servers answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verified {
    /// Whose record set.
    pub service: ServiceId,
    /// Did every server that could be asked answer as it should?
    pub is_answered: bool,
    /// In a sentence.
    pub sentence: String,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is live.
    Done,
    /// Nothing changed.
    Refused,
    /// It may be live.
    Unclear,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Unclear => "unclear",
        })
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    form: u16,
    /// From 1.
    pub number: u64,
    /// When, by the clock of the machine.
    pub at: Timestamp,
    previous: Option<Digest>,
    /// What it says.
    pub entry: Entry,
    /// Over all of the above.
    pub hash: Digest,
    signature: Signature,
}

/// What of a line is hashed, in the order in which it is written.
#[derive(Serialize)]
struct Hashed<'a> {
    form: u16,
    number: u64,
    at: Timestamp,
    previous: Option<Digest>,
    entry: &'a Entry,
}

impl Hashed<'_> {
    fn hash(&self) -> Digest {
        // Texts and numbers: nothing that JSON can't say.
        Digest::over(HASHED, &serde_json::to_vec(self).unwrap_or_default())
    }
}

fn signed(hash: &Digest) -> Vec<u8> {
    [SIGNED, hash.as_bytes()].concat()
}

impl Line {
    /// The next after `previous`, which is the last of a sound file; none: there is no file yet.
    pub(super) fn next(previous: Option<&Self>, at: Timestamp, entry: Entry, key: &SigningKey) -> Self {
        let number = previous.map_or(1, |line| line.number + 1);
        let previous = previous.map(|line| line.hash);
        let hash = Hashed { form: FORM, number, at, previous, entry: &entry }.hash();
        let signature = key.sign(&signed(&hash));
        Self { form: FORM, number, at, previous, entry, hash, signature }
    }

    /// As it stands in the file, its end included.
    pub(super) fn written(&self) -> String {
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// A file that is not what a command wrote. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the break-glass record {flaw}")]
pub struct Unsound {
    /// Which line.
    pub line: usize,
    /// What is wrong with it.
    pub flaw: Flaw,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It does not end.
    #[error(
        "is cut short: a crash while it was written leaves that; everything before it counts once that line is removed"
    )]
    CutShort,
    /// It is no line of this form.
    #[error("is none that this version can read: {0}")]
    Unreadable(String),
    /// A line before it is missing or was changed, or there are two of it.
    #[error("does not follow the line before it: one was changed, dropped, inserted or put elsewhere")]
    Elsewhere,
    /// It says something else than what was hashed.
    #[error("was changed")]
    Changed,
    /// Another key signed it, or none.
    #[error("was not signed by the key of its session")]
    NotSigned,
    /// No command begins before it.
    #[error("belongs to no command: the file does not begin with one")]
    NoSession,
    /// There is nothing.
    #[error("is missing: there is no line at all")]
    Empty,
    /// More than one file may have.
    #[error("is too much: a record has {RECORD_LINES_MAX} lines and {RECORD_BYTES_MAX} bytes at most")]
    TooLong,
}

/// A file whose every line is what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    lines: Vec<Line>,
}

/// What one command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session<'r> {
    /// That it began.
    pub began: &'r Began,
    /// What it did, in order.
    pub shifted: Vec<Shifted<'r>>,
}

/// One record set that a command changed, or meant to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shifted<'r> {
    /// What was meant.
    pub intends: &'r Intends,
    /// What came of it; none: the command ended before it knew.
    pub ended: Option<&'r Ended>,
}

impl Record {
    /// Reads a file, whole.
    ///
    /// # Errors
    /// The first line that is not what a command wrote.
    pub fn read(text: &str) -> Result<Self, Unsound> {
        let at = |line: usize, flaw: Flaw| Unsound { line, flaw };
        if text.is_empty() {
            return Err(at(1, Flaw::Empty));
        }
        let count = text.lines().count();
        if count > RECORD_LINES_MAX || text.len() > RECORD_BYTES_MAX {
            return Err(at(RECORD_LINES_MAX.min(count), Flaw::TooLong));
        }
        let (mut lines, mut key) = (Vec::<Line>::with_capacity(count), None);
        for (index, written) in text.split_inclusive('\n').enumerate() {
            let line = read_line(written, lines.last(), &mut key).map_err(|flaw| at(index + 1, flaw))?;
            lines.push(line);
        }
        Ok(Self { lines })
    }

    /// Every line.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// What was done, by command.
    #[must_use]
    pub fn sessions(&self) -> Vec<Session<'_>> {
        let mut sessions: Vec<Session<'_>> = vec![];
        for line in &self.lines {
            match (&line.entry, sessions.last_mut()) {
                (Entry::Began(began), _) => sessions.push(Session { began, shifted: vec![] }),
                (Entry::Intends(intends), Some(session)) => {
                    session.shifted.push(Shifted { intends, ended: None });
                }
                (Entry::Ended(ended), Some(session)) => {
                    let of_it = session.shifted.iter_mut().rev();
                    let mut of_it = of_it.filter(|shifted| shifted.intends.service == ended.service);
                    if let Some(shifted) = of_it.next() {
                        shifted.ended = Some(ended);
                    }
                }
                // A file that begins with no command was refused when it was read.
                (Entry::Verified(_), _) | (_, None) => {}
            }
        }
        sessions
    }

    /// What was put where a service is held so, the newest first; nothing: this file has nothing of it.
    #[must_use]
    pub fn put_by(&self, service: &ServiceId, held_by: &HeldBy) -> Vec<&RecordSet> {
        let is_it = |session: &Session<'_>| session.began.session == held_by.session;
        let Some(session) = self.sessions().into_iter().rev().find(is_it) else { return vec![] };
        let of_it = session.shifted.iter().rev().map(|shifted| shifted.intends);
        let put = of_it.filter(|intends| intends.service == *service).map(|intends| &intends.after);
        put.filter(|after| HeldBy::of_owner(&after.owner).as_ref() == Some(held_by)).collect()
    }
}

fn read_line(written: &str, before: Option<&Line>, key: &mut Option<PublicKey>) -> Result<Line, Flaw> {
    let Some(text) = written.strip_suffix('\n') else { return Err(Flaw::CutShort) };
    let line: Line = serde_json::from_str(text).map_err(|e| Flaw::Unreadable(e.to_string()))?;
    if line.form != FORM {
        return Err(Flaw::Unreadable(format!("it is of form {}, and {FORM} is known", line.form)));
    }
    let follows = (before.map_or(1, |one| one.number + 1), before.map(|one| one.hash));
    if (line.number, line.previous) != follows {
        return Err(Flaw::Elsewhere);
    }
    let Line { form, number, at, previous, ref entry, hash, .. } = line;
    // Also where it was only written otherwise: what counts must have one form.
    if (Hashed { form, number, at, previous, entry }).hash() != hash || line.written() != written {
        return Err(Flaw::Changed);
    }
    if let Entry::Began(began) = &line.entry {
        *key = Some(began.key);
    }
    match key {
        None => Err(Flaw::NoSession),
        Some(key) if key.has_signed(&signed(&hash), &line.signature) => Ok(line),
        Some(_) => Err(Flaw::NotSigned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::{Answering, Member, RecordType};

    const EPOCH: Epoch = Epoch { incarnation: 7, counter: 3 };

    fn set(generation: u64, owner: &str) -> RecordSet {
        RecordSet {
            name: "checkout.example.test".into(),
            rtype: RecordType::A,
            ttl_seconds: 30,
            members: vec![Member { set_id: "eu-west".into(), value: "192.0.2.1".into(), weight: 1 }],
            generation,
            epoch: EPOCH,
            owner: owner.into(),
            note: "a fire".into(),
            answering: Answering::USUAL,
        }
    }

    fn service() -> ServiceId {
        ServiceId::new("checkout").unwrap()
    }

    /// The lines of a file of so many commands, of four lines each.
    fn written(sessions: u32) -> Vec<String> {
        let mut lines: Vec<Line> = vec![];
        for session in 1..=sessions {
            let key = SigningKey::for_once().unwrap();
            let (held_by, service) = (HeldBy::new("ada", session), service());
            let entries = [
                Entry::Began(Began {
                    session: held_by.session.clone(),
                    key: key.public(),
                    by: Actor::Person { name: "ada".into(), host: "laptop".into() },
                    reason: "a fire".into(),
                    zone: "example.test".into(),
                    provider: "embedded".into(),
                    version: "0".into(),
                }),
                Entry::Intends(Intends {
                    service: service.clone(),
                    epoch: EPOCH,
                    before: set(1, "drover"),
                    after: set(2, &held_by.owner()),
                }),
                Entry::Ended(Ended {
                    service: service.clone(),
                    outcome: Outcome::Done,
                    sentence: "s".into(),
                }),
                Entry::Verified(Verified { service, is_answered: true, sentence: "s".into() }),
            ];
            for entry in entries {
                let at = Timestamp::from_millis(1_000 + i64::from(session));
                lines.push(Line::next(lines.last(), at, entry, &key));
            }
        }
        lines.iter().map(Line::written).collect()
    }

    fn read(lines: &[String]) -> Result<Record, Unsound> {
        Record::read(&lines.concat())
    }

    #[test]
    fn what_was_written_is_read_by_command() {
        let record = read(&written(2)).unwrap();
        assert_eq!(record.lines().len(), 8);
        let sessions = record.sessions();
        assert_eq!(sessions.len(), 2);
        assert_eq!(sessions[1].shifted[0].ended.unwrap().outcome, Outcome::Done);
        let held_by = HeldBy::new("ada", 2);
        assert_eq!(record.put_by(&service(), &held_by), [&set(2, &held_by.owner())]);
        assert!(record.put_by(&service(), &HeldBy::new("ada", 3)).is_empty());
        assert!(
            record.put_by(&service(), &HeldBy::new("bob", 2)).is_empty(),
            "the same number, another hand"
        );
    }

    #[test]
    fn a_line_that_was_changed_dropped_moved_or_inserted_is_named() {
        let lines = written(2);
        for at in 0..lines.len() {
            let mut changed = lines.clone();
            changed[at] = changed[at].replacen("1970", "1971", 1);
            assert_eq!(read(&changed).unwrap_err(), Unsound { line: at + 1, flaw: Flaw::Changed });
            let mut dropped = lines.clone();
            dropped.remove(at);
            let found = read(&dropped);
            if at + 1 == lines.len() {
                assert!(found.is_ok(), "nothing within shows that the last is missing");
            } else {
                assert_eq!(found.unwrap_err(), Unsound { line: at + 1, flaw: Flaw::Elsewhere });
            }
            let mut twice = lines.clone();
            twice.insert(at, lines[at].clone());
            assert_eq!(read(&twice).unwrap_err().line, at + 2);
        }
        let mut moved = lines;
        moved.swap(1, 2);
        assert_eq!(read(&moved).unwrap_err(), Unsound { line: 2, flaw: Flaw::Elsewhere });
    }

    #[test]
    fn a_chain_that_was_written_anew_needs_the_sessions_key() {
        let lines = written(1);
        let honest = read(&lines).unwrap();
        let forger = SigningKey::for_once().unwrap();
        let ended = Ended { service: service(), outcome: Outcome::Refused, sentence: "nothing".into() };
        let forged =
            Line::next(Some(&honest.lines()[1]), Timestamp::from_millis(1), Entry::Ended(ended), &forger);
        let file = [lines[0].clone(), lines[1].clone(), forged.written()];
        assert_eq!(read(&file).unwrap_err(), Unsound { line: 3, flaw: Flaw::NotSigned });
    }

    #[test]
    fn what_is_cut_empty_foreign_or_of_another_form_is_told() {
        let lines = written(1);
        let whole = lines.concat();
        let cut = Record::read(&whole[..whole.len() - 5]).unwrap_err();
        assert_eq!(cut, Unsound { line: 4, flaw: Flaw::CutShort });
        assert_eq!(Record::read("").unwrap_err().flaw, Flaw::Empty);
        assert_eq!(read(&lines[1..]).unwrap_err(), Unsound { line: 1, flaw: Flaw::Elsewhere });
        assert!(matches!(Record::read("{}\n").unwrap_err().flaw, Flaw::Unreadable(_)));
        let later = whole.replacen("\"form\":1", "\"form\":2", 1);
        assert!(Record::read(&later).unwrap_err().to_string().contains("form 2"));
        let spaced = whole.replacen("\"form\":1", "\"form\": 1", 1);
        assert_eq!(Record::read(&spaced).unwrap_err().flaw, Flaw::Changed);
        assert_eq!(Record::read(&"\n".repeat(RECORD_LINES_MAX + 1)).unwrap_err().flaw, Flaw::TooLong);
    }
}
