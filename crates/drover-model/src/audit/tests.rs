use super::*;
use proptest::prelude::*;
use proptest::sample::Index;

/// Records `1..=n`, of which the chain has all but the first `before`.
fn audit(n: u64, before: u64) -> Vec<AuditRecord> {
    let mut previous = None;
    let record = |number| AuditRecord {
        number,
        at: Timestamp::from_millis(1_000_000 + i64::try_from(number).unwrap()),
        epoch: Epoch { incarnation: 7, counter: 1 + number / 3 },
        by: match number % 3 {
            0 => Actor::Automatic,
            _ => Actor::Person { name: format!("p{number}"), host: "h".into() },
        },
        verb: "freeze".into(),
        subject: "automatic action".into(),
        reason: format!("reason {number}"),
        outcome: "frozen".into(),
        chain: None,
    };
    (1..=n)
        .map(|number| {
            if number <= before {
                return record(number);
            }
            let linked = record(number).linked(previous);
            previous = linked.chain.map(|link| link.hash);
            linked
        })
        .collect()
}

fn verify(records: &[AuditRecord], kept: &[AuditHead]) -> Result<Verified, Break> {
    let mut verifier = Verifier::with_heads(kept.to_vec());
    records.iter().try_for_each(|r| verifier.record(r))?;
    verifier.end()
}

fn head(records: &[AuditRecord]) -> AuditHead {
    let last = records.last().unwrap();
    AuditHead { number: last.number, hash: last.chain.unwrap().hash }
}

/// What may be done to one record's fields.
fn change(record: &mut AuditRecord, what: usize, with: &str) {
    let link = record.chain.as_mut().unwrap();
    let other: AuditHash = "ab".repeat(32).parse().unwrap();
    match what {
        0 => record.number += 1,
        1 => record.at = Timestamp::from_millis(record.at.as_millis() ^ 1),
        2 => record.epoch.incarnation += 1,
        3 => record.epoch.counter += 1,
        4 => record.by = Actor::Person { name: with.into(), host: "another".into() },
        5 => record.verb.push_str(with),
        6 => record.subject.push_str(with),
        7 => record.reason.push_str(with),
        8 => record.outcome.push_str(with),
        9 => link.hash = other,
        10 => link.previous = Some(other),
        11 => link.form += 1,
        // What belongs to one text moves to its neighbour.
        12 => {
            let moved = record.verb.pop().unwrap();
            record.subject.insert(0, moved);
        }
        _ => record.chain = None,
    }
}

#[test]
fn a_whole_audit_says_where_its_chain_begins_and_ends() {
    for before in [0, 3] {
        let records = audit(9, before);
        let head = head(&records);
        let found = verify(&records, &[head]).unwrap();
        assert_eq!(found, Verified { unchained: before, begins: Some(before + 1), head: Some(head) });
        assert_eq!(head.to_string().parse(), Ok(head));
    }
    assert_eq!(verify(&[], &[]).unwrap(), Verified { unchained: 0, begins: None, head: None });
    assert_eq!(verify(&audit(4, 4), &[]).unwrap().begins, None, "a store from before");
}

#[test]
fn what_was_kept_finds_a_cut_and_a_chain_that_was_written_anew() {
    let records = audit(9, 0);
    let kept = head(&records);
    let cut = verify(&records[..6], &[kept]).unwrap_err();
    assert_eq!(cut, Break { number: 7, flaw: Flaw::CutOff { kept } });
    assert!(verify(&records[..6], &[]).is_ok(), "nothing within shows it");
    assert_eq!(verify(&[], &[kept]).unwrap_err().number, 1);

    let mut anew = records.clone();
    anew[4].outcome = "nothing happened".into();
    let mut previous = anew[3].chain.map(|link| link.hash);
    for record in &mut anew[4..] {
        *record = record.clone().linked(previous);
        previous = record.chain.map(|link| link.hash);
    }
    assert!(verify(&anew, &[]).is_ok(), "nothing within shows it");
    assert_eq!(verify(&anew, &[kept]).unwrap_err(), Break { number: 9, flaw: Flaw::OtherHead { kept } });
    let early = AuditHead { number: 5, hash: records[4].chain.unwrap().hash };
    assert_eq!(verify(&anew, &[early]).unwrap_err().number, 5);
}

#[test]
fn the_hash_of_a_record_is_an_interface() {
    // Whoever changes what is hashed must raise the form: stored chains are verified for ever. This one was made by
    // another program, from the description.
    let head = head(&audit(2, 0));
    assert_eq!(head.to_string(), KNOWN);
    let old = r#"{"number":1,"at":"2026-11-24T06:09:10.393Z","epoch":{"incarnation":7,"counter":1},
        "by":{"kind":"automatic"},"verb":"v","subject":"s","reason":"r","outcome":"o"}"#;
    let record: AuditRecord = serde_json::from_str(old).unwrap();
    assert_eq!(record.chain, None);
    assert!(!serde_json::to_string(&record).unwrap().contains("chain"));
}

const KNOWN: &str = "ace81955a1171d70ca865d9772ec5bf1c4254481c13f9185c10e967fb44b2f2a@2";

proptest! {
    #[test]
    fn any_changed_field_is_found(
        n in 1_u64..12, before in 0_u64..4, at: Index, what in 0_usize..14, with in "[a-z]{1,5}",
    ) {
        let mut records = audit(n + before, before);
        let at = usize::try_from(before).unwrap() + at.index(usize::try_from(n).unwrap());
        let kept = head(&records);
        // A record without a link is told from one from before the chain by what follows, or by the head.
        change(&mut records[at], what, &with);
        prop_assert!(verify(&records, &[kept]).is_err());
        let is_first_or_last = at + 1 == records.len() || at == usize::try_from(before).unwrap();
        if what != 13 || !is_first_or_last {
            prop_assert!(verify(&records, &[]).is_err());
        }
    }

    #[test]
    fn what_is_dropped_doubled_moved_or_put_in_is_found(
        n in 2_u64..12, before in 0_u64..4, at: Index, to: Index, with in "[a-z]{1,5}",
    ) {
        let chained = usize::try_from(n).unwrap();
        let first = usize::try_from(before).unwrap();
        let whole = audit(n + before, before);
        let kept = head(&whole);
        let (at, to) = (first + at.index(chained), first + to.index(chained));
        let broken = |records: &[AuditRecord], kept: &[AuditHead]| verify(records, kept).is_err();

        let mut dropped = whole.clone();
        dropped.remove(at);
        prop_assert!(broken(&dropped, &[kept]));
        prop_assert!(broken(&dropped, &[]) || at + 1 == whole.len());

        let mut doubled = whole.clone();
        doubled.insert(to, whole[at].clone());
        prop_assert!(broken(&doubled, &[]));

        let mut swapped = whole.clone();
        swapped.swap(at, to);
        prop_assert!(at == to || broken(&swapped, &[]));
        // The same with numbers that fit.
        let (a, b) = (swapped[at].number, swapped[to].number);
        (swapped[at].number, swapped[to].number) = (b, a);
        prop_assert!(at == to || broken(&swapped, &[]));

        // One that was linked as well as can be, and the later ones numbered on.
        let mut inserted = whole.clone();
        let previous = at.checked_sub(1).and_then(|b| whole[b].chain).map(|link| link.hash);
        let forged = AuditRecord { reason: with, ..whole[at].clone() };
        inserted.insert(at, forged.linked(previous));
        inserted[at + 1..].iter_mut().for_each(|r| r.number += 1);
        prop_assert!(broken(&inserted, &[]));
    }
}
