//! `kind: Service`: names, endpoints and weights.

use super::check::{self, Probe};
use super::cursor::Fields;
use super::sink::Sink;
use super::tree::Node;
use super::{policy, rules};
use crate::config::shapes::service::{ENDPOINT, SERVICE};
use crate::config::{
    Answering, Answers, Draws, Endpoint, FailoverPolicy, RecordType, Route53Alias, Service, Split,
};
use crate::ids::{RegionId, ServiceId};
use crate::time::Span;
use crate::units::WEIGHT_SUM;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The longest id of a hosted zone, by the API's own model.
const HOSTED_ZONE_CHARS_MAX: usize = 32;

/// What is known of a service, even when it has errors.
pub(super) struct Draft {
    pub path: String,
    pub name: Option<ServiceId>,
    pub dns_name: Option<String>,
    pub record_type: Option<RecordType>,
    pub endpoints: Vec<EndpointDraft>,
    pub interval: Option<Span>,
    pub failover: Option<FailoverPolicy>,
    pub service: Option<Service>,
}

/// An endpoint with the path of its item.
pub(super) struct EndpointDraft {
    pub path: String,
    pub region: Option<RegionId>,
    pub endpoint: Option<Endpoint>,
}

pub(super) fn read(sink: &Sink<'_>, node: &Node, path: &str) -> Draft {
    let mut draft = Draft {
        path: path.to_owned(),
        name: None,
        dns_name: None,
        record_type: None,
        endpoints: Vec::new(),
        interval: None,
        failover: None,
        service: None,
    };
    let Some(fields) = Fields::open(sink, node, &SERVICE, path.to_owned()) else { return draft };
    fields.text("kind");
    draft.name = fields.text("name").value().and_then(|n| ServiceId::new(n).ok());
    let priority = fields.integer("priority").value();
    let dns = fields.object("dns").value();
    draft.dns_name = dns.as_ref().and_then(|f| f.text("name").value());
    draft.record_type = dns.as_ref().and_then(|f| f.text("type").value()).map(|t| match t.as_str() {
        "AAAA" => RecordType::Aaaa,
        "CNAME" => RecordType::Cname,
        _ => RecordType::A,
    });
    let ttl = dns.as_ref().and_then(|f| f.span("ttl").value());
    let answering = dns.as_ref().and_then(answering);
    draft.endpoints = read_endpoints(&fields, draft.record_type);
    let endpoints = check_endpoints(&fields, &draft.endpoints);
    let Probe { check, interval, timeout } = check::probe(&fields);
    draft.interval = interval;
    let count = (!draft.endpoints.is_empty()).then_some(draft.endpoints.len());
    draft.failover = policy::failover(&fields, count);
    let metrics = policy::metrics(&fields);
    let traffic = policy::traffic(&fields);
    let peak_load = fields.rate("peak_load").optional();
    let app_checks = check::app_checks(&fields);
    let validation = policy::validation(&fields);
    let objectives = policy::objectives(&fields);
    draft.service = (|| {
        let (rto, rpo) = objectives?;
        Some(Service {
            name: draft.name.clone()?,
            priority: priority?,
            dns_name: draft.dns_name.clone()?,
            record_type: draft.record_type?,
            ttl: ttl?,
            answering: answering?,
            split: Split::default(),
            endpoints: endpoints?,
            check: check?,
            interval: interval?,
            timeout: timeout?,
            failover: draft.failover.clone()?,
            metrics: metrics?,
            traffic: traffic?,
            peak_load: peak_load?,
            app_checks: app_checks?,
            validation: validation?,
            rto,
            rpo,
        })
    })();
    draft
}

fn answering(dns: &Fields<'_, '_, '_>) -> Option<Answering> {
    let answers = dns.word_or_integer("answers").value().and_then(|read| match read {
        Ok(word) => word.parse().ok(),
        Err(count) => u8::try_from(count).ok().map(Answers::several),
    });
    let draws = dns.text("draws").value();
    let draws = draws.and_then(|word| Draws::ALL.into_iter().find(|draws| draws.as_str() == word));
    Some(Answering { answers: answers?, draws: draws? })
}

fn read_endpoints(service: &Fields<'_, '_, '_>, record_type: Option<RecordType>) -> Vec<EndpointDraft> {
    let items = service.list("endpoints").value().unwrap_or_default();
    items
        .into_iter()
        .map(|(path, node)| {
            let Some(fields) = Fields::open(service.sink, node, &ENDPOINT, path.clone()) else {
                return EndpointDraft { path, region: None, endpoint: None };
            };
            let region = fields.text("region").value().and_then(|r| RegionId::new(r).ok());
            let address = fields.text("address").value();
            let alias = read_alias(&fields);
            if let (Some(address), Some(record_type)) = (&address, record_type) {
                match &alias {
                    Some(Some(_)) => check_target(&fields, address, record_type),
                    _ => check_address(&fields, address, record_type),
                }
            }
            let port = fields.integer("port").value();
            let weight = fields.integer("weight").optional();
            let priority = fields.integer("priority").value();
            let capacity = fields.rate("capacity").value();
            let endpoint = (|| {
                Some(Endpoint {
                    region: region.clone()?,
                    address: address?,
                    alias: alias?,
                    port: port?,
                    weight: weight?,
                    priority: priority?,
                    capacity: capacity?,
                })
            })();
            EndpointDraft { path, region, endpoint }
        })
        .collect()
}

#[allow(clippy::option_option, reason = "the outer level is: could it be read")]
fn read_alias(endpoint: &Fields<'_, '_, '_>) -> Option<Option<Route53Alias>> {
    let Some(fields) = endpoint.object("alias").optional()? else { return Some(None) };
    let hosted_zone = fields.text("hosted_zone").value();
    let evaluate_target_health = fields.boolean("evaluate_target_health").value();
    let hosted_zone = hosted_zone?;
    if hosted_zone.len() > HOSTED_ZONE_CHARS_MAX || !hosted_zone.bytes().all(|b| b.is_ascii_alphanumeric()) {
        let message = "`hosted_zone` must be letters and digits, such as Z32O12XQLNTSW2".to_owned();
        let hint = "aws elbv2 describe-load-balancers shows it as CanonicalHostedZoneId".to_owned();
        fields.sink.error(fields.place_of("hosted_zone"), message, Some(hint));
        return None;
    }
    Some(Some(Route53Alias { hosted_zone, evaluate_target_health: evaluate_target_health? }))
}

/// An alias stands in place of addresses, and leads to a name.
fn check_target(fields: &Fields<'_, '_, '_>, address: &str, record_type: RecordType) {
    let report = |place: &'static str, message: String, hint: String| {
        fields.sink.error(fields.place_of(place), message, Some(hint));
    };
    if record_type == RecordType::Cname {
        let hint = "use type A or AAAA, or leave `alias` out".to_owned();
        report("alias", "an alias answers with addresses, and this record is a CNAME".to_owned(), hint);
    }
    let shown: String = address.chars().take(60).collect();
    if address.parse::<IpAddr>().is_ok() {
        let hint = "give the target's host name, or leave `alias` out".to_owned();
        report(
            "address",
            format!("the target of an alias is a host name, and `{shown}` is an address"),
            hint,
        );
    } else if let Err((why, hint)) = rules::host_name(address) {
        let hint = hint.unwrap_or_else(|| "give a host name".to_owned());
        report("address", format!("`address`: `{shown}` {why}"), hint);
    }
}

fn check_address(fields: &Fields<'_, '_, '_>, address: &str, record_type: RecordType) {
    let shown: String = address.chars().take(60).collect();
    let report = |message: String, suggestion: &str| {
        fields.sink.error(fields.place_of("address"), message, Some(suggestion.to_owned()));
    };
    match (record_type, address.parse::<IpAddr>()) {
        (RecordType::Cname, Ok(_)) => {
            report(
                format!("a CNAME record needs a host name, and `{shown}` is an address"),
                "use type A or AAAA",
            );
        }
        (RecordType::Cname, Err(_)) => {
            if let Err((why, hint)) = rules::host_name(address) {
                report(format!("`address`: `{shown}` {why}"), hint.as_deref().unwrap_or("give a host name"));
            }
        }
        (RecordType::A, Ok(IpAddr::V6(_))) => {
            report(format!("an A record needs an IPv4 address, and `{shown}` is IPv6"), "use type AAAA");
        }
        (RecordType::Aaaa, Ok(IpAddr::V4(_))) => {
            report(format!("an AAAA record needs an IPv6 address, and `{shown}` is IPv4"), "use type A");
        }
        (RecordType::A | RecordType::Aaaa, Ok(ip)) if ip.is_unspecified() || ip.is_multicast() => {
            report(
                format!("`{shown}` is not the address of one machine"),
                "give the address that clients connect to",
            );
        }
        (RecordType::A | RecordType::Aaaa, Ok(_)) => {}
        (RecordType::A | RecordType::Aaaa, Err(_)) => {
            let message =
                format!("`address` must be an IP address for a record of type {record_type}, not `{shown}`");
            report(message, "use type CNAME for a host name");
        }
    }
}

/// The endpoints by region, once each is known; reports what is wrong among them.
fn check_endpoints(
    service: &Fields<'_, '_, '_>,
    drafts: &[EndpointDraft],
) -> Option<BTreeMap<RegionId, Endpoint>> {
    let sink = service.sink;
    let mut regions: BTreeMap<&RegionId, &str> = BTreeMap::new();
    let mut addresses: BTreeMap<&str, &str> = BTreeMap::new();
    for draft in drafts {
        if let Some(region) = &draft.region
            && let Some(first) = regions.insert(region, &draft.path)
        {
            let first = sink.name_of(sink.place(&format!("{first}/region")));
            let message = format!("a second endpoint in region `{region}`, the first is at {first}");
            sink.error(
                sink.place(&format!("{}/region", draft.path)),
                message,
                Some("one for each region".to_owned()),
            );
        }
        if let Some(endpoint) = &draft.endpoint
            && let Some(first) = addresses.insert(&endpoint.address, &draft.path)
        {
            let first = sink.name_of(sink.place(&format!("{first}/address")));
            let message =
                format!("address `{}` is that of another region's endpoint, at {first}", endpoint.address);
            let place = sink.place(&format!("{}/address", draft.path));
            sink.error(place, message, Some("DNS could not move traffic between them".to_owned()));
        }
    }
    check_weights(service, drafts);
    let whole: Option<Vec<Endpoint>> = drafts.iter().map(|d| d.endpoint.clone()).collect();
    Some(whole?.into_iter().map(|e| (e.region.clone(), e)).collect())
}

/// Weights are looked at within each priority, because only one priority carries traffic at a time.
fn check_weights(service: &Fields<'_, '_, '_>, drafts: &[EndpointDraft]) {
    let mut groups: BTreeMap<u8, Vec<(&str, Option<u8>)>> = BTreeMap::new();
    for draft in drafts {
        let Some(endpoint) = &draft.endpoint else { return };
        groups.entry(endpoint.priority).or_default().push((&draft.path, endpoint.weight));
    }
    for (priority, group) in groups {
        let sum: u32 = group.iter().filter_map(|(_, w)| w.map(u32::from)).sum();
        let absent = group.iter().filter(|(_, w)| w.is_none()).count();
        let Some((path, _)) = group.iter().find(|(_, w)| w.is_some()) else { continue };
        let place = service.sink.place(&format!("{path}/weight"));
        if absent == 0 && sum == 0 {
            let message =
                format!("the weights of priority {priority} are all zero: nobody would be sent anywhere");
            service.sink.error(place, message, Some("leave them out for equal shares".to_owned()));
        } else if absent > 0 && sum > u32::from(WEIGHT_SUM) {
            let message = format!(
                "the weights given for priority {priority} sum to {sum}, and {absent} without one should share what is left of {WEIGHT_SUM}"
            );
            service.sink.error(place, message, Some("give all weights, or lower these".to_owned()));
        }
    }
}
