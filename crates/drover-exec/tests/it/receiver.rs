//! What the effects of a run arrive at: DNS with its generations, a pager that knows keys, programs. It counts what it is
//! told, and knows nothing of drover.

use drover_exec::Order;
use drover_model::ServiceId;
use drover_model::plan::{Repeatability, Reversal, StepKind, TrafficChange};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// What each service's weights are: the last change that was published.
    weights: BTreeMap<ServiceId, TrafficChange>,
    /// Keys that were seen by those who honour them.
    keys: BTreeSet<String>,
    /// Programs whose effect can be seen.
    seen: BTreeSet<String>,
    /// How often each effect took place.
    pub effects: BTreeMap<String, u32>,
}

impl Receiver {
    fn count(&mut self, effect: String) {
        *self.effects.entry(effect).or_insert(0) += 1;
    }

    /// Takes an order as the hands do: looks first where that is possible, sends the key where it is honoured.
    pub fn act(&mut self, order: &Order) {
        let id = order.step().id.clone();
        match &order.step().kind {
            StepKind::ShiftTraffic { changes } => changes.iter().for_each(|c| self.publish(c)),
            StepKind::Notify { .. } | StepKind::Run { repeatability: Repeatability::Keyed, .. } => {
                if self.keys.insert(order.key.clone()) {
                    self.count(id);
                }
            }
            StepKind::Run { repeatability: Repeatability::Observable, .. } => {
                if self.seen.insert(id.clone()) {
                    self.count(id);
                }
            }
            StepKind::Run { repeatability: Repeatability::AtMostOnce, .. } => self.count(id),
            StepKind::Preflight { .. }
            | StepKind::VerifyApp { .. }
            | StepKind::VerifyDns { .. }
            | StepKind::Validate { .. }
            | StepKind::Drained { .. }
            | StepKind::Wait { .. }
            | StepKind::Approve { .. } => {}
        }
    }

    /// Takes an order to undo.
    pub fn undo(&mut self, order: &Order) {
        let changes = match &order.step().reversal {
            Reversal::RestoreWeights { changes } => changes.as_slice(),
            // The region is well here: a stage goes to the one before, unless it was validated itself.
            Reversal::StepBack { changes, .. } if !order.keeps => changes.as_slice(),
            Reversal::StepBack { .. } | Reversal::Nothing | Reversal::ForwardOnly | Reversal::AskOperator => {
                &[]
            }
        };
        for change in changes {
            // What was never published needs no way back.
            if self.weights.contains_key(&change.service) {
                self.publish(change);
            }
        }
    }

    fn publish(&mut self, change: &TrafficChange) {
        let there = self.weights.get(&change.service);
        if there.is_some_and(|t| t.weights_after == change.weights_after) {
            return;
        }
        if let Some(there) = there {
            assert_eq!(there.weights_after, change.weights_before, "published over something else");
        }
        assert!(change.weights_after.values().any(|w| w.0 > 0), "{} went dark", change.service);
        let weights: Vec<String> = change.weights_after.values().map(ToString::to_string).collect();
        self.count(format!("{} {} -> {}", change.service, change.from_generation, weights.join("/")));
        self.weights.insert(change.service.clone(), change.clone());
    }
}
