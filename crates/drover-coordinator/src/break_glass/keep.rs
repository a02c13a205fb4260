//! What somebody set by break-glass becomes the target, so that nothing moves: as an operator's drain of the regions that he emptied, which
//! no automation undoes.

use crate::api::problem::ApiError;
use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::source::Source;
use axum::http::StatusCode;
use drover_dns::zone::RecordSet;
use drover_model::break_glass::{HeldBy, How};
use drover_model::config::Service;
use drover_model::traffic::{Actor, Hold, RegionShare, ShareReason, TargetOrigin, TrafficState};
use drover_model::{Generation, Percent, RegionId, RunId, Timestamp, Weight};
use drover_store::{Expect, Revision};

/// Who keeps it, and why: what a drain is known by.
#[derive(Debug, Clone)]
pub(crate) struct Keeping {
    by: Actor,
    reason: String,
}

/// A target that is what is live, and the drains that go with it.
#[derive(Debug)]
struct Kept {
    target: TrafficState,
    /// Drains of the regions that he emptied.
    holds: Vec<Hold>,
    /// Regions that were drained and that he gave something: their drains are over.
    regained: Vec<RegionId>,
}

impl Keeping {
    /// What to do about a target; nothing where it is to be published as it is.
    pub(super) fn of(how: How, by: &Actor, reason: &str) -> Option<Self> {
        match how {
            How::Keep => Some(Self { by: by.clone(), reason: reason.to_owned() }),
            How::Release => None,
        }
    }

    /// The target that is what is live.
    ///
    /// # Errors
    /// When something is answered that the configuration does not have, or nothing that it has.
    fn target(
        &self,
        service: &Service,
        standing: &TrafficState,
        live: &RecordSet,
        now: Timestamp,
    ) -> Result<Kept, ApiError> {
        let refused = |detail: String| {
            let mut error = ApiError::new(StatusCode::CONFLICT, "not_kept", detail);
            error.0.next = Some("--release publishes drover's own targets".into());
            error
        };
        let is_endpoint = |region: &str| service.endpoints.keys().any(|r| r.as_str() == region);
        if let Some(other) = live.members.iter().find(|m| m.weight > 0 && !is_endpoint(&m.set_id)) {
            return Err(refused(format!(
                "{} is answered and is no endpoint of {}",
                other.set_id, service.name
            )));
        }
        let part = |region: &RegionId| {
            live.members.iter().find(|m| m.set_id == region.as_str()).map_or(0, |m| m.weight)
        };
        let weights =
            drover_core::weights::of_parts(service, part).map_err(|dark| refused(dark.to_string()))?;
        let session = HeldBy::of_owner(&live.owner).map(|held_by| held_by.session).unwrap_or_default();
        let (mut shares, mut holds, mut regained) = (standing.shares.clone(), vec![], vec![]);
        for region in service.endpoints.keys() {
            let is_out = shares.get(region).is_some_and(|share| share.share == Percent::ZERO);
            let carried = standing.weight(region).0 > 0;
            match (weights.of(region), is_out) {
                (Weight(0), false) if carried => {
                    let run = RunId::new(format!("break-glass-{session}-{}", holds.len() + 1));
                    let run = run.map_err(|e| refused(e.to_string()))?;
                    let reason = ShareReason::Drained { run: run.clone() };
                    shares.insert(region.clone(), RegionShare { share: Percent::ZERO, reason });
                    holds.push(Hold {
                        run,
                        region: region.clone(),
                        services: vec![service.name.clone()],
                        by: self.by.clone(),
                        reason: self.reason.clone(),
                        since: now,
                        expires_at: None,
                    });
                }
                (Weight(1..), true) => {
                    let full = RegionShare { share: Percent::FULL, reason: ShareReason::Configured };
                    shares.insert(region.clone(), full);
                    regained.push(region.clone());
                }
                _ => {}
            }
        }
        let generation = standing.generation.max(Generation(live.generation)).next();
        let target = TrafficState {
            service: service.name.clone(),
            generation,
            shares,
            weights,
            changed_at: now,
            origin: TargetOrigin::Adoption,
            decided: generation,
        };
        Ok(Kept { target, holds, regained })
    }
}

impl Coordinator {
    /// Makes what is live a service's target, with its drains, in one transaction.
    pub(crate) async fn kept(
        &self,
        source: Source<'_>,
        keeping: &Keeping,
        (standing, revision): (TrafficState, Revision),
        live: Option<&RecordSet>,
    ) -> Result<TrafficState, ApiError> {
        let name = source.name();
        let (Source::Service(service), Some(live)) = (source, live) else {
            return Err(ApiError::not_found(format!("service {name} with a record set"), vec![]));
        };
        self.check_no_run_works_on(name)?;
        let Kept { target, holds, regained } = keeping.target(service, &standing, live, self.clock.now())?;
        let mut standing_holds: Vec<Hold> = self.live().holds.values().cloned().collect();
        standing_holds.retain(|hold| regained.contains(&hold.region) && hold.services.contains(name));
        let path = source.target_path();
        let txn = self.db.fenced().expect(&path, Expect::ModRevision(revision));
        let mut txn = self.db.put_op(txn, &path, &target)?;
        for hold in &mut standing_holds {
            hold.services.retain(|service| service != name);
            let key = keys::hold(&hold.run);
            txn = if hold.services.is_empty() { txn.delete(key) } else { self.db.put_op(txn, &key, hold)? };
        }
        for hold in &holds {
            txn = self.db.put_op(txn, &keys::hold(&hold.run), hold)?;
        }
        if self.db.commit(&format!("keep what is live of {name}"), txn).await?.is_none() {
            return Err(ApiError::new(StatusCode::CONFLICT, "changed", "it was changed at the same moment"));
        }
        self.keep_target(source, target.clone());
        let mut live = self.live();
        for hold in standing_holds.into_iter().chain(holds) {
            if hold.services.is_empty() {
                live.holds.remove(&hold.run);
            } else {
                live.holds.insert(hold.run.clone(), hold);
            }
        }
        Ok(target)
    }
}
