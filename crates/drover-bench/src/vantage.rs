//! A vantage that is played: it reports what it is told to have seen, over the API that agents use.

use crate::error::{Attempt, BenchError, Result};
use drover_model::probe::{
    FailureKind, Observation, ProbeOutcome, REPORT_SCHEMA, Report, ReportAck, SelfCheck,
};
use drover_model::{AgentId, EndpointKey, RegionId, Span, Timestamp};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// What a good probe takes here, in microseconds.
const LATENCY_MICROS: u64 = 1_234;
/// How long ago each probe began when its report is sent.
const AGE: Span = Span::from_millis(5);

/// One agent.
#[derive(Debug, Clone)]
pub struct Vantage {
    /// Who.
    pub agent: AgentId,
    /// Where.
    pub region: RegionId,
    sequence: u64,
    boot_number: u64,
    last_sent: Timestamp,
    url: String,
    http: reqwest::Client,
}

/// Now, by the wall clock that agents and the coordinator share here.
pub fn wall_now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

impl Vantage {
    /// An agent that has just started, and reports to the API at this URL.
    pub fn new(agent: AgentId, region: RegionId, api: &str, http: reqwest::Client) -> Self {
        let url = format!("{api}/v1/agents/{agent}/reports");
        let boot_number = u64::try_from(wall_now().as_millis()).unwrap_or(1);
        Self { agent, region, sequence: 0, boot_number, last_sent: Timestamp::default(), url, http }
    }

    /// The next report: each endpoint with whether it was seen well.
    pub fn report<'a>(&mut self, seen: impl Iterator<Item = (&'a EndpointKey, bool)>) -> Report {
        // Two reports of one millisecond would be told apart by nothing.
        self.last_sent = wall_now().max(self.last_sent + Span::from_millis(1));
        let sent_at = self.last_sent;
        let observations = seen
            .map(|(endpoint, good)| {
                self.sequence += 1;
                Observation {
                    sequence: self.sequence,
                    endpoint: endpoint.clone(),
                    began_at: sent_at - AGE,
                    age: AGE,
                    latency_micros: LATENCY_MICROS,
                    outcome: if good { ProbeOutcome::Good } else { failed() },
                    status: good.then_some(200),
                    certificate_expires_at: None,
                    blind: false,
                }
            })
            .collect();
        Report {
            schema: REPORT_SCHEMA,
            agent: self.agent.clone(),
            boot: format!("bench-{}", self.boot_number),
            boot_number: self.boot_number,
            sent_at,
            config_version: String::new(),
            observations,
            opinions: Vec::new(),
            self_check: SelfCheck::default(),
            dropped: 0,
            out_of_service: None,
        }
    }

    /// Sends the next report.
    pub async fn send<'a>(
        &mut self,
        seen: impl Iterator<Item = (&'a EndpointKey, bool)>,
    ) -> Result<ReportAck> {
        let report = self.report(seen);
        let body = serde_json::to_vec(&report).attempt("write a report")?;
        let ack = self.post(body).await?.1;
        let taken = usize::try_from(ack.accepted).unwrap_or_default();
        if taken == report.observations.len() {
            return Ok(ack);
        }
        let why = format!("{taken} of {} observations of {} counted", report.observations.len(), self.agent);
        Err(BenchError::Unexpected(why))
    }

    /// Sends a report that was made before; says when it left.
    pub async fn post(&self, body: Vec<u8>) -> Result<(Instant, ReportAck)> {
        let what = || format!("send a report as {}", self.agent);
        let request = self.http.post(&self.url).header("content-type", "application/json").body(body);
        let left = Instant::now();
        let answer = request.send().await.attempt(what())?;
        let answer = answer.error_for_status().attempt(what())?;
        let text = answer.bytes().await.attempt(what())?;
        Ok((left, serde_json::from_slice(&text).attempt(what())?))
    }
}

fn failed() -> ProbeOutcome {
    ProbeOutcome::Failed { kind: FailureKind::Refused, detail: "connection refused".into() }
}
