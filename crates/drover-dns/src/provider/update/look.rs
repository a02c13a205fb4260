//! What the servers of the zone show: the primary, and how the others lag behind it.

use domain::base::iana::Rtype;
use drover_model::config::WeightRecords;
use futures::future::join_all;

use super::DynamicUpdates;
use super::exchange::{ExchangeError, NotAnswered, Remote};
use super::key;
use super::live::{self, Live};
use super::lua::{self, LUA};
use super::message::Records;
use super::registry;
use super::transfer::Stored;
use crate::provider::marks::fence_name;
use crate::provider::wanted::Shown;
use crate::provider::{Lagging, LaggingState, ProviderError};
use crate::zone::{DnsName, RecordKey};

/// What was read before deciding.
pub(super) struct Seen {
    pub(super) fence: Records,
    /// The sets that the primary answers for, in the order in which they were asked for.
    pub(super) live: Vec<Live>,
    /// The record by which servers prove that they run programs, where answers are made by such.
    pub(super) proof: Option<Records>,
}

impl DynamicUpdates {
    /// What the primary shows. A set that it doesn't answer for is left out: one name below a delegation must not hide all
    /// others.
    pub(super) async fn look(&self, keys: &[RecordKey]) -> Result<Seen, ProviderError> {
        // What has no name for its registry can't be asked for, and is not observed.
        let asked: Vec<_> = keys.iter().filter_map(|key| Some((key, live::questions(key).ok()?))).collect();
        match self.settings.weights {
            None => self.look_by_questions(&asked).await,
            Some(WeightRecords::Lua) => self.look_by_transfer(&asked).await,
        }
    }

    async fn look_by_questions(&self, asked: &[Asked<'_>]) -> Result<Seen, ProviderError> {
        let mut wanted = vec![self.fence_question()?];
        wanted.extend(asked.iter().flat_map(|(_, questions)| questions.clone()));
        let found = self.primary.read(&wanted).await.map_err(|e| self.failed(&e))?;
        let mut found = found.into_iter();
        let fence = match found.next() {
            Some(Ok(fence)) => live::without_foreign_text(fence),
            Some(Err(e)) => return Err(self.not_now(format!("it answers {e}"))),
            None => return Err(self.not_now("it answers nothing")),
        };
        let mut live = Vec::with_capacity(asked.len());
        for (key, _) in asked {
            live.extend(both(found.next(), found.next(), key));
        }
        Ok(Seen { fence, live, proof: None })
    }

    /// No question shows a program: the zone is read whole, and what was asked for is picked out.
    async fn look_by_transfer(&self, asked: &[Asked<'_>]) -> Result<Seen, ProviderError> {
        let (fence, _) = self.fence_question()?;
        let proof = lua::proof_name(&self.zone).map_err(|e| self.refused("invalid", &e))?;
        let mut names = vec![fence.clone(), proof.clone()];
        names.extend(asked.iter().flat_map(|(_, questions)| questions.iter().map(|(name, _)| name.clone())));
        let key = key::load(&self.settings.key).await.map_err(|e| self.not_now(drover_model::chain(&e)))?;
        let stored = self.primary.transfer(&self.zone, &key, &names).await.map_err(|e| self.failed(&e))?;
        let answered = asked.iter().filter(|(key, _)| stored.answers_for(&key.name));
        let live = answered.map(|(key, questions)| in_the_zone(&stored, key, questions)).collect();
        Ok(Seen {
            fence: live::without_foreign_text(stored.at(&fence, Rtype::TXT)),
            live,
            proof: Some(stored.at(&proof, LUA)),
        })
    }

    fn fence_question(&self) -> Result<(DnsName, Rtype), ProviderError> {
        let name = fence_name(&self.zone).map_err(|e| self.refused("invalid", &e))?;
        Ok((name, Rtype::TXT))
    }

    /// The servers that don't show what the primary shows, for each set. One that shows its fence shows all: a zone is
    /// transferred whole. Of one that doesn't, each set is looked at.
    pub(super) async fn lagging(&self, seen: &Seen) -> Result<Vec<Vec<Lagging>>, ProviderError> {
        let mut lagging = vec![vec![]; seen.live.len()];
        let others = self.settings.servers.iter().filter(|s| s.query != self.primary.server);
        let fence = self.fence_question()?;
        let found = join_all(others.map(async |server| {
            let asked = Remote { server: server.query, timeout: self.primary.timeout };
            (server, behind(asked, &fence, seen).await)
        }));
        for (server, found) in found.await {
            let states = match found {
                Ok(states) => states,
                Err(e) => {
                    let not_reached = LaggingState::NotReached { reason: drover_model::chain(&e) };
                    vec![Some(not_reached); seen.live.len()]
                }
            };
            for (of_set, state) in lagging.iter_mut().zip(states) {
                of_set.extend(state.map(|state| Lagging { instance: server.name.clone(), state }));
            }
        }
        Ok(lagging)
    }
}

/// A set that is looked for, and the names and types where it stands.
type Asked<'k> = (&'k RecordKey, [(DnsName, Rtype); 2]);

type Answer = Option<Result<Records, NotAnswered>>;

fn both(answers: Answer, registry: Answer, key: &RecordKey) -> Option<Live> {
    let (answers, registry) = (answers?.ok()?, live::without_foreign_text(registry?.ok()?));
    Some(Live { key: key.clone(), answers, registry, programs: None })
}

fn in_the_zone(stored: &Stored, key: &RecordKey, questions: &[(DnsName, Rtype); 2]) -> Live {
    let [answers, (registry, _)] = questions;
    let programs = stored.at(&answers.0, LUA);
    let mut aliases = programs.rdata.iter().filter(|wire| lua::answers_for(wire, Rtype::CNAME));
    let is_alias = answers.1 != Rtype::CNAME
        && (aliases.next().is_some() || !stored.at(&answers.0, Rtype::CNAME).rdata.is_empty());
    Live {
        key: key.clone(),
        answers: Records { is_alias, ..stored.at(&answers.0, answers.1) },
        registry: live::without_foreign_text(stored.at(registry, Rtype::TXT)),
        programs: Some(programs),
    }
}

/// The generation that a registry shows.
fn registered(key: &RecordKey, registry: &Records) -> Option<u64> {
    let strings = live::texts(registry)?;
    registry::read(key, &strings).map(|set| set.generation)
}

/// How a server lags behind what the primary shows, for each set.
async fn behind(
    server: Remote,
    fence: &(DnsName, Rtype),
    seen: &Seen,
) -> Result<Vec<Option<LaggingState>>, ExchangeError> {
    if live::without_foreign_text(server.read_one(fence.clone()).await?) == seen.fence {
        return Ok(vec![None; seen.live.len()]);
    }
    let wanted: Vec<_> =
        seen.live.iter().flat_map(|l| [l.answers.asked_for(), l.registry.asked_for()]).collect();
    let mut found = server.read(&wanted).await?.into_iter();
    let states = seen.live.iter().map(|live| {
        let shown = both(found.next(), found.next(), &live.key);
        if live.programs.is_some() {
            // What a program would answer can't be asked for; what stands beside it is in the same transfer.
            let shown = shown.and_then(|shown| registered(&live.key, &shown.registry));
            let newest = registered(&live.key, &live.registry);
            return (shown < newest).then_some(LaggingState::Behind { generation: shown });
        }
        let shown = shown.and_then(|shown| shown.shown());
        let newest = live.shown();
        let generation = |shown: &Option<Shown>| shown.as_ref().map(|s| s.set.generation);
        // It may have been asked after a change that the primary was asked before.
        let is_newer = generation(&shown) > generation(&newest);
        (shown != newest && !is_newer).then(|| LaggingState::Behind { generation: generation(&shown) })
    });
    Ok(states.collect())
}
