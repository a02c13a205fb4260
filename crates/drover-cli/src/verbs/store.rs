//! `store check`, `store export`, `store import`, `store remove`: what is done to a store itself, without a coordinator.

use crate::args::{ExportArgs, ImportArgs, RemoveArgs, StorePlace, StoreVerb};
use crate::consent;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::Out;
use crate::output::document::Versioned;
use crate::output::words::span;
use drover_coordinator::CoordinatorError;
use drover_coordinator::kinds::{self, Judged, NotRemoved};
use drover_coordinator::records::STORE_FILE;
use drover_coordinator::transfer::{self, Opened, Place};
use drover_model::Span;
use drover_store::{EmbeddedStore, EtcdOptions, Options};
use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Does what was asked.
///
/// # Errors
/// Why it was not done.
pub async fn run(out: &Out, verb: StoreVerb) -> Result<ExitCode> {
    match verb {
        StoreVerb::Check { place } => check(out, &place).await,
        StoreVerb::Export(args) => export(out, &args).await,
        StoreVerb::Import(args) => import(out, &args).await,
        StoreVerb::Remove(args) => remove(out, &args).await,
    }
}

fn place(args: &StorePlace, restored: bool) -> Place {
    match &args.state {
        Some(state) => Place::Embedded(state.clone()),
        None => Place::Etcd(EtcdOptions {
            accepts_restored: restored,
            ..EtcdOptions::new(args.etcd.clone(), args.prefix.clone())
        }),
    }
}

fn failed(error: &CoordinatorError) -> Failure {
    let code = match error {
        CoordinatorError::NoStore { .. } => ExitCode::Usage,
        CoordinatorError::NotEmpty { .. }
        | CoordinatorError::HalfImported { .. }
        | CoordinatorError::HigherLevel { .. }
        | CoordinatorError::Retired { .. } => ExitCode::Refused,
        _ => ExitCode::Failed,
    };
    Failure::of(code, error)
}

async fn check(out: &Out, args: &StorePlace) -> Result<ExitCode> {
    match &args.state {
        Some(state) => check_embedded(out, state).await,
        None => check_etcd(out, &place(args, false)).await,
    }
}

/// Opens a store, which verifies every record of it, and says what was found.
async fn check_embedded(out: &Out, state: &Path) -> Result<ExitCode> {
    let path = state.join(STORE_FILE);
    if !path.is_file() {
        return Err(Failure::usage(format!("there is no store at {}", path.display())));
    }
    // Checking must not be what fills the disk.
    let options = Options { reserve_bytes: 0, ..Options::default() };
    let (store, report) =
        EmbeddedStore::open(&path, options).map_err(|e| Failure::of(ExitCode::Failed, &e))?;
    let opened = Opened::Embedded(Arc::new(store));
    let made_sense = made_sense(&opened).await;
    opened.close();
    let found = made_sense?;
    let closed =
        if report.was_closed_cleanly { "closed in good order" } else { "repaired after an abrupt end" };
    let took = span(Span::from_duration(report.took));
    let sentence = format!(
        "{} {}: {} records verified, revision {}, {closed}, anchor {:?}, took {took}\n",
        path.display(),
        found.word("is sound"),
        report.records,
        report.revision,
        report.anchor
    );
    let value = serde_json::json!({
        "store": path,
        "sound": found.unreadable.is_empty(),
        "records": report.records,
        "unreadable": found.unreadable,
        "unknown": found.unknown,
        "was_closed_cleanly": report.was_closed_cleanly,
    });
    out.show(&Versioned::of(&value), |_| sentence + &found.lines())?;
    Ok(found.code())
}

/// Reads every record through the cluster's agreement. Its members check their own files.
async fn check_etcd(out: &Out, place: &Place) -> Result<ExitCode> {
    let began = Instant::now();
    let opened = place.open().await.map_err(|e| failed(&e))?;
    let found = made_sense(&opened).await?;
    let took = span(Span::from_duration(began.elapsed()));
    let name = place.name();
    let sentence = format!(
        "{name} {}: {} records, revision {}, took {took}\n",
        found.word("is readable"),
        found.records,
        found.revision
    );
    let value = serde_json::json!({
        "store": name,
        "sound": found.unreadable.is_empty(),
        "records": found.records,
        "unreadable": found.unreadable,
        "unknown": found.unknown,
    });
    out.show(&Versioned::of(&value), |_| sentence + &found.lines())?;
    Ok(found.code())
}

/// What reading every record showed.
struct Found {
    revision: drover_store::Revision,
    records: u64,
    /// Key and reason.
    unreadable: Vec<(String, String)>,
    /// Records of kinds that this drover does not keep.
    unknown: u64,
}

impl Found {
    fn word<'a>(&self, good: &'a str) -> &'a str {
        if self.unreadable.is_empty() { good } else { "has records that make no sense" }
    }

    fn lines(&self) -> String {
        let line = |(key, why): &(String, String)| format!("  {}: {why}\n", key.escape_debug());
        let unknown = match self.unknown {
            0 => String::new(),
            n => format!("  {n} record(s) of kinds that this drover does not keep, as a newer one may\n"),
        };
        self.unreadable.iter().map(line).collect::<String>() + &unknown
    }

    fn code(&self) -> ExitCode {
        if self.unreadable.is_empty() { ExitCode::Done } else { ExitCode::Attention }
    }
}

async fn made_sense(opened: &Opened) -> Result<Found> {
    let revision = opened.revision().await.map_err(|e| failed(&e))?;
    let (mut unreadable, mut unknown) = (Vec::new(), 0);
    let each = |key: &str, value: &[u8]| {
        match kinds::judge(key, value) {
            Judged::Sound => {}
            Judged::Unknown => unknown += 1,
            Judged::Unreadable(why) => unreadable.push((key.to_owned(), why)),
        }
        Ok(())
    };
    let records = opened.read_all(revision, each).await.map_err(|e| failed(&e))?;
    Ok(Found { revision, records, unreadable, unknown })
}

/// Removes what can't be read, after it is safe in a file.
async fn remove(out: &Out, args: &RemoveArgs) -> Result<ExitCode> {
    let place = place(&args.place, false);
    let opened = place.open().await.map_err(|e| failed(&e))?;
    let done = remove_from(out, args, &opened, &place.name()).await;
    opened.close();
    done
}

async fn remove_from(out: &Out, args: &RemoveArgs, opened: &Opened, name: &str) -> Result<ExitCode> {
    let found = kinds::removable(opened.store(), &args.record).await.map_err(|e| failed(&e))?;
    let record = found.map_err(|why| {
        let hint = match &why {
            NotRemoved::OfJournal { instead, .. } => {
                format!("to give its run up: drover store remove {instead} …")
            }
            _ => "drover store check says which records make no sense".to_owned(),
        };
        Failure::of(ExitCode::Refused, &why).hint(hint)
    })?;
    let bytes = record.value.len();
    out.talk(&format!(
        "{} makes no sense: {}\nwhen it is removed, {}",
        args.record, record.why, record.follows
    ));
    if !args.yes {
        consent::confirm(out, &format!("Remove {}", args.record))?;
    }
    save(&args.save, &record.value)?;
    if !kinds::remove(&*opened.store(), &record).await.map_err(|e| failed(&e))? {
        return Err(Failure::new(
            ExitCode::Failed,
            format!("{} was written meanwhile; nothing was removed", args.record),
        )
        .hint("look at it again: drover store check"));
    }
    let saved = args.save.display();
    let sentence = format!(
        "{} is removed from {name}, and its {bytes} bytes are in {saved}; {}\n",
        args.record, record.follows
    );
    let value = serde_json::json!({
        "store": name, "key": args.record, "file": args.save, "bytes": bytes, "why": record.why, "follows": record.follows,
    });
    out.show(&Versioned::of(&value), |_| sentence)?;
    Ok(ExitCode::Done)
}

/// Into a file that was not there, readable by its owner alone, as an export is.
fn save(to: &Path, value: &[u8]) -> Result<()> {
    let cannot = |e| Failure::because(ExitCode::Usage, format!("can't write {}", to.display()), &e);
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(to).map_err(cannot)?;
    file.write_all(value).and_then(|()| file.sync_all()).map_err(cannot)
}

async fn export(out: &Out, args: &ExportArgs) -> Result<ExitCode> {
    let place = place(&args.place, args.restored);
    if args.to.exists() {
        return Err(
            Failure::usage(format!("{} is there already", args.to.display())).hint("name another file")
        );
    }
    let opened = place.open().await.map_err(|e| failed(&e))?;
    if args.retire {
        transfer::retire(&*opened.store()).await.map_err(|e| failed(&e))?;
    }
    let written = write(&opened, &place, &args.to).await;
    opened.close();
    let (end, header) = written?;
    let sentence = format!(
        "{} records of {}, revision {}, are in {}{}\n",
        end.records,
        header.source,
        header.revision,
        args.to.display(),
        if header.retired { "; no coordinator starts on that store any more" } else { "" }
    );
    let value = serde_json::json!({
        "store": header.source,
        "file": args.to,
        "records": end.records,
        "revision": header.revision,
        "sha256": end.sha256,
        "retired": header.retired,
    });
    out.show(&Versioned::of(&value), |_| sentence)?;
    Ok(ExitCode::Done)
}

/// Writes aside and renames, so that a file of that name is always a whole one.
async fn write(
    opened: &Opened,
    place: &Place,
    to: &Path,
) -> Result<(drover_store::ExportEnd, drover_store::ExportHeader)> {
    let part = PathBuf::from(format!("{}.part", to.display()));
    let cannot = |e| Failure::because(ExitCode::Failed, format!("can't write {}", part.display()), &e);
    // Journals hold what people wrote; nobody else has to read them.
    let file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(&part).map_err(cannot)?;
    let (writer, end, header) =
        transfer::export(opened, place.name(), BufWriter::new(file)).await.map_err(|e| failed(&e))?;
    let file = writer.into_inner().map_err(|e| cannot(e.into_error()))?;
    file.sync_all().map_err(cannot)?;
    std::fs::rename(&part, to).map_err(cannot)?;
    Ok((end, header))
}

async fn import(out: &Out, args: &ImportArgs) -> Result<ExitCode> {
    // Before the target is so much as begun.
    let file = || File::open(&args.file).map(BufReader::new);
    let opened = file()
        .map_err(|e| Failure::because(ExitCode::Usage, format!("can't open {}", args.file.display()), &e))?;
    transfer::verify(opened).map_err(|e| failed(&e))?;
    let place = place(&args.place, false);
    let target = place.open_or_begin().await.map_err(|e| failed(&e))?;
    let done = transfer::import(&*target.store(), file).await;
    target.close();
    let done = done.map_err(|e| failed(&e))?;
    let name = place.name();
    let commands = if done.keeps_incarnation {
        "its coordinator goes on as the leader of the retired store would"
    } else {
        "its coordinator will command under a new incarnation, which DNS refuses until it is adopted: the original was \
         not retired (`drover store export --retire`)"
    };
    let sentence = format!("{} records of {} are in {name}; {commands}\n", done.records, done.header.source);
    let value = serde_json::json!({
        "store": name,
        "file": args.file,
        "records": done.records,
        "keeps_incarnation": done.keeps_incarnation,
    });
    out.show(&Versioned::of(&value), |_| sentence)?;
    Ok(ExitCode::Done)
}
