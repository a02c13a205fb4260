//! What is not normal, in one sentence each with the next command; and pages made from it.

use crate::coordinator::Coordinator;
use crate::outbox::NewPage;
use crate::text::{list, wire_name};
use drover_model::AgentId;
use drover_model::api::{
    Attention, CheckState, DnsCommandView, DnsView, EndpointView, HealthChecksView, RegionStanding,
    ServiceView, Severity, StatusView,
};
use drover_model::decision::{FailureClass, VantageState, VerdictState};
use drover_model::journal::RunState;
use drover_model::reason::Reason;
use drover_model::traffic::{Actor, Load, ShareReason};
use drover_model::{Span, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How often pages are derived from what is not normal.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Holds and freezes warn this long before they lapse, but not before the last quarter of their time.
pub const LAPSE_WARNING: Span = Span::from_mins(15);
/// How long a coordinator may take to hear everybody: two of the default probe intervals, and some.
const STARTING: Span = Span::from_secs(90);
/// How long records may take to say what health checks say already: some more than Route 53 has for a change.
const FOLLOWING: Span = Span::from_mins(2);
/// An agent that reports another declaration than the newest for so long has refused it: it takes one with the answer to a report.
const REFUSES_AFTER: Span = Span::from_mins(1);
/// A machine's certificate that ends within this time pages.
const CERTIFICATE_PAGES_WITHIN: Span = Span::from_hours(7 * 24);
/// What goes away and is back within this time is the same trouble still, and pages once.
const SAME_TROUBLE: Span = Span::from_mins(5);

fn line(
    severity: Severity,
    subject: impl ToString,
    code: &str,
    sentence: String,
    next: Option<String>,
) -> Attention {
    Attention { severity, subject: subject.to_string(), sentence, code: code.into(), next, since: None }
}

/// Everything that is not normal, worst first.
#[must_use]
pub fn attention(view: &StatusView, now: Timestamp) -> Vec<Attention> {
    let mut all = Vec::new();
    // A coordinator that just started has not heard everybody yet; that is no trouble so far.
    let starting = view.vantages.iter().any(|v| v.state == VantageState::NeverHeard)
        && now.since(view.coordinator.started_at) < STARTING;
    runs(view, &mut all);
    for s in &view.services {
        for e in &s.endpoints {
            endpoint(s, e, starting, &mut all);
        }
    }
    failbacks(view, &mut all);
    vantages(view, &mut all);
    regions(view, starting, &mut all);
    dns(view, &mut all);
    health_checks(view, &mut all);
    all.extend(view.datasets.iter().filter_map(crate::datasets::attention));
    laid_down(view, now, &mut all);
    coordinator(view, &mut all);
    coordinators(view, &mut all);
    all.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.subject.cmp(&b.subject)));
    all
}

fn runs(view: &StatusView, all: &mut Vec<Attention>) {
    for r in &view.runs {
        let what = format!("{} of {} from {}: {}", r.purpose, list(&r.services), r.region, r.summary);
        let (severity, next) = match r.state {
            RunState::AwaitingApproval => (
                Severity::Critical,
                format!("drover approve {0} --reason TEXT (or drover reject {0} --reason TEXT)", r.id),
            ),
            RunState::NeedsOperator | RunState::Paused => {
                (Severity::Critical, format!("drover run show {}", r.id))
            }
            RunState::Running | RunState::Validating | RunState::RollingBack => {
                (Severity::Info, format!("drover run follow {}", r.id))
            }
            _ => continue,
        };
        let code = wire_name(&r.state);
        let mut a = line(severity, &r.id, &format!("run_{code}"), format!("{}: {what}", r.state), Some(next));
        a.since = Some(r.started_at);
        all.push(a);
    }
}

fn endpoint(s: &ServiceView, e: &EndpointView, starting: bool, all: &mut Vec<Attention>) {
    // Nearly all are well: their names are not put together for nothing.
    let subject = || format!("{}@{}", s.name, e.region);
    let explain = || format!("drover explain {}", subject());
    let severity = match e.verdict {
        VerdictState::Healthy => None,
        VerdictState::Down | VerdictState::Unreachable if e.weight.0 > 0 => Some(Severity::Critical),
        VerdictState::Unknown if starting || e.since.is_none() => Some(Severity::Info),
        _ => Some(Severity::Warning),
    };
    if let Some(severity) = severity {
        let sentence = format!("{} in {} is {}, weight {}", s.name, e.region, e.verdict, e.weight);
        let code = format!("endpoint_{}", wire_name(&e.verdict));
        let mut a = line(severity, subject(), &code, sentence, Some(explain()));
        a.since = e.since;
        all.push(a);
    }
    if let Some(load) = e.load.filter(|load| *load > e.usable && e.weight.0 > 0) {
        let (severity, verb) = match s.load {
            Load::Measured { .. } => (Severity::Warning, "is asked for"),
            Load::Declared { .. } | Load::Unknown => {
                (Severity::Info, "would at its declared peak be asked for")
            }
        };
        let sentence = format!("{} in {} {verb} {load}, of {} that it may carry", s.name, e.region, e.usable);
        all.push(line(severity, subject(), "overloaded", sentence, Some(explain())));
    }
    if let Some(ends) = e.certificate_expires_at.filter(|_| e.certificate_expiring) {
        let sentence = format!("the certificate of {} in {} ends at {ends}", s.name, e.region);
        let next = Some(format!("renew it; then {}", explain()));
        all.push(line(Severity::Warning, subject(), "certificate_expiring", sentence, next));
    }
    if let (ShareReason::Returning { run, .. }, None) = (&e.share_reason, &s.run) {
        let sentence = format!("{} is left at {} of its share by {run}", e.region, e.share);
        let next = format!("drover failback {} --from {} --plan", s.name, e.region);
        all.push(line(Severity::Warning, subject(), "ramp_left", sentence, Some(next)));
    }
}

/// Regions that may come back, and those for which that is a matter of time or of their own agents.
fn failbacks(view: &StatusView, all: &mut Vec<Attention>) {
    for f in &view.failbacks {
        let which = list(&f.services);
        match &f.reason {
            reason if f.offered => {
                let sentence = format!("failback of {which} is offered: {reason}");
                all.push(line(Severity::Warning, &f.region, "failback_offered", sentence, f.next.clone()));
            }
            reason @ (Reason::StableHold { .. } | Reason::RegionSilent { .. }) => {
                let sentence = format!("no failback of {which} yet: {reason}");
                let next = Some(format!("drover explain {}", f.region));
                all.push(line(Severity::Info, &f.region, "failback_not_yet", sentence, next));
            }
            _ => {}
        }
    }
}

fn vantages(view: &StatusView, all: &mut Vec<Attention>) {
    for v in &view.vantages {
        if let Some(why) = &v.refused {
            let sentence = format!("the reports of {} in {} are refused: {why}", v.agent, v.region);
            let next = Some("drover doctor".into());
            all.push(line(Severity::Warning, &v.agent, "vantage_refused", sentence, next));
        }
        if v.state == VantageState::Reporting {
            if v.dropped > 0 {
                let sentence = format!("{} dropped {} observations while it was cut off", v.agent, v.dropped);
                all.push(line(Severity::Info, &v.agent, "observations_dropped", sentence, None));
            }
            continue;
        }
        let severity = if v.state == VantageState::NeverHeard { Severity::Info } else { Severity::Warning };
        let sentence = match v.state {
            VantageState::Blind => format!(
                "{} in {} sees nothing at all, not even its references: it abstains",
                v.agent, v.region
            ),
            VantageState::Skewed => {
                let skew = v.skew_millis.unwrap_or_default();
                format!("the clock of {} in {} is {skew} ms off: it abstains", v.agent, v.region)
            }
            state => format!("{} in {} is {state}: it abstains", v.agent, v.region),
        };
        let code = format!("vantage_{}", wire_name(&v.state));
        let mut a = line(severity, &v.agent, &code, sentence, Some("drover doctor".into()));
        // Only silence has a beginning that stands still; the others are heard all the time.
        a.since = v.heard_at.filter(|_| v.state == VantageState::Silent);
        all.push(a);
    }
}

fn regions(view: &StatusView, starting: bool, all: &mut Vec<Attention>) {
    let severity = if starting { Severity::Info } else { Severity::Warning };
    for r in view.regions.iter().filter(|r| !r.witness && !r.quorum.possible) {
        let q = &r.quorum;
        let sentence = format!(
            "automatic failover of {} is impossible: {} of {} outside vantages can speak, {} needed",
            r.name, q.able, q.configured, q.need
        );
        all.push(line(severity, &r.name, "automatic_impossible", sentence, Some("drover doctor".into())));
    }
}

fn dns(view: &StatusView, all: &mut Vec<Attention>) {
    for d in &view.dns {
        if !d.reachable {
            let sentence = format!(
                "DNS server {} can't be reached; it answers what it was told last{}",
                d.instance,
                why(d)
            );
            all.push(line(
                Severity::Warning,
                &d.instance,
                "dns_unreachable",
                sentence,
                Some("drover doctor".into()),
            ));
        } else if let Some(first) = d.behind.first() {
            let sentence = format!("DNS server {} differs from the target: {first}", d.instance);
            all.push(line(
                Severity::Warning,
                &d.instance,
                "dns_behind",
                sentence,
                Some("drover dns drift".into()),
            ));
        }
        contradictions(d, all);
    }
}

/// Status servers that go on holding another word than the newest, as those do which refuse it.
fn not_taken(view: &StatusView, checks: &HealthChecksView, all: &mut Vec<Attention>) {
    let pages = checks.regions.iter().flat_map(|r| &r.pages);
    let behind: BTreeMap<&AgentId, Timestamp> =
        pages.filter_map(|page| Some((&page.agent, page.behind_since?))).collect();
    for (agent, since) in behind.into_iter().filter(|(_, since)| view.at.since(*since) >= REFUSES_AFTER) {
        let sentence = format!(
            "status server {agent} does not take what the coordinator declares; what its pages say is an earlier word, or another store's"
        );
        let next = Some("drover dns checks".to_owned());
        let mut a = line(Severity::Warning, agent, "health_check_not_taken", sentence, next);
        a.since = Some(since);
        all.push(a);
    }
}

/// What health checks carry for the records, and what keeps them from it.
fn health_checks(view: &StatusView, all: &mut Vec<Attention>) {
    let Some(checks) = &view.health_checks else { return };
    let next = || Some("drover dns checks".to_owned());
    for r in &checks.regions {
        let waits = r.waits_for.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let (code, sentence) = match r.standing {
            RegionStanding::InService => continue,
            RegionStanding::Declared => (
                "out_by_health_check",
                format!("{} is declared out of service, and its records follow{waits}", r.region),
            ),
            RegionStanding::Withdrawing => {
                let deaf: Vec<&AgentId> =
                    r.pages.iter().filter(|p| !p.has_newest).map(|p| &p.agent).collect();
                let who = match deaf.is_empty() {
                    true => "Route 53's checkers may not have followed yet".to_owned(),
                    false => format!("{} may not have heard it", list(&deaf)),
                };
                ("health_check_lingers", format!("{} is in service again, and {who}", r.region))
            }
        };
        // Of a move that is made at the same time it is over within a minute.
        let is_new = r.since.is_some_and(|since| view.at.since(since) < FOLLOWING);
        let severity = if is_new { Severity::Info } else { Severity::Warning };
        let mut a = line(severity, &r.region, code, sentence, next());
        a.since = r.since;
        all.push(a);
    }
    not_taken(view, checks, all);
    for c in
        checks.checks.iter().filter(|c| matches!(c.state, CheckState::ChangedByHand | CheckState::Refused))
    {
        let what = c.page.as_ref().map_or_else(String::new, |page| format!(" of {page}"));
        let why = c.sentence.clone().unwrap_or_default();
        let sentence = format!("the health check{what} is not as it should be: {why}");
        all.push(line(Severity::Warning, &c.region, "health_check_changed", sentence, next()));
    }
    if let Some(trouble) = &checks.trouble {
        let sentence = format!("the health checks can't be read or made: {trouble}");
        all.push(line(Severity::Warning, "health checks", "health_checks_unread", sentence, next()));
    }
}

/// A server that answers something else than the zone has. Nothing drover could write would mend it.
fn contradictions(d: &DnsView, all: &mut Vec<Attention>) {
    // What stands for the longest is told; the others are the same trouble in most cases.
    let Some(first) = d.contradictions.iter().min_by_key(|c| c.since) else { return };
    let severity = if first.stands { Severity::Warning } else { Severity::Info };
    let more = match d.contradictions.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let sentence = format!("DNS server {}{more}", first.sentence(&d.instance));
    let mut a = line(severity, &d.instance, "dns_contradicted", sentence, Some("drover dns drift".into()));
    a.since = Some(first.since);
    all.push(a);
}

fn why(dns: &DnsView) -> String {
    dns.behind.first().map(|first| format!(" ({first})")).unwrap_or_default()
}

/// Where something that a person laid down stands between its beginning and its end.
struct Lapse {
    severity: Severity,
    words: String,
    /// It is over, or nearly: that pages, as nothing else does that a person laid down.
    near: bool,
}

fn lapse(since: Timestamp, until: Option<Timestamp>, now: Timestamp) -> Lapse {
    let Some(until) = until else {
        return Lapse { severity: Severity::Info, words: "with no end set".to_owned(), near: false };
    };
    let left = until.since(now);
    if until <= now {
        let words = format!("past its end by {}", rounded(now.since(until)));
        return Lapse { severity: Severity::Critical, words, near: true };
    }
    if left <= LAPSE_WARNING.min(until.since(since).divided_by(4)) {
        return Lapse {
            severity: Severity::Warning,
            words: format!("lapses in {}", rounded(left)),
            near: true,
        };
    }
    Lapse { severity: Severity::Info, words: format!("{} left", rounded(left)), near: false }
}

/// Without the milliseconds that nobody reads.
fn rounded(span: Span) -> Span {
    Span::from_secs(span.as_millis() / 1_000)
}

fn laid_down(view: &StatusView, now: Timestamp, all: &mut Vec<Attention>) {
    if let Some(f) = &view.freeze {
        let lapse = lapse(f.since, f.expires_at, now);
        let sentence = format!("automatic action is frozen by {} ({}), {}", f.by, f.reason, lapse.words);
        // What stands for a freeze ends with the record that can't be read, which has a line of its own.
        let next = (f.by != Actor::Automatic).then(|| "drover unfreeze --reason TEXT".into());
        let code = if lapse.near { "frozen_lapsing" } else { "frozen" };
        let mut a = line(lapse.severity.max(Severity::Warning), "freeze", code, sentence, next);
        a.since = Some(f.since);
        all.push(a);
    }
    for h in &view.holds {
        let lapse = lapse(h.since, h.expires_at, now);
        let services = list(&h.services);
        let sentence =
            format!("{} is drained of {services} by {} ({}), {}", h.region, h.by, h.reason, lapse.words);
        let next = Some(format!("drover undrain {}", h.region));
        let code = if lapse.near { "drained_lapsing" } else { "drained" };
        let mut a = line(lapse.severity, &h.region, code, sentence, next);
        a.since = Some(h.since);
        all.push(a);
    }
    for h in &view.held {
        let (service, held_by) = (h.service.clone(), h.held_by.clone());
        let reason = Reason::HeldByBreakGlass { service, held_by };
        let (sentence, next) = (reason.to_string(), reason.next_command());
        all.push(line(Severity::Warning, &h.service, "held_by_break_glass", sentence, next));
    }
    if let Some(DnsCommandView { epoch, .. }) = view.dns_of_another_store.first() {
        let servers: Vec<&str> = view.dns_of_another_store.iter().map(|d| d.server.as_str()).collect();
        let reason = Reason::DnsOfAnotherStore { commanded_by: *epoch };
        let (sentence, next) = (format!("{}: {reason}", servers.join(", ")), reason.next_command());
        all.push(line(Severity::Critical, "dns", "dns_of_another_store", sentence, next));
    }
    for b in &view.blocks {
        let left = rounded(b.until.since(now));
        let what = match b.class {
            FailureClass::Recovery => format!("failback of {}", b.service),
            class => format!("failover of {} for {class}", b.service),
        };
        let sentence = format!("no automatic {what} for {left}, after {}", b.run);
        all.push(line(
            Severity::Info,
            &b.service,
            "blocked",
            sentence,
            Some(format!("drover rearm {}", b.service)),
        ));
    }
}

/// The coordinator does not know whether the machine's key was made at the authority or on the machine.
const RENEWED_BY: &str = "where the authority is: drover pki rotate --if-ends-soon DIR; of a machine that joined: \
                          drover pki invite … there, and drover pki join … --out NEWDIR on the machine";

fn coordinator(view: &StatusView, all: &mut Vec<Attention>) {
    let c = &view.coordinator;
    if let Some(first) = c.config_refused.first() {
        let n = c.config_refused.len();
        let sentence =
            format!("the configuration on disk is refused with {n} error(s), the old one stays: {first}");
        all.push(line(
            Severity::Warning,
            "configuration",
            "config_refused",
            sentence,
            Some("drover config validate".into()),
        ));
    }
    for needed in &c.restart_needed {
        let next = Some("restart the coordinator".into());
        all.push(line(Severity::Info, "configuration", "restart_needed", needed.clone(), next));
    }
    if let Some(why) = &c.store_failing {
        all.push(line(
            Severity::Critical,
            "store",
            "store_failing",
            why.clone(),
            Some("drover doctor".into()),
        ));
    }
    if c.store_alarm {
        let sentence = format!("the store has {} bytes, past its alarm size", c.store_bytes);
        all.push(line(Severity::Warning, "store", "store_alarm", sentence, Some("drover doctor".into())));
    }
    for ending in &c.certificates_ending {
        // Renewing it is a day's work; it wakes nobody before its last week.
        let is_near = ending.until.since(view.at) < CERTIFICATE_PAGES_WITHIN;
        let severity = if is_near { Severity::Warning } else { Severity::Info };
        let sentence = format!("the certificate of {} ends at {}", ending.machine, ending.until);
        let next = Some(RENEWED_BY.to_owned());
        all.push(line(severity, &ending.machine, "machine_certificate_ending", sentence, next));
    }
    for record in &c.unreadable_records {
        let sentence = format!(
            "record {} of the store makes no sense here: {}; {}",
            record.key, record.why, record.meanwhile
        );
        let next = Some(record.next.clone());
        all.push(line(record.severity, &record.key, "record_unreadable", sentence, next));
    }
    if c.pages_undelivered > 0 {
        let oldest = c.pages_oldest.map(rounded).unwrap_or_default();
        let sentence = format!("{} page(s) not delivered, the oldest for {oldest}", c.pages_undelivered);
        all.push(line(
            Severity::Warning,
            "outbox",
            "pages_undelivered",
            sentence,
            Some("drover doctor".into()),
        ));
    }
}

/// Those that share the store, and whether it can be read and written.
fn coordinators(view: &StatusView, all: &mut Vec<Attention>) {
    const REACHED: &str = "etcdctl endpoint health --cluster";
    let c = &view.coordinator;
    if let Some(unread) = &c.store_unread {
        let sentence = format!(
            "the store can't be read: targets, holds and runs are shown as they were, verdicts as they are ({})",
            unread.reason
        );
        let mut a = line(Severity::Critical, "store", "store_unread", sentence, Some(REACHED.into()));
        a.since = Some(unread.since);
        all.push(a);
    }
    let Some(l) = &c.leadership else { return };
    if l.waits {
        let sentence = "the store takes no sign of life of the leader: nothing is done by itself and no command is taken; DNS \
                        goes on answering"
            .to_owned();
        all.push(line(Severity::Critical, "leader", "leader_waits", sentence, Some(REACHED.into())));
    }
    for f in &l.followers {
        let look = Some(format!("drover --coordinator {} status", f.url));
        if let Some(silent) = f.silent {
            let sentence = format!(
                "a coordinator has said nothing for {}: it could not take over when it is needed",
                rounded(silent)
            );
            all.push(line(Severity::Warning, &f.url, "coordinator_silent", sentence, look));
        } else if f.config_version != c.config_version {
            let sentence = format!(
                "a coordinator goes by configuration {}, and this one by {}: whoever takes over goes by its own",
                f.config_version, c.config_version
            );
            all.push(line(Severity::Info, &f.url, "configurations_differ", sentence, look));
        }
    }
}

/// Since when there is trouble that does not know it by itself: by what and about what, first and last seen.
#[derive(Default)]
struct FirstSeen(BTreeMap<(String, String), (Timestamp, Timestamp)>);

impl FirstSeen {
    /// The key that tells the same trouble apart: what, about what, how bad, since when. What gets worse pages again.
    fn page_key(&mut self, a: &Attention, now: Timestamp) -> String {
        let since = a.since.unwrap_or_else(|| {
            let seen = self.0.entry((a.code.clone(), a.subject.clone())).or_insert((now, now));
            seen.1 = now;
            seen.0
        });
        format!("{}/{}/{}/{}", a.code, a.subject, wire_name(&a.severity), since.as_millis())
    }

    fn forget(&mut self, now: Timestamp) {
        self.0.retain(|_, (_, last)| now.since(*last) <= SAME_TROUBLE);
    }
}

/// Does this page people? Runs page by themselves; what a person laid down pages only when it lapses.
fn pages(a: &Attention) -> bool {
    match a.code.as_str() {
        // How much is asked for is the most of the last readings: a cut-over shows in it on both sides for a while.
        "frozen" | "drained" | "overloaded" | "pages_undelivered" => false,
        code if code.starts_with("run_") => false,
        _ => a.severity >= Severity::Warning,
    }
}

impl Coordinator {
    /// Turns what is not normal into pages until told to stop.
    pub(crate) async fn run_attention(self: Arc<Self>) {
        let mut seen = BTreeSet::new();
        let mut before: BTreeSet<String> = BTreeSet::new();
        let mut first_seen = FirstSeen::default();
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let now = self.clock.now();
            let view = self.status_view();
            first_seen.forget(now);
            let current: BTreeMap<String, Attention> =
                view.attention.into_iter().filter(pages).map(|a| (first_seen.page_key(&a, now), a)).collect();
            seen.retain(|k| current.contains_key(k));
            let stands = std::mem::replace(&mut before, current.keys().cloned().collect());
            for (key, a) in current {
                // What is gone at the next look was not worth waking anybody.
                if seen.contains(&key) || !stands.contains(&key) {
                    continue;
                }
                let page = NewPage {
                    key: key.clone(),
                    severity: a.severity,
                    subject: a.subject,
                    message: a.sentence,
                    next: a.next,
                };
                match self.page(page).await {
                    Ok(()) => drop(seen.insert(key)),
                    Err(e) => {
                        tracing::error!(error = &e as &dyn std::error::Error, "can't write a page down")
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
