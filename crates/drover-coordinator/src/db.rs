//! Typed access to the store. Every write carries the leader's record as a condition (I3): once another coordinator
//! has taken over, nothing that this one still has in hand can land.

use crate::error::CoordinatorError;
use crate::leader_record::{claim, next_epoch};
use crate::unreadable::Unreadable;
use arc_swap::ArcSwap;
use drover_model::{Epoch, Timestamp};
use drover_store::{Expect, JsonError, Limited, Op, Revision, Store, Txn, TxnError, get_json};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};

/// Store keys, one place for all.
pub mod keys {
    use drover_model::decision::FailureClass;
    use drover_model::{DatasetId, EndpointKey, PlanId, RunId, ServiceId, TokenName};

    /// Who leads. Begins the key of its beat too, so that one list shows both.
    pub const LEADER: &str = "leader";
    /// Which coordinators follow, each by its address.
    pub const COORDINATORS: &str = "coordinators/";
    /// The leader's sign of life. Not in its record, whose revision is the fence of every write.
    pub const LEADER_BEAT: &str = "leader-beat";
    /// What the store needs of whoever uses it; absent at level 1, which is all that this drover knows.
    pub const LEVEL: &str = "level";
    /// That nobody leads here any more.
    pub const RETIRED: &str = "retired";
    /// That the records are not all there yet.
    pub const IMPORTING: &str = "importing";
    /// Written to see whether writing works again.
    pub const WRITE_TEST: &str = "write-test";
    /// Automatic action off.
    pub const FREEZE: &str = "freeze";
    /// Operators' drains.
    pub const HOLDS: &str = "holds/";
    /// Block periods.
    pub const BLOCKS: &str = "blocks/";
    /// When block periods were ended, by service.
    pub const REARMED: &str = "rearmed";
    /// Where traffic stands.
    pub const TRAFFIC: &str = "traffic/";
    /// The targets of records that no traffic moves.
    pub const FIXED: &str = "fixed/";
    /// Which regions status pages declare out of service.
    pub const OUT_OF_SERVICE: &str = "out-of-service";
    /// The weights that were live in DNS when they were read or written last.
    pub const DNS_SEEN: &str = "dns-seen";
    /// The verdict that stands for each endpoint, as of its last change.
    pub const STANDING: &str = "standing/";
    /// Runs by number.
    pub const RUNS: &str = "runs/";
    /// Runs that are not over, by number.
    pub const OPEN: &str = "open/";
    /// How the others ended, by number.
    pub const ENDED: &str = "ended/";
    /// Version of these two.
    pub const RUNS_INDEXED: &str = "runs-indexed";
    /// Decisions by number.
    pub const DECISIONS: &str = "decisions/";
    /// The worlds that decisions were made from, by the decision's number.
    pub const WORLDS: &str = "worlds/";
    /// The worlds by which those are written, by number.
    pub const WORLD_BASES: &str = "world-bases/";
    /// A mark for each of these, and below it one for each world that is written by it.
    pub const WORLD_USES: &str = "world-uses/";
    /// What a run moved and ended, so that its undo can put back just that.
    pub const MOVED: &str = "moved/";
    /// Pages to deliver.
    pub const OUTBOX: &str = "outbox/";
    /// Pages that were delivered or given up.
    pub const PAGED: &str = "paged/";
    /// Answers to commands, by idempotency key.
    pub const ANSWERS: &str = "answers/";
    /// Who may write, by dataset. Any coordinator renews one, leading or not, as it writes its own record in `coordinators/`.
    pub const WRITE_RIGHTS: &str = "write-rights/";
    /// The last move of a write right, by dataset.
    pub const DATASET_MOVES: &str = "dataset-moves/";
    /// Tokens of people, by name.
    pub const TOKENS: &str = "tokens/";
    /// Lines of break-glass records that are in the audit, by the hash of the first of each command.
    pub const BREAK_GLASS: &str = "break-glass/";
    /// Plans that were made.
    pub const PLANS: &str = "plans/";
    /// Every command, decision and refusal.
    pub const AUDIT: &str = "audit/";
    /// The last of these, to which the next one is linked.
    pub const AUDIT_HEAD: &str = "audit-head";

    /// A dataset's write right.
    #[must_use]
    pub fn write_right(dataset: &DatasetId) -> String {
        format!("{WRITE_RIGHTS}{dataset}")
    }

    /// The last move of a dataset.
    #[must_use]
    pub fn dataset_move(dataset: &DatasetId) -> String {
        format!("{DATASET_MOVES}{dataset}")
    }

    /// A service's traffic.
    #[must_use]
    pub fn traffic(service: &ServiceId) -> String {
        format!("{TRAFFIC}{service}")
    }

    /// From which configuration a service's target was made.
    pub const MADE_FROM: &str = "published-from/";
    /// The same of a record that no traffic moves.
    pub const FIXED_MADE_FROM: &str = "published-from-record/";

    /// The target of a record that no traffic moves.
    #[must_use]
    pub fn fixed(id: &ServiceId) -> String {
        format!("{FIXED}{id}")
    }

    /// An endpoint's verdict.
    #[must_use]
    pub fn standing(endpoint: &EndpointKey) -> String {
        format!("{STANDING}{endpoint}")
    }

    /// A service's block period.
    #[must_use]
    pub fn block(service: &ServiceId, class: FailureClass) -> String {
        let class = match class {
            FailureClass::Endpoint => "endpoint",
            FailureClass::Region => "region",
            FailureClass::Recovery => "recovery",
        };
        format!("{BLOCKS}{service}/{class}")
    }

    /// Of one command.
    #[must_use]
    pub fn glass(first_line: &str) -> String {
        format!("{BREAK_GLASS}{first_line}")
    }

    /// A run's hold.
    #[must_use]
    pub fn hold(run: &RunId) -> String {
        format!("{HOLDS}{run}")
    }

    /// What a run moved.
    #[must_use]
    pub fn moved(run: &RunId) -> String {
        numbered(MOVED, number_of(run.as_str()).unwrap_or_default())
    }

    /// A run that is not over.
    #[must_use]
    pub fn open(run: &RunId) -> String {
        numbered(OPEN, number_of(run.as_str()).unwrap_or_default())
    }

    /// How a run ended.
    #[must_use]
    pub fn ended(run: &RunId) -> String {
        numbered(ENDED, number_of(run.as_str()).unwrap_or_default())
    }

    /// What a coordinator that follows says of itself.
    #[must_use]
    pub fn coordinator(url: &str) -> String {
        format!("{COORDINATORS}{url}")
    }

    /// A person's token.
    #[must_use]
    pub fn token(name: &TokenName) -> String {
        format!("{TOKENS}{name}")
    }

    /// A plan.
    #[must_use]
    pub fn plan(id: &PlanId) -> String {
        format!("{PLANS}{id}")
    }

    /// The highest number that a record has. Twelve digits go further: a key beyond is none of drover's, and the numbers
    /// after it would have no place.
    pub const NUMBER_MAX: u64 = 899_999_999_999;

    /// A numbered record: padded, so that key order is number order.
    #[must_use]
    pub fn numbered(prefix: &str, number: u64) -> String {
        format!("{prefix}{number:012}")
    }

    /// That a decision's world is written by this base.
    #[must_use]
    pub fn world_use(base: u64, number: u64) -> String {
        format!("{}/{number:012}", numbered(WORLD_USES, base))
    }

    /// The number in a name such as `run-7`.
    #[must_use]
    pub fn number_of(name: &str) -> Option<u64> {
        name.rsplit('-').next()?.parse().ok()
    }

    /// A journal record of a run.
    #[must_use]
    pub fn journal(run: &RunId, sequence: u64) -> String {
        format!("{}{sequence:06}", journal_of(run))
    }

    /// Every journal record of a run.
    #[must_use]
    pub fn journal_of(run: &RunId) -> String {
        format!("{}/journal/", numbered(RUNS, number_of(run.as_str()).unwrap_or_default()))
    }
}

/// The record that says who leads.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Leader {
    /// Its epoch.
    pub epoch: Epoch,
    /// Process id, for people.
    pub pid: u32,
    /// Since when.
    pub since: Timestamp,
    /// Where its API is reached, when others may need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    /// It was put down: whoever sees it takes over at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub released: bool,
}

/// Whether this coordinator leads.
#[derive(Debug, Clone, Copy)]
struct Standing {
    /// Who commands: its own, or that of the leader it saw last.
    epoch: Epoch,
    /// The revision of its record; nothing while another one leads.
    fence: Option<Revision>,
}

/// A revision that no record ever has: nothing lands that requires it.
const NEVER: Revision = Revision(i64::MAX as u64);

/// The store under this leader's epoch.
#[derive(Clone)]
pub struct Db {
    store: Arc<dyn Store>,
    standing: Arc<ArcSwap<Standing>>,
    /// Why the last write failed, when it did; a write that was refused for its content is no failure.
    write_failure: Arc<Mutex<Option<String>>>,
    /// What was read and makes no sense.
    unreadable: Arc<Unreadable>,
}

/// Records read in one page.
pub(crate) const LIST_PAGE: usize = 1_000;

impl Db {
    /// Takes over: raises the epoch by compare-and-swap on the leader's record.
    ///
    /// # Errors
    /// When the store fails, or another coordinator took over at the same moment.
    pub async fn take_over(
        store: Arc<dyn Store>,
        now: Timestamp,
        incarnation: u64,
    ) -> Result<Self, CoordinatorError> {
        let what = "take over the leader's record";
        crate::transfer::refuse_unusable(&*store).await?;
        let held =
            get_json::<Leader>(&*store, keys::LEADER).await.map_err(|e| CoordinatorError::store(what, e))?;
        let expect = held.as_ref().map_or(Expect::Absent, |l| Expect::ModRevision(l.mod_revision));
        let epoch = next_epoch(held.map(|l| l.value.epoch), incarnation);
        let leader = Leader { epoch, pid: std::process::id(), since: now, advertise: None, released: false };
        match store.txn(claim(&leader, expect)?).await {
            Ok(done) => Ok(Self::standing(store, Standing { epoch, fence: Some(done.revision) })),
            Err(TxnError::Conflict { .. }) => Err(CoordinatorError::Fenced { what: what.into() }),
            Err(e) => Err(CoordinatorError::store(what, e)),
        }
    }

    fn standing(store: Arc<dyn Store>, standing: Standing) -> Self {
        let standing = Arc::new(ArcSwap::from_pointee(standing));
        Self { store, standing, write_failure: Arc::default(), unreadable: Arc::default() }
    }

    /// The store as a follower has it: to read, while every write requires what never is (I3).
    #[must_use]
    pub fn follow(store: Arc<dyn Store>) -> Self {
        Self::standing(store, Standing { epoch: Epoch { incarnation: 0, counter: 0 }, fence: None })
    }

    /// Another one leads, under this epoch.
    pub(crate) fn note_leader(&self, epoch: Epoch) {
        if !self.is_leader() {
            self.standing.store(Arc::new(Standing { epoch, fence: None }));
        }
    }

    /// From now on this coordinator writes under this epoch, behind this fence.
    pub(crate) fn lead(&self, epoch: Epoch, fence: Revision) {
        self.standing.store(Arc::new(Standing { epoch, fence: Some(fence) }));
    }

    /// Did this coordinator take over? Whether its record still stands only the store knows.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.standing.load().fence.is_some()
    }

    /// The same leader on another store: one that misbehaves.
    #[cfg(test)]
    pub(crate) fn on(&self, store: Arc<dyn Store>) -> Self {
        Self { store, ..self.clone() }
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Who commands.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.standing.load().epoch
    }

    /// A transaction that only lands while this coordinator leads.
    #[must_use]
    pub fn fenced(&self) -> Txn {
        let fence = self.standing.load().fence.unwrap_or(NEVER);
        Txn::new().expect(keys::LEADER, Expect::ModRevision(fence))
    }

    /// Commits; a conflict on the leader's record is [`CoordinatorError::Fenced`], any other comes back as `Ok(None)`.
    ///
    /// # Errors
    /// When the store fails or this coordinator no longer leads.
    pub async fn commit(&self, what: &str, txn: Txn) -> Result<Option<Revision>, CoordinatorError> {
        match self.commit_raw(txn).await {
            Ok(revision) => Ok(Some(revision)),
            Err(TxnError::Conflict { key, .. }) if key == keys::LEADER => {
                Err(CoordinatorError::Fenced { what: what.to_owned() })
            }
            Err(TxnError::Conflict { .. }) => Ok(None),
            Err(TxnError::TooLarge { what: Limited::Value { .. } | Limited::Bytes, actual, limit }) => {
                Err(CoordinatorError::TooLarge { what: what.to_owned(), bytes: actual, limit })
            }
            Err(e) => Err(CoordinatorError::store(what, e)),
        }
    }

    /// Commits exactly `txn` and hands back the store's own answer; for the journal, which tells its errors apart.
    ///
    /// # Errors
    /// The store's.
    pub async fn commit_raw(&self, txn: Txn) -> Result<Revision, TxnError> {
        let done = self.store.txn(txn).await;
        let failure = match &done {
            Ok(_) | Err(TxnError::Conflict { .. }) => None,
            // The transaction was wrong, which says nothing of the store.
            Err(TxnError::TooLarge { .. } | TxnError::BadKey { .. }) => return done.map(|c| c.revision),
            Err(e) => Some(e.to_string()),
        };
        *self.write_failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        done.map(|c| c.revision)
    }

    /// Why the last write failed, when it did.
    #[must_use]
    pub fn write_failure(&self) -> Option<String> {
        self.write_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Is the leader's record still this coordinator's?
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn leads(&self) -> Result<bool, CoordinatorError> {
        let fence = self.standing.load().fence;
        Ok(self.get::<Leader>(keys::LEADER).await?.is_some_and(|(_, r)| Some(r) == fence))
    }

    /// Reads one record.
    ///
    /// # Errors
    /// When the store fails or the record is not what was expected.
    pub async fn get<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<(T, Revision)>, CoordinatorError> {
        let found = get_json::<T>(&*self.store, key).await.map_err(|e| self.not_read(key, e))?;
        Ok(found.map(|v| (v.value, v.mod_revision)))
    }

    /// Writes one record.
    ///
    /// # Errors
    /// When the store fails or this coordinator no longer leads.
    pub async fn put<T: Serialize>(&self, key: &str, value: &T) -> Result<(), CoordinatorError> {
        let txn = self.put_op(self.fenced(), key, value)?;
        self.commit(&format!("write {key}"), txn).await.map(|_| ())
    }

    /// Adds a put to a transaction.
    ///
    /// # Errors
    /// When the value has no JSON form.
    pub fn put_op<T: Serialize>(&self, txn: Txn, key: &str, value: &T) -> Result<Txn, CoordinatorError> {
        let op = Op::put_json(key, value).map_err(|e| CoordinatorError::store(format!("encode {key}"), e))?;
        Ok(txn.op(op))
    }

    /// Writes one record that must get through when the disk is nearly full: it may use the journal's reserve.
    ///
    /// # Errors
    /// When the store fails or this coordinator no longer leads.
    pub async fn put_reserved<T: Serialize>(&self, key: &str, value: &T) -> Result<(), CoordinatorError> {
        let txn = self.put_op(self.fenced(), key, value)?.for_journal();
        self.commit(&format!("write {key}"), txn).await.map(|_| ())
    }

    /// Removes one record.
    ///
    /// # Errors
    /// When the store fails or this coordinator no longer leads.
    pub async fn delete(&self, key: &str) -> Result<(), CoordinatorError> {
        self.commit(&format!("delete {key}"), self.fenced().delete(key)).await.map(|_| ())
    }

    /// Reads every record under a prefix. One that makes no sense is noted, and hides no other.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list<T: DeserializeOwned>(
        &self,
        prefix: &str,
    ) -> Result<Vec<(String, T)>, CoordinatorError> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let (items, next) = self.list_page(prefix, after, LIST_PAGE).await?;
            all.extend(items);
            match next {
                Some(next) => after = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// One page of the records under a prefix after `after`, and where the next one begins. One that makes no sense is
    /// noted, and hides no other.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_page<T: DeserializeOwned>(
        &self,
        prefix: &str,
        after: Option<String>,
        limit: usize,
    ) -> Result<(Vec<(String, T)>, Option<String>), CoordinatorError> {
        let (page, next) = self.list_page_as_it_is(prefix, after, limit).await?;
        let sound = |(key, read): (String, _)| Some((self.sound_or_noted(&key, read)?, key));
        Ok((page.into_iter().filter_map(sound).map(|(value, key)| (key, value)).collect(), next))
    }

    /// The same, where a record that is not what was expected is an answer.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_page_as_it_is<T: DeserializeOwned>(
        &self,
        prefix: &str,
        after: Option<String>,
        limit: usize,
    ) -> Result<(Vec<(String, Result<T, JsonError>)>, Option<String>), CoordinatorError> {
        let page = self
            .store
            .list(prefix, after.as_deref(), limit)
            .await
            .map_err(|e| CoordinatorError::store(format!("list {prefix}"), e))?;
        let read = |item: drover_store::Entry| {
            let value = item.versioned.decode_json(&item.key).map(|read| read.value);
            (item.key, value)
        };
        Ok((page.items.into_iter().map(read).collect(), page.next))
    }

    /// Creates a record that must not exist; `false` when it does. Pages are made so, and must get through when the disk
    /// is nearly full: it may use the journal's reserve.
    ///
    /// # Errors
    /// When the store fails or this coordinator no longer leads.
    pub async fn create<T: Serialize>(&self, key: &str, value: &T) -> Result<bool, CoordinatorError> {
        let txn = self.put_op(self.fenced().expect(key, Expect::Absent), key, value)?.for_journal();
        Ok(self.commit(&format!("create {key}"), txn).await?.is_some())
    }
}

mod numbered;
mod sound;
#[cfg(test)]
mod tests;
