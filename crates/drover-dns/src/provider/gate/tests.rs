use super::*;
use crate::provider::{Coverage, EmbeddedOptions};
use crate::zone::{Answering, Member, RecordType};
use async_trait::async_trait;
use drover_model::config::DnsVelocity;
use drover_model::units::Percent;
use drover_model::{Epoch, Span};

const EPOCH: Epoch = Epoch { incarnation: 1, counter: 1 };
const VELOCITY: DnsVelocity =
    DnsVelocity { share: Percent::whole(30), at_least: 10, window: Span::from_mins(10) };

/// Takes everything and remembers how many changes it was given.
#[derive(Default)]
struct Willing(Mutex<usize>);

#[async_trait]
impl RecordSets for Willing {
    fn name(&self) -> &str {
        "willing"
    }
    fn capabilities(&self) -> Capabilities {
        super::super::EmbeddedInstances::new(vec![instance()], EmbeddedOptions::default())
            .unwrap()
            .capabilities()
    }
    async fn observe(&self, _: &[RecordKey]) -> Result<Vec<Observed>, ProviderError> {
        Ok(vec![])
    }
    async fn commands(&self) -> Result<Commands, ProviderError> {
        Ok(Commands { known: vec![("one".into(), Some(EPOCH))], missing: vec![] })
    }
    async fn take_command(&self, _: &[(String, Epoch)], _: Epoch) -> Result<Coverage, ProviderError> {
        Ok(Coverage { instances: vec![], missing: vec![] })
    }
    async fn apply(&self, batch: &Batch) -> Result<Applied, ProviderError> {
        *self.0.lock().unwrap() += batch.changes.len();
        Ok(Applied::Changed(Coverage { instances: vec![], missing: vec![] }))
    }
    async fn verify(&self, _: &RecordKey, _: Option<&RecordSet>) -> Result<Verification, ProviderError> {
        Ok(Verification::Verified { instances: vec![] })
    }
}

fn instance() -> crate::provider::Instance {
    let at = "127.0.0.1:9".parse().unwrap();
    crate::provider::Instance { name: "one".into(), control: at, query: at }
}

fn gate() -> (Gate, Arc<Willing>) {
    let willing = Arc::new(Willing::default());
    (Gate::new(willing.clone()), willing)
}

fn set(number: usize, generation: u64, value: u8) -> RecordSet {
    RecordSet {
        name: format!("s{number}.example.test"),
        rtype: RecordType::A,
        ttl_seconds: 30,
        members: vec![Member { set_id: "eu-west".into(), value: format!("192.0.2.{value}"), weight: 1 }],
        generation,
        epoch: EPOCH,
        owner: "drover".into(),
        note: String::new(),
        answering: Answering::USUAL,
    }
}

fn put(record_set: RecordSet) -> Change {
    let expected_generation = record_set.generation.checked_sub(1).filter(|g| *g > 0);
    Change::Put { expected_generation, record_set, take_over: false }
}

/// So many record sets, each live at generation 1.
fn live(count: usize) -> Vec<Observed> {
    let one = |n| {
        let set = set(n, 1, 1);
        Observed {
            key: RecordKey::new(set.name.parse().unwrap(), set.rtype),
            current: Some(set),
            is_changed_by_hand: false,
            lagging: vec![],
        }
    };
    (0..count).map(one).collect()
}

fn changes(which: std::ops::Range<usize>) -> Vec<Change> {
    which.map(|n| put(set(n, 2, 2))).collect()
}

#[test]
fn what_nobody_was_asked_about_has_a_velocity_and_says_its_numbers() {
    // Of 100 that are live thirty may, of twenty ten.
    for (count, most) in [(100, 30), (20, 10), (33, 10), (40, 12)] {
        let right = Right::Unattended(VELOCITY);
        let _all = gate().0.admit(&changes(0..most), &live(count), right).unwrap();
        let refused = gate().0.admit(&changes(0..most + 1), &live(count), right).unwrap_err();
        let Withheld::TooFast { would, done: 0, most: told, live, .. } = &refused else {
            panic!("{refused:?}")
        };
        assert_eq!((*would, *told, *live), (most + 1, most, count));
        let text = refused.to_string();
        assert!(text.contains("`dns.velocity`") && text.contains("10m"), "{text}");
    }
}

#[test]
fn the_velocity_counts_over_its_window_and_each_record_set_once() {
    let ((gate, _), right, began) = (gate(), Right::Unattended(VELOCITY), Instant::now());
    let at = |which: std::ops::Range<usize>, secs: u64| {
        gate.admit_at(&changes(which), &live(100), right, began + Duration::from_secs(secs)).map(drop)
    };
    at(0..20, 0).unwrap();
    at(0..20, 5).unwrap();
    assert!(matches!(at(20..31, 60), Err(Withheld::TooFast { would: 11, done: 20, most: 30, .. })));
    at(20..30, 60).unwrap();
    assert!(at(30..31, 604).is_err());
    at(30..50, 605).unwrap();
}

#[test]
fn what_nobody_sees_change_has_none() {
    let (gate, _) = gate();
    let right =
        Right::Unattended(DnsVelocity { at_least: 0, share: Percent::from_basis_points(1), ..VELOCITY });
    // New names, and the same answers under another generation.
    let _new =
        gate.admit(&(100..400).map(|n| put(set(n, 1, 1))).collect::<Vec<_>>(), &live(50), right).unwrap();
    let _same =
        gate.admit(&(0..50).map(|n| put(set(n, 9, 1))).collect::<Vec<_>>(), &live(50), right).unwrap();
    assert!(gate.admit(&changes(0..1), &live(50), right).is_err());
}

#[test]
fn a_run_changes_what_its_plan_named_and_a_person_what_was_shown() {
    let (gate, _) = gate();
    let _planned = gate.admit(&changes(0..100), &live(100), Right::Planned { record_sets: 100 }).unwrap();
    let more = gate.admit(&changes(0..100), &live(100), Right::Planned { record_sets: 99 }).unwrap_err();
    assert_eq!(more, Withheld::NotNamed { would: 100, named: 99 });
    let _again = gate.admit(&changes(0..100), &live(100), Right::Decided).unwrap();
    assert!(gate.admit(&changes(0..2), &live(100), Right::Shown).is_err());
    // Ten that a person took count with what nobody was asked about.
    for n in 0..10 {
        let _shown = gate.admit(&changes(n..n + 1), &live(100), Right::Shown).unwrap();
    }
    let rest = gate.admit(&changes(10..31), &live(100), Right::Unattended(VELOCITY)).unwrap_err();
    assert!(matches!(rest, Withheld::TooFast { would: 21, done: 10, most: 30, .. }), "{rest}");
}

#[test]
fn nothing_dark_and_no_deletion_passes_whoever_asks() {
    let rights =
        [Right::Planned { record_sets: 9 }, Right::Decided, Right::Shown, Right::Unattended(VELOCITY)];
    let dark = |change: &dyn Fn(&mut RecordSet)| {
        let mut set = set(0, 2, 2);
        change(&mut set);
        put(set)
    };
    for right in rights {
        let refused = |change| gate().0.admit(&[change], &live(1), right).unwrap_err();
        assert!(matches!(refused(dark(&|s| s.members.clear())), Withheld::Invalid { .. }));
        assert!(matches!(refused(dark(&|s| s.members[0].weight = 0)), Withheld::Invalid { .. }));
        let name = "s0.example.test".to_owned();
        let gone = Change::Delete { expected_generation: 1, name: name.clone(), rtype: RecordType::A };
        assert_eq!(refused(gone), Withheld::Deletion { name });
    }
}

#[tokio::test]
async fn what_was_not_admitted_never_reaches_the_provider() {
    let (gate, willing) = gate();
    let admitted = gate.admit(&changes(0..2), &live(5), Right::Planned { record_sets: 2 }).unwrap();
    let key = RecordKey::new("s1.example.test".parse().unwrap(), RecordType::A);
    assert_eq!(admitted.before(&key), Some(&set(1, 1, 1)));
    let batch = |changes| Batch { epoch: EPOCH, idempotency_key: "k".into(), changes };
    for other in [changes(1..3), vec![put(set(0, 3, 2))]] {
        let refused = gate.apply(&batch(other), &admitted).await.unwrap_err();
        assert!(matches!(refused, ProviderError::Withheld(Withheld::NotAdmitted { .. })), "{refused}");
    }
    let dark = put(RecordSet { members: vec![], ..set(0, 2, 2) });
    assert!(gate.apply(&batch(vec![dark]), &admitted).await.is_err());
    assert_eq!(*willing.0.lock().unwrap(), 0);
    gate.apply(&batch(changes(0..2)), &admitted).await.unwrap();
    assert_eq!(*willing.0.lock().unwrap(), 2);
}

#[test]
fn an_alias_passes_as_an_address_does_and_asking_counts_for_nothing() {
    let (gate, _) = gate();
    let alias = "alias checkout-1.eu-west-1.elb.amazonaws.com (Z32O12XQLNTSW2)";
    let mut aliased = set(0, 2, 2);
    aliased.members[0].value = alias.into();
    let right =
        Right::Unattended(DnsVelocity { at_least: 1, share: Percent::from_basis_points(1), ..VELOCITY });
    gate.would_admit(&[put(aliased.clone())], &live(2), right).unwrap();
    let other = gate.admit(&changes(1..2), &live(2), right).unwrap();
    assert!(other.before(&RecordKey::new("s1.example.test".parse().unwrap(), RecordType::A)).is_some());
    assert!(matches!(
        gate.would_admit(&[put(aliased)], &live(2), right),
        Err(Withheld::TooFast { done: 1, .. })
    ));
}
