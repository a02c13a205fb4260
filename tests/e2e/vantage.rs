//! Vantages that the tests play: the real agent is stopped, and something else speaks in its name.

use crate::wire;
use crate::world::World;
use drover_model::config::Config;
use drover_model::probe::{FailureKind, Observation, ProbeOutcome, REPORT_SCHEMA, Report, SelfCheck};
use drover_model::{AgentId, EndpointKey, Span, Timestamp};
use nix::sys::signal::Signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Faster than the real agent's probes, so that no opinion is stale.
const REPORT_EVERY: Duration = Duration::from_millis(300);
/// Above every boot number that a real agent takes (seconds since 1970).
const BOOT_NUMBER: u64 = 1 << 40;

/// How a vantage misbehaves about one region.
#[derive(Debug, Clone, Copy)]
pub enum Play {
    /// Everything in the region fails, it says.
    Lying,
    /// The same, by a clock that is an hour ahead.
    Ahead,
    /// All is well, but reports of failures from an earlier boot and under used numbers come in again and again.
    Replaying,
}

/// A vantage that is played until this value is dropped.
pub struct Played {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Played {
    /// Stops the real agent and plays its part.
    pub fn start(world: &World, agent: &str, about: &str, play: Play) -> Self {
        world.agent(agent).signal(Signal::SIGSTOP);
        let voice = Voice {
            agent: AgentId::new(agent).unwrap(),
            about: about.to_owned(),
            config: world.config.clone(),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut sequence = 0;
            while !stopped.load(Ordering::Relaxed) {
                voice.speak(play, &mut sequence);
                std::thread::sleep(REPORT_EVERY);
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the played vantage failed");
        }
    }
}

struct Voice {
    agent: AgentId,
    about: String,
    config: Config,
}

impl Voice {
    fn speak(&self, play: Play, sequence: &mut u64) {
        let first = *sequence + 1;
        match play {
            Play::Lying => self.send(&self.report(BOOT_NUMBER, first, now(), true)),
            Play::Ahead => self.send(&self.report(BOOT_NUMBER, first, now() + Span::from_hours(1), true)),
            Play::Replaying => {
                let began = now();
                self.send(&self.report(BOOT_NUMBER, first, began, false));
                // Sent again by somebody in between: from before the last boot, and under numbers that were used.
                self.send(&self.report(BOOT_NUMBER - 1, first, now(), true));
                self.send(&self.report(BOOT_NUMBER, 1, began, true));
            }
        }
        *sequence = first + self.endpoints().count() as u64;
    }

    fn endpoints(&self) -> impl Iterator<Item = EndpointKey> {
        let services = self.config.services.values();
        services.flat_map(|s| s.endpoints.keys().map(|region| EndpointKey::new(&s.name, region)))
    }

    fn report(&self, boot_number: u64, first: u64, sent_at: Timestamp, failing: bool) -> Report {
        let observe = |(endpoint, sequence): (EndpointKey, u64)| {
            let bad = failing && endpoint.region.as_str() == self.about;
            let failed = ProbeOutcome::Failed { kind: FailureKind::TimedOut, detail: "no answer".into() };
            Observation {
                sequence,
                endpoint,
                began_at: sent_at,
                age: Span::from_millis(5),
                latency_micros: 900,
                outcome: if bad { failed } else { ProbeOutcome::Good },
                status: (!bad).then_some(200),
                certificate_expires_at: None,
                blind: false,
            }
        };
        Report {
            schema: REPORT_SCHEMA,
            agent: self.agent.clone(),
            boot: format!("played-{boot_number}"),
            boot_number,
            sent_at,
            config_version: String::new(),
            observations: self.endpoints().zip(first..).map(observe).collect(),
            opinions: Vec::new(),
            self_check: SelfCheck { references_reached: 2, references: 2, blind: false },
            dropped: 0,
            out_of_service: None,
        }
    }

    fn send(&self, report: &Report) {
        let (path, body) =
            (format!("/v1/agents/{}/reports", self.agent), serde_json::to_string(report).unwrap());
        let (status, answer) = wire::http(self.config.settings.listen, "POST", &path, &body).unwrap();
        assert_eq!(status, 200, "{answer}");
    }
}

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_millis(i64::try_from(now.as_millis()).unwrap())
}
