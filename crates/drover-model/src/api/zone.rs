//! What DNS shows of the services beside what it should (`GET /v1/dns`), and how a record set is adopted.

use crate::break_glass::HeldBy;
use crate::config::Answering;
use crate::ids::{RegionId, ServiceId};
use crate::time::Timestamp;
use crate::traffic::{Actor, TargetOrigin};
use crate::units::Epoch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The zone, read just now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ZoneView {
    /// Version of this document's form.
    pub schema: u16,
    /// When.
    pub at: Timestamp,
    /// Its apex.
    pub zone: String,
    /// How the zone is told, such as `embedded` or `rfc2136`.
    pub provider: String,
    /// Do answers follow weights? If not, whoever has any is answered in equal shares.
    pub has_weights: bool,
    /// What answers are given for while a failover seems near, where that is less than a record set's own time to live; absent where the
    /// servers can't do that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_floor_seconds: Option<u32>,
    /// The servers that answer for it, as they were seen last.
    pub servers: Vec<DnsView>,
    /// One for each service, in the order of their names.
    pub records: Vec<RecordView>,
    /// Servers that obey another store, and refuse this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub of_another_store: Vec<DnsCommandView>,
}

/// What takes the command of DNS after a store was lost.
pub const DNS_COMMAND_TAKEN_BY: &str = "drover dns adopt --command --reason TEXT";

/// A DNS server that obeys another store than the one that is commanded from here: one that was lost and is replaced, or one that is in
/// use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DnsCommandView {
    /// The server; where a zone has a fence of its own, its primary.
    pub server: String,
    /// The highest epoch that it has obeyed.
    pub epoch: Epoch,
}

/// Has DNS servers obey this store, which obeyed another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TakeCommandRequest {
    /// Who.
    pub by: Actor,
    /// Why.
    pub reason: String,
    /// Whom they obeyed when somebody decided so. If that isn't so any more, nothing is done.
    pub seen: Vec<DnsCommandView>,
}

/// One DNS server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DnsView {
    /// Its name.
    pub instance: String,
    /// Where it answers.
    pub query: String,
    /// Did it answer when last asked?
    pub reachable: bool,
    /// Record sets that differ from the target, in words.
    pub behind: Vec<String>,
    /// When it was last asked.
    pub checked_at: Option<Timestamp>,
    /// So many record sets were published without it, and it has not been seen to show them since.
    #[serde(default)]
    pub published_partial: u64,
    /// What it answers that is not what the zone has, as the servers are asked in turn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contradictions: Vec<ContradictionView>,
}

impl DnsView {
    /// Was it reached, and does it show and answer what it should?
    #[must_use]
    pub fn is_in_line(&self) -> bool {
        self.reachable && self.behind.is_empty() && self.contradictions.is_empty()
    }
}

/// A server answers something else than the zone has: an old copy that does not follow, or another server in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContradictionView {
    /// The name that was asked for.
    pub name: String,
    /// What came, in words.
    pub found: String,
    /// Who saw it: an agent, or `coordinator`.
    pub from: String,
    /// Since when.
    pub since: Timestamp,
    /// Did it stand for so long that it is no lag any more? Then it pages.
    pub stands: bool,
}

impl ContradictionView {
    /// In one line.
    #[must_use]
    pub fn sentence(&self, server: &str) -> String {
        let Self { name, found, from, since, .. } = self;
        format!("{server} answers {found} for {name}, seen from {from} since {since}")
    }
}

/// A service's record set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecordView {
    /// The service.
    pub service: ServiceId,
    /// Its name in DNS.
    pub name: String,
    /// `A`, `AAAA` or `CNAME`.
    pub record_type: String,
    /// How it compares.
    pub state: RecordState,
    /// In one sentence, when it is not as it should be.
    pub sentence: Option<String>,
    /// The command that goes on from here.
    pub next: Option<String>,
    /// What is live; nothing where there is no such set.
    pub live: Option<RecordVersion>,
    /// What should be.
    pub wanted: RecordVersion,
    /// The servers that are not known to show what is live: behind, or not reached.
    #[serde(default)]
    pub published_partial: Vec<String>,
}

impl RecordView {
    /// Who holds it by break-glass, where somebody does.
    #[must_use]
    pub fn held_by(&self) -> Option<HeldBy> {
        let live = self.live.as_ref().filter(|_| self.state == RecordState::Foreign)?;
        HeldBy::of_owner(&live.owner)
    }

    /// Does it wait for a person, because somebody else made it what it is or because too much changed at once?
    #[must_use]
    pub const fn can_be_adopted(&self) -> bool {
        use RecordState::{Drifted, Foreign, Overtaken, Withheld};
        matches!(self.state, Drifted | Foreign | Overtaken | Withheld)
    }
}

/// A record set at one generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecordVersion {
    /// Which.
    pub generation: u64,
    /// Whose it is.
    pub owner: String,
    /// How long an answer may be kept, in seconds.
    pub ttl_seconds: u32,
    /// The values.
    pub values: Vec<ValueView>,
    /// With how many of them it is answered, and whom with which; absent: with one, drawn anew.
    #[serde(default, skip_serializing_if = "Answering::is_usual")]
    pub answering: Answering,
}

/// One value of a record set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ValueView {
    /// The region that it leads to, where that is known.
    pub region: Option<RegionId>,
    /// The address or name.
    pub value: String,
    /// Its weight.
    pub weight: u16,
}

/// That a record set was published (`GET /v1/dns/history`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublicationView {
    /// When a provider said that it is live.
    pub at: Timestamp,
    /// Whose.
    pub service: ServiceId,
    /// Its name in DNS.
    pub name: String,
    /// `A`, `AAAA` or `CNAME`.
    pub record_type: String,
    /// Under whose command.
    pub epoch: Epoch,
    /// Who decided it; nothing where the target had changed again by then.
    pub decided: Option<TargetOrigin>,
    /// What the DNS servers' own logs call the batch.
    pub batch: String,
    /// What was live before; nothing where there was no such set.
    pub before: Option<RecordVersion>,
    /// What is live since.
    pub after: RecordVersion,
    /// The servers that it did not reach, and that are not seen to show it yet.
    #[serde(default)]
    pub published_partial: Vec<String>,
    /// Nothing was published then: these servers were seen to show what had been published without them.
    #[serde(default)]
    pub caught_up: Vec<String>,
}

/// How a record set compares with what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordState {
    /// It is as it should be, everywhere that was reached.
    InLine,
    /// It is about to be published.
    Pending,
    /// It is to be published, and waits for a person: the configuration changed more at once than may change unasked.
    Withheld,
    /// It was changed by hand.
    Drifted,
    /// It belongs to somebody else.
    Foreign,
    /// Somebody published a later generation.
    Overtaken,
    /// It can't be published at all.
    Invalid,
}

/// Takes a record set that was changed by hand, belongs to somebody else, or waits for a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AdoptRequest {
    /// Who.
    pub by: Actor,
    /// Why.
    pub reason: String,
    /// Whose.
    pub service: ServiceId,
    /// What was live when somebody decided so; nothing where nothing was. If it isn't any more, nothing is done.
    pub seen: Option<RecordVersion>,
}
