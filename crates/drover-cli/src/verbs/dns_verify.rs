//! `dns verify`: asks every server of the zone, from where the person is, whether it answers what should be: over UDP and over
//! TCP, and whether the split is the one that the weights say.
//!
//! A server by weight gives one value at a time, so a split can only be judged by many answers. They are compared with the
//! weights by a chi-square test. Its tail is inexact for small counts, so that whatever it suspects is drawn a second time, and
//! called wrong when that would come by chance less than once in a thousand times, too.
//!
//! What changes while it is asked is no finding: the zone is read before and after.

use super::Bench;
use super::dns::{find, zone};
use crate::args::VerifyArgs;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::document::Items;
use crate::render;
use drover_dns::resolver::{Answer, QueryType, Rcode, Resolver, resolve_over_tcp};
use drover_dns::zone::{AliasTarget, DnsName, Draws, RecordType};
use drover_model::api::{RecordView, ValueView, ZoneView};
use drover_model::{RegionId, ServiceId};
use futures::future::try_join_all;
use futures::stream::{self, StreamExt};
use serde::Serialize;
use statrs::distribution::{ChiSquared, ContinuousCDF};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

const STABLE_NOTE: &str = "draws are stable: one network gets the same answer each time, which is checked; the split over all networks can't be seen from here";
const NEAREST_NOTE: &str = "draws are by geography: what is answered here is for clients from here";
const ALIAS_NOTE: &str = "an alias answers with its target's addresses: that some come is checked and that none is of a drained region, not which";
/// For one question, its repetitions included.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Record sets at servers that are looked at together.
const AT_ONCE: usize = 16;
/// Sockets for one of these.
const SOCKETS: u32 = 4;
/// Answers of right weights look as bad as this so seldom: among all splits of the command for a suspicion, alone for the
/// second draw of a suspect.
const BY_CHANCE: f64 = 0.001;
/// Values that are expected fewer times than this are counted together (Cochran's rule).
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
        // Where clients are is answered to nobody.
        zone.records.iter().filter(|r| r.record_type != RecordType::Geography.as_str()).collect()
    } else {
        args.services.iter().map(|service| asked_for(&zone, service)).collect::<Result<_>>()?
    };
    let servers = zone.servers.iter().map(|s| Ok((s.instance.as_str(), address(&s.query)?)));
    let servers: Vec<(&str, SocketAddr)> = servers.collect::<Result<_>>()?;
    if records.is_empty() || servers.is_empty() {
        return Err(Failure::new(ExitCode::Refused, "there is no record set, or no server to ask"));
    }
    let pairs: Vec<_> = records.iter().flat_map(|r| servers.iter().map(move |s| (*r, *s))).collect();
    let asked = pairs.iter().map(|(record, server)| ask(&zone, record, *server, args.draws));
    let mut found: Vec<Verified> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    for at in suspects(&mut found) {
        let Some(((record, server), one)) = pairs.get(at).zip(found.get_mut(at)) else { continue };
        confirm(one, &ask(&zone, record, *server, args.draws).await);
    }
    let after = super::dns::zone(bench).await?;
    for ((record, _), one) in pairs.iter().zip(&mut found) {
        if !is_same(record, &after) {
            let told = one.findings.drain(..).map(|finding| format!("while it was changed: {finding}"));
            one.notes.extend(told);
        }
    }
    bench.out.show(&Items::of(&found), |look| render::dns_verify::render(&found, look))?;
    let is_well = found.iter().all(|one| one.findings.is_empty());
    Ok(if is_well { ExitCode::Done } else { ExitCode::Attention })
}

fn asked_for<'z>(zone: &'z ZoneView, service: &ServiceId) -> Result<&'z RecordView> {
    let record = find(zone, service)?;
    if record.record_type == RecordType::Geography.as_str() {
        let message = format!("{service} says where clients are, and is answered to nobody");
        return Err(Failure::usage(message).hint("name services, or none to verify all of the zone"));
    }
    Ok(record)
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
            if with_weight(record).iter().any(|v| is_alias(v)) {
                found.notes.push(ALIAS_NOTE.to_owned());
            }
            match record.wanted.answering.draws {
                Draws::Anew => {}
                Draws::Stable => {
                    found.findings.extend(unstable(&answers));
                    found.notes.push(STABLE_NOTE.to_owned());
                }
                Draws::Nearest => found.notes.push(NEAREST_NOTE.to_owned()),
            }
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
    // By where one asks from: the note says so.
    if record.wanted.answering.draws == Draws::Nearest && answer.rcode == Rcode::REFUSED {
        return wrong;
    }
    if answer.rcode != Rcode::NOERROR || !answer.is_authoritative {
        let authority = if answer.is_authoritative { "" } else { ", without authority" };
        return vec![format!("it answers {}{authority}", answer.rcode)];
    }
    let wanted = with_weight(record);
    let has_alias = wanted.iter().any(|v| is_alias(v));
    if has_alias && answer.values.is_empty() {
        return vec!["nothing is answered, and an alias's target should be".to_owned()];
    }
    if has_alias && !is_known(record, answer) {
        return vec![];
    }
    let (is, should) = (answer.ttl_seconds, record.wanted.ttl_seconds);
    // While a failover seems near it may be shorter.
    let floor = zone.ttl_floor_seconds.map_or(should, |floor| floor.min(should));
    if !(floor..=should).contains(&is) {
        wrong.push(format!("TTL {is} s is answered and should be {should} s"));
    }
    for value in &answer.values {
        let is_targets = has_alias && record.wanted.values.iter().all(|v| v.value != *value);
        if !is_targets && !wanted.iter().any(|w| w.value == *value) {
            wrong.push(format!("{value} is answered and must not be"));
        }
    }
    let expected =
        if zone.has_weights { record.wanted.answering.answers.of(wanted.len()) } else { wanted.len() };
    if answer.values.len() != expected {
        wrong.push(format!("{} values are answered at once and {expected} should be", answer.values.len()));
    }
    wrong
}

/// To one network all answers are the same, in the same order.
fn unstable(answers: &[Answer]) -> Option<String> {
    let first = answers.first()?;
    let other = answers.iter().find(|answer| answer.values != first.values)?;
    Some(format!(
        "over UDP: {} and {} are answered to one client, and draws are to be stable",
        first.values.join(" "),
        other.values.join(" ")
    ))
}

/// An alias of Route 53 answers with its target's addresses, which only Route 53 knows. A text of the zone, which is no region's, may read
/// as one.
fn is_alias(value: &ValueView) -> bool {
    value.region.is_some() && AliasTarget::parse(&value.value).is_some()
}

/// Some region's own value is in it, also one without weight: then it is no answer of an alias's target.
fn is_known(record: &RecordView, answer: &Answer) -> bool {
    answer.values.iter().any(|value| record.wanted.values.iter().any(|v| v.value == *value))
}

fn with_weight(record: &RecordView) -> Vec<&ValueView> {
    record.wanted.values.iter().filter(|v| v.weight > 0).collect()
}

fn shares(zone: &ZoneView, record: &RecordView, answers: &[Answer]) -> Vec<Share> {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    // Of a server by weight the one that stands first, also where others follow: it is the one that is drawn by weight.
    let counted = |answer: &&Answer| if zone.has_weights { 1 } else { answer.values.len() };
    for value in answers.iter().flat_map(|answer| answer.values.iter().take(counted(&answer))) {
        *counts.entry(value.as_str()).or_default() += 1;
    }
    let mut wanted = with_weight(record);
    if wanted.iter().any(|v| is_alias(v)) {
        return shares_beside_aliases(record, &wanted, answers);
    }
    if record.wanted.answering.draws != Draws::Anew {
        wanted.retain(|v| counts.contains_key(v.value.as_str()));
    }
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

/// Aliases count together: whatever is no value of another region came from one of them.
fn shares_beside_aliases(record: &RecordView, wanted: &[&ValueView], answers: &[Answer]) -> Vec<Share> {
    let (aliases, values): (Vec<&ValueView>, Vec<&ValueView>) = wanted.iter().partition(|v| is_alias(v));
    let total: u32 = wanted.iter().map(|v| u32::from(v.weight)).sum();
    let percent = |part: u32, whole: u32| 100.0 * f64::from(part) / f64::from(whole.max(1));
    let of = |count: usize| {
        percent(count.try_into().unwrap_or(u32::MAX), answers.len().try_into().unwrap_or(u32::MAX))
    };
    let share = |v: &&ValueView| Share {
        region: v.region.clone(),
        value: v.value.clone(),
        wanted_percent: percent(v.weight.into(), total),
        answered_percent: of(answers.iter().filter(|a| a.values.contains(&v.value)).count()),
    };
    let mut shares: Vec<Share> = values.iter().map(share).collect();
    // What must not be answered is shown where it is.
    let drained = record.wanted.values.iter().filter(|v| v.weight == 0);
    let drained = drained.filter(|v| values.iter().all(|with_weight| with_weight.value != v.value));
    let drained: Vec<Share> = drained.map(|v| share(&v)).filter(|s| s.answered_percent > 0.0).collect();
    let (region, value) = match aliases.as_slice() {
        [one] => (one.region.clone(), one.value.clone()),
        several => (None, format!("{} aliases", several.len())),
    };
    shares.push(Share {
        region,
        value,
        wanted_percent: percent(aliases.iter().map(|v| u32::from(v.weight)).sum(), total),
        answered_percent: of(answers.iter().filter(|answer| !is_known(record, answer)).count()),
    });
    shares.extend(drained);
    shares
}

/// Was it the same before and after? Something that is on its way, and was all the time, is none that came while it was asked.
fn is_same(before: &RecordView, after: &ZoneView) -> bool {
    let after = after.records.iter().find(|record| record.service == before.service);
    after.is_some_and(|after| {
        (&after.wanted, &after.live, after.state) == (&before.wanted, &before.live, before.state)
    })
}

/// The splits that look wrong. Judged together: of a thousand tests one in a thousand looks wrong by chance.
fn suspects(found: &mut [Verified]) -> Vec<usize> {
    let tests = found.iter().filter(|one| is_split(one)).count();
    let significance = BY_CHANCE / tests.max(1) as f64;
    let mut suspects = Vec::new();
    for (at, one) in found.iter_mut().enumerate().filter(|(_, one)| is_split(one)) {
        one.p_value = p_value(&one.values, one.answers);
        match one.p_value {
            None => {
                one.notes.push(format!("{} answers are too few to judge the split by: --draws", one.answers))
            }
            Some(p) if p < significance => suspects.push(at),
            Some(_) => {}
        }
    }
    suspects
}

/// Takes the second draw of a suspect for what it is worth.
fn confirm(one: &mut Verified, second: &Verified) {
    one.findings.extend_from_slice(&second.findings);
    let Some(p) = p_value(&second.values, second.answers).filter(|_| second.findings.is_empty()) else {
        return;
    };
    (one.values, one.p_value) = (second.values.clone(), Some(p));
    if p < BY_CHANCE {
        one.findings.push(format!(
            "the split is not what the weights say (chi-square, p = {p:.1e}, at a second draw)"
        ));
    }
}

/// By weight, several values, and nothing else among them.
fn is_split(one: &Verified) -> bool {
    let by_weight = one.values.iter().all(|v| v.wanted_percent > 0.0 && v.wanted_percent < 100.0);
    one.findings.is_empty() && one.values.len() > 1 && by_weight
}

/// Pearson's chi-square test. Nothing where all is too seldom to be told apart.
fn p_value(shares: &[Share], answers: u32) -> Option<f64> {
    let of = |percent: f64| percent / 100.0 * f64::from(answers);
    let mut cells: Vec<(f64, f64)> =
        shares.iter().map(|share| (of(share.wanted_percent), of(share.answered_percent))).collect();
    // The seldom ones together, then with the next.
    cells.sort_by(|a, b| b.0.total_cmp(&a.0));
    while cells.len() > 1 && cells.last().is_some_and(|(expected, _)| *expected < EXPECTED_MIN) {
        let Some((expected, found)) = cells.pop() else { break };
        if let Some(last) = cells.last_mut() {
            (last.0, last.1) = (last.0 + expected, last.1 + found);
        }
    }
    let freedom = u32::try_from(cells.len().checked_sub(1)?).ok().filter(|freedom| *freedom > 0)?;
    let statistic: f64 = cells.iter().map(|(expected, found)| (found - expected).powi(2) / expected).sum();
    Some(ChiSquared::new(f64::from(freedom)).ok()?.sf(statistic))
}

#[cfg(test)]
mod tests;
