//! What somebody holds by break-glass: known from DNS itself at every look, so that a start, a successor and a leader that was alive all
//! the time know it alike, and left alone until it is reconciled.

mod keep;
mod reconcile;

use crate::coordinator::Coordinator;
use crate::reconciler::Compared;
use crate::source::{Source, by_record};
use crate::traffic::held_by;
use drover_model::ServiceId;
use drover_model::break_glass::HeldBy;
use std::collections::BTreeMap;

pub(crate) use keep::Keeping;
pub(crate) use reconcile::Taken;

pub use crate::traffic::{OWNER, gate, record_key, value};
pub use crate::zone::version;

impl Coordinator {
    /// Notes who holds what, and says so in the log when that is new.
    pub(crate) fn note_held(&self, compared: &Compared<'_>) {
        let held = held(compared);
        let before = std::mem::replace(&mut self.live().held, held.clone());
        if before == held {
            return;
        }
        for (service, held_by) in
            held.iter().filter(|(service, held_by)| before.get(*service) != Some(*held_by))
        {
            tracing::warn!(%service, %held_by, "DNS is held by break-glass, and left alone");
        }
        for (service, held_by) in before.iter().filter(|(service, _)| !held.contains_key(*service)) {
            tracing::info!(%service, %held_by, "DNS is not held by break-glass any more");
        }
        self.decide_wake.notify_one();
    }
}

fn held(compared: &Compared<'_>) -> BTreeMap<ServiceId, HeldBy> {
    if compared.diff.blocked.is_empty() {
        return BTreeMap::new();
    }
    let sources: BTreeMap<_, Source<'_>> = by_record(compared.sources.iter().copied());
    let named = compared.diff.blocked.iter().filter_map(|blocked| {
        let source = sources.get(&blocked.desired.key()?)?;
        Some((source.name().clone(), held_by(blocked)?))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::Bed;
    use crate::zone::tests::{asked, of, published, reconcile, record};
    use drover_dns::zone::RecordSet;
    use drover_model::api::RecordState;
    use drover_model::break_glass::TAKEN_BACK_BY;
    use drover_model::plan::Intent;

    #[tokio::test]
    async fn what_somebody_holds_is_left_alone_told_once_and_planned_around() {
        let (bed, dns) = published().await;
        let before = of(&dns, "checkout");
        let held_by = HeldBy::new("ada", 7);
        let mut held =
            RecordSet { generation: before.generation + 1, owner: held_by.owner(), ..before.clone() };
        held.members[0].weight = 0;
        dns.change_by_hand(held.clone());
        reconcile(&bed).await;
        reconcile(&bed).await;
        assert_eq!(of(&dns, "checkout"), held);
        let shown = record(&bed, "checkout").await;
        let next = Some(TAKEN_BACK_BY.to_owned());
        assert_eq!((shown.state, &shown.next), (RecordState::Foreign, &next));
        assert_eq!(shown.held_by(), Some(held_by.clone()));
        assert!(shown.sentence.unwrap().contains("ada (session 00000007) holds it by break-glass"));
        let status = bed.c.status_view();
        let told: Vec<_> = status.attention.iter().filter(|a| a.subject == "checkout").collect();
        assert_eq!((told.len(), told[0].code.as_str()), (1, "held_by_break_glass"));
        assert_eq!(told[0].next, next);
        assert!(status.dns.iter().all(|d| d.behind.is_empty()), "it is told once: {:?}", status.dns);
        assert_eq!(status.held[0].held_by, held_by);
        // The rest goes on, and this does not.
        bed.all_is_well();
        let now = bed.c.clock.now();
        let planned = drover_core::plan::plan(&bed.c.world(now), &Bed::intent(), now);
        let services = planned.plan.unwrap().services;
        assert_eq!(services.iter().map(ServiceId::as_str).collect::<Vec<_>>(), ["catalog"]);
        let intent = Intent { services: vec!["checkout".parse().unwrap()], ..Bed::intent() };
        let refused = drover_core::plan::plan(&bed.c.world(now), &intent, now);
        assert_eq!(refused.refusals[0].code(), "held_by_break_glass");
        // Whoever has lost the record file takes it by its name.
        bed.c.adopt(&asked("checkout", shown.live)).await.unwrap();
        reconcile(&bed).await;
        assert_eq!(of(&dns, "checkout").owner, OWNER);
        assert!(bed.c.live().held.is_empty() && bed.c.status_view().held.is_empty());
    }
}
