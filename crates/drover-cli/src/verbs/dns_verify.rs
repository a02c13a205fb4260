//! `dns verify`: asks every server of the zone, from where the person is, whether it answers what should be: over UDP and over
//! TCP, and whether the split is the one that the weights say.
//!
//! A server by weight gives one value at a time, so a split can only be judged by many answers. They are compared with the
//! weights by a chi-square test: a split is called wrong when such answers would come by chance less than once in a thousand
//! commands.

use super::Bench;
use super::dns::{find, zone};
use crate::args::VerifyArgs;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::document::Items;
use crate::render;
use drover_dns::resolver::{Answer, QueryType, Rcode, Resolver, resolve_over_tcp};
use drover_dns::zone::{DnsName, RecordType};
use drover_model::RegionId;
use drover_model::api::{RecordView, ValueView, ZoneView};
use futures::future::try_join_all;
use futures::stream::{self, StreamExt};
use serde::Serialize;
use statrs::distribution::{ChiSquared, ContinuousCDF};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// For one question, its repetitions included.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Record sets at servers that are looked at together.
const AT_ONCE: usize = 16;
/// Sockets for one of these.
const SOCKETS: u32 = 4;
/// A split that is right is called wrong so seldom, by the whole command.
const CALLED_WRONG: f64 = 0.001;
/// Below this many expected answers of a value the test says nothing (Cochran's rule).
const EXPECTED_MIN: f64 = 5.0;

/// One record set as one server answers it.
#[derive(Debug, Serialize)]
pub struct Verified {
    /// The service.
    pub service: String,
    /// Name and type.
    pub record: String,
    /// The server's name.
    pub server: String,
    /// Answers that came over UDP.
    pub answers: u32,
    /// What was answered, and what should be.
    pub values: Vec<Share>,
    /// How often answers of the right weights would be at least so far off, by chance; nothing where that can't be judged.
    pub p_value: Option<f64>,
    /// What is not as it should be.
    pub findings: Vec<String>,
    /// What could not be judged.
    pub notes: Vec<String>,
}

/// One value's part of the answers.
#[derive(Debug, Clone, Serialize)]
pub struct Share {
    /// Of which region, where that is known.
    pub region: Option<RegionId>,
    /// The value.
    pub value: String,
    /// What the weights say.
    pub wanted_percent: f64,
    /// What came.
    pub answered_percent: f64,
}

/// Does what was asked.
///
/// # Errors
/// When the coordinator can't be asked.
pub async fn run(bench: &Bench, args: &VerifyArgs) -> Result<ExitCode> {
    let zone = zone(bench).await?;
    let records: Vec<&RecordView> = if args.services.is_empty() {
        zone.records.iter().collect()
    } else {
        args.services.iter().map(|service| find(&zone, service)).collect::<Result<_>>()?
    };
    let servers = zone.servers.iter().map(|s| Ok((s.instance.as_str(), address(&s.query)?)));
    let servers: Vec<(&str, SocketAddr)> = servers.collect::<Result<_>>()?;
    if records.is_empty() || servers.is_empty() {
        return Err(Failure::new(ExitCode::Refused, "there is no record set, or no server to ask"));
    }
    let pairs: Vec<_> = records.iter().flat_map(|r| servers.iter().map(move |s| (*r, *s))).collect();
    let asked = pairs.into_iter().map(|(record, server)| ask(&zone, record, server, args.draws));
    let mut found: Vec<Verified> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    judge_splits(&mut found);
    bench.out.show(&Items::of(&found), |look| render::dns_verify::render(&found, look))?;
    let is_well = found.iter().all(|one| one.findings.is_empty());
    Ok(if is_well { ExitCode::Done } else { ExitCode::Attention })
}

fn address(text: &str) -> Result<SocketAddr> {
    text.parse()
        .map_err(|e| Failure::because(ExitCode::Internal, format!("{text} is no server's address"), &e))
}

/// Asks one server for one record set.
async fn ask(zone: &ZoneView, record: &RecordView, server: (&str, SocketAddr), draws: u32) -> Verified {
    let (name, address) = server;
    let mut found = Verified {
        service: record.service.to_string(),
        record: format!("{} {}", record.name, record.record_type),
        server: name.to_owned(),
        answers: 0,
        values: vec![],
        p_value: None,
        findings: vec![],
        notes: vec![],
    };
    let parsed = DnsName::parse(&record.name).ok().zip(RecordType::parse(&record.record_type));
    let Some((name, rtype)) = parsed else {
        found.findings.push(format!("{} is no record that can be asked for", found.record));
        return found;
    };
    let question = (name, QueryType::from(rtype));
    match (
        drawn(address, &question, draws).await,
        resolve_over_tcp(address, &question.0, question.1, TIMEOUT).await,
    ) {
        (Ok(answers), Ok(over_tcp)) => {
            check_all(zone, record, &answers, "UDP", &mut found);
            check_all(zone, record, std::slice::from_ref(&over_tcp), "TCP", &mut found);
            found.answers = u32::try_from(answers.len()).unwrap_or(u32::MAX);
            found.values = shares(zone, record, &answers);
        }
        (udp, tcp) => {
            found.findings.extend(udp.err().map(|e| format!("over UDP: {e}")));
            found.findings.extend(tcp.err().map(|e| format!("over TCP: {}", drover_model::chain(&e))));
        }
    }
    found
}

async fn drawn(
    server: SocketAddr,
    (name, qtype): &(DnsName, QueryType),
    draws: u32,
) -> std::result::Result<Vec<Answer>, String> {
    let of_one = |number: u32| async move {
        let mut resolver = Resolver::connect(server).await.map_err(|e| e.to_string())?;
        let mut answers = Vec::new();
        for _ in (number..draws).step_by(SOCKETS as usize) {
            let answer = resolver.resolve(name, *qtype, TIMEOUT).await;
            answers.push(answer.map_err(|e| drover_model::chain(&e))?);
        }
        Ok::<_, String>(answers)
    };
    Ok(try_join_all((0..SOCKETS).map(of_one)).await?.into_iter().flatten().collect())
}

/// Each thing that is wrong, once.
fn check_all(zone: &ZoneView, record: &RecordView, answers: &[Answer], over: &str, found: &mut Verified) {
    for answer in answers {
        for wrong in check(zone, record, answer) {
            let told = format!("over {over}: {wrong}");
            if !found.findings.contains(&told) {
                found.findings.push(told);
            }
        }
    }
}

fn check(zone: &ZoneView, record: &RecordView, answer: &Answer) -> Vec<String> {
    let mut wrong = Vec::new();
    if answer.rcode != Rcode::NOERROR || !answer.is_authoritative {
        let authority = if answer.is_authoritative { "" } else { ", without authority" };
        return vec![format!("it answers {}{authority}", answer.rcode)];
    }
    let wanted = with_weight(record);
    if answer.ttl_seconds != record.wanted.ttl_seconds {
        let (is, should) = (answer.ttl_seconds, record.wanted.ttl_seconds);
        wrong.push(format!("TTL {is} s is answered and should be {should} s"));
    }
    for value in &answer.values {
        if !wanted.iter().any(|w| w.value == *value) {
            wrong.push(format!("{value} is answered and must not be"));
        }
    }
    let expected = if zone.has_weights { 1 } else { wanted.len() };
    if answer.values.len() != expected {
        wrong.push(format!("{} values are answered at once and {expected} should be", answer.values.len()));
    }
    wrong
}

fn with_weight(record: &RecordView) -> Vec<&ValueView> {
    record.wanted.values.iter().filter(|v| v.weight > 0).collect()
}

fn shares(zone: &ZoneView, record: &RecordView, answers: &[Answer]) -> Vec<Share> {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for value in answers.iter().flat_map(|answer| &answer.values) {
        *counts.entry(value.as_str()).or_default() += 1;
    }
    let wanted = with_weight(record);
    let total: u32 = wanted.iter().map(|v| u32::from(v.weight)).sum();
    let percent = |part: u32, whole: usize| 100.0 * f64::from(part) / whole.max(1) as f64;
    let share = |v: &&ValueView| Share {
        region: v.region.clone(),
        value: v.value.clone(),
        wanted_percent: if zone.has_weights { percent(v.weight.into(), total as usize) } else { 100.0 },
        answered_percent: percent(counts.get(v.value.as_str()).copied().unwrap_or(0), answers.len()),
    };
    let mut shares: Vec<Share> = wanted.iter().map(share).collect();
    let others = counts.iter().filter(|(value, _)| wanted.iter().all(|v| v.value != **value));
    shares.extend(others.map(|(value, count)| Share {
        region: None,
        value: (*value).to_owned(),
        wanted_percent: 0.0,
        answered_percent: percent(*count, answers.len()),
    }));
    shares
}

/// Judged together: with a thousand tests one in a thousand would fail by chance.
fn judge_splits(found: &mut [Verified]) {
    let tests = found.iter().filter(|one| is_split(one)).count();
    let significance = CALLED_WRONG / tests.max(1) as f64;
    for one in found.iter_mut().filter(|one| is_split(one)) {
        let Some(p) = p_value(&one.values, one.answers) else {
            one.notes.push(format!("{} answers are too few to judge the split by: --draws", one.answers));
            continue;
        };
        one.p_value = Some(p);
        if p < significance {
            one.findings.push(format!("the split is not what the weights say (chi-square, p = {p:.1e})"));
        }
    }
}

/// By weight, several values, and nothing else among them.
fn is_split(one: &Verified) -> bool {
    let by_weight = one.values.iter().all(|v| v.wanted_percent > 0.0 && v.wanted_percent < 100.0);
    one.findings.is_empty() && one.values.len() > 1 && by_weight
}

/// Pearson's chi-square test.
fn p_value(shares: &[Share], answers: u32) -> Option<f64> {
    let counts = shares.iter().map(|share| {
        let of = |percent: f64| percent / 100.0 * f64::from(answers);
        (of(share.wanted_percent), of(share.answered_percent))
    });
    let mut statistic = 0.0;
    for (expected, found) in counts {
        if expected < EXPECTED_MIN {
            return None;
        }
        statistic += (found - expected).powi(2) / expected;
    }
    let freedom = u32::try_from(shares.len().checked_sub(1)?).ok()?;
    Some(ChiSquared::new(f64::from(freedom)).ok()?.sf(statistic))
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_model::api::{RecordState, RecordVersion};

    fn split(parts: &[(f64, f64)]) -> Vec<Share> {
        let share = |(wanted, answered): &(f64, f64)| Share {
            region: None,
            value: String::new(),
            wanted_percent: *wanted,
            answered_percent: *answered,
        };
        parts.iter().map(share).collect()
    }

    fn record() -> RecordView {
        let value = |last: u8, weight| ValueView { region: None, value: format!("192.0.2.{last}"), weight };
        let wanted = RecordVersion {
            generation: 1,
            owner: "drover".into(),
            ttl_seconds: 30,
            values: vec![value(1, 50), value(2, 50), value(3, 0)],
        };
        RecordView {
            service: drover_model::ServiceId::new("checkout").unwrap(),
            name: "checkout.example.net".into(),
            record_type: "A".into(),
            state: RecordState::InLine,
            sentence: None,
            next: None,
            live: Some(wanted.clone()),
            wanted,
        }
    }

    fn zone(has_weights: bool) -> ZoneView {
        ZoneView {
            schema: 1,
            at: drover_model::Timestamp::from_millis(0),
            zone: "example.net".into(),
            provider: "embedded".into(),
            has_weights,
            servers: vec![],
            records: vec![record()],
        }
    }

    fn answer(values: &[&str]) -> Answer {
        let values = values.iter().map(|v| (*v).to_owned()).collect();
        Answer { rcode: Rcode::NOERROR, values, ttl_seconds: 30, is_authoritative: true }
    }

    #[test]
    fn whatever_an_answer_has_wrong_is_told() {
        let right = answer(&["192.0.2.1"]);
        assert_eq!(check(&zone(true), &record(), &right), Vec::<String>::new());
        for (wrong, why) in [
            (answer(&["192.0.2.3"]), "192.0.2.3 is answered and must not be"),
            (answer(&["192.0.2.1", "192.0.2.2"]), "2 values are answered at once and 1 should be"),
            (answer(&[]), "0 values are answered at once"),
            (Answer { ttl_seconds: 60, ..right.clone() }, "TTL 60 s is answered and should be 30 s"),
            (Answer { rcode: Rcode::NXDOMAIN, ..right.clone() }, "it answers NXDOMAIN"),
            (Answer { is_authoritative: false, ..right.clone() }, "without authority"),
        ] {
            let told = check(&zone(true), &record(), &wrong);
            assert!(told.iter().any(|t| t.contains(why)), "{why}: {told:?}");
        }
        // Where weights are not known, all that has weight is answered together.
        assert_eq!(
            check(&zone(false), &record(), &answer(&["192.0.2.2", "192.0.2.1"])),
            Vec::<String>::new()
        );
        assert!(check(&zone(false), &record(), &right)[0].contains("1 values are answered at once and 2"));
    }

    #[test]
    fn shares_are_of_the_answers_that_came() {
        let answers = [answer(&["192.0.2.1"]), answer(&["192.0.2.1"]), answer(&["192.0.2.9"])];
        let shares = shares(&zone(true), &record(), &answers);
        let told: Vec<_> =
            shares.iter().map(|s| (s.value.as_str(), s.wanted_percent, s.answered_percent.round())).collect();
        assert_eq!(told, [("192.0.2.1", 50.0, 67.0), ("192.0.2.2", 50.0, 0.0), ("192.0.2.9", 0.0, 33.0)]);
    }

    #[test]
    fn a_split_is_judged_as_the_tables_have_it() {
        // Two values, 60 of 100 instead of 50: chi-square 4, one degree of freedom.
        let p = p_value(&split(&[(50.0, 60.0), (50.0, 40.0)]), 100).unwrap();
        assert!((p - 0.0455).abs() < 1e-4, "{p}");
        // Three values, two degrees of freedom: 5.991 is the five percent point.
        let p = p_value(&split(&[(50.0, 50.0), (30.0, 30.0), (20.0, 20.0)]), 400).unwrap();
        assert!((p - 1.0).abs() < 1e-9, "{p}");
        assert_eq!(
            p_value(&split(&[(99.0, 99.0), (1.0, 1.0)]), 400),
            None,
            "four expected answers say nothing"
        );
    }

    #[test]
    fn of_many_tests_no_one_alone_condemns() {
        let one = |answered: f64| Verified {
            service: "checkout".into(),
            record: String::new(),
            server: String::new(),
            answers: 100,
            values: split(&[(50.0, answered), (50.0, 100.0 - answered)]),
            p_value: None,
            findings: vec![],
            notes: vec![],
        };
        // Once in 2,000 by chance: too seldom for one, not for a thousand.
        let mut alone = vec![one(67.5)];
        judge_splits(&mut alone);
        assert_eq!(alone[0].findings.len(), 1, "{alone:?}");
        let mut among = (0..1_000).map(|n| one(if n == 0 { 67.5 } else { 50.0 })).collect::<Vec<_>>();
        judge_splits(&mut among);
        assert!(among.iter().all(|one| one.findings.is_empty()));
        let mut wrong = vec![one(95.0)];
        judge_splits(&mut wrong);
        assert!(wrong[0].findings[0].contains("not what the weights say"), "{wrong:?}");
    }
}
