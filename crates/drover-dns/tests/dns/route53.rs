//! Hosted zones of Route 53, against moto with the real one's rules, and PowerDNS as the name server.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_route53::types::{AliasTarget, ChangeAction, ResourceRecordSet, RrType};
use drover_dns::provider::{
    Applied, BlockedReason, Lagging, LaggingState, Mismatch, Observed, ProviderError, RecordSets,
    Verification,
};
use drover_dns::publish::{Change, FenceReason};
use drover_dns::zone::{RecordKey, RecordSet, RecordType};
use drover_model::Span;
use futures::future::join_all;
use tokio::net::TcpListener;

use crate::common::{app, app_key, batch, drained, epoch, key, put, set};
use crate::hosted::{Asked, Hosted, plain};

fn verified() -> Verification {
    Verification::Verified { instances: vec!["ns-1".into()] }
}

async fn seen(provider: &impl RecordSets, key: &RecordKey) -> Observed {
    provider.observe(std::slice::from_ref(key)).await.unwrap().remove(0)
}

/// What is live there is this, as drover wrote it.
async fn assert_live(provider: &impl RecordSets, wanted: &RecordSet) {
    let observed = seen(provider, &app_key()).await;
    let current = observed.current.unwrap();
    assert!(current.same_target(wanted), "{current:?}");
    assert!(!observed.is_changed_by_hand);
}

fn taken(record_set: RecordSet, expected_generation: Option<u64>) -> Change {
    Change::Put { expected_generation, record_set, take_over: true }
}

/// So many sets that a batch of them is decided from memory.
fn many(generation: u64) -> Vec<RecordSet> {
    let members = [("eu-west", "192.0.2.1", 50), ("us-east", "192.0.2.2", 50)];
    (0..5).map(|n| set(&format!("service-{n}.example.test"), RecordType::A, generation, &members)).collect()
}

fn of_region(sets: Vec<ResourceRecordSet>, region: &str) -> ResourceRecordSet {
    sets.into_iter().find(|set| set.set_identifier().is_some_and(|id| id.starts_with(region))).unwrap()
}

/// An API that takes connections and says nothing.
async fn hanging() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (at, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = connections.clone();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            held.push(stream);
        }
    });
    (at, connections)
}

#[tokio::test]
async fn all_who_wait_for_an_api_that_hangs_wait_for_it_once() {
    let hosted = Hosted::start().await;
    let (at, connections) = hanging().await;
    let provider = hosted.provider_with(|settings| {
        settings.endpoint = Some(format!("http://{at}"));
        settings.timeout = Span::from_millis(200);
    });
    let keys = [app_key()];
    for found in join_all((0..8).map(|_| provider.observe(&keys))).await {
        assert!(matches!(found, Err(ProviderError::Unreachable { .. })), "{found:?}");
    }
    // As often as one call is tried, and not eight times that.
    let connections = connections.load(Ordering::SeqCst);
    assert!((1..=3).contains(&connections), "{connections}");
}

#[tokio::test]
async fn weights_are_answered_and_a_drained_region_stays_at_hand() {
    let hosted = Hosted::start().await;
    let provider = hosted.provider();
    assert_eq!(seen(&provider, &app_key()).await.current, None);
    assert_eq!(provider.verify(&app_key(), None).await.unwrap(), verified());
    let applied = provider.apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
    assert!(matches!(applied, Applied::Changed(_)), "{applied:?}");
    assert_live(&provider, &app(1)).await;
    assert_eq!(provider.verify(&app_key(), Some(&app(1))).await.unwrap(), verified());
    let idle = of_region(hosted.sets("app.example.test", RrType::A).await, "sa-east/1/");
    assert_eq!((idle.weight(), idle.ttl()), (Some(0), Some(30)), "provisioned before it is needed");

    let observed = provider.observe(&[app_key()]).await.unwrap();
    let diff = provider.diff(&[drained(2)], &observed);
    let before = hosted.log().await.len();
    provider.apply(&batch(1, diff.changes)).await.unwrap();
    let calls = hosted.log().await.split_off(before);
    let changes: Vec<usize> = calls.iter().map(|call| call.changes).filter(|n| *n > 0).collect();
    // Four weighted records and the fence, each gone and come; the owner's record stays as it is.
    assert_eq!(changes, [10]);
    assert_eq!(provider.verify(&app_key(), Some(&drained(2))).await.unwrap(), verified());
    let stale = provider.verify(&app_key(), Some(&app(1))).await.unwrap();
    assert!(matches!(stale, Verification::Mismatch { .. }), "{stale:?}");
    // Nothing is remembered that the zone does not say.
    assert_live(&hosted.provider(), &drained(2)).await;
    assert_eq!(hosted.provider().verify(&app_key(), Some(&drained(2))).await.unwrap(), verified());

    let again = provider.apply(&batch(1, vec![put(Some(1), drained(2))])).await.unwrap();
    assert!(matches!(again, Applied::Unchanged(_)), "repeating is harmless");
    let delete =
        Change::Delete { expected_generation: 2, name: "app.example.test".into(), rtype: RecordType::A };
    provider.apply(&batch(1, vec![delete])).await.unwrap();
    assert_eq!(seen(&provider, &app_key()).await.current, None);
    assert_eq!(hosted.sets("_drover-a.app.example.test", RrType::Txt).await, vec![]);
}

#[tokio::test]
async fn every_type_is_published_and_spelled_as_it_is_compared() {
    let hosted = Hosted::start().await;
    let provider = hosted.provider();
    let two = [("eu-west", "eu.example.test", 50), ("us-east", "us.example.test", 50)];
    for wanted in [
        set("six.example.test", RecordType::Aaaa, 1, &[("eu-west", "2001:DB8:0:0::1", 1)]),
        // Here each answer has one alias, drawn by weight.
        set("alias.example.test", RecordType::Cname, 1, &two),
    ] {
        provider.apply(&batch(1, vec![put(None, wanted.clone())])).await.unwrap();
        let key = key(&wanted.name, wanted.rtype);
        assert_eq!(provider.verify(&key, Some(&wanted)).await.unwrap(), verified());
        let observed = provider.observe(&[key]).await.unwrap();
        assert_eq!(provider.diff(&[wanted], &observed).in_sync.len(), 1);
    }
    // An alias stands alone at its name, and nothing beside it.
    let beside = set("alias.example.test", RecordType::A, 1, &[("eu-west", "192.0.2.1", 1)]);
    let long = set("long.example.test", RecordType::A, 1, &[(&"r".repeat(128), "192.0.2.1", 1)]);
    for wanted in [beside, long] {
        let refused = provider.apply(&batch(1, vec![put(None, wanted)])).await.unwrap_err();
        assert!(
            matches!(&refused, ProviderError::Refused { code, .. } if code == "inexpressible"),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_deposed_leader_can_not_write_whatever_it_remembers() {
    let hosted = Hosted::start().await;
    let (old, new) = (hosted.provider(), hosted.provider());
    old.apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
    // A successor that finds its wish granted takes the command all the same.
    let taken = new.apply(&batch(2, vec![put(None, app(1))])).await.unwrap();
    assert!(matches!(taken, Applied::Unchanged(_)), "{taken:?}");
    // One reads the zone before it writes; more are decided from memory, and the fence's DELETE does not hold.
    for changes in [vec![put(Some(1), drained(2))], many(1).into_iter().map(|set| put(None, set)).collect()] {
        let late = old.apply(&batch(1, changes)).await.unwrap_err();
        let ProviderError::Fenced { highest, reason, .. } = late else { panic!("{late:?}") };
        assert_eq!((highest, reason), (epoch(2), FenceReason::Older));
    }
    assert!(hosted.sets("service-0.example.test", RrType::A).await.is_empty());
    let mut other = batch(9, vec![put(Some(1), drained(2))]);
    other.epoch.incarnation += 1;
    let foreign = new.apply(&other).await.unwrap_err();
    assert!(
        matches!(foreign, ProviderError::Fenced { reason: FenceReason::OtherIncarnation, .. }),
        "{foreign:?}"
    );
    assert_live(&new, &app(1)).await;
    assert_live(&hosted.provider(), &app(1)).await;
}

#[tokio::test]
async fn of_many_who_write_at_once_one_wins_and_the_others_are_told() {
    let hosted = Hosted::start().await;
    hosted.provider().apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
    let writers = (1..=4u16).map(|n| {
        let provider = hosted.provider();
        async move {
            let mut wanted = app(2);
            wanted.members[3].weight = n;
            (wanted.clone(), provider.apply(&batch(1, vec![put(Some(1), wanted)])).await)
        }
    });
    let results = futures::future::join_all(writers).await;
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(|(_, r)| r.is_ok());
    assert_eq!(won.len(), 1, "{lost:?}");
    for (_, result) in &lost {
        assert!(matches!(result, Err(ProviderError::Conflict { .. })), "{result:?}");
    }
    assert_live(&hosted.provider(), &won[0].0).await;
}

#[tokio::test]
async fn what_a_hand_did_is_seen_left_alone_and_taken_only_knowingly() {
    let hosted = Hosted::start().await;
    let provider = hosted.provider();
    provider.apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
    for (generation, edit) in [(1, Edit::Weigh), (2, Edit::Remove), (3, Edit::Add), (4, Edit::Check)] {
        let published = hosted.sets("app.example.test", RrType::A).await;
        let (action, edited) = edit.of(of_region(published, "eu-west"));
        hosted.by_hand(action, edited).await;
        let unseen = provider.apply(&batch(1, vec![put(Some(generation), drained(generation + 1))])).await;
        assert!(matches!(unseen, Err(ProviderError::Conflict { .. })), "{edit:?}: {unseen:?}");
        for provider in [&provider, &hosted.provider()] {
            let observed = provider.observe(&[app_key()]).await.unwrap();
            assert!(observed[0].is_changed_by_hand, "{observed:?}");
            assert_eq!(observed[0].current.as_ref().unwrap().generation, generation);
            for wanted in [app(generation), drained(generation + 1)] {
                let diff = provider.diff(&[wanted], &observed);
                assert_eq!(diff.blocked[0].reason, BlockedReason::Drifted, "{diff:?}");
            }
            let found = provider.verify(&app_key(), Some(&app(generation))).await.unwrap();
            let Verification::Mismatch { mismatches, .. } = found else { panic!("{edit:?}: {found:?}") };
            assert_eq!(mismatches[0].found, Mismatch::ChangedByHand);
        }
        provider.apply(&batch(1, vec![taken(app(generation + 1), Some(generation))])).await.unwrap();
        assert_live(&hosted.provider(), &app(generation + 1)).await;
    }
}

/// What somebody may do to a record of drover's.
#[derive(Debug, Clone, Copy)]
enum Edit {
    Weigh,
    Remove,
    Add,
    /// Of which the values show nothing.
    Check,
}

impl Edit {
    fn of(self, mut set: ResourceRecordSet) -> (ChangeAction, ResourceRecordSet) {
        match self {
            Self::Weigh => {
                set.weight = set.weight.map(|weight| weight + 1);
                (ChangeAction::Upsert, set)
            }
            Self::Remove => (ChangeAction::Delete, set),
            Self::Add => {
                set.set_identifier = Some("canary".into());
                (ChangeAction::Create, set)
            }
            Self::Check => {
                set.health_check_id = Some("11111111-2222-3333-4444-555555555555".into());
                (ChangeAction::Upsert, set)
            }
        }
    }
}

#[tokio::test]
async fn a_hands_work_since_the_last_reading_is_found_by_what_is_written_or_by_its_proof() {
    let hosted = Hosted::start().await;
    let provider = hosted.provider();
    let all =
        |generation, expected| many(generation).into_iter().map(|set| put(expected, set)).collect::<Vec<_>>();
    provider.apply(&batch(1, all(1, None))).await.unwrap();
    let first = key("service-0.example.test", RecordType::A);
    seen(&provider, &first).await;
    // A change of what is there meets a DELETE that does not hold.
    let (action, edited) =
        Edit::Weigh.of(of_region(hosted.sets(first.name.as_str(), RrType::A).await, "eu-west"));
    hosted.by_hand(action, edited).await;
    let met = provider.apply(&batch(1, all(2, Some(1)))).await.unwrap_err();
    let ProviderError::Conflict { conflicts, .. } = met else { panic!("{met:?}") };
    assert!(conflicts.len() == 1 && conflicts[0].key == first, "{conflicts:?}");
    assert!(
        hosted.sets("service-4.example.test", RrType::A).await[0].set_identifier().unwrap().contains("/1/")
    );
    provider.apply(&batch(1, vec![taken(many(2).remove(0), Some(1))])).await.unwrap();
    // What came in addition meets none, and is what the proof finds.
    let (action, added) =
        Edit::Add.of(of_region(hosted.sets(first.name.as_str(), RrType::A).await, "eu-west"));
    seen(&provider, &first).await;
    hosted.by_hand(action, added).await;
    let mut changes = all(3, Some(1));
    changes[0] = put(Some(2), many(3).remove(0));
    provider.apply(&batch(1, changes)).await.unwrap();
    let found = provider.verify(&first, Some(&many(3)[0])).await.unwrap();
    let Verification::Mismatch { mismatches, .. } = found else { panic!("{found:?}") };
    assert_eq!(mismatches[0].found, Mismatch::ChangedByHand);
    let last = key("service-4.example.test", RecordType::A);
    assert_eq!(provider.verify(&last, Some(&many(3)[4])).await.unwrap(), verified());
}

#[tokio::test]
async fn whoever_reads_in_the_middle_of_a_change_makes_no_second_copy_of_it() {
    let hosted = Hosted::start().await;
    let provider = hosted.provider();
    let sets = |generation| -> Vec<RecordSet> {
        let members = [("eu-west", "192.0.2.1", 50), ("us-east", "192.0.2.2", 50)];
        (0..300).map(|n| set(&format!("s{n}.example.test"), RecordType::A, generation, &members)).collect()
    };
    let keys: Vec<RecordKey> = sets(1).iter().map(|set| key(&set.name, set.rtype)).collect();
    for generation in 1..=3 {
        let expected = (generation > 1).then(|| generation - 1);
        let changes = batch(1, sets(generation).into_iter().map(|set| put(expected, set)).collect());
        let applying = provider.apply(&changes);
        let reading = async {
            loop {
                provider.forget(&keys);
                // A zone that changes while it is read is told of.
                let _ = provider.observe(&keys).await;
            }
        };
        tokio::select! {
            applied = applying => drop(applied.unwrap()),
            () = reading => {}
        }
        let observed = provider.observe(&keys).await.unwrap();
        assert!(observed.iter().all(|one| !one.is_changed_by_hand), "{generation}");
        assert_eq!(provider.diff(&sets(generation), &observed).in_sync.len(), keys.len());
    }
}

#[tokio::test]
async fn changes_that_can_not_be_are_refused_and_not_tried_for_ever() {
    let hosted = Hosted::start().await;
    let provider = hosted.provider();
    provider.apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
    hosted.knobs(r#"{"reject": 9}"#).await;
    let before = hosted.log().await.len();
    let refused = provider.apply(&batch(1, vec![put(Some(1), drained(2))])).await.unwrap_err();
    assert!(matches!(&refused, ProviderError::Refused { code, .. } if code == "rejected"), "{refused:?}");
    let tries = hosted.log().await.split_off(before).iter().filter(|asked| asked.changes > 0).count();
    assert_eq!(tries, 1, "what was read anew leads to the same");
}

#[tokio::test]
async fn what_is_somebody_elses_is_shown_and_taken_only_knowingly() {
    let hosted = Hosted::start().await;
    hosted.by_hand(ChangeAction::Create, plain("app.example.test", RrType::A, "198.51.100.7")).await;
    let provider = hosted.provider();
    let observed = provider.observe(&[app_key()]).await.unwrap();
    assert_eq!(observed[0].current.as_ref().unwrap().members[0].value, "198.51.100.7");
    let diff = provider.diff(&[app(1)], &observed);
    assert_eq!(diff.blocked[0].reason, BlockedReason::OwnedByOther);
    let refused = provider.apply(&batch(1, vec![put(None, app(1))])).await.unwrap_err();
    assert!(
        matches!(&refused, ProviderError::Refused { code, .. } if code == "owned_by_other"),
        "{refused:?}"
    );
    provider.apply(&batch(1, vec![taken(app(1), None)])).await.unwrap();
    assert_eq!(provider.verify(&app_key(), Some(&app(1))).await.unwrap(), verified());
    assert_live(&provider, &app(1)).await;
}

#[tokio::test]
async fn a_failover_of_many_sets_takes_few_calls_and_keeps_the_account_s_pace() {
    let hosted = Hosted::start().await;
    let wanted = |generation, weights: [u16; 3]| -> Vec<RecordSet> {
        let regions = ["eu-west", "us-east", "ap-south"];
        let members: Vec<_> =
            (0..3).map(|n| (regions[n], ["192.0.2.1", "192.0.2.2", "192.0.2.3"][n], weights[n])).collect();
        (0..400)
            .map(|n| set(&format!("service-{n}.example.test"), RecordType::A, generation, &members))
            .collect()
    };
    let changes = |generation, weights, expected| -> Vec<Change> {
        wanted(generation, weights).into_iter().map(|set| put(expected, set)).collect()
    };
    hosted.provider().apply(&batch(1, changes(1, [40, 30, 30], None))).await.unwrap();
    let provider = hosted.provider_with(|settings| settings.requests_per_second = 5);
    let before = hosted.log().await.len();
    provider.apply(&batch(1, changes(2, [0, 50, 50], Some(1)))).await.unwrap();
    for set in &wanted(2, [0, 50, 50])[..20] {
        assert_eq!(provider.verify(&key(&set.name, set.rtype), Some(set)).await.unwrap(), verified());
    }
    let calls = hosted.log().await.split_off(before);
    // Each call has room for 166 sets of three, gone and come, beside the fence.
    let changed: Vec<usize> = calls.iter().map(|call| call.changes).filter(|n| *n > 0).collect();
    assert_eq!(changed, [998, 998, 410]);
    // A busy machine makes it slower, never faster.
    let at = |pick: fn(f64, f64) -> f64| calls.iter().map(|call| call.at).reduce(pick).unwrap();
    let (took, windows) = (at(f64::max) - at(f64::min), (calls.len() - 1) / 5);
    assert!(took >= windows as f64 - 0.5, "{} calls in {took} s", calls.len());
}

#[tokio::test]
async fn from_memory_costs_a_glance_a_second() {
    let hosted = Hosted::start().await;
    let provider = hosted.provider();
    provider.apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
    assert_live(&provider, &app(1)).await;
    let (before, began) = (hosted.log().await.len(), Instant::now());
    for _ in 0..20 {
        assert_live(&provider, &app(1)).await;
    }
    let asked = (hosted.log().await.len() - before) as u64;
    assert!(asked <= began.elapsed().as_secs() + 1, "{asked} requests in {:?}", began.elapsed());
    // Another drover's change is seen by the fence.
    hosted.provider().apply(&batch(1, vec![put(Some(1), drained(2))])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_live(&provider, &drained(2)).await;
    // What is forgotten is read, one name alone: its records and registry stand together.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let (action, edited) =
        Edit::Weigh.of(of_region(hosted.sets("app.example.test", RrType::A).await, "us-east"));
    hosted.by_hand(action, edited).await;
    assert_live(&provider, &drained(2)).await;
    provider.forget(&[app_key()]);
    let before = hosted.log().await.len();
    assert!(seen(&provider, &app_key()).await.is_changed_by_hand);
    let asked = hosted.log().await.split_off(before);
    assert!(asked.len() == 2 && asked.iter().all(Asked::is_reading), "a glance and a name: {asked:?}");
}

#[tokio::test]
async fn throttling_and_lost_answers_end_as_if_nothing_had_been() {
    let hosted = Hosted::start().await;
    let provider = hosted.provider();
    hosted.knobs(r#"{"throttle": 1}"#).await;
    provider.apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
    // It happened, and was answered with 500: the SDK's second try meets its own fence, and drover looks.
    hosted.knobs(r#"{"fail_after": 1}"#).await;
    let applied = provider.apply(&batch(1, vec![put(Some(1), drained(2))])).await;
    assert!(applied.is_ok(), "{applied:?}");
    assert_live(&hosted.provider(), &drained(2)).await;
    // As it was told until 2024.
    hosted.provider().apply(&batch(1, vec![put(Some(2), app(3))])).await.unwrap();
    hosted.knobs(r#"{"old_errors": 1}"#).await;
    let conflict = provider.apply(&batch(1, vec![put(Some(2), drained(3))])).await.unwrap_err();
    assert!(matches!(conflict, ProviderError::Conflict { .. }), "{conflict:?}");
    hosted.knobs(r#"{"throttle": 9}"#).await;
    let busy = hosted.provider().observe(&[app_key()]).await.unwrap_err();
    assert!(
        matches!(&busy, ProviderError::NotNow { detail, .. } if detail.contains("Throttling")),
        "{busy:?}"
    );
}

#[tokio::test]
async fn a_change_on_its_way_is_not_done() {
    let hosted = Hosted::start().await;
    let provider = hosted.provider_with(|settings| settings.in_sync_within = Span::from_millis(1500));
    provider.apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
    hosted.knobs(r#"{"pending": 1000}"#).await;
    let before = hosted.log().await.len();
    let wanted = [app(1), app(1), app(1)];
    let key = app_key();
    let verify = |set| provider.verify(&key, Some(set));
    let found = futures::future::join_all(wanted.iter().map(verify)).await;
    for found in found {
        let Verification::Mismatch { mismatches, .. } = found.unwrap() else { panic!("it is verified") };
        assert!(matches!(mismatches[0].found, Mismatch::Pending { .. }), "{mismatches:?}");
    }
    let asked = hosted.log().await.split_off(before);
    let mut polls: Vec<f64> = asked.iter().filter(|a| a.path.contains("/change/")).map(|a| a.at).collect();
    polls.sort_by(f64::total_cmp);
    let newest = asked.iter().rev().find(|a| a.path.contains("/change/")).unwrap();
    assert!(newest.path.ends_with("/C000000000001"), "the change that was made: {newest:?}");
    assert!(polls.windows(2).all(|two| two[1] - two[0] >= 0.8), "however many wait: {polls:?}");
    // Whoever writes does not wait for whoever waits.
    provider.apply(&batch(1, vec![put(Some(1), drained(2))])).await.unwrap();
    hosted.knobs("{}").await;
    assert_eq!(provider.verify(&app_key(), Some(&drained(2))).await.unwrap(), verified());
}

#[tokio::test]
async fn silence_refusal_and_a_closed_port_are_told_apart() {
    let mut hosted = Hosted::start().await;
    let hasty = |settings: &mut drover_model::config::Route53Dns| settings.timeout = Span::from_secs(1);
    hosted.provider().apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
    let provider = hosted.provider_with(hasty);
    assert_live(&provider, &app(1)).await;
    hosted.knobs(r#"{"hang_change": 9}"#).await;
    let silent = provider.apply(&batch(1, vec![put(Some(1), drained(2))])).await.unwrap_err();
    assert!(matches!(silent, ProviderError::Unclear { .. }), "{silent:?}");
    hosted.knobs(r#"{"hang": 9}"#).await;
    let unread = hosted.provider_with(hasty).observe(&[app_key()]).await.unwrap_err();
    assert!(matches!(unread, ProviderError::Unreachable { .. }), "{unread:?}");
    hosted.knobs(r#"{"deny": 9}"#).await;
    let denied = hosted.provider().observe(&[app_key()]).await.unwrap_err();
    assert!(
        matches!(&denied, ProviderError::NotNow { detail, .. } if detail.contains("credentials come from")),
        "{denied:?}"
    );
    hosted.knobs("{}").await;
    let without = hosted.provider_with(|settings| settings.credentials_file = Some("/nowhere/aws".into()));
    let unreadable = without.observe(&[app_key()]).await.unwrap_err();
    assert!(
        matches!(&unreadable, ProviderError::NotNow { detail, .. } if detail.contains("cannot read /nowhere/aws")),
        "{unreadable:?}"
    );
    let elsewhere = hosted.provider_with(|settings| settings.hosted_zone = "ZNOWHERE".into());
    let nowhere = elsewhere.observe(&[app_key()]).await.unwrap_err();
    assert!(
        matches!(&nowhere, ProviderError::NotNow { detail, .. } if detail.contains("hosted_zone")),
        "{nowhere:?}"
    );
    // A name server that is gone is one that can't be asked; with no other, nothing is proven.
    let provider = hosted.provider_with(hasty);
    hosted.end_name_server();
    let observed = seen(&provider, &app_key()).await;
    assert!(
        matches!(observed.lagging.as_slice(), [Lagging { state: LaggingState::NotReached { .. }, .. }]),
        "{observed:?}"
    );
    let unproven = provider.verify(&app_key(), observed.current.as_ref()).await.unwrap_err();
    assert!(matches!(unproven, ProviderError::Unreachable { .. }), "{unproven:?}");
    hosted.end_api();
    let gone = hosted.provider_with(hasty).observe(&[app_key()]).await.unwrap_err();
    assert!(matches!(gone, ProviderError::Unreachable { .. }), "{gone:?}");
}

#[tokio::test]
async fn a_name_server_that_does_not_follow_is_waited_for_and_told_of() {
    let hosted = Hosted::start().await;
    // A zone of the same name, whose name server has what is copied there, and no more.
    let behind = Hosted::start().await;
    let provider = hosted.provider_with(|settings| {
        let mut other = settings.servers[0].clone();
        (other.name, other.query) = ("ns-2".into(), behind.dns);
        settings.servers.push(other);
    });
    provider.apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
    follow(&behind, &hosted).await;
    assert_eq!(seen(&provider, &app_key()).await.lagging, []);
    provider.apply(&batch(1, vec![put(Some(1), drained(2))])).await.unwrap();
    let lagging = seen(&provider, &app_key()).await.lagging;
    assert_eq!(lagging, [Lagging { instance: "ns-2".into(), state: LaggingState::Earlier }]);
    let observed = provider.observe(&[app_key()]).await.unwrap();
    assert_eq!(provider.diff(&[drained(2)], &observed).changes, [], "writing again would not help");
    let found = provider.verify(&app_key(), Some(&drained(2))).await.unwrap();
    let Verification::Mismatch { mismatches, verified, .. } = found else { panic!("{found:?}") };
    assert_eq!((mismatches[0].instance.as_str(), &mismatches[0].found), ("ns-2", &Mismatch::Earlier));
    assert_eq!(verified, ["ns-1"]);
    // It follows while it is asked.
    let (key, wanted) = (app_key(), drained(2));
    let (found, ()) = tokio::join!(provider.verify(&key, Some(&wanted)), follow(&behind, &hosted));
    let Verification::Verified { instances } = found.unwrap() else { panic!("it did not wait") };
    assert_eq!(instances.into_iter().collect::<BTreeSet<_>>(), ["ns-1".into(), "ns-2".into()].into());
}

/// Copies what drover wrote, the fence last.
async fn follow(behind: &Hosted, hosted: &Hosted) {
    for (name, rtype) in [("app.example.test", RrType::A), ("_drover-fence.example.test", RrType::Txt)] {
        for old in behind.sets(name, rtype.clone()).await {
            behind.by_hand(ChangeAction::Delete, old).await;
        }
        for new in hosted.sets(name, rtype.clone()).await {
            behind.by_hand(ChangeAction::Create, new).await;
        }
    }
}

#[tokio::test]
async fn alias_targets_have_weights_and_whoever_changes_one_is_seen() {
    let hosted = Hosted::start().await;
    let provider = hosted.provider();
    let to = |lb: &str, more: &str| format!("alias {lb}.elb.amazonaws.com (Z32O12XQLNTSW2{more})");
    let (eu, us) = (to("eu", ""), to("us", ", target health evaluated"));
    let of = |generation, weights: [u16; 2]| {
        let members = [("eu-west", eu.as_str(), weights[0]), ("us-east", us.as_str(), weights[1])];
        RecordSet { ttl_seconds: 60, ..set("app.example.test", RecordType::A, generation, &members) }
    };
    provider.apply(&batch(1, vec![put(None, of(1, [50, 50]))])).await.unwrap();
    assert_live(&provider, &of(1, [50, 50])).await;
    assert_eq!(provider.verify(&app_key(), Some(&of(1, [50, 50]))).await.unwrap(), verified());
    let stands = of_region(hosted.sets("app.example.test", RrType::A).await, "us-east/1/");
    let target = stands.alias_target().unwrap();
    assert_eq!(
        (target.hosted_zone_id(), target.dns_name(), target.evaluate_target_health(), stands.ttl()),
        ("Z32O12XQLNTSW2", "us.elb.amazonaws.com.", true, None)
    );
    // One alone, and another beside addresses.
    provider.apply(&batch(1, vec![put(Some(1), of(2, [0, 1]))])).await.unwrap();
    assert_live(&hosted.provider(), &of(2, [0, 1])).await;
    let mixed = [("eu-west", eu.as_str(), 1), ("us-east", "192.0.2.2", 1)];
    let mixed = set("app.example.test", RecordType::A, 3, &mixed);
    provider.apply(&batch(1, vec![put(Some(2), mixed.clone())])).await.unwrap();
    assert_live(&hosted.provider(), &mixed).await;
    assert_eq!(provider.verify(&app_key(), Some(&mixed)).await.unwrap(), verified());

    let before = of_region(hosted.sets("app.example.test", RrType::A).await, "eu-west/3/");
    let other = AliasTarget::builder()
        .hosted_zone_id("Z32O12XQLNTSW2")
        .dns_name("other.elb.amazonaws.com.")
        .evaluate_target_health(false)
        .build()
        .unwrap();
    let mut changed = before.clone();
    changed.alias_target = Some(other);
    hosted.by_hand(ChangeAction::Delete, before).await;
    hosted.by_hand(ChangeAction::Create, changed).await;
    let observed = seen(&hosted.provider(), &app_key()).await;
    assert!(observed.is_changed_by_hand, "{observed:?}");
    let values: Vec<String> = observed.current.unwrap().members.into_iter().map(|m| m.value).collect();
    assert_eq!(values, [to("other", ""), "192.0.2.2".to_owned()]);
}
