//! Failover policy, validation and objectives of a service.

use super::cursor::{Fields, Got};
use super::values::Scalar;
use crate::config::{
    FailbackPolicy, FailoverPolicy, MetricsSource, TrafficFrom, TrafficSource, ValidationPolicy, defaults,
};
use crate::time::Span;
use crate::units::Percent;

/// Reads `failover`. `endpoints` is how many the service has, when that is known.
pub(super) fn failover(service: &Fields<'_, '_, '_>, endpoints: Option<usize>) -> Option<FailoverPolicy> {
    let fields = service.object("failover").value()?;
    let automatic = fields.boolean("automatic").value();
    let failure_threshold = fields.integer("failure_threshold").value();
    let failure_window = fields.span("failure_window").value();
    let gray_failure_share = fields.percent("gray_failure_share").value();
    let gray_min_samples = fields.integer("gray_min_samples").value();
    let recovery_threshold = fields.integer("recovery_threshold").value();
    let quorum = fields.integer("quorum").optional();
    let max_unavailable_regions = max_unavailable(&fields, endpoints);
    let block_period = fields.span("block_period").value();
    let ramp = ramp(&fields);
    let soak = fields.span("soak").value();
    let headroom = fields.percent("headroom").value();
    let text = |v: Scalar| if let Scalar::Text(t) = v { Some(t) } else { None };
    let jurisdictions = fields.scalars("jurisdictions", text).value();
    let approval_expires = fields.span("approval_expires").value();
    let approvals = fields.integer("approvals").value();
    let failback = failback(&fields);
    Some(FailoverPolicy {
        automatic: automatic?,
        failure_threshold: failure_threshold?,
        failure_window: failure_window?,
        gray_failure_share: gray_failure_share?,
        gray_min_samples: gray_min_samples?,
        recovery_threshold: recovery_threshold?,
        quorum: quorum?,
        max_unavailable_regions: max_unavailable_regions?,
        block_period: block_period?,
        ramp: ramp?,
        soak: soak?,
        headroom: headroom?,
        jurisdictions: jurisdictions?,
        approval_expires: approval_expires?,
        approvals: approvals?,
        failback: failback?,
    })
}

fn failback(failover: &Fields<'_, '_, '_>) -> Option<FailbackPolicy> {
    let fields = failover.object("failback").value()?;
    let automatic = fields.boolean("automatic").value();
    let stable_hold = fields.span("stable_hold").value();
    Some(FailbackPolicy { automatic: automatic?, stable_hold: stable_hold? })
}

fn max_unavailable(fields: &Fields<'_, '_, '_>, endpoints: Option<usize>) -> Option<u32> {
    let endpoints = endpoints.and_then(|n| u32::try_from(n).ok());
    match fields.integer::<u32>("max_unavailable_regions") {
        Got::Bad => None,
        Got::Absent => {
            let default = u32::try_from(defaults::MAX_UNAVAILABLE_REGIONS).ok()?;
            Some(default.min(endpoints?.saturating_sub(1)))
        }
        Got::Value(n) => {
            if let Some(endpoints) = endpoints.filter(|e| n >= *e) {
                let message = format!(
                    "`max_unavailable_regions` of {n} would let the last of {endpoints} endpoint regions be taken out"
                );
                let place = fields.place_of("max_unavailable_regions");
                fields.sink.error(place, message, Some(format!("at most {}", endpoints.saturating_sub(1))));
            }
            Some(n)
        }
    }
}

fn ramp(fields: &Fields<'_, '_, '_>) -> Option<Vec<Percent>> {
    let share = |v: Scalar| if let Scalar::Percent(p) = v { Some(p) } else { None };
    let ramp = fields.scalars("ramp", share).value()?;
    let place = |i: usize| fields.sink.place(&format!("{}/ramp/{i}", fields.path));
    for (i, pair) in ramp.windows(2).enumerate() {
        if pair[1] <= pair[0] {
            let message = format!("`ramp` must rise, and {} follows {}", pair[1], pair[0]);
            fields.sink.error(place(i + 1), message, Some(format!("more than {}, or take it out", pair[0])));
        }
    }
    if let Some(last) = ramp.last().filter(|p| **p != Percent::FULL) {
        let message = format!(
            "`ramp` must end at 100%, and ends at {last}: the region would never carry its whole share"
        );
        fields.sink.error(place(ramp.len() - 1), message, Some("add 100%".to_owned()));
    }
    Some(ramp)
}

pub(super) fn validation(service: &Fields<'_, '_, '_>) -> Option<ValidationPolicy> {
    let fields = service.object("validation").value()?;
    let window = fields.span("window").value();
    let min_samples = fields.integer("min_samples").value();
    let max_error_rate = fields.percent("max_error_rate").value();
    let max_latency_p95 = fields.span("max_latency_p95").value();
    let min_availability = fields.percent("min_availability").value();
    Some(ValidationPolicy {
        window: window?,
        min_samples: min_samples?,
        max_error_rate: max_error_rate?,
        max_latency_p95: max_latency_p95?,
        min_availability: min_availability?,
    })
}

/// Objectives: time to recover, and data that may be lost.
pub(super) fn objectives(service: &Fields<'_, '_, '_>) -> Option<(Span, Span)> {
    let fields = service.object("objectives").value()?;
    let rto = fields.span("rto").value();
    let rpo = fields.span("rpo").value();
    rto.zip(rpo)
}

#[allow(clippy::option_option, reason = "the outer level is: could it be read")]
pub(super) fn metrics(service: &Fields<'_, '_, '_>) -> Option<Option<MetricsSource>> {
    let fields = match service.object("metrics") {
        Got::Value(fields) => fields,
        Got::Absent => return Some(None),
        Got::Bad => return None,
    };
    let path = fields.text("path").value();
    let requests_metric = fields.text("requests_metric").value();
    let status_label = fields.text("status_label").value();
    let latency_metric = fields.text("latency_metric").value();
    let interval = fields.span("interval").value();
    Some(Some(MetricsSource {
        path: path?,
        requests_metric: requests_metric?,
        status_label: status_label?,
        latency_metric: latency_metric?,
        interval: interval?,
    }))
}

#[allow(clippy::option_option, reason = "the outer level is: could it be read")]
pub(super) fn traffic(service: &Fields<'_, '_, '_>) -> Option<Option<TrafficSource>> {
    let fields = match service.variant("traffic") {
        Got::Value(fields) => fields,
        Got::Absent => return Some(None),
        Got::Bad => return None,
    };
    let from = match fields.text("kind").value()?.as_str() {
        "connections" => Some(TrafficFrom::Connections),
        "access_log" => fields.text("path").value().map(|path| TrafficFrom::AccessLog { path: path.into() }),
        _ => {
            let (url, query) = (fields.text("url").value(), fields.text("query").value());
            url.zip(query).map(|(url, query)| TrafficFrom::Prometheus { url, query })
        }
    };
    let drained_below = match &from {
        Some(TrafficFrom::Connections) => fields.integer("drained_below").value(),
        _ => fields.rate("drained_below").value().map(|rate| rate.0),
    };
    if drained_below == Some(0) {
        let message = "`drained_below` of nothing is never reached";
        fields.sink.error(fields.place_of("drained_below"), message, Some("at least 1rps".to_owned()));
        return None;
    }
    let hold = fields.span("hold").value();
    Some(Some(TrafficSource { from: from?, drained_below: drained_below?, hold: hold? }))
}
