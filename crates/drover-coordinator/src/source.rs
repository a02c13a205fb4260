//! What record sets are made from: services, whose traffic moves, and records of the zone that stay as they are configured. Both
//! have a target with a generation, and take the same way to the servers.

use crate::db::keys;
use crate::traffic::{OWNER, record_key, record_set};
use drover_core::plan::whole_seconds;
use drover_dns::zone::{Answering, Answers, DnsName, Draws, Member, RecordKey, RecordSet, RecordType};
use drover_model::config::{Config, DnsSettings, FixedRecord, Geography, Service, Steering};
use drover_model::traffic::{TargetOrigin, TrafficState};
use drover_model::{Epoch, Generation, ServiceId, Shared, Timestamp, Weights};
use std::collections::BTreeMap;

/// What a record set is made from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Source<'l> {
    Service(&'l Service),
    Fixed(&'l FixedRecord),
    /// Where clients are, for the whole zone; with the configuration, which says where the regions are.
    Geography(&'l DnsSettings, &'l Geography, &'l Config),
}

impl<'l> Source<'l> {
    /// What drover and its users call it.
    pub(crate) const fn name(self) -> &'l ServiceId {
        match self {
            Self::Service(service) => &service.name,
            Self::Fixed(record) => &record.id,
            Self::Geography(_, geography, _) => &geography.id,
        }
    }

    /// What it is known by in DNS; nothing when its name is none.
    pub(crate) fn key(self) -> Option<RecordKey> {
        match self {
            Self::Geography(dns, ..) => {
                Some(RecordKey::new(DnsName::parse(&dns.zone).ok()?, RecordType::Geography))
            }
            Self::Service(service) => record_key(service),
            Self::Fixed(record) => {
                Some(RecordKey::new(DnsName::parse(&record.name).ok()?, record.record_type.into()))
            }
        }
    }

    /// The record set that a target asks for.
    pub(crate) fn record_set(self, target: &TrafficState, epoch: Epoch) -> RecordSet {
        match self {
            Self::Service(service) => record_set(service, target, epoch),
            Self::Fixed(record) => {
                let (name, rtype) = (&record.name, record.record_type.into());
                whole_set(name, rtype, whole_seconds(record.ttl), &record.values, (target, epoch))
            }
            Self::Geography(dns, ..) => {
                let rtype = RecordType::Geography;
                whole_set(&dns.zone, rtype, NEVER_ANSWERED_SECONDS, &self.lines(), (target, epoch))
            }
        }
    }

    /// Where its target is kept in the store.
    pub(crate) fn target_path(self) -> String {
        match self {
            Self::Service(service) => keys::traffic(&service.name),
            Self::Fixed(_) | Self::Geography(..) => keys::fixed(self.name()),
        }
    }

    /// What servers are told of a geography, a line each.
    pub(crate) fn lines(self) -> Vec<String> {
        let Self::Geography(_, geography, config) = self else { return vec![] };
        let places = config.regions.values().map(|r| (r.name.clone(), r.location.jurisdiction.clone()));
        let mut lines = vec![Steering::Outside(geography.outside), Steering::Jurisdictions(places.collect())];
        lines.extend(geography.networks.iter().cloned().map(Steering::Network));
        // These types always serialise: every map key is text and no number is outside JSON.
        lines.iter().filter_map(|line| serde_json::to_string(line).ok()).collect()
    }
}

/// A time to live of what nobody is answered.
const NEVER_ANSWERED_SECONDS: u32 = 1;

/// All values, each once.
fn whole_set(
    name: &str,
    rtype: RecordType,
    ttl_seconds: u32,
    values: &[String],
    (target, epoch): (&TrafficState, Epoch),
) -> RecordSet {
    // No region's name looks like it.
    let member = |(place, value): (usize, &String)| Member {
        set_id: format!("#{}", place + 1),
        value: value.clone(),
        weight: 1,
    };
    RecordSet {
        name: name.to_owned(),
        rtype,
        ttl_seconds,
        members: values.iter().enumerate().map(member).collect(),
        generation: target.generation.0,
        epoch,
        owner: OWNER.to_owned(),
        note: String::new(),
        answering: Answering { answers: Answers::All, draws: Draws::Anew },
    }
}

/// The first target of a record that no traffic moves: it has no regions.
pub(crate) fn first_target(name: &ServiceId, now: Timestamp) -> TrafficState {
    TrafficState {
        service: name.clone(),
        generation: Generation(1),
        shares: BTreeMap::new(),
        weights: Weights::default(),
        changed_at: now,
        origin: TargetOrigin::Configuration,
        decided: Generation::default(),
    }
}

/// All that a configuration has, in the order in which it is published: where clients are before the services that are answered by it,
/// since without that a server refuses nobody. Services are in the order of their names.
pub(crate) fn sources(config: &Config) -> impl Iterator<Item = Source<'_>> + Clone {
    let services = config.services.values().map(Source::Service);
    geography(config).chain(services).chain(fixed(config))
}

fn geography(config: &Config) -> impl Iterator<Item = Source<'_>> + Clone {
    let dns = config.settings.dns.iter();
    dns.flat_map(move |dns| dns.geography.iter().map(move |g| Source::Geography(dns, g, config)))
}

fn fixed(config: &Config) -> impl Iterator<Item = Source<'_>> + Clone {
    config.settings.dns.iter().flat_map(|dns| dns.records.iter().map(Source::Fixed))
}

/// The one of this name.
pub(crate) fn source<'l>(config: &'l Config, name: &ServiceId) -> Option<Source<'l>> {
    let of_zone = || fixed(config).chain(geography(config)).find(|source| source.name() == name);
    config.services.get(name).map(Source::Service).or_else(of_zone)
}

/// By what they are known by in DNS.
pub(crate) fn by_record<'l>(
    sources: impl IntoIterator<Item = Source<'l>>,
) -> BTreeMap<RecordKey, Source<'l>> {
    sources.into_iter().filter_map(|source| Some((source.key()?, source))).collect()
}

/// The targets of all of them, as they stood at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Targets {
    pub(crate) traffic: Shared<BTreeMap<ServiceId, TrafficState>>,
    pub(crate) fixed: Shared<BTreeMap<ServiceId, TrafficState>>,
}

impl Targets {
    pub(crate) fn of(&self, source: Source<'_>) -> Option<&TrafficState> {
        match source {
            Source::Service(service) => self.traffic.get(&service.name),
            Source::Fixed(_) | Source::Geography(..) => self.fixed.get(source.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::{Bed, PlayedDns, get};
    use crate::zone::tests::{asked, of, published, reconcile, record};
    use drover_model::Span;
    use drover_model::api::{Page, PublicationView, RecordState};
    use drover_model::config::{ClientNetwork, FixedType, Outside};
    use std::sync::Arc;

    fn spf(values: &[&str]) -> FixedRecord {
        FixedRecord {
            id: ServiceId::new("spf").unwrap(),
            name: "_spf.drover.test".into(),
            record_type: FixedType::Txt,
            ttl: Span::from_hours(1),
            values: values.iter().map(|v| (*v).to_owned()).collect(),
        }
    }

    /// The zone has this record now.
    async fn configured(bed: &Bed, values: &[&str]) {
        bed.rewrite(|c| c.settings.dns.as_mut().unwrap().records = vec![spf(values)]);
        bed.c.reload_now().await.unwrap();
        reconcile(bed).await;
    }

    async fn with_record() -> (Bed, Arc<PlayedDns>) {
        let (bed, dns) = published().await;
        configured(&bed, &["v=spf1 -all", "other"]).await;
        (bed, dns)
    }

    #[tokio::test]
    async fn a_record_is_published_under_a_generation_as_services_are_and_has_its_history() {
        let (bed, dns) = with_record().await;
        let live = of(&dns, "_spf");
        let values: Vec<&str> = live.members.iter().map(|m| m.value.as_str()).collect();
        assert_eq!((live.rtype, live.ttl_seconds, live.generation), (RecordType::Txt, 3600, 1));
        assert_eq!((values, live.answering.answers), (vec!["v=spf1 -all", "other"], Answers::All));
        assert_eq!(record(&bed, "spf").await.state, RecordState::InLine);
        configured(&bed, &["v=spf1 a -all"]).await;
        assert_eq!((of(&dns, "_spf").generation, of(&dns, "_spf").members.len()), (2, 1));
        configured(&bed, &["v=spf1 a -all"]).await;
        assert_eq!(of(&dns, "_spf").generation, 2, "nothing changed");
        bed.c.history.flush().await.unwrap();
        let (status, _, text) = get(bed.serve().await, "/v1/dns/history?service=spf").await;
        assert_eq!(status, 200, "{text}");
        let told: Page<PublicationView> = serde_json::from_str(&text).unwrap();
        let generations: Vec<u64> = told.items.iter().map(|p| p.after.generation).collect();
        assert_eq!((generations, told.items[0].record_type.as_str()), (vec![2, 1], "TXT"));
        // Its target is no service's: no plan and no status has it.
        assert!(!bed.c.live().traffic.contains_key(&spf(&[]).id));
    }

    #[tokio::test]
    async fn what_a_hand_made_of_a_record_stays_until_it_is_adopted() {
        let (bed, dns) = with_record().await;
        let mut by_hand = of(&dns, "_spf");
        by_hand.members[0].value = "v=spf1 +all".into();
        dns.change_by_hand(by_hand.clone());
        reconcile(&bed).await;
        let shown = record(&bed, "spf").await;
        assert_eq!((of(&dns, "_spf"), shown.state), (by_hand, RecordState::Drifted));
        bed.c.adopt(&asked("spf", shown.live)).await.unwrap();
        let after = of(&dns, "_spf");
        assert_eq!((after.members[0].value.as_str(), after.generation), ("v=spf1 -all", 2));
        assert_eq!(record(&bed, "spf").await.state, RecordState::InLine);
    }

    #[tokio::test]
    async fn where_clients_are_is_published_with_where_the_regions_are() {
        let (bed, dns) = published().await;
        let network = |cidr: &str| ClientNetwork {
            cidr: cidr.parse().unwrap(),
            prefer: vec!["eu-west".parse().unwrap()],
            jurisdiction: Some("EU".into()),
        };
        let networks = vec![network("203.0.113.0/24")];
        let geography = Geography { id: "geography".parse().unwrap(), networks, outside: Outside::Answer };
        let checkout = ServiceId::new("checkout").unwrap();
        bed.rewrite(|c| {
            c.settings.dns.as_mut().unwrap().geography = Some(geography.clone());
            c.services.get_mut(&checkout).unwrap().answering.draws = Draws::Nearest;
        });
        bed.c.reload_now().await.unwrap();
        let is_told = || {
            let dns = bed.c.status_view().dns;
            dns.iter().any(|d| d.behind.iter().any(|why| why.contains("answered as nearest without it")))
        };
        reconcile(&bed).await;
        assert!(is_told(), "it was not there when this pass began");
        reconcile(&bed).await;
        assert!(!is_told());
        let zone = bed.c.loaded().config.settings.dns.clone().unwrap().zone;
        let live = dns.live().into_iter().find(|s| s.rtype == RecordType::Geography).unwrap();
        assert_eq!((live.name, live.generation, live.members.len()), (zone, 1, 3));
        assert_eq!(live.members[0].value, r#"{"outside":"answer"}"#);
        assert!(live.members[1].value.contains(r#""eu-west":"EU""#), "{}", live.members[1].value);
        assert_eq!(record(&bed, "geography").await.state, RecordState::InLine);
        let first = |config: &Config| sources(config).next().map(|s| s.name().clone());
        assert_eq!(
            first(&bed.c.loaded().config).unwrap().as_str(),
            "geography",
            "before who is answered by it"
        );
        // A region that lies elsewhere now is another geography.
        bed.rewrite(|c| c.regions.values_mut().for_each(|r| r.location.jurisdiction = "EU".into()));
        bed.c.reload_now().await.unwrap();
        reconcile(&bed).await;
        let live = dns.live().into_iter().find(|s| s.rtype == RecordType::Geography).unwrap();
        assert_eq!(live.generation, 2);
    }

    #[tokio::test]
    async fn its_target_outlives_the_coordinator() {
        let (bed, _dns) = with_record().await;
        configured(&bed, &["v=spf1 a -all"]).await;
        let kept = bed.c.db.list::<TrafficState>(keys::FIXED).await.unwrap();
        let told: Vec<_> = kept.iter().map(|(key, target)| (key.as_str(), target.generation.0)).collect();
        assert_eq!(told, [("fixed/spf", 2)]);
    }
}
