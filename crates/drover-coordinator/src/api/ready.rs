//! `/livez` and `/readyz`: does the process run, and does it do its work?

use super::problem::ApiError;
use crate::coordinator::Coordinator;
use crate::db::keys;
use axum::extract::State;
use axum::http::StatusCode;
use drover_model::Span;
use std::sync::Arc;

/// The decider looks every second, and a command may hold a look up for 20 s; longer than this, it hangs.
pub const LOOK_AGE_MAX: Span = Span::from_secs(30);

pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// Ready is who leads, can write down what it does, and decides; or who follows, and can read what the leader wrote. The
/// first word tells which of the two.
pub(super) async fn readyz(State(c): State<Arc<Coordinator>>) -> Result<&'static str, ApiError> {
    let not_ready = |code: &str, why: String| Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, why));
    if c.stop.is_cancelled() {
        return not_ready("stopping", "this coordinator is stopping".into());
    }
    if !c.leads() && !c.db.is_leader() {
        return match c.db.sight().await {
            Ok(_) => Ok("follows\n"),
            Err(e) => not_ready("store_unreadable", drover_model::chain(&e)),
        };
    }
    match c.db.leads().await {
        Ok(true) => {}
        Ok(false) => return not_ready("fenced", "another coordinator took over".into()),
        Err(e) => return not_ready("store_unreadable", drover_model::chain(&e)),
    }
    // A failure stands until a write succeeds. There may be nothing to write for hours, so one is tried here.
    if c.db.write_failure().is_some()
        && let Err(e) = c.db.put(keys::WRITE_TEST, &c.clock.now()).await
    {
        return not_ready("store_takes_no_writes", drover_model::chain(&e));
    }
    match c.looked_at() {
        None => not_ready("not_deciding", "the decider has not finished a look yet".into()),
        Some(at) if c.clock.now().since(at) > LOOK_AGE_MAX => {
            let why = format!("the decider finished its last look at {at}, {LOOK_AGE_MAX} are allowed");
            not_ready("not_deciding", why)
        }
        Some(_) => Ok("ready\n"),
    }
}

#[cfg(test)]
mod tests {
    use crate::db::Db;
    use crate::testbed::{Bed, GUARD, Meddled, code_of, get};
    use axum::extract::State;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    #[tokio::test]
    async fn alive_at_once_and_ready_once_it_decides() {
        let bed = Bed::new().await;
        let api = bed.serve().await;
        assert_eq!(get(api, "/livez").await.0, 200);
        assert_eq!(code_of(&get(api, "/readyz").await, 503), "not_deciding");
        bed.c.start().await.unwrap();
        let began = std::time::Instant::now();
        while get(api, "/readyz").await.0 != 200 {
            assert!(began.elapsed() < GUARD, "{:?}", get(api, "/readyz").await);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn a_decider_that_hangs_is_not_ready() {
        let bed = Bed::new().await;
        let api = bed.serve().await;
        bed.c.note_look(bed.c.clock.now());
        assert_eq!(get(api, "/readyz").await.0, 200);
        bed.c.note_look(bed.c.clock.now() - super::LOOK_AGE_MAX.times(2));
        assert_eq!(code_of(&get(api, "/readyz").await, 503), "not_deciding");
        assert_eq!(get(api, "/livez").await.0, 200);
    }

    #[tokio::test]
    async fn who_no_longer_leads_is_not_ready() {
        let bed = Bed::new().await;
        let api = bed.serve().await;
        bed.c.note_look(bed.c.clock.now());
        Db::take_over(bed.c.store.clone(), bed.c.clock.now(), 1).await.unwrap();
        assert_eq!(code_of(&get(api, "/readyz").await, 503), "fenced");
        bed.c.stop.cancel();
        let stopping = super::readyz(State(bed.c.clone())).await.unwrap_err();
        assert_eq!(stopping.0.code, "stopping");
    }

    #[tokio::test]
    async fn a_store_that_takes_no_writes_is_not_ready_until_it_takes_one() {
        let mut bed = Bed::new().await;
        let (disk, full) = Meddled::full_disk(bed.c.store.clone());
        let db = Db::take_over(disk, bed.c.clock.now(), 1).await.unwrap();
        Arc::get_mut(&mut bed.c).unwrap().db = db;
        bed.c.note_look(bed.c.clock.now());
        let api = bed.serve().await;
        full.store(true, Ordering::Relaxed);
        assert_eq!(get(api, "/readyz").await.0, 200, "nothing was refused yet");
        bed.c.db.put("k", &1).await.unwrap_err();
        assert_eq!(code_of(&get(api, "/readyz").await, 503), "store_takes_no_writes");
        full.store(false, Ordering::Relaxed);
        assert_eq!(get(api, "/readyz").await.0, 200);
    }
}
