//! Asks servers the questions of a [`QuestionList`](drover_model::sight::QuestionList), as a vantage does: which version each has, and
//! that no value is answered which must not be.
//!
//! It asks over UDP and over TCP, because what stands between a client and a server may treat the two differently.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use drover_model::config::{self, DnsServers, DnsSettings, ZoneServer};
use drover_model::sight::{DnsQuestion, GenerationMark, MarkForm, Seen, ServerSight, Sight};
use futures::future::join_all;

use crate::provider::drawn::{DRAWS, OneOf};
use crate::provider::{Registered, registry_name};
use crate::resolver::{Answer, QueryType, Rcode, ResolveError, resolve, resolve_over_tcp};
use crate::zone::{DnsName, Draws, GENERATION_LABEL, RecordKey, RecordSet, RecordType, ValidRecordSet};

/// The question that shows whether a service's `set` is answered; none where its name can't be asked for.
#[must_use]
pub fn question(id: u64, key: &RecordKey, set: &RecordSet, dns: &DnsSettings) -> Option<DnsQuestion> {
    // Values as servers write them.
    let valid = ValidRecordSet::with_aliases(set.clone()).ok()?;
    let set = valid.document();
    let OneOf { values, drained, has_alias, .. } = OneOf::of(Some(set));
    let named = |name: DnsName, form| GenerationMark {
        name: name.as_str().to_owned(),
        form,
        generation: set.generation,
    };
    let mark = match &dns.servers {
        DnsServers::Embedded(_) => {
            let name = DnsName::parse(&format!("{GENERATION_LABEL}.{}", key.name)).ok()?;
            Some(named(name, MarkForm::Counter))
        }
        DnsServers::Rfc2136(_) => Some(named(registry_name(key).ok()?, MarkForm::Registry)),
        DnsServers::Route53(_) => None,
    };
    let record_type = config::RecordType::try_from(key.rtype).ok()?;
    let name = key.name.as_str().to_owned();
    let may_refuse = set.answering.draws == Draws::Nearest && dns.refuses_clients();
    let (values, drained) = (values.into_iter().collect(), drained.into_iter().collect());
    Some(DnsQuestion { id, name, record_type, mark, values, drained, has_alias, may_refuse })
}

/// Servers that have been silent while many questions were asked of them. Each is waited for once: of a thousand questions the others
/// would be told too late.
#[derive(Debug, Default)]
pub struct Silent {
    at: Mutex<BTreeMap<(SocketAddr, Transport), String>>,
}

impl Silent {
    fn at(&self) -> MutexGuard<'_, BTreeMap<(SocketAddr, Transport), String>> {
        // Half-made state is a server that is asked once more.
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks every server but those that were silent; `timeout` is for one exchange.
pub async fn ask(
    servers: &[ZoneServer],
    question: &DnsQuestion,
    timeout: Duration,
    silent: &Silent,
) -> Sight {
    let one = |server: &ZoneServer| {
        let (name, address) = (server.name.clone(), server.query);
        async move {
            let over_udp = seen(address, question, timeout, Transport::Udp, silent);
            let over_tcp = seen(address, question, timeout, Transport::Tcp, silent);
            let (udp, tcp) = futures::join!(over_udp, over_tcp);
            ServerSight { server: name, udp, tcp }
        }
    };
    Sight { question: question.id, servers: join_all(servers.iter().map(one)).await }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    async fn ask(
        self,
        server: SocketAddr,
        name: &DnsName,
        qtype: QueryType,
        timeout: Duration,
    ) -> Result<Answer, ResolveError> {
        match self {
            Self::Udp => resolve(server, name, qtype, timeout).await,
            Self::Tcp => resolve_over_tcp(server, name, qtype, timeout).await,
        }
    }
}

async fn seen(
    server: SocketAddr,
    question: &DnsQuestion,
    timeout: Duration,
    transport: Transport,
    silent: &Silent,
) -> Seen {
    let known = silent.at().get(&(server, transport)).cloned();
    if let Some(why) = known {
        return Seen::Silent { why };
    }
    looked(server, question, timeout, transport).await.unwrap_or_else(|e| {
        let why = drover_model::chain(&e);
        silent.at().insert((server, transport), why.clone());
        Seen::Silent { why }
    })
}

async fn looked(
    server: SocketAddr,
    question: &DnsQuestion,
    timeout: Duration,
    transport: Transport,
) -> Result<Seen, ResolveError> {
    let other = |found: String, is_old: bool| Ok(Seen::Other { found, is_old });
    let rtype = RecordType::from(question.record_type);
    let Ok(name) = DnsName::parse(&question.name) else {
        return Ok(Seen::Silent { why: format!("{} is no name", question.name) });
    };
    if let Some(mark) = &question.mark {
        let Ok(text) = DnsName::parse(&mark.name) else {
            return Ok(Seen::Silent { why: format!("{} is no name", mark.name) });
        };
        let answer = transport.ask(server, &text, QueryType::Txt, timeout).await?;
        match generation(mark, rtype, &answer) {
            Some(found) if found == mark.generation => {}
            // What it answers is judged by whoever published that.
            Some(later) if later > mark.generation => return Ok(Seen::Wanted),
            Some(earlier) => return other(format!("generation {earlier}"), true),
            None if answer.rcode != Rcode::NOERROR => return other(answer.rcode.to_string(), false),
            None => return other("no generation".to_owned(), false),
        }
    }
    let draws = if question.mark.is_some() { 1 } else { DRAWS };
    for _ in 0..draws {
        let answer = transport.ask(server, &name, QueryType::from(rtype), timeout).await?;
        if let Some(found) = contradicted_by(question, &answer) {
            let is_old = question.drained.contains(&found);
            return other(found, is_old);
        }
    }
    Ok(Seen::Wanted)
}

fn generation(mark: &GenerationMark, rtype: RecordType, answer: &Answer) -> Option<u64> {
    let prefix = format!("{rtype}=");
    answer.values.iter().find_map(|text| match mark.form {
        MarkForm::Counter => text.strip_prefix(&prefix)?.parse().ok(),
        MarkForm::Registry => match Registered::read(text)? {
            Registered::Generation(found) => Some(found),
            Registered::OwnerAlone => None,
        },
    })
}

/// What an answer shows that must not be, in words.
fn contradicted_by(question: &DnsQuestion, answer: &Answer) -> Option<String> {
    if question.may_refuse && answer.rcode == Rcode::REFUSED {
        return None;
    }
    if answer.rcode != Rcode::NOERROR {
        return Some(answer.rcode.to_string());
    }
    if !answer.is_authoritative {
        return Some("an answer without authority".to_owned());
    }
    let is_bad = |value: &&String| {
        question.drained.contains(value) || (!question.has_alias && !question.values.contains(value))
    };
    match answer.values.iter().find(is_bad) {
        Some(value) => Some(value.clone()),
        None if answer.values.is_empty() => Some("no record".to_owned()),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(has_alias: bool) -> DnsQuestion {
        DnsQuestion {
            id: 1,
            name: "checkout.example.net".to_owned(),
            record_type: config::RecordType::A,
            mark: None,
            values: vec!["192.0.2.1".to_owned()],
            drained: vec!["192.0.2.9".to_owned()],
            has_alias,
            may_refuse: false,
        }
    }

    fn answer(values: &[&str]) -> Answer {
        let values = values.iter().map(|v| (*v).to_owned()).collect();
        Answer { rcode: Rcode::NOERROR, values, ttl_seconds: 30, is_authoritative: true }
    }

    #[test]
    fn values_that_must_not_be_are_told_and_an_aliass_are_not_known() {
        let found = |has_alias, values: &[&str]| contradicted_by(&asked(has_alias), &answer(values));
        assert_eq!(found(false, &["192.0.2.1"]), None);
        assert_eq!(found(false, &["192.0.2.7"]).as_deref(), Some("192.0.2.7"));
        assert_eq!(found(true, &["192.0.2.7"]), None);
        assert_eq!(found(true, &["192.0.2.9"]).as_deref(), Some("192.0.2.9"));
        assert_eq!(found(true, &[]).as_deref(), Some("no record"));
        let refused = Answer { rcode: Rcode::REFUSED, ..answer(&[]) };
        assert_eq!(contradicted_by(&asked(false), &refused).as_deref(), Some("REFUSED"));
        let by_place = DnsQuestion { may_refuse: true, ..asked(false) };
        assert_eq!(
            contradicted_by(&by_place, &refused),
            None,
            "who asks may be one whom no region may answer"
        );
        let lame = Answer { is_authoritative: false, ..answer(&["192.0.2.1"]) };
        assert_eq!(contradicted_by(&asked(false), &lame).as_deref(), Some("an answer without authority"));
    }

    #[test]
    fn a_generation_is_read_as_each_kind_of_server_writes_it() {
        let mark = |form| GenerationMark { name: String::new(), form, generation: 7 };
        let read = |form, text: &str| generation(&mark(form), RecordType::A, &answer(&[text]));
        assert_eq!(read(MarkForm::Counter, "A=7"), Some(7));
        assert_eq!(read(MarkForm::Counter, "AAAA=7"), None);
        assert_eq!(read(MarkForm::Registry, "drover-set 1 generation=6 epoch=1/1 ttl=30"), Some(6));
        assert_eq!(read(MarkForm::Registry, "drover-owner 1 drover"), None);
    }
}
