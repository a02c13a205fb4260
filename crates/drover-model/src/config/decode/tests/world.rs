//! The shipped world: it loads without a warning, its defaults are the documented ones, and it survives its other forms.

use super::{BASE, base_with, load_text, sample_world};
use crate::config::decode::{SourceFile, load};
use crate::config::diff::diff;
use crate::config::encode::to_yaml;
use crate::config::{
    Answering, Answers, Config, Draws, DriftPolicy, FixedType, RegionRole, Split, defaults, scale,
};
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

/// A zone of others' servers, and what stands instead of drover's own.
const RFC2136: (&str, &str) = (
    "  nameservers: [{name: ns1.drover.test, address: 127.0.0.1}]
  instances: [{name: dns-1, control: 127.0.0.1:7410, query: 127.0.0.1:7453}]
",
    "  kind: rfc2136
  primary: 192.0.2.1:53
  servers: [{name: ns1, query: 192.0.2.1:53}, {name: ns2, query: 192.0.2.2:53}]
  key: {name: drover, secret_file: /etc/drover/tsig.secret}
",
);

#[test]
fn a_zone_of_servers_that_know_no_weights_splits_equally() {
    let config = load_text(&base_with(&[RFC2136])).unwrap().config;
    let dns = config.settings.dns.as_ref().unwrap();
    assert_eq!(dns.answering().map(|(name, _)| name).collect::<Vec<_>>(), ["ns1", "ns2"]);
    assert!(config.services.values().all(|s| s.split == Split::Equally));
    assert!(world().services.values().all(|s| s.split == Split::ByWeight));
    read_as_written(&config);
    let told = format!("{}  weights: lua\n", RFC2136.1);
    let by_weight = load_text(&base_with(&[(RFC2136.0, &told)])).unwrap().config;
    assert!(by_weight.services.values().all(|s| s.split == Split::ByWeight));
    read_as_written(&by_weight);
    let unknown = told.replace("lua", "perl");
    let errors = load_text(&base_with(&[(RFC2136.0, &unknown)])).unwrap_err();
    assert!(errors.len() == 1 && errors[0].contains("`weights` must be"), "{errors:?}");
}

fn read_as_written(config: &Config) {
    let text = to_yaml(config);
    assert_eq!(load_text(&text).unwrap_or_else(|e| panic!("{e:?}\n{text}")).config, *config);
    let written = serde_json::to_string(config).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&written).unwrap(), *config);
}

#[test]
fn a_hosted_zone_splits_by_weight_and_is_written_as_it_is_read() {
    for more in [
        "",
        "  credentials_file: /etc/drover/aws\n  endpoint: http://127.0.0.1:5055\n  requests_per_second: 2\n",
    ] {
        let hosted = format!(
            "  kind: route53\n  hosted_zone: Z0123456789\n  servers: [{{name: ns-1, query: 192.0.2.1:53}}]\n{more}"
        );
        let config = load_text(&base_with(&[(RFC2136.0, &hosted)])).unwrap().config;
        assert!(config.services.values().all(|s| s.split == Split::ByWeight));
        read_as_written(&config);
    }
    let twice = "  kind: route53\n  hosted_zone: Z\n  servers: [{name: a, query: 192.0.2.1:53}, {name: a, query: 192.0.2.2:53}]\n";
    let errors = load_text(&base_with(&[(RFC2136.0, twice)])).unwrap_err();
    assert!(errors.len() == 1 && errors[0].contains("is used twice"), "{errors:?}");
}

#[test]
fn records_in_etcd_are_read_as_written_and_left_out_they_stay_in_a_file() {
    assert_eq!(world().settings.store, None);
    assert!(
        !serde_json::to_string(&world().settings).unwrap().contains("\"store\""),
        "as older versions read it"
    );
    let told = |store: &str| {
        load_text(&base_with(&[("kind: Settings", &format!("kind: Settings\nstore: {store}"))]))
    };
    let config = told("{etcd: {endpoints: [http://10.0.0.1:2379, http://10.0.1.1:2379]}}").unwrap().config;
    let etcd = config.settings.store.clone().unwrap().etcd;
    assert_eq!((etcd.endpoints.len(), etcd.prefix.as_str()), (2, "/drover"));
    assert_eq!(etcd.keep_history, Span::from_hours(24));
    assert_eq!(etcd.leader_lost_after, Span::from_secs(3));
    read_as_written(&config);
    for (wrong, about) in [
        ("{}", "etcd"),
        ("{etcd: {endpoints: []}}", "endpoints"),
        ("{etcd: {endpoints: [http://a:1], keep_history: 1s}}", "keep_history"),
        ("{etcd: {endpoints: [http://a:1], leader_lost_after: 100ms}}", "leader_lost_after"),
    ] {
        let errors = told(wrong).unwrap_err();
        assert!(errors.len() == 1 && errors[0].contains(about), "{wrong}: {errors:?}");
    }
}

#[test]
fn the_velocity_of_a_zone_is_read_wherever_it_is_and_has_its_defaults() {
    let own = world().settings.dns.unwrap().velocity;
    assert_eq!((own.most(0), own.most(33), own.most(1_000)), (10, 10, 300));
    assert!(!serde_json::to_string(&world()).unwrap().contains("velocity"), "as older versions read it");
    let said = "  velocity: {share: 5%, at_least: 2, window: 1h}\n";
    for servers in [RFC2136.0, RFC2136.1] {
        let config = load_text(&base_with(&[(RFC2136.0, &format!("{servers}{said}"))])).unwrap().config;
        let velocity = config.settings.dns.as_ref().unwrap().velocity;
        assert_eq!((velocity.most(39), velocity.most(100)), (2, 5));
        assert_eq!(load_text(&to_yaml(&config)).unwrap().config, config);
        let written = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&written).unwrap(), config);
    }
    let wrong = format!("{}  velocity: {{share: 0%, window: 0s, atleast: 3}}\n", RFC2136.0);
    let errors = load_text(&base_with(&[(RFC2136.0, &wrong)])).unwrap_err();
    assert_eq!(errors.len(), 3, "{errors:?}");
}

#[test]
fn a_drift_is_reported_unless_it_says_otherwise() {
    let policy = |said: &str| {
        let config = load_text(&base_with(&[(RFC2136.0, &format!("{}{said}", RFC2136.1))])).unwrap().config;
        assert_eq!(load_text(&to_yaml(&config)).unwrap().config, config);
        let written = serde_json::to_string(&config).unwrap();
        assert_eq!(written.contains("drift"), !said.is_empty(), "as older versions read it");
        assert_eq!(serde_json::from_str::<Config>(&written).unwrap(), config);
        let dns = config.settings.dns.unwrap();
        (dns.drift, dns.drift_hold)
    };
    assert_eq!(policy(""), (DriftPolicy::Report, Span::from_mins(15)));
    assert_eq!(policy("  drift: repair\n  drift_hold: 1h\n"), (DriftPolicy::Repair, Span::from_hours(1)));
    let wrong = format!("{}  drift: mend\n", RFC2136.0);
    let errors = load_text(&base_with(&[(RFC2136.0, &wrong)])).unwrap_err();
    assert!(errors.len() == 1 && errors[0].contains("mend"), "{errors:?}");
}

#[test]
fn weights_that_no_server_knows_are_warned_of() {
    let warned = |weights: [u8; 2]| {
        let endpoint = |region: &str, address: &str, weight: u8| {
            let at = format!("region: {region}, address: {address}, port: 8081");
            (
                format!("  - {{{at}, capacity: 250rps}}\n"),
                format!("  - {{{at}, capacity: 250rps, weight: {weight}}}\n"),
            )
        };
        let (eu, us) = (endpoint("eu", "127.0.11.1", weights[0]), endpoint("us", "127.0.12.1", weights[1]));
        let changes = [RFC2136, (eu.0.as_str(), eu.1.as_str()), (us.0.as_str(), us.1.as_str())];
        load_text(&base_with(&changes)).unwrap().warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let told = warned([70, 30]);
    assert!(told.len() == 1 && told[0].contains("in equal shares"), "{told:?}");
    assert_eq!((warned([50, 50]), warned([100, 0])), (vec![], vec![]));
}

#[test]
fn such_a_zone_has_one_alias_a_name() {
    let aliases = |more: &str| {
        let endpoints = (
            "  - {region: eu, address: 127.0.11.1, port: 8081, capacity: 250rps}
  - {region: us, address: 127.0.12.1, port: 8081, capacity: 250rps}
",
            format!(
                "  - {{region: eu, address: eu.test, port: 1, capacity: 9rps}}\n  - {{region: us, address: us.test, port: 1, capacity: 9rps{more}}}\n"
            ),
        );
        let name = ("dns: {name: checkout.drover.test}", "dns: {name: checkout.drover.test, type: CNAME}");
        load_text(&base_with(&[RFC2136, (endpoints.0, &endpoints.1), name]))
    };
    let errors = aliases("").unwrap_err();
    assert!(errors.len() == 1 && errors[0].contains("one alias (CNAME) at most"), "{errors:?}");
    aliases(", priority: 2").unwrap();
}

#[test]
fn a_server_that_is_named_twice_and_a_kind_that_is_none_are_told() {
    let twice = RFC2136.1.replace("name: ns2, query: 192.0.2.2:53", "name: ns1, query: 192.0.2.1:53");
    let errors = load_text(&base_with(&[(RFC2136.0, &twice)])).unwrap_err();
    assert!(errors.len() == 2 && errors.iter().all(|e| e.contains("is used twice")), "{errors:?}");
    let unknown = RFC2136.1.replace("kind: rfc2136", "kind: route54");
    let errors = load_text(&base_with(&[(RFC2136.0, &unknown)])).unwrap_err();
    assert!(errors[0].contains("unknown kind `route54` of `dns`"), "{errors:?}");
    let weak = RFC2136.1.replace("name: drover,", "name: drover, algorithm: hmac-md5,");
    let errors = load_text(&base_with(&[(RFC2136.0, &weak)])).unwrap_err();
    assert!(errors[0].contains("`algorithm` must be one of hmac-sha256"), "{errors:?}");
}

#[test]
fn alias_targets_are_route_53s_and_are_written_as_they_are_read() {
    let hosted =
        "  kind: route53\n  hosted_zone: Z0123456789\n  servers: [{name: ns-1, query: 192.0.2.1:53}]\n";
    let endpoint = "  - {region: eu, address: 127.0.11.1, port: 8081, capacity: 250rps}\n";
    let name = ("dns: {name: checkout.drover.test}", "dns: {name: checkout.drover.test, ttl: 60s}");
    let with = |address: &str, alias: &str| {
        format!("  - {{region: eu, address: {address}, alias: {{{alias}}}, port: 8081, capacity: 250rps}}\n")
    };
    let right = with("lb-1.eu-west-1.elb.amazonaws.com", "hosted_zone: Z32O12XQLNTSW2");
    let config = load_text(&base_with(&[(RFC2136.0, hosted), (endpoint, &right), name])).unwrap().config;
    let aliases =
        config.services.values().flat_map(|s| s.endpoints.values()).filter_map(|e| e.alias.as_ref());
    let found: Vec<_> = aliases.map(|a| (a.hosted_zone.as_str(), a.evaluate_target_health)).collect();
    assert_eq!(found, [("Z32O12XQLNTSW2", false)]);
    read_as_written(&config);
    let cname =
        ("dns: {name: checkout.drover.test}", "dns: {name: checkout.drover.test, ttl: 60s, type: CNAME}");
    let bad_zone = with("lb.test", "hosted_zone: 'Z 1'");
    let address = with("192.0.2.1", "hosted_zone: Z1");
    for (edits, why) in [
        (vec![(endpoint, right.as_str()), name], "the zone is none of its"),
        (vec![(RFC2136.0, hosted), (endpoint, right.as_str())], "a drain would not be waited for"),
        (vec![(RFC2136.0, hosted), (endpoint, bad_zone.as_str()), name], "letters and digits"),
        (
            vec![(RFC2136.0, hosted), (endpoint, address.as_str()), name],
            "is a host name, and `192.0.2.1` is an address",
        ),
        (vec![(RFC2136.0, hosted), (endpoint, right.as_str()), cname], "this record is a CNAME"),
    ] {
        let errors = load_text(&base_with(&edits)).unwrap_err();
        assert!(errors.iter().any(|e| e.contains(why)), "{why}: {errors:?}");
    }
}

#[test]
fn how_a_service_is_answered_is_read_and_makes_shares_equal_where_clients_choose() {
    let name = "dns: {name: checkout.drover.test}";
    let with = |more: &str, edits: &[(&str, &str)]| {
        let dns = format!("dns: {{name: checkout.drover.test, {more}}}");
        let mut all = edits.to_vec();
        all.push((name, dns.as_str()));
        load_text(&base_with(&all))
    };
    for (more, answers, draws, split) in [
        ("answers: one", Answers::One, Draws::Anew, Split::ByWeight),
        ("answers: 1", Answers::One, Draws::Anew, Split::ByWeight),
        ("answers: all", Answers::All, Draws::Anew, Split::Equally),
        ("answers: 2, draws: stable", Answers::Several(2), Draws::Stable, Split::Equally),
        ("draws: stable", Answers::One, Draws::Stable, Split::ByWeight),
    ] {
        let config = with(more, &[]).unwrap().config;
        let service = config.services.values().next().unwrap();
        assert_eq!((service.answering, service.split), (Answering { answers, draws }, split), "{more}");
        read_as_written(&config);
    }
    assert!(!serde_json::to_string(&world()).unwrap().contains("answering"), "as older versions read it");
    let lua = format!("{}  weights: lua\n", RFC2136.1);
    let (hosted, endpoints) = (
        "  kind: route53\n  hosted_zone: Z0123456789\n  servers: [{name: ns-1, query: 192.0.2.1:53}]\n",
        ("address: 127.0.12.1", "address: us.test"),
    );
    for (more, edits, why) in [
        ("answers: most", vec![], "`answers` must be one of one, all, not `most`"),
        ("answers: 0", vec![], "`answers` must be between 1 and 100, not 0"),
        ("draws: sticky", vec![], "`draws` must be one of anew, stable"),
        ("answers: all, type: CNAME", vec![endpoints], "a name has one alias at most"),
        ("answers: all", vec![RFC2136], "answer all that has weight anyway"),
        ("draws: stable", vec![(RFC2136.0, lua.as_str())], "the programs of `weights: lua` answer one value"),
        ("answers: 3", vec![(RFC2136.0, hosted)], "Route 53 answers one of its weighted records"),
    ] {
        let errors = with(more, &edits).unwrap_err();
        assert!(errors.iter().any(|e| e.contains(why)), "{more}: {why}: {errors:?}");
    }
}

#[test]
fn records_that_no_traffic_moves_are_read_and_the_wrong_ones_told() {
    let with = |records: &str| {
        load_text(&base_with(&[(RFC2136.0, &format!("{}  records: {records}\n", RFC2136.0))]))
    };
    let right = "[{id: caa, name: drover.test, type: CAA, values: ['0 issue \"ca.example\"', 0 issuewild ;]}, \
                 {id: dmarc, name: _dmarc.drover.test, type: TXT, ttl: 5m, values: [v=DMARC1; p=none]}, \
                 {id: mx, name: drover.test, type: MX, values: [10 mail.drover.test]}]";
    let config = with(right).unwrap_or_else(|e| panic!("{e:?}")).config;
    let records = &config.settings.dns.as_ref().unwrap().records;
    let told: Vec<_> =
        records.iter().map(|r| (r.id.as_str(), r.record_type, r.ttl, r.values.len())).collect();
    let (hour, minutes) = (Span::from_hours(1), Span::from_mins(5));
    let caa = ("caa", FixedType::Caa, hour, 2);
    assert_eq!(told, [caa, ("dmarc", FixedType::Txt, minutes, 1), ("mx", FixedType::Mx, hour, 1)]);
    read_as_written(&config);
    for (records, why) in [
        ("[{id: a, name: example.com, type: TXT, values: [x]}]", "lies outside of the zone"),
        ("[{id: a, name: ns1.drover.test, type: TXT, values: [x]}]", "belongs to a name server"),
        ("[{id: checkout, name: drover.test, type: TXT, values: [x]}]", "is a service already"),
        ("[{id: a, name: drover.test, type: CAA, values: [issue]}]", "is no value of a record of type CAA"),
        ("[{id: a, name: drover.test, type: MX, values: [10 mail_1.drover.test]}]", "is not a host name"),
        ("[{id: a, name: drover.test, type: MX, values: [10 .mail.test]}]", "is not a host name"),
        (
            "[{id: a, name: drover.test, type: CAA, values: ['0 issue \"ca.example\"', 0 issue ca.example]}]",
            "stands there twice",
        ),
        (
            "[{id: a, name: drover.test, type: MX, values: [10 mail.drover.test, 10 Mail.Drover.Test.]}]",
            "stands there twice",
        ),
        ("[{id: a, name: drover.test, type: SRV, values: [x]}]", "`type` must be one of CAA, MX, TXT"),
        ("[{id: a, name: -a.drover.test, type: TXT, values: [x]}]", "is not a host name"),
        (
            "[{id: a, name: drover.test, type: TXT, values: [x]}, {id: a, name: b.drover.test, type: TXT, values: [x]}]",
            "is used twice",
        ),
        (
            "[{id: a, name: drover.test, type: TXT, values: [x]}, {id: b, name: drover.test, type: TXT, values: [x]}]",
            "is used twice",
        ),
    ] {
        let errors = with(records).unwrap_err();
        assert!(errors.iter().any(|e| e.contains(why)), "{why}: {errors:?}");
    }
    let elsewhere =
        format!("{}  records: [{{id: a, name: drover.test, type: TXT, values: [x]}}]\n", RFC2136.1);
    let errors = load_text(&base_with(&[(RFC2136.0, &elsewhere)])).unwrap_err();
    assert!(errors.len() == 1 && errors[0].contains("your zone can have them without drover"), "{errors:?}");
    let alias = ("dns: {name: checkout.drover.test}", "dns: {name: checkout.drover.test, type: CNAME}");
    let text =
        format!("{}  records: [{{id: a, name: checkout.drover.test, type: TXT, values: [x]}}]\n", RFC2136.0);
    let errors = load_text(&base_with(&[(RFC2136.0, &text), alias])).unwrap_err();
    assert!(errors.iter().any(|e| e.contains("beside which no other record")), "{errors:?}");
}

#[test]
fn where_clients_are_is_read_and_the_wrong_is_told() {
    let nearest = ("dns: {name: checkout.drover.test}", "dns: {name: checkout.drover.test, draws: nearest}");
    let with = |geography: &str| {
        let told = format!("{}  geography: {geography}\n", RFC2136.0);
        load_text(&base_with(&[(RFC2136.0, &told), nearest]))
    };
    let right = "{outside: refuse, networks: [{cidr: 203.0.113.0/24, prefer: [eu, us], jurisdiction: EU}, {cidr: '2001:db8::/32', prefer: [us]}]}";
    let config = with(right).unwrap_or_else(|e| panic!("{e:?}")).config;
    let geography = config.settings.dns.as_ref().unwrap().geography.as_ref().unwrap();
    let told: Vec<_> = geography
        .networks
        .iter()
        .map(|n| (n.cidr.to_string(), n.prefer.len(), n.jurisdiction.as_deref()))
        .collect();
    assert_eq!(told, [("203.0.113.0/24".into(), 2, Some("EU")), ("2001:db8::/32".into(), 1, None)]);
    assert_eq!(geography.outside.as_str(), "refuse");
    read_as_written(&config);
    for (geography, why) in [
        ("{networks: []}", "must have 1 to 2000"),
        ("{networks: [{cidr: 203.0.113.0/25}]}", "none that can be looked for"),
        ("{networks: [{cidr: 203.0.113.0/24}, {cidr: 203.0.113.0/24}]}", "is used twice"),
        ("{networks: [{cidr: 203.0.113.0/24, prefer: [nowhere]}]}", "region `nowhere` is not configured"),
        ("{networks: [{cidr: 203.0.113.0/24, jurisdiction: UE}]}", "no region lies in jurisdiction `UE`"),
    ] {
        let errors = with(geography).unwrap_err();
        assert!(errors.iter().any(|e| e.contains(why)), "{why}: {errors:?}");
    }
    let errors = load_text(&base_with(&[nearest])).unwrap_err();
    assert!(errors.iter().any(|e| e.contains("no `geography` says what is near")), "{errors:?}");
    let elsewhere = format!("{}  geography: {{networks: [{{cidr: 203.0.113.0/24}}]}}\n", RFC2136.1);
    let errors = load_text(&base_with(&[(RFC2136.0, &elsewhere)])).unwrap_err();
    assert!(errors.len() == 1 && errors[0].contains("others don't look at it"), "{errors:?}");
}
