//! Whether a destructive command may go on: the rules as a pure function, and the question itself.

use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::Out;
use drover_model::PlanId;

/// What is known when a plan is about to run.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// What would be done, as a question begins: `Run plan-1`.
    pub what: &'a str,
    /// The plan that was just made and shown, or that the run in question has.
    pub plan: &'a PlanId,
    /// The plan that may run, when one was named.
    pub named: Option<&'a PlanId>,
    /// `--yes`.
    pub yes: bool,
    /// A person can be asked.
    pub can_ask: bool,
    /// The context is marked production.
    pub production: bool,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Run it.
    Go,
    /// Ask for yes or no.
    AskYes,
    /// Ask for the region's name.
    AskName,
    /// Don't.
    No(Failure),
}

/// What the rules say. A plan that was named and is still the plan needs no more than `--yes`; without a terminal there
/// is no other way.
pub fn decide(s: Situation<'_>) -> Answer {
    if let Some(named) = s.named
        && named != s.plan
    {
        let message =
            format!("the plan is now {}, not {named}: the world moved, or the command differs", s.plan);
        return Answer::No(
            Failure::new(ExitCode::Refused, message)
                .hint("read the new plan; if it is what you want, name it"),
        );
    }
    match (s.yes, s.named.is_some(), s.can_ask) {
        (true, true, _) => Answer::Go,
        (true, false, true) if !s.production => Answer::Go,
        (_, _, true) if s.production => Answer::AskName,
        (_, _, true) => Answer::AskYes,
        (_, _, false) => {
            Answer::No(Failure::usage("without a terminal nobody can be asked").hint(format!(
                "to do it to exactly this plan, repeat the command with --yes --plan {}",
                s.plan
            )))
        }
    }
}

/// Decides, and asks if it must.
///
/// # Errors
/// When the rules forbid it or the person says no.
pub fn obtain(out: &Out, s: Situation<'_>, region: &str) -> Result<()> {
    match decide(s) {
        Answer::Go => Ok(()),
        Answer::No(failure) => Err(failure),
        Answer::AskYes => confirm(out, s.what),
        Answer::AskName => {
            let answer =
                out.ask(&format!("This is production. {}? To go ahead, type the region's name:", s.what))?;
            if answer == region { Ok(()) } else { Err(declined()) }
        }
    }
}

/// Asks for yes or no.
///
/// # Errors
/// When the person says no.
pub fn confirm(out: &Out, what: &str) -> Result<()> {
    let answer = out.ask(&format!("{what}? [y/N]"))?;
    if matches!(answer.as_str(), "y" | "Y" | "yes") { Ok(()) } else { Err(declined()) }
}

fn declined() -> Failure {
    Failure::new(ExitCode::Refused, "not confirmed, nothing was done")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consent_is_asked_for_or_carried_by_the_plans_id() {
        let (plan, other) = (PlanId::from_text("plan-1"), PlanId::from_text("plan-2"));
        let kind = |named: Option<&PlanId>, yes, can_ask, production| match decide(Situation {
            what: "Run plan-1",
            plan: &plan,
            named,
            yes,
            can_ask,
            production,
        }) {
            Answer::Go => "go",
            Answer::AskYes => "ask",
            Answer::AskName => "name",
            Answer::No(f) if f.code == ExitCode::Refused => "refused",
            Answer::No(_) => "usage",
        };
        // named, yes, terminal, production
        for (named, yes, can_ask, production, expected) in [
            (Some(&plan), true, false, false, "go"),
            (Some(&plan), true, false, true, "go"),
            (Some(&other), true, false, false, "refused"),
            (Some(&other), false, true, true, "refused"),
            (Some(&plan), false, true, false, "ask"),
            (Some(&plan), false, true, true, "name"),
            (Some(&plan), false, false, false, "usage"),
            (None, true, false, false, "usage"),
            (None, false, false, false, "usage"),
            (None, true, true, false, "go"),
            (None, true, true, true, "name"),
            (None, false, true, false, "ask"),
            (None, false, true, true, "name"),
        ] {
            let got = kind(named, yes, can_ask, production);
            assert_eq!(got, expected, "named {named:?} yes {yes} terminal {can_ask} production {production}");
        }
    }
}
