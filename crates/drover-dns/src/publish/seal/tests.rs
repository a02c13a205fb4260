use super::*;
use crate::zone::{Answering, Member, RecordType};

const EPOCH: Epoch = Epoch { incarnation: 7, counter: 3 };

fn zone() -> DnsName {
    "example.test".parse().unwrap()
}

fn key() -> SigningKey {
    let directory = tempfile::tempdir().unwrap();
    SigningKey::create(&directory.path().join("key")).unwrap()
}

fn trusting(keys: &[&SigningKey]) -> TrustedKeys {
    TrustedKeys::new(keys.iter().map(|key| key.public()).collect()).unwrap()
}

fn batch(changes: usize) -> Batch {
    let put = |number: usize| {
        let member = Member { set_id: "eu-west".into(), value: "192.0.2.1".into(), weight: 1 };
        let record_set = RecordSet {
            name: format!("s{number}.example.test"),
            rtype: RecordType::A,
            ttl_seconds: 30,
            members: vec![member],
            generation: 1,
            epoch: EPOCH,
            owner: "drover".into(),
            note: String::new(),
            answering: Answering::default(),
        };
        Change::Put { expected_generation: None, record_set, take_over: false }
    };
    Batch { epoch: EPOCH, idempotency_key: "key".into(), changes: (0..changes).map(put).collect() }
}

fn sealed(key: &SigningKey, batch: &Batch) -> Vec<Seal> {
    Sealing { key, zone: &zone(), since: 5, generation: 9 }.seal(batch).unwrap()
}

#[test]
fn a_batch_is_sealed_in_parts_that_hold_by_themselves() {
    let (key, other) = (key(), key());
    let batch = batch(2 * SEALED_CHANGES_MAX + 1);
    let seals = sealed(&key, &batch);
    assert_eq!(seals.iter().map(|seal| seal.digests.len()).collect::<Vec<_>>(), [64, 64, 1]);
    let trusted = trusting(&[&other, &key]);
    assert_eq!(check_batch(seals.clone(), &batch, &zone(), &trusted).unwrap().len(), 3);
    let written = serde_json::to_string(&seals[2]).unwrap();
    assert_eq!(serde_json::from_str::<Seal>(&written).unwrap(), seals[2]);
    let untrusted = check_batch(seals.clone(), &batch, &zone(), &trusting(&[&other])).unwrap_err();
    assert_eq!(untrusted, SealError::Untrusted);
    let elsewhere = check_batch(seals, &batch, &"example.org".parse().unwrap(), &trusted).unwrap_err();
    assert!(matches!(elsewhere, SealError::OtherZone { .. }), "{elsewhere}");
    assert_eq!(check_batch(vec![], &batch, &zone(), &trusted).unwrap_err(), SealError::Unsigned);
}

#[test]
fn nothing_of_a_seal_can_be_changed() {
    let key = key();
    let (batch, trusted) = (batch(2), trusting(&[&key]));
    let seal = sealed(&key, &batch).remove(0);
    let changes: [fn(&mut Seal); 6] = [
        |seal| seal.epoch.counter += 1,
        |seal| seal.epoch.incarnation += 1,
        |seal| seal.since -= 1,
        |seal| seal.generation += 1,
        |seal| seal.digests.swap(0, 1),
        |seal| seal.digests.truncate(1),
    ];
    seal.check(&zone(), &trusted).unwrap();
    for change in changes {
        let mut changed = seal.clone();
        change(&mut changed);
        assert_eq!(changed.check(&zone(), &trusted).unwrap_err(), SealError::Untrusted);
    }
}

#[test]
fn a_key_is_its_owners_alone_is_never_overwritten_and_never_shown() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    let key = SigningKey::create(&file).unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(SigningKey::read(&file).unwrap().public(), key.public());
    assert!(matches!(SigningKey::create(&file), Err(UnusableSigningKey::NotWritten { .. })));
    let secret = std::fs::read_to_string(&file).unwrap();
    assert!(!format!("{key:?}").contains(secret.trim().rsplit(':').next().unwrap()));
    let refused = PublicKey::try_from(secret.trim().to_owned()).unwrap_err();
    assert!(refused.contains("private") && !refused.contains(secret.trim()), "{refused}");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(SigningKey::read(&file), Err(UnusableSigningKey::Exposed { .. })));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    SigningKey::read(&file).unwrap();
    std::fs::write(&file, key.public().to_string()).unwrap();
    assert!(matches!(SigningKey::read(&file), Err(UnusableSigningKey::NotAKey { .. })));
    assert!(matches!(
        SigningKey::read(&directory.path().join("none")),
        Err(UnusableSigningKey::Unreadable { .. })
    ));
}
