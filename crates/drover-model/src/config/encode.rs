//! From a [`Config`] back to the written form: what `config show` prints, and what can be loaded again.

use super::{
    Answers, AppCheck, ClientNetwork, Config, Dataset, DnsServers, DnsSettings, DnsVelocity, EmbeddedDns,
    Endpoint, FailoverPolicy, FixedRecord, Geography, HealthCheck, HealthChecks, HttpCheck, MetricsSource,
    Region, RegionRole, Rfc2136Dns, Route53Dns, Service, Settings, StatusServer, TrafficFrom, TrafficSource,
    ZoneServer,
};
use crate::units::RequestsPerSecond;
use saphyr::{Mapping, Scalar, Yaml, YamlEmitter};
use std::borrow::Cow;
use std::fmt::Display;

/// A value in the written form. Items of a list have names where the file gives them one, so that a difference can be
/// told by name and not by position.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Written {
    Text(String),
    Integer(u64),
    Number(f64),
    Boolean(bool),
    List(Vec<Written>),
    Items(Vec<(String, Written)>),
    Map(Vec<(&'static str, Written)>),
}

/// The whole configuration as YAML documents: regions, services, datasets, settings. Loading them gives an equal configuration.
#[must_use]
pub fn to_yaml(config: &Config) -> String {
    let mut text = String::new();
    let regions = config.regions.values().map(region);
    let services = config.services.values().map(service);
    let datasets = config.datasets.values().map(dataset);
    for document in regions.chain(services).chain(datasets).chain([settings(&config.settings)]) {
        // The emitter fails only when the string does, which it does not.
        let _ = YamlEmitter::new(&mut text).dump(&yaml(&document));
        text.push('\n');
    }
    text
}

fn yaml(written: &Written) -> Yaml<'_> {
    let word = |text| Yaml::Value(Scalar::String(Cow::Borrowed(text)));
    match written {
        Written::Text(text) => word(text.as_str()),
        Written::Integer(n) => Yaml::Value(Scalar::Integer(i64::try_from(*n).unwrap_or(i64::MAX))),
        Written::Number(n) => Yaml::Value(Scalar::FloatingPoint((*n).into())),
        Written::Boolean(b) => Yaml::Value(Scalar::Boolean(*b)),
        Written::List(items) => Yaml::Sequence(items.iter().map(yaml).collect()),
        Written::Items(items) => Yaml::Sequence(items.iter().map(|(_, w)| yaml(w)).collect()),
        Written::Map(entries) => {
            Yaml::Mapping(entries.iter().map(|(k, w)| (word(*k), yaml(w))).collect::<Mapping<'_>>())
        }
    }
}

fn text(value: impl Display) -> Written {
    Written::Text(value.to_string())
}

fn list<T: Display>(values: impl IntoIterator<Item = T>) -> Written {
    Written::List(values.into_iter().map(text).collect())
}

/// Adds the optional fields that are there.
fn with(mut entries: Vec<(&'static str, Written)>, more: Vec<(&'static str, Option<Written>)>) -> Written {
    entries.extend(more.into_iter().filter_map(|(k, v)| Some((k, v?))));
    Written::Map(entries)
}

pub(super) fn region(region: &Region) -> Written {
    let agents = region.agents.iter().map(|a| {
        let source = a.source_address.map(text);
        (a.name.to_string(), with(vec![("name", text(&a.name))], vec![("source_address", source)]))
    });
    let location = &region.location;
    Written::Map(vec![
        ("kind", text("Region")),
        ("name", text(&region.name)),
        ("role", text(if region.role == RegionRole::Witness { "witness" } else { "serving" })),
        (
            "location",
            Written::Map(vec![
                ("city", text(&location.city)),
                ("latitude", Written::Number(location.latitude)),
                ("longitude", Written::Number(location.longitude)),
                ("jurisdiction", text(&location.jurisdiction)),
            ]),
        ),
        ("agents", Written::Items(agents.collect())),
    ])
}

pub(super) fn service(service: &Service) -> Written {
    let endpoints = service.endpoints.values().map(|e| (e.region.to_string(), endpoint(e)));
    let app_checks = service.app_checks.iter().map(|c| (c.name.clone(), app_check(c)));
    let v = &service.validation;
    let mut entries = vec![
        ("kind", text("Service")),
        ("name", text(&service.name)),
        ("priority", Written::Integer(service.priority.into())),
        (
            "dns",
            Written::Map(vec![
                ("name", text(&service.dns_name)),
                ("type", text(service.record_type)),
                ("ttl", text(service.ttl)),
                ("answers", answers(service.answering.answers)),
                ("draws", text(service.answering.draws.as_str())),
            ]),
        ),
        ("endpoints", Written::Items(endpoints.collect())),
        ("health_check", health_check(service)),
        ("failover", failover(&service.failover)),
    ];
    entries.extend(service.metrics.as_ref().map(|m| ("metrics", metrics(m))));
    entries.extend(service.traffic.as_ref().map(|t| ("traffic", traffic(t))));
    entries.extend(service.peak_load.map(|l| ("peak_load", text(l))));
    entries.extend([
        ("app_checks", Written::Items(app_checks.collect())),
        (
            "validation",
            Written::Map(vec![
                ("window", text(v.window)),
                ("min_samples", Written::Integer(v.min_samples)),
                ("max_error_rate", text(v.max_error_rate)),
                ("max_latency_p95", text(v.max_latency_p95)),
                ("min_availability", text(v.min_availability)),
            ]),
        ),
        ("objectives", Written::Map(vec![("rto", text(service.rto)), ("rpo", text(service.rpo))])),
    ]);
    Written::Map(entries)
}

pub(super) fn dataset(dataset: &Dataset) -> Written {
    let members = dataset.members.iter().map(|member| {
        let item = Written::Map(vec![("agent", text(&member.agent)), ("peer", text(member.peer))]);
        (member.agent.to_string(), item)
    });
    let right = &dataset.write_right;
    Written::Map(vec![
        ("kind", text("Dataset")),
        ("name", text(&dataset.name)),
        ("holder", text(&dataset.holder)),
        ("members", Written::Items(members.collect())),
        (
            "write_right",
            Written::Map(vec![
                ("width", text(right.width)),
                ("drift", text(right.drift)),
                ("demotion", text(right.demotion)),
                ("renew", text(right.renew)),
                ("retry", text(right.retry)),
                ("gate_tick", text(right.gate_tick)),
            ]),
        ),
    ])
}

fn answers(answers: Answers) -> Written {
    match answers {
        Answers::Several(count) => Written::Integer(count.into()),
        Answers::One | Answers::All => text(answers),
    }
}

fn endpoint(e: &Endpoint) -> Written {
    let mut entries = vec![
        ("region", text(&e.region)),
        ("address", text(&e.address)),
        ("port", Written::Integer(e.port.into())),
    ];
    entries.extend(e.alias.as_ref().map(|alias| {
        let written = vec![
            ("hosted_zone", text(&alias.hosted_zone)),
            ("evaluate_target_health", Written::Boolean(alias.evaluate_target_health)),
        ];
        ("alias", Written::Map(written))
    }));
    entries.extend(e.weight.map(|w| ("weight", Written::Integer(w.into()))));
    entries.extend([("priority", Written::Integer(e.priority.into())), ("capacity", text(e.capacity))]);
    Written::Map(entries)
}

fn health_check(service: &Service) -> Written {
    let kind = match &service.check {
        HealthCheck::Http(c) if c.tls => "https",
        HealthCheck::Http(_) => "http",
        HealthCheck::Tcp(_) => "tcp",
    };
    let entries =
        vec![("kind", text(kind)), ("interval", text(service.interval)), ("timeout", text(service.timeout))];
    match &service.check {
        HealthCheck::Tcp(c) => with(entries, vec![("max_latency", c.max_latency.map(text))]),
        HealthCheck::Http(c) => http_check(c, entries),
    }
}

fn http_check(c: &HttpCheck, mut entries: Vec<(&'static str, Written)>) -> Written {
    let file = |p: &std::path::PathBuf| text(p.display());
    let secret = c
        .secret_header
        .as_ref()
        .map(|(name, path)| Written::Map(vec![("name", text(name)), ("file", file(path))]));
    let status = c.expect_status.iter().map(|s| Written::Integer((*s).into())).collect();
    entries.extend(c.max_latency.map(|l| ("max_latency", text(l))));
    entries.extend([("path", text(&c.path)), ("expect_status", Written::List(status))]);
    let mut more = vec![
        ("expect_body", c.expect_body.as_ref().map(text)),
        ("host", c.host.as_ref().map(text)),
        ("secret_header", secret),
    ];
    if c.tls {
        let tls = &c.tls_options;
        more.extend([
            ("sni", tls.sni.as_ref().map(text)),
            ("ca_file", tls.ca_file.as_ref().map(file)),
            ("client_certificate_file", tls.client_certificate_file.as_ref().map(file)),
            ("client_key_file", tls.client_key_file.as_ref().map(file)),
            ("expiry_warning", Some(text(tls.expiry_warning))),
        ]);
    }
    with(entries, more)
}

fn failover(p: &FailoverPolicy) -> Written {
    let mut entries = vec![
        ("automatic", Written::Boolean(p.automatic)),
        ("failure_threshold", Written::Integer(p.failure_threshold.into())),
        ("failure_window", text(p.failure_window)),
        ("gray_failure_share", text(p.gray_failure_share)),
        ("gray_min_samples", Written::Integer(p.gray_min_samples.into())),
        ("recovery_threshold", Written::Integer(p.recovery_threshold.into())),
    ];
    entries.extend(p.quorum.map(|q| ("quorum", Written::Integer(q.into()))));
    entries.extend([
        ("max_unavailable_regions", Written::Integer(p.max_unavailable_regions.into())),
        ("block_period", text(p.block_period)),
        ("ramp", list(&p.ramp)),
        ("soak", text(p.soak)),
        ("headroom", text(p.headroom)),
        ("jurisdictions", list(&p.jurisdictions)),
        ("approval_expires", text(p.approval_expires)),
        ("approvals", Written::Integer(p.approvals.into())),
        (
            "failback",
            Written::Map(vec![
                ("automatic", Written::Boolean(p.failback.automatic)),
                ("stable_hold", text(p.failback.stable_hold)),
            ]),
        ),
    ]);
    Written::Map(entries)
}

fn metrics(m: &MetricsSource) -> Written {
    Written::Map(vec![
        ("path", text(&m.path)),
        ("requests_metric", text(&m.requests_metric)),
        ("status_label", text(&m.status_label)),
        ("latency_metric", text(&m.latency_metric)),
        ("interval", text(m.interval)),
    ])
}

fn traffic(t: &TrafficSource) -> Written {
    let rate = || text(RequestsPerSecond(t.drained_below));
    let (kind, own, below) = match &t.from {
        TrafficFrom::Connections => ("connections", vec![], Written::Integer(t.drained_below)),
        TrafficFrom::AccessLog { path } => ("access_log", vec![("path", text(path.display()))], rate()),
        TrafficFrom::Prometheus { url, query } => {
            ("prometheus", vec![("url", text(url)), ("query", text(query))], rate())
        }
    };
    let mut entries = vec![("kind", text(kind))];
    entries.extend(own);
    entries.extend([("drained_below", below), ("hold", text(t.hold))]);
    Written::Map(entries)
}

fn app_check(c: &AppCheck) -> Written {
    let mut entries = vec![("name", text(&c.name)), ("method", text(&c.method)), ("path", text(&c.path))];
    entries.extend(c.body.as_ref().map(|b| ("body", text(b))));
    entries.push(("expect_status", Written::Integer(c.expect_status.into())));
    entries.extend(c.expect_body.as_ref().map(|b| ("expect_body", text(b))));
    entries.push(("timeout", text(c.timeout)));
    Written::Map(entries)
}

fn dns(dns: &DnsSettings) -> Written {
    let mut entries = match &dns.servers {
        DnsServers::Embedded(own) => embedded(&dns.zone, own),
        DnsServers::Rfc2136(other) => dynamic_updates(&dns.zone, other),
        DnsServers::Route53(cloud) => route53(&dns.zone, cloud),
    };
    let fixed = |r: &FixedRecord| {
        let written = vec![
            ("id", text(&r.id)),
            ("name", text(&r.name)),
            ("type", text(r.record_type)),
            ("ttl", text(r.ttl)),
            ("values", list(&r.values)),
        ];
        (r.id.to_string(), Written::Map(written))
    };
    if !dns.records.is_empty() {
        entries.push(("records", Written::Items(dns.records.iter().map(fixed).collect())));
    }
    entries.extend(dns.geography.as_ref().map(|g| ("geography", geography(g))));
    let DnsVelocity { share, at_least, window } = dns.velocity;
    let velocity = vec![
        ("share", text(share)),
        ("at_least", Written::Integer(at_least.into())),
        ("window", text(window)),
    ];
    entries.push(("velocity", Written::Map(velocity)));
    entries.extend([("drift", text(dns.drift.as_str())), ("drift_hold", text(dns.drift_hold))]);
    Written::Map(entries)
}

fn geography(geography: &Geography) -> Written {
    let network = |n: &ClientNetwork| {
        let entries = vec![("cidr", text(n.cidr)), ("prefer", list(&n.prefer))];
        (n.cidr.to_string(), with(entries, vec![("jurisdiction", n.jurisdiction.as_ref().map(text))]))
    };
    let networks = geography.networks.iter().map(network).collect();
    Written::Map(vec![
        ("id", text(&geography.id)),
        ("networks", Written::Items(networks)),
        ("outside", text(geography.outside.as_str())),
    ])
}

/// Each by its name, so that a difference names it and not its place.
fn named<'a, T: 'a>(
    items: impl IntoIterator<Item = T>,
    fields: impl Fn(T) -> (String, Vec<(&'static str, Written)>),
) -> Written {
    let item = |item| {
        let (name, more) = fields(item);
        let mut entries = vec![("name", text(&name))];
        entries.extend(more);
        (name, Written::Map(entries))
    };
    Written::Items(items.into_iter().map(item).collect())
}

fn zone_servers(servers: &[ZoneServer]) -> Written {
    named(servers, |s| (s.name.clone(), vec![("query", text(s.query))]))
}

fn embedded(zone: &str, own: &EmbeddedDns) -> Vec<(&'static str, Written)> {
    let mut entries = vec![
        ("zone", text(zone)),
        ("nameservers", named(&own.nameservers, |(name, at)| (name.clone(), vec![("address", text(at))]))),
        (
            "instances",
            named(&own.instances, |i| {
                (i.name.clone(), vec![("control", text(i.control)), ("query", text(i.query))])
            }),
        ),
        ("ttl_floor", text(own.ttl_floor)),
    ];
    entries.extend(own.signing_key_file.as_ref().map(|file| ("signing_key_file", text(file.display()))));
    entries
}

fn dynamic_updates(zone: &str, other: &Rfc2136Dns) -> Vec<(&'static str, Written)> {
    let key = Written::Map(vec![
        ("name", text(&other.key.name)),
        ("algorithm", text(other.key.algorithm.as_str())),
        ("secret_file", text(other.key.secret_file.display())),
    ]);
    let mut entries = vec![
        ("kind", text("rfc2136")),
        ("zone", text(zone)),
        ("primary", text(other.primary)),
        ("servers", zone_servers(&other.servers)),
        ("key", key),
        ("timeout", text(other.timeout)),
    ];
    entries.extend(other.weights.map(|w| ("weights", text(w.as_str()))));
    entries
}

fn route53(zone: &str, cloud: &Route53Dns) -> Vec<(&'static str, Written)> {
    let mut entries = vec![
        ("kind", text("route53")),
        ("zone", text(zone)),
        ("hosted_zone", text(&cloud.hosted_zone)),
        ("servers", zone_servers(&cloud.servers)),
    ];
    entries.extend(cloud.credentials_file.as_ref().map(|f| ("credentials_file", text(f.display()))));
    entries.extend(cloud.endpoint.as_ref().map(|e| ("endpoint", text(e))));
    entries.extend([
        ("requests_per_second", Written::Integer(cloud.requests_per_second.into())),
        ("timeout", text(cloud.timeout)),
        ("in_sync_within", text(cloud.in_sync_within)),
    ]);
    entries.extend(cloud.health_checks.as_ref().map(|checks| ("health_checks", health_checks(checks))));
    entries
}

fn health_checks(checks: &HealthChecks) -> Written {
    let server = |s: &StatusServer| {
        let entries = vec![("agent", text(&s.agent)), ("url", text(&s.url))];
        (s.agent.to_string(), Written::Map(entries))
    };
    Written::Map(vec![
        ("status_servers", Written::Items(checks.status_servers.iter().map(server).collect())),
        ("interval", text(checks.interval)),
        ("failure_threshold", Written::Integer(checks.failure_threshold.into())),
    ])
}

pub(super) fn settings(s: &Settings) -> Written {
    let dns = s.dns.as_ref().map(dns);
    let v = &s.vantage;
    let webhook =
        s.paging.webhook.as_ref().map(|w| {
            Written::Map(vec![("url", text(&w.url)), ("secret_file", text(w.secret_file.display()))])
        });
    let mut entries = vec![("kind", text("Settings")), ("listen", text(s.listen))];
    entries.extend(dns.map(|d| ("dns", d)));
    entries.extend(s.store.as_ref().map(|store| {
        let etcd = Written::Map(vec![
            ("endpoints", list(&store.etcd.endpoints)),
            ("prefix", text(&store.etcd.prefix)),
            ("keep_history", text(store.etcd.keep_history)),
            ("leader_lost_after", text(store.etcd.leader_lost_after)),
        ]);
        ("store", Written::Map(vec![("etcd", etcd)]))
    }));
    entries.extend([
        (
            "access",
            Written::Map(vec![
                ("require_tokens", Written::Boolean(s.access.require_tokens)),
                ("connections_per_machine", Written::Integer(s.access.connections_per_machine.into())),
            ]),
        ),
        (
            "vantage",
            Written::Map(vec![
                ("references", list(&v.references)),
                ("reference_interval", text(v.reference_interval)),
                ("report_interval", text(v.report_interval)),
                ("silent_after", text(v.silent_after)),
                ("max_clock_skew", text(v.max_clock_skew)),
                ("common_cause_share", text(v.common_cause_share)),
                ("common_cause_window", text(v.common_cause_window)),
            ]),
        ),
        (
            "paging",
            with(Vec::new(), vec![("on_page", s.paging.on_page.as_ref().map(list)), ("webhook", webhook)]),
        ),
        (
            "retention",
            Written::Map(vec![
                ("observations", text(s.retention.observations)),
                ("transitions", text(s.retention.transitions)),
                ("store_alarm_bytes", Written::Integer(s.retention.store_alarm_bytes)),
            ]),
        ),
    ]);
    Written::Map(entries)
}
