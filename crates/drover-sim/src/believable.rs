//! I6: where more than half of the regions begin to fail at once, drover suspects what it sees by and asks.
//!
//! Counted from the results that arrived. Only what is beyond doubt counts, so that whatever is counted here must stand in the
//! verdicts, too: a trouble whose beginning a quorum of vantages has seen, each after so many good results that it held the
//! endpoint healthy, and that is so young that no verdict about it can be older than half of the breaker's window.

use crate::state::State;
use drover_model::config::Service;
use drover_model::plan::Plan;
use drover_model::{AgentId, EndpointKey, RegionId, Span, Timestamp};

/// What one vantage has seen of an endpoint lately.
struct Streak {
    began: Timestamp,
    /// It held the endpoint healthy before.
    was_well: bool,
}

impl State {
    /// Before drover leaves a region by itself.
    pub(crate) fn check_believable(&mut self, plan: &Plan) {
        let config = self.loaded.config.clone();
        let lately = config.settings.vantage.common_cause_window.divided_by(2);
        let serving = config.regions.keys().filter(|r| config.services_in(r).next().is_some());
        let (mut regions, mut failing) = (0, 0);
        for region in serving {
            regions += 1;
            failing += usize::from(self.begins_to_fail(region, lately));
        }
        let ours = self.begins_to_fail(&plan.intent.region, lately);
        self.demand("I6", !ours || failing * 2 <= regions, || {
            format!(
                "{} is left by itself while {failing} of {regions} regions begin to fail",
                plan.intent.region
            )
        });
    }

    fn begins_to_fail(&self, region: &RegionId, lately: Span) -> bool {
        let config = &self.loaded.config;
        let outside = config.outside_vantages(region);
        let need = (outside.len() / 2 + 1).max(2);
        config.services_in(region).any(|service| {
            let endpoint = EndpointKey::new(&service.name, region);
            let streaks: Vec<Streak> =
                outside.iter().filter_map(|agent| self.streak(agent, service, &endpoint)).collect();
            let (fresh, old): (Vec<&Streak>, Vec<&Streak>) = streaks.iter().partition(|s| s.was_well);
            let young = fresh.iter().all(|s| self.now().since(s.began) < lately);
            fresh.len() >= need && old.len() < need && young
        })
    }

    /// The bad results at the end of what this vantage has seen, when it may speak and they make an opinion.
    fn streak(&self, agent: &AgentId, service: &Service, endpoint: &EndpointKey) -> Option<Streak> {
        let now = self.now();
        let heard = self.watch.heard.get(agent)?;
        let speaks =
            heard.may_speak && now.since(heard.at) < self.loaded.config.settings.vantage.silent_after;
        let seen = self.watch.evidence.get(&(agent.clone(), endpoint.clone()))?;
        let bad = seen.iter().rev().take_while(|(_, good)| !good).count();
        let newest = seen.back().map(|(at, _)| *at).filter(|at| now.since(*at) < service.stale_after())?;
        let began = seen.get(seen.len().checked_sub(bad)?).map(|(at, _)| *at)?;
        let counts = speaks
            && bad >= service.failover.failure_threshold as usize
            && newest.since(began) < service.failover.failure_window;
        let well = service.failover.recovery_threshold as usize;
        let was_well = seen.iter().rev().skip(bad).take(well).filter(|(_, good)| *good).count() == well;
        counts.then_some(Streak { began, was_well })
    }
}
