//! The trait behind which every provider of record sets stands, and the provider of embedded instances.
//!
//! A writer observes, compares, applies with the state that it compared against, and verifies by asking over
//! DNS. No provider decides where traffic goes; each refuses what would overwrite something that the writer
//! has not seen.

pub(crate) mod control_client;
mod diff;
pub(crate) mod drawn;
mod embedded;
mod finding;
mod gate;
mod health_checks;
mod marks;
mod route53;
mod signing;
mod update;
mod verify;
mod wanted;

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use drover_model::api::CheckFound;
use drover_model::{Epoch, RegionId};
use serde::{Deserialize, Serialize};

pub use diff::{Blocked, BlockedReason, Diff, diff};
pub use embedded::{EmbeddedInstances, EmbeddedOptions, Instance, NoInstances};
pub use gate::{Admitted, Gate, Right, Withheld};
pub use health_checks::{WantedChecks, WantedPage, WantedRegion};
pub use marks::{Registered, registry_name};
pub use route53::HostedZone;
pub use signing::{BatchSigner, ZoneGenerations};
pub use update::DynamicUpdates;

use self::wanted::Shown;
use crate::publish::{Batch, Conflict, FenceReason, Shortened};
use crate::zone::{RecordKey, RecordSet};

/// Where record sets are published.
#[async_trait]
pub trait RecordSets: Send + Sync {
    /// The provider's name, for messages.
    fn name(&self) -> &str;

    /// What the provider can express; a plan says so where it can't do what was asked.
    fn capabilities(&self) -> Capabilities;

    /// What is live for each of the keys, in their order.
    ///
    /// # Errors
    /// `Unreachable` or `TimedOut` if nothing could be observed at all: that is not the same as nothing being
    /// there.
    async fn observe(&self, keys: &[RecordKey]) -> Result<Vec<Observed>, ProviderError>;

    /// Who commands there, by the provider's own record.
    ///
    /// # Errors
    /// `Unreachable` or `TimedOut` if nobody could be asked; `NotNow` where the record can't be read.
    async fn commands(&self) -> Result<Commands, ProviderError>;

    /// The highest epoch under which anybody has written there; none: nobody has. Whoever is no leader writes under it
    /// (`break-glass`): that deposes nobody.
    ///
    /// # Errors
    /// As [`RecordSets::commands`]; `NotNow` where servers obey different stores.
    async fn commanded_by(&self) -> Result<Option<Epoch>, ProviderError> {
        self.commands().await?.highest()
    }

    /// Has those servers obey the store of `to` which obey these epochs of others: a deliberate act, when that store is lost for
    /// good. What is answered stays as it is. Gives the servers that do now; of the others each says why not.
    ///
    /// # Errors
    /// As [`RecordSets::apply`], where it is one zone that commands all servers.
    async fn take_command(&self, from: &[(String, Epoch)], to: Epoch) -> Result<Coverage, ProviderError>;

    /// Makes the next observation of these one of now, where a provider remembers what it saw.
    fn forget(&self, _keys: &[RecordKey]) {}

    /// What must change so that `desired` is live. Pure; record sets that are not desired are left alone.
    fn diff(&self, desired: &[RecordSet], observed: &[Observed]) -> Diff {
        diff(desired, observed)
    }

    /// Makes the batch live, all of it or nothing, wherever it can be reached. Repeating it is harmless.
    ///
    /// # Errors
    /// See [`ProviderError`]. After `TimedOut` the batch may be live: observe before deciding anew.
    async fn apply(&self, batch: &Batch) -> Result<Applied, ProviderError>;

    /// Has all servers that can be reached answer with shorter times to live for a while; see [`Shortened`]. Only where
    /// [`Capabilities::shortens_ttls`].
    ///
    /// # Errors
    /// `Fenced` under an older epoch. A server that is not reached is none: the move that is expected does not depend on it.
    async fn shorten(&self, _told: &Shortened) -> Result<(), ProviderError> {
        Ok(())
    }

    /// Makes the health checks that record sets are to follow, keeps them as they should be, and has these follow them: what they answer
    /// stays as it is. Gives each as it was found. Of `declared` regions, no check that is new counts.
    ///
    /// # Errors
    /// As [`RecordSets::apply`]. Repeating it is harmless.
    async fn provision(
        &self,
        _epoch: Epoch,
        _keys: &[RecordKey],
        _declared: &BTreeSet<RegionId>,
    ) -> Result<Vec<CheckFound>, ProviderError> {
        Ok(vec![])
    }

    /// Asks over DNS alone, and nothing else, whether none of these values is among so many answers of each server. What is wanted is not
    /// compared.
    ///
    /// # Errors
    /// As [`RecordSets::verify`]; `Refused` where a region can't be left but by a change of its records.
    async fn unanswered(
        &self,
        _key: &RecordKey,
        _values: &BTreeSet<String>,
        _draws: u32,
    ) -> Result<Verification, ProviderError> {
        Err(ProviderError::Refused {
            instance: self.name().to_owned(),
            code: "no_health_checks".to_owned(),
            detail: "its record sets follow no health checks".to_owned(),
        })
    }

    /// Asks over DNS whether `expected` is what is answered for `key`; `None`: that nothing is.
    ///
    /// # Errors
    /// `Unreachable` or `TimedOut` if nobody could be asked: no data is never a pass (I10).
    async fn verify(
        &self,
        key: &RecordKey,
        expected: Option<&RecordSet>,
    ) -> Result<Verification, ProviderError>;
}

/// What a provider can express.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Answers follow the weights. If not, a member is either answered or not, in equal shares.
    pub has_weights: bool,
    /// The largest weight of a member.
    pub weight_max: u16,
    /// A batch happens at once for everyone who asks one server.
    pub is_batch_atomic: bool,
    /// The most changes of a batch. More are given in several.
    pub batch_changes_max: usize,
    /// What is live can be told by its generation, not only by its values.
    pub shows_generation: bool,
    /// Times to live can be shorter for a while, at the cost of no change of a record.
    pub shortens_ttls: bool,
}

/// Who commands the servers that could be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commands {
    /// Each with the highest epoch under which anybody has written there; none: nobody has.
    pub known: Vec<(String, Option<Epoch>)>,
    /// Those that could not be asked.
    pub missing: Vec<MissingInstance>,
}

impl Commands {
    /// Of all of them the highest.
    ///
    /// # Errors
    /// `NotNow` where they obey different stores: which of these commands is for a person to say.
    pub fn highest(&self) -> Result<Option<Epoch>, ProviderError> {
        let known = || self.known.iter().filter_map(|(name, epoch)| Some((name, (*epoch)?)));
        let Some((name, highest)) = known().max_by_key(|(_, epoch)| epoch.counter) else { return Ok(None) };
        match known().find(|(_, epoch)| epoch.incarnation != highest.incarnation) {
            None => Ok(Some(highest)),
            Some((other, epoch)) => Err(ProviderError::NotNow {
                instance: other.clone(),
                detail: format!(
                    "it was commanded by {epoch} last, and {name} by {highest}, of another store"
                ),
            }),
        }
    }

    /// The servers that obey another store than the one of `own`, with whom they obey.
    #[must_use]
    pub fn of_others(&self, own: Epoch) -> Vec<(String, Epoch)> {
        let known = self.known.iter().filter_map(|(name, epoch)| Some((name.clone(), (*epoch)?)));
        known.filter(|(_, epoch)| epoch.incarnation != own.incarnation).collect()
    }
}

/// What is live for one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Which record set.
    pub key: RecordKey,
    /// The newest of what is live at the servers that could be asked; none: no such set at any of them.
    pub current: Option<RecordSet>,
    /// It is drover's, and not as drover wrote it: somebody changed it by hand.
    pub is_changed_by_hand: bool,
    /// The servers that do not show it: behind, or not reached.
    pub lagging: Vec<Lagging>,
}

impl Observed {
    fn of(shown: Option<Shown>, key: RecordKey, lagging: Vec<Lagging>) -> Self {
        let is_changed_by_hand = shown.as_ref().is_some_and(|shown| shown.is_changed_by_hand);
        Self { key, current: shown.map(|shown| shown.set), is_changed_by_hand, lagging }
    }
}

/// A server that does not show what the newest shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lagging {
    /// The server's name.
    pub instance: String,
    /// How it lags.
    pub state: LaggingState,
}

/// How a server lags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum LaggingState {
    /// It shows another version; none: no such set.
    Behind {
        /// The version.
        generation: Option<u64>,
    },
    /// It shows an earlier state of the zone, and will follow by itself: nothing that is written could hasten it.
    Earlier,
    /// It shows it, and has no signature of it that it could show to others.
    Unsigned,
    /// It could not be asked; what it answers is not known.
    NotReached {
        /// Why not.
        reason: String,
    },
}

/// A server that could not be reached, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingInstance {
    /// The server's name.
    pub instance: String,
    /// Why it could not be reached.
    pub reason: String,
}

/// Where a batch is live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// The servers that show it now.
    pub instances: Vec<String>,
    /// The servers that could not be told: the publication is partial, and they may answer the old state.
    pub missing: Vec<MissingInstance>,
}

/// What a batch led to. At least one server shows it; `missing` tells which others may not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "applied", rename_all = "snake_case")]
pub enum Applied {
    /// At least one server changed.
    Changed(Coverage),
    /// All servers that were reached showed it already.
    Unchanged(Coverage),
}

impl Applied {
    /// Where it is live.
    #[must_use]
    pub const fn coverage(&self) -> &Coverage {
        match self {
            Self::Changed(coverage) | Self::Unchanged(coverage) => coverage,
        }
    }
}

/// What the servers answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verification", rename_all = "snake_case")]
pub enum Verification {
    /// Every server answers as expected.
    Verified {
        /// The servers.
        instances: Vec<String>,
    },
    /// Every server that could be asked answers as expected.
    Partial {
        /// Those that could be asked.
        verified: Vec<String>,
        /// Those that could not.
        missing: Vec<MissingInstance>,
    },
    /// At least one server answers something else.
    Mismatch {
        /// What was found, and where.
        mismatches: Vec<InstanceMismatch>,
        /// The servers that answer as expected.
        verified: Vec<String>,
        /// The servers that could not be asked.
        missing: Vec<MissingInstance>,
    },
}

/// A server that answers something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceMismatch {
    /// The server's name.
    pub instance: String,
    /// What it answers.
    pub found: Mismatch,
}

/// An answer that was not expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "mismatch", rename_all = "snake_case")]
pub enum Mismatch {
    /// Another version is live; none: no such set.
    #[error("generation {} is live where {expected} was expected",
        found.map_or("none".to_owned(), |found| found.to_string()))]
    Generation {
        /// The expected version.
        expected: u64,
        /// What is live.
        found: Option<u64>,
    },
    /// Somebody changed it by hand.
    #[error("it was changed by hand")]
    ChangedByHand,
    /// The change was taken, and has not reached all servers.
    #[error("the change {} is on its way for {} s", change.as_deref().unwrap_or("(its id was lost)"), after.as_secs())]
    Pending {
        /// What the provider calls it; none: its answer was lost.
        change: Option<String>,
        /// Since when.
        after: Duration,
    },
    /// Nobody can tell which state of the zone a server has.
    #[error("the zone's fence is gone, or can't be read")]
    Unfenced,
    /// An earlier state of the whole zone.
    #[error("an earlier state of the zone is answered")]
    Earlier,
    /// A value that has no weight, or is not in the set.
    #[error("{value} is answered and must not be")]
    Value {
        /// The value.
        value: String,
    },
    /// A value that has weight is missing where all are answered at once.
    #[error("{value} is not answered and must be")]
    Missing {
        /// The value.
        value: String,
    },
    /// Not as many values in an answer as there should be.
    #[error("{found} values are answered where {expected} were expected")]
    Count {
        /// How many should be.
        #[serde(default = "one")]
        expected: usize,
        /// How many.
        found: usize,
    },
    /// Another time to live.
    #[error("the time to live is {found_seconds} s where {expected_seconds} s were expected")]
    Ttl {
        /// The expected one.
        expected_seconds: u32,
        /// The one that is answered.
        found_seconds: u32,
    },
    /// No proper answer.
    #[error("the answer is {rcode}, authoritative: {is_authoritative}")]
    Rcode {
        /// The result code's name.
        rcode: String,
        /// Whether the server says that it is in charge.
        is_authoritative: bool,
    },
}

/// What every kind of server was expected to answer once.
const fn one() -> usize {
    1
}

/// Why a provider did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// Something else is live than was expected. Observe, and decide anew.
    #[error("cannot apply the batch: {instance} does not show what was expected of {} record sets",
        conflicts.len())]
    Conflict {
        /// Who shows it.
        instance: String,
        /// What is live.
        conflicts: Vec<Conflict>,
    },
    /// A later leader commands (I3), or the incarnation was not adopted. Stop.
    #[error("cannot apply the batch: {instance} refuses the epoch, {reason} (highest seen {highest})")]
    Fenced {
        /// Who refuses.
        instance: String,
        /// The highest epoch that it has seen.
        highest: Epoch,
        /// Why.
        reason: FenceReason,
    },
    /// Nobody could be reached; nothing has changed.
    #[error("cannot reach any of {} servers, first {}", .missing.len(),
        .missing.first().map_or_else(String::new, |one| format!("{}: {}", one.instance, one.reason)))]
    Unreachable {
        /// All of them.
        missing: Vec<MissingInstance>,
    },
    /// The request will never be accepted as it is.
    #[error("{instance} refuses the request ({code}): {detail}")]
    Refused {
        /// Who refuses.
        instance: String,
        /// The stable code of the refusal.
        code: String,
        /// Why.
        detail: String,
    },
    /// It was not done and nothing changed; the same request may be accepted later.
    #[error("{instance} can't be told now: {detail}")]
    NotNow {
        /// Whom it concerns.
        instance: String,
        /// Why, and what to do about it.
        detail: String,
    },
    /// Some of it may have been done: observe before deciding anew.
    #[error("what {instance} did is not known: {detail}")]
    Unclear {
        /// Whom it concerns.
        instance: String,
        /// Why.
        detail: String,
    },
    /// It was never given to the provider.
    #[error(transparent)]
    Withheld(#[from] Withheld),
    /// No answer in time from anyone; the outcome is not known.
    #[error("no answer from any server within {} ms: the outcome is not known", after.as_millis())]
    TimedOut {
        /// How long was waited.
        after: Duration,
    },
}
