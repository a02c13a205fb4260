//! `drained`: waits out what caches keep, and measures what still reaches the region that was left.
//!
//! Two times matter and are told apart. *Declared*: DNS is live and verified everywhere. *Drained*: the traffic has left. Between them lie the
//! caches of clients, which are not drover's; so the objective counts to the validation of the new side, which stands before this.
//! Where nothing measures, drained is assumed of the time that has passed, and is called so.

use super::{done, failed};
use crate::coordinator::Coordinator;
use crate::sights::Counted;
use drover_exec::Order;
use drover_model::config::{TrafficFrom, TrafficSource};
use drover_model::journal::{CheckOutcome, FailureNature, Measurement, StepFailure, StepOutcome};
use drover_model::plan::DrainTarget;
use drover_model::sight::QUESTIONS_MAX;
use drover_model::sight::{TrafficCount, TrafficQuestion};
use drover_model::{EndpointKey, Span, Timestamp};
use futures::stream::{self, StreamExt as _};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Between two looks: as often as agents count.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// For one query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// Queries that are asked together.
const ASKED_AT_ONCE: usize = 8;
/// Bytes of a query's answer, at most.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Before the attempt is given up: what was measured must be told by then.
const TELLS_BEFORE_DEADLINE: Span = Span::from_secs(1);

/// One endpoint whose traffic is measured.
struct Measured<'t> {
    endpoint: &'t EndpointKey,
    source: &'t TrafficSource,
    /// Where agents count it; none: a query is asked.
    counted: Option<Counted<'t>>,
    level: Result<u64, String>,
    /// Since when it has been below, without a look that said otherwise.
    below_since: Option<Timestamp>,
    looks: u64,
}

pub(super) async fn act(
    c: &Coordinator,
    order: &Order,
    targets: &[DrainTarget],
    quiet: Span,
) -> Result<StepOutcome, StepFailure> {
    // A `verify_dns` that was skipped declared nothing: then caches have the whole time from here.
    let due = order.declared_at.unwrap_or_else(|| c.clock.now()) + quiet;
    let until = Timestamp::from_millis(order.deadline.as_millis() - TELLS_BEFORE_DEADLINE.as_millis() as i64);
    let mut measured: Vec<Measured<'_>> = targets.iter().filter_map(|t| Measured::of(c, t)).collect();
    loop {
        look(c, &mut measured).await;
        let now = c.clock.now();
        let is_over = now >= due && measured.iter().all(|m| m.is_drained(now));
        if is_over || now >= until {
            return conclude(targets, &measured, due, quiet, now);
        }
        let pause = if now < due { due.since(now).to_duration().min(LOOK_EVERY) } else { LOOK_EVERY };
        tokio::time::sleep(pause).await;
    }
}

impl<'t> Measured<'t> {
    fn of(c: &'t Coordinator, target: &'t DrainTarget) -> Option<Self> {
        let source = target.source.as_ref()?;
        let how = match &source.from {
            TrafficFrom::Connections => Some(TrafficCount::Connections),
            TrafficFrom::AccessLog { path } => Some(TrafficCount::AccessLog { path: path.clone() }),
            TrafficFrom::Prometheus { .. } => None,
        };
        let region = &target.endpoint.region;
        let counted = how.and_then(|how| {
            let question = TrafficQuestion { id: 0, address: target.address.clone(), port: target.port, how };
            c.sights.count(region, question)
        });
        let too_many = || format!("{QUESTIONS_MAX} others of {region} are counted, which is all that can be");
        let is_one_too_many = counted.is_none() && !matches!(source.from, TrafficFrom::Prometheus { .. });
        let level = Err(if is_one_too_many { too_many() } else { "not measured yet".to_owned() });
        Some(Self { endpoint: &target.endpoint, source, counted, level, below_since: None, looks: 0 })
    }

    /// What is asked for it, and where.
    fn query(&self) -> Option<(&'t str, String)> {
        let TrafficFrom::Prometheus { url, query } = &self.source.from else { return None };
        let query = query.replace("{region}", self.endpoint.region.as_str());
        Some((url, query.replace("{service}", self.endpoint.service.as_str())))
    }

    fn note(&mut self, c: &Coordinator, answers: &BTreeMap<(&'t str, String), Result<u64, String>>) {
        self.level = match (&self.counted, self.query().and_then(|query| answers.get(&query))) {
            (Some(counted), _) => counted.level(),
            (None, Some(answer)) => answer.clone(),
            // Not asked for at all, and it stands there why.
            (None, None) => return,
        };
        self.looks += u64::from(self.level.is_ok());
        // Of what could not be read nobody knows whether it stayed below.
        let is_below = self.level.as_ref().is_ok_and(|level| self.source.is_below(*level));
        self.below_since = self.below_since.filter(|_| is_below).or(is_below.then(|| c.clock.now()));
    }

    fn is_drained(&self, now: Timestamp) -> bool {
        self.below_since.is_some_and(|since| now.since(since) >= self.source.hold)
    }

    fn bound(&self) -> String {
        format!("below {} for {}", self.source.threshold(), self.source.hold)
    }

    /// What there is instead of a drained endpoint.
    fn left(&self, now: Timestamp) -> Option<Measurement> {
        if self.is_drained(now) {
            return None;
        }
        let (value, outcome) = match &self.level {
            Ok(level) if self.source.is_below(*level) => {
                (format!("{}, not for long enough", self.source.words(*level)), CheckOutcome::Inconclusive)
            }
            Ok(level) => (self.source.words(*level), CheckOutcome::Fail),
            Err(why) => (why.clone(), CheckOutcome::Inconclusive),
        };
        let name = format!("traffic {}", self.endpoint);
        Some(Measurement { name, value: Some(value), bound: self.bound(), samples: self.looks, outcome })
    }
}

fn conclude(
    targets: &[DrainTarget],
    measured: &[Measured<'_>],
    due: Timestamp,
    quiet: Span,
    now: Timestamp,
) -> Result<StepOutcome, StepFailure> {
    let one = |target: &DrainTarget| {
        let found = measured.iter().find(|m| *m.endpoint == target.endpoint);
        let Some(m) = found else {
            let bound = format!("assumed: {quiet} after DNS, no `traffic` is configured");
            return Measurement::drained(&target.endpoint, due, bound, true);
        };
        let since = m.below_since.unwrap_or(now);
        m.left(now).unwrap_or_else(|| Measurement {
            samples: m.looks,
            ..Measurement::drained(&target.endpoint, since, m.bound(), false)
        })
    };
    let measurements: Vec<Measurement> = targets.iter().map(one).collect();
    let of = |outcome: CheckOutcome| measurements.iter().filter(move |m| m.outcome == outcome);
    let said =
        |m: &Measurement| format!("{} {} ({})", m.name, m.value.as_deref().unwrap_or("unknown"), m.bound);
    let stays: Vec<String> = of(CheckOutcome::Fail).map(said).collect();
    let unknown: Vec<String> = of(CheckOutcome::Inconclusive).map(said).collect();
    let (nature, message) = match (stays.is_empty(), unknown.is_empty()) {
        (true, true) => {
            let assumed = of(CheckOutcome::Noted).count();
            let summary = match (targets.len() - assumed, assumed) {
                (measured, 0) => format!("{measured} measured and drained"),
                (0, assumed) => format!("{assumed} assumed drained {quiet} after DNS: nothing measures them"),
                (measured, assumed) => format!("{measured} measured and drained, {assumed} assumed"),
            };
            return Ok(done(false, summary, measurements));
        }
        (false, _) => (FailureNature::Permanent, format!("not drained: {}", stays.join("; "))),
        (true, false) => (FailureNature::Inconclusive, unknown.join("; ")),
    };
    let mut failure = failed(nature, message);
    failure.measurements = measurements;
    Err(failure)
}

/// What Prometheus answers to an instant query (`/api/v1/query` of its HTTP API).
#[derive(Deserialize)]
struct Answer {
    data: Option<Data>,
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<Sample>),
    Scalar((f64, String)),
}

#[derive(Deserialize)]
struct Sample {
    value: (f64, String),
}

/// Looks at all of them once. A query that is that of several is asked once.
async fn look<'t>(c: &Coordinator, measured: &mut [Measured<'t>]) {
    let queries: BTreeSet<(&'t str, String)> = measured.iter().filter_map(Measured::query).collect();
    let one = |(url, query): (&'t str, String)| async move {
        let answer = queried(c, url, &query).await;
        ((url, query), answer)
    };
    let asked: Vec<_> = queries.into_iter().map(one).collect();
    let answers: BTreeMap<_, _> = stream::iter(asked).buffer_unordered(ASKED_AT_ONCE).collect().await;
    for one in measured {
        one.note(c, &answers);
    }
}

async fn queried(c: &Coordinator, url: &str, query: &str) -> Result<u64, String> {
    let at = format!("{}/api/v1/query", url.trim_end_matches('/'));
    let told = |e: reqwest::Error| format!("{url}: {}", drover_model::chain(&e.without_url()));
    let request = c.http.get(at).query(&[("query", query)]).timeout(QUERY_TIMEOUT);
    let mut response = request.send().await.map_err(told)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(told)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(format!("{url}: more than {ANSWER_BYTES_MAX} bytes are answered"));
        }
        body.extend_from_slice(&chunk);
    }
    level(&body).map_err(|why| format!("{url}: {why}"))
}

/// The sum of what a query gives, in thousandths. Nothing at all is not none: the query may be wrong, or its series gone.
fn level(body: &[u8]) -> Result<u64, String> {
    let answer: Answer = serde_json::from_slice(body).map_err(|e| format!("no answer to a query: {e}"))?;
    let values: Vec<String> = match (answer.data, answer.error) {
        (Some(Data::Vector(samples)), _) => samples.into_iter().map(|s| s.value.1).collect(),
        (Some(Data::Scalar((_, value))), _) => vec![value],
        (None, why) => return Err(why.unwrap_or_else(|| "no data".to_owned())),
    };
    if values.is_empty() {
        return Err("the query gives nothing".to_owned());
    }
    let mut sum = 0.0;
    for value in values {
        let number: f64 = value.parse().map_err(|_| format!("`{value}` is no number"))?;
        if !number.is_finite() || number < 0.0 {
            return Err(format!("the query gives {value}"));
        }
        sum += number;
    }
    // Far below 2^53 for any traffic there is; above it saturates.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let thousandths = (sum * 1_000.0).ceil() as u64;
    Ok(thousandths)
}

#[cfg(test)]
mod tests;
