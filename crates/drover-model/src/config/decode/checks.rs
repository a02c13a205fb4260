//! Checks that need more than one document, and policies that contradict themselves.

use super::sink::Sink;
use super::{Directory, published, region, service};
use crate::config::diagnostic::suggest;
use crate::config::{ALIAS_TTL, DnsServers, FailoverPolicy, RecordType, RegionRole, Split};
use crate::ids::RegionId;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn run(sink: &Sink<'_>, directory: &Directory) {
    duplicates(sink, directory);
    for service in &directory.services {
        endpoint_regions(sink, directory, service);
        names_in_zone(sink, directory, service);
        one_alias(sink, directory, service);
        alias_targets(sink, directory, service);
        published::answering(sink, directory, service);
        window(sink, service);
        if let Some(policy) = &service.failover {
            jurisdictions(sink, directory, service, policy);
            quorum(sink, directory, service, policy);
            approvals(sink, directory, service, policy);
        }
        advice(sink, service);
        unused_weights(sink, directory, service);
    }
    super::dataset::check_number(sink, &directory.datasets);
    for dataset in &directory.datasets {
        super::dataset::check(sink, directory, dataset);
    }
    published::records(sink, directory);
    published::geography(sink, directory);
    super::health_checks::run(sink, directory);
    whole(sink, directory);
}

/// Reports each second use of a key, naming the first.
fn unique<K: Ord + std::fmt::Display>(
    sink: &Sink<'_>,
    what: &str,
    uses: impl IntoIterator<Item = (K, String)>,
) {
    let mut seen: BTreeMap<K, String> = BTreeMap::new();
    for (key, path) in uses {
        if let Some(first) = seen.get(&key) {
            let message =
                format!("{what} `{key}` is defined twice, first at {}", sink.name_of(sink.place(first)));
            sink.error(sink.place(&path), message, Some("rename one of them".to_owned()));
        } else {
            seen.insert(key, path);
        }
    }
}

fn duplicates(sink: &Sink<'_>, directory: &Directory) {
    let at = |path: &str, field: &str| format!("{path}/{field}");
    unique(
        sink,
        "region",
        directory.regions.iter().filter_map(|r| Some((r.name.as_ref()?, at(&r.path, "name")))),
    );
    unique(
        sink,
        "service",
        directory.services.iter().filter_map(|s| Some((s.name.as_ref()?, at(&s.path, "name")))),
    );
    unique(
        sink,
        "dataset",
        directory.datasets.iter().filter_map(|d| Some((d.name.as_ref()?, at(&d.path, "name")))),
    );
    let dns = directory.services.iter().filter_map(|s| Some((s.dns_name.as_ref()?, at(&s.path, "dns/name"))));
    unique(sink, "dns name", dns);
    let agents = directory.regions.iter().flat_map(|r| &r.agents);
    unique(sink, "agent", agents.filter_map(|a| Some((a.name.as_ref()?, at(&a.path, "name")))));
    if let Some(second) = directory.settings.get(1) {
        let first =
            directory.settings.first().map_or_else(String::new, |s| sink.name_of(sink.place(&s.path)));
        let message = format!("a second `kind: Settings`, the first is at {first}");
        sink.error(sink.place(&second.path), message, Some("merge them".to_owned()));
    }
    source_addresses(sink, directory);
}

/// Two agents of one region may share a machine; one machine can't be in two regions.
fn source_addresses(sink: &Sink<'_>, directory: &Directory) {
    let mut seen: BTreeMap<std::net::IpAddr, (&str, String)> = BTreeMap::new();
    for region in &directory.regions {
        for agent in &region.agents {
            let Some(address) = agent.source_address else { continue };
            let path = format!("{}/source_address", agent.path);
            match seen.get(&address) {
                Some((owner, first)) if *owner != region.path => {
                    let first = sink.name_of(sink.place(first));
                    let message = format!(
                        "source address {address} is also that of an agent in another region, at {first}"
                    );
                    sink.error(sink.place(&path), message, Some("give each region its own".to_owned()));
                }
                Some(_) => {}
                None => {
                    seen.insert(address, (&region.path, path));
                }
            }
        }
    }
}

fn find<'d>(directory: &'d Directory, name: &RegionId) -> Option<&'d region::Draft> {
    directory.regions.iter().find(|r| r.name.as_ref() == Some(name))
}

fn endpoint_regions(sink: &Sink<'_>, directory: &Directory, service: &service::Draft) {
    for endpoint in &service.endpoints {
        let Some(name) = &endpoint.region else { continue };
        let place = sink.place(&format!("{}/region", endpoint.path));
        match find(directory, name) {
            Some(region) if region.role == Some(RegionRole::Witness) => {
                let message = format!("region `{name}` is a witness and serves nothing");
                sink.error(place, message, Some(format!("set `role: serving` in `{name}`, or use another")));
            }
            Some(_) => {}
            None if directory.complete => {
                let serving = directory.regions.iter().filter(|r| r.role != Some(RegionRole::Witness));
                let names = serving.filter_map(|r| r.name.as_ref()).map(RegionId::as_str);
                sink.error(
                    place,
                    format!("region `{name}` is not configured"),
                    suggest(name.as_str(), names),
                );
            }
            None => {}
        }
    }
}

pub(super) fn lies_in(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn names_in_zone(sink: &Sink<'_>, directory: &Directory, service: &service::Draft) {
    let (Some(name), Some(zone)) =
        (&service.dns_name, directory.settings.iter().find_map(|s| s.zone.as_ref()))
    else {
        return;
    };
    let place = sink.place(&format!("{}/dns/name", service.path));
    if name == zone {
        if service.record_type == Some(crate::config::RecordType::Cname) {
            let message = format!("`{name}` is the top of the zone, where DNS forbids a CNAME record");
            sink.error(place, message, Some("use type A or AAAA, or a name below it".to_owned()));
        }
    } else if !lies_in(name, zone) {
        let label = name.split('.').next().unwrap_or(name);
        let message = format!("dns name `{name}` lies outside of the zone `{zone}`");
        sink.error(place, message, Some(format!("such as `{label}.{zone}`")));
    }
}

/// The window must hold the streak that it is to bound, and should hold the samples that the gray share needs.
fn window(sink: &Sink<'_>, service: &service::Draft) {
    let (Some(policy), Some(interval)) = (&service.failover, service.interval) else { return };
    let place = sink.place(&format!("{}/failover/failure_window", service.path));
    let needed = policy.failure_window_min(interval);
    if policy.failure_window < needed {
        let message = format!(
            "`failure_window` of {} can't hold {} failures at an interval of {interval}: no vantage could ever call it failing",
            policy.failure_window, policy.failure_threshold
        );
        sink.error(place, message, Some(format!("at least {needed}")));
        return;
    }
    let for_gray = policy.gray_window_min(interval);
    if policy.failure_window < for_gray {
        let message = format!(
            "gray failures will not be seen: `failure_window` of {} can't hold {} samples at an interval of {interval}",
            policy.failure_window, policy.gray_min_samples
        );
        sink.warn(place, message, Some(format!("at least {for_gray}, or fewer `gray_min_samples`")));
    }
}

fn jurisdictions(sink: &Sink<'_>, directory: &Directory, service: &service::Draft, policy: &FailoverPolicy) {
    if !directory.complete || policy.jurisdictions.is_empty() {
        return;
    }
    let known: Vec<&str> = directory
        .regions
        .iter()
        .filter_map(|r| r.location.as_ref())
        .map(|l| l.jurisdiction.as_str())
        .collect();
    if directory.regions.iter().any(|r| r.location.is_none()) {
        return;
    }
    let mut distinct = known.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let mut all_known = true;
    for (i, wanted) in policy.jurisdictions.iter().enumerate() {
        if !known.contains(&wanted.as_str()) {
            all_known = false;
            let place = sink.place(&format!("{}/failover/jurisdictions/{i}", service.path));
            let message = format!("no region lies in jurisdiction `{wanted}`");
            sink.error(place, message, suggest(wanted, distinct.iter().copied()));
        }
    }
    let reachable = service
        .endpoints
        .iter()
        .filter_map(|e| find(directory, e.region.as_ref()?))
        .any(|r| r.location.as_ref().is_some_and(|l| policy.jurisdictions.contains(&l.jurisdiction)));
    if all_known && !reachable {
        let place = sink.place(&format!("{}/failover/jurisdictions", service.path));
        let allowed = policy.jurisdictions.join(", ");
        sink.error(
            place,
            format!("the service has no endpoint in {allowed}: traffic could go nowhere"),
            None,
        );
    }
}

/// Agreeing vantages that automatic action needs of `n` outside ones (I6).
fn needed_of(n: usize) -> usize {
    (n / 2 + 1).max(2)
}

fn vantages(n: usize) -> String {
    format!("{n} outside vantage{}", if n == 1 { "" } else { "s" })
}

fn quorum(sink: &Sink<'_>, directory: &Directory, service: &service::Draft, policy: &FailoverPolicy) {
    if !directory.complete {
        return;
    }
    let place = sink.place(&format!("{}/failover/quorum", service.path));
    let automatic = sink.place(&format!("{}/failover/automatic", service.path));
    for region in service.endpoints.iter().filter_map(|e| e.region.as_ref()) {
        let outside = directory.regions.iter().filter(|r| r.name.as_ref() != Some(region));
        let n: usize = outside.map(|r| r.agents.len()).sum();
        let needed = needed_of(n);
        if let Some(quorum) = policy.quorum.map(|q| q as usize) {
            let asked = format!("`quorum` of {quorum} for `{region}`, which has {}", vantages(n));
            if quorum > n {
                sink.error(place, format!("{asked}, can never be reached"), Some("leave it out".to_owned()));
                return;
            }
            if quorum < needed {
                let message = format!("{asked}, would let a minority move traffic");
                sink.error(
                    place,
                    message,
                    Some(format!("at least {needed}: max(2, n/2+1); or leave it out")),
                );
                return;
            }
        } else if policy.automatic && n < needed {
            let message = format!(
                "`{region}` has {} and automatic action needs {needed}: drover will ask instead of acting",
                vantages(n)
            );
            sink.warn(automatic, message, Some("add an agent in another region, or a witness".to_owned()));
            return;
        }
    }
}

/// Where more than one must agree, names count that tokens prove; nobody has one where none is required.
fn approvals(sink: &Sink<'_>, directory: &Directory, service: &service::Draft, policy: &FailoverPolicy) {
    let settings = directory.settings.first().and_then(|d| d.settings.as_ref());
    let is_required = settings.is_some_and(|s| s.access.require_tokens);
    if policy.approvals > 1 && directory.complete && !is_required {
        let message = format!(
            "`approvals` of {} counts people by their tokens, and none is required here: whoever shows none agrees to nothing",
            policy.approvals
        );
        let hint = "access: {require_tokens: true}, and a token for each of them".to_owned();
        sink.warn(sink.place(&format!("{}/failover/approvals", service.path)), message, Some(hint));
    }
}

/// A name has one alias at most, and servers that know no weights answer whatever has any.
fn one_alias(sink: &Sink<'_>, directory: &Directory, service: &service::Draft) {
    let dns = directory.settings.first().and_then(|d| d.settings.as_ref()).and_then(|s| s.dns.as_ref());
    let Some(of) = service.service.as_ref().filter(|s| s.record_type == RecordType::Cname) else { return };
    if dns.is_none_or(|dns| dns.split() == Split::ByWeight) {
        return;
    }
    let mut seen = BTreeMap::new();
    for endpoint in of.endpoints.values() {
        if let Some(first) = seen.insert(endpoint.priority, &endpoint.region) {
            let message = format!(
                "`{}` would answer with `{first}` and `{}` at once, and a name has one alias (CNAME) at most",
                of.name, endpoint.region
            );
            let hint = "give addresses (type A or AAAA), or each endpoint a `priority` of its own".to_owned();
            sink.error(sink.place(&format!("{}/endpoints", service.path)), message, Some(hint));
            return;
        }
    }
}

/// Whoever writes 50, 25 and 25 may count on it.
fn unused_weights(sink: &Sink<'_>, directory: &Directory, draft: &service::Draft) {
    let dns = directory.settings.first().and_then(|d| d.settings.as_ref()).and_then(|s| s.dns.as_ref());
    let Some((dns, service)) = dns.zip(draft.service.as_ref()) else { return };
    let weights = service.endpoints.values().filter_map(|e| e.weight).filter(|weight| *weight > 0);
    let distinct: BTreeSet<u8> = weights.collect();
    if dns.split_of(service.answering) == Split::Equally && distinct.len() > 1 {
        let message = format!(
            "the weights of `{}` are not equal, and these DNS servers answer in equal shares: 0 or not is all that counts",
            service.name
        );
        let hint = "leave them out, or use servers that know weights".to_owned();
        sink.warn(sink.place(&format!("{}/endpoints", draft.path)), message, Some(hint));
    }
}

/// Alias targets are Route 53's alone, and how long their answers are kept is theirs.
fn alias_targets(sink: &Sink<'_>, directory: &Directory, service: &service::Draft) {
    let mut aliases =
        service.endpoints.iter().filter(|e| e.endpoint.as_ref().is_some_and(|e| e.alias.is_some()));
    let Some(first) = aliases.next() else { return };
    let dns = directory.settings.first().and_then(|d| d.settings.as_ref()).and_then(|s| s.dns.as_ref());
    if !dns.is_some_and(|dns| matches!(dns.servers, DnsServers::Route53(_))) {
        let message = "alias targets are records of Route 53, and the zone is none of its".to_owned();
        let hint = "set `dns: {kind: route53}` in `kind: Settings`, or give an address".to_owned();
        sink.error(sink.place(&format!("{}/alias", first.path)), message, Some(hint));
    }
    let ttl = service.service.as_ref().map(|s| s.ttl);
    if let Some(ttl) = ttl.filter(|ttl| *ttl < ALIAS_TTL) {
        let message = format!(
            "`ttl` is {ttl}, and answers of alias targets are kept for {ALIAS_TTL}: a drain would not be waited for"
        );
        let hint = format!("dns: {{ttl: {ALIAS_TTL}}}");
        sink.error(sink.place(&format!("{}/dns/ttl", service.path)), message, Some(hint));
    }
}

/// What can't go well later, though it is legal.
fn advice(sink: &Sink<'_>, draft: &service::Draft) {
    let Some(service) = &draft.service else { return };
    let place = sink.place(&draft.path);
    let name = &service.name;
    if service.endpoints.len() == 1 {
        let place = sink.place(&format!("{}/endpoints", draft.path));
        sink.warn(place, format!("service `{name}` has one endpoint: there is nowhere to move it"), None);
    }
    if service.metrics.is_none() {
        let message = format!("service `{name}` has no `metrics`: validation will be inconclusive and hold");
        sink.warn(place, message, Some("add `metrics`".to_owned()));
        if service.peak_load.is_none() {
            let message =
                format!("service `{name}` has neither `metrics` nor `peak_load`: capacity can't be judged");
            sink.warn(place, message, Some("declare `peak_load`".to_owned()));
        }
    }
}

fn whole(sink: &Sink<'_>, directory: &Directory) {
    if !directory.complete {
        return;
    }
    let top = super::Place::top(0);
    if directory.regions.is_empty() {
        let hint = "a directory needs at least one `kind: Region`".to_owned();
        sink.error(top, "no region is configured", Some(hint));
        return;
    }
    if directory.services.is_empty() {
        sink.warn(top, "no service is configured: there is nothing to watch", None);
    }
    match directory.settings.first() {
        None => sink.warn(
            top,
            "there is no `kind: Settings`: weights are decided, but nobody answers DNS queries",
            None,
        ),
        Some(draft) => {
            let Some(settings) = &draft.settings else { return };
            let place = sink.place(&draft.path);
            if settings.dns.is_none() {
                sink.warn(
                    place,
                    "there is no `dns`: weights are decided, but nobody answers DNS queries",
                    None,
                );
            }
            if settings.vantage.references.is_empty() {
                let message =
                    "no `references`: an agent that is cut off from everything can't tell that it is blind";
                let hint = "name two TCP addresses that do not depend on your regions".to_owned();
                sink.warn(sink.place(&format!("{}/vantage", draft.path)), message, Some(hint));
            }
        }
    }
}
