//! Is a move that the records don't show carried by health checks meanwhile? Asked of the name servers alone, since the API is what is down.
//!
//! What this proves is little, and said as such: so many answers of each name server, and none of a region that was to be left. The records
//! still give it weight, and follow when they can be written.
//!
//! Pages take a whole region out, and do nothing else. So a move is carried only where that is all of it: just the regions are answered
//! that are to have something, and it is this move that left one. Other shares, or a region that comes in, need the records.

use crate::coordinator::Coordinator;
use crate::steps::{ASKED_AT_ONCE, failed};
use crate::text::list;
use crate::traffic::record_key;
use drover_core::out_of_service::answered;
use drover_dns::provider::{Gate, ProviderError, Verification};
use drover_dns::zone::RecordKey;
use drover_model::config::Service;
use drover_model::journal::{CheckOutcome, FailureNature, Measurement, StepFailure};
use drover_model::plan::TrafficChange;
use drover_model::{RegionId, ServiceId, Timestamp, Weights};
use futures::stream::{StreamExt, TryStreamExt};
use std::collections::BTreeSet;
use std::pin::pin;
use std::time::{Duration, Instant};

/// Between two rounds of questions.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Before the attempt is given up: what carries it must be told by then.
const TELLS_BEFORE_DEADLINE: Duration = Duration::from_millis(500);
/// The chance that a region which is still answered is among none of the answers drawn: one in so many.
const MISSED_ONCE_IN: f64 = 1_000.0;
/// Answers drawn of each server for a service, at least and at most. A region with a part of one in a hundred is missed in 400 answers with a
/// chance of one in fifty-five; all services of a region follow the same check, and each is asked.
const DRAWS: (u32, u32) = (16, 400);
/// What a measurement of it is held against.
const BOUND: &str = "no region that was left";

/// What is carried, for the outcome of a step.
pub(crate) struct Carried {
    /// In one sentence.
    pub(crate) sentence: String,
    /// Each service with what was asked of its name servers, or that nothing could be.
    pub(crate) measurements: Vec<Measurement>,
}

/// How a step came to its end.
pub(crate) enum Ended<T> {
    /// By the API, as ever.
    Published(T),
    /// By pages alone; the records follow.
    Carried(Carried),
}

/// A service that is asked about.
struct Question {
    key: RecordKey,
    /// What must not be answered.
    values: BTreeSet<String>,
    draws: u32,
}

/// What is to be asked.
#[derive(Default)]
struct Questions {
    /// The regions that are left by their health checks.
    left: BTreeSet<RegionId>,
    asked: Vec<Question>,
    /// Services whose answers do not tell their regions apart.
    not_asked: Vec<ServiceId>,
}

impl Coordinator {
    /// Does it by the API; where that fails for now, or is not done just before the attempt is given up, says whether health checks carry it.
    /// Both are looked at side by side: an API that hangs would use up all the time that there is.
    ///
    /// # Errors
    /// The API's failure, with what the health checks make of it.
    pub(crate) async fn or_carried<T>(
        &self,
        changes: &[TrafficChange],
        deadline: Timestamp,
        api: impl Future<Output = Result<T, StepFailure>>,
    ) -> Result<Ended<T>, StepFailure> {
        let left = deadline.since(self.clock.now()).to_duration().saturating_sub(TELLS_BEFORE_DEADLINE);
        let until = Instant::now() + left;
        let (mut api, mut asking) = (pin!(api), pin!(self.carried(changes, until)));
        let mut last_moment = pin!(tokio::time::sleep(left));
        let (mut carried, mut why_not) = (None, None);
        // Where nothing is declared there is nobody to ask before it fails.
        let asks_at_once = !self.live().out_of_service.told().declared().is_empty();
        loop {
            tokio::select! {
                biased;
                done = &mut api => {
                    let failure = match done {
                        Ok(done) => return Ok(Ended::Published(done)),
                        Err(failure) if failure.kind != FailureNature::Retryable => return Err(failure),
                        Err(failure) => failure,
                    };
                    let found = match (carried, why_not) {
                        (Some(carried), _) => Ok(carried),
                        (None, Some(why)) => Err(why),
                        (None, None) => asking.await,
                    };
                    return found.map(Ended::Carried).map_err(|why| with(failure, why));
                }
                found = &mut asking, if asks_at_once && carried.is_none() && why_not.is_none() => match found {
                    Ok(found) => carried = Some(found),
                    Err(why) => why_not = Some(why),
                },
                () = &mut last_moment, if carried.is_some() => {
                    if let Some(carried) = carried.take() {
                        return Ok(Ended::Carried(carried));
                    }
                }
            }
        }
    }

    /// Do health checks carry these changes, which the records do not show? Waits for as long as Route 53 may take to follow. The error is
    /// why they don't; none where there are no health checks.
    async fn carried(&self, changes: &[TrafficChange], until: Instant) -> Result<Carried, Option<String>> {
        let loaded = self.loaded();
        let (Some(checks), Some(gate)) = (loaded.config.health_checks(), self.dns()) else {
            return Err(None);
        };
        let questions = self.questions(changes).map_err(Some)?;
        let until = until.min(Instant::now() + checks.follows_within().to_duration());
        loop {
            let why = match ask(&gate, &questions.asked).await {
                Ok(measurements) => return Ok(carried(questions, measurements)),
                Err(why) => why,
            };
            if Instant::now() + ASK_EVERY >= until {
                let regions: Vec<&RegionId> = questions.left.iter().collect();
                return Err(Some(format!("{} is declared out of service, and {why}", list(&regions))));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// What is to be asked about it. The error is why that is not what the plan wants.
    fn questions(&self, changes: &[TrafficChange]) -> Result<Questions, String> {
        let loaded = self.loaded();
        let (seen, declared) = {
            let live = self.live();
            (live.out_of_service.seen(), live.out_of_service.told().declared())
        };
        if declared.is_empty() {
            return Err("no region is declared out of service".to_owned());
        }
        let mut questions = Questions::default();
        for change in changes {
            let name = &change.service;
            let service =
                loaded.config.services.get(name).ok_or_else(|| format!("{name} is not configured"))?;
            let records =
                seen.get(name).ok_or_else(|| format!("what its records say of {name} is not known"))?;
            let gone = gone(change, records, &declared)?;
            match question(service, records, &gone) {
                Some(question) => questions.asked.push(question),
                None => questions.not_asked.push(name.clone()),
            }
            questions.left.extend(gone);
        }
        if questions.asked.is_empty() {
            return Err(
                "whether they are followed can't be asked: of aliases nobody can tell whose answer one is"
                    .to_owned(),
            );
        }
        Ok(questions)
    }
}

/// The regions that the records give weight and health checks leave out, where that makes of the records what the change wants.
fn gone(
    change: &TrafficChange,
    records: &Weights,
    declared: &BTreeSet<RegionId>,
) -> Result<BTreeSet<RegionId>, String> {
    let (name, after) = (&change.service, &change.weights_after);
    let has_weight = |weights: &Weights| -> BTreeSet<RegionId> {
        weights.iter().filter(|(_, weight)| weight.0 > 0).map(|(region, _)| region.clone()).collect()
    };
    let gone: BTreeSet<RegionId> = has_weight(records).intersection(declared).cloned().collect();
    let now = answered(records, declared);
    if now.keys().any(|region| gone.contains(region)) {
        return Err(format!("all that {name} has would be out, so Route 53 answers all of it"));
    }
    if let Some(region) = now.keys().find(|region| after.of(region).0 == 0) {
        return Err(format!("{name} is answered with {region}, which no health check leaves out"));
    }
    if let Some(region) = has_weight(after).into_iter().find(|region| !now.contains_key(region)) {
        return Err(format!("{name} is not answered with {region}, which its records give nothing"));
    }
    if !gone.iter().any(|region| change.weights_before.of(region).0 > 0) {
        return Err(format!("{name} gets other shares, and leaves no region that health checks leave out"));
    }
    Ok(gone)
}

/// What is asked about a service; nothing where answers do not tell the regions apart.
fn question(service: &Service, records: &Weights, gone: &BTreeSet<RegionId>) -> Option<Question> {
    let values = |is_meant: &dyn Fn(&RegionId) -> bool| -> BTreeSet<String> {
        let endpoints = service.endpoints.values().filter(|e| e.alias.is_none() && is_meant(&e.region));
        endpoints.map(|e| e.address.clone()).collect()
    };
    // Each of them must be told from what stays, or what is not asked about is taken for gone.
    let has_value = |region: &RegionId| service.endpoints.get(region).is_some_and(|e| e.alias.is_none());
    let stays = values(&|region| !gone.contains(region));
    let values = values(&|region| gone.contains(region));
    if values.is_empty() || !gone.iter().all(has_value) || values.iter().any(|value| stays.contains(value)) {
        return None;
    }
    let part = |regions: &mut dyn Iterator<Item = u32>| f64::from(regions.sum::<u32>());
    let all = part(&mut records.iter().map(|(_, w)| u32::from(w.0)));
    let of_each = gone.iter().map(|region| f64::from(records.of(region).0));
    // One that is still answered beside others that are out already has at least this part.
    let least = of_each.fold(f64::INFINITY, f64::min);
    Some(Question { key: record_key(service)?, values, draws: draws(least / all.max(1.0)) })
}

/// So many answers that one with this part of them is hardly missed.
fn draws(part: f64) -> u32 {
    let (least, most) = DRAWS;
    let needed = MISSED_ONCE_IN.ln() / -(1.0 - part.clamp(0.001, 0.999)).ln();
    // Between 0 and some 7,000, whatever the part.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by the clamp above")]
    let needed = needed.ceil() as u32;
    needed.clamp(least, most)
}

/// Each with what was seen; the error is the first of which something else was.
async fn ask(gate: &Gate, questions: &[Question]) -> Result<Vec<Measurement>, String> {
    let asked: Vec<_> = questions.iter().map(|question| ask_one(gate, question)).collect();
    futures::stream::iter(asked).buffered(ASKED_AT_ONCE).try_collect().await
}

async fn ask_one(gate: &Gate, Question { key, values, draws }: &Question) -> Result<Measurement, String> {
    let (servers, missing) = match gate.unanswered(key, values, *draws).await {
        Ok(Verification::Verified { instances }) => (instances, vec![]),
        Ok(Verification::Partial { verified, missing }) => (verified, missing),
        Ok(Verification::Mismatch { mismatches, .. }) => {
            let first = mismatches.first().map(|m| format!("{}: {}", m.instance, m.found));
            return Err(format!("{key} is not answered so: {}", first.unwrap_or_default()));
        }
        Err(e @ ProviderError::Unreachable { .. }) => return Err(drover_model::chain(&e)),
        Err(e) => return Err(e.to_string()),
    };
    let silent: Vec<&str> = missing.iter().map(|one| one.instance.as_str()).collect();
    let mut value = format!("carried by health checks: none of {draws} answers of {}", servers.join(", "));
    if !silent.is_empty() {
        value.push_str(&format!("; not reached: {}", silent.join(", ")));
    }
    Ok(Measurement {
        name: format!("DNS {key}"),
        value: Some(value),
        bound: BOUND.to_owned(),
        samples: u64::from(*draws) * servers.len() as u64,
        outcome: CheckOutcome::Pass,
    })
}

fn carried(questions: Questions, mut measurements: Vec<Measurement>) -> Carried {
    let regions: Vec<&RegionId> = questions.left.iter().collect();
    let mut sentence = format!(
        "{} is out by its health checks: no answer has it; the records still give it weight, and follow when Route 53's API takes them",
        list(&regions)
    );
    if !questions.not_asked.is_empty() {
        let services: Vec<&ServiceId> = questions.not_asked.iter().collect();
        sentence.push_str(&format!("; of {} answers can't tell", list(&services)));
    }
    measurements.extend(questions.not_asked.iter().map(|service| Measurement {
        name: format!("DNS {service}"),
        value: Some("not asked: its answers do not tell its regions apart".to_owned()),
        bound: BOUND.to_owned(),
        samples: 0,
        outcome: CheckOutcome::Noted,
    }));
    Carried { sentence, measurements }
}

fn with(failure: StepFailure, why: Option<String>) -> StepFailure {
    match why {
        None => failure,
        Some(why) => {
            failed(failure.kind, format!("{}; by health checks it is not either: {why}", failure.message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_part_is_looked_for_longer() {
        assert_eq!((draws(0.5), draws(0.35), draws(0.9)), (16, 17, 16));
        assert_eq!((draws(0.1), draws(0.02), draws(0.0), draws(1.0)), (66, 342, 400, 16));
    }
    #[test]
    fn a_move_is_carried_where_pages_alone_make_of_the_records_what_it_wants() {
        let region = |name: &str| RegionId::new(name).unwrap();
        let weights = |of: [u8; 3]| -> Weights {
            ["a", "b", "c"].into_iter().map(region).zip(of.map(drover_model::Weight)).collect()
        };
        let found = |before, after, records, declared: &[&str]| {
            let change: TrafficChange = serde_json::from_value(serde_json::json!({
                "service": "checkout", "dns_name": "checkout.example.com", "record_type": "A", "ttl_seconds": 30,
                "from_generation": 1, "to_generation": 2, "weights_before": weights(before),
                "weights_after": weights(after), "shares_after": {},
            }))
            .unwrap();
            let declared = declared.iter().map(|name| region(name)).collect();
            gone(&change, &weights(records), &declared)
        };
        assert_eq!(found([50, 30, 20], [0, 60, 40], [50, 30, 20], &["a"]), Ok([region("a")].into()));
        // A second failure, while the first is still carried.
        let both = [region("a"), region("b")].into();
        assert_eq!(found([0, 60, 40], [0, 0, 100], [50, 30, 20], &["a", "b"]), Ok(both));
        for (before, after, records, declared, why) in [
            // Nobody comes to c, whatever is drawn.
            ([50, 50, 0], [0, 50, 50], [50, 50, 0], &["a"][..], "not answered with c"),
            // a was left before, and this is about b's share.
            ([0, 50, 50], [0, 20, 80], [40, 30, 30], &["a"], "other shares"),
            ([50, 30, 20], [0, 100, 0], [50, 30, 20], &["a"], "answered with c"),
            ([50, 50, 0], [0, 0, 100], [50, 50, 0], &["a"], "answered with b"),
            ([50, 50, 0], [0, 100, 0], [50, 0, 0], &["a", "b", "c"], "all that checkout has"),
        ] {
            let refused = found(before, after, records, declared).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
