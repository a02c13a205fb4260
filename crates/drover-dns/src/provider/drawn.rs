//! Answers of a server that gives one value at a time, drawn to see that no value is among them that must not be.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::Mismatch;
use super::finding::{Finding, bad_rcode};
use crate::resolver::{Answer, QueryType, Rcode, Resolver};
use crate::zone::{AliasTarget, RecordKey, RecordSet};

/// Answers that are drawn of each server. Which version is live is proven by what stands beside it; a value that must not be
/// answered at all would have had at least one part in 255, and in most cases one in ten: 16 draws miss that once in five times.
pub(crate) const DRAWS: u32 = 16;

/// What must be answered, one at a time; no values: nothing.
pub(crate) struct OneOf {
    pub(crate) values: BTreeSet<String>,
    /// Members without weight. Beside an alias they alone can be told from its target's answers.
    pub(crate) drained: BTreeSet<String>,
    ttl_seconds: u32,
    /// Among them is an alias, whose answers are its target's: nobody here can know them, only that there are some.
    pub(crate) has_alias: bool,
}

impl OneOf {
    pub(crate) fn of(set: Option<&RecordSet>) -> Self {
        let of_weight = |is_meant: fn(u16) -> bool| {
            let members = set.into_iter().flat_map(|set| &set.members);
            members.filter(move |m| is_meant(m.weight)).map(|m| m.value.clone())
        };
        let (aliases, values): (BTreeSet<String>, BTreeSet<String>) = of_weight(|weight| weight > 0)
            .partition(|value| set.is_some_and(|set| AliasTarget::of(set.rtype, value).is_some()));
        // Two regions may have one address.
        let drained = of_weight(|weight| weight == 0).filter(|value| !values.contains(value)).collect();
        let ttl_seconds = set.map_or(0, |set| set.ttl_seconds);
        Self { values, drained, has_alias: !aliases.is_empty(), ttl_seconds }
    }

    /// Draws from one server; the error is why it could not be asked.
    pub(super) async fn drawn(
        &self,
        server: SocketAddr,
        key: &RecordKey,
        timeout: Duration,
    ) -> Result<Finding, String> {
        let draws = if self.values.is_empty() && !self.has_alias { 1 } else { DRAWS };
        draw(draws, server, key, timeout, |answer| self.contradicted_by(answer)).await
    }

    fn contradicted_by(&self, answer: &Answer) -> Option<Mismatch> {
        let is_proper = matches!(answer.rcode, Rcode::NOERROR | Rcode::NXDOMAIN) && answer.is_authoritative;
        if !is_proper {
            return Some(bad_rcode(answer));
        }
        if let Some(value) = answer.values.iter().find(|value| self.drained.contains(*value)) {
            return Some(Mismatch::Value { value: value.clone() });
        }
        let is_known = answer.values.iter().any(|value| self.values.contains(value));
        match answer.values.as_slice() {
            [] if self.values.is_empty() && !self.has_alias => None,
            [_, ..] if self.has_alias && !is_known => None,
            [value] if !self.values.contains(value) => Some(Mismatch::Value { value: value.clone() }),
            [_] if answer.ttl_seconds != self.ttl_seconds => {
                Some(Mismatch::Ttl { expected_seconds: self.ttl_seconds, found_seconds: answer.ttl_seconds })
            }
            [_] => None,
            values => Some(Mismatch::Count { expected: 1, found: values.len() }),
        }
    }
}

/// Draws so many answers of one server, to see that none of these values is among them; the error is why it could not be asked.
pub(super) async fn none_of(
    values: &BTreeSet<String>,
    draws: u32,
    server: SocketAddr,
    key: &RecordKey,
    timeout: Duration,
) -> Result<Finding, String> {
    draw(draws, server, key, timeout, |answer| {
        // No answer is no proof that another is given.
        if answer.rcode != Rcode::NOERROR || !answer.is_authoritative || answer.values.is_empty() {
            return Some(bad_rcode(answer));
        }
        let found = answer.values.iter().find(|value| values.contains(*value));
        found.map(|value| Mismatch::Value { value: value.clone() })
    })
    .await
}

/// Draws so many answers of one server, up to the first that must not be.
async fn draw(
    draws: u32,
    server: SocketAddr,
    key: &RecordKey,
    timeout: Duration,
    contradiction: impl Fn(&Answer) -> Option<Mismatch>,
) -> Result<Finding, String> {
    let told = |e: &dyn std::error::Error| drover_model::chain(e);
    let mut resolver = Resolver::connect(server).await.map_err(|e| told(&e))?;
    for _ in 0..draws {
        let asked = resolver.resolve(&key.name, QueryType::from(key.rtype), timeout);
        let answer = asked.await.map_err(|e| told(&e))?;
        if let Some(found) = contradiction(&answer) {
            return Ok(Finding::Mismatch(found));
        }
    }
    Ok(Finding::Verified)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::{Answering, Member, RecordType};
    use drover_model::Epoch;

    const ALIAS: &str = "alias lb.example.org (Z1)";

    fn contradicted_by(members: &[(&str, u16)], values: &[&str], ttl_seconds: u32) -> Option<Mismatch> {
        let member = |(value, weight): &(&str, u16)| Member {
            set_id: (*value).to_owned(),
            value: (*value).to_owned(),
            weight: *weight,
        };
        let set = RecordSet {
            name: "checkout.example.net".to_owned(),
            rtype: RecordType::A,
            ttl_seconds: 30,
            members: members.iter().map(member).collect(),
            generation: 1,
            epoch: Epoch { incarnation: 1, counter: 1 },
            owner: String::new(),
            note: String::new(),
            answering: Answering::USUAL,
        };
        let values = values.iter().map(|v| (*v).to_owned()).collect();
        let answer = Answer { rcode: Rcode::NOERROR, values, ttl_seconds, is_authoritative: true };
        OneOf::of(Some(&set)).contradicted_by(&answer)
    }

    #[test]
    fn a_drained_address_is_not_taken_for_the_answer_of_an_alias() {
        let drained = || Some(Mismatch::Value { value: "192.0.2.3".to_owned() });
        let beside_alias = [(ALIAS, 50), ("192.0.2.2", 50), ("192.0.2.3", 0)];
        assert_eq!(contradicted_by(&beside_alias, &["192.0.2.3"], 30), drained());
        assert_eq!(contradicted_by(&beside_alias, &["198.51.100.1", "192.0.2.3"], 60), drained());
        assert_eq!(contradicted_by(&[(ALIAS, 100), ("192.0.2.3", 0)], &["192.0.2.3"], 30), drained());
        let shared = [(ALIAS, 50), ("192.0.2.3", 50), ("192.0.2.3", 0)];
        assert_eq!(contradicted_by(&shared, &["192.0.2.3"], 30), None);
    }

    #[test]
    fn beside_an_alias_a_known_address_has_its_ttl_and_comes_alone() {
        let members = [(ALIAS, 50), ("192.0.2.2", 50)];
        assert_eq!(contradicted_by(&members, &["192.0.2.2"], 30), None);
        let ttl = Mismatch::Ttl { expected_seconds: 30, found_seconds: 60 };
        assert_eq!(contradicted_by(&members, &["192.0.2.2"], 60), Some(ttl));
        let count = Some(Mismatch::Count { expected: 1, found: 2 });
        assert_eq!(contradicted_by(&members, &["192.0.2.2", "198.51.100.1"], 30), count);
        assert_eq!(contradicted_by(&members, &["198.51.100.1", "198.51.100.2"], 60), None);
        assert_eq!(contradicted_by(&members, &[], 30), Some(Mismatch::Count { expected: 1, found: 0 }));
    }
}
