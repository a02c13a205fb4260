//! Asks the zone's servers in turn what they answer, from here and from the vantages, and tells where that is something else than the
//! zone has: a secondary that does not follow, or a server in another's place. A provider that is read shows neither.
//!
//! It tells, and repairs nothing: what stands in the zone is right already, so there is nothing to write.

use crate::coordinator::Coordinator;
use crate::live::Live;
use crate::sights::Other;
use crate::traffic::{record_key, record_set};
use drover_dns::sight::{Silent, ask, question};
use drover_dns::zone::{RecordKey, RecordSet};
use drover_model::api::ContradictionView;
use drover_model::config::{DnsServers, DnsSettings};
use drover_model::sight::DnsQuestion;
use drover_model::units::Generation;
use drover_model::{ServiceId, Span, Timestamp};
use futures::stream::{self, StreamExt as _};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One turn asks for a part of the zone.
const TURN_EVERY: Duration = Duration::from_secs(10);
/// A small zone is asked for whole in so many turns: once a minute.
const TURNS_A_ZONE: usize = 6;
/// Questions a second to one server from one asker, at most: a zone of a thousand services is asked for within four minutes, in Route 53
/// within half an hour; one of 100,000 within six hours, and two days.
const QUESTIONS_PER_SECOND_MAX: usize = 20;
/// Questions for one record set: its generation and an answer, over UDP and TCP; where nothing shows a generation, 16 answers over each.
const QUESTIONS_A_SET: usize = 4;
const QUESTIONS_A_SET_UNMARKED: usize = 32;
/// Record sets that are asked for together.
const ASKED_AT_ONCE: usize = 8;
/// For one exchange.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(2);
/// Shorter than this is a lag: a transfer that is on its way, or a server between two notifies.
pub(crate) const STANDS_AFTER: Span = Span::from_mins(5);
/// What nobody saw again for so long is not shown any more, though nobody saw it right either.
const FORGOTTEN_AFTER: Span = Span::from_hours(1);
/// Contradictions that are kept, at most: of a server that is another altogether some are enough.
const KEPT_MAX: usize = 1_000;
/// Who asks here.
const HERE: &str = "coordinator";

/// What is answered, by whom, as seen from where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Where {
    server: String,
    name: String,
    from: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contradiction {
    service: ServiceId,
    found: String,
    since: Timestamp,
    seen_at: Timestamp,
}

/// What one turn asked for, and found.
#[derive(Debug, Default)]
struct Turn {
    /// By name; what it was when it was asked for.
    asked: BTreeMap<String, (ServiceId, Generation)>,
    others: BTreeSet<Other>,
    /// Servers that an asker does not reach: nothing is known of them.
    unreached: BTreeSet<(String, String)>,
    /// Who answered.
    heard: BTreeSet<String>,
}

impl Coordinator {
    /// Asks until told to stop.
    pub(crate) async fn run_rotation(self: Arc<Self>) {
        let mut tick = tokio::time::interval(TURN_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut after: Option<ServiceId> = None;
        while self.stop.run_until_cancelled(tick.tick()).await.is_some() {
            let loaded = self.loaded();
            let Some(dns) = loaded.config.settings.dns.as_ref() else { continue };
            let sets = self.next_sets(dns, &mut after);
            if self.stop.run_until_cancelled(self.turn(dns, sets)).await.is_none() {
                return;
            }
        }
    }

    /// The record sets of the next turn: those of which something else was seen, and the next of the others. Only what the provider shows
    /// as it should be: whatever else there is, is told by the reading.
    fn next_sets(
        &self,
        dns: &DnsSettings,
        after: &mut Option<ServiceId>,
    ) -> Vec<(ServiceId, RecordKey, RecordSet)> {
        let (loaded, live) = (self.loaded(), self.live());
        let is_in_line = |name: &ServiceId, generation| live.dns_in_line.get(name) == Some(&generation);
        let standing = |name: &ServiceId| {
            let (service, target) = (loaded.config.services.get(name)?, live.traffic.get(name)?);
            let key = record_key(service).filter(|_| is_in_line(name, target.generation))?;
            Some((name.clone(), key, record_set(service, target, self.db.epoch())))
        };
        let names: Vec<&ServiceId> = loaded.config.services.keys().collect();
        let most = most_a_turn(dns);
        let contradicted: BTreeSet<&ServiceId> = live.contradictions.values().map(|c| &c.service).collect();
        let part = names.len().div_ceil(TURNS_A_ZONE).min(most);
        let begin = after.as_ref().map_or(0, |last| names.partition_point(|name| *name <= last));
        let next: Vec<&ServiceId> =
            names.iter().cycle().skip(begin).take(part.min(names.len())).copied().collect();
        *after = next.last().map(|name| (*name).clone());
        let mut chosen: BTreeSet<&ServiceId> = contradicted.into_iter().take(most.div_ceil(2)).collect();
        chosen.extend(next);
        chosen.into_iter().take(most).filter_map(standing).collect()
    }

    async fn turn(&self, dns: &DnsSettings, sets: Vec<(ServiceId, RecordKey, RecordSet)>) {
        let keyed: Vec<_> = sets.iter().map(|(_, key, set)| (key.clone(), set.clone())).collect();
        let mut turn = Turn::default();
        for (service, key, set) in &sets {
            turn.asked.insert(key.name.as_str().to_owned(), (service.clone(), Generation(set.generation)));
        }
        if !sets.is_empty() {
            let round = self.sights.begin(dns, &keyed);
            self.ask_here(dns, &keyed, &mut turn).await;
            let told = round.told(|_| false, Instant::now() + crate::sights::ANSWERS_WITHIN).await;
            turn.heard.extend(told.reported.iter().map(ToString::to_string));
            turn.unreached
                .extend(told.unreached.into_iter().map(|(agent, server)| (agent.to_string(), server)));
            turn.others.extend(told.others);
        }
        let now = self.clock.now();
        self.live().note_turn(&turn, now);
    }

    async fn ask_here(&self, dns: &DnsSettings, keyed: &[(RecordKey, RecordSet)], turn: &mut Turn) {
        let servers = dns.zone_servers();
        let questions: Vec<DnsQuestion> =
            keyed.iter().filter_map(|(key, set)| question(0, key, set, dns)).collect();
        let silent = Silent::default();
        let asked: Vec<_> = questions.iter().map(|q| ask(&servers, q, EXCHANGE_TIMEOUT, &silent)).collect();
        let sights: Vec<_> = stream::iter(asked).buffered(ASKED_AT_ONCE).collect().await;
        turn.heard.insert(HERE.to_owned());
        for (question, sight) in questions.iter().zip(sights) {
            for server in sight.servers {
                if let Some(found) = server.other() {
                    turn.others.insert(Other {
                        agent: HERE.to_owned(),
                        name: question.name.clone(),
                        found: found.to_owned(),
                        is_old: server.old().is_some(),
                        server: server.server.clone(),
                    });
                } else if server.silent().is_some() {
                    turn.unreached.insert((HERE.to_owned(), server.server));
                }
            }
        }
    }
}

fn most_a_turn(dns: &DnsSettings) -> usize {
    let a_set = match dns.servers {
        DnsServers::Embedded(_) | DnsServers::Rfc2136(_) => QUESTIONS_A_SET,
        DnsServers::Route53(_) => QUESTIONS_A_SET_UNMARKED,
    };
    QUESTIONS_PER_SECOND_MAX * TURN_EVERY.as_secs() as usize / a_set
}

impl Live {
    /// Takes in what a turn found. What was asked for and changed meanwhile says nothing.
    fn note_turn(&mut self, turn: &Turn, now: Timestamp) {
        let traffic = &self.traffic;
        let is_same = |name: &str| {
            let (service, generation) = turn.asked.get(name)?;
            (traffic.get(service)?.generation == *generation).then_some(service)
        };
        let others: BTreeSet<(&str, &str, &str)> =
            turn.others.iter().map(|o| (o.agent.as_str(), o.server.as_str(), o.name.as_str())).collect();
        let known = &mut self.contradictions;
        known.retain(|at, seen| {
            let was_asked = is_same(&at.name).is_some() && turn.heard.contains(&at.from);
            let is_known = !turn.unreached.contains(&(at.from.clone(), at.server.clone()));
            let still = others.contains(&(at.from.as_str(), at.server.as_str(), at.name.as_str()));
            let is_right = was_asked && is_known && !still;
            // Who left the configuration, and what nobody sees any more.
            let is_there = traffic.contains_key(&seen.service) && now.since(seen.seen_at) < FORGOTTEN_AFTER;
            !is_right && is_there
        });
        for Other { agent, server, name, found, .. } in &turn.others {
            let Some(service) = is_same(name) else { continue };
            let at = Where { server: server.clone(), name: name.clone(), from: agent.clone() };
            let since = known.get(&at).map_or(now, |seen| seen.since);
            if known.contains_key(&at) || known.len() < KEPT_MAX {
                let (service, found) = (service.clone(), found.clone());
                known.insert(at, Contradiction { service, found, since, seen_at: now });
            }
        }
    }

    /// From where, and at which servers, something else than the zone has was seen before a time, and nothing right since.
    pub(crate) fn contradicted_before(&self, at: Timestamp) -> BTreeSet<(String, String)> {
        let before = self.contradictions.iter().filter(|(_, seen)| seen.since < at);
        before.map(|(place, _)| (place.from.clone(), place.server.clone())).collect()
    }

    /// What a server answers that is not what the zone has.
    pub(crate) fn contradictions_of(&self, server: &str, now: Timestamp) -> Vec<ContradictionView> {
        let of_it = self.contradictions.iter().filter(|(at, _)| at.server == server);
        let view = |(at, seen): (&Where, &Contradiction)| ContradictionView {
            name: at.name.clone(),
            found: seen.found.clone(),
            from: at.from.clone(),
            since: seen.since,
            stands: now.since(seen.since) >= STANDS_AFTER,
        };
        of_it.map(view).collect()
    }
}

#[cfg(test)]
impl Live {
    /// As if a turn had found it.
    pub(crate) fn contradict(&mut self, from: &str, server: &str, since: Timestamp) {
        let (service, found) = (ServiceId::new("checkout").unwrap(), "generation 0".to_owned());
        let at = Where { server: server.into(), name: "checkout.drover.test".into(), from: from.into() };
        self.contradictions.insert(at, Contradiction { service, found, since, seen_at: since });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::Bed;
    use crate::zone::tests::{published, reconcile};
    use drover_model::api::Severity;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn other(agent: &str, found: &str) -> Other {
        let (server, name) = ("dns-1".to_owned(), "checkout.drover.test".to_owned());
        Other { agent: agent.to_owned(), server, name, found: found.to_owned(), is_old: true }
    }

    async fn turn(bed: &Bed, others: &[Other], heard: &[&str]) -> Turn {
        let service: ServiceId = "checkout".parse().unwrap();
        let generation = bed.c.live().traffic[&service].generation;
        Turn {
            asked: BTreeMap::from([("checkout.drover.test".to_owned(), (service, generation))]),
            others: others.iter().cloned().collect(),
            unreached: BTreeSet::new(),
            heard: heard.iter().map(|h| (*h).to_owned()).collect(),
        }
    }

    #[tokio::test]
    async fn something_else_stands_until_it_is_seen_right_from_there_and_pages_after_its_hold() {
        let (bed, _dns) = published().await;
        let old = [other("us-1", "generation 0")];
        let first = turn(&bed, &old, &["us-1", HERE]).await;
        bed.c.live().note_turn(&first, at(0));
        let silent = turn(&bed, &[], &[HERE]).await;
        bed.c.live().note_turn(&silent, at(60));
        let shown = bed.c.live().contradictions_of("dns-1", at(60));
        assert_eq!((shown.len(), shown[0].stands), (1, false), "who says nothing takes nothing back");
        assert_eq!(
            shown[0].sentence("dns-1"),
            "dns-1 answers generation 0 for checkout.drover.test, seen from us-1 since 1970-01-01T00:00:00.000Z"
        );
        assert!(bed.c.live().contradictions_of("dns-1", at(300))[0].stands);
        let mut unreached = turn(&bed, &[], &["us-1", HERE]).await;
        unreached.unreached.insert(("us-1".to_owned(), "dns-1".to_owned()));
        bed.c.live().note_turn(&unreached, at(120));
        assert_eq!(bed.c.live().contradictions_of("dns-1", at(120)).len(), 1, "nor does who can't ask");
        let right = turn(&bed, &[], &["us-1", HERE]).await;
        bed.c.live().note_turn(&right, at(180));
        assert_eq!(bed.c.live().contradictions_of("dns-1", at(180)), []);
    }

    #[tokio::test]
    async fn what_changed_while_it_was_asked_for_says_nothing() {
        let (bed, _dns) = published().await;
        let asked = turn(&bed, &[other(HERE, "generation 1")], &[HERE]).await;
        let service: ServiceId = "checkout".parse().unwrap();
        let moved = bed.c.live().traffic[&service].generation.next();
        bed.c.live().traffic.get_mut(&service).unwrap().generation = moved;
        bed.c.live().note_turn(&asked, at(0));
        assert_eq!(bed.c.live().contradictions_of("dns-1", at(0)), []);
    }

    #[tokio::test]
    async fn a_rotation_comes_by_every_record_set_that_is_in_line_and_by_the_contradicted_each_time() {
        let (bed, dns) = published().await;
        let settings = bed.c.loaded().config.settings.dns.clone().unwrap();
        reconcile(&bed).await;
        let mut after = None;
        let mut seen = BTreeSet::new();
        for _ in 0..TURNS_A_ZONE {
            seen.extend(bed.c.next_sets(&settings, &mut after).into_iter().map(|(service, ..)| service));
        }
        assert_eq!(seen.len(), bed.c.loaded().config.services.len());
        let old = turn(&bed, &[other(HERE, "generation 0")], &[HERE]).await;
        bed.c.live().note_turn(&old, bed.c.clock.now());
        for _ in 0..3 {
            let sets = bed.c.next_sets(&settings, &mut after);
            assert!(sets.iter().any(|(service, ..)| service.as_str() == "checkout"));
        }
        // What a hand changed is told by the reading; its servers answer what the zone has.
        let mut by_hand = crate::zone::tests::of(&dns, "checkout");
        by_hand.members[0].value = "192.0.2.99".into();
        dns.change_by_hand(by_hand);
        reconcile(&bed).await;
        let sets = bed.c.next_sets(&settings, &mut after);
        assert!(sets.iter().all(|(service, ..)| service.as_str() != "checkout"));
    }

    #[tokio::test]
    async fn a_server_that_stands_against_the_zone_is_in_the_status_and_pages() {
        let (bed, _dns) = published().await;
        let now = bed.c.clock.now();
        let long_ago = Timestamp::from_millis(now.as_millis() - 600_000);
        let old = turn(&bed, &[other("us-1", "192.0.2.66")], &["us-1"]).await;
        bed.c.live().note_turn(&old, long_ago);
        reconcile(&bed).await;
        let view = bed.c.status_view();
        let told = view.attention.iter().find(|a| a.code == "dns_contradicted").unwrap();
        assert_eq!((told.severity, told.subject.as_str()), (Severity::Warning, "dns-1"));
        assert!(told.sentence.contains("192.0.2.66") && told.sentence.contains("us-1"), "{}", told.sentence);
        assert_eq!(bed.c.zone_view().await.unwrap().servers[0].contradictions.len(), 1);
    }
}
