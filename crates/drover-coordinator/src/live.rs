//! What is known at this moment: made from reports since the start, lost with the process, and soon made again. What
//! must not be lost (targets, holds, runs, decisions) is in the store; here is only its copy.

use crate::drift::Drift;
use crate::out_of_service::OutOfServiceLive;
use crate::partial::Missed;
use crate::rotation::{Contradiction, Where};
use crate::source::Targets;
use drover_core::agenda::Agenda;
use drover_core::panel::{Opinions, Panel};
use drover_core::vantage::Vantage;
use drover_model::api::{DnsCommandView, DnsView};
use drover_model::break_glass::HeldBy;
use drover_model::config::Config;
use drover_model::config::diagnostic::Diagnostic;
use drover_model::decision::ActionDecision;
use drover_model::plan::StandingVerdict;
use drover_model::traffic::{Block, Freeze, Hold, TrafficState};
use drover_model::units::Generation;
use drover_model::{AgentId, DecisionId, EndpointKey, RegionId, RunId, ServiceId, Shared, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::scrape::Readings;

/// A vantage as it is known.
#[derive(Debug, Clone, Default)]
pub struct KnownVantage {
    /// The gate that its reports pass.
    pub gate: Vantage,
    /// Last report.
    pub heard_at: Option<Timestamp>,
    /// Its clock minus ours, in milliseconds.
    pub skew_millis: Option<i64>,
    /// Configuration that it works by.
    pub config_version: Option<String>,
    /// Observations that it dropped.
    pub dropped: u64,
    /// Replayed observations.
    pub replayed: u64,
    /// Observations of refused reports, counted with the replayed ones.
    pub refused_observations: u64,
    /// Late observations.
    pub late: u64,
    /// Why its last report was refused, when it was.
    pub refused: Option<String>,
}

/// Probes from outside that were accepted for an endpoint, since the start; validation takes differences.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Good ones.
    pub good: u64,
    /// Failed ones.
    pub failed: u64,
}

/// What is seen of one endpoint.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// What each vantage holds of it.
    pub opinions: Opinions,
    /// Probes from outside.
    pub tally: Tally,
}

/// The last decision about a region.
#[derive(Debug, Clone)]
pub struct LastDecision {
    /// What was decided.
    pub decision: ActionDecision,
    /// In one sentence.
    pub sentence: String,
    /// As stored.
    pub id: Option<DecisionId>,
    /// The configuration under which its plan did not fit into a record: doing it again would not help.
    pub does_not_fit: Option<String>,
}

/// Everything known.
#[derive(Debug)]
pub struct Live {
    /// Since when this coordinator knows anything.
    pub started_at: Timestamp,
    /// Digest of the directory's texts that were read last, good or bad.
    pub config_digest: String,
    /// Why the directory was refused, when it was.
    pub config_refused: Vec<Diagnostic>,
    /// Vantages that were heard.
    pub vantages: BTreeMap<AgentId, KnownVantage>,
    /// What is seen of each endpoint. In one place, since every observation looks it up.
    pub seen: BTreeMap<EndpointKey, Seen>,
    /// Verdicts.
    pub standing: Shared<BTreeMap<EndpointKey, StandingVerdict>>,
    /// Those of them of which a vantage that counts has seen a failure lately.
    pub suspects: BTreeSet<EndpointKey>,
    /// When endpoints are judged again though nothing arrives.
    pub agenda: Agenda,
    /// The configuration and the vantages by which everything was judged last.
    pub(crate) judged_by: Option<(String, Panel)>,
    /// What stood when the coordinator before this one stopped, until this one has concluded something itself.
    pub recalled: BTreeMap<EndpointKey, StandingVerdict>,
    /// Decisions by region.
    pub decisions: BTreeMap<RegionId, LastDecision>,
    /// Metrics readings.
    pub readings: BTreeMap<EndpointKey, Readings>,
    /// When the certificates end that vantages were shown; not every vantage may be shown the same one.
    pub certificates: BTreeMap<EndpointKey, BTreeMap<AgentId, Timestamp>>,
    /// Targets, as in the store.
    pub traffic: Shared<BTreeMap<ServiceId, TrafficState>>,
    /// Targets of records that no traffic moves, as in the store.
    pub fixed: Shared<BTreeMap<ServiceId, TrafficState>>,
    /// Drains, as in the store.
    pub holds: BTreeMap<RunId, Hold>,
    /// Block periods by store key, as in the store.
    pub blocks: BTreeMap<String, Block>,
    /// When block periods were ended, as in the store.
    pub rearmed: BTreeMap<ServiceId, Timestamp>,
    /// When the end of a lapsed drain was tried last.
    pub lapse_tried: BTreeMap<RunId, Timestamp>,
    /// Freeze, as in the store.
    pub freeze: Option<Freeze>,
    /// DNS servers as last seen.
    pub dns_views: Vec<DnsView>,
    /// Publications that servers have missed.
    pub(crate) missed: Missed,
    /// Targets that wait for a person, because more would change at once than may.
    pub dns_withheld: BTreeMap<ServiceId, Generation>,
    /// Services whose DNS somebody holds by break-glass, as it was read last.
    pub(crate) held: BTreeMap<ServiceId, HeldBy>,
    /// DNS servers that obey another store, as they were read last.
    pub(crate) dns_of_another_store: Vec<DnsCommandView>,
    /// When that was.
    pub(crate) dns_command_seen: Option<Instant>,
    /// Record sets that a hand changed.
    pub(crate) drifted: BTreeMap<ServiceId, Drift>,
    /// Which regions status pages declare out of service, and what the records said last.
    pub(crate) out_of_service: OutOfServiceLive,
    /// Record sets that the last reading showed as they should be, at this generation.
    pub(crate) dns_in_line: BTreeMap<ServiceId, Generation>,
    /// What servers answer that is not what the zone has.
    pub(crate) contradictions: BTreeMap<Where, Contradiction>,
    /// Why DNS could not be brought up to the targets at the last look.
    pub dns_trouble: Option<String>,
    /// Pages not delivered.
    pub pages_undelivered: u64,
    /// When the oldest of them was written.
    pub pages_oldest: Option<Timestamp>,
}

impl Live {
    /// The targets of all that is published.
    pub(crate) fn targets(&self) -> Targets {
        Targets { traffic: self.traffic.clone(), fixed: self.fixed.clone() }
    }

    /// What each vantage holds of an endpoint.
    #[must_use]
    pub fn opinions_of(&self, endpoint: &EndpointKey) -> Option<&Opinions> {
        self.seen.get(endpoint).map(|seen| &seen.opinions)
    }

    /// Nothing is known.
    #[must_use]
    pub fn new(started_at: Timestamp) -> Self {
        Self {
            started_at,
            config_digest: String::new(),
            config_refused: Vec::new(),
            vantages: BTreeMap::new(),
            seen: BTreeMap::new(),
            standing: Shared::default(),
            suspects: BTreeSet::new(),
            agenda: Agenda::default(),
            judged_by: None,
            recalled: BTreeMap::new(),
            decisions: BTreeMap::new(),
            readings: BTreeMap::new(),
            certificates: BTreeMap::new(),
            traffic: Shared::default(),
            fixed: Shared::default(),
            holds: BTreeMap::new(),
            blocks: BTreeMap::new(),
            rearmed: BTreeMap::new(),
            lapse_tried: BTreeMap::new(),
            freeze: None,
            dns_views: Vec::new(),
            missed: Missed::default(),
            dns_withheld: BTreeMap::new(),
            held: BTreeMap::new(),
            dns_of_another_store: Vec::new(),
            dns_command_seen: None,
            drifted: BTreeMap::new(),
            out_of_service: OutOfServiceLive::default(),
            dns_in_line: BTreeMap::new(),
            contradictions: BTreeMap::new(),
            dns_trouble: None,
            pages_undelivered: 0,
            pages_oldest: None,
        }
    }

    /// Takes over what the store holds.
    pub(crate) fn take_stored(&mut self, mut stored: Live) {
        self.out_of_service = std::mem::take(&mut stored.out_of_service);
        self.take_laid_down(stored);
    }

    /// The same of what people and runs laid down, after a record of it was mended or removed.
    pub(crate) fn take_laid_down(&mut self, stored: Live) {
        self.traffic = stored.traffic;
        self.fixed = stored.fixed;
        self.holds = stored.holds;
        self.blocks = stored.blocks;
        self.freeze = stored.freeze;
        self.rearmed = stored.rearmed;
    }

    /// Begins as a start does, but for what the vantages have said: opinions and what was heard of each stay, everything
    /// concluded from them is concluded anew upon what stood in the store, and a vantage counts for an automatic action
    /// once it has reported a probe begun after `now`.
    pub(crate) fn begin_to_lead(&mut self, recalled: BTreeMap<EndpointKey, StandingVerdict>, now: Timestamp) {
        self.started_at = now;
        self.standing = Shared::default();
        self.suspects.clear();
        self.agenda.clear();
        self.judged_by = None;
        self.recalled = recalled;
        self.decisions.clear();
    }

    /// Forgets what a changed configuration no longer has.
    pub fn keep_only(&mut self, config: &Config) {
        let agents = config.agents();
        let is_endpoint = |e: &EndpointKey| {
            config.services.get(&e.service).is_some_and(|s| s.endpoints.contains_key(&e.region))
        };
        self.vantages.retain(|a, _| agents.contains_key(a));
        self.seen.retain(|e, _| is_endpoint(e));
        for seen in self.seen.values_mut() {
            seen.opinions.retain(|a, _| agents.contains_key(a));
        }
        self.standing.retain(|e, _| is_endpoint(e));
        self.suspects.retain(is_endpoint);
        self.recalled.retain(|e, _| is_endpoint(e));
        self.readings.retain(|e, _| is_endpoint(e));
        self.certificates.retain(|e, _| is_endpoint(e));
        for seen in self.certificates.values_mut() {
            seen.retain(|a, _| agents.contains_key(a));
        }
        self.decisions.retain(|r, _| config.regions.contains_key(r));
    }

    /// Forgets the numbers of endpoints that are read elsewhere or otherwise now: the counters of two processes must
    /// not be subtracted from each other.
    pub fn forget_moved(&mut self, old: &Config, new: &Config) {
        let read_from = |config: &Config, e: &EndpointKey| {
            let service = config.services.get(&e.service)?;
            let endpoint = service.endpoints.get(&e.region)?;
            Some((crate::endpoint::Target::of(service, endpoint), service.metrics.clone()))
        };
        self.readings.retain(|e, _| read_from(old, e) == read_from(new, e));
    }
}
