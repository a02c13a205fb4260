//! The provider of embedded instances, against real ones: publish, verify, and tell apart behind, gone and
//! overtaken.

use std::time::Duration;

use drover_dns::provider::{
    Applied, BlockedReason, EmbeddedInstances, EmbeddedOptions, Instance, LaggingState, Mismatch,
    ProviderError, RecordSets, Verification,
};
use drover_dns::publish::{Change, ShortTime, Shortened};
use drover_dns::resolver::{QueryType, Rcode, Resolver, resolve};
use drover_dns::zone::{RecordSet, RecordType};

use crate::common::{Served, app, app_key, batch, drained, epoch, name, put, serve, set};

fn provider(instances: Vec<Instance>) -> EmbeddedInstances {
    let options = EmbeddedOptions { query_timeout: Duration::from_millis(300), ..EmbeddedOptions::default() };
    EmbeddedInstances::new(instances, options).unwrap()
}

fn names(instances: &[&str]) -> Vec<String> {
    instances.iter().map(|name| (*name).to_owned()).collect()
}

async fn diff_and_apply(provider: &EmbeddedInstances, counter: u64, desired: &RecordSet) -> Applied {
    let observed = provider.observe(&[app_key()]).await.unwrap();
    let diff = provider.diff(std::slice::from_ref(desired), &observed);
    assert!(diff.blocked.is_empty(), "{diff:?}");
    provider.apply(&batch(counter, diff.changes)).await.unwrap()
}

#[tokio::test]
async fn publish_verify_and_drain_on_two_instances() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, two) = (serve(one.path()).await, serve(two.path()).await);
    let provider = provider(vec![one.instance("one"), two.instance("two")]);
    assert_eq!(
        provider.verify(&app_key(), None).await.unwrap(),
        Verification::Verified { instances: names(&["one", "two"]) }
    );
    let applied = diff_and_apply(&provider, 1, &app(1)).await;
    assert!(matches!(&applied, Applied::Changed(coverage) if coverage.missing.is_empty()), "{applied:?}");
    let verified = Verification::Verified { instances: names(&["one", "two"]) };
    assert_eq!(provider.verify(&app_key(), Some(&app(1))).await.unwrap(), verified);
    diff_and_apply(&provider, 1, &drained(2)).await;
    assert_eq!(provider.verify(&app_key(), Some(&drained(2))).await.unwrap(), verified);
    // The state before the drain is not what is live any more.
    let Verification::Mismatch { mismatches, .. } = provider.verify(&app_key(), Some(&app(1))).await.unwrap()
    else {
        panic!("the old state was verified");
    };
    assert_eq!(mismatches[0].found, Mismatch::Generation { expected: 1, found: Some(2) });
    // Repeating is harmless; nothing is left to do.
    let again = provider.apply(&batch(1, vec![put(Some(1), drained(2))])).await.unwrap();
    assert!(matches!(again, Applied::Unchanged(_)), "{again:?}");
    let observed = provider.observe(&[app_key()]).await.unwrap();
    assert_eq!(provider.diff(&[drained(2)], &observed).in_sync, [app_key()]);
    let (applied, missing) = provider.applied().await;
    assert!(missing.is_empty() && applied.iter().all(|(_, batches)| batches.len() == 2), "{applied:?}");
    one.end().await;
    two.end().await;
}

#[tokio::test]
async fn an_instance_that_missed_a_write_is_named_and_caught_up() {
    let (dir_one, dir_two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, two) = (serve(dir_one.path()).await, serve(dir_two.path()).await);
    diff_and_apply(&provider(vec![one.instance("one"), two.instance("two")]), 1, &app(1)).await;
    let gone = two.instance("two");
    two.end().await;
    let partly = provider(vec![one.instance("one"), gone]);
    let applied = diff_and_apply(&partly, 1, &app(2)).await;
    assert_eq!(applied.coverage().instances, ["one"]);
    assert_eq!(applied.coverage().missing[0].instance, "two");
    let verification = partly.verify(&app_key(), Some(&app(2))).await.unwrap();
    assert!(
        matches!(&verification, Verification::Partial { verified, .. } if verified == &["one"]),
        "{verification:?}"
    );

    // It comes back with what it had; that is seen, and the next write finds it where it is.
    let two = serve(dir_two.path()).await;
    let whole = provider(vec![one.instance("one"), two.instance("two")]);
    let observed = whole.observe(&[app_key()]).await.unwrap();
    assert_eq!(observed[0].lagging[0].state, LaggingState::Behind { generation: Some(1) });
    let applied = diff_and_apply(&whole, 1, &app(2)).await;
    assert!(matches!(applied, Applied::Changed(_)), "{applied:?}");
    assert!(whole.observe(&[app_key()]).await.unwrap()[0].lagging.is_empty());
    // Behind again, by two: a change that expects the newest state catches it up as well.
    one.running.publisher().publish(&batch(1, vec![put(Some(2), drained(3))])).unwrap();
    whole.apply(&batch(1, vec![put(Some(3), app(4))])).await.unwrap();
    let verification = whole.verify(&app_key(), Some(&app(4))).await.unwrap();
    assert_eq!(verification, Verification::Verified { instances: names(&["one", "two"]) });
    one.end().await;
    two.end().await;
}

/// As the reconciler does where what would be newer has to wait.
#[tokio::test]
async fn what_is_live_is_put_once_more_at_its_own_generation() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ahead, behind) = (serve(first.path()).await, serve(second.path()).await);
    ahead.publish_all(vec![app(1)]);
    behind.publish_all(vec![app(1)]);
    provider(vec![ahead.instance("ahead")]).apply(&batch(1, vec![put(Some(1), drained(2))])).await.unwrap();
    let both = provider(vec![ahead.instance("ahead"), behind.instance("behind")]);
    let applied = both.apply(&batch(1, vec![put(Some(1), drained(2))])).await.unwrap();
    assert!(matches!(&applied, Applied::Changed(c) if c.missing.is_empty()), "{applied:?}");
    assert!(both.observe(&[app_key()]).await.unwrap()[0].lagging.is_empty());
    ahead.end().await;
    behind.end().await;
}

#[tokio::test]
async fn whoever_was_overtaken_or_deposed_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path()).await;
    served.publish_all(vec![app(5)]);
    let provider = provider(vec![served.instance("one")]);
    let overtaken = provider.apply(&batch(1, vec![put(Some(4), drained(5))])).await.unwrap_err();
    let ProviderError::Conflict { instance, conflicts } = overtaken else { panic!("{overtaken:?}") };
    assert_eq!((instance.as_str(), conflicts[0].current.as_ref().unwrap().generation), ("one", 5));
    let deposed = provider.apply(&batch(0, vec![put(Some(5), drained(6))])).await.unwrap_err();
    assert!(matches!(deposed, ProviderError::Fenced { highest, .. } if highest == epoch(1)), "{deposed:?}");
    let outside = set("x.example.org", RecordType::A, 1, &[("a", "192.0.2.1", 1)]);
    let refused = provider.apply(&batch(1, vec![put(None, outside)])).await;
    assert!(matches!(refused, Err(ProviderError::Refused { code, .. }) if code == "invalid"));

    let observed = provider.observe(&[app_key()]).await.unwrap();
    let mut foreign = app(6);
    foreign.owner = "somebody else".into();
    let cases = [
        (app(4), BlockedReason::Overtaken),
        (drained(5), BlockedReason::Drifted),
        (foreign, BlockedReason::OwnedByOther),
        (set("unseen.example.test", RecordType::A, 1, &[("a", "192.0.2.1", 1)]), BlockedReason::NotObserved),
    ];
    for (desired, reason) in cases {
        assert_eq!(provider.diff(&[desired], &observed).blocked[0].reason, reason);
    }
    let gone =
        Change::Delete { expected_generation: 5, name: "app.example.test".into(), rtype: RecordType::A };
    provider.apply(&batch(1, vec![gone])).await.unwrap();
    assert!(matches!(provider.verify(&app_key(), None).await, Ok(Verification::Verified { .. })));
    served.end().await;
}

#[tokio::test]
async fn nobody_there_is_an_error_and_never_an_answer() {
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path()).await;
    let gone = served.instance("gone");
    served.end().await;
    let query = gone.query;
    let provider = provider(vec![gone]);
    assert!(matches!(provider.observe(&[app_key()]).await, Err(ProviderError::Unreachable { .. })));
    assert!(matches!(
        provider.apply(&batch(1, vec![put(None, app(1))])).await,
        Err(ProviderError::Unreachable { .. })
    ));
    assert!(matches!(
        provider.verify(&app_key(), Some(&app(1))).await,
        Err(ProviderError::Unreachable { .. })
    ));
    assert!(
        resolve(query, &name("app.example.test"), QueryType::A, Duration::from_millis(100)).await.is_err()
    );
}

/// A stand-in that takes connections and never answers: the outcome of a write to it is not known.
#[tokio::test]
async fn silence_is_not_refusal() {
    let listener = tokio::net::TcpListener::bind(crate::common::LOOPBACK).await.unwrap();
    let control = listener.local_addr().unwrap();
    let options =
        EmbeddedOptions { control_timeout: Duration::from_millis(200), ..EmbeddedOptions::default() };
    let silent = Instance { name: "silent".into(), control, query: control };
    let provider = EmbeddedInstances::new(vec![silent], options).unwrap();
    let outcome = provider.apply(&batch(1, vec![put(None, app(1))])).await;
    assert!(matches!(outcome, Err(ProviderError::TimedOut { .. })), "{outcome:?}");
}

#[tokio::test]
async fn times_to_live_are_shorter_while_they_are_told_to_be() {
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path()).await;
    served.publish_all(vec![app(1)]);
    let provider = provider(vec![served.instance("one")]);
    let told = |counter, ttl_seconds: &[u32]| {
        let time =
            |seconds: &u32| ShortTime { name: app_key().name, rtype: RecordType::A, ttl_seconds: *seconds };
        Shortened { epoch: epoch(counter), for_seconds: 60, times: ttl_seconds.iter().map(time).collect() }
    };
    let ttl = || async { answers(&served, "app.example.test", QueryType::A).await.2 };
    let generation = served.running.publisher().fence().generation;
    assert_eq!(ttl().await, 30);
    provider.shorten(&told(1, &[22])).await.unwrap();
    assert_eq!(ttl().await, 22);
    assert_eq!(served.running.publisher().fence().generation, generation, "nothing was published");
    let verified = provider.verify(&app_key(), Some(&app(1))).await.unwrap();
    assert!(matches!(verified, Verification::Verified { .. }), "{verified:?}");
    provider.shorten(&told(1, &[19])).await.unwrap();
    let too_short = provider.verify(&app_key(), Some(&app(1))).await.unwrap();
    assert!(matches!(too_short, Verification::Mismatch { .. }), "below the floor: {too_short:?}");
    provider.shorten(&told(1, &[22])).await.unwrap();
    // What moves meanwhile keeps it, and so does what is there beside a new name.
    provider.apply(&batch(1, vec![put(Some(1), drained(2))])).await.unwrap();
    assert_eq!(ttl().await, 22);
    let other = set("other.example.test", RecordType::A, 1, &[("a", "192.0.2.9", 1)]);
    provider.apply(&batch(2, vec![put(None, other)])).await.unwrap();
    assert_eq!((ttl().await, answers(&served, "other.example.test", QueryType::A).await.2), (22, 30));
    let deposed = provider.shorten(&told(1, &[1])).await.unwrap_err();
    assert!(matches!(deposed, ProviderError::Fenced { highest, .. } if highest == epoch(2)), "{deposed:?}");
    provider.shorten(&told(2, &[300])).await.unwrap();
    assert_eq!(ttl().await, 30, "never longer than its own");
    provider.shorten(&told(2, &[22])).await.unwrap();
    provider.shorten(&told(2, &[])).await.unwrap();
    assert_eq!(ttl().await, 30);
    served.end().await;
}

#[tokio::test]
async fn adoption_goes_through_the_provider() {
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path()).await;
    served.publish_all(vec![app(1)]);
    let provider = provider(vec![served.instance("one")]);
    let (fences, _) = provider.fences().await;
    assert_eq!(fences[0].1.highest_epoch, Some(epoch(1)));
    let new = drover_dns::Epoch { incarnation: 9, counter: 1 };
    let instance = served.instance("one");
    let crossed = provider.adopt(&instance, None, new).await;
    assert!(matches!(crossed, Err(ProviderError::Fenced { .. })), "{crossed:?}");
    assert_eq!(provider.adopt(&instance, Some(epoch(1)), new).await.unwrap().highest_epoch, Some(new));
    served.end().await;
}

async fn answers(served: &Served, text: &str, qtype: QueryType) -> (Rcode, Vec<String>, u32) {
    let mut resolver = Resolver::connect(served.dns()).await.unwrap();
    let answer = resolver.resolve(&name(text), qtype, Duration::from_secs(5)).await.unwrap();
    (answer.rcode, answer.values, answer.ttl_seconds)
}

#[tokio::test]
async fn the_resolver_reads_each_kind_of_answer() {
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path()).await;
    served.publish_all(crate::common::record_sets());
    let text = |value: &str| vec![value.to_owned()];
    let rows = [
        ("dual.example.test", QueryType::A, Rcode::NOERROR, text("192.0.2.5"), 30),
        ("dual.example.test", QueryType::Aaaa, Rcode::NOERROR, text("2001:db8::5"), 30),
        ("out.example.test", QueryType::Cname, Rcode::NOERROR, text("lb.example.org"), 30),
        ("out.example.test", QueryType::A, Rcode::NOERROR, vec![], 30),
        ("_generation.app.example.test", QueryType::Txt, Rcode::NOERROR, text("A=1"), 0),
        ("example.test", QueryType::Soa, Rcode::NOERROR, text("2"), 30),
        ("nosuch.example.test", QueryType::A, Rcode::NXDOMAIN, vec![], 30),
        ("dual.example.test", QueryType::Txt, Rcode::NOERROR, vec![], 30),
        ("example.org", QueryType::A, Rcode::REFUSED, vec![], 0),
    ];
    for (asked, qtype, rcode, values, ttl) in rows {
        assert_eq!(answers(&served, asked, qtype).await, (rcode, values, ttl), "{asked} {qtype:?}");
    }
    served.end().await;
}
