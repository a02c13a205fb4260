//! Has answers kept for less long while a failover seems near, where the DNS servers can do that without a change of a record.
//!
//! What is told lasts for a while and is told again. So whatever becomes of this coordinator, times to live are the steady ones
//! again soon.

use crate::coordinator::Coordinator;
use crate::traffic::record_key;
use crate::verdicts::panel_of;
use drover_core::plan::{ttl_seconds, whole_seconds};
use drover_core::short_ttl;
use drover_dns::provider::{Gate, ProviderError};
use drover_dns::publish::{ShortTime, Shortened};
use drover_dns::zone::RecordKey;
use drover_model::config::Config;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two looks. Short beside a probe interval; what is looked at is the suspects alone.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// For how long a server keeps to what it was told.
const FOR_SECONDS: u32 = 15;
/// What did not change is told again after so long, a few times within that.
const TELL_EVERY: Duration = Duration::from_secs(4);

/// Looked at, at most: of what is told about so many there is room in one request, and who suspects more has a trouble of his own.
const SUSPECTS_MAX: usize = 10_000;

type Times = BTreeMap<RecordKey, u32>;

impl Coordinator {
    /// Looks until told to stop.
    pub(crate) async fn run_short_ttls(self: Arc<Self>) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told = Told::default();
        while self.stop.run_until_cancelled(tick.tick()).await.is_some() {
            let Some(provider) = self.dns().filter(|dns| dns.capabilities().shortens_ttls) else { continue };
            let times = self.short_times();
            if !told.is_due(&times) {
                continue;
            }
            let telling = self.tell_short_times(&provider, &times);
            match self.stop.run_until_cancelled(telling).await {
                None => return,
                Some(Ok(())) => {}
                // A deposed one is told so by the reconciler, which stands down.
                Some(Err(error)) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "can't shorten times to live");
                }
            }
            told = Told { times, at: Some(Instant::now()) };
        }
    }

    async fn tell_short_times(&self, gate: &Gate, times: &Times) -> Result<(), ProviderError> {
        let one = |(key, ttl_seconds): (&RecordKey, &u32)| ShortTime {
            name: key.name.clone(),
            rtype: key.rtype,
            ttl_seconds: *ttl_seconds,
        };
        let times = times.iter().map(one).collect();
        gate.shorten(&Shortened { epoch: self.db.epoch(), for_seconds: FOR_SECONDS, times }).await
    }

    /// Of each service that is answered with an endpoint which seems about to be found down.
    fn short_times(&self) -> Times {
        let (now, loaded, live) = (self.clock.now(), self.loaded(), self.live());
        let mut times = Times::new();
        if live.suspects.is_empty() {
            return times;
        }
        let Some(floor_seconds) = floor_seconds(&loaded.config) else { return times };
        let panel = panel_of(&live, &loaded.config, now);
        for endpoint in live.suspects.iter().take(SUSPECTS_MAX) {
            let Some(service) = loaded.config.services.get(&endpoint.service) else { continue };
            let target = live.traffic.get(&endpoint.service);
            if target.is_none_or(|target| target.weight(&endpoint.region).0 == 0) {
                continue;
            }
            let threshold = service.failover.failure_threshold;
            let opinions = live.opinions_of(endpoint);
            let failures = panel.failures_of_a_quorum(opinions, service, &endpoint.region, now);
            let steady = ttl_seconds(service);
            let shorter = short_ttl::ttl_seconds(steady, floor_seconds, failures, threshold);
            if let Some(key) = record_key(service).filter(|_| shorter < steady) {
                let time = times.entry(key).or_insert(shorter);
                *time = shorter.min(*time);
            }
        }
        times
    }
}

/// What times to live shrink to, where the servers can do that.
pub(crate) fn floor_seconds(config: &Config) -> Option<u32> {
    Some(whole_seconds(config.settings.dns.as_ref()?.embedded()?.ttl_floor))
}

/// What the servers were told last.
#[derive(Default)]
struct Told {
    times: Times,
    at: Option<Instant>,
}

impl Told {
    fn is_due(&self, times: &Times) -> bool {
        let is_old = self.at.is_some_and(|at| at.elapsed() >= TELL_EVERY);
        self.times != *times || (!times.is_empty() && is_old)
    }
}
