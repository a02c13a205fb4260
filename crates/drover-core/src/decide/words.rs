//! A decision as one plain sentence, the first line of `explain`.

use drover_model::decision::{ActionDecision, Conclusion};
use drover_model::reason::Reason;
use drover_model::runbook::Purpose;

/// Such as `not failing over eu-west: 1 of 3 outside vantages agree, 2 needed`.
#[must_use]
pub fn sentence(decision: &ActionDecision) -> String {
    let ActionDecision { region, reason, .. } = decision;
    if decision.purpose == Purpose::Failback {
        return back(decision);
    }
    match decision.conclusion {
        Conclusion::Act => {
            let services: Vec<_> = decision.services.iter().map(drover_model::ServiceId::as_str).collect();
            format!("failing over {region} ({}): {reason}", services.join(", "))
        }
        Conclusion::Ask => format!("asking before failing over {region}: {reason}"),
        Conclusion::Hold if matches!(reason, Reason::MovedAlready { .. }) => {
            format!("nothing is left to move from {region}: {reason}")
        }
        Conclusion::Hold => format!("not failing over {region}: {reason}"),
    }
}

fn back(decision: &ActionDecision) -> String {
    let ActionDecision { region, reason, .. } = decision;
    match (decision.conclusion, reason) {
        (Conclusion::Act, _) => {
            let services: Vec<_> = decision.services.iter().map(drover_model::ServiceId::as_str).collect();
            format!("failing back {region} ({}): {reason}", services.join(", "))
        }
        (_, Reason::FailbackOffered { .. }) => format!("failback of {region} is offered: {reason}"),
        _ => format!("not failing back {region} yet: {reason}"),
    }
}
