//! Directories whose documents contradict each other, and policies that contradict themselves.

use super::{assert_errors, base_with, load_text};
use crate::ids::ServiceId;
use crate::units::Percent;

/// What is written instead of what, and the finding.
const NAMES_AND_REFERENCES: &[(&str, &str, &str)] = &[
    (
        "name: watch\n",
        "name: us\n",
        "c.yaml:12:7: region `us` is defined twice, first at c.yaml:7 (rename one of them)",
    ),
    (
        "{name: us-1}",
        "{name: eu-1}",
        "c.yaml:9:17: agent `eu-1` is defined twice, first at c.yaml:4 (rename one of them)",
    ),
    (
        "{name: us-1}",
        "{name: us-1, source_address: 127.0.11.1}",
        "c.yaml:9:39: source address 127.0.11.1 is also that of an agent in another region, at c.yaml:4 (give each region its own)",
    ),
    (
        "region: us, address",
        "region: uss, address",
        "c.yaml:22:14: region `uss` is not configured (did you mean `us`?)",
    ),
    (
        "region: us, address",
        "region: mars, address",
        "c.yaml:22:14: region `mars` is not configured (known: `eu`, `us`)",
    ),
    (
        "region: us, address",
        "region: watch, address",
        "c.yaml:22:14: region `watch` is a witness and serves nothing (set `role: serving` in `watch`, or use another)",
    ),
    (
        "region: us, address",
        "region: eu, address",
        "c.yaml:22:14: a second endpoint in region `eu`, the first is at c.yaml:21 (one for each region)",
    ),
    (
        "address: 127.0.12.1",
        "address: 127.0.11.1",
        "c.yaml:22:27: address `127.0.11.1` is that of another region's endpoint, at c.yaml:21 (DNS could not move traffic between them)",
    ),
    (
        "address: 127.0.12.1",
        "address: '::1'",
        "c.yaml:22:27: an A record needs an IPv4 address, and `::1` is IPv6 (use type AAAA)",
    ),
    (
        "address: 127.0.12.1",
        "address: www.example.com",
        "c.yaml:22:27: `address` must be an IP address for a record of type A, not `www.example.com` (use type CNAME for a host name)",
    ),
    (
        "address: 127.0.12.1",
        "address: 0.0.0.0",
        "c.yaml:22:27: `0.0.0.0` is not the address of one machine (give the address that clients connect to)",
    ),
    (
        "address: 127.0.12.1, port: 8081",
        "address: 127.0.12.1, port: 0",
        "c.yaml:22:45: `port` must be between 1 and 65535, not 0",
    ),
    (
        "{name: checkout.drover.test}",
        "{name: checkout.example.com}",
        "c.yaml:19:13: dns name `checkout.example.com` lies outside of the zone `drover.test` (such as `checkout.drover.test`)",
    ),
    (
        "{name: checkout.drover.test}",
        "{name: checkout.drover.test.}",
        "c.yaml:19:13: `name`: `checkout.drover.test.` ends with a dot (leave the final dot out: checkout.drover.test)",
    ),
    (
        "{name: checkout.drover.test}",
        "{name: Checkout.drover.test}",
        "c.yaml:19:13: `name`: `Checkout.drover.test` has capital letters (write checkout.drover.test)",
    ),
    (
        "{name: checkout.drover.test}",
        "{name: checkout.drover.test, ttl: 500ms}",
        "c.yaml:19:40: `ttl` must be between 1s and 1d, not 500ms",
    ),
    (
        "{name: checkout.drover.test}",
        "{name: checkout.drover.test, ttl: 2d}",
        "c.yaml:19:40: `ttl` must be between 1s and 1d, not 2d",
    ),
    (
        "metrics: {}\n",
        "metrics: {}\n---\nkind: Settings\n",
        "c.yaml:29:1: a second `kind: Settings`, the first is at c.yaml:27 (merge them)",
    ),
    (
        "automatic: true",
        "jurisdictions: [UE]",
        "c.yaml:24:28: no region lies in jurisdiction `UE` (did you mean `EU`?)",
    ),
    (
        "automatic: true",
        "jurisdictions: [CH]",
        "c.yaml:24:27: the service has no endpoint in CH: traffic could go nowhere",
    ),
];

#[test]
fn names_and_references() {
    assert_errors(NAMES_AND_REFERENCES);
}

#[test]
fn policies_that_can_not_work() {
    assert_errors(&[
        (
            "automatic: true",
            "quorum: 1",
            "c.yaml:24:20: `quorum` of 1 for `eu`, which has 3 outside vantages, would let a minority move traffic (at least 2: max(2, n/2+1); or leave it out)",
        ),
        (
            "automatic: true",
            "quorum: 4",
            "c.yaml:24:20: `quorum` of 4 for `eu`, which has 3 outside vantages, can never be reached (leave it out)",
        ),
        (
            "automatic: true",
            "failure_window: 89s",
            "c.yaml:24:28: `failure_window` of 1m29s can't hold 3 failures at an interval of 30s: no vantage could ever call it failing (at least 1m30s)",
        ),
        (
            "automatic: true",
            "max_unavailable_regions: 2",
            "c.yaml:24:37: `max_unavailable_regions` of 2 would let the last of 2 endpoint regions be taken out (at most 1)",
        ),
        (
            "automatic: true",
            "ramp: [5%, 5%, 100%]",
            "c.yaml:24:23: `ramp` must rise, and 5% follows 5% (more than 5%, or take it out)",
        ),
        (
            "automatic: true",
            "ramp: [1%, 50%]",
            "c.yaml:24:23: `ramp` must end at 100%, and ends at 50%: the region would never carry its whole share (add 100%)",
        ),
        ("automatic: true", "ramp: []", "c.yaml:24:18: `ramp` has 0 items; it must have 1 to 12"),
        (
            "address: 127.0.12.1",
            "weight: 101, address: 127.0.12.1",
            "c.yaml:22:26: the weights given for priority 1 sum to 101, and 1 without one should share what is left of 100 (give all weights, or lower these)",
        ),
    ]);
    let zero = base_with(&[
        ("address: 127.0.11.1, port", "weight: 0, address: 127.0.11.1, port"),
        ("address: 127.0.12.1", "weight: 0, address: 127.0.12.1"),
    ]);
    assert_eq!(
        load_text(&zero).unwrap_err(),
        [
            "c.yaml:21:26: the weights of priority 1 are all zero: nobody would be sent anywhere (leave them out for equal shares)"
        ]
    );
    let cname = base_with(&[("{name: checkout.drover.test}", "{name: checkout.drover.test, type: CNAME}")]);
    let errors = load_text(&cname).unwrap_err();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(
        errors[0].contains("a CNAME record needs a host name, and `127.0.11.1` is an address"),
        "{errors:?}"
    );
}

#[test]
fn two_services_may_not_share_names() {
    let second = "metrics: {}\n---\nkind: Service\nname: checkout\ndns: {name: checkout.drover.test}\nmetrics: {}\nendpoints:\n  - {region: eu, address: 127.0.11.1, port: 1, capacity: 1rps}\n  - {region: us, address: 127.0.12.1, port: 1, capacity: 1rps}\n";
    let errors = load_text(&base_with(&[("metrics: {}\n", second)])).unwrap_err();
    assert_eq!(
        errors,
        [
            "c.yaml:28:7: service `checkout` is defined twice, first at c.yaml:18 (rename one of them)",
            "c.yaml:29:13: dns name `checkout.drover.test` is defined twice, first at c.yaml:19 (rename one of them)",
        ]
    );
}

#[test]
fn what_is_legal_but_unwise_is_a_warning() {
    let cases = [
        ("metrics: {}\n", "", "validation will be inconclusive"),
        ("metrics: {}\n", "\n", "capacity can't be judged"),
        ("automatic: true", "gray_min_samples: 11", "gray failures will not be seen"),
        ("vantage: {references: ['127.0.14.1:8090']}\n", "", "can't tell that it is blind"),
        ("  - {region: us, address: 127.0.12.1, port: 8081, capacity: 250rps}\n", "", "nowhere to move it"),
    ];
    for (from, to, wanted) in cases {
        let warnings: Vec<String> = match load_text(&base_with(&[(from, to)])) {
            Ok(loaded) => loaded.warnings.iter().map(ToString::to_string).collect(),
            Err(errors) => panic!("`{from}` -> `{to}`: {errors:?}"),
        };
        assert!(warnings.iter().any(|w| w.contains(wanted)), "`{from}` -> `{to}`: {warnings:?}");
    }
}

#[test]
fn few_vantages_ask_instead_of_acting() {
    let one = base_with(&[("agents: [{name: watch-1}, {name: watch-2}]", "agents: []")]);
    let loaded = load_text(&one).unwrap();
    assert_eq!(
        loaded.warnings[0].message,
        "`eu` has 1 outside vantage and automatic action needs 2: drover will ask instead of acting"
    );
    let manual = one.replace("automatic: true", "automatic: false");
    assert_eq!(load_text(&manual).unwrap().warnings, Vec::new());
}

#[test]
fn a_single_endpoint_may_never_be_taken_out_automatically() {
    let one = base_with(&[("  - {region: us, address: 127.0.12.1, port: 8081, capacity: 250rps}\n", "")]);
    let service = load_text(&one).unwrap().config.services[&ServiceId::new("checkout").unwrap()].clone();
    assert_eq!(service.failover.max_unavailable_regions, 0);
    assert_eq!(service.failover.ramp.last(), Some(&Percent::FULL));
}

#[test]
fn a_broken_document_does_not_make_its_readers_dangle() {
    let errors = load_text(&base_with(&[("latitude: 39.04", "latitude: south")])).unwrap_err();
    assert_eq!(errors.len(), 1, "only the latitude is wrong: {errors:?}");
    let errors = load_text(&base_with(&[("kind: Region\nname: us", "kind: Regon\nname: us")])).unwrap_err();
    assert_eq!(errors, ["c.yaml:6:7: unknown kind `Regon` (did you mean `Region`?)"]);
}

#[test]
fn traffic_is_measured_in_one_of_three_ways_each_with_its_unit() {
    use crate::config::{TrafficFrom, encode::to_yaml};
    let loaded = |traffic: &str| {
        let text = format!("{}\n", super::BASE.trim_end());
        let text = text.replacen("endpoints:", &format!("traffic: {traffic}\nendpoints:"), 1);
        load_text(&text)
    };
    for (traffic, threshold) in [
        ("{kind: connections, drained_below: 5}", "5 connections"),
        ("{kind: access_log, path: /var/log/a.log, drained_below: 2rps}", "2rps"),
        (
            "{kind: prometheus, url: 'http://p.example:9090', query: 'sum(x)', drained_below: 1rps, hold: 1m}",
            "1rps",
        ),
    ] {
        let config = loaded(traffic).unwrap().config;
        let read = config.services.values().next().unwrap().traffic.clone().unwrap();
        assert_eq!(read.threshold(), threshold);
        let again = load_text(&to_yaml(&config)).unwrap().config;
        assert_eq!(again.services.values().next().unwrap().traffic, Some(read.clone()));
        assert_eq!(matches!(read.from, TrafficFrom::Connections), threshold.contains("connections"));
    }
    for wrong in [
        "{kind: connections, drained_below: 1rps}",
        "{kind: access_log, drained_below: 1rps}",
        "{drained_below: 5}",
        "{kind: access_log, path: /a, drained_below: 0rps}",
    ] {
        assert!(loaded(wrong).is_err(), "{wrong}");
    }
}
