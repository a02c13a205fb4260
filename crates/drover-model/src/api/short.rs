//! The status in short, for readers that know these types.
//!
//! Nearly all endpoints of a large world are as usual, and saying so of each is half of the document. Here what is as
//! usual is left out. Read as [`StatusView`] it is the same as the whole document: nothing is lost.

use super::{
    Attention, CoordinatorView, DatasetView, DnsCommandView, DnsView, EndpointView, FailbackView,
    HealthChecksView, RegionView, RunSummary, ServiceView, StatusView, VantageView,
};
use crate::break_glass::HeldView;
use crate::decision::VerdictState;
use crate::ids::{RegionId, RunId, ServiceId};
use crate::time::Timestamp;
use crate::traffic::{Block, Freeze, Hold, Load, ShareReason};
use crate::units::{Generation, Percent, RequestsPerSecond, Weight};
use serde::{Serialize, Serializer};

/// A status that is written in short.
#[derive(Debug, Clone, Copy)]
pub struct Short<'a>(pub &'a StatusView);

/// What an endpoint's share is as long as nobody says otherwise.
pub(super) fn full_share() -> Percent {
    Percent::FULL
}

/// Why it is so.
pub(super) fn configured_share() -> ShareReason {
    ShareReason::Configured
}

#[derive(Serialize)]
struct ShortStatus<'a> {
    schema: u16,
    at: Timestamp,
    coordinator: &'a CoordinatorView,
    attention: &'a [Attention],
    regions: &'a [RegionView],
    #[serde(serialize_with = "services")]
    services: &'a [ServiceView],
    vantages: &'a [VantageView],
    dns: &'a [DnsView],
    #[serde(skip_serializing_if = "Option::is_none")]
    health_checks: &'a Option<HealthChecksView>,
    #[serde(skip_serializing_if = "is_without")]
    datasets: &'a [DatasetView],
    freeze: &'a Option<Freeze>,
    holds: &'a [Hold],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    held: &'a [HeldView],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    dns_of_another_store: &'a [DnsCommandView],
    failbacks: &'a [FailbackView],
    blocks: &'a [Block],
    runs: &'a [RunSummary],
}

#[derive(Serialize)]
struct ShortService<'a> {
    name: &'a ServiceId,
    dns_name: &'a str,
    generation: Generation,
    load: Load,
    automatic: bool,
    run: &'a Option<RunId>,
    #[serde(serialize_with = "endpoints")]
    endpoints: &'a [EndpointView],
}

#[derive(Serialize)]
struct ShortEndpoint<'a> {
    region: &'a RegionId,
    address: &'a str,
    verdict: VerdictState,
    since: Option<Timestamp>,
    weight: Weight,
    configured_weight: Weight,
    #[serde(skip_serializing_if = "Option::is_none")]
    share: Option<Percent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    share_reason: Option<&'a ShareReason>,
    usable: RequestsPerSecond,
    load: Option<RequestsPerSecond>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    certificate_expiring: bool,
}

// A field that is added to a view must be named here before this compiles again.

impl Serialize for Short<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let StatusView {
            schema,
            at,
            coordinator,
            attention,
            regions,
            services,
            vantages,
            dns,
            health_checks,
            datasets,
            freeze,
            holds,
            held,
            dns_of_another_store,
            failbacks,
            blocks,
            runs,
        } = self.0;
        let short = ShortStatus {
            schema: *schema,
            at: *at,
            coordinator,
            attention,
            regions,
            services,
            vantages,
            dns,
            health_checks,
            datasets,
            freeze,
            holds,
            held,
            dns_of_another_store,
            failbacks,
            blocks,
            runs,
        };
        short.serialize(serializer)
    }
}

/// Of datasets.
fn is_without(datasets: &&[DatasetView]) -> bool {
    datasets.is_empty()
}

fn services<S: Serializer>(services: &&[ServiceView], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(services.iter().map(|service| {
        let ServiceView { name, dns_name, generation, load, automatic, run, endpoints } = service;
        ShortService {
            name,
            dns_name,
            generation: *generation,
            load: *load,
            automatic: *automatic,
            run,
            endpoints,
        }
    }))
}

fn endpoints<S: Serializer>(endpoints: &&[EndpointView], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(endpoints.iter().map(|endpoint| {
        let EndpointView {
            region,
            address,
            verdict,
            since,
            weight,
            configured_weight,
            share,
            share_reason,
            usable,
            load,
            certificate_expires_at,
            certificate_expiring,
        } = endpoint;
        ShortEndpoint {
            region,
            address,
            verdict: *verdict,
            since: *since,
            weight: *weight,
            configured_weight: *configured_weight,
            share: (*share != full_share()).then_some(*share),
            share_reason: (*share_reason != configured_share()).then_some(share_reason),
            usable: *usable,
            load: *load,
            certificate_expires_at: *certificate_expires_at,
            certificate_expiring: *certificate_expiring,
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;
    use serde_json::{Value, json};

    fn status() -> StatusView {
        let at = Timestamp::from_millis(1_700_000_000_000);
        let endpoint = |region: &str| {
            json!({
                "region": region, "address": "10.0.0.1:80", "verdict": "healthy", "since": at, "weight": 50,
                "configured_weight": 50, "usable": "900rps", "load": "40rps",
            })
        };
        serde_json::from_value(json!({
            "schema": 1, "at": at,
            "coordinator": {
                "version": "0.1.0", "epoch": {"incarnation": 1, "counter": 2}, "started_at": at, "config_version": "0f",
                "config_refused": [], "store_bytes": 1, "store_alarm": false, "pages_undelivered": 0,
                "pages_oldest": null,
            },
            "attention": [], "regions": [], "vantages": [], "dns": [], "freeze": null, "holds": [], "blocks": [],
            "runs": [],
            "services": [{
                "name": "pay", "dns_name": "pay.example.test", "generation": 3, "automatic": true, "run": null,
                "load": {"source": "declared", "rate": "900rps"}, "endpoints": [endpoint("eu-west"), endpoint("us-east")],
            }],
        }))
        .unwrap()
    }

    /// The endpoints of the only service in a status that is written in short, which is read again on the way.
    fn written(status: &StatusView) -> Vec<Value> {
        let text = serde_json::to_string(&Short(status)).unwrap();
        assert_eq!(&serde_json::from_str::<StatusView>(&text).unwrap(), status, "{text}");
        let value: Value = serde_json::from_str(&text).unwrap();
        value["services"][0]["endpoints"].as_array().unwrap().clone()
    }

    #[test]
    fn what_is_as_usual_is_left_out_and_nothing_is_lost() {
        let mut status = status();
        let usual = json!({
            "region": "us-east", "address": "10.0.0.1:80", "verdict": "healthy", "since": status.at, "weight": 50,
            "configured_weight": 50, "usable": "900rps", "load": "40rps",
        });
        assert_eq!(written(&status)[1], usual);
        let run = || RunId::numbered(7);
        let unusual: [fn(&mut EndpointView, RunId, Timestamp); 6] = [
            |e, _, _| e.share = Percent::ZERO,
            |e, run, _| e.share_reason = ShareReason::Drained { run },
            |e, run, _| e.share_reason = ShareReason::FailedOver { run, by_hand: true },
            |e, _, at| e.certificate_expires_at = Some(at + Span::from_hours(9)),
            |e, _, _| e.certificate_expiring = true,
            |e, _, _| (e.since, e.load, e.verdict) = (None, None, VerdictState::Unknown),
        ];
        for change in unusual {
            let before = status.clone();
            let at = status.at;
            change(&mut status.services[0].endpoints[0], run(), at);
            assert_ne!(status, before);
            assert_eq!(written(&status)[1], usual, "the other one is still as usual");
        }
    }
}
