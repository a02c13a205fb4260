//! Instances keep each other up to date: what one missed it takes from another, and nothing that it shouldn't.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use drover_dns::provider::{
    Applied, BatchSigner, EmbeddedInstances, EmbeddedOptions, Instance, LaggingState, ProviderError,
    RecordSets, ZoneGenerations,
};
use drover_dns::publish::{
    Batch, Change, OfferPage, PeerState, PublicKey, Publisher, Seal, Sealing, SigningKey, Taken, TrustedKeys,
    WhyRefused,
};
use drover_dns::server::{Limits, Peer, Peering, PeeringError, StartError, run};
use drover_dns::zone::{RecordSet, RecordType};
use tokio_util::sync::CancellationToken;

use crate::common::{
    GUARD, LOOPBACK, Served, app, app_key, batch, config, drained, epoch, http, name, put, serve, set, zone,
};

const NAMES: [&str; 3] = ["one", "two", "three"];

pub struct Key {
    directory: tempfile::TempDir,
    pub key: SigningKey,
}

impl Key {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = SigningKey::create(&directory.path().join("key")).unwrap();
        Self { directory, key }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("key")
    }

    fn public(&self) -> PublicKey {
        self.key.public()
    }

    /// As a leader that began at `since`.
    pub fn seal(&self, batch: &Batch, since: u64, generation: u64) -> Vec<Seal> {
        Sealing { key: &self.key, zone: &name("example.test"), since, generation }.seal(batch).unwrap()
    }
}

/// Three places for instances that know each other.
pub struct Bed {
    pub directories: Vec<tempfile::TempDir>,
    pub controls: Vec<SocketAddr>,
    pub trusted: Vec<PublicKey>,
    pub key: Key,
}

impl Bed {
    pub fn new() -> Self {
        let key = Key::new();
        // Held until all are chosen, so that they differ.
        let free: Vec<_> = NAMES.iter().map(|_| std::net::TcpListener::bind(LOOPBACK).unwrap()).collect();
        Self {
            directories: NAMES.iter().map(|_| tempfile::tempdir().unwrap()).collect(),
            controls: free.iter().map(|listener| listener.local_addr().unwrap()).collect(),
            trusted: vec![key.public()],
            key,
        }
    }

    pub async fn start(&self, place: usize) -> Served {
        let others = NAMES.iter().zip(&self.controls).enumerate().filter(|(other, _)| *other != place);
        let peers = others.map(|(_, (name, control))| Peer { name: (*name).to_owned(), control: *control });
        let mut config = config(self.directories[place].path(), Limits::default());
        config.control = self.controls[place];
        config.peering = Peering {
            trusted_keys: self.trusted.clone(),
            peers: peers.collect(),
            interval: Duration::from_millis(100),
            listen: Some(LOOPBACK),
        };
        let shutdown = CancellationToken::new();
        Served { running: run(config, shutdown.clone()).await.unwrap(), shutdown }
    }

    /// A coordinator that has just begun.
    pub fn provider(&self, instances: Vec<Instance>) -> EmbeddedInstances {
        let signer = BatchSigner {
            key_file: self.key.file(),
            zone: name("example.test"),
            generations: Arc::new(ZoneGenerations::default()),
        };
        EmbeddedInstances::new(instances, EmbeddedOptions::default()).unwrap().signed_by(signer)
    }
}

pub fn generation(served: &Served) -> Option<u64> {
    served.running.publisher().snapshot().get(&app_key()).map(|set| set.document().generation)
}

fn serial(served: &Served) -> u64 {
    served.running.publisher().fence().generation
}

pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < GUARD, "{what} never came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub async fn metric(served: &Served, line: &str) -> u64 {
    let (_, text) = http(served.running.control, "GET", "/metrics", "").await;
    let found = text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok());
    found.unwrap_or_else(|| panic!("no {line} in {text}"))
}

#[tokio::test]
async fn a_batch_that_one_missed_comes_from_another_when_the_coordinator_is_gone() {
    let bed = Bed::new();
    let (one, two, three) = (bed.start(0).await, bed.start(1).await, bed.start(2).await);
    let all = || vec![one.instance("one"), two.instance("two"), three.instance("three")];
    let provider = bed.provider(all());
    provider.apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
    assert_eq!([serial(&one), serial(&two), serial(&three)], [2, 2, 2], "the serial is the batch's");
    assert_eq!(metric(&one, "drover_dns_last_contact_seconds{of=\"coordinator\"}").await, 0);

    // The coordinator reaches one, and is never heard again.
    let partly = bed.provider(vec![one.instance("one")]);
    partly.apply(&batch(2, vec![put(Some(1), drained(2))])).await.unwrap();
    until("the missed batch", || [&two, &three].map(generation) == [Some(2), Some(2)]).await;
    assert_eq!([serial(&two), serial(&three)], [serial(&one); 2]);
    for served in [&two, &three] {
        let publisher = served.running.publisher();
        assert_eq!(publisher.fence().highest_epoch, Some(epoch(2)), "an earlier leader is refused now");
        let applied = publisher.applied();
        assert!(applied.last().unwrap().idempotency_key.starts_with("from peer "), "{applied:?}");
        let states = [&one, served].map(|s| s.running.publisher().peer_state().unwrap().buckets);
        assert_eq!(states[0], states[1]);
    }
    let taken = "drover_dns_peer_record_sets_total{peer=\"one\",outcome=\"taken\"}";
    let other = "drover_dns_peer_record_sets_total{peer=\"three\",outcome=\"taken\"}";
    until("the metric", || true).await;
    assert!(metric(&two, taken).await + metric(&two, other).await >= 1);
    let observed = bed.provider(all()).observe(&[app_key()]).await.unwrap();
    assert_eq!(observed[0].lagging, []);
    for served in [one, two, three] {
        served.end().await;
    }
}

#[tokio::test]
async fn a_restart_asks_its_peers_before_it_answers_and_serves_its_disk_without_them() {
    let bed = Bed::new();
    let (one, two) = (bed.start(0).await, bed.start(1).await);
    let provider = bed.provider(vec![one.instance("one"), two.instance("two")]);
    provider.apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
    two.end().await;
    // Meanwhile something is published; and what is new is there with the first answer.
    let partly = bed.provider(vec![one.instance("one")]);
    partly.apply(&batch(1, vec![put(Some(1), drained(2))])).await.unwrap();
    let two = bed.start(1).await;
    assert_eq!((generation(&two), serial(&two)), (Some(2), serial(&one)));
    one.end().await;
    two.end().await;
    // Nobody is left to be asked.
    let two = bed.start(1).await;
    assert_eq!(generation(&two), Some(2));
    assert!(metric(&two, "drover_dns_peer_rounds_total{peer=\"one\",outcome=\"failed\"}").await >= 1);
    // Another that never had anything learns all of it, by what was signed before this restart.
    let three = bed.start(2).await;
    assert_eq!((generation(&three), serial(&three)), (Some(2), serial(&two)));
    two.end().await;
    three.end().await;
}

/// A peer that takes connections and says nothing.
#[tokio::test]
async fn a_start_waits_for_peers_no_longer_than_it_says() {
    let silent = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap();
    let bed = Bed { controls: vec![LOOPBACK, silent.local_addr().unwrap(), LOOPBACK], ..Bed::new() };
    let mut config = config(bed.directories[0].path(), Limits::default());
    let peer = Peer { name: "silent".into(), control: bed.controls[1] };
    config.peering = Peering { trusted_keys: bed.trusted.clone(), peers: vec![peer], ..Peering::default() };
    let shutdown = CancellationToken::new();
    let running = tokio::time::timeout(GUARD, run(config, shutdown.clone())).await.expect("a start").unwrap();
    let served = Served { running, shutdown };
    assert_eq!(generation(&served), None);
    served.end().await;
}

#[tokio::test]
async fn a_server_that_trusts_keys_takes_nothing_else_and_says_what_to_do() {
    let bed = Bed::new();
    let one = bed.start(0).await;
    let unsigned = EmbeddedInstances::new(vec![one.instance("one")], EmbeddedOptions::default()).unwrap();
    let batch = batch(1, vec![put(None, app(1))]);
    let refused = unsigned.apply(&batch).await.unwrap_err();
    let ProviderError::Unreachable { missing } = &refused else { panic!("{refused:?}") };
    assert!(missing[0].reason.contains("drover dns keygen --out"), "{missing:?}");
    let stranger = Bed { key: Key::new(), ..Bed::new() };
    let refused = stranger.provider(vec![one.instance("one")]).apply(&batch).await.unwrap_err();
    let ProviderError::Unreachable { missing } = &refused else { panic!("{refused:?}") };
    assert!(missing[0].reason.contains("drover dns keygen --show"), "{missing:?}");
    assert_eq!(metric(&one, "drover_dns_publications_total{outcome=\"not_signed\"}").await, 2);
    assert_eq!(generation(&one), None);
    // A key that is gone keeps changes back, and names the file.
    std::fs::remove_file(bed.key.file()).unwrap();
    let not_now = bed.provider(vec![one.instance("one")]).apply(&batch).await.unwrap_err();
    assert!(matches!(&not_now, ProviderError::NotNow { detail, .. } if detail.contains("signing key")));
    one.end().await;
    let mut config = config(bed.directories[0].path(), Limits::default());
    config.peering.peers = vec![Peer { name: "two".into(), control: LOOPBACK }];
    let refused = run(config, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(refused, StartError::Peering(PeeringError::NoKeys)), "{refused}");
}

#[tokio::test]
async fn what_was_never_signed_is_signed_by_the_coordinator_and_then_handed_on() {
    let bed = Bed::new();
    // As it was before there were keys.
    let old = serve(bed.directories[0].path()).await;
    old.publish_all(vec![app(1)]);
    old.end().await;
    let (one, two) = (bed.start(0).await, bed.start(1).await);
    assert_eq!((generation(&one), generation(&two)), (Some(1), None), "it is served as ever");
    let provider = bed.provider(vec![one.instance("one")]);
    let observed = provider.observe(&[app_key()]).await.unwrap();
    assert_eq!(observed[0].lagging[0].state, LaggingState::Unsigned);
    let diff = provider.diff(&[app(1)], &observed);
    let applied = provider.apply(&batch(1, diff.changes)).await.unwrap();
    assert!(matches!(applied, Applied::Unchanged(_)), "nobody is answered anything else: {applied:?}");
    until("the record set", || generation(&two) == Some(1)).await;
    assert_eq!(provider.observe(&[app_key()]).await.unwrap()[0].lagging, []);
    assert_eq!(serial(&one), serial(&two));
    one.end().await;
    two.end().await;
}

#[tokio::test]
async fn keys_are_changed_while_both_are_trusted() {
    let (old, new) = (Bed::new(), Key::new());
    let both = Bed { trusted: vec![old.key.public(), new.public()], ..old };
    let (one, two) = (both.start(0).await, both.start(1).await);
    both.provider(vec![one.instance("one")]).apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
    until("what the old key signed", || generation(&two) == Some(1)).await;
    let changed = Bed { key: new, ..both };
    let provider = changed.provider(vec![one.instance("one")]);
    provider.apply(&batch(1, vec![put(Some(1), drained(2))])).await.unwrap();
    until("what the new key signed", || generation(&two) == Some(2)).await;
    one.end().await;
    two.end().await;
    // The old one is trusted no more: what it signed is served, and signed anew.
    let only_new = Bed { trusted: vec![changed.key.public()], ..changed };
    let one = only_new.start(0).await;
    assert_eq!(generation(&one), Some(2));
    assert_eq!(
        only_new.provider(vec![one.instance("one")]).observe(&[app_key()]).await.unwrap()[0].lagging,
        []
    );
    one.end().await;
    let stranger = Bed { trusted: vec![Key::new().public()], ..only_new };
    let one = stranger.start(0).await;
    assert_eq!(generation(&one), Some(2), "never withdrawn");
    let observed = stranger.provider(vec![one.instance("one")]).observe(&[app_key()]).await.unwrap();
    assert_eq!(observed[0].lagging[0].state, LaggingState::Unsigned);
    one.end().await;
}

/// One that trusts the key, without a network around it.
pub fn publisher(directory: &tempfile::TempDir, key: &Key) -> Publisher {
    let trusted = TrustedKeys::new(vec![key.public()]);
    Publisher::open_trusting(directory.path(), zone(), trusted).unwrap()
}

pub fn everything(publisher: &Publisher) -> OfferPage {
    publisher.offers(&(0..drover_dns::publish::BUCKETS).collect::<Vec<_>>(), None)
}

pub fn refused_as(taken: &Taken) -> &WhyRefused {
    assert_eq!((taken.taken, taken.refused.len()), (0, 1), "{taken:?}");
    &taken.refused[0].why
}

/// `app` at `generation` as a page, signed by a leader.
pub fn page(key: &Key, counter: u64, since: u64, zone_generation: u64, set: RecordSet) -> OfferPage {
    let directory = tempfile::tempdir().unwrap();
    let publisher = publisher(&directory, key);
    let batch = batch(counter, vec![put(None, set)]);
    publisher.publish_sealed(&batch, key.seal(&batch, since, zone_generation)).unwrap();
    everything(&publisher)
}

#[test]
fn what_a_peer_must_not_bring_is_refused_by_name() {
    cov_mark::check!(i3_dns_refuses_what_was_signed_deposed);
    let (key, directory) = (Key::new(), tempfile::tempdir().unwrap());
    let publisher = publisher(&directory, &key);
    let good = page(&key, 2, 5, 6, app(3));
    assert_eq!(publisher.take_from_peer("peer", &good).unwrap().taken, 1);
    assert_eq!(publisher.take_from_peer("peer", &good).unwrap(), Taken::default(), "it is there already");
    let state = publisher.peer_state();

    let mut tampered = page(&key, 2, 5, 9, app(4));
    tampered.offers[0].record_set.as_mut().unwrap().members[0].weight = 1;
    let taken = publisher.take_from_peer("peer", &tampered).unwrap();
    assert!(refused_as(&taken).to_string().contains("is not what was signed"), "{taken:?}");
    let mut removed = page(&key, 2, 5, 9, app(4));
    removed.offers[0].record_set = None;
    assert!(matches!(
        refused_as(&publisher.take_from_peer("peer", &removed).unwrap()),
        WhyRefused::NotSigned(_)
    ));
    let stranger = page(&Key::new(), 2, 5, 9, app(4));
    let taken = publisher.take_from_peer("peer", &stranger).unwrap();
    assert!(refused_as(&taken).to_string().contains("trusted_keys"), "{taken:?}");
    let replayed = page(&key, 2, 5, 5, app(2));
    let taken = publisher.take_from_peer("peer", &replayed).unwrap();
    assert_eq!(*refused_as(&taken), WhyRefused::Backwards { given: 5, held: 6 });
    let mut elsewhere = batch(9, vec![put(None, app(9))]);
    elsewhere.epoch.incarnation += 1;
    let (other, of_other) = (tempfile::tempdir().unwrap(), key.seal(&elsewhere, 1, 50));
    let other = self::publisher(&other, &key);
    other.publish_sealed(&elsewhere, of_other).unwrap();
    let taken = publisher.take_from_peer("peer", &everything(&other)).unwrap();
    assert!(matches!(refused_as(&taken), WhyRefused::OtherIncarnation { .. }), "{taken:?}");
    // A leader that was deposed when zone generation 5 came; what it signed before that is missed, and welcome.
    let late = set("late.example.test", RecordType::A, 1, &[("eu-west", "192.0.2.7", 1)]);
    let taken = publisher.take_from_peer("peer", &page(&key, 1, 1, 5, late.clone())).unwrap();
    assert!(matches!(refused_as(&taken), WhyRefused::OlderEpoch { .. }), "{taken:?}");
    assert_eq!(publisher.peer_state(), state, "nothing of all that left a trace");
    assert_eq!(publisher.take_from_peer("peer", &page(&key, 1, 1, 4, late)).unwrap().taken, 1);
    assert_eq!(publisher.fence().generation, 6, "a gap that closes raises no serial");
    assert_eq!(publisher.unsealed(), []);
    // What another incarnation has signed is nothing that a peer of this one would take: it is signed anew.
    publisher.adopt(Some(epoch(2)), elsewhere.epoch).unwrap();
    assert_eq!(publisher.unsealed().len(), 2);
    let again = Batch { changes: vec![put(Some(3), app(3))], ..elsewhere };
    publisher.publish_sealed(&again, key.seal(&again, 7, 7)).unwrap();
    assert!(!publisher.is_unsealed(&app_key()));
}

/// What other machines reach shows and takes no more than peers need.
#[tokio::test]
async fn the_listener_for_peers_takes_nothing() {
    let bed = Bed::new();
    let one = bed.start(0).await;
    bed.provider(vec![one.instance("one")]).apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
    let at = one.running.peers.unwrap();
    let (status, text) = http(at, "GET", "/v1/peer", "").await;
    let state: PeerState = serde_json::from_str(&text).unwrap();
    assert_eq!((status, Some(state)), (200, one.running.publisher().peer_state()));
    let all: Vec<usize> = (0..drover_dns::publish::BUCKETS).collect();
    let (_, text) =
        http(at, "POST", "/v1/peer/sets", &format!("{{\"buckets\":{all:?},\"after\":null}}")).await;
    let page: OfferPage = serde_json::from_str(&text).unwrap();
    assert_eq!(page, everything(one.running.publisher()));
    for (method, path) in
        [("GET", "/v1/fence"), ("PUT", "/v1/recordsets"), ("PUT", "/v1/ttls"), ("GET", "/metrics")]
    {
        assert_eq!(http(at, method, path, "{}").await.0, 404, "{path}");
    }
    for buckets in ["[]", "[256]"] {
        let question = format!("{{\"buckets\":{buckets},\"after\":null}}");
        assert_eq!(http(at, "POST", "/v1/peer/sets", &question).await.0, 400, "{buckets}");
    }
    let long = " ".repeat(100_000);
    assert_eq!(http(at, "POST", "/v1/peer/sets", &long).await.0, 413);
    one.end().await;
    let old = serve(tempfile::tempdir().unwrap().path()).await;
    let (status, text) = http(old.running.control, "GET", "/v1/peer", "").await;
    assert!(status == 404 && text.contains("trusted_keys"), "{text}");
    old.end().await;
}

#[test]
fn signatures_are_kept_and_a_page_is_bounded() {
    let (key, directory) = (Key::new(), tempfile::tempdir().unwrap());
    let held = publisher(&directory, &key);
    let many = (0..450).map(|n| {
        put(None, set(&format!("s{n}.example.test"), RecordType::A, 1, &[("eu-west", "192.0.2.1", 1)]))
    });
    let first = batch(1, many.collect());
    held.publish_sealed(&first, key.seal(&first, 2, 2)).unwrap();
    let gone =
        Change::Delete { expected_generation: 1, name: "s7.example.test".into(), rtype: RecordType::A };
    let second = batch(1, vec![gone, put(None, app(1))]);
    held.publish_sealed(&second, key.seal(&second, 2, 3)).unwrap();
    let state: Option<PeerState> = held.peer_state();
    drop(held);
    // What was appended, and then what was written as a whole.
    for _ in 0..2 {
        let held = publisher(&directory, &key);
        assert_eq!(held.peer_state(), state);
        assert!(held.unsealed().is_empty());
        let again = batch(1, vec![put(None, app(1))]);
        held.publish_sealed(&again, key.seal(&again, 2, 3)).unwrap();
    }
    let held = publisher(&directory, &key);
    let other = tempfile::tempdir().unwrap();
    let other = publisher(&other, &key);
    let wanted: Vec<usize> = (0..drover_dns::publish::BUCKETS).collect();
    let (mut after, mut pages) = (None, 0);
    loop {
        let page = held.offers(&wanted, after.as_ref());
        assert!(page.offers.len() <= 200);
        assert_eq!(other.take_from_peer("peer", &page).unwrap().refused, []);
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((pages, other.peer_state()), (3, state));
    assert_eq!(other.snapshot().record_sets().len(), 450);
}

/// An earlier publication that arrives late is no accident, and no mistake of whoever sends it.
#[test]
fn a_batch_that_was_overtaken_does_not_come_back() {
    let (key, directory) = (Key::new(), tempfile::tempdir().unwrap());
    let publisher = publisher(&directory, &key);
    let first = batch(1, vec![put(None, app(1))]);
    let sealed = key.seal(&first, 2, 2);
    publisher.publish_sealed(&first, sealed.clone()).unwrap();
    let gone =
        Change::Delete { expected_generation: 1, name: "app.example.test".into(), rtype: RecordType::A };
    let second = batch(1, vec![gone]);
    publisher.publish_sealed(&second, key.seal(&second, 2, 3)).unwrap();
    // What it expects is so again: no such set. Only its signature tells.
    let refused = publisher.publish_sealed(&first, sealed).unwrap_err();
    assert!(refused.to_string().contains("signed later"), "{refused}");
}
