//! What the passes found, gathered in the order in which they asked.

use drover_model::decision::GuardResult;
use drover_model::reason::Reason;

#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) guards: Vec<GuardResult>,
    pub(super) refusals: Vec<Reason>,
    /// Some refusal leaves nothing that could run.
    pub(super) impossible: bool,
}

impl Report {
    /// A guard let it pass, with its numbers.
    pub(super) fn pass(&mut self, guard: &str, reason: Reason) {
        self.guards.push(GuardResult { guard: guard.to_owned(), passed: true, reason });
    }

    /// A guard did not let it pass and yet there is a plan: the service is left behind, or a person takes it on.
    pub(super) fn tell(&mut self, guard: &str, reason: Reason) {
        self.guards.push(GuardResult { guard: guard.to_owned(), passed: false, reason });
    }

    /// A guard refuses; a person may overrule it.
    pub(super) fn object(&mut self, guard: &str, reason: Reason) {
        self.refusals.push(reason.clone());
        self.tell(guard, reason);
    }

    /// A guard refuses, and there is nothing that could run.
    pub(super) fn refuse(&mut self, guard: &str, reason: Reason) {
        self.impossible = true;
        self.object(guard, reason);
    }
}
