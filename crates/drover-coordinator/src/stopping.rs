//! Runs are stopped the moment that the world says so. One that brings a region back, in whatever step it is: a soak of
//! minutes must not be waited out on a region that has failed again, and a failover must not wait for a failback. A failover
//! that counts on what has failed meanwhile, between two of its effects, so that the next look can plan anew.

use crate::api::problem::ApiError;
use crate::coordinator::Coordinator;
use crate::error::CoordinatorError;
use crate::runs::BUSY;
use drover_core::decide::{self, Stop};
use drover_exec::Command;
use drover_model::Timestamp;
use drover_model::decision::ActionDecision;
use drover_model::plan::World;
use drover_model::traffic::Actor;
use std::time::Duration;

/// Attempts at one look: a record that is just being written takes milliseconds. What is still busy then is stopped at
/// the next look, a second later at most.
const TRIES: u32 = 10;
/// Pause between two of them.
const TRY_AGAIN: Duration = Duration::from_millis(20);

impl Coordinator {
    /// Stops what must stop; what climbs by stages goes back to its last good share by itself.
    pub(crate) async fn stop_runs(
        &self,
        world: &World,
        decisions: &[ActionDecision],
        look: Timestamp,
    ) -> Result<(), CoordinatorError> {
        for stop in due(world, decisions, self.frozen_since(world, look)) {
            match self.stop_run(&stop).await {
                Ok(()) => {
                    tracing::warn!(run = %stop.run, "stopped: {}", stop.why);
                    let audited =
                        self.audit(&Actor::Automatic, "stop", stop.run.as_str(), &stop.why, "done").await;
                    self.unless_fenced("audit a stop", stop.run.as_str(), audited)?;
                }
                // It ended, or was stopped by somebody else, between the look and now; or the next look tries again.
                Err(e) => tracing::warn!(run = %stop.run, "can't be stopped now: {}", e.0.detail),
            }
        }
        Ok(())
    }

    async fn stop_run(&self, stop: &Stop) -> Result<(), ApiError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let (by, reason, roll_back) = (Actor::Automatic, stop.why.clone(), stop.roll_back);
            let sent = self.send_command(&stop.run, Command::Abort { by, reason, roll_back }).await;
            match sent {
                Err(e) if e.0.code == BUSY && tries < TRIES => tokio::time::sleep(TRY_AGAIN).await,
                other => return other,
            }
        }
    }
}

/// What must stop. As for acts, a freeze counts from the moment it was asked for, even in the middle of a look. What a
/// run's own region asks for is no act.
fn due(world: &World, decisions: &[ActionDecision], frozen_since: bool) -> Vec<Stop> {
    decide::must_stop(world, if frozen_since { &[] } else { decisions })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::Bed;
    use drover_model::plan::ActiveRun;
    use drover_model::runbook::Purpose;
    use drover_model::{EndpointKey, RegionId, RunId};

    #[tokio::test]
    async fn a_freeze_in_the_middle_of_a_look_keeps_a_run_from_being_superseded() {
        let bed = Bed::new().await;
        let mut world = bed.world_without("eu-west");
        let (dead, left) = (RegionId::new("eu-west").unwrap(), RegionId::new("us-east").unwrap());
        let services: Vec<_> = world.config.services.keys().cloned().collect();
        world.runs = vec![ActiveRun {
            run: RunId::numbered(1),
            counts_on: services.iter().map(|s| EndpointKey::new(s, &dead)).collect(),
            services,
            region: left,
            purpose: Some(Purpose::Failover),
            rolling_back: false,
            by_stages: false,
            by: Some(Actor::Automatic),
            gives_way: true,
            awaiting_approval: false,
        }];
        let decisions = decide::decide(&world, bed.c.clock.now());
        let due = |frozen_since| due(&world, &decisions, frozen_since);
        assert_eq!(due(false).into_iter().map(|s| s.run).collect::<Vec<_>>(), [RunId::numbered(1)]);
        assert_eq!(due(true), []);
        // One that has lapsed hides none that was laid down since.
        let now = bed.c.clock.now();
        let freeze = |expires_at| drover_model::traffic::Freeze {
            by: Actor::Automatic,
            reason: "test".into(),
            since: now,
            expires_at,
        };
        world.freeze = Some(freeze(Some(now)));
        assert!(!bed.c.frozen_since(&world, now));
        bed.c.live().freeze = Some(freeze(None));
        assert!(bed.c.frozen_since(&world, now));
    }
}
