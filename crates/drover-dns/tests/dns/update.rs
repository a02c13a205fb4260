//! Dynamic updates (RFC 2136) against BIND, Knot and PowerDNS themselves.

use std::time::Duration;

use drover_dns::provider::{
    Applied, BlockedReason, LaggingState, Mismatch, ProviderError, RecordSets, Verification,
};
use drover_dns::publish::{Change, FenceReason};
use drover_dns::resolver::{QueryType, resolve};
use drover_dns::zone::{RecordKey, RecordSet, RecordType};
use drover_model::config::ZoneServer;
use nix::sys::signal::Signal;

use crate::common::{GUARD, app, app_key, batch, drained, epoch, key, name, put, set};
use crate::servers::{Kind, SECRET, Server};

pub fn verified() -> Verification {
    Verification::Verified { instances: vec!["primary".into()] }
}

pub async fn live(provider: &impl RecordSets) -> Option<RecordSet> {
    provider.observe(&[app_key()]).await.unwrap().remove(0).current
}

#[tokio::test]
async fn what_has_weight_is_answered_whole_and_the_rest_stands_beside_it() {
    for kind in Kind::PLAIN {
        let server = Server::start(kind).await;
        let provider = server.provider();
        assert_eq!(live(&provider).await, None, "{kind:?}");
        assert_eq!(provider.verify(&app_key(), None).await.unwrap(), verified(), "{kind:?}");
        let applied = provider.apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
        assert!(matches!(applied, Applied::Changed(_)), "{kind:?}: {applied:?}");
        // Weights and the drained region survive in the registry, which DNS itself can't say.
        assert_eq!(live(&provider).await, Some(app(1)), "{kind:?}");
        assert_eq!(provider.verify(&app_key(), Some(&app(1))).await.unwrap(), verified(), "{kind:?}");
        let answer = resolve(server.address, &name("app.example.test"), QueryType::A, GUARD).await.unwrap();
        let mut values = answer.values;
        values.sort();
        assert_eq!(
            (values, answer.ttl_seconds),
            (["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(String::from).into(), 30)
        );

        let observed = provider.observe(&[app_key()]).await.unwrap();
        let diff = provider.diff(&[drained(2)], &observed);
        provider.apply(&batch(1, diff.changes)).await.unwrap();
        assert_eq!(provider.verify(&app_key(), Some(&drained(2))).await.unwrap(), verified(), "{kind:?}");
        let Verification::Mismatch { mismatches, .. } =
            provider.verify(&app_key(), Some(&app(1))).await.unwrap()
        else {
            panic!("{kind:?}: the old state was verified");
        };
        assert_eq!(mismatches[0].found, Mismatch::Missing { value: "192.0.2.1".into() }, "{kind:?}");

        let again = provider.apply(&batch(1, vec![put(Some(1), drained(2))])).await.unwrap();
        assert!(matches!(again, Applied::Unchanged(_)), "{kind:?}: repeating is harmless");
        let delete =
            Change::Delete { expected_generation: 2, name: "app.example.test".into(), rtype: RecordType::A };
        provider.apply(&batch(1, vec![delete])).await.unwrap();
        assert_eq!(live(&provider).await, None, "{kind:?}");
    }
}

#[tokio::test]
async fn a_deposed_leader_can_not_write() {
    for kind in Kind::ALL {
        let server = Server::start(kind).await;
        let provider = server.provider();
        provider.apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
        // A successor that finds its wish granted takes the command all the same.
        let taken = provider.apply(&batch(2, vec![put(None, app(1))])).await.unwrap();
        assert!(matches!(taken, Applied::Unchanged(_)), "{kind:?}: {taken:?}");
        let late = provider.apply(&batch(1, vec![put(Some(1), drained(2))])).await.unwrap_err();
        let ProviderError::Fenced { highest, reason, .. } = late else { panic!("{kind:?}: {late:?}") };
        assert_eq!((highest, reason), (epoch(2), FenceReason::Older), "{kind:?}");
        let mut other = batch(9, vec![put(Some(1), drained(2))]);
        other.epoch.incarnation += 1;
        let foreign = provider.apply(&other).await.unwrap_err();
        assert!(
            matches!(foreign, ProviderError::Fenced { reason: FenceReason::OtherIncarnation, .. }),
            "{kind:?}: {foreign:?}"
        );
        assert_eq!(live(&provider).await.map(|s| s.generation), Some(1), "{kind:?}");
    }
}

#[tokio::test]
async fn of_many_who_write_at_once_one_wins_and_the_others_are_told() {
    for kind in Kind::ALL {
        let server = Server::start(kind).await;
        server.provider().apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
        let writers = (1..=8u8).map(|n| {
            let provider = server.provider();
            async move {
                let mut wanted = app(2);
                wanted.members[3] = set("x", RecordType::A, 1, &[("sa-east", &format!("192.0.2.10{n}"), 7)])
                    .members[0]
                    .clone();
                (wanted.clone(), provider.apply(&batch(1, vec![put(Some(1), wanted)])).await)
            }
        });
        let results = futures::future::join_all(writers).await;
        let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(|(_, r)| r.is_ok());
        assert_eq!(won.len(), 1, "{kind:?}: {lost:?}");
        for (_, result) in &lost {
            assert!(matches!(result, Err(ProviderError::Conflict { .. })), "{kind:?}: {result:?}");
        }
        assert_eq!(live(&server.provider()).await, Some(won[0].0.clone()), "{kind:?}");
    }
}

#[tokio::test]
async fn what_is_somebody_elses_is_shown_and_taken_only_knowingly() {
    for kind in Kind::ALL {
        let server = Server::start(kind).await;
        let provider = server.provider();
        let ours = set("foreign.example.test", RecordType::A, 1, &[("eu-west", "192.0.2.1", 1)]);
        let theirs = key("foreign.example.test", RecordType::A);
        let observed = provider.observe(std::slice::from_ref(&theirs)).await.unwrap();
        assert_eq!(observed[0].current.as_ref().unwrap().members[0].value, "198.51.100.7", "{kind:?}");
        let diff = provider.diff(std::slice::from_ref(&ours), &observed);
        assert_eq!(diff.blocked[0].reason, BlockedReason::OwnedByOther, "{kind:?}");
        let refused = provider.apply(&batch(1, vec![put(None, ours.clone())])).await.unwrap_err();
        assert!(
            matches!(&refused, ProviderError::Refused { code, .. } if code == "owned_by_other"),
            "{refused:?}"
        );
        let knowingly = Change::Put { expected_generation: None, record_set: ours.clone(), take_over: true };
        provider.apply(&batch(1, vec![knowingly])).await.unwrap();
        assert_eq!(provider.verify(&theirs, Some(&ours)).await.unwrap(), verified(), "{kind:?}");
    }
}

#[tokio::test]
async fn a_wrong_key_changes_nothing_and_says_so() {
    for kind in Kind::ALL {
        let server = Server::start(kind).await;
        let stranger = server.provider_with("YW5vdGhlciBzZWNyZXQgb2YgZW5vdWdoIGJ5dGVzLi4=", GUARD);
        let refused = stranger.apply(&batch(1, vec![put(None, app(1))])).await.unwrap_err();
        assert!(
            matches!(&refused, ProviderError::NotNow { detail, .. } if detail.contains("the key \"drover\"")),
            "{kind:?}: {refused:?}"
        );
        assert_eq!(live(&server.provider()).await, None, "{kind:?}");
    }
}

#[tokio::test]
async fn a_key_that_is_not_there_keeps_changes_back_and_nothing_else() {
    let server = Server::start(Kind::Knot).await;
    let provider = server.provider_with("no base64", GUARD);
    let refused = provider.apply(&batch(1, vec![put(None, app(1))])).await.unwrap_err();
    assert!(
        matches!(&refused, ProviderError::NotNow { detail, .. } if detail.contains("is not base64")),
        "{refused:?}"
    );
    assert_eq!(live(&provider).await, None);
    // Read again for every change: a new secret needs no restart.
    let _ = server.provider_with(SECRET, GUARD);
    provider.apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
}

#[tokio::test]
async fn a_server_that_does_not_follow_the_primary_is_told_of() {
    for kind in Kind::PLAIN {
        let (server, behind) = (Server::start(kind).await, Server::start(kind).await);
        let gone = Server::start(kind).await;
        let at = |name: &str, server: &Server| ZoneServer { name: name.into(), query: server.address };
        let others = vec![at("behind", &behind), at("gone", &gone)];
        drop(gone);
        let provider = server.provider_of(others, SECRET, Duration::from_secs(5));
        provider.apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
        let observed = provider.observe(&[app_key()]).await.unwrap().remove(0);
        assert_eq!(observed.current, Some(app(1)), "{kind:?}");
        let [late, lost] = observed.lagging.as_slice() else { panic!("{kind:?}: {:?}", observed.lagging) };
        assert_eq!(
            (late.instance.as_str(), &late.state),
            ("behind", &LaggingState::Behind { generation: None })
        );
        assert!(lost.instance == "gone" && matches!(lost.state, LaggingState::NotReached { .. }), "{lost:?}");
        // It follows: the same changes arrive there, as a transfer would bring them.
        let follower = behind.provider();
        follower.apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
        let observed = provider.observe(&[app_key()]).await.unwrap().remove(0);
        assert_eq!(observed.lagging.len(), 1, "{kind:?}: {:?}", observed.lagging);
    }
}

#[tokio::test]
async fn silence_is_no_outcome_and_a_closed_port_is_one() {
    for kind in Kind::ALL {
        let mut server = Server::start(kind).await;
        let provider = server.provider_with(SECRET, Duration::from_millis(500));
        server.signal(Signal::SIGSTOP);
        let silent = provider.apply(&batch(1, vec![put(None, app(1))])).await.unwrap_err();
        assert!(matches!(silent, ProviderError::TimedOut { .. }), "{kind:?}: {silent:?}");
        server.signal(Signal::SIGCONT);
        let address = server.address;
        let gone = server.provider();
        server.end();
        let unreachable = gone.apply(&batch(1, vec![put(None, app(1))])).await.unwrap_err();
        assert!(
            matches!(unreachable, ProviderError::Unreachable { .. }),
            "{kind:?} at {address}: {unreachable:?}"
        );
    }
}

#[tokio::test]
async fn a_batch_larger_than_a_message_happens_in_several() {
    for kind in Kind::ALL {
        let server = Server::start(kind).await;
        let provider = server.provider();
        let sets: Vec<RecordSet> = (0..400)
            .map(|n| {
                set(
                    &format!("service-{n}.example.test"),
                    RecordType::A,
                    1,
                    &[("eu-west", "192.0.2.1", 50), ("us-east", "192.0.2.2", 50)],
                )
            })
            .collect();
        let changes: Vec<Change> = sets.iter().map(|s| put(None, s.clone())).collect();
        provider.apply(&batch(1, changes.clone())).await.unwrap();
        let keys: Vec<RecordKey> = sets.iter().map(|s| key(&s.name, s.rtype)).collect();
        let observed = provider.observe(&keys).await.unwrap();
        assert!(observed.iter().zip(&sets).all(|(o, s)| o.current.as_ref() == Some(s)), "{kind:?}");
        let again = provider.apply(&batch(1, changes)).await.unwrap();
        assert!(matches!(again, Applied::Unchanged(_)), "{kind:?}");
    }
}

#[tokio::test]
async fn of_many_who_write_different_sets_at_once_all_win() {
    for kind in Kind::ALL {
        let server = Server::start(kind).await;
        server.provider().apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
        let writers = (0..8u8).map(|n| {
            let provider = server.provider();
            let wanted =
                set(&format!("service-{n}.example.test"), RecordType::A, 1, &[("eu-west", "192.0.2.1", 7)]);
            async move { provider.apply(&batch(1, vec![put(None, wanted)])).await }
        });
        for result in futures::future::join_all(writers).await {
            assert!(matches!(result, Ok(Applied::Changed(_))), "{kind:?}: {result:?}");
        }
    }
}

#[tokio::test]
async fn what_a_wildcard_answers_stands_at_no_name() {
    for kind in Kind::PLAIN {
        let server = Server::start_with(kind, "* A 198.51.100.9\n* TXT \"v=spf1 -all\"\n").await;
        let provider = server.provider();
        let refused = provider.apply(&batch(1, vec![put(None, app(1))])).await.unwrap_err();
        assert!(
            matches!(&refused, ProviderError::Refused { code, .. } if code == "owned_by_other"),
            "{kind:?}: {refused:?}"
        );
        let knowingly = Change::Put { expected_generation: None, record_set: app(1), take_over: true };
        provider.apply(&batch(1, vec![knowingly])).await.unwrap();
        assert_eq!(provider.verify(&app_key(), Some(&app(1))).await.unwrap(), verified(), "{kind:?}");
        provider.apply(&batch(1, vec![put(Some(1), drained(2))])).await.unwrap();
        assert_eq!(live(&provider).await, Some(drained(2)), "{kind:?}");
    }
}

#[tokio::test]
async fn nothing_is_put_beside_an_alias_nor_an_alias_beside_anything() {
    for kind in Kind::ALL {
        let server = Server::start_with(kind, "app CNAME ns1\n").await;
        let provider = server.provider();
        for take_over in [false, true] {
            let change = Change::Put { expected_generation: None, record_set: app(1), take_over };
            let refused = provider.apply(&batch(1, vec![change])).await.unwrap_err();
            assert!(matches!(&refused, ProviderError::Refused { .. }), "{kind:?}: {refused:?}");
        }
        let alias = set("foreign.example.test", RecordType::Cname, 1, &[("eu-west", "eu.example.test", 1)]);
        let refused = provider.apply(&batch(1, vec![put(None, alias)])).await.unwrap_err();
        assert!(matches!(&refused, ProviderError::NotNow { .. }), "{kind:?}: {refused:?}");
    }
}

#[tokio::test]
async fn addresses_count_however_they_are_written() {
    for kind in Kind::ALL {
        let server = Server::start(kind).await;
        let provider = server.provider();
        let wide = set("six.example.test", RecordType::Aaaa, 1, &[("eu-west", "2001:DB8:0:0::1", 1)]);
        provider.apply(&batch(1, vec![put(None, wide.clone())])).await.unwrap();
        let key = key("six.example.test", RecordType::Aaaa);
        assert_eq!(provider.verify(&key, Some(&wide)).await.unwrap(), verified(), "{kind:?}");
        let observed = provider.observe(&[key]).await.unwrap();
        assert_eq!(provider.diff(&[wide], &observed).in_sync.len(), 1, "{kind:?}");
    }
}

#[tokio::test]
async fn a_name_that_the_primary_does_not_answer_for_hides_no_other() {
    for kind in Kind::ALL {
        let server = Server::start_with(kind, "eu NS ns.elsewhere.test.\n").await;
        let provider = server.provider();
        let below = set("x.eu.example.test", RecordType::A, 1, &[("eu-west", "192.0.2.1", 1)]);
        let observed = provider.observe(&[key("x.eu.example.test", RecordType::A), app_key()]).await.unwrap();
        assert_eq!(observed.len(), 1, "{kind:?}: {observed:?}");
        let diff = provider.diff(&[below.clone(), app(1)], &observed);
        assert_eq!(diff.blocked[0].reason, BlockedReason::NotObserved, "{kind:?}");
        provider.apply(&batch(1, diff.changes)).await.unwrap();
        let refused = provider.apply(&batch(1, vec![put(None, below)])).await.unwrap_err();
        assert!(
            matches!(&refused, ProviderError::Refused { code, .. } if code == "not_observed"),
            "{kind:?}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn what_such_a_server_can_not_say_is_refused() {
    let server = Server::start(Kind::Knot).await;
    let two = [("eu-west", "eu.example.test", 50), ("us-east", "us.example.test", 50)];
    let aliases = set("alias.example.test", RecordType::Cname, 1, &two);
    let refused = server.provider().apply(&batch(1, vec![put(None, aliases)])).await.unwrap_err();
    assert!(
        matches!(&refused, ProviderError::Refused { code, .. } if code == "inexpressible"),
        "{refused:?}"
    );
}
