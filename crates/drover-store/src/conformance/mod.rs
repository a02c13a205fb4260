//! What every `Store` must do, as tests that any implementation can be put through.
//!
//! Each check uses keys of its own, and assumes neither an empty store nor a quiet one, so that it can also run
//! against a server that others use. A check that fails panics with what was expected.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "this is test code that other crates' tests call"
)]

mod lists;
mod transactions;
mod watches;

use crate::store::Store;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// Ends a check that hangs. Generous: the slowest takes about a second on an idle machine.
const CHECK_MAX: Duration = Duration::from_secs(60);

/// Runs every check. `make_store` is called once for each, and may give the same store every time.
///
/// # Panics
/// When the store does not do what [`Store`] promises.
pub async fn run_all<Make, Made>(make_store: Make)
where
    Make: Fn() -> Made,
    Made: Future<Output = Arc<dyn Store>>,
{
    macro_rules! check {
        ($($check:path),* $(,)?) => {$(
            let running = tokio::time::timeout(CHECK_MAX, $check(make_store().await));
            running.await.unwrap_or_else(|_| panic!("{} did not end within {CHECK_MAX:?}", stringify!($check)));
        )*};
    }
    check!(
        transactions::values_and_revisions,
        transactions::delete_and_recreate,
        transactions::no_lost_update_in_a_race,
        transactions::one_creator_wins_a_race,
        transactions::all_or_nothing,
        transactions::sums_stay_whole_under_concurrency,
        transactions::conflicts_tell_what_is_there,
        transactions::every_kind_of_compare,
        transactions::limits_are_refused_and_told,
        transactions::what_changes_nothing_commits,
        lists::pages_are_complete_and_ordered,
        lists::prefixes_are_exact,
        lists::a_page_of_large_values_ends_early,
        watches::changes_come_whole_and_in_order,
        watches::list_then_watch_leaves_no_gap,
        watches::a_watch_resumes_from_its_last_revision,
        watches::a_slow_watcher_misses_nothing_unknowingly,
    );
}
