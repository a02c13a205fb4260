//! The world as deciding, planning and checking may read it, put together at one moment.

use crate::config_dir::Loaded;
use crate::coordinator::Coordinator;
use crate::live::Live;
use crate::scrape;
use crate::verdicts::vantage_states;
use drover_model::decision::FailureClass;
use drover_model::journal::RunState;
use drover_model::plan::{EndedRun, World};
use drover_model::traffic::{Block, Load};
use drover_model::{EndpointKey, RequestsPerSecond, Timestamp};

impl Coordinator {
    /// The world at `now`.
    #[must_use]
    pub fn world(&self, now: Timestamp) -> World {
        let loaded = self.loaded();
        let runs = self.runs.active();
        let ended = self.runs.ended();
        let live = self.live();
        let agents = loaded.config.agents();
        let vantages = vantage_states(&live, &loaded.config, &agents, now);
        let heard_since_start = live
            .vantages
            .iter()
            .filter(|(_, v)| v.gate.probed_since(live.started_at))
            .map(|(a, _)| a.clone())
            .collect();
        let loads = loaded
            .config
            .services
            .values()
            .map(|s| {
                let measured = s.metrics.as_ref().and_then(|m| {
                    let target = live.traffic.get(&s.name);
                    let readings = s.endpoints.keys().map(|r| {
                        // Without a target every endpoint may carry traffic.
                        let carries = target.is_none_or(|t| t.weight(r).0 > 0);
                        (carries, live.readings.get(&EndpointKey::new(&s.name, r)))
                    });
                    scrape::load(readings, m.interval, now)
                });
                let load = load_of(measured, s.peak_load);
                (s.name.clone(), load)
            })
            .collect();
        World {
            config: loaded.config.clone(),
            verdicts: live.standing.clone(),
            vantages,
            traffic: live.traffic.clone(),
            loads,
            holds: live.holds.values().cloned().collect(),
            held: live.held.clone(),
            dns_of_another_store: live.dns_of_another_store.first().map(|server| server.epoch),
            freeze: self.freeze_in_force(&live, now),
            blocks: blocks(&live, &ended, &loaded).into_iter().chain(self.unreadable_blocks(now)).collect(),
            runs,
            ended,
            rearmed: live.rearmed.clone(),
            runbooks: loaded.runbooks.clone(),
            heard_since_start,
            service_versions: loaded.service_versions.clone(),
        }
    }
}

/// The load to reckon with: never less than what was declared, because a quiet hour says nothing of the peak.
fn load_of(measured: Option<(RequestsPerSecond, Timestamp)>, declared: Option<RequestsPerSecond>) -> Load {
    match (measured, declared) {
        (Some((m, _)), Some(d)) if d > m => Load::Declared { rate: d },
        (Some((rate, at)), _) => Load::Measured { rate, at },
        (None, Some(rate)) => Load::Declared { rate },
        (None, None) => Load::Unknown,
    }
}

/// The block periods in force: those that automatic failovers set, and those that follow from a person having stopped
/// one, or from a return by itself that did not get there (I8). The latter are derived from the runs themselves, so
/// that no crash can come between.
fn blocks(live: &Live, ended: &[EndedRun], loaded: &Loaded) -> Vec<Block> {
    let mut all: Vec<Block> = live.blocks.values().cloned().collect();
    let ended_early = |r: &&EndedRun| matches!(r.state, RunState::Aborted | RunState::RolledBack);
    let counts = |r: &&EndedRun| r.by_person || r.class == FailureClass::Recovery;
    for run in ended.iter().filter(ended_early).filter(counts) {
        for service in &run.services {
            let period = loaded.config.services.get(service).map(|s| s.failover.block_period);
            let rearmed = live.rearmed.get(service).is_some_and(|at| *at >= run.ended_at);
            if let Some(period) = period.filter(|_| !rearmed) {
                let until = run.ended_at + period;
                all.push(Block { service: service.clone(), class: run.class, run: run.run.clone(), until });
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_declared_peak_counts_when_more_than_that_was_not_measured() {
        let at = Timestamp::from_millis(1);
        let rate = RequestsPerSecond;
        assert_eq!(load_of(Some((rate(5), at)), Some(rate(9))), Load::Declared { rate: rate(9) });
        assert_eq!(load_of(Some((rate(9), at)), Some(rate(5))), Load::Measured { rate: rate(9), at });
        assert_eq!(load_of(None, Some(rate(5))), Load::Declared { rate: rate(5) });
        assert_eq!(load_of(None, None), Load::Unknown);
    }
}
