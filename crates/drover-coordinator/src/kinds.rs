//! Every kind of record that drover keeps: when one makes sense, what is done while it does not, and what follows when it is
//! removed. One table, for coordinators that read them and for `drover store check` and `store remove`.

use crate::api::once::StoredAnswer;
use crate::audit::AuditRecord;
use crate::break_glass::Taken;
use crate::db::{Db, LIST_PAGE, Leader, keys};
use crate::error::CoordinatorError;
use crate::kept_world::KeptWorld;
use crate::level::Level;
use crate::out_of_service::Kept as OutOfServiceKept;
use crate::outbox::{PageRecord, store_key};
use crate::roster::Presence;
use crate::steps::Moved;
use crate::transfer::{Importing, Retired};
use drover_exec::Execution;
use drover_model::access::TokenRecord;
use drover_model::api::{PlanView, RunSummary, Severity};
use drover_model::audit::AuditHead;
use drover_model::decision::{FailureClass, StoredDecision};
use drover_model::journal::Record;
use drover_model::plan::{StandingVerdict, World};
use drover_model::traffic::{Block, Freeze, Hold, TrafficState};
use drover_model::write_right::{DatasetRecord, MoveRecord};
use drover_model::{EndpointKey, Generation, RunId, ServiceId, Timestamp, Weights};
use drover_store::{Expect, JsonError, Revision, Store, Txn, Versioned};
use serde::de::{DeserializeOwned, IgnoredAny};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A counter past this was not counted up to by anybody: what follows it would have nowhere to go.
const COUNTER_MAX: u64 = u64::MAX / 2;

/// A record that says itself where it belongs, or of which not every value can be.
pub(crate) trait Placed: DeserializeOwned {
    /// Why it can't be what is under this key.
    fn odd(&self, key: &str) -> Option<String>;

    /// Itself, where it belongs there.
    fn in_its_place(self, key: &str) -> Result<Self, JsonError> {
        match self.odd(key) {
            Some(why) => Err(JsonError::Odd { key: key.to_owned(), why }),
            None => Ok(self),
        }
    }
}

fn elsewhere(key: &str, own: &str) -> Option<String> {
    (key != own).then(|| format!("it says that it is {own}"))
}

impl Placed for TrafficState {
    fn odd(&self, key: &str) -> Option<String> {
        let own = match key.starts_with(keys::FIXED) {
            true => keys::fixed(&self.service),
            false => keys::traffic(&self.service),
        };
        let dark = || {
            let is_dark =
                self.weights.iter().next().is_some() && self.weights.iter().all(|(_, weight)| weight.0 == 0);
            is_dark.then(|| "all its weights are zero".to_owned())
        };
        let far = || {
            (self.generation > Generation(COUNTER_MAX))
                .then(|| format!("no generation follows {}", self.generation))
        };
        elsewhere(key, &own).or_else(dark).or_else(far)
    }
}

impl Placed for Hold {
    fn odd(&self, key: &str) -> Option<String> {
        elsewhere(key, &keys::hold(&self.run))
    }
}

impl Placed for Block {
    fn odd(&self, key: &str) -> Option<String> {
        elsewhere(key, &keys::block(&self.service, self.class))
    }
}

impl Placed for TokenRecord {
    fn odd(&self, key: &str) -> Option<String> {
        elsewhere(key, &keys::token(&self.name))
    }
}

impl Placed for Record {
    fn odd(&self, key: &str) -> Option<String> {
        elsewhere(key, &keys::journal(&self.run, self.sequence))
    }
}

impl Placed for RunId {
    fn odd(&self, key: &str) -> Option<String> {
        elsewhere(key, &keys::open(self))
    }
}

impl Placed for RunSummary {
    fn odd(&self, key: &str) -> Option<String> {
        elsewhere(key, &keys::ended(&self.id))
    }
}

impl Placed for PageRecord {
    fn odd(&self, key: &str) -> Option<String> {
        let prefix = if key.starts_with(keys::PAGED) { keys::PAGED } else { keys::OUTBOX };
        elsewhere(key, &store_key(prefix, &self.key))
    }
}

impl Placed for StandingVerdict {
    fn odd(&self, key: &str) -> Option<String> {
        let endpoint = key.strip_prefix(keys::STANDING).and_then(|e| e.parse::<EndpointKey>().ok());
        endpoint.is_none().then(|| "its key names no endpoint".to_owned())
    }
}

impl Placed for Leader {
    fn odd(&self, _: &str) -> Option<String> {
        (self.epoch.counter > COUNTER_MAX).then(|| format!("no epoch follows {}", self.epoch))
    }
}

impl Placed for AuditHead {
    fn odd(&self, _: &str) -> Option<String> {
        (self.number > keys::NUMBER_MAX).then(|| format!("no record has the number {}", self.number))
    }
}

/// One kind.
pub(crate) struct Kind {
    /// The key, or with a slash at its end what the keys begin with.
    pub prefix: &'static str,
    /// Whether the record makes sense.
    pub judge: fn(&str, &Versioned) -> Result<(), JsonError>,
    /// Drover goes by it all the time, so that it is looked at all the time; others are looked at when they are read.
    pub is_gone_by: bool,
    /// It may forbid what drover would do by itself: while it can't be read, nothing is.
    pub withholds: bool,
    /// What is done while it can't be read.
    meanwhile: &'static str,
    /// What follows when it is removed.
    removed: &'static str,
}

impl Kind {
    /// Is the record under this key of this kind?
    pub(crate) fn has(&self, key: &str) -> bool {
        if self.prefix.ends_with('/') { key.starts_with(self.prefix) } else { key == self.prefix }
    }

    pub(crate) fn severity(&self) -> Severity {
        if self.withholds || self.prefix == keys::LEADER { Severity::Critical } else { Severity::Warning }
    }

    const fn gone_by(self) -> Self {
        Self { is_gone_by: true, ..self }
    }

    const fn withholding(self) -> Self {
        Self { is_gone_by: true, withholds: true, ..self }
    }
}

fn decodes<T: DeserializeOwned>(key: &str, found: &Versioned) -> Result<(), JsonError> {
    found.decode_json::<T>(key).map(|_| ())
}

fn placed<T: Placed>(key: &str, found: &Versioned) -> Result<(), JsonError> {
    found.decode_json::<T>(key)?.value.in_its_place(key).map(|_| ())
}

/// Only that it is there counts.
fn anything(_: &str, _: &Versioned) -> Result<(), JsonError> {
    Ok(())
}

type Judge = fn(&str, &Versioned) -> Result<(), JsonError>;

const fn kind(prefix: &'static str, judge: Judge, meanwhile: &'static str, removed: &'static str) -> Kind {
    Kind { prefix, judge, is_gone_by: false, withholds: false, meanwhile, removed }
}

const FROZEN: &str = "nothing is done by itself, since nobody knows what was forbidden";
const LEFT_OUT: &str = "it is left out where it would be shown";
const GONE: &str = "it is gone from what is shown";

/// All kinds, by their keys.
pub(crate) const KINDS: &[Kind] = &[
    kind(
        keys::LEADER,
        placed::<Leader>,
        "nobody takes over from whoever leads now, since nobody knows under which epoch",
        "whoever takes over begins a new incarnation, which DNS and agents refuse until `drover dns adopt --command --reason TEXT`: as after a \
         restored backup",
    )
    .gone_by(),
    kind(keys::LEADER_BEAT, anything, "", ""),
    kind(keys::RETIRED, decodes::<Retired>, "nobody takes over: whatever it says, a mark is a mark", "coordinators use the store again")
        .gone_by(),
    kind(
        keys::IMPORTING,
        decodes::<Importing>,
        "nobody takes over: whatever it says, a mark is a mark",
        "coordinators use the store, whose records may not all be there",
    )
    .gone_by(),
    kind(
        keys::LEVEL,
        decodes::<Level>,
        "nobody takes over, since nobody knows what the store needs",
        "the store counts as one of level 1: only where no later drover has led",
    )
    .gone_by(),
    kind(keys::WRITE_TEST, anything, "", ""),
    kind(
        keys::COORDINATORS,
        decodes::<Presence>,
        "that coordinator counts for nothing when it is asked who should lead",
        "that coordinator says again that it is there",
    )
    .gone_by(),
    kind(keys::FREEZE, decodes::<Freeze>, "it counts as a freeze: nothing is done by itself", "automatic action is allowed again").withholding(),
    kind(keys::HOLDS, placed::<Hold>, FROZEN, "that drain is no drain any more: its region may be offered for failback").withholding(),
    kind(keys::BLOCKS, placed::<Block>, "the block period stands", "the block period is over").gone_by(),
    kind(keys::REARMED, decodes::<BTreeMap<ServiceId, Timestamp>>, "no block period counts as ended by a person", "the same").gone_by(),
    kind(
        keys::TRAFFIC,
        placed::<TrafficState>,
        "that service is left as DNS has it: it is neither planned, moved nor published",
        "its target is made anew from the configuration, as if it had never been moved; DNS keeps what it has until `drover dns adopt`",
    )
    .gone_by(),
    kind(
        keys::FIXED,
        placed::<TrafficState>,
        "that record is left as DNS has it",
        "its target is made anew; DNS keeps what it has until `drover dns adopt`",
    )
    .gone_by(),
    kind(
        keys::MADE_FROM,
        decodes::<String>,
        "that service's target stays as it is, whatever the configuration says",
        "its target is made anew from shares and configuration",
    )
    .gone_by(),
    kind(
        keys::FIXED_MADE_FROM,
        decodes::<String>,
        "that record stays as it is, whatever the configuration says",
        "its target is made anew",
    )
    .gone_by(),
    kind(
        keys::OUT_OF_SERVICE,
        decodes::<OutOfServiceKept>,
        "status servers keep what they were told last, and nothing is done by itself",
        "nothing counts as declared; status servers refuse what is declared until it is newer than what they have",
    )
    .withholding(),
    kind(keys::DNS_SEEN, decodes::<BTreeMap<ServiceId, Weights>>, "what DNS had is read anew", "the same").gone_by(),
    kind(keys::STANDING, placed::<StandingVerdict>, "what stood there is not known to the next leader: it is judged anew", "the same"),
    kind(
        keys::RUNS,
        placed::<Record>,
        "its run is left alone; while it was under way, nothing is done by itself",
        "the run is another one than was recorded: remove its record under `open/` instead, which gives the run up",
    ),
    kind(
        keys::OPEN,
        placed::<RunId>,
        "the run is found by its key",
        "the run is given up: what it had begun stays as it is, and its journal stays as it was",
    )
    .gone_by(),
    kind(keys::ENDED, placed::<RunSummary>, LEFT_OUT, "the run is gone from the list; its journal stays"),
    kind(keys::RUNS_INDEXED, decodes::<u16>, "runs are indexed anew at the next start", "the same").gone_by(),
    kind(keys::DECISIONS, decodes::<StoredDecision>, LEFT_OUT, GONE),
    kind(keys::WORLDS, decodes::<KeptWorld>, "its decision can't be run again", "the same"),
    kind(keys::WORLD_BASES, decodes::<World>, "decisions by it can't be run again", "the same"),
    kind(keys::WORLD_USES, decodes::<IgnoredAny>, "its base is kept", "its base may be forgotten"),
    kind(keys::MOVED, decodes::<Moved>, "its run can't put back what it moved", "the run puts nothing back"),
    kind(keys::OUTBOX, placed::<PageRecord>, "this page is not delivered; others are", "this page is never delivered").gone_by(),
    kind(keys::PAGED, placed::<PageRecord>, "it counts as delivered", "the same trouble may page again"),
    kind(keys::ANSWERS, decodes::<StoredAnswer>, "that command can't be repeated under its key", "a repeat of that command is a new one"),
    kind(
        keys::WRITE_RIGHTS,
        decodes::<DatasetRecord>,
        "the right is neither renewed nor moved: its holder writes while its peers vouch for it",
        "the right is granted anew to the configured holder, at generation 1: only where nobody writes and no copy is ahead",
    )
    .gone_by(),
    kind(keys::DATASET_MOVES, decodes::<MoveRecord>, "that dataset is not moved", "how its last move ended is forgotten").gone_by(),
    kind(
        keys::TOKENS,
        placed::<TokenRecord>,
        "the token opens nothing, and tokens are asked for as if it were an admin's",
        "the token is unknown, and its name may be given again",
    )
    .gone_by(),
    kind(keys::BREAK_GLASS, decodes::<Taken>, "that record of break-glass can't be taken into the audit", "it can be taken again"),
    kind(keys::PLANS, decodes::<PlanView>, "that plan can't be applied", GONE),
    kind(keys::AUDIT_HEAD, placed::<AuditHead>, "the audit goes on from its last record", "the same").gone_by(),
    kind(keys::AUDIT, decodes::<AuditRecord>, "the audit is broken there, which `drover audit verify` shows", "the same"),
];

/// The kind of what is under this key; nothing where this drover keeps no such records.
pub(crate) fn kind_of(key: &str) -> Option<&'static Kind> {
    KINDS.iter().filter(|kind| kind.has(key)).max_by_key(|kind| kind.prefix.len())
}

/// What is done while the record under this key can't be read.
pub(crate) fn meanwhile(key: &str) -> &'static str {
    kind_of(key).map_or("it is left out", |kind| kind.meanwhile)
}

/// What follows when the record under this key is removed.
fn removed(key: &str) -> &'static str {
    kind_of(key).map_or("this drover keeps no such records, a newer one may", |kind| kind.removed)
}

/// The run that a record tells of.
pub(crate) fn run_of(key: &str) -> Option<RunId> {
    let rest = key.strip_prefix(keys::OPEN).or_else(|| key.strip_prefix(keys::RUNS))?;
    rest.split('/').next()?.parse().ok().map(RunId::numbered)
}

/// Service and class of a block period.
pub(crate) fn of_block(key: &str) -> Option<(ServiceId, FailureClass)> {
    let (service, _) = key.strip_prefix(keys::BLOCKS)?.split_once('/')?;
    let service = ServiceId::new(service).ok()?;
    let classes = [FailureClass::Endpoint, FailureClass::Region, FailureClass::Recovery];
    let class = classes.into_iter().find(|class| keys::block(&service, *class) == key)?;
    Some((service, class))
}

/// How a person gets rid of the record under this key; `place` is how the command line names the store.
pub(crate) fn next_command(key: &str, place: &str) -> String {
    if key == keys::FREEZE {
        return "drover unfreeze --reason TEXT".to_owned();
    }
    if let Some((service, _)) = of_block(key) {
        return format!("drover rearm {service} --reason TEXT");
    }
    // A journal without one of its records is another run.
    let key = match run_of(key).filter(|_| key.starts_with(keys::RUNS)) {
        Some(run) => keys::open(&run),
        None => key.to_owned(),
    };
    format!("drover store remove '{}' {place} --save FILE", key.replace('\'', "'\\''"))
}

/// What a record is found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// It makes sense.
    Sound,
    /// This drover keeps no such records; a newer one may.
    Unknown,
    /// It does not.
    Unreadable(String),
}

/// Judges one record as a coordinator would.
#[must_use]
pub fn judge(key: &str, value: &[u8]) -> Judged {
    let Some(kind) = kind_of(key) else { return Judged::Unknown };
    let found = Versioned { value: value.to_vec(), create_revision: Revision(0), mod_revision: Revision(0) };
    match (kind.judge)(key, &found) {
        Ok(()) => Judged::Sound,
        Err(error) => Judged::Unreadable(drover_model::chain(&error)),
    }
}

/// Judges the record that says of a run that it is not over: it makes sense while its run can be gone on with. Else it is how a
/// person gives that run up.
///
/// # Errors
/// When the store can't be read.
pub async fn judge_in(store: Arc<dyn Store>, key: &str, value: &[u8]) -> Result<Judged, CoordinatorError> {
    let Some(run) = run_of(key).filter(|_| key.starts_with(keys::OPEN)) else { return Ok(judge(key, value)) };
    let db = Db::follow(store);
    let (mut records, mut after) = (Vec::new(), None);
    loop {
        let (items, next) =
            db.list_page_as_it_is::<Record>(&keys::journal_of(&run), after, LIST_PAGE).await?;
        for (_, read) in items {
            match read {
                Ok(record) => records.push(record),
                Err(error) => return Ok(Judged::Unreadable(drover_model::chain(&error))),
            }
        }
        match next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    Ok(match Execution::replay(&records) {
        Ok(_) => judge(key, value),
        Err(error) => Judged::Unreadable(format!("the journal of {run} can't be replayed: {error}")),
    })
}

/// Why a record is not removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRemoved {
    /// Nothing is there.
    #[error("there is no record {key} in the store")]
    Absent {
        /// The key.
        key: String,
    },
    /// It makes sense.
    #[error("record {key} makes sense: only what can't be read is removed")]
    Sound {
        /// The key.
        key: String,
    },
    /// It may be another version's.
    #[error("this drover keeps no records as {key}, a newer one may: it is left alone")]
    Unknown {
        /// The key.
        key: String,
    },
    /// It is of a journal.
    #[error("record {key} is of a journal, which would be another run without it")]
    OfJournal {
        /// The key.
        key: String,
        /// What gives the run up.
        instead: String,
    },
}

/// A record that may be removed.
#[derive(Debug, Clone)]
pub struct Removable {
    /// Its key.
    pub key: String,
    /// What it is.
    pub value: Vec<u8>,
    /// What is wrong with it.
    pub why: String,
    /// What follows when it is removed.
    pub follows: &'static str,
    revision: Revision,
}

/// Looks whether a record may be removed: only one that can't be read, and no record of a journal.
///
/// # Errors
/// When the store can't be read.
pub async fn removable(
    store: Arc<dyn Store>,
    key: &str,
) -> Result<Result<Removable, NotRemoved>, CoordinatorError> {
    let key = key.to_owned();
    let found = store.get(&key).await.map_err(|e| CoordinatorError::store(format!("read {key}"), e))?;
    let Some(found) = found else { return Ok(Err(NotRemoved::Absent { key })) };
    if let Some(run) = run_of(&key).filter(|_| key.starts_with(keys::RUNS)) {
        return Ok(Err(NotRemoved::OfJournal { key, instead: keys::open(&run) }));
    }
    Ok(match judge_in(store, &key, &found.value).await? {
        Judged::Sound => Err(NotRemoved::Sound { key }),
        Judged::Unknown => Err(NotRemoved::Unknown { key }),
        Judged::Unreadable(why) => Ok(Removable {
            follows: removed(&key),
            value: found.value,
            why,
            revision: found.mod_revision,
            key,
        }),
    })
}

/// Removes it, as it was looked at. `false` where it was written meanwhile.
///
/// # Errors
/// When the store can't be written.
pub async fn remove(store: &dyn Store, record: &Removable) -> Result<bool, CoordinatorError> {
    let txn = Txn::new().expect(&record.key, Expect::ModRevision(record.revision)).delete(&record.key);
    match store.txn(txn).await {
        Ok(_) => Ok(true),
        Err(drover_store::TxnError::Conflict { .. }) => Ok(false),
        Err(e) => Err(CoordinatorError::store(format!("remove {}", record.key), e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_of_one_kind() {
        let run = RunId::numbered(7);
        for (key, prefix) in [
            (keys::open(&run), keys::OPEN),
            (keys::journal(&run, 3), keys::RUNS),
            ("leader".into(), keys::LEADER),
            ("leader-beat".into(), keys::LEADER_BEAT),
            ("audit-head".into(), keys::AUDIT_HEAD),
            (keys::numbered(keys::AUDIT, 1), keys::AUDIT),
            ("published-from-record/x".into(), keys::FIXED_MADE_FROM),
        ] {
            assert_eq!(kind_of(&key).map(|kind| kind.prefix), Some(prefix), "{key}");
        }
        assert!(kind_of("leader-other").is_none());
        assert_eq!(judge("a-kind-of-next-year/1", b"{}"), Judged::Unknown);
    }

    #[test]
    fn the_next_command_ends_what_can_be_ended_by_a_verb_and_never_makes_another_run_of_a_journal() {
        let service = ServiceId::new("checkout").unwrap();
        let next = |key: &str| next_command(key, "--state S");
        assert_eq!(next("freeze"), "drover unfreeze --reason TEXT");
        let block = keys::block(&service, FailureClass::Region);
        assert_eq!(next(&block), "drover rearm checkout --reason TEXT");
        let journal = keys::journal(&RunId::numbered(7), 3);
        assert_eq!(next(&journal), "drover store remove 'open/000000000007' --state S --save FILE");
        assert_eq!(next("plans/it's"), "drover store remove 'plans/it'\\''s' --state S --save FILE");
    }
}
