//! Reads every endpoint's metrics, each at its service's interval. Never waits for a slow one: a reading that is late
//! is simply missing.

use crate::coordinator::Coordinator;
use crate::endpoint::Target;
use crate::scrape::{EXPOSITION_BYTES_MAX, Reading, parse};
use drover_model::config::{Config, MetricsSource};
use drover_model::{EndpointKey, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How often the scraper looks whether something is due.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A reading may take this long, or its interval if that is shorter.
const READ_TIMEOUT_MAX: Duration = Duration::from_secs(5);
/// Readings under way at once.
const READINGS_IN_FLIGHT_MAX: usize = 256;

struct Wanted {
    key: EndpointKey,
    target: Target,
    source: MetricsSource,
}

fn wanted(config: &Config) -> Vec<Wanted> {
    config
        .services
        .values()
        .filter_map(|s| s.metrics.as_ref().map(|m| (s, m)))
        .flat_map(|(s, m)| {
            s.endpoints.values().map(move |e| Wanted {
                key: EndpointKey::new(&s.name, &e.region),
                target: Target::of(s, e),
                source: m.clone(),
            })
        })
        .collect()
}

fn still_wanted(config: &Config, read: &Wanted) -> bool {
    let Some(service) = config.services.get(&read.key.service) else { return false };
    let Some(endpoint) = service.endpoints.get(&read.key.region) else { return false };
    service.metrics.as_ref() == Some(&read.source) && Target::of(service, endpoint) == read.target
}

/// `address:port`, with brackets round IPv6.
#[must_use]
pub fn authority(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

impl Coordinator {
    /// Scrapes until told to stop.
    pub(crate) async fn run_scraper(self: Arc<Self>) {
        let mut due: BTreeMap<EndpointKey, Timestamp> = BTreeMap::new();
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut under_way = JoinSet::new();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = tick.tick() => {}
                Some(_) = under_way.join_next() => continue,
            }
            let now = self.clock.now();
            for w in wanted(&self.loaded().config) {
                if due.get(&w.key).is_some_and(|t| *t > now) || under_way.len() >= READINGS_IN_FLIGHT_MAX {
                    continue;
                }
                due.insert(w.key.clone(), now + w.source.interval);
                let me = self.clone();
                under_way.spawn(async move { me.scrape_one(w).await });
            }
        }
    }

    async fn scrape_one(&self, wanted: Wanted) {
        let timeout = wanted.source.interval.to_duration().min(READ_TIMEOUT_MAX);
        let read = self.read_metrics(&wanted.target, &wanted.source, timeout).await;
        let mut live = self.live();
        // Read from an address or a source that a reload has replaced meanwhile: not this endpoint's any more.
        if !still_wanted(&self.loaded().config, &wanted) {
            return;
        }
        let readings = live.readings.entry(wanted.key).or_default();
        match read {
            Ok(reading) => readings.push(reading),
            Err(failure) => readings.failure = Some(failure),
        }
    }

    /// One reading, now.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub(crate) async fn read_metrics(
        &self,
        target: &Target,
        source: &MetricsSource,
        timeout: Duration,
    ) -> Result<Reading, String> {
        let request = self.request_to(target, reqwest::Method::GET, &source.path).await?;
        let place = format!("{}{}", authority(&target.address, target.port), source.path);
        let mut answer =
            request.timeout(timeout).send().await.map_err(|e| drover_model::chain(&e.without_url()))?;
        if !answer.status().is_success() {
            return Err(format!("{place} answered {}", answer.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| drover_model::chain(&e.without_url()))? {
            body.extend_from_slice(&chunk);
            if body.len() > EXPOSITION_BYTES_MAX {
                return Err(format!("{place} sent more than {EXPOSITION_BYTES_MAX} bytes"));
            }
        }
        parse(&String::from_utf8_lossy(&body), source, self.clock.now()).map_err(|e| e.to_string())
    }
}
