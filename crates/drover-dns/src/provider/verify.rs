//! Asks instances over DNS what they answer: the proof that a change is live.
//!
//! The generation is asked before and after the draws: only if it is the expected one both times were the
//! draws made from the expected set.

use std::collections::BTreeSet;

use futures::future::join_all;

use super::embedded::{EmbeddedOptions, Instance};
use super::finding::{Finding, bad_rcode, invalid, sum_up};
use super::{Mismatch, ProviderError, Verification};
use crate::resolver::{Answer, QueryType, Rcode, ResolveError, Resolver};
use crate::zone::{DnsName, Draws, GENERATION_LABEL, RecordKey, RecordSet, ValidRecordSet};

impl From<Mismatch> for Finding {
    fn from(mismatch: Mismatch) -> Self {
        Self::Mismatch(mismatch)
    }
}

impl From<ResolveError> for Finding {
    fn from(error: ResolveError) -> Self {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        Self::Missing(format!("{error}{}", cause.unwrap_or_default()))
    }
}

/// What must be answered.
struct Expected {
    generation: u64,
    ttl_seconds: u32,
    ttl_seconds_min: u32,
    /// The values with weight.
    values: BTreeSet<String>,
    /// So many of them in one answer.
    count: usize,
    /// To be refused is right, too: it depends on where one asks from.
    may_refuse: bool,
    generation_name: DnsName,
}

pub(super) async fn verify(
    instances: &[Instance],
    options: &EmbeddedOptions,
    key: &RecordKey,
    expected: Option<&RecordSet>,
) -> Result<Verification, ProviderError> {
    let expected = expected.map(|set| Expected::new(key, set, options)).transpose()?;
    let findings = instances.iter().map(|instance| inspect(instance, options, key, expected.as_ref()));
    let names = instances.iter().map(|instance| instance.name.clone());
    sum_up(names.zip(join_all(findings).await))
}

impl Expected {
    fn new(key: &RecordKey, set: &RecordSet, options: &EmbeddedOptions) -> Result<Self, ProviderError> {
        let valid = ValidRecordSet::new(set.clone()).map_err(invalid)?;
        if valid.key() != key {
            return Err(invalid(format!("{key} can't be verified against {}", valid.key())));
        }
        let generation_name = DnsName::parse(&format!("{GENERATION_LABEL}.{}", key.name));
        let with_weight = valid.document().members.iter().filter(|member| member.weight > 0);
        let values: BTreeSet<String> = with_weight.map(|member| member.value.clone()).collect();
        Ok(Self {
            generation: set.generation,
            ttl_seconds: set.ttl_seconds,
            ttl_seconds_min: set.ttl_seconds.min(options.ttl_floor_seconds),
            count: set.answering.answers.of(values.len()),
            values,
            may_refuse: options.refuses_clients && set.answering.draws == Draws::Nearest,
            generation_name: generation_name.map_err(invalid)?,
        })
    }
}

async fn inspect(
    instance: &Instance,
    options: &EmbeddedOptions,
    key: &RecordKey,
    expected: Option<&Expected>,
) -> Finding {
    let mut resolver = match Resolver::connect(instance.query).await {
        Ok(resolver) => resolver,
        Err(error) => return Finding::Missing(error.to_string()),
    };
    let inspected = match expected {
        Some(expected) => inspect_live(&mut resolver, options, key, expected).await,
        None => inspect_absent(&mut resolver, options, key).await,
    };
    inspected.map_or_else(|finding| finding, |()| Finding::Verified)
}

async fn inspect_live(
    resolver: &mut Resolver,
    options: &EmbeddedOptions,
    key: &RecordKey,
    expected: &Expected,
) -> Result<(), Finding> {
    check_generation(resolver, options, key, expected).await?;
    for _ in 0..options.draws {
        let answer = resolver.resolve(&key.name, QueryType::from(key.rtype), options.query_timeout).await?;
        check_answer(&answer, expected)?;
    }
    check_generation(resolver, options, key, expected).await
}

async fn check_generation(
    resolver: &mut Resolver,
    options: &EmbeddedOptions,
    key: &RecordKey,
    expected: &Expected,
) -> Result<(), Finding> {
    let answer = resolver.resolve(&expected.generation_name, QueryType::Txt, options.query_timeout).await?;
    let prefix = format!("{}=", key.rtype);
    let found = answer.values.iter().find_map(|text| text.strip_prefix(&prefix)?.parse().ok());
    if found == Some(expected.generation) {
        return Ok(());
    }
    if !matches!(answer.rcode, Rcode::NOERROR | Rcode::NXDOMAIN) {
        return Err(bad_rcode(&answer).into());
    }
    Err(Mismatch::Generation { expected: expected.generation, found }.into())
}

fn check_answer(answer: &Answer, expected: &Expected) -> Result<(), Mismatch> {
    if expected.may_refuse && answer.rcode == Rcode::REFUSED {
        return Ok(());
    }
    if answer.rcode != Rcode::NOERROR || !answer.is_authoritative {
        return Err(bad_rcode(answer));
    }
    let answered: BTreeSet<&String> = answer.values.iter().collect();
    if let Some(value) = answered.iter().find(|value| !expected.values.contains(**value)) {
        return Err(Mismatch::Value { value: (*value).clone() });
    }
    let (expected_count, found) = (expected.count, answer.values.len());
    if found != expected_count || answered.len() != found {
        return Err(Mismatch::Count { expected: expected_count, found });
    }
    // It may be shorter while a failover seems near.
    if !(expected.ttl_seconds_min..=expected.ttl_seconds).contains(&answer.ttl_seconds) {
        let (expected_seconds, found_seconds) = (expected.ttl_seconds, answer.ttl_seconds);
        return Err(Mismatch::Ttl { expected_seconds, found_seconds });
    }
    Ok(())
}

async fn inspect_absent(
    resolver: &mut Resolver,
    options: &EmbeddedOptions,
    key: &RecordKey,
) -> Result<(), Finding> {
    let answer = resolver.resolve(&key.name, QueryType::from(key.rtype), options.query_timeout).await?;
    if !matches!(answer.rcode, Rcode::NOERROR | Rcode::NXDOMAIN) || !answer.is_authoritative {
        return Err(bad_rcode(&answer).into());
    }
    match answer.values.into_iter().next() {
        Some(value) => Err(Mismatch::Value { value }.into()),
        None => Ok(()),
    }
}
