//! Is a move that the records don't show carried by health checks meanwhile? Asked of the name servers alone, since the API is what is down.
//!
//! What this proves is little, and said as such: so many answers of each name server, and none of a region that was to be left. The records
//! still give it weight, and follow when they can be written.

use crate::coordinator::Coordinator;
use crate::steps::failed;
use crate::text::list;
use crate::traffic::record_key;
use drover_core::out_of_service::answered;
use drover_dns::provider::{Gate, ProviderError, Verification};
use drover_dns::zone::RecordKey;
use drover_model::config::Service;
use drover_model::journal::{FailureNature, StepFailure};
use drover_model::plan::TrafficChange;
use drover_model::{RegionId, Weights};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Between two rounds of questions.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// The chance that a region which is still answered is among none of the answers drawn: one in so many.
const MISSED_ONCE_IN: f64 = 1_000.0;
/// Answers drawn of each server for a service, at least and at most. A region with a part of one in a hundred is missed in 400 answers with a
/// chance of one in fifty-five; all services of a region follow the same check, and each is asked.
const DRAWS: (u32, u32) = (16, 400);

/// What is carried, for the outcome of a step.
pub(crate) struct Carried {
    /// In one sentence.
    pub(crate) sentence: String,
    /// Each service with what was asked of its name servers.
    pub(crate) asked: Vec<(String, String)>,
}

/// A service that is asked about.
struct Question {
    key: RecordKey,
    /// What must not be answered.
    values: BTreeSet<String>,
    draws: u32,
}

impl Coordinator {
    /// Says whether health checks carry these changes, which the records do not show, as `failure` has it: waits for as long as Route 53
    /// may take to follow.
    ///
    /// # Errors
    /// The failure, with what the health checks make of it.
    pub(crate) async fn carried(
        &self,
        changes: &[TrafficChange],
        failure: StepFailure,
    ) -> Result<Carried, StepFailure> {
        let loaded = self.loaded();
        let (Some(checks), Some(gate)) = (loaded.config.health_checks(), self.dns()) else {
            return Err(failure);
        };
        if failure.kind != FailureNature::Retryable {
            return Err(failure);
        }
        let (left, questions) = match self.questions(changes) {
            Ok(found) => found,
            Err(why) => return Err(with(failure, &why)),
        };
        let (began, within) = (Instant::now(), checks.follows_within().to_duration());
        loop {
            let why = match ask(&gate, &questions).await {
                Ok(asked) => return Ok(carried(&left, asked)),
                Err(why) => why,
            };
            if began.elapsed() >= within {
                let regions: Vec<&RegionId> = left.iter().collect();
                return Err(with(
                    failure,
                    &format!("{} is declared out of service, and {why}", list(&regions)),
                ));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// The regions that are left by their health checks, and what is to be asked about it. The error is why that is not what the plan wants.
    fn questions(&self, changes: &[TrafficChange]) -> Result<(BTreeSet<RegionId>, Vec<Question>), String> {
        let loaded = self.loaded();
        let (seen, declared) = {
            let live = self.live();
            (live.out_of_service.seen(), live.out_of_service.told().declared())
        };
        let (mut left, mut questions) = (BTreeSet::new(), Vec::new());
        for change in changes {
            let Some(service) = loaded.config.services.get(&change.service) else { continue };
            let Some(records) = seen.get(&change.service) else {
                return Err(format!("what its records say of {} is not known", change.service));
            };
            let gone: BTreeSet<RegionId> = records
                .iter()
                .filter(|(r, w)| w.0 > 0 && declared.contains(*r))
                .map(|(r, _)| r.clone())
                .collect();
            let now = answered(records, &declared);
            if let Some(region) = now.keys().find(|region| change.weights_after.of(region).0 == 0) {
                return Err(format!(
                    "{} is answered with {region}, which no health check leaves out",
                    change.service
                ));
            }
            if now.keys().any(|region| gone.contains(region)) {
                return Err(format!(
                    "all that {} has would be out, so Route 53 answers all of it",
                    change.service
                ));
            }
            questions.extend(question(service, records, &gone));
            left.extend(gone);
        }
        if left.is_empty() {
            return Err("no region is declared out of service".to_owned());
        }
        if questions.is_empty() {
            return Err(
                "whether they are followed can't be asked: of aliases nobody can tell whose answer one is"
                    .to_owned(),
            );
        }
        Ok((left, questions))
    }
}

/// What is asked about a service; nothing where answers do not tell the regions apart.
fn question(service: &Service, records: &Weights, gone: &BTreeSet<RegionId>) -> Option<Question> {
    let values = |is_meant: &dyn Fn(&RegionId) -> bool| -> BTreeSet<String> {
        let endpoints = service.endpoints.values().filter(|e| e.alias.is_none() && is_meant(&e.region));
        endpoints.map(|e| e.address.clone()).collect()
    };
    let stays = values(&|region| !gone.contains(region));
    let values: BTreeSet<String> =
        values(&|region| gone.contains(region)).difference(&stays).cloned().collect();
    if values.is_empty() {
        return None;
    }
    let part = |regions: &mut dyn Iterator<Item = u32>| f64::from(regions.sum::<u32>());
    let all = part(&mut records.iter().map(|(_, w)| u32::from(w.0)));
    let of_gone = part(&mut records.iter().filter(|(r, _)| gone.contains(*r)).map(|(_, w)| u32::from(w.0)));
    Some(Question { key: record_key(service)?, values, draws: draws(of_gone / all.max(1.0)) })
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
async fn ask(gate: &Gate, questions: &[Question]) -> Result<Vec<(String, String)>, String> {
    let mut asked = Vec::with_capacity(questions.len());
    for question in questions {
        let Question { key, values, draws } = question;
        match gate.unanswered(key, values, *draws).await {
            Ok(Verification::Verified { instances } | Verification::Partial { verified: instances, .. }) => {
                let servers = instances.join(", ");
                asked.push((key.to_string(), format!("none of {draws} answers of {servers}")));
            }
            Ok(Verification::Mismatch { mismatches, .. }) => {
                let first = mismatches.first().map(|m| format!("{}: {}", m.instance, m.found));
                return Err(format!("{key} is not answered so: {}", first.unwrap_or_default()));
            }
            Err(e @ ProviderError::Unreachable { .. }) => return Err(drover_model::chain(&e)),
            Err(e) => return Err(e.to_string()),
        }
    }
    Ok(asked)
}

fn carried(left: &BTreeSet<RegionId>, asked: Vec<(String, String)>) -> Carried {
    let regions: Vec<&RegionId> = left.iter().collect();
    let sentence = format!(
        "{} is out by its health checks: no answer has it; the records still give it weight, and follow when Route 53's API takes them",
        list(&regions)
    );
    Carried { sentence, asked }
}

fn with(failure: StepFailure, why: &str) -> StepFailure {
    failed(failure.kind, format!("{}; by health checks it is not either: {why}", failure.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_part_is_looked_for_longer() {
        assert_eq!((draws(0.5), draws(0.35), draws(0.9)), (16, 17, 16));
        assert_eq!((draws(0.1), draws(0.02), draws(0.0), draws(1.0)), (66, 342, 400, 16));
    }
}
