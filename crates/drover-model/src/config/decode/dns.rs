//! `dns` of `kind: Settings`.

use super::cursor::Fields;
use super::rules::host_name;
use super::settings::unique;
use super::values::Scalar;
use crate::config::geography::client_network;
use crate::config::shapes::settings::{
    CLIENT_NETWORK, FIXED_RECORD, INSTANCE, NAMESERVER, SERVER, STATUS_SERVER,
};
use crate::config::{
    ClientNetwork, DnsInstance, DnsServers, DnsSettings, DnsVelocity, DriftPolicy, EmbeddedDns, FixedRecord,
    FixedType, FixedValue, Geography, HealthChecks, Outside, Rfc2136Dns, Route53Dns, StatusServer,
    TsigAlgorithm, TsigKey, WeightRecords, ZoneServer,
};
use crate::ids::{AgentId, RegionId, ServiceId};
use std::collections::{BTreeMap, BTreeSet};

/// The zone, as far as it is known, and all of it.
pub(super) fn read(fields: &Fields<'_, '_, '_>) -> (Option<String>, Option<DnsSettings>) {
    let kind = fields.text("kind").value();
    let zone = fields.text("zone").value();
    let servers = match kind.as_deref() {
        Some("rfc2136") => dynamic_updates(fields).map(DnsServers::Rfc2136),
        Some("route53") => route53(fields).map(DnsServers::Route53),
        Some(_) => embedded(fields).map(DnsServers::Embedded),
        None => None,
    };
    let records = records(fields);
    let geography = geography(fields);
    let velocity = fields.object("velocity").value().and_then(|f| velocity(&f));
    let drift = fields.text("drift").value();
    let drift = drift.and_then(|word| DriftPolicy::ALL.into_iter().find(|policy| policy.as_str() == word));
    let drift_hold = fields.span("drift_hold").value();
    let settings = (|| {
        Some(DnsSettings {
            zone: zone.clone()?,
            servers: servers?,
            records: records?,
            geography: geography?,
            velocity: velocity?,
            drift: drift?,
            drift_hold: drift_hold?,
        })
    })();
    (zone, settings)
}

fn velocity(fields: &Fields<'_, '_, '_>) -> Option<DnsVelocity> {
    let share = fields.percent("share").value();
    let at_least = fields.integer("at_least").value();
    let window = fields.span("window").value();
    Some(DnsVelocity { share: share?, at_least: at_least?, window: window? })
}

fn records(fields: &Fields<'_, '_, '_>) -> Option<Vec<FixedRecord>> {
    let (mut ids, mut keys) = (BTreeMap::new(), BTreeMap::new());
    let read = fields.list("records").value()?.into_iter().map(|(path, node)| {
        let f = Fields::open(fields.sink, node, &FIXED_RECORD, path)?;
        let id = f.text("id").value().and_then(|id| ServiceId::new(id).ok());
        let name = f.text("name").value();
        let rtype = f.text("type").value();
        let rtype = rtype.and_then(|word| FixedType::ALL.into_iter().find(|t| t.as_str() == word));
        let ttl = f.span("ttl").value();
        let values = f.scalars("values", |s| if let Scalar::Text(text) = s { Some(text) } else { None });
        let values = values.value();
        unique(&f, "id", id.as_ref().map(ServiceId::as_str), &mut ids);
        if let (Some(name), Some(rtype)) = (&name, rtype) {
            unique(&f, "name", Some(&format!("{name} {rtype}")), &mut keys);
        }
        if let (Some(values), Some(rtype)) = (&values, rtype) {
            fixed_values(&f, rtype, values);
        }
        Some(FixedRecord { id: id?, name: name?, record_type: rtype?, ttl: ttl?, values: values? })
    });
    all(read)
}

/// Each must be what servers take, and none be there twice: in the one spelling that they have there.
fn fixed_values(record: &Fields<'_, '_, '_>, rtype: FixedType, values: &[String]) {
    let mut spelled = BTreeSet::new();
    for text in values {
        let shown: String = text.chars().take(60).collect();
        let place = || record.place_of("values");
        let value = match FixedValue::read(rtype, text) {
            Ok(value) => value,
            Err(form) => {
                let message = format!("`{shown}` is no value of a record of type {rtype}");
                record.sink.error(place(), message, Some(format!("give {form}")));
                continue;
            }
        };
        let one = value.spelled();
        if let FixedValue::Mx { host, .. } = value
            && host != "."
            && let Err((what, help)) = host_name(&host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase())
        {
            record.sink.error(place(), format!("the host of `{shown}` {what}"), help);
        } else if !spelled.insert(one) {
            let message = format!("`{shown}` stands there twice");
            record.sink.error(place(), message, Some("leave one of them out".to_owned()));
        }
    }
}

#[allow(clippy::option_option, reason = "the outer level is: could it be read")]
fn geography(dns: &Fields<'_, '_, '_>) -> Option<Option<Geography>> {
    let Some(fields) = dns.object("geography").optional()? else { return Some(None) };
    let id = fields.text("id").value().and_then(|id| ServiceId::new(id).ok());
    let outside = fields.text("outside").value();
    let outside = outside.and_then(|word| Outside::ALL.into_iter().find(|o| o.as_str() == word));
    let mut seen = BTreeMap::new();
    let networks = fields.list("networks").value().and_then(|items| {
        let read = items.into_iter().map(|(path, node)| {
            let f = Fields::open(fields.sink, node, &CLIENT_NETWORK, path)?;
            let cidr = f.text("cidr").value();
            unique(&f, "cidr", cidr.as_deref(), &mut seen);
            let cidr = cidr.and_then(|text| match client_network(&text) {
                Ok(cidr) => Some(cidr),
                Err(what) => {
                    let shown: String = text.chars().take(60).collect();
                    let message = format!("`cidr`: `{shown}` is none that can be looked for");
                    f.sink.error(f.place_of("cidr"), message, Some(format!("give {what}")));
                    None
                }
            });
            let region = |s| if let Scalar::Text(text) = s { RegionId::new(text).ok() } else { None };
            let prefer = f.scalars("prefer", region).value();
            let jurisdiction = f.text("jurisdiction").optional();
            Some(ClientNetwork { cidr: cidr?, prefer: prefer?, jurisdiction: jurisdiction? })
        });
        all(read)
    });
    Some(Some(Geography { id: id?, networks: networks?, outside: outside? }))
}

fn embedded(fields: &Fields<'_, '_, '_>) -> Option<EmbeddedDns> {
    let sink = fields.sink;
    let mut names = BTreeMap::new();
    let nameservers = fields.list("nameservers").value().and_then(|items| {
        let read = items.into_iter().map(|(path, node)| {
            let f = Fields::open(sink, node, &NAMESERVER, path)?;
            let name = f.text("name").value();
            let address = f.ip("address").value();
            unique(&f, "name", name.as_deref(), &mut names);
            Some((name?, address?))
        });
        all(read)
    });
    let (mut names, mut sockets) = (BTreeMap::new(), BTreeMap::new());
    let instances = fields.list("instances").value().and_then(|items| {
        let read = items.into_iter().map(|(path, node)| {
            let f = Fields::open(sink, node, &INSTANCE, path)?;
            let name = f.text("name").value();
            let control = f.socket("control").value();
            let query = f.socket("query").value();
            unique(&f, "name", name.as_deref(), &mut names);
            unique(&f, "control", control.map(|a| a.to_string()).as_deref(), &mut sockets);
            unique(&f, "query", query.map(|a| a.to_string()).as_deref(), &mut sockets);
            Some(DnsInstance { name: name?, control: control?, query: query? })
        });
        all(read)
    });
    let ttl_floor = fields.span("ttl_floor").value();
    let signing_key_file = fields.text("signing_key_file").optional();
    Some(EmbeddedDns {
        nameservers: nameservers?,
        instances: instances?,
        ttl_floor: ttl_floor?,
        signing_key_file: signing_key_file?.map(Into::into),
    })
}

fn dynamic_updates(fields: &Fields<'_, '_, '_>) -> Option<Rfc2136Dns> {
    let primary = fields.socket("primary").value();
    let servers = servers(fields);
    let key = fields.object("key").value().and_then(|f| key(&f));
    let timeout = fields.span("timeout").value();
    let weights = fields.text("weights").optional();
    let known = |word: String| WeightRecords::ALL.into_iter().find(|w| w.as_str() == word);
    Some(Rfc2136Dns {
        primary: primary?,
        servers: servers?,
        key: key?,
        timeout: timeout?,
        weights: weights?.and_then(known),
    })
}

fn route53(fields: &Fields<'_, '_, '_>) -> Option<Route53Dns> {
    let hosted_zone = fields.text("hosted_zone").value();
    let servers = servers(fields);
    let credentials_file = fields.text("credentials_file").optional();
    let endpoint = fields.text("endpoint").optional();
    let requests_per_second = fields.integer("requests_per_second").value();
    let timeout = fields.span("timeout").value();
    let in_sync_within = fields.span("in_sync_within").value();
    let health_checks = fields.object("health_checks").optional();
    Some(Route53Dns {
        hosted_zone: hosted_zone?,
        servers: servers?,
        credentials_file: credentials_file?.map(Into::into),
        endpoint: endpoint?,
        requests_per_second: requests_per_second?,
        timeout: timeout?,
        in_sync_within: in_sync_within?,
        health_checks: match health_checks? {
            None => None,
            Some(f) => Some(status_checks(&f)?),
        },
    })
}

fn status_checks(fields: &Fields<'_, '_, '_>) -> Option<HealthChecks> {
    let (mut agents, mut urls) = (BTreeMap::new(), BTreeMap::new());
    let servers = fields.list("status_servers").value().and_then(|items| {
        let read = items.into_iter().map(|(path, node)| {
            let f = Fields::open(fields.sink, node, &STATUS_SERVER, path)?;
            let agent = f.text("agent").value().and_then(|name| AgentId::new(name).ok());
            let url = f.text("url").value().map(|url| url.trim_end_matches('/').to_owned());
            unique(&f, "agent", agent.as_ref().map(AgentId::as_str), &mut agents);
            unique(&f, "url", url.as_deref(), &mut urls);
            Some(StatusServer { agent: agent?, url: url? })
        });
        all(read)
    });
    let interval = fields.span("interval").value();
    let failure_threshold = fields.integer("failure_threshold").value();
    Some(HealthChecks {
        status_servers: servers?,
        interval: interval?,
        failure_threshold: failure_threshold?,
    })
}

fn servers(fields: &Fields<'_, '_, '_>) -> Option<Vec<ZoneServer>> {
    let (mut names, mut sockets) = (BTreeMap::new(), BTreeMap::new());
    let read = fields.list("servers").value()?.into_iter().map(|(path, node)| {
        let f = Fields::open(fields.sink, node, &SERVER, path)?;
        let name = f.text("name").value();
        let query = f.socket("query").value();
        unique(&f, "name", name.as_deref(), &mut names);
        unique(&f, "query", query.map(|a| a.to_string()).as_deref(), &mut sockets);
        Some(ZoneServer { name: name?, query: query? })
    });
    all(read)
}

fn key(fields: &Fields<'_, '_, '_>) -> Option<TsigKey> {
    let name = fields.text("name").value();
    let algorithm = fields.text("algorithm").value();
    let algorithm = algorithm.and_then(|word| TsigAlgorithm::ALL.into_iter().find(|a| a.as_str() == word));
    let secret_file = fields.text("secret_file").value();
    Some(TsigKey { name: name?, algorithm: algorithm?, secret_file: secret_file?.into() })
}

/// All of them, each read to its end so that every error is found; nothing when one could not be read.
fn all<T>(read: impl Iterator<Item = Option<T>>) -> Option<Vec<T>> {
    read.collect::<Vec<_>>().into_iter().collect()
}
