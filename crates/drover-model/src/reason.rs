//! Why something was done, not done, or refused. Each reason has a stable code, a sentence with numbers, and where
//! one exists the command that goes on from here.

use crate::api::DNS_COMMAND_TAKEN_BY;
use crate::break_glass::{HeldBy, TAKEN_BACK_BY};
use crate::decision::{FailureClass, VerdictState};
use crate::ids::{AgentId, PlanId, RegionId, RunId, ServiceId};
use crate::time::{Span, Timestamp};
use crate::traffic::Actor;
use crate::units::{Epoch, Percent, RequestsPerSecond};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A reason with its numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "code", rename_all = "snake_case")]
#[allow(missing_docs)] // The fields are the words of the sentence that `Display` makes of them.
pub enum Reason {
    /// Enough vantages see it well.
    SeenHealthy { healthy: u32, configured: u32 },
    /// The quorum agrees that it fails.
    QuorumReached { failing: u32, configured: u32, need: u32 },
    /// Some see it failing, too few to act.
    QuorumNotReached { failing: u32, configured: u32, need: u32 },
    /// The inside sees it failing, the outside does not.
    InsideOnly { inside_failing: u32, healthy: u32 },
    /// Too few vantages say anything.
    TooLittleKnown { abstaining: u32, configured: u32, need: u32 },
    /// Nothing is wrong that would move traffic.
    NothingToDo,
    /// The region has fewer outside vantages than any quorum needs.
    TooFewVantages { region: RegionId, configured: u32, need: u32, abstaining: Vec<AgentId> },
    /// More than half of the regions fail at once: the observer is suspected.
    CommonCause { failing: u32, regions: u32, share: Percent, window: Span },
    /// No healthy region would remain.
    LastHealthyRegion { service: ServiceId, region: RegionId },
    /// The rest cannot carry it.
    CapacityInsufficient {
        service: ServiceId,
        region: RegionId,
        projected: RequestsPerSecond,
        usable: RequestsPerSecond,
        capacity: RequestsPerSecond,
        headroom: Percent,
    },
    /// The rest can carry it; the tightest region is named.
    CapacityFits {
        service: ServiceId,
        region: RegionId,
        projected: RequestsPerSecond,
        usable: RequestsPerSecond,
    },
    /// The region that comes back would carry more than it may. It is let through: its return relieves the others.
    CapacityAtReturn {
        service: ServiceId,
        region: RegionId,
        projected: RequestsPerSecond,
        usable: RequestsPerSecond,
    },
    /// Nobody knows how much there is to carry.
    LoadUnknown { service: ServiceId },
    /// Automatic action is off.
    Frozen { by: String, why: String, until: Option<Timestamp> },
    /// An automatic failover of this class happened lately.
    Blocked { service: ServiceId, class: FailureClass, run: RunId, until: Timestamp },
    /// Another run touches the service.
    RunInProgress {
        service: ServiceId,
        run: RunId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Actor>,
    },
    /// A run of drover's own counts on what fails now: it is ended, and what is left is planned anew.
    Superseding { service: ServiceId, region: RegionId, run: RunId },
    /// A question about the same move is already open.
    AlreadyAsked { run: RunId },
    /// Another move of the service waits for an answer: nothing is begun beside it.
    QuestionOpen { service: ServiceId, region: RegionId, run: RunId },
    /// The same move was asked about and nobody answered: it is asked again, each time after a longer pause.
    Unanswered { service: ServiceId, region: RegionId, run: RunId, asked: u32, until: Timestamp },
    /// The policy says to ask.
    NotAutomatic { service: ServiceId },
    /// Too many regions of the service are out already.
    MaxUnavailable { service: ServiceId, out: u32, max: u32 },
    /// Other endpoints of this or another region are suspect: wait one probe interval to see the whole of it.
    Settling { region: RegionId, until: Timestamp },
    /// A coordinator that just started waits for fresh probes.
    QuietAfterTakeover { heard: u32, need: u32 },
    /// The verdict changed too often lately.
    FlapDamping { changes: u32, until: Timestamp },
    /// It has not been well for long enough to come back.
    StableHold {
        service: ServiceId,
        region: RegionId,
        stable_since: Timestamp,
        stable_for: Span,
        hold: Span,
        until: Timestamp,
    },
    /// It is well and has been for long enough: a person may bring it back.
    FailbackOffered {
        services: Vec<ServiceId>,
        region: RegionId,
        stable_since: Timestamp,
        hold: Span,
        all: bool,
    },
    /// The region's own agents say nothing: whether it can serve is known from outside alone.
    RegionSilent { region: RegionId, agents: Vec<AgentId> },
    /// A run that brings a region back is stopped first, because something fails.
    Preempting { service: ServiceId, run: RunId },
    /// Somebody moved it by break-glass, and it is his until it is reconciled.
    HeldByBreakGlass { service: ServiceId, held_by: HeldBy },
    /// DNS obeys another store, and takes nothing from this one.
    DnsOfAnotherStore { commanded_by: Epoch },
    /// The region carries nothing of the service.
    AlreadyOut { service: ServiceId, region: RegionId },
    /// The endpoint is still bad, and its traffic was taken off before.
    MovedAlready {
        service: ServiceId,
        region: RegionId,
        state: VerdictState,
        /// By which run; absent when it stood by, and in decisions stored by builds that did not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run: Option<RunId>,
    },
    /// A failover left it, not a drain: it comes back by shares, each of them validated.
    LeftByFailover { service: ServiceId, region: RegionId, run: RunId },
    /// The region has its full share.
    AlreadyFull { service: ServiceId, region: RegionId },
    /// The region that should take traffic is not known to be healthy.
    TargetNotHealthy { service: ServiceId, region: RegionId, state: VerdictState },
    /// Traffic of the service may not go there.
    LocalityForbids { service: ServiceId, region: RegionId, jurisdiction: String },
    /// No region can take the traffic.
    NoEligibleTarget { service: ServiceId },
    /// There is no such object.
    NotFound { what: String, known: Vec<String> },
    /// The world moved since the plan was made (I9).
    StalePlan { plan: PlanId, object: String, planned: String, now: String },
    /// The plan is not known.
    UnknownPlan { plan: String },
    /// No DNS server is configured, so weights cannot be published.
    DnsNotConfigured,
    /// Who asks for these is sent to the nearest region that has weight: weights are of those that no geography steers.
    NearestFirst { services: Vec<ServiceId> },
    /// The zone's servers know no weights: whoever answers gets the same share.
    SharesBecomeEqual,
    /// These are answered with several values at once: whoever answers gets the same share.
    SharesBecomeEqualOf { services: Vec<ServiceId> },
    /// What one region leaves can't be given to one other alone.
    NoWeights { service: ServiceId, region: RegionId, others: Vec<RegionId> },
    /// No runbook of the needed purpose is loaded.
    NoRunbook { purpose: String },
    /// The independent checker found something wrong with the plan.
    CheckFailed { finding: String },
    /// A state that does not allow the command.
    WrongState { run: RunId, state: String, command: String },
    /// A predicate of the plan no longer holds.
    PredicateFailed { predicate: String, observed: String },
    /// Guard passed without numbers worth telling.
    Passed,
}

impl Reason {
    /// The stable code, as in JSON.
    #[must_use]
    pub fn code(&self) -> String {
        serde_json::to_value(self)
            .ok()
            .and_then(|v| v.get("code").and_then(|c| c.as_str().map(str::to_owned)))
            .unwrap_or_default()
    }

    /// The command that goes on from here, when there is one.
    #[must_use]
    pub fn next_command(&self) -> Option<String> {
        Some(match self {
            Reason::Frozen { .. } => "drover unfreeze --reason TEXT".into(),
            Reason::Blocked { service, .. } => format!("drover rearm {service}"),
            Reason::HeldByBreakGlass { .. } => TAKEN_BACK_BY.into(),
            Reason::DnsOfAnotherStore { .. } => DNS_COMMAND_TAKEN_BY.into(),
            Reason::Unanswered { service, region, .. } => {
                format!("drover failover {service} --from {region} --plan")
            }
            Reason::RunInProgress { run, .. } => format!("drover run follow {run}"),
            Reason::Superseding { run, .. } => format!("drover run show {run}"),
            Reason::AlreadyAsked { run } | Reason::QuestionOpen { run, .. } => {
                format!("drover approve {run} --reason TEXT")
            }
            Reason::StalePlan { .. } | Reason::UnknownPlan { .. } => {
                "repeat the command with --plan for a new plan".into()
            }
            Reason::QuorumNotReached { .. }
            | Reason::TooLittleKnown { .. }
            | Reason::TooFewVantages { .. } => "drover doctor".into(),
            Reason::CommonCause { .. } => {
                "drover status --all, then drover failover --all --from REGION".into()
            }
            Reason::CapacityInsufficient { service, .. } => {
                format!("drover explain {service}; to overrule: --accept capacity")
            }
            Reason::LoadUnknown { service } => format!("drover explain {service}"),
            Reason::MovedAlready { run: Some(run), .. } => format!("drover run show {run}"),
            Reason::LeftByFailover { service, region, .. } => {
                format!("drover failback {service} --from {region} --plan")
            }
            Reason::WrongState { run, command, .. } if command == "skip" => {
                format!("a step is skipped while its run is paused: drover run pause {run} --reason TEXT")
            }
            Reason::FailbackOffered { services, region, all, .. } => {
                let names: Vec<_> = services.iter().map(ServiceId::as_str).collect();
                let which = if *all { "--all".to_owned() } else { names.join(" ") };
                format!("drover failback {which} --from {region} --reason TEXT")
            }
            Reason::StableHold { region, .. } => {
                format!("drover explain {region}; to overrule: --accept stable_hold")
            }
            Reason::RegionSilent { .. } => "drover doctor".into(),
            Reason::Preempting { run, .. } => format!("drover run follow {run}"),
            Reason::WrongState { run, .. } => format!("drover run show {run}"),
            Reason::NoWeights { .. } => "without --to, or drain the other regions first".into(),
            Reason::DnsNotConfigured => "add `dns:` to the settings, then drover config validate".into(),
            Reason::NoRunbook { .. } => "drover runbook list".into(),
            Reason::TargetNotHealthy { service, .. } | Reason::LastHealthyRegion { service, .. } => {
                format!("drover explain {service}")
            }
            Reason::NotFound { what, .. } if what.starts_with("run") => "drover run list".into(),
            Reason::NotFound { what, .. } if what.starts_with("decision") => "drover log".into(),
            Reason::NotFound { .. } => "drover status --all".into(),
            _ => return None,
        })
    }
}

impl fmt::Display for Reason {
    #[allow(clippy::too_many_lines)] // One sentence a reason; splitting it would hide which is missing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::SeenHealthy { healthy, configured } => {
                write!(f, "{healthy} of {configured} outside vantages see it healthy")
            }
            Reason::QuorumReached { failing, configured, need }
            | Reason::QuorumNotReached { failing, configured, need } => {
                write!(f, "{failing} of {configured} outside vantages agree, {need} needed")
            }
            Reason::InsideOnly { inside_failing, healthy } => {
                write!(
                    f,
                    "{inside_failing} inside vantage(s) see it failing, {healthy} outside see it healthy"
                )
            }
            Reason::TooLittleKnown { abstaining, configured, need } => {
                write!(f, "{abstaining} of {configured} outside vantages say nothing, {need} must agree")
            }
            Reason::NothingToDo => f.write_str("nothing is wrong that would move traffic"),
            other => fmt_refusal(other, f),
        }
    }
}

fn until(t: Option<Timestamp>) -> String {
    t.map_or_else(|| "with no end set".to_owned(), |t| format!("until {t}"))
}

fn fmt_refusal(reason: &Reason, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match reason {
        Reason::TooFewVantages { region, configured, need, abstaining } => {
            let names: Vec<_> = abstaining.iter().map(AgentId::as_str).collect();
            let able = *configured as usize - names.len().min(*configured as usize);
            write!(f, "{region}: {able} of {configured} outside vantages can speak, {need} needed")?;
            if names.is_empty() { Ok(()) } else { write!(f, " (abstaining: {})", names.join(", ")) }
        }
        Reason::CommonCause { failing, regions, share, window } => write!(
            f,
            "{failing} of {regions} regions fail within {window}, more than {share}: suspecting the observer, not the regions"
        ),
        Reason::LastHealthyRegion { service, region } => {
            write!(f, "{region} is the last region that serves {service}")
        }
        Reason::CapacityInsufficient { service, region, projected, usable, capacity, headroom } => write!(
            f,
            "{service} would put {projected} on {region}, which may carry {usable} ({capacity} less {headroom} headroom)"
        ),
        Reason::CapacityFits { service, region, projected, usable } => {
            write!(f, "{service} would put {projected} on {region}, which may carry {usable}")
        }
        Reason::CapacityAtReturn { service, region, projected, usable } => write!(
            f,
            "{service} would put {projected} on {region}, which may carry {usable}; let through, because its return relieves the others"
        ),
        Reason::LoadUnknown { service } => {
            write!(f, "the load of {service} is neither measured nor declared (`peak_load`)")
        }
        Reason::Frozen { by, why, until: end } => write!(f, "frozen by {by} {}: {why}", until(*end)),
        Reason::Blocked { service, class: FailureClass::Recovery, run, until } => {
            write!(f, "{run} could not bring {service} back; not by itself again until {until}")
        }
        Reason::Blocked { service, class, run, until } => {
            write!(f, "{run} was about {class} of {service}; no other for it by itself until {until}")
        }
        Reason::RunInProgress { service, run, by: None } => write!(f, "{run} is working on {service}"),
        Reason::RunInProgress { service, run, by: Some(by) } => {
            write!(f, "{run}, begun by {by}, is working on {service}")
        }
        Reason::Superseding { service, region, run } => {
            write!(f, "{run} counts on {service} in {region} and is ended first")
        }
        Reason::AlreadyAsked { run } => write!(f, "{run} is waiting for an answer about the same move"),
        Reason::Unanswered { region, run, asked, until, .. } => write!(
            f,
            "nobody answered {run} about {region} ({asked} time(s) in a row); asking again at {until}"
        ),
        Reason::NotAutomatic { service } => write!(f, "the policy of {service} says `automatic: false`"),
        Reason::MaxUnavailable { service, out, max } => {
            write!(f, "{out} region(s) of {service} would be out, {max} allowed")
        }
        Reason::Settling { region, until } => {
            write!(f, "other endpoints are suspect beside {region}; looking again at {until}")
        }
        Reason::QuietAfterTakeover { heard, need } => {
            write!(f, "just started: {heard} vantages have reported a fresh probe, {need} needed")
        }
        Reason::FlapDamping { changes, until } => write!(f, "{changes} changes lately; damped until {until}"),
        other => fmt_return(other, f),
    }
}

fn fmt_return(reason: &Reason, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match reason {
        Reason::StableHold { service, region, stable_since, stable_for, hold, until } => write!(
            f,
            "{service} in {region} is stable since {stable_since} ({}), {hold} are needed before it comes back: until {until}",
            Span::from_secs(stable_for.as_millis() / 1_000)
        ),
        Reason::FailbackOffered { services, region, stable_since, hold, .. } => {
            let names: Vec<_> = services.iter().map(ServiceId::as_str).collect();
            write!(
                f,
                "{} in {region} is stable since {stable_since}, longer than the {hold} needed",
                names.join(", ")
            )
        }
        Reason::RegionSilent { region, agents } => {
            let names: Vec<_> = agents.iter().map(AgentId::as_str).collect();
            write!(f, "no agent of {region} reports ({})", names.join(", "))
        }
        Reason::QuestionOpen { service, region, run } => {
            write!(
                f,
                "{run} is waiting for an answer about {service} in {region}, and nothing begins beside it"
            )
        }
        Reason::HeldByBreakGlass { service, held_by } => {
            write!(f, "{held_by} holds DNS of {service} by break-glass: drover leaves it alone")
        }
        Reason::DnsOfAnotherStore { commanded_by } => {
            write!(
                f,
                "DNS obeys another store ({commanded_by}) and refuses this one: where that store is in use, end this coordinator; \
                 where it is lost for good, take the command"
            )
        }
        Reason::Preempting { service, run } => {
            write!(f, "{run}, which brings {service} back, is stopped first")
        }
        other => fmt_object(other, f),
    }
}

fn fmt_object(reason: &Reason, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match reason {
        Reason::AlreadyOut { service, region } => write!(f, "{region} carries nothing of {service}"),
        Reason::MovedAlready { service, region, state, run: Some(run) } => {
            write!(f, "{service} in {region} is still {state}, and {run} took its traffic off")
        }
        Reason::MovedAlready { service, region, state, run: None } => {
            write!(f, "{service} in {region} is still {state}, and it carries no traffic")
        }
        Reason::LeftByFailover { service, region, run } => write!(
            f,
            "{service} left {region} by a failover ({run}), not by a drain: it comes back by failback, share by share"
        ),
        Reason::AlreadyFull { service, region } => {
            write!(f, "{region} already has its full share of {service}")
        }
        Reason::TargetNotHealthy { service, region, state } => {
            write!(f, "{service} in {region} is {state}, not known to be healthy")
        }
        Reason::LocalityForbids { service, region, jurisdiction } => {
            write!(f, "traffic of {service} may not go to {region} ({jurisdiction})")
        }
        Reason::NoEligibleTarget { service } => write!(f, "no region can take the traffic of {service}"),
        Reason::NotFound { what, known } => {
            write!(f, "there is no {what}")?;
            if known.is_empty() { Ok(()) } else { write!(f, " (known: {})", known.join(", ")) }
        }
        Reason::StalePlan { plan, object, planned, now } => {
            write!(f, "{plan} was made from {object} at {planned}, which is now at {now}")
        }
        Reason::UnknownPlan { plan } => write!(f, "there is no plan {plan}"),
        Reason::DnsNotConfigured => f.write_str("no DNS server is configured"),
        Reason::SharesBecomeEqual => f.write_str(
            "shares become equal: the zone's servers know no weights, every region that answers gets the same",
        ),
        Reason::NearestFirst { services } => {
            let names: Vec<_> = services.iter().map(ServiceId::as_str).collect();
            let names = names.join(", ");
            write!(
                f,
                "weights of {names} are of clients that `geography` has nothing of: the others go to the nearest region that has any weight, all at once, and no capacity counts them apart"
            )
        }
        Reason::SharesBecomeEqualOf { services } => {
            let names: Vec<_> = services.iter().map(ServiceId::as_str).collect();
            let names = names.join(", ");
            write!(
                f,
                "shares become equal: {names} answers with several values at once, and clients take any of them"
            )
        }
        Reason::NoWeights { service, region, others } => {
            let names: Vec<_> = others.iter().map(RegionId::as_str).collect();
            write!(
                f,
                "{service} can't go to {region} alone: its shares are equal (`dns.kind` or `answers`), and {} would take the same part",
                names.join(", ")
            )
        }
        Reason::NoRunbook { purpose } => write!(f, "no runbook for {purpose} is loaded"),
        Reason::CheckFailed { finding } => write!(f, "the plan failed its independent check: {finding}"),
        Reason::WrongState { run, state, command } => {
            write!(f, "{run} is {state}; `{command}` does not apply")
        }
        Reason::PredicateFailed { predicate, observed } => write!(f, "{predicate}, but {observed}"),
        Reason::Passed => f.write_str("passed"),
        // Every other reason was printed before this function was reached; its code is still an answer.
        other => f.write_str(&other.code()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_a_code_a_sentence_and_where_possible_a_command() {
        let r = Reason::QuorumNotReached { failing: 1, configured: 3, need: 2 };
        assert_eq!(r.code(), "quorum_not_reached");
        assert_eq!(r.to_string(), "1 of 3 outside vantages agree, 2 needed");
        let blocked = Reason::Blocked {
            service: ServiceId::new("checkout").unwrap(),
            class: FailureClass::Region,
            run: RunId::numbered(7),
            until: Timestamp::from_millis(0),
        };
        assert_eq!(blocked.next_command().unwrap(), "drover rearm checkout");
    }
}
