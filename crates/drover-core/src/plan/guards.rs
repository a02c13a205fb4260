//! The guards: each looks at one danger and answers with its numbers. A guard never decides alone what becomes of the
//! plan; the parent does, from who is asking.

use super::moves::{Move, leaves};
use super::report::Report;
use crate::capacity::{self, CapacityRow};
use crate::failback;
use drover_model::config::{Draws, Split};
use drover_model::plan::{Acceptance, Intent, World};
use drover_model::reason::Reason;
use drover_model::runbook::Purpose;
use drover_model::{Percent, RegionId, Timestamp};

/// What a plan of any kind needs.
pub(super) fn standing(world: &World, intent: &Intent, report: &mut Report) {
    match &world.config.settings.dns {
        Some(dns) if dns.split() == Split::ByWeight => report.pass("dns", Reason::Passed),
        Some(_) => report.pass("dns", Reason::SharesBecomeEqual),
        None => {
            cov_mark::hit!(dns_not_configured);
            report.refuse("dns", Reason::DnsNotConfigured);
        }
    }
    if world.runbooks.contains_key(&intent.purpose) {
        report.pass("runbook", Reason::Passed);
    } else {
        cov_mark::hit!(no_runbook);
        report.refuse("runbook", Reason::NoRunbook { purpose: intent.purpose.to_string() });
    }
}

/// Says of which of these the weights are not, or not of all clients, what is answered, although the zone's servers know weights.
pub(super) fn other_shares(world: &World, moves: &[Move<'_>], report: &mut Report) {
    if !world.config.settings.dns.as_ref().is_some_and(|dns| dns.split() == Split::ByWeight) {
        return;
    }
    let equal = moves.iter().map(|found| found.service).filter(|s| s.split == Split::Equally);
    let services: Vec<_> = equal.map(|s| s.name.clone()).collect();
    if !services.is_empty() {
        report.pass("dns", Reason::SharesBecomeEqualOf { services });
    }
    let nearest = moves.iter().map(|found| found.service).filter(|s| s.answering.draws == Draws::Nearest);
    let services: Vec<_> = nearest.map(|s| s.name.clone()).collect();
    if !services.is_empty() {
        report.pass("dns", Reason::NearestFirst { services });
    }
}

/// What a guard says of one service.
struct Answer {
    guard: &'static str,
    reason: Reason,
    weight: Weight,
}

/// What an answer means for the plan.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// Worth telling.
    Told,
    /// A refusal that the person took on by name.
    TakenOn,
    /// It refuses, unless a person overrules it.
    Objects,
}

impl Weight {
    fn objects_if(objects: bool) -> Self {
        if objects { Weight::Objects } else { Weight::Told }
    }
}

/// Asks every guard about every move. Drover itself moves what passes and leaves the rest behind, to be asked about by
/// itself; when nothing passes, all of it is asked about.
pub(super) fn ask<'w>(
    world: &World,
    intent: &Intent,
    moves: Vec<Move<'w>>,
    now: Timestamp,
    report: &mut Report,
) -> Vec<Move<'w>> {
    let mut judged: Vec<(Move<'w>, Vec<Answer>)> = vec![];
    let mut tightest: Option<CapacityRow> = None;
    let mut tightest_reason = None;
    for found in moves {
        let mut answers = vec![];
        answers.extend(max_unavailable(intent, &found));
        answers.extend(stable_hold(world, intent, &found, now));
        answers.extend(by_itself(world, intent, &found));
        match capacity_of(world, intent, &found) {
            Ok(Some(row)) => {
                if tightest.as_ref().is_none_or(|t| tighter(&row, t)) {
                    tightest_reason = Some(fits(&found, &row));
                    tightest = Some(row);
                }
            }
            Ok(None) => {}
            Err(more) => answers.extend(more),
        }
        judged.push((found, answers));
    }
    report_health(intent, &judged, report);
    if let Some(reason) = tightest_reason {
        report.pass("capacity", reason);
    }
    sort_out(intent, judged, report)
}

fn sort_out<'w>(intent: &Intent, judged: Vec<(Move<'w>, Vec<Answer>)>, report: &mut Report) -> Vec<Move<'w>> {
    let clean = |answers: &[Answer]| !answers.iter().any(|a| a.weight == Weight::Objects);
    let some_pass = judged.iter().any(|(_, answers)| clean(answers));
    let mut kept = vec![];
    for (found, answers) in judged {
        let leave = intent.automatic && some_pass && !clean(&answers);
        for answer in answers {
            match (answer.weight, leave) {
                (Weight::Told, _) => report.pass(answer.guard, answer.reason),
                (Weight::TakenOn, _) | (Weight::Objects, true) => report.tell(answer.guard, answer.reason),
                (Weight::Objects, false) => report.object(answer.guard, answer.reason),
            }
        }
        if leave {
            cov_mark::hit!(i7_moves_what_fits);
        } else {
            kept.push(found);
        }
    }
    kept
}

/// Says once that all who take traffic are fit for it, and names those that are passed over.
fn report_health(intent: &Intent, judged: &[(Move<'_>, Vec<Answer>)], report: &mut Report) {
    for (found, _) in judged {
        for (region, why) in found.held_back.iter().filter(|_| intent.to.is_none()) {
            if found.takers().contains(&region) {
                cov_mark::hit!(takes_part_unfit);
                report.pass("takes_part", why.clone());
            } else {
                report.pass("passed_over", why.clone());
            }
        }
    }
    if !judged.is_empty() {
        report.pass("target", Reason::Passed);
    }
}

/// I8: how many of the service's regions would be out.
fn max_unavailable(intent: &Intent, found: &Move<'_>) -> Option<Answer> {
    if !leaves(intent.purpose) {
        return None;
    }
    let others = found.state.shares.iter().filter(|(r, s)| s.share == Percent::ZERO && **r != intent.region);
    let out = u32::try_from(others.count()).unwrap_or(u32::MAX).saturating_add(1);
    let max = found.service.failover.max_unavailable_regions;
    if out <= max {
        return None;
    }
    cov_mark::hit!(i8_max_unavailable);
    let reason = Reason::MaxUnavailable { service: found.service.name.clone(), out, max };
    Some(Answer { guard: "max_unavailable", reason, weight: Weight::objects_if(intent.automatic) })
}

/// A region that was left comes back once it has been well for long enough. A person who knows why it failed may bring it
/// back sooner; a drain was no failure, and its operator ends it whenever it pleases.
fn stable_hold(world: &World, intent: &Intent, found: &Move<'_>, now: Timestamp) -> Option<Answer> {
    if intent.purpose != Purpose::Failback {
        return None;
    }
    let reason = failback::too_early(world, found.service, &intent.region, now)?;
    cov_mark::hit!(stable_hold_refuses);
    let taken_on = intent.accepts(Acceptance::StableHold);
    let weight = if taken_on { Weight::TakenOn } else { Weight::Objects };
    Some(Answer { guard: "stable_hold", reason, weight })
}

/// I8: drover brings nothing back by itself unless the service says so, and nothing that a person left.
fn by_itself(world: &World, intent: &Intent, found: &Move<'_>) -> Option<Answer> {
    let asked = intent.automatic && intent.purpose == Purpose::Failback;
    if !asked || failback::by_itself(world, found.service, &intent.region) {
        return None;
    }
    cov_mark::hit!(i8_not_brought_back_by_itself);
    let reason = Reason::NotAutomatic { service: found.service.name.clone() };
    Some(Answer { guard: "automatic", reason, weight: Weight::Objects })
}

/// I7: the tightest of the regions that take traffic, or what stands against them.
fn capacity_of(world: &World, intent: &Intent, found: &Move<'_>) -> Result<Option<CapacityRow>, Vec<Answer>> {
    let mut tightest: Option<CapacityRow> = None;
    let mut over: Vec<CapacityRow> = vec![];
    let carrying: Vec<&RegionId> = found.carrying().collect();
    for stage in &found.stages {
        let rows = capacity::assess(world, found.service, &stage.weights, &carrying)
            // A person may know better how much there is; drover may not guess.
            .map_err(|reason| {
                vec![Answer { guard: "capacity", reason, weight: Weight::objects_if(intent.automatic) }]
            })?;
        for row in rows {
            if !row.fits {
                over.retain(|o| o.region != row.region || o.projected > row.projected);
                if !over.iter().any(|o| o.region == row.region) {
                    over.push(row);
                }
            } else if tightest.as_ref().is_none_or(|t| tighter(&row, t)) {
                tightest = Some(row);
            }
        }
    }
    if over.is_empty() {
        return Ok(tightest);
    }
    cov_mark::hit!(i7_capacity);
    // Coming back takes load off the others; where it does not fit, that is told but stops nobody.
    let weight = match intent.automatic || leaves(intent.purpose) {
        true if intent.accepts(Acceptance::Capacity) => {
            cov_mark::hit!(i7_taken_on_by_name);
            Weight::TakenOn
        }
        objects => Weight::objects_if(objects),
    };
    let reason = |row| if weight == Weight::Told { at_return(found, row) } else { too_much(found, row) };
    let answer = |row| Answer { guard: "capacity", reason: reason(row), weight };
    Err(over.into_iter().map(answer).collect())
}

/// Is less left free, in proportion, in `a` than in `b`?
fn tighter(a: &CapacityRow, b: &CapacityRow) -> bool {
    let cross = |x: &CapacityRow, y: &CapacityRow| u128::from(x.projected.0) * u128::from(y.usable.0.max(1));
    cross(a, b) > cross(b, a)
}

fn fits(found: &Move<'_>, row: &CapacityRow) -> Reason {
    Reason::CapacityFits {
        service: found.service.name.clone(),
        region: row.region.clone(),
        projected: row.projected,
        usable: row.usable,
    }
}

fn too_much(found: &Move<'_>, row: CapacityRow) -> Reason {
    Reason::CapacityInsufficient {
        service: found.service.name.clone(),
        region: row.region,
        projected: row.projected,
        usable: row.usable,
        capacity: row.capacity,
        headroom: found.service.failover.headroom,
    }
}

fn at_return(found: &Move<'_>, row: CapacityRow) -> Reason {
    Reason::CapacityAtReturn {
        service: found.service.name.clone(),
        region: row.region,
        projected: row.projected,
        usable: row.usable,
    }
}
