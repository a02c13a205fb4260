//! What a run counts on, and whether drover itself may end it when that fails.

use crate::progress::{Hold, Phase, Standing};
use crate::state::Execution;
use drover_model::EndpointKey;
use drover_model::journal::RunState;
use drover_model::plan::{Predicate, StepKind};
use drover_model::runbook::Purpose;
use drover_model::traffic::Actor;
use std::collections::BTreeSet;

impl Execution {
    /// The endpoints whose health the plan counts on: those that must be healthy before traffic goes there, and those by
    /// which success is judged.
    #[must_use]
    pub fn counts_on(&self) -> BTreeSet<EndpointKey> {
        let mut all = BTreeSet::new();
        for step in &self.plan().steps {
            match &step.kind {
                StepKind::Preflight { predicates } => all.extend(predicates.iter().filter_map(|p| match p {
                    Predicate::EndpointHealthy { endpoint } => Some(endpoint.clone()),
                    Predicate::EndpointStillBad { .. }
                    | Predicate::Fits { .. }
                    | Predicate::TrafficAt { .. } => None,
                })),
                StepKind::VerifyApp { targets } => all.extend(targets.iter().map(|t| t.endpoint.clone())),
                StepKind::Validate { targets } => {
                    let of =
                        targets.iter().map(|t| t.regions.iter().map(|r| EndpointKey::new(&t.service, r)));
                    all.extend(of.flatten());
                }
                StepKind::ShiftTraffic { .. }
                | StepKind::VerifyDns { .. }
                | StepKind::Wait { .. }
                | StepKind::Drained { .. }
                | StepKind::Approve { .. }
                | StepKind::Notify { .. }
                | StepKind::Run { .. } => {}
            }
        }
        all
    }

    /// May drover itself end the run? Its own failover, while nothing that changes the world is under way. What a person
    /// began, approved or has paused is theirs, and so is what needs one.
    #[must_use]
    pub fn gives_way(&self) -> bool {
        let is_persons = self.origin.by != Actor::Automatic || self.progress.approved_by_person;
        if is_persons || self.plan().intent.purpose != Purpose::Failover {
            return false;
        }
        match &self.progress.phase {
            Phase::Held { hold: Hold::Paused, at: Standing::Step } => !self.progress.held_by_person,
            Phase::Ready | Phase::Backoff { .. } | Phase::Stepping { .. } | Phase::Asking { .. } => {
                let step = self.plan().steps.get(self.progress.cursor as usize);
                step.is_some_and(|s| only_looks(&s.kind))
            }
            Phase::Held { .. }
            | Phase::Unrecorded
            | Phase::Awaiting { .. }
            | Phase::UndoReady { .. }
            | Phase::UndoBackoff { .. }
            | Phase::Undoing { .. }
            | Phase::Settling(_)
            | Phase::Over(_) => false,
        }
    }

    /// Did drover itself end this failover for what failed meanwhile? Such a run says nothing against the next attempt.
    #[must_use]
    pub fn was_superseded(&self) -> bool {
        self.state() == RunState::Aborted
            && self.plan().intent.purpose == Purpose::Failover
            && self.progress.stopped_by() == Some(&Actor::Automatic)
    }
}

/// Stopped in the middle, such a step leaves nothing behind.
fn only_looks(kind: &StepKind) -> bool {
    match kind {
        StepKind::Preflight { .. }
        | StepKind::VerifyApp { .. }
        | StepKind::VerifyDns { .. }
        | StepKind::Wait { .. }
        | StepKind::Validate { .. }
        | StepKind::Drained { .. }
        | StepKind::Approve { .. } => true,
        StepKind::ShiftTraffic { .. } | StepKind::Notify { .. } | StepKind::Run { .. } => false,
    }
}
