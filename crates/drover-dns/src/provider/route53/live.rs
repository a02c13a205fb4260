//! A weighted record set as a hosted zone shows it, and what a change makes of it. Pure.
//!
//! A set identifier is `REGION/GENERATION/CHECK`. The check is a sum over the whole set as drover published it: where it does
//! not hold any more, or the identifiers don't agree, somebody has changed the set by hand (decision 0015).

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_route53::types::{self, Change, ChangeAction, ResourceRecordSet, RrType};
use drover_model::Epoch;
use drover_model::config::ALIAS_TTL;

use super::zone::{Zone, record_set, text, txt};
use crate::provider::marks::{FOREIGN, OWNER_HEAD, registry_name};
use crate::provider::wanted::Shown;
use crate::zone::{AliasTarget, Answering, DnsName, InvalidName, Member, RecordKey, RecordSet, RecordType};

/// The longest set identifier that Route 53 takes.
const IDENTIFIER_CHARS_MAX: usize = 128;
/// What a record shows that has no value of its own.
const NO_VALUE: &str = "(an alias, or several values)";

/// Health checks by the region whose records follow them.
pub(super) type Checks = BTreeMap<String, String>;

/// Which checks records are to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Follow {
    /// Not known yet: those that they do.
    AsTheyDo,
    /// These; whoever has none follows none.
    These {
        checks: Checks,
        /// But of these regions, as they do: of one that is out, or whose check can't be made now, nothing is changed.
        but: BTreeSet<String>,
    },
}

/// What stands for one key.
pub(super) struct Live<'z> {
    pub(super) key: RecordKey,
    pub(super) sets: &'z [ResourceRecordSet],
    registry_name: DnsName,
    registry: &'z [ResourceRecordSet],
    beside: Option<&'z str>,
}

/// Why a set can't be expressed in Route 53.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Inexpressible {
    #[error("the set identifier \"{0}\" is longer than {IDENTIFIER_CHARS_MAX} characters")]
    Identifier(String),
    #[error("the owner \"{0}\" does not fit into one string of a TXT record")]
    Owner(String),
    #[error("records of type {0} stand at the name, beside which it can't: remove them first")]
    Beside(String),
    #[error("the API's own model refuses it: {0}")]
    Model(String),
}

impl<'z> Live<'z> {
    pub(super) fn of(zone: &'z Zone, key: &RecordKey) -> Result<Self, InvalidName> {
        let registry_name = registry_name(key)?;
        Ok(Self {
            sets: zone.of(key),
            registry: zone.at(&registry_name, RrType::Txt.as_str()),
            beside: zone.beside(key),
            key: key.clone(),
            registry_name,
        })
    }

    /// What is live, as one document. Nothing: there is no such set.
    pub(super) fn shown(&self) -> Option<Shown> {
        if self.sets.is_empty() && self.registry.is_empty() {
            return None;
        }
        let owner = text(self.registry).and_then(|text| text.strip_prefix(OWNER_HEAD).map(str::to_owned));
        let labels: Vec<Option<Label<'_>>> = self.sets.iter().map(Label::of).collect();
        let mut members: Vec<Member> =
            self.sets.iter().zip(&labels).map(|(set, label)| member(set, label.as_ref())).collect();
        members.sort_by(|a, b| a.set_id.cmp(&b.set_id));
        let newest = labels.iter().flatten().map(|label| label.generation).max();
        let set = RecordSet {
            name: self.key.name.as_str().to_owned(),
            rtype: self.key.rtype,
            ttl_seconds: self.ttl_seconds(),
            members,
            generation: newest.filter(|_| owner.is_some()).unwrap_or_default(),
            // Which of the zone's commands wrote it is not kept.
            epoch: Epoch { incarnation: 0, counter: 0 },
            owner: owner.unwrap_or_else(|| FOREIGN.to_owned()),
            note: String::new(),
            answering: Answering::USUAL,
        };
        let check = check(&set, &self.checks());
        let is_as_written = |(one, label): (&ResourceRecordSet, &Option<Label<'_>>)| {
            let label_holds =
                label.as_ref().is_some_and(|l| l.generation == set.generation && l.check == check);
            let is_kept_as_long = ttl_seconds(one) == Some(set.ttl_seconds) || one.alias_target().is_some();
            label_holds && is_plain(one) && is_kept_as_long
        };
        let is_whole = !self.sets.is_empty() && self.sets.iter().zip(&labels).all(is_as_written);
        let is_changed_by_hand = set.owner != FOREIGN && !is_whole;
        Some(Shown { set, is_changed_by_hand })
    }

    /// The checks that its records follow, as far as they are drover's.
    fn checks(&self) -> Checks {
        let one = |set: &ResourceRecordSet| {
            Some((Label::of(set)?.region.to_owned(), set.health_check_id()?.to_owned()))
        };
        self.sets.iter().filter_map(one).collect()
    }

    fn checks_to_follow(&self, follow: &Follow) -> Checks {
        match follow {
            Follow::AsTheyDo => self.checks(),
            Follow::These { checks, but } => {
                let is_kept = |region: &String| but.contains(region);
                let standing = self.checks().into_iter().filter(|(region, _)| is_kept(region));
                let next = checks.iter().filter(|(region, _)| !is_kept(region));
                standing.chain(next.map(|(region, id)| (region.clone(), id.clone()))).collect()
            }
        }
    }

    /// The changes that have its records follow other checks, and say the same otherwise. Nothing: they follow these, or they are not as
    /// drover wrote them.
    pub(super) fn rewritten(&self, follow: &Follow) -> Result<Option<Vec<Change>>, Inexpressible> {
        let Some(Shown { set, is_changed_by_hand: false }) = self.shown() else { return Ok(None) };
        let follows = self.checks();
        let mut wanted = self.checks_to_follow(follow);
        wanted.retain(|region, _| set.members.iter().any(|member| member.set_id == *region));
        if set.owner == FOREIGN || follows == wanted {
            return Ok(None);
        }
        self.changes(Some(&set), follow).map(Some)
    }

    /// Aliases have no time of their own: of a set of them alone it is the one that their targets have.
    fn ttl_seconds(&self) -> u32 {
        let of_aliases = || {
            let is_any = self.sets.iter().any(|set| set.alias_target().is_some());
            is_any.then_some(u32::try_from(ALIAS_TTL.as_millis() / 1_000).unwrap_or_default())
        };
        self.sets.iter().find_map(ttl_seconds).or_else(of_aliases).unwrap_or_default()
    }

    /// The changes that make it `wanted`: everything that is there goes, and what shall be comes. The registry stays as it
    /// is where it says so already.
    pub(super) fn changes(
        &self,
        wanted: Option<&RecordSet>,
        follow: &Follow,
    ) -> Result<Vec<Change>, Inexpressible> {
        if let (Some(beside), true) = (self.beside, wanted.is_some()) {
            return Err(Inexpressible::Beside(beside.to_owned()));
        }
        let (mut from, mut to) = (self.sets.to_vec(), Vec::new());
        let mut registry = None;
        if let Some(set) = wanted {
            let text = format!("{OWNER_HEAD}{}", set.owner);
            let record = txt(&self.registry_name, &text);
            registry = Some(record.ok_or_else(|| Inexpressible::Owner(set.owner.clone()))?);
            to = records(&self.key, set, &self.checks_to_follow(follow))?;
        }
        if !registry.iter().map(values).eq(self.registry.iter().map(values)) {
            from.extend_from_slice(self.registry);
            to.extend(registry);
        }
        let deletes = from.into_iter().map(|set| (ChangeAction::Delete, set));
        let creates = to.into_iter().map(|set| (ChangeAction::Create, set));
        deletes.chain(creates).map(|(action, set)| change(action, set)).collect()
    }
}

pub(super) fn change(action: ChangeAction, set: ResourceRecordSet) -> Result<Change, Inexpressible> {
    let built = Change::builder().action(action).resource_record_set(set).build();
    built.map_err(|e| Inexpressible::Model(e.to_string()))
}

/// A set identifier of drover's.
struct Label<'s> {
    region: &'s str,
    generation: u64,
    check: u32,
}

impl<'s> Label<'s> {
    fn of(set: &'s ResourceRecordSet) -> Option<Self> {
        let mut parts = set.set_identifier()?.rsplitn(3, '/');
        let (check, generation, region) = (parts.next()?, parts.next()?, parts.next()?);
        let check = u32::from_str_radix(check, 16).ok()?;
        Some(Self { region, generation: generation.parse().ok()?, check })
    }
}

/// The weighted records of a set, one for each member.
fn records(
    key: &RecordKey,
    set: &RecordSet,
    checks: &Checks,
) -> Result<Vec<ResourceRecordSet>, Inexpressible> {
    let check = check(set, checks);
    let record = |member: &Member| {
        let identifier = format!("{}/{}/{check:08x}", member.set_id, set.generation);
        if identifier.chars().count() > IDENTIFIER_CHARS_MAX {
            return Err(Inexpressible::Identifier(identifier));
        }
        let weighted = match AliasTarget::parse(&member.value) {
            None => record_set(&key.name, on_the_wire(key.rtype), set.ttl_seconds, &member.value),
            Some(to) => ResourceRecordSet::builder()
                .name(format!("{}.", key.name))
                .r#type(on_the_wire(key.rtype))
                .alias_target(alias_target(&to)?),
        };
        let weighted = weighted.set_identifier(identifier).weight(i64::from(member.weight));
        let weighted = weighted.set_health_check_id(checks.get(&member.set_id).cloned());
        weighted.build().map_err(|e| Inexpressible::Model(e.to_string()))
    };
    set.members.iter().map(record).collect()
}

/// A sum over what a set answers, whose it is, which health checks it follows, and its version; whatever the order of its members.
fn check(set: &RecordSet, checks: &Checks) -> u32 {
    let member = |m: &Member| {
        let follows = checks.get(&m.set_id).map_or_else(String::new, |id| format!(" follows {id}"));
        format!("{} {} {}{follows}", m.set_id, m.value, m.weight)
    };
    let mut members: Vec<String> = set.members.iter().map(member).collect();
    members.sort_unstable();
    let RecordSet { name, rtype, ttl_seconds, generation, owner, .. } = set;
    let text = format!("{name} {rtype} {ttl_seconds} {generation}\n{owner}\n{}", members.join("\n"));
    crc32c::crc32c(text.as_bytes())
}

fn member(set: &ResourceRecordSet, label: Option<&Label<'_>>) -> Member {
    let value = match set.resource_records() {
        [one] => spelled(set.r#type(), one.value()),
        _ => set.alias_target().map_or_else(|| NO_VALUE.to_owned(), alias_value),
    };
    let region = label.map(|label| label.region).or(set.set_identifier());
    // A record without a weight is answered alone.
    let weight = set.weight().and_then(|weight| u16::try_from(weight).ok()).unwrap_or(1);
    Member { set_id: region.map_or_else(|| value.clone(), str::to_owned), value, weight }
}

fn alias_target(to: &AliasTarget) -> Result<types::AliasTarget, Inexpressible> {
    let target = types::AliasTarget::builder()
        .hosted_zone_id(&to.hosted_zone)
        .dns_name(format!("{}.", to.name))
        .evaluate_target_health(to.evaluates_health);
    target.build().map_err(|e| Inexpressible::Model(e.to_string()))
}

fn alias_value(to: &types::AliasTarget) -> String {
    let shown = || format!("(an alias of {})", to.dns_name());
    DnsName::parse(to.dns_name()).map_or_else(
        |_| shown(),
        |name| {
            let hosted_zone = to.hosted_zone_id().to_owned();
            AliasTarget { hosted_zone, name, evaluates_health: to.evaluate_target_health() }.to_string()
        },
    )
}

/// In the one spelling that checked sets have.
fn spelled(rtype: &RrType, value: &str) -> String {
    let spelled = match rtype {
        RrType::A => value.parse().ok().map(|address: std::net::Ipv4Addr| address.to_string()),
        RrType::Aaaa => value.parse().ok().map(|address: std::net::Ipv6Addr| address.to_string()),
        _ => DnsName::parse(value).ok().map(|name| name.as_str().to_owned()),
    };
    spelled.unwrap_or_else(|| value.to_owned())
}

/// Has it a weight, as all that drover writes?
fn is_plain(set: &ResourceRecordSet) -> bool {
    set.weight().is_some()
}

fn ttl_seconds(set: &ResourceRecordSet) -> Option<u32> {
    set.ttl().and_then(|ttl| u32::try_from(ttl).ok())
}

fn values(set: &ResourceRecordSet) -> Vec<&str> {
    set.resource_records().iter().map(|record| record.value()).collect()
}

fn on_the_wire(rtype: RecordType) -> RrType {
    RrType::from(rtype.as_str())
}
