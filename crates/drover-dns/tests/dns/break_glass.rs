//! Breaking the glass at each provider's real servers: whoever held the zone before, holds it on, and leaves the one record set alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use drover_dns::break_glass::{Shift, shift};
use drover_dns::provider::{
    BatchSigner, BlockedReason, EmbeddedInstances, EmbeddedOptions, Gate, Observed, ProviderError,
    RecordSets, Right, Verification, ZoneGenerations,
};
use drover_dns::publish::{Batch, FenceReason, SigningKey};
use drover_dns::zone::{RecordSet, RecordType};
use drover_model::RegionId;
use drover_model::break_glass::HeldBy;

use crate::common::{GUARD, app, app_key, batch, epoch, name, put, serve, serve_trusting, set};
use crate::hosted::Hosted;
use crate::servers::{Kind, Server};

/// A leader's provider, and one of its kind that somebody else has made.
struct Two {
    leader: Arc<dyn RecordSets>,
    person: Gate,
}

/// As `drover break-glass dns set` does: reads, shifts, and swaps under the epoch that commands the zone.
async fn set_by_hand(person: &Gate, held_by: &HeldBy) -> (Result<(), ProviderError>, RecordSet) {
    let observed = person.observe(&[app_key()]).await.unwrap();
    let before = observed[0].current.clone().unwrap();
    let weights =
        BTreeMap::from([(RegionId::new("eu-west").unwrap(), 0), (RegionId::new("us-east").unwrap(), 100)]);
    let wanted =
        Shift { owner: "drover", weights: &weights, configured: &BTreeMap::new(), held_by, reason: "a fire" };
    let (after, change) = shift(&before, wanted).unwrap();
    let commanded_by = person.commanded_by().await.unwrap().unwrap();
    let changes = vec![change];
    let admitted = person.admit(&changes, &observed, Right::Shown).unwrap();
    let batch = Batch { epoch: commanded_by, idempotency_key: held_by.session.clone(), changes };
    let applied = person.apply(&batch, &admitted).await.map(|_| ());
    (applied, after.document().clone())
}

/// What a leader reads, once it reads this owner: of a hosted zone it remembers what it read a moment ago.
async fn owned_by(leader: &dyn RecordSets, owner: &str) -> Vec<Observed> {
    let begun = Instant::now();
    loop {
        leader.forget(&[app_key()]);
        let observed = leader.observe(&[app_key()]).await.unwrap();
        if observed[0].current.as_ref().is_some_and(|live| live.owner == owner) {
            return observed;
        }
        assert!(begun.elapsed() < GUARD, "{observed:?} is not of {owner}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The whole story, at one provider.
async fn is_held(Two { leader, person }: Two, kind: &str) {
    assert_eq!(leader.commanded_by().await.unwrap(), None, "{kind}");
    let other =
        |generation| set("other.example.test", RecordType::A, generation, &[("eu-west", "192.0.2.8", 1)]);
    leader.apply(&batch(3, vec![put(None, app(1)), put(None, other(1))])).await.unwrap();
    assert_eq!(person.commanded_by().await.unwrap(), Some(epoch(3)), "{kind}");

    let held_by = HeldBy::new("ada", 0xfeed);
    let (applied, after) = set_by_hand(&person, &held_by).await;
    applied.unwrap_or_else(|e| panic!("{kind}: {e}"));
    let found = person.verify(&app_key(), Some(&after)).await.unwrap();
    assert!(matches!(found, Verification::Verified { .. }), "{kind}: {found:?}");

    // The leader is not deposed, reads who holds it, and can't write it whatever it believes.
    let observed = owned_by(leader.as_ref(), &held_by.owner()).await;
    let live = observed[0].current.clone().unwrap();
    let weight = |region: &str| live.members.iter().find(|m| m.set_id == region).map(|m| m.weight);
    let told = (live.generation, weight("eu-west"), weight("us-east"), weight("ap-south"));
    assert_eq!(told, (2, Some(0), Some(100), Some(20)), "{kind}");
    assert!(!observed[0].is_changed_by_hand, "{kind}");
    for (counter, generation) in [(3, 2), (3, 3), (4, 9)] {
        let diff = leader.diff(&[app(generation)], &observed);
        assert_eq!(diff.blocked[0].reason, BlockedReason::OwnedByOther, "{kind}");
        let refused =
            leader.apply(&batch(counter, vec![put(Some(2), app(generation.max(3)))])).await.unwrap_err();
        assert!(
            matches!(&refused, ProviderError::Refused { code, .. } if code == "owned_by_other"),
            "{kind}: {refused:?}"
        );
    }
    // All other services go on, under its successor too.
    leader.apply(&batch(3, vec![put(Some(1), other(2))])).await.unwrap();
    leader.apply(&batch(4, vec![put(Some(2), other(3))])).await.unwrap();
    let late = leader.apply(&batch(3, vec![put(Some(2), app(3))])).await.unwrap_err();
    assert!(matches!(late, ProviderError::Fenced { reason: FenceReason::Older, .. }), "{kind}: {late:?}");
    let live = owned_by(leader.as_ref(), &held_by.owner()).await.remove(0).current.unwrap();
    assert_eq!(live.generation, 2, "{kind}");

    // Somebody else takes it over knowingly; and then it is drover's again, knowingly too.
    let (applied, after) = set_by_hand(&person, &HeldBy::new("bob", 1)).await;
    applied.unwrap_or_else(|e| panic!("{kind}: {e}"));
    let back = drover_dns::publish::Change::Put {
        expected_generation: Some(after.generation),
        record_set: app(after.generation + 1),
        take_over: true,
    };
    leader.apply(&batch(4, vec![back])).await.unwrap();
    let live = owned_by(leader.as_ref(), "drover").await.remove(0).current.unwrap();
    assert_eq!(live.generation, 4, "{kind}");
}

#[tokio::test]
async fn drovers_own_servers_keep_what_a_person_set() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (one, two) = (serve(directories[0].path()).await, serve(directories[1].path()).await);
    let of = || {
        let instances = vec![one.instance("one"), two.instance("two")];
        EmbeddedInstances::new(instances, EmbeddedOptions::default()).unwrap()
    };
    is_held(Two { leader: Arc::new(of()), person: Gate::new(Arc::new(of())) }, "embedded").await;
    one.end().await;
    two.end().await;
}

#[tokio::test]
async fn drovers_own_servers_that_trust_keys_take_it_signed_by_the_zones_key() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("signing.key");
    let public = SigningKey::create(&file).unwrap().public();
    let server = serve_trusting(&directory.path().join("state"), public).await;
    let of = || {
        let signer = BatchSigner {
            key_file: file.clone(),
            zone: name("example.test"),
            generations: Arc::new(ZoneGenerations::default()),
        };
        let instances = vec![server.instance("one")];
        EmbeddedInstances::new(instances, EmbeddedOptions::default()).unwrap().signed_by(signer)
    };
    is_held(Two { leader: Arc::new(of()), person: Gate::new(Arc::new(of())) }, "embedded, signed").await;
    server.end().await;
}

#[tokio::test]
async fn a_zone_of_others_keeps_what_a_person_set() {
    for kind in Kind::ALL {
        let server = Server::start(kind).await;
        let person = Gate::new(Arc::new(server.provider()));
        is_held(Two { leader: Arc::new(server.provider()), person }, &format!("{kind:?}")).await;
    }
}

#[tokio::test]
async fn a_hosted_zone_keeps_what_a_person_set() {
    let hosted = Hosted::start().await;
    let person = Gate::new(Arc::new(hosted.provider()));
    is_held(Two { leader: Arc::new(hosted.provider()), person }, "route53").await;
}

/// Two stores have commanded here, each a server: whoever is no leader can't say which of them goes on.
#[tokio::test]
async fn servers_that_two_stores_commanded_are_told_apart_and_nothing_is_written() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (one, two) = (serve(directories[0].path()).await, serve(directories[1].path()).await);
    let of = |instances| EmbeddedInstances::new(instances, EmbeddedOptions::default()).unwrap();
    of(vec![one.instance("one")]).apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
    let mut other = batch(1, vec![put(None, app(1))]);
    other.epoch.incarnation += 1;
    of(vec![two.instance("two")]).apply(&other).await.unwrap();
    let both = of(vec![one.instance("one"), two.instance("two")]);
    let told = both.commanded_by().await.unwrap_err();
    assert!(told.to_string().contains("of another store"), "{told}");
    one.end().await;
    let alone = both.commanded_by().await.unwrap();
    assert_eq!(alone, Some(other.epoch));
    two.end().await;
    assert!(matches!(both.commanded_by().await, Err(ProviderError::Unreachable { .. })));
}
