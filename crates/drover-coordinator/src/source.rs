//! What record sets are made from: services, whose traffic moves, and records of the zone that stay as they are configured. Both
//! have a target with a generation, and take the same way to the servers.

use crate::db::keys;
use crate::traffic::{OWNER, record_key, record_set, seconds};
use drover_dns::zone::{Answering, Answers, DnsName, Draws, Member, RecordKey, RecordSet};
use drover_model::config::{Config, FixedRecord, Service};
use drover_model::traffic::{TargetOrigin, TrafficState};
use drover_model::{Epoch, Generation, ServiceId, Shared, Timestamp, Weights};
use std::collections::BTreeMap;

/// What a record set is made from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Source<'l> {
    Service(&'l Service),
    Fixed(&'l FixedRecord),
}

impl<'l> Source<'l> {
    /// What drover and its users call it.
    pub(crate) const fn name(self) -> &'l ServiceId {
        match self {
            Self::Service(service) => &service.name,
            Self::Fixed(record) => &record.id,
        }
    }

    /// What it is known by in DNS; nothing when its name is none.
    pub(crate) fn key(self) -> Option<RecordKey> {
        match self {
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
            Self::Fixed(record) => fixed_set(record, target, epoch),
        }
    }

    /// Where its target is kept in the store.
    pub(crate) fn target_path(self) -> String {
        match self {
            Self::Service(service) => keys::traffic(&service.name),
            Self::Fixed(record) => keys::fixed(&record.id),
        }
    }
}

/// All values, each once.
fn fixed_set(record: &FixedRecord, target: &TrafficState, epoch: Epoch) -> RecordSet {
    // No region's name looks like it.
    let member = |(place, value): (usize, &String)| Member {
        set_id: format!("#{}", place + 1),
        value: value.clone(),
        weight: 1,
    };
    RecordSet {
        name: record.name.clone(),
        rtype: record.record_type.into(),
        ttl_seconds: seconds(record.ttl),
        members: record.values.iter().enumerate().map(member).collect(),
        generation: target.generation.0,
        epoch,
        owner: OWNER.to_owned(),
        note: String::new(),
        answering: Answering { answers: Answers::All, draws: Draws::Anew },
    }
}

/// The first target of a record that no traffic moves: it has no regions.
pub(crate) fn first_target(record: &FixedRecord, now: Timestamp) -> TrafficState {
    TrafficState {
        service: record.id.clone(),
        generation: Generation(1),
        shares: BTreeMap::new(),
        weights: Weights::default(),
        changed_at: now,
        origin: TargetOrigin::Configuration,
        decided: Generation::default(),
    }
}

/// All that a configuration has: services first, in the order of their names.
pub(crate) fn sources(config: &Config) -> impl Iterator<Item = Source<'_>> + Clone {
    let fixed = config.settings.dns.iter().flat_map(|dns| &dns.records);
    config.services.values().map(Source::Service).chain(fixed.map(Source::Fixed))
}

/// The one of this name.
pub(crate) fn source<'l>(config: &'l Config, name: &ServiceId) -> Option<Source<'l>> {
    let fixed = || config.settings.dns.iter().flat_map(|dns| &dns.records).find(|r| r.id == *name);
    config.services.get(name).map(Source::Service).or_else(|| fixed().map(Source::Fixed))
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
            Source::Fixed(record) => self.fixed.get(&record.id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::{Bed, PlayedDns, get};
    use crate::zone::tests::{asked, of, published, reconcile, record};
    use drover_dns::zone::RecordType;
    use drover_model::Span;
    use drover_model::api::{Page, PublicationView, RecordState};
    use drover_model::config::FixedType;
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
    async fn its_target_outlives_the_coordinator() {
        let (bed, _dns) = with_record().await;
        configured(&bed, &["v=spf1 a -all"]).await;
        let kept = bed.c.db.list::<TrafficState>(keys::FIXED).await.unwrap();
        let told: Vec<_> = kept.iter().map(|(key, target)| (key.as_str(), target.generation.0)).collect();
        assert_eq!(told, [("fixed/spf", 2)]);
    }
}
