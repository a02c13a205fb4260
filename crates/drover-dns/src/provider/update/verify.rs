//! Asks every server of the zone over DNS what it answers: the proof that a change is live.
//!
//! Such a server answers a whole set at once, so one answer shows it: exactly the values that have weight, and the time to
//! live that was asked for. The registry beside it shows the generation. Where answers are made by programs, each shows one value:
//! some are drawn, and the registry is asked before and after.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use domain::base::iana::Rtype;
use drover_model::config::{Rfc2136Dns, WeightRecords, ZoneServer};
use futures::future::join_all;

use super::exchange::Remote;
use super::live::texts;
use super::registry;
use crate::provider::drawn::OneOf;
use crate::provider::finding::{Finding, bad_rcode, invalid, sum_up};
use crate::provider::marks::registry_name;
use crate::provider::{Mismatch, ProviderError, Verification};
use crate::resolver::{Answer, QueryType, Rcode, resolve};
use crate::zone::{RecordKey, RecordSet, ValidRecordSet};

/// Between two looks at a server that still shows something else.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A zone reaches its other servers by transfers, which begin a moment after an update: what still shows something else is
/// asked again until the time for one exchange is over.
pub(super) async fn verify(
    options: &Rfc2136Dns,
    key: &RecordKey,
    expected: Option<&RecordSet>,
) -> Result<Verification, ProviderError> {
    // Values as servers write them.
    let expected = expected.map(|set| ValidRecordSet::new(set.clone())).transpose().map_err(invalid)?;
    let expected = expected.as_ref().map(ValidRecordSet::document);
    let findings = options.servers.iter().map(|server| settled(server, options, key, expected));
    let names = options.servers.iter().map(|server| server.name.clone());
    sum_up(names.zip(join_all(findings).await))
}

async fn settled(
    server: &ZoneServer,
    options: &Rfc2136Dns,
    key: &RecordKey,
    expected: Option<&RecordSet>,
) -> Finding {
    let began = Instant::now();
    loop {
        let finding = inspect(server, options, key, expected).await;
        let is_other = matches!(finding, Finding::Mismatch(_));
        if !is_other || server.query == options.primary || began.elapsed() > options.timeout.to_duration() {
            return finding;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn inspect(
    server: &ZoneServer,
    options: &Rfc2136Dns,
    key: &RecordKey,
    expected: Option<&RecordSet>,
) -> Finding {
    if let Some(WeightRecords::Lua) = options.weights {
        return inspect_programs(server, options, key, expected).await.unwrap_or_else(Finding::Missing);
    }
    let answer =
        match resolve(server.query, &key.name, QueryType::from(key.rtype), options.timeout.to_duration())
            .await
        {
            Ok(answer) => answer,
            Err(error) => return Finding::Missing(error.to_string()),
        };
    if let Err(found) = check(&answer, expected) {
        return Finding::Mismatch(found);
    }
    let Some(expected) = expected else { return Finding::Verified };
    match generation(server, options, key).await {
        Ok(found) if found == Some(expected.generation) => Finding::Verified,
        Ok(found) => Finding::Mismatch(Mismatch::Generation { expected: expected.generation, found }),
        Err(reason) => Finding::Missing(reason),
    }
}

async fn inspect_programs(
    server: &ZoneServer,
    options: &Rfc2136Dns,
    key: &RecordKey,
    expected: Option<&RecordSet>,
) -> Result<Finding, String> {
    let other = async || match expected {
        None => Ok(None),
        Some(set) => {
            let found = generation(server, options, key).await?;
            let mismatch = Mismatch::Generation { expected: set.generation, found };
            Ok::<_, String>((found != Some(set.generation)).then_some(Finding::Mismatch(mismatch)))
        }
    };
    if let Some(found) = other().await? {
        return Ok(found);
    }
    let drawn = OneOf::of(expected).drawn(server.query, key, options.timeout.to_duration()).await?;
    Ok(other().await?.unwrap_or(drawn))
}

/// The generation that a server shows beside the set. Asked over TCP, for a registry may be long.
async fn generation(
    server: &ZoneServer,
    options: &Rfc2136Dns,
    key: &RecordKey,
) -> Result<Option<u64>, String> {
    let name = registry_name(key).map_err(|e| e.to_string())?;
    let asked = Remote { server: server.query, timeout: options.timeout.to_duration() };
    let found = asked.read_one((name, Rtype::TXT)).await.map_err(|e| drover_model::chain(&e))?;
    let strings = texts(&found).unwrap_or_default();
    Ok(registry::read(key, &strings).map(|set| set.generation))
}

fn check(answer: &Answer, expected: Option<&RecordSet>) -> Result<(), Mismatch> {
    if !matches!(answer.rcode, Rcode::NOERROR | Rcode::NXDOMAIN) || !answer.is_authoritative {
        return Err(bad_rcode(answer));
    }
    let found: BTreeSet<&str> = answer.values.iter().map(String::as_str).collect();
    let wanted: BTreeSet<&str> =
        expected.iter().flat_map(|set| registry::answered(set)).map(|m| m.value.as_str()).collect();
    if let Some(value) = found.difference(&wanted).next() {
        return Err(Mismatch::Value { value: (*value).to_owned() });
    }
    if found.len() != wanted.len() {
        return Err(Mismatch::Missing {
            value: wanted.difference(&found).next().copied().unwrap_or_default().to_owned(),
        });
    }
    match expected {
        Some(set) if set.ttl_seconds != answer.ttl_seconds => {
            Err(Mismatch::Ttl { expected_seconds: set.ttl_seconds, found_seconds: answer.ttl_seconds })
        }
        _ => Ok(()),
    }
}
