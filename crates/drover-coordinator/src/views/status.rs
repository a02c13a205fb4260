//! `status`: everything at a glance, what is not normal first.

use crate::config_dir::Loaded;
use crate::coordinator::Coordinator;
use crate::live::Live;
use drover_core::{capacity, quorum, weights};
use drover_model::api::{
    API_SCHEMA, CoordinatorView, DnsView, EndpointView, QuorumView, RegionView, RunSummary, ServiceView,
    StatusView, VantageView,
};
use drover_model::break_glass::{HeldBy, HeldView};
use drover_model::config::{HealthCheck, RegionRole, Service};
use drover_model::decision::VerdictState;
use drover_model::machine::{CertificateEnding, MachineIdentity};
use drover_model::plan::World;
use drover_model::traffic::ShareReason;
use drover_model::units::Generation;
use drover_model::{Percent, RegionId, RunId, ServiceId, Span, Timestamp, beside};
use drover_pki::ledger::ends_soon;
use drover_pki::machine_in;
use drover_store::{Alarm, ReadError};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// Ended runs shown beside those that are not over.
const ENDED_RUNS_SHOWN: usize = 3;

/// The servers as they were seen last, each with what it answers against the zone.
pub(crate) fn dns_views(live: &Live, now: Timestamp) -> Vec<DnsView> {
    let with = |view: &DnsView| DnsView {
        contradictions: live.contradictions_of(&view.instance, now),
        ..view.clone()
    };
    live.dns_views.iter().map(with).collect()
}

impl Coordinator {
    /// Everything at a glance.
    pub fn status_view(&self) -> StatusView {
        let now = self.clock.now();
        let loaded = self.loaded();
        let world = self.world(now);
        let runs = self.runs.summaries();
        let live = self.live();
        let mut by_priority: Vec<&Service> = loaded.config.services.values().collect();
        // A stable sort: of one priority they stay in the order of their names.
        by_priority.sort_by_key(|s| s.priority);
        let working_on = working_on(&runs);
        let services: Vec<ServiceView> =
            by_priority.into_iter().map(|s| service_view(s, &world, &live, now, &working_on)).collect();
        let regions = world.config.regions.values();
        let quorums = quorum::automatic_possible(&world, regions.clone().map(|r| &r.name));
        let told = worst_of_regions(world.config.regions.keys(), &services).into_iter().zip(quorums);
        let mut view = StatusView {
            schema: API_SCHEMA,
            at: now,
            coordinator: self.coordinator_view(&loaded, &live),
            attention: Vec::new(),
            regions: regions
                .zip(told)
                .map(|(r, (worst, quorum))| region_view(r, worst, quorum, &live))
                .collect(),
            services,
            vantages: vantage_views(&loaded, &world, &live),
            dns: dns_views(&live, now),
            health_checks: self.health_checks_view(&loaded.config, &live),
            datasets: self.datasets.shown(now),
            freeze: world.freeze.clone().filter(|f| f.holds_at(now)),
            holds: world.holds.clone(),
            held: held(&world),
            dns_of_another_store: live.dns_of_another_store.clone(),
            failbacks: drover_core::failback::views(&world, now),
            blocks: world.blocks.iter().filter(|b| b.until > now).cloned().collect(),
            runs: shown(runs),
        };
        drop(live);
        view.attention = crate::attention::attention(&view, now);
        view
    }

    fn coordinator_view(&self, loaded: &Loaded, live: &Live) -> CoordinatorView {
        let stats = self.records.stats();
        // Both files lie on one disk and are kept by one set of retentions.
        let bytes =
            stats.as_ref().map_or(0, |(bytes, _)| *bytes).saturating_add(self.history.bytes().unwrap_or(0));
        // Its size is judged here, by the configuration in force; the store knows only the one it was opened with.
        let large = bytes >= loaded.config.settings.retention.store_alarm_bytes;
        let (failing, store_stopped) = failing(stats.map(|(_, alarm)| alarm));
        let directory = self.options.state_directory.display();
        let failing = failing.map(|why| format!("{why} (in {directory})")).or_else(|| self.cluster_failing());
        CoordinatorView {
            version: env!("CARGO_PKG_VERSION").into(),
            epoch: self.db.epoch(),
            started_at: self.started_at,
            config_version: loaded.version.clone(),
            config_refused: live.config_refused.clone(),
            restart_needed: self.restart_needed(loaded),
            store_bytes: bytes,
            store_alarm: large,
            store_failing: failing,
            store_stopped,
            page_channels: loaded.config.settings.paging.channels(),
            pages_undelivered: live.pages_undelivered,
            connections_refused: self.access.connections_refused.load(Ordering::Relaxed),
            certificates_ending: self.certificates_ending(),
            pages_oldest: live.pages_oldest.map(|t| self.clock.now().since(t)),
            leadership: self.leadership_view(),
            unreadable_records: self.unreadable_view(),
            store_unread: (**self.leading.unread.load()).clone(),
        }
    }
}

impl Coordinator {
    /// Of machines that ask, and this one's own, which is read where it lies: it may have been renewed just now.
    fn certificates_ending(&self) -> Vec<CertificateEnding> {
        let now = drover_pki::wall_now();
        let own = self.options.tls.as_ref().and_then(|files| machine_in(&files.certificate).ok());
        let own = own.filter(|own| ends_soon(own.from, own.until, now));
        let own = own.map(|own| CertificateEnding { machine: own.identity, until: own.until });
        let loaded = self.loaded();
        let others = self.access.machines.ending(now, |machine| match machine {
            MachineIdentity::Agent { region, agent } => {
                loaded.config.region_of_agent(agent).is_some_and(|configured| configured == region)
            }
            MachineIdentity::Coordinator { .. } | MachineIdentity::Client { .. } => true,
        });
        let mine = own.as_ref().map(|own| own.machine.clone());
        own.into_iter()
            .chain(others.into_iter().filter(|other| Some(&other.machine) != mine.as_ref()))
            .collect()
    }

    /// Of a cluster, whose alarms are its own, what the last write ended in tells.
    fn cluster_failing(&self) -> Option<String> {
        self.records.settings().and_then(|_| self.db.write_failure())
    }
}

/// Why the store takes no writes, or the journal's alone; and whether only a restart helps.
fn failing(alarm: Result<Option<Alarm>, ReadError>) -> (Option<String>, bool) {
    match alarm {
        Ok(None | Some(Alarm::Large { .. })) => (None, false),
        Ok(Some(alarm @ (Alarm::ReserveGone { .. } | Alarm::Full { .. }))) => {
            (Some(alarm.to_string()), false)
        }
        Ok(Some(alarm @ Alarm::Stopped { .. })) => (Some(alarm.to_string()), true),
        Err(e) => (Some(e.to_string()), true),
    }
}

fn held(world: &World) -> Vec<HeldView> {
    let view = |(service, held_by): (&ServiceId, &HeldBy)| HeldView {
        service: service.clone(),
        held_by: held_by.clone(),
    };
    world.held.iter().map(view).collect()
}

fn shown(mut runs: Vec<RunSummary>) -> Vec<RunSummary> {
    let mut ended = 0;
    runs.retain(|r| {
        if r.state.is_final() {
            ended += 1;
        }
        !r.state.is_final() || ended <= ENDED_RUNS_SHOWN
    });
    runs
}

/// The run under way for each service that has one.
fn working_on(runs: &[RunSummary]) -> BTreeMap<&ServiceId, &RunId> {
    let open = runs.iter().rev().filter(|r| !r.state.is_final());
    open.flat_map(|r| r.services.iter().map(move |s| (s, &r.id))).collect()
}

fn service_view(
    s: &Service,
    world: &World,
    live: &Live,
    now: Timestamp,
    working_on: &BTreeMap<&ServiceId, &RunId>,
) -> ServiceView {
    let target = world.traffic.get(&s.name);
    let configured = weights::configured(s);
    let regions = || s.endpoints.keys();
    let published = beside(regions(), target.into_iter().flat_map(|t| &t.weights));
    let shares = beside(regions(), target.into_iter().flat_map(|t| &t.shares));
    let load = world.loads.get(&s.name).copied().unwrap_or(drover_model::traffic::Load::Unknown);
    let standing = drover_core::of_service(&world.verdicts, s).map(|(_, standing)| standing);
    let certificates = drover_core::of_service(&live.certificates, s).map(|(_, seen)| seen);
    let endpoints = s
        .endpoints
        .values()
        .zip(standing)
        .zip(certificates)
        .zip(published.zip(shares).zip(configured.values()))
        .map(|(((e, standing), seen), (((_, weight), (_, share)), configured_weight))| {
            let certificate = seen.and_then(|seen| seen.values().min().copied());
            let weight = weight.copied().unwrap_or_default();
            EndpointView {
                region: e.region.clone(),
                address: crate::scraper::authority(&e.address, e.port),
                verdict: standing.map_or(VerdictState::Unknown, |v| v.verdict.state),
                since: standing.map(|v| v.since),
                weight,
                configured_weight: *configured_weight,
                share: share.map_or(Percent::FULL, |x| x.share),
                share_reason: share.map_or(ShareReason::Configured, |x| x.reason.clone()),
                usable: capacity::less_headroom(s, e.capacity),
                load: load.rate().map(|l| capacity::projected(l, weight)),
                certificate_expires_at: certificate,
                certificate_expiring: certificate.is_some_and(|ends| ends < now + expiry_warning(s)),
            }
        })
        .collect();
    ServiceView {
        name: s.name.clone(),
        dns_name: s.dns_name.clone(),
        generation: target.map_or(Generation(0), |t| t.generation),
        load,
        automatic: s.failover.automatic,
        run: working_on.get(&s.name).copied().cloned(),
        endpoints,
    }
}

/// How long before a certificate's end people are told. A check without TLS is shown none.
fn expiry_warning(s: &Service) -> Span {
    match &s.check {
        HealthCheck::Http(check) => check.tls_options.expiry_warning,
        HealthCheck::Tcp(_) => Span::ZERO,
    }
}

/// From best to worst for a region's one word.
fn badness(v: VerdictState) -> u8 {
    match v {
        VerdictState::Healthy => 0,
        VerdictState::Unknown => 1,
        VerdictState::Partitioned => 2,
        VerdictState::Degraded => 3,
        VerdictState::Unreachable => 4,
        VerdictState::Down => 5,
    }
}

/// The worst that stands in each region, in the order of the regions.
fn worst_of_regions<'a>(
    regions: impl ExactSizeIterator<Item = &'a RegionId> + Clone,
    services: &'a [ServiceView],
) -> Vec<VerdictState> {
    let mut worst = vec![VerdictState::Healthy; regions.len()];
    for service in services {
        let own = service.endpoints.iter().map(|e| (&e.region, e.verdict));
        for ((_, verdict), held) in beside(regions.clone(), own).zip(&mut worst) {
            // Where the service has no endpoint nothing can stand.
            if let Some(verdict) = verdict.filter(|v| badness(*v) > badness(*held)) {
                *held = verdict;
            }
        }
    }
    worst
}

fn region_view(
    r: &drover_model::config::Region,
    worst: VerdictState,
    quorum: QuorumView,
    live: &Live,
) -> RegionView {
    RegionView {
        name: r.name.clone(),
        city: r.location.city.clone(),
        witness: r.role == RegionRole::Witness,
        worst,
        quorum,
        decision: live.decisions.get(&r.name).map(|d| d.sentence.clone()),
    }
}

fn vantage_views(loaded: &Loaded, world: &World, live: &Live) -> Vec<VantageView> {
    loaded
        .config
        .agents()
        .into_iter()
        .map(|(agent, region)| {
            let seen = live.vantages.get(&agent);
            VantageView {
                state: world
                    .vantages
                    .get(&agent)
                    .copied()
                    .unwrap_or(drover_model::decision::VantageState::NeverHeard),
                heard_at: seen.and_then(|v| v.heard_at),
                skew_millis: seen.and_then(|v| v.skew_millis),
                config_version: seen.and_then(|v| v.config_version.clone()),
                dropped: seen.map_or(0, |v| v.dropped),
                replayed: seen.map_or(0, |v| v.replayed),
                late: seen.map_or(0, |v| v.late),
                refused: seen.and_then(|v| v.refused.clone()),
                agent,
                region,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_model::{RequestsPerSecond, Weight};

    fn endpoint(region: &str, verdict: VerdictState) -> EndpointView {
        EndpointView {
            region: RegionId::new(region).unwrap(),
            address: String::new(),
            verdict,
            since: None,
            weight: Weight(0),
            configured_weight: Weight(0),
            share: Percent::FULL,
            share_reason: ShareReason::Configured,
            usable: RequestsPerSecond(0),
            load: None,
            certificate_expires_at: None,
            certificate_expiring: false,
        }
    }

    #[test]
    fn a_region_is_as_bad_as_the_worst_of_its_endpoints() {
        let service = |endpoints| ServiceView {
            name: ServiceId::new("pay").unwrap(),
            dns_name: String::new(),
            generation: Generation(1),
            load: drover_model::traffic::Load::Unknown,
            automatic: true,
            run: None,
            endpoints,
        };
        let services = [
            service(vec![endpoint("b", VerdictState::Unknown), endpoint("c", VerdictState::Down)]),
            service(vec![endpoint("b", VerdictState::Degraded), endpoint("c", VerdictState::Healthy)]),
            service(vec![endpoint("gone", VerdictState::Down)]),
        ];
        let regions: Vec<RegionId> = ["a", "b", "c"].map(|r| RegionId::new(r).unwrap()).into();
        let expected = [VerdictState::Healthy, VerdictState::Degraded, VerdictState::Down];
        assert_eq!(worst_of_regions(regions.iter(), &services), expected);
    }

    #[test]
    fn only_a_store_that_stopped_itself_needs_a_restart() {
        let stopped = |alarm| failing(Ok(Some(alarm)));
        assert_eq!(failing(Ok(None)), (None, false));
        assert_eq!(stopped(Alarm::Large { bytes: 2, size_alarm_bytes: 1 }), (None, false));
        for by_itself in [Alarm::Full { free_bytes: 1 }, Alarm::ReserveGone { reserve_bytes: 1 }] {
            let (why, needs_restart) = stopped(by_itself);
            assert!(why.unwrap().contains("free some space") && !needs_restart);
        }
        let (why, needs_restart) = stopped(Alarm::Stopped { reason: "Input/output error".into() });
        assert!(why.unwrap().contains("Input/output error") && needs_restart);
    }
}
