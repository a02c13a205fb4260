//! One configuration, faster: every length of time divided by one factor.
//!
//! The demo runs the shipped policy this way, so that its minutes show what hours would, with no guard off. Counts, shares
//! and capacities stay. Three kinds of lengths have a floor, because the result must be as valid as the original:
//! what recurs (probe interval and timeout, metrics, references, reports, scripted requests) stays at 100 ms or more; a
//! TTL stays at 1 s, since DNS can say no less; and the two windows that must hold something (`failure_window` its
//! failures and samples, `silent_after` two reports) never shrink below that, where rounding up or a floor raised the
//! interval.

use super::shapes::PROBE_SPAN_MIN;
use super::shapes::service::TTL_MIN;
use super::{Config, DnsServers, HealthCheck, Service, Settings};
use crate::time::Span;

/// `config` with every duration divided by `factor`, rounded up, within the floors above. A factor of 0 counts as 1.
#[must_use]
pub fn scale(config: &Config, factor: u64) -> Config {
    let mut scaled = config.clone();
    for service in scaled.services.values_mut() {
        scale_service(service, factor);
    }
    scale_settings(&mut scaled.settings, factor);
    scaled
}

/// Divides, but not below `floor`; what was below it before stays as it was.
fn divide(span: &mut Span, factor: u64, floor: Span) {
    *span = span.divided_by(factor).max(floor.min(*span));
}

fn scale_service(service: &mut Service, factor: u64) {
    let plain = |span: &mut Span| divide(span, factor, Span::ZERO);
    let recurring = |span: &mut Span| divide(span, factor, PROBE_SPAN_MIN);
    let streak_fitted =
        service.failover.failure_window >= service.failover.failure_window_min(service.interval);
    let gray_fitted = service.failover.failure_window >= service.failover.gray_window_min(service.interval);

    divide(&mut service.ttl, factor, TTL_MIN);
    recurring(&mut service.interval);
    recurring(&mut service.timeout);
    match &mut service.check {
        HealthCheck::Http(c) => {
            c.max_latency.iter_mut().for_each(plain);
            plain(&mut c.tls_options.expiry_warning);
        }
        HealthCheck::Tcp(c) => c.max_latency.iter_mut().for_each(plain),
    }
    service.traffic.iter_mut().for_each(|t| plain(&mut t.hold));
    service.metrics.iter_mut().for_each(|m| recurring(&mut m.interval));
    service.app_checks.iter_mut().for_each(|c| recurring(&mut c.timeout));

    let policy = &mut service.failover;
    for span in [
        &mut policy.failure_window,
        &mut policy.block_period,
        &mut policy.soak,
        &mut policy.approval_expires,
        &mut policy.failback.stable_hold,
    ] {
        plain(span);
    }
    if streak_fitted {
        policy.failure_window = policy.failure_window.max(policy.failure_window_min(service.interval));
    }
    if gray_fitted {
        policy.failure_window = policy.failure_window.max(policy.gray_window_min(service.interval));
    }
    plain(&mut service.validation.window);
    plain(&mut service.validation.max_latency_p95);
    plain(&mut service.rto);
    plain(&mut service.rpo);
}

fn scale_settings(settings: &mut Settings, factor: u64) {
    let plain = |span: &mut Span| divide(span, factor, Span::ZERO);
    let vantage = &mut settings.vantage;
    divide(&mut vantage.reference_interval, factor, PROBE_SPAN_MIN);
    divide(&mut vantage.report_interval, factor, PROBE_SPAN_MIN);
    plain(&mut vantage.silent_after);
    vantage.silent_after = vantage.silent_after.max(vantage.silent_after_min());
    plain(&mut vantage.max_clock_skew);
    plain(&mut vantage.common_cause_window);
    if let Some(dns) = &mut settings.dns {
        plain(&mut dns.velocity.window);
        plain(&mut dns.drift_hold);
        if let DnsServers::Embedded(own) = &mut dns.servers {
            divide(&mut own.ttl_floor, factor, TTL_MIN);
        }
    }
    plain(&mut settings.retention.observations);
    plain(&mut settings.retention.transitions);
}
