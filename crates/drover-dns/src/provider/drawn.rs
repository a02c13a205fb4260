//! Answers of a server that gives one value at a time, drawn to see that no value is among them that must not be.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::Mismatch;
use super::finding::{Finding, bad_rcode};
use crate::resolver::{Answer, QueryType, Rcode, Resolver};
use crate::zone::{AliasTarget, RecordKey, RecordSet};

/// Answers that are drawn of each server. Which version is live is proven by what stands beside it; a value that must not be
/// answered at all would have had at least one part in 255.
const DRAWS: u32 = 16;

/// What must be answered, one at a time; no values: nothing.
pub(super) struct OneOf {
    values: BTreeSet<String>,
    ttl_seconds: u32,
    /// Among them is an alias, whose answers are its target's: nobody here can know them, only that there are some.
    has_alias: bool,
}

impl OneOf {
    pub(super) fn of(set: Option<&RecordSet>) -> Self {
        let with_weight = set.into_iter().flat_map(|set| &set.members).filter(|m| m.weight > 0);
        let (aliases, values): (BTreeSet<String>, BTreeSet<String>) =
            with_weight.map(|m| m.value.clone()).partition(|value| AliasTarget::parse(value).is_some());
        Self { values, has_alias: !aliases.is_empty(), ttl_seconds: set.map_or(0, |set| set.ttl_seconds) }
    }

    /// Draws from one server; the error is why it could not be asked.
    pub(super) async fn drawn(
        &self,
        server: SocketAddr,
        key: &RecordKey,
        timeout: Duration,
    ) -> Result<Finding, String> {
        let told = |e: &dyn std::error::Error| drover_model::chain(e);
        let mut resolver = Resolver::connect(server).await.map_err(|e| told(&e))?;
        let draws = if self.values.is_empty() && !self.has_alias { 1 } else { DRAWS };
        for _ in 0..draws {
            let asked = resolver.resolve(&key.name, QueryType::from(key.rtype), timeout);
            let answer = asked.await.map_err(|e| told(&e))?;
            if let Some(found) = self.contradicted_by(&answer) {
                return Ok(Finding::Mismatch(found));
            }
        }
        Ok(Finding::Verified)
    }

    fn contradicted_by(&self, answer: &Answer) -> Option<Mismatch> {
        let is_proper = matches!(answer.rcode, Rcode::NOERROR | Rcode::NXDOMAIN) && answer.is_authoritative;
        match answer.values.as_slice() {
            _ if !is_proper => Some(bad_rcode(answer)),
            [] if self.values.is_empty() && !self.has_alias => None,
            [_, ..] if self.has_alias => None,
            [value] if !self.values.contains(value) => Some(Mismatch::Value { value: value.clone() }),
            [_] if answer.ttl_seconds != self.ttl_seconds => {
                Some(Mismatch::Ttl { expected_seconds: self.ttl_seconds, found_seconds: answer.ttl_seconds })
            }
            [_] => None,
            values => Some(Mismatch::Count { found: values.len() }),
        }
    }
}
