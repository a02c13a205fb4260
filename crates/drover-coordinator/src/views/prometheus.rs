//! `/metrics`: what `status` knows, as numbers for alert rules.

use crate::text::wire_name;
use drover_model::Timestamp;
use drover_model::api::StatusView;
use drover_model::decision::{VantageState, VerdictState};
use drover_model::journal::RunState;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;

type Labels = Vec<(String, String)>;
type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn add(registry: &mut Registry, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) {
    let family = Gauges::default();
    for (labels, value) in values {
        family.get_or_create(&labels).set(value);
    }
    registry.register(name, help, family);
}

fn one(value: f64) -> [(Labels, f64); 1] {
    [(Vec::new(), value)]
}

fn flag(b: bool) -> f64 {
    if b { 1.0 } else { 0.0 }
}

// Ages, counts and generations: exact far beyond any that occurs.
#[allow(clippy::cast_precision_loss)]
fn number(n: u64) -> f64 {
    n as f64
}

const VERDICTS: [VerdictState; 6] = [
    VerdictState::Healthy,
    VerdictState::Degraded,
    VerdictState::Unreachable,
    VerdictState::Partitioned,
    VerdictState::Down,
    VerdictState::Unknown,
];

/// The exposition, in Prometheus text format.
#[must_use]
pub fn exposition(view: &StatusView) -> String {
    let mut registry = Registry::with_prefix("drover");
    coordinator(&mut registry, view);
    endpoints(&mut registry, view);
    vantages(&mut registry, view);
    runs(&mut registry, view);
    let mut text = String::new();
    // Writing into a string can't fail; an empty exposition would trip the rule that watches drover itself.
    if encode(&mut text, &registry).is_err() {
        text.clear();
    }
    text
}

fn coordinator(r: &mut Registry, view: &StatusView) {
    let c = &view.coordinator;
    let info = labels(&[("version", &c.version), ("config", &c.config_version)]);
    add(r, "coordinator_info", "The coordinator that answers", [(info, 1.0)]);
    let leads = c.leadership.as_ref().is_none_or(|l| l.leads);
    add(r, "leads", "It leads: of several on one store, one does", one(flag(leads)));
    add(
        r,
        "config_rejected",
        "The configuration on disk is refused",
        one(flag(!c.config_refused.is_empty())),
    );
    add(r, "frozen", "Automatic action is frozen", one(flag(view.freeze.is_some())));
    add(r, "store_bytes", "Size of the store", one(number(c.store_bytes)));
    add(r, "store_size_alarm", "The store is past its alarm size", one(flag(c.store_alarm)));
    let failing = c.store_failing.is_some();
    add(r, "store_failing", "The store takes no writes, or the journal's alone", one(flag(failing)));
    add(
        r,
        "connections_refused",
        "Connections refused since the start, of machines that had as many as one may have",
        one(number(c.connections_refused)),
    );
    add(r, "outbox_undelivered", "Pages not delivered", one(number(c.pages_undelivered)));
    let oldest = c.pages_oldest.map_or(0.0, drover_model::Span::as_secs_f64);
    add(r, "outbox_oldest_seconds", "Age of the oldest page not delivered", one(oldest));
    add(r, "hold_expires_seconds", "Time left of a drain or a freeze, below zero past its end", lapses(view));
    let dns = view
        .dns
        .iter()
        .map(|d| (labels(&[("server", &d.instance)]), flag(d.reachable && d.behind.is_empty())));
    add(r, "dns_instance_in_sync", "The DNS server answers the targets", dns);
    let reach = view.dns.iter().map(|d| (labels(&[("server", &d.instance)]), flag(d.reachable)));
    add(r, "dns_instance_reachable", "The DNS server can be reached", reach);
    let generations =
        view.services.iter().map(|s| (labels(&[("service", s.name.as_str())]), number(s.generation.0)));
    add(r, "dns_target_generation", "Generation of a service's target", generations);
}

fn lapses(view: &StatusView) -> Vec<(Labels, f64)> {
    let left = |until: Timestamp| {
        let millis = until.as_millis().saturating_sub(view.at.as_millis());
        #[allow(clippy::cast_precision_loss)] // Milliseconds until an end that a person set.
        let seconds = millis as f64 / 1_000.0;
        seconds
    };
    let holds = view.holds.iter().filter_map(|h| {
        let labels = labels(&[("hold", h.run.as_str()), ("region", h.region.as_str())]);
        h.expires_at.map(|until| (labels, left(until)))
    });
    let freeze = view.freeze.iter().filter_map(|f| f.expires_at);
    holds.chain(freeze.map(|until| (labels(&[("hold", "freeze"), ("region", "")]), left(until)))).collect()
}

fn endpoints(r: &mut Registry, view: &StatusView) {
    let all = || view.services.iter().flat_map(|s| s.endpoints.iter().map(move |e| (s, e)));
    let verdicts = all().flat_map(|(s, e)| {
        VERDICTS.iter().map(move |v| {
            let l = labels(&[
                ("service", s.name.as_str()),
                ("region", e.region.as_str()),
                ("verdict", &wire_name(v)),
            ]);
            (l, flag(e.verdict == *v))
        })
    });
    add(r, "endpoint_verdict", "What an endpoint is held to be", verdicts);
    let weights = all().map(|(s, e)| {
        (labels(&[("service", s.name.as_str()), ("region", e.region.as_str())]), f64::from(e.weight.0))
    });
    add(r, "endpoint_weight", "Published weight", weights);
    let possible = view
        .regions
        .iter()
        .filter(|r| !r.witness)
        .map(|r| (labels(&[("region", r.name.as_str())]), flag(r.quorum.possible)));
    add(r, "automatic_failover_possible", "Enough vantages can speak", possible);
}

fn vantages(r: &mut Registry, view: &StatusView) {
    let each = |f: fn(&drover_model::api::VantageView) -> f64| {
        view.vantages
            .iter()
            .map(move |v| (labels(&[("vantage", v.agent.as_str())]), f(v)))
            .collect::<Vec<_>>()
    };
    let silent = |v: &drover_model::api::VantageView| {
        flag(matches!(v.state, VantageState::Silent | VantageState::NeverHeard))
    };
    add(r, "vantage_silent", "No report in time", each(silent));
    add(r, "vantage_blind", "Sees nothing at all", each(|v| flag(v.state == VantageState::Blind)));
    #[allow(clippy::cast_precision_loss)] // Milliseconds between two clocks.
    let skew = |v: &drover_model::api::VantageView| v.skew_millis.unwrap_or(0) as f64 / 1_000.0;
    add(r, "clock_skew_seconds", "The vantage's clock minus the coordinator's", each(skew));
    add(r, "observations_dropped", "Observations that the agent dropped", each(|v| number(v.dropped)));
    add(r, "observations_replayed", "Observations that were replayed", each(|v| number(v.replayed)));
}

fn runs(r: &mut Registry, view: &StatusView) {
    let states =
        view.runs.iter().map(|x| (labels(&[("run", x.id.as_str()), ("state", &wire_name(&x.state))]), 1.0));
    add(r, "run_state", "Where a run stands", states);
    let stuck = view.runs.iter().filter(|x| x.state == RunState::NeedsOperator).count();
    add(r, "run_needs_operator", "Runs that can't go on without a person", one(number(stuck as u64)));
}
