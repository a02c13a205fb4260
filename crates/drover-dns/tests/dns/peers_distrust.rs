//! What peers can't do to an instance: command it in a coordinator's place, keep from it what another says, or have it tell what it does not know.

use std::fs;
use std::time::Duration;

use drover_dns::provider::RecordSets;
use drover_dns::publish::{
    Batch, Change, FenceReason, GONE_KEPT_MAX, Offer, OfferPage, PublishError, Published, STATE_FILE_NAME,
    WhyRefused,
};
use drover_dns::server::{Limits, Peer, Peering, run};
use drover_dns::zone::{RecordSet, RecordType};
use drover_model::Epoch;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType as QueryType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::common::{
    GUARD, LOOPBACK, Served, app, app_key, batch, config, drained, epoch, exchange, http, key, put, query,
    set,
};
use crate::fixed::fixed;
use crate::peers::{Bed, Key, everything, generation, metric, page, publisher, refused_as, until};

fn named(label: &str, generation: u64) -> RecordSet {
    set(&format!("{label}.example.test"), RecordType::A, generation, &[("eu-west", "192.0.2.7", 1)])
}

/// The same, as another store incarnation would.
fn elsewhere(batch: Batch) -> Batch {
    let epoch = Epoch { incarnation: batch.epoch.incarnation + 1, ..batch.epoch };
    Batch { epoch, ..batch }
}

#[test]
fn a_peer_lets_no_incarnation_command_a_server_that_nobody_has_told_anything() {
    let (key, directory) = (Key::new(), tempfile::tempdir().unwrap());
    let mut fresh = publisher(&directory, &key);
    assert_eq!(fresh.take_from_peer("peer", &page(&key, 3, 5, 6, app(3))).unwrap().taken, 1);
    for _ in 0..2 {
        assert_eq!(
            (fresh.fence().highest_epoch, fresh.fence().generation),
            (None, 6),
            "no coordinator has written"
        );
        assert_eq!(fresh.peer_state().unwrap().highest_epoch, Some(epoch(3)));
        // What comes from a peer stays of one incarnation: none of two is known to be the later.
        let other = elsewhere(batch(9, vec![put(None, app(9))]));
        let at = tempfile::tempdir().unwrap();
        let held = publisher(&at, &key);
        held.publish_sealed(&other, key.seal(&other, 1, 50)).unwrap();
        let taken = fresh.take_from_peer("peer", &everything(&held)).unwrap();
        assert!(matches!(refused_as(&taken), WhyRefused::OtherIncarnation { .. }), "{taken:?}");
        drop(fresh);
        fresh = publisher(&directory, &key);
    }
    // I3 holds by a peer's word, which was signed: an earlier leader of that incarnation was deposed.
    let deposed = batch(2, vec![put(Some(3), app(4))]);
    let refused = fresh.publish_sealed(&deposed, key.seal(&deposed, 2, 7)).unwrap_err();
    assert!(matches!(refused, PublishError::Fenced { reason: FenceReason::Older, .. }), "{refused}");
    // And the coordinator of the incarnation that was adopted meanwhile is not kept out.
    let adopted = elsewhere(batch(1, vec![put(Some(3), app(4))]));
    fresh.publish_sealed(&adopted, key.seal(&adopted, 7, 7)).unwrap();
    assert_eq!(fresh.fence().highest_epoch, Some(adopted.epoch));
}

#[test]
fn what_a_dead_incarnation_signed_is_shown_to_nobody() {
    let (key, directory) = (Key::new(), tempfile::tempdir().unwrap());
    let mut held = publisher(&directory, &key);
    let before = batch(1, vec![put(None, app(1)), put(None, named("retired", 1))]);
    held.publish_sealed(&before, key.seal(&before, 2, 2)).unwrap();
    let all = everything(&held);
    let now = elsewhere(batch(1, vec![put(Some(1), app(2))]));
    held.adopt(Some(epoch(1)), now.epoch).unwrap();
    assert_eq!(everything(&held).offers, []);
    held.publish_sealed(&now, key.seal(&now, 3, 3)).unwrap();
    for _ in 0..2 {
        let shown = everything(&held);
        assert_eq!(shown.offers.iter().map(|offer| &offer.key).collect::<Vec<_>>(), [&app_key()]);
        assert_eq!(held.unsealed(), [crate::common::key("retired.example.test", RecordType::A)]);
        assert_eq!(held.snapshot().record_sets().len(), 2, "it is served as ever");
        // One that shows both all the same, as an earlier build would.
        let seals = [shown.seals, all.seals.clone()].concat();
        let retired = all.offers.iter().filter(|offer| offer.key != app_key());
        let retired = retired.map(|offer| Offer { seal: 1, ..offer.clone() });
        let mixed =
            OfferPage { seals, offers: shown.offers.into_iter().chain(retired).collect(), next: None };
        let fresh = tempfile::tempdir().unwrap();
        let taken = publisher(&fresh, &key).take_from_peer("peer", &mixed).unwrap();
        assert_eq!((taken.taken, taken.refused.len()), (0, 2), "{taken:?}");
        drop(held);
        held = publisher(&directory, &key);
    }
}

#[test]
fn what_was_signed_deposed_makes_room_for_what_was_not() {
    cov_mark::check!(i3_dns_replaces_what_was_signed_deposed);
    let (key, directories) = (Key::new(), [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
    let [a, b] = directories.each_ref().map(|directory| publisher(directory, &key));
    let first = batch(4, vec![put(None, app(1))]);
    for instance in [&a, &b] {
        instance.publish_sealed(&first, key.seal(&first, 30, 30)).unwrap();
    }
    // The leader of epoch 5 reaches only b; that of epoch 6 reaches only a, and begins at the same generation.
    let deposed = batch(5, vec![put(Some(1), drained(2)), put(None, named("lost", 1))]);
    b.publish_sealed(&deposed, key.seal(&deposed, 41, 41)).unwrap();
    let leads = batch(6, vec![put(None, named("other", 1))]);
    a.publish_sealed(&leads, key.seal(&leads, 41, 41)).unwrap();
    assert_eq!(a.take_from_peer("b", &everything(&b)).unwrap().taken, 0);
    for _ in 0..2 {
        b.take_from_peer("a", &everything(&a)).unwrap();
    }
    let app_at =
        |one: &drover_dns::publish::Publisher| one.snapshot().get(&app_key()).unwrap().document().clone();
    assert_eq!(app_at(&b), app_at(&a));
    assert_eq!((a.contested(), b.contested()), (0, 1), "nothing stands instead of what only b has");
    assert_eq!(b.take_from_peer("a", &everything(&a)).unwrap().taken, 0, "and it ends there");
}

#[test]
fn what_is_proven_already_is_not_written_again_for_another_servers_sake() {
    let (key, directory) = (Key::new(), tempfile::tempdir().unwrap());
    let held = publisher(&directory, &key);
    let first = batch(1, vec![put(None, app(1))]);
    held.publish_sealed(&first, key.seal(&first, 2, 2)).unwrap();
    let (state, path) = (held.peer_state(), directory.path().join(STATE_FILE_NAME));
    let before = fs::read(&path).unwrap();
    let again = batch(1, vec![put(Some(1), app(1))]);
    let published = held.publish_sealed(&again, key.seal(&again, 2, 9)).unwrap();
    assert_eq!(published, Published::Unchanged { generation: 2 });
    assert_eq!((held.peer_state(), fs::read(&path).unwrap()), (state, before));
}

#[test]
fn one_that_can_not_stand_keeps_no_other_from_being_taken() {
    let (key, directories) = (Key::new(), [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
    let [from, to] = directories.each_ref().map(|directory| publisher(directory, &key));
    let alias = set("n5.example.test", RecordType::Cname, 1, &[("eu-west", "app.example.test", 1)]);
    let many = (0..20).filter(|n| *n != 5).map(|n| put(None, named(&format!("n{n}"), 1)));
    let many = batch(1, many.chain([put(None, alias)]).collect());
    from.publish_sealed(&many, key.seal(&many, 2, 2)).unwrap();
    let stands = batch(1, vec![put(None, named("n5", 1))]);
    to.publish_sealed(&stands, key.seal(&stands, 2, 3)).unwrap();
    let taken = to.take_from_peer("peer", &everything(&from)).unwrap();
    assert_eq!((taken.taken, taken.refused.len()), (19, 1), "{taken:?}");
    assert!(matches!(taken.refused[0].why, WhyRefused::Invalid(_)), "{taken:?}");
}

#[test]
fn a_page_is_bounded_by_its_length_as_well() {
    let (key, directories) = (Key::new(), [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
    let [from, to] = directories.each_ref().map(|directory| publisher(directory, &key));
    let long: Vec<String> = (0..50).map(|n| format!("{n}{}", "x".repeat(1_900))).collect();
    let values: Vec<&str> = long.iter().map(String::as_str).collect();
    let sets = (0..25).map(|n| put(None, fixed(&format!("t{n}.example.test"), RecordType::Txt, &values)));
    let sets = batch(1, sets.collect());
    from.publish_sealed(&sets, key.seal(&sets, 2, 2)).unwrap();
    let wanted: Vec<usize> = (0..drover_dns::publish::BUCKETS).collect();
    let (mut after, mut pages) = (None, 0);
    loop {
        let page = from.offers(&wanted, after.as_ref());
        assert!(serde_json::to_vec(&page).unwrap().len() < 1_100_000);
        to.take_from_peer("peer", &page).unwrap();
        (after, pages) = (page.next, pages + 1);
        if after.is_none() {
            break;
        }
    }
    assert_eq!((pages, to.peer_state()), (3, from.peer_state()));
}

#[test]
fn what_was_removed_long_ago_is_not_brought_back() {
    let (key, directory) = (Key::new(), tempfile::tempdir().unwrap());
    let held = publisher(&directory, &key);
    let zombie = named("r0", 1);
    let mut at = 2;
    let mut publish = |changes: Vec<Change>| {
        let batch = batch(1, changes);
        held.publish_sealed(&batch, key.seal(&batch, 2, at)).unwrap();
        at += 1;
    };
    publish(vec![put(None, zombie.clone())]);
    let old = everything(&held);
    let gone = |n: usize| Change::Delete {
        expected_generation: 1,
        name: format!("r{n}.example.test"),
        rtype: RecordType::A,
    };
    publish(vec![gone(0)]);
    publish((1..=GONE_KEPT_MAX).map(|n| put(None, named(&format!("r{n}"), 1))).collect());
    publish((1..=GONE_KEPT_MAX).map(gone).collect());
    drop(held);
    for _ in 0..2 {
        let held = publisher(&directory, &key);
        let taken = held.take_from_peer("peer", &old).unwrap();
        assert_eq!(*refused_as(&taken), WhyRefused::MayBeRemoved { given: 2, forgotten: 3 });
        // Written as a whole.
        let more = batch(1, vec![put(None, app(1))]);
        held.publish_sealed(&more, key.seal(&more, 2, 9)).unwrap();
    }
}

/// A server that lost its disk, whose peers are not there yet.
#[tokio::test]
async fn a_server_that_knows_nothing_says_so_until_it_was_told() {
    let silent = TcpListener::bind(LOOPBACK).await.unwrap();
    let bed = Bed { controls: vec![LOOPBACK, silent.local_addr().unwrap(), LOOPBACK], ..Bed::new() };
    let start = async |directory: &tempfile::TempDir| {
        let mut config = config(directory.path(), Limits::default());
        let peer = Peer { name: "silent".into(), control: bed.controls[1] };
        config.peering =
            Peering { trusted_keys: bed.trusted.clone(), peers: vec![peer], ..Peering::default() };
        let shutdown = CancellationToken::new();
        Served { running: run(config, shutdown.clone()).await.unwrap(), shutdown }
    };
    let one = start(&bed.directories[0]).await;
    let asked = async |served: &Served, name: &str| {
        let answer = exchange(served.dns(), &query(name, QueryType::A, Some(1232))).await;
        (answer.metadata.response_code, answer.metadata.authoritative)
    };
    assert_eq!(asked(&one, "app.example.test").await, (ResponseCode::ServFail, false));
    bed.provider(vec![one.instance("one")]).apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
    assert_eq!(asked(&one, "app.example.test").await, (ResponseCode::NoError, true));
    assert_eq!(asked(&one, "none.example.test").await, (ResponseCode::NXDomain, true));
    one.end().await;
    let one = start(&bed.directories[0]).await;
    assert_eq!(asked(&one, "none.example.test").await.0, ResponseCode::NXDomain, "it serves its disk alone");
    one.end().await;
}

/// One list of peers for every machine names each server to itself, too.
#[tokio::test]
async fn a_server_that_is_its_own_peer_takes_its_own_word_for_nothing() {
    let bed = Bed::new();
    let mut config = config(bed.directories[0].path(), Limits::default());
    config.control = bed.controls[0];
    let peer = Peer { name: "one".into(), control: bed.controls[0] };
    let interval = Duration::from_millis(100);
    config.peering =
        Peering { trusted_keys: bed.trusted.clone(), peers: vec![peer], interval, ..Peering::default() };
    let shutdown = CancellationToken::new();
    let one = Served { running: run(config, shutdown.clone()).await.unwrap(), shutdown };
    let begun = std::time::Instant::now();
    while metric(&one, "drover_dns_peer_rounds_total{peer=\"one\",outcome=\"answered\"}").await < 2 {
        assert!(begun.elapsed() < GUARD, "it never asked");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let asked = exchange(one.dns(), &query("app.example.test", QueryType::A, Some(1232))).await;
    assert_eq!(asked.metadata.response_code, ResponseCode::ServFail);
    bed.provider(vec![one.instance("one")]).apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
    let asked = exchange(one.dns(), &query("app.example.test", QueryType::A, Some(1232))).await;
    assert_eq!(asked.metadata.response_code, ResponseCode::NoError);
    one.end().await;
}

/// Says what it is told to say, one reply a connection, and nothing more.
async fn says(replies: Vec<String>) -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        for reply in replies {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 16 * 1024];
            let _ = stream.read(&mut request).await.unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", reply.len());
            stream.write_all(format!("{head}{reply}").as_bytes()).await.unwrap();
            let _ = stream.read_to_end(&mut request).await;
        }
    });
    (address, task)
}

#[tokio::test]
async fn what_came_before_a_peer_broke_off_is_taken() {
    let bed = Bed::new();
    let (source, from) =
        (tempfile::tempdir().unwrap(), batch(1, vec![put(None, app(1)), put(None, named("b", 1))]));
    let source = publisher(&source, &bed.key);
    source.publish_sealed(&from, bed.key.seal(&from, 2, 2)).unwrap();
    let mut first = everything(&source);
    first.offers.truncate(1);
    first.next = Some(app_key());
    let replies =
        [serde_json::to_string(&source.peer_state()).unwrap(), serde_json::to_string(&first).unwrap()];
    let (address, task) = says(replies.into()).await;
    let mut config = config(bed.directories[0].path(), Limits::default());
    let peers = vec![Peer { name: "broken".into(), control: address }];
    config.peering = Peering { trusted_keys: bed.trusted.clone(), peers, ..Peering::default() };
    let shutdown = CancellationToken::new();
    let served = Served { running: run(config, shutdown.clone()).await.unwrap(), shutdown };
    until("the first page", || generation(&served) == Some(1)).await;
    let (_, metrics) = http(served.running.control, "GET", "/metrics", "").await;
    assert!(metrics.contains("{peer=\"broken\",outcome=\"taken\"} 1"), "{metrics}");
    assert!(
        !served
            .running
            .publisher()
            .snapshot()
            .record_sets()
            .contains_key(&key("b.example.test", RecordType::A))
    );
    // It does not know the rest, and does not say that there is none.
    let answer = exchange(served.dns(), &query("b.example.test", QueryType::A, None)).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    task.await.unwrap();
    served.end().await;
}
