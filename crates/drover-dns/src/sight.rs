//! Asks servers the questions of a [`QuestionList`](drover_model::sight::QuestionList), as a vantage does: which version each has, and
//! that no value is answered which must not be.
//!
//! It asks over UDP and over TCP, because what stands between a client and a server may treat the two differently.

use std::net::SocketAddr;
use std::time::Duration;

use drover_model::config::{self, DnsServers, DnsSettings, ZoneServer};
use drover_model::sight::{DnsQuestion, GenerationMark, MarkForm, Seen, ServerSight, Sight};
use futures::future::join_all;

use crate::provider::{Registered, registry_name};
use crate::resolver::{Answer, QueryType, Rcode, ResolveError, resolve, resolve_over_tcp};
use crate::zone::{
    AliasTarget, DnsName, Draws, GENERATION_LABEL, RecordKey, RecordSet, RecordType, ValidRecordSet,
};

/// Answers that are drawn where no text says which version a server has. Of a value that must not be answered a set that was left
/// has had one part in ten in most cases: 16 draws miss it once in five times, and the question is asked of each server, by each
/// vantage, over both transports.
const DRAWS_WITHOUT_MARK: u32 = 16;

/// The question that shows whether a service's `set` is answered; none where its name can't be asked for.
#[must_use]
pub fn question(id: u64, key: &RecordKey, set: &RecordSet, dns: &DnsSettings) -> Option<DnsQuestion> {
    // Values as servers write them.
    let valid = ValidRecordSet::with_aliases(set.clone()).ok()?;
    let set = valid.document();
    let with_weight = || set.members.iter().filter(|m| m.weight > 0).map(|m| m.value.clone());
    let (aliases, values): (Vec<String>, Vec<String>) =
        with_weight().partition(|value| AliasTarget::parse(value).is_some());
    // Two regions may have one address.
    let drained = set.members.iter().filter(|m| m.weight == 0 && !values.contains(&m.value));
    let drained = drained.map(|m| m.value.clone()).collect();
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
    let record_type = match key.rtype {
        RecordType::A => config::RecordType::A,
        RecordType::Aaaa => config::RecordType::Aaaa,
        RecordType::Cname => config::RecordType::Cname,
        // No traffic moves them.
        RecordType::Caa | RecordType::Mx | RecordType::Txt | RecordType::Geography => return None,
    };
    let name = key.name.as_str().to_owned();
    let may_refuse = set.answering.draws == Draws::Nearest && dns.refuses_clients();
    let has_alias = !aliases.is_empty();
    Some(DnsQuestion { id, name, record_type, mark, values, drained, has_alias, may_refuse })
}

/// Asks every server; `timeout` is for one exchange.
pub async fn ask(servers: &[ZoneServer], question: &DnsQuestion, timeout: Duration) -> Sight {
    let one = |server: &ZoneServer| {
        let (name, address) = (server.name.clone(), server.query);
        async move {
            let over_udp = seen(address, question, timeout, Transport::Udp);
            let over_tcp = seen(address, question, timeout, Transport::Tcp);
            let (udp, tcp) = futures::join!(over_udp, over_tcp);
            ServerSight { server: name, udp, tcp }
        }
    };
    Sight { question: question.id, servers: join_all(servers.iter().map(one)).await }
}

#[derive(Clone, Copy)]
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

async fn seen(server: SocketAddr, question: &DnsQuestion, timeout: Duration, transport: Transport) -> Seen {
    let asked = looked(server, question, timeout, transport).await;
    asked.unwrap_or_else(|e| Seen::Silent { why: drover_model::chain(&e) })
}

async fn looked(
    server: SocketAddr,
    question: &DnsQuestion,
    timeout: Duration,
    transport: Transport,
) -> Result<Seen, ResolveError> {
    let other = |found: String| Ok(Seen::Other { found });
    let rtype = match question.record_type {
        config::RecordType::A => RecordType::A,
        config::RecordType::Aaaa => RecordType::Aaaa,
        config::RecordType::Cname => RecordType::Cname,
    };
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
            Some(earlier) => return other(format!("generation {earlier}")),
            None if answer.rcode != Rcode::NOERROR => return other(answer.rcode.to_string()),
            None => return other("no generation".to_owned()),
        }
    }
    let draws = if question.mark.is_some() { 1 } else { DRAWS_WITHOUT_MARK };
    for _ in 0..draws {
        let answer = transport.ask(server, &name, QueryType::from(rtype), timeout).await?;
        if let Some(found) = contradicted_by(question, &answer) {
            return other(found);
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
