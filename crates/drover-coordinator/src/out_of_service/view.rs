//! What is shown of it, and the checks kept as they should be.

use super::known::{OutOfServiceLive, follows_within};
use crate::coordinator::Coordinator;
use crate::live::Live;
use crate::traffic::record_key;
use drover_core::out_of_service::Standing;
use drover_dns::provider::ProviderError;
use drover_dns::publish::FenceReason;
use drover_model::RegionId;
use drover_model::api::{CheckState, HealthChecksView, RegionChecks, RegionStanding, StatusPageView};
use drover_model::config::{Config, DECLARING_MIN, RegionRole, StatusServer};
use std::sync::Arc;
use std::time::Duration;

/// Between two readings of the checks.
const READ_EVERY: Duration = Duration::from_secs(60);
/// The same while something waits for Route 53's checkers, or could not be done.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

impl Coordinator {
    /// Keeps the health checks as they should be, until told to stop.
    pub(crate) async fn run_health_checks(self: Arc<Self>) {
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = self.checks_wake.notified() => {}
            }
            match self.stop.run_until_cancelled(self.look_at_checks()).await {
                None => return,
                Some(Ok(is_settled)) => pause = if is_settled { READ_EVERY } else { AGAIN_AFTER },
                Some(Err(ProviderError::Fenced {
                    instance,
                    highest,
                    reason: reason @ FenceReason::Older,
                })) => {
                    tracing::error!(instance, %highest, "DNS refuses this coordinator's epoch: {reason}; standing down");
                    self.stop.cancel();
                    return;
                }
                Some(Err(error)) => {
                    let trouble = drover_model::chain(&error);
                    let before = self.live().out_of_service.trouble.replace(trouble.clone());
                    if before.as_ref() != Some(&trouble) {
                        tracing::warn!(%trouble, "can't bring the health checks up to what they should be");
                    }
                    pause = AGAIN_AFTER;
                }
            }
        }
    }

    /// Is nothing left to wait for?
    pub(crate) async fn look_at_checks(&self) -> Result<bool, ProviderError> {
        let loaded = self.loaded();
        let Some(gate) = self.dns() else { return Ok(true) };
        let keys: Vec<_> = loaded.config.services.values().filter_map(record_key).collect();
        let declared = self.live().out_of_service.told().may_be_out();
        let found = gate.provision(self.db.epoch(), &keys, &declared).await?;
        let is_settled = found.iter().all(|check| check.state == CheckState::InLine);
        let now = self.clock.now();
        let mut live = self.live();
        live.out_of_service.checks = Some((found, now));
        live.out_of_service.trouble = None;
        Ok(is_settled)
    }

    /// The checks at a glance.
    pub(crate) fn health_checks_view(&self, config: &Config, live: &Live) -> Option<HealthChecksView> {
        let known = &live.out_of_service;
        // Whatever is still said is shown, also where the configuration has no checks any more.
        if config.health_checks().is_none() && known.is_quiet() {
            return None;
        }
        let needed = u32::try_from(DECLARING_MIN).unwrap_or(u32::MAX);
        let mut view = HealthChecksView::new(needed, follows_within(config));
        if let Some((found, at)) = &known.checks {
            (view.checks, view.read_at) = (found.clone(), Some(*at));
        }
        view.trouble = known.trouble.clone();
        let serving = config.regions.values().filter(|r| r.role == RegionRole::Serving);
        view.regions = serving.map(|r| self.region_checks(config, known, &r.name)).collect();
        Some(view)
    }

    fn region_checks(&self, config: &Config, known: &OutOfServiceLive, region: &RegionId) -> RegionChecks {
        let page = |server: &StatusServer| {
            Some(StatusPageView {
                at: config.region_of_agent(&server.agent)?.clone(),
                url: server.page(region),
                behind_since: known.behind_since(&server.agent),
                has_newest: known.has_newest(&server.agent, self.db.epoch()),
                agent: server.agent.clone(),
            })
        };
        RegionChecks {
            region: region.clone(),
            standing: match known.told().standing(region) {
                Standing::InService => RegionStanding::InService,
                Standing::Declared => RegionStanding::Declared,
                Standing::Withdrawing => RegionStanding::Withdrawing,
            },
            since: known.kept().since.get(region).copied(),
            waits_for: known.why(region).cloned(),
            pages: config.status_servers_outside(region).filter_map(page).collect(),
        }
    }
}
