//! Answers with several values, and answers that stay with a client's network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use drover_dns::answer::{Context, Transport, answer};
use drover_dns::provider::{EmbeddedInstances, EmbeddedOptions, Mismatch, RecordSets, Verification};
use drover_dns::zone::{Answering, Answers, Draws, RecordSet, RecordType, Snapshot, ValidRecordSet};
use hickory_proto::op::Message;
use hickory_proto::rr::{RData, RecordType as QueryType};

use crate::common::{app, app_key, query, serve, set, zone};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn answered(set: RecordSet, answers: Answers, draws: Draws) -> RecordSet {
    RecordSet { answering: Answering { answers, draws }, ..set }
}

fn snapshot(sets: impl IntoIterator<Item = RecordSet>) -> Snapshot {
    let sets = sets.into_iter().map(|set| Arc::new(ValidRecordSet::new(set).unwrap()));
    Snapshot::new(zone(), 1, sets).unwrap()
}

fn ask(
    snapshot: &Snapshot,
    name: &str,
    payload: Option<u16>,
    transport: Transport,
    who: (IpAddr, u64),
) -> Message {
    let message = query(name, QueryType::A, payload).to_vec().unwrap();
    let context = Context { transport, client: who.0, draw: who.1, reads_client_subnet: false, cookie: None };
    Message::from_vec(&answer(snapshot, &message, &context).unwrap().bytes).unwrap()
}

fn addresses(message: &Message) -> Vec<u8> {
    let last = |record: &hickory_proto::rr::Record| match &record.data {
        RData::A(address) => address.0.octets()[3],
        other => panic!("{other}"),
    };
    message.answers.iter().map(last).collect()
}

#[test]
fn all_or_so_many_are_answered_each_once_and_never_one_without_weight() {
    for (answers, count) in
        [(Answers::All, 3), (Answers::Several(2), 2), (Answers::Several(9), 3), (Answers::One, 1)]
    {
        for draws in [Draws::Anew, Draws::Stable] {
            let snapshot = snapshot([answered(app(1), answers, draws)]);
            let mut random = fastrand::Rng::with_seed(3);
            let mut orders = BTreeSet::new();
            for _ in 0..200 {
                let found =
                    ask(&snapshot, "app.example.test.", Some(1232), Transport::Udp, (CLIENT, random.u64(..)));
                assert!(!found.metadata.truncation && found.answers.iter().all(|r| r.ttl == 30), "{found}");
                let order = addresses(&found);
                let distinct: BTreeSet<u8> = order.iter().copied().collect();
                assert!(
                    order.len() == count && distinct.len() == count && !distinct.contains(&4),
                    "{order:?}"
                );
                orders.insert(order);
            }
            assert_eq!(orders.len() == 1, draws == Draws::Stable, "{answers}: {orders:?}");
        }
    }
}

#[test]
fn behind_an_alias_several_are_answered_too() {
    let www = set("www.example.test", RecordType::Cname, 1, &[("eu-west", "app.example.test", 1)]);
    let snapshot = snapshot([answered(app(1), Answers::All, Draws::Stable), www]);
    let found = ask(&snapshot, "www.example.test.", Some(1232), Transport::Udp, (CLIENT, 1));
    assert_eq!(found.answers.len(), 4, "{found}");
    assert!(matches!(found.answers[0].data, RData::CNAME(_)), "{found}");
}

#[test]
fn what_does_not_fit_comes_over_tcp_whole() {
    let values: Vec<(String, String)> =
        (1..=100).map(|n| (format!("region-{n}"), format!("192.0.2.{n}"))).collect();
    let members: Vec<_> = values.iter().map(|(region, value)| (region.as_str(), value.as_str(), 1)).collect();
    let of = |count| set("app.example.test", RecordType::A, 1, &members[..count]);
    for (count, payload, fits) in [
        (28, None, true),
        (31, None, false),
        (70, Some(1232), true),
        (75, Some(1232), false),
        (31, Some(512), false),
    ] {
        let snapshot = snapshot([answered(of(count), Answers::All, Draws::Anew)]);
        let found = ask(&snapshot, "app.example.test.", payload, Transport::Udp, (CLIENT, 9));
        // Half a set would be taken for the whole.
        let expected = if fits { count } else { 0 };
        assert_eq!(
            (found.answers.len(), found.metadata.truncation),
            (expected, !fits),
            "{count}, {payload:?}"
        );
        let over_tcp = ask(&snapshot, "app.example.test.", payload, Transport::Tcp, (CLIENT, 9));
        assert_eq!((over_tcp.answers.len(), over_tcp.metadata.truncation), (count, false));
    }
}

#[test]
fn a_network_keeps_its_region_and_has_the_same_for_both_kinds_of_address() {
    let six = set(
        "app.example.test",
        RecordType::Aaaa,
        9,
        &[
            ("eu-west", "2001:db8::1", 50),
            ("us-east", "2001:db8::2", 30),
            ("ap-south", "2001:db8::3", 20),
            ("sa-east", "2001:db8::4", 0),
        ],
    );
    let sets = [app(1), six].map(|set| answered(set, Answers::One, Draws::Stable));
    let (snapshot, later) =
        (snapshot(sets.clone()), snapshot([answered(app(7), Answers::One, Draws::Stable)]));
    let mut seen: BTreeMap<u8, u32> = BTreeMap::new();
    for network in 0..=255 {
        let at = |host| IpAddr::from([198, 51, network, host]);
        let first = addresses(&ask(&snapshot, "app.example.test.", None, Transport::Udp, (at(1), 5)));
        for (host, draw) in [(1, 6), (77, u64::MAX), (255, 0)] {
            let again = ask(&snapshot, "app.example.test.", None, Transport::Tcp, (at(host), draw));
            assert_eq!(addresses(&again), first, "{network}.{host}");
        }
        let after = ask(&later, "app.example.test.", None, Transport::Udp, (at(3), 1));
        assert_eq!(addresses(&after), first, "another generation of the same weights");
        let message = query("app.example.test.", QueryType::AAAA, None).to_vec().unwrap();
        let context = Context {
            transport: Transport::Udp,
            client: at(9),
            draw: 3,
            reads_client_subnet: false,
            cookie: None,
        };
        let found = Message::from_vec(&answer(&snapshot, &message, &context).unwrap().bytes).unwrap();
        let RData::AAAA(address) = &found.answers[0].data else { panic!("{found}") };
        assert_eq!(address.0.octets()[15], first[0]);
        *seen.entry(first[0]).or_default() += 1;
    }
    assert!(seen.len() == 3 && !seen.contains_key(&4), "{seen:?}");
}

#[tokio::test]
async fn a_change_is_proven_by_as_many_values_as_should_be_answered() {
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path()).await;
    let provider = EmbeddedInstances::new(vec![served.instance("one")], EmbeddedOptions::default()).unwrap();
    let all = answered(app(1), Answers::All, Draws::Anew);
    served.publish_all(vec![all.clone()]);
    let verified = Verification::Verified { instances: vec!["one".to_owned()] };
    assert_eq!(provider.verify(&app_key(), Some(&all)).await.unwrap(), verified);
    let one = provider.verify(&app_key(), Some(&app(1))).await.unwrap();
    let Verification::Mismatch { mismatches, .. } = one else { panic!("{one:?}") };
    assert_eq!(mismatches[0].found, Mismatch::Count { expected: 1, found: 3 });
    // Another way to answer is another record set.
    let observed = provider.observe(&[app_key()]).await.unwrap();
    assert!(provider.diff(&[all], &observed).changes.is_empty());
    let stable = answered(app(2), Answers::One, Draws::Stable);
    assert_eq!(provider.diff(&[stable], &observed).changes.len(), 1);
    served.end().await;
}

#[test]
fn an_alias_has_one_value_whatever_is_asked_for() {
    let www = set("www.example.test", RecordType::Cname, 1, &[("eu-west", "app.example.test", 1)]);
    let refused = ValidRecordSet::new(answered(www, Answers::All, Draws::Anew)).unwrap_err();
    assert!(refused.to_string().contains("of its type it must be one"), "{refused}");
}
