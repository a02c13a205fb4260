//! The shipped world: it loads without a warning, its defaults are the documented ones, and it survives its other forms.

use super::{BASE, load_text, sample_world};
use crate::config::decode::{SourceFile, load};
use crate::config::diff::diff;
use crate::config::encode::to_yaml;
use crate::config::{Config, RegionRole, defaults, scale};
use crate::ids::{RegionId, ServiceId};
use crate::time::Span;

fn world() -> Config {
    load(&sample_world()).unwrap().config
}

#[test]
fn the_shipped_world_loads_without_a_warning() {
    let loaded = load(&sample_world()).unwrap();
    assert_eq!(loaded.warnings, Vec::new());
    let config = loaded.config;
    assert_eq!(config.regions.len(), 4);
    assert_eq!(config.regions.values().filter(|r| r.role == RegionRole::Witness).count(), 1);
    assert_eq!(config.services.len(), 2);
    assert_eq!(config.outside_vantages(&RegionId::new("eu-west").unwrap()).len(), 3);
}

#[test]
fn the_shipped_world_can_lose_any_one_region() {
    for service in world().services.values() {
        let peak = service.peak_load.unwrap().0;
        for lost in service.endpoints.keys() {
            let rest =
                service.endpoints.values().filter(|e| e.region != *lost).map(|e| e.capacity.0).sum::<u64>();
            let usable = rest * u64::from(10_000 - service.failover.headroom.basis_points()) / 10_000;
            assert!(usable >= peak, "{} without {lost}: {usable} of {peak}", service.name);
        }
    }
}

#[test]
fn what_the_shipped_world_spells_out_are_the_defaults() {
    let config = world();
    let service = |n: &str| config.services[&ServiceId::new(n).unwrap()].clone();
    let (checkout, catalog) = (service("checkout"), service("catalog"));
    assert_eq!(checkout.failover, catalog.failover);
    assert_eq!(checkout.check, catalog.check);
    assert_eq!(checkout.metrics, catalog.metrics);
    assert_eq!(checkout.validation, catalog.validation);
    assert_eq!((checkout.rto, checkout.rpo), (defaults::RTO, defaults::RPO));
    let settings = load_text(BASE).unwrap().config.settings;
    assert_eq!(settings.retention, config.settings.retention);
    assert_eq!(settings.vantage.silent_after, config.settings.vantage.silent_after);
}

#[test]
fn what_is_shown_can_be_loaded_again() {
    for config in [world(), load_text(BASE).unwrap().config] {
        let text = to_yaml(&config);
        assert_eq!(load_text(&text).unwrap_or_else(|e| panic!("{e:?}\n{text}")).config, config);
    }
}

#[test]
fn a_scaled_world_is_valid_and_differs_in_nothing_but_time() {
    let config = world();
    let fast = scale(&config, 30);
    let checkout = &fast.services[&ServiceId::new("checkout").unwrap()];
    assert_eq!(checkout.interval, Span::from_secs(1));
    assert_eq!(checkout.timeout, Span::from_millis(167));
    assert_eq!(checkout.ttl, Span::from_secs(1));
    assert_eq!(checkout.failover.failure_window, Span::from_secs(10));
    assert_eq!(checkout.failover.block_period, Span::from_mins(2));
    assert_eq!(checkout.failover.failure_threshold, 3);
    for change in diff(&config, &fast) {
        let time = |v: Option<&String>| v.is_some_and(|v| v.parse::<Span>().is_ok());
        assert!(time(change.old.as_ref()) && time(change.new.as_ref()), "{change}");
    }
    assert_eq!(scale(&config, 1), config);
    assert_eq!(scale(&config, 0), config);
    for factor in [7, 30, 60, 1_000, u64::MAX] {
        let fast = scale(&config, factor);
        assert_eq!(load_text(&to_yaml(&fast)).unwrap().config, fast, "factor {factor}");
    }
}

#[test]
fn a_difference_is_told_by_path() {
    let old = world();
    let edit = |from: &str, to: &str| {
        let mut files = sample_world();
        files.iter_mut().for_each(|f| f.text = f.text.replacen(from, to, 1));
        let changes = diff(&old, &load(&files).unwrap().config);
        changes.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        edit("failure_threshold: 3", "failure_threshold: 4"),
        ["~ service/checkout/failover/failure_threshold: 3 -> 4"]
    );
    assert_eq!(
        edit("port: 8082, capacity: 250rps", "port: 8082, weight: 40, capacity: 250rps"),
        ["+ service/catalog/endpoints/eu-west/weight: 40"]
    );
    assert_eq!(
        edit("name: witness-1", "name: witness-2"),
        [
            "- region/witness/agents/witness-1: {name: witness-1, source_address: 127.0.14.1}",
            "+ region/witness/agents/witness-2: {name: witness-2, source_address: 127.0.14.1}",
        ]
    );
    assert_eq!(
        edit("25%, 50%", "40%"),
        ["~ service/checkout/failover/ramp: [1%, 5%, 25%, 50%, 100%] -> [1%, 5%, 40%, 100%]"]
    );
    let mut fewer = old.clone();
    fewer.services.remove(&ServiceId::new("catalog").unwrap());
    let gone = diff(&old, &fewer);
    assert_eq!((gone.len(), gone[0].path.as_str()), (1, "service/catalog"));
    assert_eq!(diff(&old, &old), Vec::new());
}

#[test]
fn files_may_come_in_any_order_and_all_in_one() {
    let mut files = sample_world();
    files.reverse();
    assert_eq!(load(&files).unwrap().config, world());
    let one: Vec<String> = sample_world().into_iter().map(|f| f.text).collect();
    assert_eq!(load(&[SourceFile::new("all.yaml", one.join("---\n"))]).unwrap().config, world());
}
