//! Scene 1: a whole region dies, and traffic leaves it by itself.

use super::recovery::{self, REGION, WITHIN};
use crate::demo::stage::Stage;
use crate::failure::Result;

pub(super) async fn play(stage: &mut Stage) -> Result<()> {
    let region = stage.world.region(REGION)?;
    stage.trouble("SIGKILL to eu-west: checkout, catalog and the agent");
    stage.world.kill_region(&region).await;
    let moved = stage.moved_off(&region, WITHIN).await;
    recovery::linger().await;
    recovery::judge(stage, &region, moved).await
}
