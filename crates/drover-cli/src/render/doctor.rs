//! `doctor`: everything that failover depends on, checked beforehand.

use super::doctor_checks::control_plane;
use super::status::{bytes, version};
use super::tones;
use crate::offline::{DnsAnswer, PageAnswer};
use crate::output::paint::{Tone, paint};
use crate::output::words::{count, left, list, span, whole};
use crate::output::{Look, table};
use drover_model::api::{DNS_COMMAND_TAKEN_BY, DnsCommandView, RegionView, StatusView};
use drover_model::break_glass::{HeldView, TAKEN_BACK_BY};
use drover_model::decision::VantageState;
use drover_model::journal::RunState;
use drover_model::reason::Reason;
use drover_pki::ledger::ends_soon;
use drover_pki::machine_in;
use serde::Serialize;
use std::path::Path;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// As it should be.
    Ok,
    /// Will matter.
    Warn,
    /// Matters now.
    Bad,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// How it came out.
    pub mark: Mark,
    /// What was checked.
    pub what: String,
    /// What was found.
    pub finding: String,
    /// The command that goes on from here.
    pub next: Option<String>,
}

/// The outcome of all checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// Version of this output's schema.
    pub schema: u16,
    /// Every check.
    pub checks: Vec<Check>,
}

impl Diagnosis {
    /// The worst mark.
    pub fn worst(&self) -> Mark {
        self.checks.iter().map(|c| c.mark).max().unwrap_or(Mark::Ok)
    }
}

pub(super) fn check(mark: Mark, what: impl ToString, finding: impl ToString) -> Check {
    Check { mark, what: what.to_string(), finding: finding.to_string(), next: None }
}

impl Check {
    /// With the next command.
    pub fn then(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

/// A coordinator that can't be reached.
pub fn unreachable(error: &str) -> Diagnosis {
    let next = "drover status shows what is known without it";
    Diagnosis { schema: 1, checks: vec![check(Mark::Bad, "coordinator", error).then(next)] }
}

/// The certificate that this machine shows.
pub fn certificate(file: &Path, look: &Look) -> Check {
    let what = "certificate";
    let own = match machine_in(file) {
        Ok(own) => own,
        Err(e) => {
            return check(Mark::Bad, what, drover_model::chain(&e))
                .then("drover pki issue client NAME --out DIR");
        }
    };
    let finding = format!("of {}: {}", own.identity, left(look, Some(own.until)));
    if !ends_soon(own.from, own.until, look.now) {
        return check(Mark::Ok, what, finding);
    }
    let directory = file.parent().unwrap_or(file).display();
    check(Mark::Warn, what, finding).then(format!("drover pki rotate {directory}"))
}

/// Every check, in the order in which failover needs them.
pub fn diagnose(
    view: &StatusView,
    dns: &[DnsAnswer],
    pages: &[PageAnswer],
    own_version: &str,
    look: &Look,
) -> Diagnosis {
    let mut checks = Vec::new();
    coordinator(view, own_version, &mut checks);
    restart(view, &mut checks);
    vantages(view, &mut checks);
    checks.extend(view.regions.iter().filter(|r| !r.witness).map(automatic));
    resolvers(view, dns, &mut checks);
    held(view, &mut checks);
    command(view, &mut checks);
    control_plane(view, dns, pages, &mut checks);
    standing(view, look, &mut checks);
    upkeep(view, &mut checks);
    Diagnosis { schema: 1, checks }
}

fn coordinator(view: &StatusView, own: &str, checks: &mut Vec<Check>) {
    let c = &view.coordinator;
    let up = span(whole(view.at.since(c.started_at)));
    checks.push(check(Mark::Ok, "coordinator", format!("leads with epoch {}, up {up}", c.epoch)));
    if c.version != own {
        let finding = format!("the coordinator is {}, this program is {own}", c.version);
        checks.push(check(Mark::Warn, "versions", finding));
    }
    checks.push(match c.config_refused.first() {
        None => check(Mark::Ok, "configuration", format!("{} in force", version(&c.config_version))),
        Some(first) => {
            let n = count(c.config_refused.len(), "error");
            let finding =
                format!("what is on disk is refused with {n}, {} stays: {first}", version(&c.config_version));
            check(Mark::Bad, "configuration", finding).then("drover config validate")
        }
    });
}

/// What drover does not move, because somebody moved it without a coordinator.
fn held(view: &StatusView, checks: &mut Vec<Check>) {
    for HeldView { service, held_by } in &view.held {
        let reason = Reason::HeldByBreakGlass { service: service.clone(), held_by: held_by.clone() };
        checks.push(check(Mark::Warn, "break-glass", &reason).then(TAKEN_BACK_BY));
    }
}

/// Where nothing can be moved, because DNS obeys somebody else.
fn command(view: &StatusView, checks: &mut Vec<Check>) {
    for DnsCommandView { server, epoch } in &view.dns_of_another_store {
        let reason = Reason::DnsOfAnotherStore { commanded_by: *epoch };
        checks.push(check(Mark::Bad, format!("DNS server {server}"), &reason).then(DNS_COMMAND_TAKEN_BY));
    }
}

/// In force, and not yet what is done.
fn restart(view: &StatusView, checks: &mut Vec<Check>) {
    for needed in &view.coordinator.restart_needed {
        checks.push(check(Mark::Warn, "configuration", needed).then("restart the coordinator"));
    }
}

fn vantages(view: &StatusView, checks: &mut Vec<Check>) {
    let reporting = view.vantages.iter().filter(|v| v.state.counts()).count();
    if reporting == view.vantages.len() {
        checks.push(check(Mark::Ok, "vantages", format!("{reporting} of {reporting} report")));
    }
    for v in view.vantages.iter().filter(|v| !v.state.counts()) {
        let skew = v
            .skew_millis
            .filter(|_| v.state == VantageState::Skewed)
            .map(|ms| format!(", clock {ms} ms off"))
            .unwrap_or_default();
        let finding = format!("{} in {} is {}{skew}: it abstains", v.agent, v.region, v.state);
        checks.push(check(Mark::Warn, "vantages", finding).then(format!("drover explain {}", v.region)));
    }
    for v in view.vantages.iter().filter(|v| v.dropped > 0) {
        let finding = format!("{} dropped {} observations while it was cut off", v.agent, v.dropped);
        checks.push(check(Mark::Warn, "vantages", finding));
    }
}

fn automatic(r: &RegionView) -> Check {
    let q = &r.quorum;
    let what = format!("automatic failover of {}", r.name);
    let silent =
        if q.abstaining.is_empty() { String::new() } else { format!("; silent: {}", list(&q.abstaining)) };
    let numbers =
        format!("{} of {} outside vantages can speak, {} needed{silent}", q.able, q.configured, q.need);
    if q.possible {
        check(
            if q.abstaining.is_empty() { Mark::Ok } else { Mark::Warn },
            what,
            format!("possible: {numbers}"),
        )
    } else {
        check(Mark::Bad, what, format!("impossible, people would be asked: {numbers}"))
            .then(format!("drover explain {}", r.name))
    }
}

/// Of what the coordinator says of one server so much is told.
const BEHIND_TOLD_MAX: usize = 3;

/// What servers answer to real queries, against the generation that was published.
fn resolvers(view: &StatusView, answers: &[DnsAnswer], checks: &mut Vec<Check>) {
    if view.dns.is_empty() {
        let finding = "no server is configured: weights are decided, and nobody answers them";
        checks.push(
            check(Mark::Bad, "DNS", finding).then("add `dns:` to the settings, then drover config validate"),
        );
    }
    for server in &view.dns {
        let of_server: Vec<&DnsAnswer> = answers.iter().filter(|a| a.instance == server.instance).collect();
        let mut wrong: Vec<String> = of_server.iter().filter_map(|a| wrong(view, a)).collect();
        let unversioned = of_server.iter().any(|a| a.is_unversioned);
        // What the coordinator has compared, of every record of the zone; and why it can publish nothing there.
        wrong.extend(server.behind.iter().take(BEHIND_TOLD_MAX).cloned());
        let what = format!("DNS server {}", server.instance);
        if wrong.is_empty() {
            let n = count(of_server.len(), "name");
            let at = if unversioned { "as far as answers show" } else { "at the published generation" };
            checks.push(check(Mark::Ok, what, format!("answers {n} {at}")));
        } else {
            let finding = format!("at {}: {}", server.query, wrong.join("; "));
            let is_silent = of_server.iter().any(|a| a.error.is_some());
            let next =
                if is_silent { "is its process running? drover status --all" } else { "drover dns drift" };
            checks.push(check(Mark::Bad, what, finding).then(next));
        }
    }
}

fn wrong(view: &StatusView, answer: &DnsAnswer) -> Option<String> {
    if let Some(error) = &answer.error {
        return Some(format!("{}: {error}", answer.name));
    }
    let published = view.services.iter().find(|s| s.name.as_str() == answer.service)?.generation.0;
    match answer.generation {
        Some(g) if g == published => None,
        Some(g) => Some(format!("{} at generation {g}, published is {published}", answer.name)),
        None if answer.is_unversioned && !answer.values.is_empty() => None,
        None => Some(format!("{} at no generation, published is {published}", answer.name)),
    }
}

fn standing(view: &StatusView, look: &Look, checks: &mut Vec<Check>) {
    if let Some(f) = &view.freeze {
        let finding = format!("frozen by {} ({}), {}", f.by, f.reason, left(look, f.expires_at));
        checks.push(check(Mark::Warn, "automatic action", finding).then("drover unfreeze --reason TEXT"));
    }
    for s in view.services.iter().filter(|s| !s.automatic) {
        checks.push(check(Mark::Warn, "automatic action", format!("{} asks: `automatic: false`", s.name)));
    }
    for h in view.holds.iter().filter(|h| h.expires_at.is_some_and(|t| t <= look.now)) {
        let finding = format!("{} is drained {}", h.region, left(look, h.expires_at));
        checks.push(check(Mark::Warn, "drains", finding).then(format!("drover undrain {}", h.region)));
    }
    for b in &view.blocks {
        let finding = format!("{} after {}: {}", b.class, b.run, left(look, Some(b.until)));
        checks.push(
            check(Mark::Warn, format!("block period of {}", b.service), finding)
                .then(format!("drover rearm {}", b.service)),
        );
    }
    for r in &view.runs {
        if matches!(r.state, RunState::AwaitingApproval | RunState::NeedsOperator | RunState::Paused) {
            let finding = format!("{}: {}", r.state, r.summary);
            checks.push(check(Mark::Bad, &r.id, finding).then(format!("drover run show {}", r.id)));
        }
    }
}

fn upkeep(view: &StatusView, checks: &mut Vec<Check>) {
    let c = &view.coordinator;
    checks.push(if c.page_channels == 0 {
        check(Mark::Warn, "pages", "no channel is configured: whatever happens, nobody is told")
            .then("set `paging: {on_page: [COMMAND]}` or a webhook in the settings")
    } else if c.pages_undelivered == 0 {
        check(Mark::Ok, "pages", format!("none waits, {}", count(c.page_channels as usize, "channel")))
    } else {
        let oldest =
            c.pages_oldest.map(|s| format!(", the oldest for {}", span(whole(s)))).unwrap_or_default();
        check(Mark::Bad, "pages", format!("{} not delivered{oldest}", c.pages_undelivered))
            .then("see `paging:` in the settings and the coordinator's log")
    });
    let size = bytes(c.store_bytes);
    checks.push(if let Some(why) = &c.store_failing {
        check(Mark::Bad, "store", why.clone()).then(if c.store_stopped {
            "dmesg and the disk's health; once it is sound, restart the coordinator: freeing space does not help"
        } else {
            "df -h of its directory; free some space, it goes on by itself"
        })
    } else if c.store_alarm {
        check(Mark::Warn, "store", format!("{size}, past its alarm size"))
            .then("see `retention:` in the settings")
    } else {
        check(Mark::Ok, "store", size)
    });
}

/// The checks as a list, worst first within their order.
pub fn render(diagnosis: &Diagnosis, look: &Look) -> String {
    let row = |c: &Check| {
        let mark = match c.mark {
            Mark::Ok => tones::guard(true),
            Mark::Warn => paint(Tone::Doubtful, "warn"),
            Mark::Bad => paint(Tone::Bad, "BAD"),
        };
        let next = c.next.as_ref().map(|n| format!("\n{}", paint(Tone::Quiet, n))).unwrap_or_default();
        vec![mark, c.what.clone(), format!("{}{next}", c.finding)]
    };
    table::hanging(look, diagnosis.checks.iter().map(row).collect())
}
