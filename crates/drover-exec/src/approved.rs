//! Permission to run a plan, as a value that must be held.

use drover_model::approvals::Approvals;
use drover_model::plan::Plan;
use drover_model::traffic::Actor;
use drover_model::{PlanId, Span};
use std::ops::Deref;
use std::sync::Arc;

/// Something that may run. Its constructors are the only doors: a person who named exactly this plan, the policy for a
/// plan made by drover itself, or the journal of a run that was approved before.
#[derive(Debug, PartialEq, Eq)]
pub struct Approved<T>(Arc<T>);

impl<T> Clone for Approved<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Approved<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Approved<T> {
    pub(crate) fn shared(&self) -> Arc<T> {
        Arc::clone(&self.0)
    }
}

/// Why a plan may not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotApproved {
    /// What was named is not what was shown (I9).
    #[error("the plan is {plan}, but {named} was approved")]
    OtherPlan {
        /// The plan that would run.
        plan: PlanId,
        /// What the person named.
        named: PlanId,
    },
    /// The policy speaks only for plans that drover made by itself.
    #[error("{plan} was not made by an automatic decision, so that a person must approve it")]
    NotAutomatic {
        /// The plan.
        plan: PlanId,
    },
}

impl Approved<Plan> {
    /// A person named this plan by its id in the command that starts it.
    ///
    /// # Errors
    /// [`NotApproved::OtherPlan`] when `typed` is not the plan's id.
    pub fn by_command(plan: Plan, typed: &PlanId) -> Result<Self, NotApproved> {
        Self::named(&Arc::new(plan), typed)
    }

    /// The policy lets drover act by itself.
    ///
    /// # Errors
    /// [`NotApproved::NotAutomatic`] when the plan was asked for by a person.
    pub fn by_policy(plan: Plan) -> Result<Self, NotApproved> {
        if plan.intent.automatic {
            Ok(Self(Arc::new(plan)))
        } else {
            Err(NotApproved::NotAutomatic { plan: plan.id })
        }
    }

    /// The person's answer that a journal holds.
    pub(crate) fn named(plan: &Arc<Plan>, named: &PlanId) -> Result<Self, NotApproved> {
        if plan.id == *named {
            Ok(Self(Arc::clone(plan)))
        } else {
            Err(NotApproved::OtherPlan { plan: plan.id.clone(), named: named.clone() })
        }
    }

    /// The consent that a journal's first record holds: a person's command, or an automatic plan under the policy.
    pub(crate) fn recorded(plan: &Arc<Plan>, by: &Actor) -> Result<Self, NotApproved> {
        match by {
            Actor::Person { .. } => Ok(Self(Arc::clone(plan))),
            Actor::Automatic if plan.intent.automatic => Ok(Self(Arc::clone(plan))),
            Actor::Automatic => Err(NotApproved::NotAutomatic { plan: plan.id.clone() }),
        }
    }
}

/// With what consent a run is created.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // One a run, taken apart at once.
pub enum Consent {
    /// It may begin at once.
    Given(Approved<Plan>),
    /// A person must agree first.
    Ask {
        /// To this.
        plan: Plan,
        /// Within this time; silence is not consent.
        expires: Span,
        /// So many, of whom these have.
        approvals: Approvals,
    },
}

impl Consent {
    /// What it means that a person began this plan and named it: consent where one person is enough, otherwise a question
    /// to others.
    ///
    /// # Errors
    /// [`NotApproved::OtherPlan`] when `typed` is not the plan's id.
    pub fn by_command(
        plan: Plan,
        typed: &PlanId,
        approvals: Approvals,
        expires: Span,
    ) -> Result<Self, NotApproved> {
        let approved = Approved::by_command(plan, typed)?;
        if !approvals.asks_several() {
            return Ok(Consent::Given(approved));
        }
        let plan = Arc::unwrap_or_clone(approved.0);
        Ok(Consent::Ask { plan, expires, approvals })
    }

    pub(crate) fn into_parts(self) -> (Arc<Plan>, Option<Span>, Approvals) {
        match self {
            Consent::Given(approved) => (approved.shared(), None, Approvals::default()),
            Consent::Ask { plan, expires, approvals } => (Arc::new(plan), Some(expires), approvals),
        }
    }
}
