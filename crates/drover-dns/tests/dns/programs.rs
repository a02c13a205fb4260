//! Weights in a zone of PowerDNS, by its LUA records, against the server itself.

use std::collections::BTreeMap;
use std::time::Duration;

use drover_dns::provider::{Applied, BlockedReason, Mismatch, ProviderError, RecordSets, Verification};
use drover_dns::publish::Change;
use drover_dns::resolver::{QueryType, resolve};
use drover_dns::zone::{MEMBERS_MAX, RecordSet, RecordType};
use drover_model::config::ZoneServer;

use crate::common::{GUARD, app, app_key, batch, drained, key, name, put, set};
use crate::servers::{Kind, SECRET, Server};
use crate::update::{live, verified};

/// How often each value is answered, of so many questions, one value an answer.
async fn drawn(server: &Server, host: &str, rtype: QueryType, questions: u32) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for _ in 0..questions {
        let answer = resolve(server.address, &name(host), rtype, GUARD).await.unwrap();
        let [value] = answer.values.as_slice() else { panic!("{host}: {answer:?}") };
        *counts.entry(value.clone()).or_default() += 1;
    }
    counts
}

fn take_over(expected_generation: Option<u64>, record_set: RecordSet) -> Change {
    Change::Put { expected_generation, record_set, take_over: true }
}

#[tokio::test]
async fn answers_follow_the_weights_and_a_region_without_weight_is_not_answered() {
    let server = Server::start(Kind::PowerDnsLua).await;
    let provider = server.provider();
    assert!(provider.capabilities().has_weights);
    let members = [("eu-west", "192.0.2.1", 240), ("us-east", "192.0.2.2", 15), ("ap-south", "192.0.2.3", 0)];
    let uneven = set("app.example.test", RecordType::A, 1, &members);
    let applied = provider.apply(&batch(1, vec![put(None, uneven.clone())])).await.unwrap();
    assert!(matches!(applied, Applied::Changed(_)), "{applied:?}");
    assert_eq!(live(&provider).await, Some(uneven.clone()));
    assert_eq!(provider.verify(&app_key(), Some(&uneven)).await.unwrap(), verified());
    // 35 of 600 are expected; fewer than 6 or more than 120 would not come by chance in a lifetime.
    let counts = drawn(&server, "app.example.test", QueryType::A, 600).await;
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["192.0.2.1", "192.0.2.2"]);
    assert!((6..=120).contains(&counts["192.0.2.2"]), "{counts:?}");

    let observed = provider.observe(&[app_key()]).await.unwrap();
    let diff = provider.diff(&[drained(2)], &observed);
    provider.apply(&batch(1, diff.changes)).await.unwrap();
    assert_eq!(provider.verify(&app_key(), Some(&drained(2))).await.unwrap(), verified());
    let Verification::Mismatch { mismatches, .. } = provider.verify(&app_key(), Some(&uneven)).await.unwrap()
    else {
        panic!("the old state was verified");
    };
    assert_eq!(mismatches[0].found, Mismatch::Generation { expected: 1, found: Some(2) });
    let again = provider.apply(&batch(1, vec![put(Some(1), drained(2))])).await.unwrap();
    assert!(matches!(again, Applied::Unchanged(_)), "repeating is harmless");
    let delete =
        Change::Delete { expected_generation: 2, name: "app.example.test".into(), rtype: RecordType::A };
    provider.apply(&batch(1, vec![delete])).await.unwrap();
    assert_eq!(live(&provider).await, None);
    assert_eq!(provider.verify(&app_key(), None).await.unwrap(), verified());
}

#[tokio::test]
async fn a_server_that_runs_no_programs_is_not_given_the_first() {
    let lame = Server::start(Kind::PowerDnsLame).await;
    let refused = lame.provider().apply(&batch(1, vec![put(None, app(1))])).await.unwrap_err();
    assert!(
        matches!(&refused, ProviderError::NotNow { detail, .. } if detail.contains("enable-lua-records")),
        "{refused:?}"
    );
    assert_eq!(live(&lame.provider()).await, None, "nothing was put");

    // Nor where one that follows does not.
    let server = Server::start(Kind::PowerDnsLua).await;
    let at = |name: &str, server: &Server| ZoneServer { name: name.into(), query: server.address };
    let with = |other: ZoneServer| server.provider_of(vec![other], SECRET, Duration::from_secs(1));
    let refused = with(at("second", &lame)).apply(&batch(1, vec![put(None, app(1))])).await.unwrap_err();
    assert!(
        matches!(&refused, ProviderError::NotNow { detail, .. } if detail.contains("second does not answer")),
        "{refused:?}"
    );
    // One that can't be asked keeps nobody back, and is told of.
    let gone = at("gone", &lame);
    drop(lame);
    let provider = with(gone);
    provider.apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
    let observed = provider.observe(&[app_key()]).await.unwrap().remove(0);
    assert_eq!((observed.current, observed.lagging.len()), (Some(app(1)), 1));
}

#[tokio::test]
async fn what_a_hand_makes_of_a_program_is_shown_and_taken_only_knowingly() {
    let server = Server::start(Kind::PowerDnsLua).await;
    let provider = server.provider();
    provider.apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
    for (program, shown) in [
        ("pickwrandom({{1,''192.0.2.2''},{3,''192.0.2.8''}})", vec![("192.0.2.2", 1), ("192.0.2.8", 3)]),
        ("pickrandom({''192.0.2.2''})", vec![("(a program: pickrandom({'192.0.2.2'}))", 1)]),
    ] {
        server.by_hand(&format!(
            "UPDATE records SET content = 'A \"{program}\"' WHERE name = 'app.example.test' AND type = 'LUA'"
        ));
        let observed = provider.observe(&[app_key()]).await.unwrap();
        assert!(observed[0].is_changed_by_hand, "{observed:?}");
        let members = observed[0].current.as_ref().unwrap().members.iter();
        assert_eq!(members.map(|m| (m.value.as_str(), m.weight)).collect::<Vec<_>>(), shown);
        let diff = provider.diff(&[drained(2)], &observed);
        assert_eq!(diff.blocked[0].reason, BlockedReason::Drifted);
        let refused = provider.apply(&batch(1, vec![put(Some(1), drained(2))])).await.unwrap_err();
        assert!(matches!(refused, ProviderError::Conflict { .. }), "{refused:?}");
    }
    // An address beside it would be answered together with what is drawn.
    server.by_hand(
        "INSERT INTO records (domain_id, name, type, content, ttl, disabled, auth)
         VALUES (1, 'app.example.test', 'A', '192.0.2.9', 30, 0, 1)",
    );
    assert!(provider.observe(&[app_key()]).await.unwrap()[0].is_changed_by_hand);
    provider.apply(&batch(1, vec![take_over(Some(1), drained(2))])).await.unwrap();
    assert_eq!(live(&provider).await, Some(drained(2)));
    assert_eq!(provider.verify(&app_key(), Some(&drained(2))).await.unwrap(), verified());
}

#[tokio::test]
async fn equal_shares_become_weights_once_they_are_adopted() {
    let server = Server::start(Kind::PowerDnsLua).await;
    server.provider_without_weights().apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
    let provider = server.provider();
    let observed = provider.observe(&[app_key()]).await.unwrap();
    assert!(observed[0].is_changed_by_hand, "{observed:?}");
    provider.apply(&batch(1, vec![take_over(Some(1), app(2))])).await.unwrap();
    assert_eq!(live(&provider).await, Some(app(2)));
    assert_eq!(provider.verify(&app_key(), Some(&app(2))).await.unwrap(), verified());
    // And seen without weights, it is not what such a zone has.
    let observed = server.provider_without_weights().observe(&[app_key()]).await.unwrap();
    assert!(observed[0].is_changed_by_hand, "{observed:?}");
}

#[tokio::test]
async fn both_kinds_of_address_stand_at_one_name_and_move_together_or_alone() {
    let server = Server::start(Kind::PowerDnsLua).await;
    let provider = server.provider();
    let of = |rtype, generation, values: [&str; 2]| {
        set("dual.example.test", rtype, generation, &[("eu-west", values[0], 1), ("us-east", values[1], 1)])
    };
    let four = |generation| of(RecordType::A, generation, ["192.0.2.1", "192.0.2.2"]);
    let six = |generation| of(RecordType::Aaaa, generation, ["2001:db8::1", "2001:db8::2"]);
    let keys = [key("dual.example.test", RecordType::A), key("dual.example.test", RecordType::Aaaa)];
    let shown = async || {
        let observed = provider.observe(&keys).await.unwrap();
        observed.into_iter().map(|o| (o.current, o.is_changed_by_hand)).collect::<Vec<_>>()
    };
    // Somebody else's program at the name stays through all of it.
    server.by_hand(
        "INSERT INTO records (domain_id, name, type, content, ttl, disabled, auth)
         VALUES (1, 'dual.example.test', 'LUA', 'TXT \"''theirs''\"', 30, 0, 1)",
    );
    provider.apply(&batch(1, vec![put(None, four(1)), put(None, six(1))])).await.unwrap();
    assert_eq!(shown().await, [(Some(four(1)), false), (Some(six(1)), false)]);
    let drained = RecordSet {
        members: set("x", RecordType::A, 1, &[("eu-west", "192.0.2.1", 0), ("us-east", "192.0.2.2", 1)])
            .members,
        ..four(2)
    };
    provider.apply(&batch(1, vec![put(Some(1), drained.clone()), put(Some(1), six(2))])).await.unwrap();
    assert_eq!(shown().await, [(Some(drained.clone()), false), (Some(six(2)), false)]);
    provider.apply(&batch(1, vec![put(Some(2), six(3))])).await.unwrap();
    assert_eq!(
        drawn(&server, "dual.example.test", QueryType::A, 4).await.keys().collect::<Vec<_>>(),
        ["192.0.2.2"]
    );
    let delete =
        Change::Delete { expected_generation: 2, name: "dual.example.test".into(), rtype: RecordType::A };
    provider.apply(&batch(1, vec![delete])).await.unwrap();
    assert_eq!(shown().await, [(None, false), (Some(six(3)), false)]);
    assert_eq!(
        drawn(&server, "dual.example.test", QueryType::Txt, 1).await.keys().collect::<Vec<_>>(),
        ["theirs"]
    );
}

#[tokio::test]
async fn aliases_have_weights_here_and_nothing_is_put_beside_one() {
    let server = Server::start(Kind::PowerDnsLua).await;
    let provider = server.provider();
    let alias = |generation, weights: [u16; 2]| {
        let members =
            [("eu-west", "eu.example.test", weights[0]), ("us-east", "us.example.test", weights[1])];
        set("www.example.test", RecordType::Cname, generation, &members)
    };
    let at = key("www.example.test", RecordType::Cname);
    provider.apply(&batch(1, vec![put(None, alias(1, [1, 1]))])).await.unwrap();
    let counts = drawn(&server, "www.example.test", QueryType::Cname, 100).await;
    assert_eq!(counts.len(), 2, "{counts:?}");
    provider.apply(&batch(1, vec![put(Some(1), alias(2, [0, 1]))])).await.unwrap();
    assert_eq!(provider.verify(&at, Some(&alias(2, [0, 1]))).await.unwrap(), verified());
    let address = set("www.example.test", RecordType::A, 1, &[("eu-west", "192.0.2.1", 1)]);
    let refused = provider.apply(&batch(1, vec![take_over(None, address)])).await.unwrap_err();
    assert!(
        matches!(&refused, ProviderError::Refused { code, .. } if code == "inexpressible"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn the_longest_program_runs() {
    let server = Server::start(Kind::PowerDnsLua).await;
    let provider = server.provider();
    let values: Vec<String> =
        (1..=MEMBERS_MAX).map(|n| format!("2001:db8:1111:2222:3333:4444:5555:{n:x}")).collect();
    let members: Vec<(&str, &str, u16)> = values.iter().map(|value| ("r", value.as_str(), 255)).collect();
    let mut long = set("long.example.test", RecordType::Aaaa, 1, &members);
    for (number, member) in long.members.iter_mut().enumerate() {
        member.set_id = format!("region-{number}");
    }
    provider.apply(&batch(1, vec![put(None, long.clone())])).await.unwrap();
    let at = key("long.example.test", RecordType::Aaaa);
    assert_eq!(provider.verify(&at, Some(&long)).await.unwrap(), verified());
    assert_eq!(provider.observe(&[at]).await.unwrap()[0].current, Some(long));
    let counts = drawn(&server, "long.example.test", QueryType::Aaaa, 2000).await;
    assert!(counts.len() > MEMBERS_MAX * 9 / 10, "{}", counts.len());
}

#[tokio::test]
async fn a_key_that_may_not_transfer_the_zone_is_told_what_it_lacks() {
    let server = Server::start(Kind::PowerDnsLua).await;
    server.by_hand("DELETE FROM domainmetadata WHERE kind = 'TSIG-ALLOW-AXFR'");
    let refused = server.provider().observe(&[app_key()]).await.unwrap_err();
    assert!(
        matches!(&refused, ProviderError::NotNow { detail, .. } if detail.contains("TSIG-ALLOW-AXFR")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_wildcard_stands_at_another_name() {
    let server = Server::start_with(Kind::PowerDnsLua, "* A 198.51.100.9\n").await;
    let provider = server.provider();
    assert_eq!(live(&provider).await, None);
    provider.apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
    assert_eq!(provider.verify(&app_key(), Some(&app(1))).await.unwrap(), verified());
}
