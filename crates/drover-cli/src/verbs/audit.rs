//! `audit verify` and `audit head`.

use super::Bench;
use crate::client::Client;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::Out;
use crate::output::document::Versioned;
use crate::render;
use drover_coordinator::audit::Kept;
use drover_model::api::Page;
use drover_model::audit::{AuditHead, AuditItem, AuditRecord, Break, Flaw, Verified, Verifier};
use drover_store::{ExportError, Importer};
use serde::Serialize;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// What was found of an audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Nothing in it is broken.
    pub holds: bool,
    /// Records that were looked at, up to the first that is wrong.
    pub records: u64,
    /// Of these, from before there was a chain.
    pub unchained: u64,
    /// Where the chain begins.
    pub begins: Option<u64>,
    /// Where it ends, as HASH@NUMBER.
    pub head: Option<String>,
    /// The first wrong record.
    pub broken: Option<Broken>,
}

/// Where an audit is broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// The record's number.
    pub number: u64,
    /// Stable.
    pub code: &'static str,
    /// For people.
    pub sentence: String,
}

impl Findings {
    fn new(records: u64, ended: std::result::Result<Verified, Break>) -> Self {
        let nothing = Verified { unchained: 0, begins: None, head: None };
        let (found, broken) = match ended {
            Ok(found) => (found, None),
            Err(broken) => (nothing, Some(broken)),
        };
        let broken =
            broken.map(|b| Broken { number: b.number, code: b.flaw.code(), sentence: b.to_string() });
        Self {
            holds: broken.is_none(),
            records,
            unchained: found.unchained,
            begins: found.begins,
            head: found.head.map(|head| head.to_string()),
            broken,
        }
    }
}

fn tell(out: &Out, findings: &Findings) -> Result<ExitCode> {
    out.show(&Versioned::of(findings), |look| render::audit::findings(findings, look))?;
    Ok(if findings.holds { ExitCode::Done } else { ExitCode::EvidenceBroken })
}

/// `audit verify`, of a running coordinator.
///
/// # Errors
/// When it can't be asked.
pub async fn verify(bench: &Bench, heads: Vec<AuditHead>) -> Result<ExitCode> {
    // Read first: what is written meanwhile comes after it.
    let head = head_of(&bench.client).await?;
    let kept = heads.into_iter().chain(head).collect();
    tell(&bench.out, &page_by_page(&bench.client, Verifier::with_heads(kept)).await?)
}

async fn head_of(client: &Client) -> Result<Option<AuditHead>> {
    match client.get::<AuditHead>(&["audit", "head"], &[]).await {
        Ok(head) => Ok(Some(head)),
        // Nothing was ever written.
        Err(failure) if failure.code == ExitCode::Usage => Ok(None),
        Err(failure) => Err(failure),
    }
}

async fn page_by_page(client: &Client, mut verifier: Verifier) -> Result<Findings> {
    let (mut after, mut records) = ("0".to_owned(), 0);
    loop {
        let page: Page<AuditItem> = client.get(&["audit"], &[("after", after)]).await?;
        for item in page.items {
            records += 1;
            if let Err(broken) = listed(&mut verifier, item) {
                return Ok(Findings::new(records, Err(broken)));
            }
        }
        match page.next_cursor {
            Some(next) => after = next,
            None => return Ok(Findings::new(records, verifier.end())),
        }
    }
}

fn listed(verifier: &mut Verifier, item: AuditItem) -> std::result::Result<(), Break> {
    match item {
        AuditItem::Record(record) => verifier.record(&record),
        AuditItem::Unreadable { number, unreadable } => {
            Err(Break { number, flaw: Flaw::Unreadable { why: unreadable } })
        }
    }
}

/// `audit verify --export`.
///
/// # Errors
/// When the file can't be read, or is damaged elsewhere than in the audit.
pub fn verify_export(out: &Out, heads: Vec<AuditHead>, file: &Path) -> Result<ExitCode> {
    let read: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        let opened = File::open(file);
        let cannot = |e| Failure::because(ExitCode::Usage, format!("can't open {}", file.display()), &e);
        Box::new(BufReader::new(opened.map_err(cannot)?))
    };
    let found = in_export(read, Verifier::with_heads(heads));
    let findings = found.map_err(|e| {
        Failure::because(ExitCode::Failed, format!("can't read the export {}", file.display()), &e)
            .hint("drover store export --state DIR --to FILE writes another one")
    })?;
    tell(out, &findings)
}

fn in_export(read: impl BufRead, mut verifier: Verifier) -> std::result::Result<Findings, ExportError> {
    let mut export = Importer::begin(read)?;
    let mut records = 0;
    // In the order of keys: the head comes before the records.
    while let Some((key, value)) = export.next_record()? {
        let looked = match Kept::under(&key) {
            None => Ok(()),
            Some(Kept::Head) => {
                let head = serde_json::from_slice(&value).map_err(|e| unreadable(0, &e));
                head.map(|head| verifier.keep(head))
            }
            Some(Kept::Record(number)) => {
                records += 1;
                exported(&mut verifier, number, &value)
            }
        };
        if let Err(broken) = looked {
            return Ok(Findings::new(records, Err(broken)));
        }
    }
    Ok(Findings::new(records, verifier.end()))
}

fn exported(verifier: &mut Verifier, number: u64, value: &[u8]) -> std::result::Result<(), Break> {
    let record: AuditRecord = serde_json::from_slice(value).map_err(|e| unreadable(number, &e))?;
    if record.number != number {
        return Err(Break { number, flaw: Flaw::OtherNumber { says: record.number } });
    }
    verifier.record(&record)
}

fn unreadable(number: u64, error: &serde_json::Error) -> Break {
    Break { number, flaw: Flaw::Unreadable { why: error.to_string() } }
}

/// `audit head`.
///
/// # Errors
/// When the coordinator can't be asked, or nothing was ever written.
pub async fn head(bench: &Bench) -> Result<ExitCode> {
    let head: AuditHead = bench.client.get(&["audit", "head"], &[]).await?;
    bench.out.show(&Versioned::of(&head), |_| format!("{head}\n"))?;
    Ok(ExitCode::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::fixture::look;
    use crate::output::paint::finish;
    use drover_model::traffic::Actor;
    use drover_model::{Epoch, Timestamp};
    use drover_store::{EXPORT_FORMAT, ExportHeader, Exporter, Revision};

    /// Keys and values of a store.
    type Stored = Vec<(String, String)>;

    /// Of six records the first two have no link.
    fn stored() -> Stored {
        let mut previous = None;
        let mut head = None;
        let mut records = Vec::new();
        for number in 1..=6 {
            let mut record = AuditRecord {
                number,
                at: Timestamp::from_millis(1_000),
                epoch: Epoch { incarnation: 7, counter: 1 },
                by: Actor::Automatic,
                verb: "decide".into(),
                subject: format!("subject {number}"),
                reason: String::new(),
                outcome: "done".into(),
                chain: None,
            };
            if number > 2 {
                record = record.linked(previous);
                previous = record.chain.map(|link| link.hash);
                head = previous.map(|hash| AuditHead { number, hash });
            }
            records.push((format!("audit/{number:012}"), serde_json::to_string(&record).unwrap()));
        }
        records.insert(0, ("audit-head".into(), serde_json::to_string(&head).unwrap()));
        records.push(("freeze".into(), "{}".into()));
        records
    }

    fn found(records: &[(String, String)]) -> Findings {
        let header = ExportHeader {
            drover_store_export: EXPORT_FORMAT,
            source: "here".into(),
            revision: Revision(9),
            incarnation: None,
            retired: false,
        };
        let mut file = Exporter::begin(Vec::new(), &header).unwrap();
        records.iter().for_each(|(key, value)| file.record(key, value.as_bytes()).unwrap());
        let (file, _) = file.end().unwrap();
        in_export(file.as_slice(), Verifier::default()).unwrap()
    }

    #[test]
    fn an_export_is_verified_with_its_own_head_also_where_its_end_was_made_to_fit() {
        let whole = found(&stored());
        assert!(whole.holds, "{whole:?}");
        assert_eq!((whole.records, whole.unchained, whole.begins), (6, 2, Some(3)));
        let text = finish(&render::audit::findings(&whole, &look(200)), false);
        let head = whole.head.unwrap();
        assert!(text.contains(&format!("\n  drover audit verify --head {head}\n")), "{text}");
        assert!(text.contains("The 2 before it are older"), "{text}");

        let broken = |change: &dyn Fn(&mut Stored)| {
            let mut records = stored();
            change(&mut records);
            let broken = found(&records).broken.unwrap();
            (broken.number, broken.code)
        };
        assert_eq!(broken(&|r| r[4].1 = r[4].1.replace("done", "gone")), (4, "altered"));
        assert_eq!(broken(&|r| drop(r.remove(6))), (6, "cut_off"));
        assert_eq!(broken(&|r| drop(r.remove(4))), (4, "missing"));
        assert_eq!(broken(&|r| r[5].1 = r[4].1.clone()), (5, "other_number"));
        assert_eq!(broken(&|r| r[3].1 = "{}".into()), (3, "unreadable"));
        assert_eq!(broken(&|r| r[0].1 = "{}".into()), (0, "unreadable"));
        let mut altered = stored();
        altered[4].1 = altered[4].1.replace("done", "gone");
        let text = finish(&render::audit::findings(&found(&altered), &look(200)), false);
        assert!(text.contains("record 4: its hash is not that of what it says"), "{text}");
    }

    #[test]
    fn what_a_coordinator_can_not_read_is_where_the_audit_is_broken() {
        let listed_of = |number: u64| -> Vec<AuditItem> {
            let of = |(key, text): (String, String)| match Kept::under(&key) {
                Some(Kept::Record(n)) if n == number => {
                    let unreadable = "EOF while parsing".to_owned();
                    serde_json::from_value(serde_json::json!({"number": n, "unreadable": unreadable})).ok()
                }
                Some(Kept::Record(_)) => serde_json::from_str(&text).ok(),
                _ => None,
            };
            stored().into_iter().filter_map(of).collect()
        };
        for number in 1..=6 {
            let items = listed_of(number);
            assert_eq!(items.len(), 6);
            let mut verifier = Verifier::default();
            let broken = items.into_iter().find_map(|item| listed(&mut verifier, item).err()).unwrap();
            assert_eq!((broken.number, broken.flaw.code()), (number, "unreadable"));
        }
    }
}
