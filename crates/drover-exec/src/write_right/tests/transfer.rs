use super::*;
use drover_model::Epoch;
use drover_model::write_right::Sealed;

const EPOCH: Epoch = Epoch { incarnation: 1, counter: 4 };

fn intent() -> Intent {
    Intent { from: WriteGeneration(1), target: agent("s"), plan: PlanId::from_text("plan-1") }
}

fn seen(revision: u64, millis: u64) -> Sighting {
    Sighting::of(None, Revision(revision), at(millis))
}

/// A transfer that read `record` at 10 s, first seen as it is at 9 s.
fn reading(record: WriteRight) -> (Transfer, Vec<TransferEffect>) {
    let (mut transfer, effects) = Transfer::begin(intervals(), EPOCH, intent());
    assert_eq!(effects, [TransferEffect::Read]);
    let effects = transfer.handle(TransferEvent::Read(record, seen(7, 9_000)), at(10_000));
    (transfer, effects)
}

/// What it wants done, in a line each; when it wants to be told the time as `at …`.
fn lines(effects: Vec<TransferEffect>) -> Vec<String> {
    let line = |effect| match effect {
        TransferEffect::Read => "read".to_owned(),
        TransferEffect::Swap(swap) => {
            assert_eq!(swap.epoch(), EPOCH);
            format!(
                "{:?} at {} to {} of {}",
                swap.kind(),
                swap.expected().0,
                swap.record().generation,
                swap.record().holder
            )
        }
        TransferEffect::Seal(agent, seal) => format!("seal {agent} at {}", seal.generation),
        TransferEffect::WakeAt(at) => format!("at {at}"),
        TransferEffect::Over(outcome) => format!("{outcome:?}"),
    };
    effects.into_iter().map(line).collect()
}

fn sealed(from: &str, generation: u64, left: u64) -> TransferEvent {
    let promise_left = Span::from_millis(left);
    TransferEvent::Sealed(Sealed { from: agent(from), generation: WriteGeneration(generation), promise_left })
}

#[test]
fn a_transfer_closes_seals_waits_and_grants() {
    let (mut transfer, effects) = reading(right());
    assert_eq!(lines(effects), ["Close at 7 to 1 of p"]);
    let mut tell = |event, millis| lines(transfer.handle(event, at(millis)));
    assert_eq!(
        tell(TransferEvent::Committed(Revision(8)), 10_100),
        ["seal s at 2", "seal p at 2", "at 11s100ms"]
    );
    assert_eq!(tell(TransferEvent::Tick, 11_100), ["seal s at 2", "seal p at 2", "at 12s100ms"]);
    assert_eq!(tell(sealed("s", 3, 0), 11_200), ["at 12s100ms"], "of another transfer");
    assert_eq!(tell(sealed("s", 2, 3_000), 11_200), ["at 12s100ms"]);
    // 6.5 s after the revision that was closed had been seen first.
    assert_eq!(tell(TransferEvent::Tick, 15_400), ["seal p at 2", "at 15s500ms"]);
    assert_eq!(tell(TransferEvent::Tick, 15_500), ["Grant at 8 to 2 of s"]);
    assert_eq!(tell(TransferEvent::Committed(Revision(9)), 15_600), ["Granted(WriteGeneration(2))"]);
    assert_eq!(tell(TransferEvent::Abort, 15_700), [""; 0], "too late");
}

#[test]
fn a_grant_makes_a_record_that_its_holder_can_renew_and_whose_members_count_from_then_on() {
    let (mut transfer, _) = reading(closing(right()));
    let _ = transfer.handle(sealed("s", 2, 0), at(15_000));
    let effects = transfer.handle(TransferEvent::Tick, at(15_500));
    let [TransferEffect::Swap(swap)] = &effects[..] else { panic!("{effects:?}") };
    let record = swap.record();
    assert_eq!((&record.holder, record.is_open()), (&agent("s"), true));
    assert_eq!((&record.members, &record.acknowledged), (&members(2, &["p", "t"]), &members(2, &["p", "t"])));
    assert_eq!(record.sync_set, BTreeSet::new());
    // The old holder may have it back at once, though the new one never renewed. Not so once it was taken out and put back in.
    let back = |record: &WriteRight| {
        let intent =
            Intent { from: WriteGeneration(2), target: agent("p"), plan: PlanId::from_text("plan-2") };
        let (mut transfer, _) = Transfer::begin(intervals(), EPOCH, intent);
        lines(transfer.handle(TransferEvent::Read(record.clone(), seen(9, 16_000)), at(16_000)))
    };
    assert_eq!(back(record), ["Close at 9 to 2 of s"]);
    let without = change_members(record, [agent("t")].into()).unwrap();
    assert_eq!(back(&without), ["Refused(NotMember(AgentId(\"p\")))"]);
    let heard = WriteRight { acknowledged: without.members.clone(), ..without };
    let again = change_members(&heard, [agent("p"), agent("t")].into()).unwrap();
    assert!(back(&again)[0].contains("Unacknowledged"), "{again:?}");
}

#[test]
fn a_holder_that_is_fenced_is_not_waited_for_and_one_that_promised_to_it_waits_by_itself() {
    let (mut transfer, _) = reading(closing(right()));
    assert_eq!(lines(transfer.handle(sealed("s", 2, 6_000), at(10_200))), ["at 11s"]);
    assert_eq!(lines(transfer.handle(sealed("p", 2, 0), at(10_300))), ["Grant at 7 to 2 of s"]);
}

#[test]
fn an_abort_takes_the_generation_above_the_seal_and_loses_to_a_grant() {
    let (mut transfer, _) = reading(closing(right()));
    assert_eq!(lines(transfer.handle(TransferEvent::Abort, at(10_200))), ["Abort at 7 to 3 of p"]);
    assert_eq!(
        lines(transfer.handle(TransferEvent::Committed(Revision(8)), at(10_300))),
        ["Aborted(WriteGeneration(3))"]
    );
    // The abort comes while the grant is on its way: it is asked for after what became of that.
    let granted = WriteRight { generation: WriteGeneration(2), holder: agent("s"), ..right() };
    for (record, end) in
        [(granted, "Granted(WriteGeneration(2))"), (closing(right()), "Abort at 8 to 3 of p")]
    {
        let (mut transfer, _) = reading(closing(right()));
        let _ = transfer.handle(sealed("s", 2, 0), at(10_200));
        assert_eq!(lines(transfer.handle(sealed("p", 2, 0), at(10_300))), ["Grant at 7 to 2 of s"]);
        assert_eq!(lines(transfer.handle(TransferEvent::Abort, at(10_300))), [""; 0]);
        assert_eq!(lines(transfer.handle(TransferEvent::Unsettled, at(10_400))), ["read"]);
        let read = TransferEvent::Read(record, seen(8, 10_400));
        assert_eq!(lines(transfer.handle(read, at(10_400))), [end]);
    }
    let (mut transfer, _) = Transfer::begin(intervals(), EPOCH, intent());
    let _ = transfer.handle(TransferEvent::Abort, at(0));
    let read = TransferEvent::Read(right(), seen(7, 0));
    assert_eq!(lines(transfer.handle(read, at(0))), ["Aborted(WriteGeneration(1))"], "nothing was closed");
}

#[test]
fn a_renewal_that_came_between_stops_the_close() {
    let (mut transfer, _) = reading(right());
    assert_eq!(lines(transfer.handle(TransferEvent::Unsettled, at(10_100))), ["read"]);
    let read = TransferEvent::Read(right(), seen(8, 10_100));
    assert_eq!(lines(transfer.handle(read, at(10_100))), ["Refused(Renewed(AgentId(\"p\")))"]);
}

#[test]
fn a_close_whose_answer_was_lost_goes_on_and_waits_from_the_reading() {
    let (mut transfer, _) = reading(right());
    let _ = transfer.handle(TransferEvent::Unsettled, at(10_100));
    let read = TransferEvent::Read(closing(right()), seen(8, 10_100));
    assert_eq!(lines(transfer.handle(read, at(10_100))), ["seal s at 2", "seal p at 2", "at 11s100ms"]);
    assert_eq!(lines(transfer.handle(sealed("s", 2, 0), at(16_500))), ["seal p at 2", "at 16s600ms"]);
    assert_eq!(lines(transfer.handle(TransferEvent::Tick, at(16_600))), ["Grant at 8 to 2 of s"]);
}

#[test]
fn a_new_leader_goes_on_from_the_record_alone() {
    assert!(Transfer::resume(intervals(), EPOCH, &right()).is_none());
    let (mut transfer, _) = Transfer::resume(intervals(), EPOCH, &closing(right())).unwrap();
    let read = TransferEvent::Read(closing(right()), seen(8, 12_000));
    assert_eq!(lines(transfer.handle(read, at(12_000))), ["seal s at 2", "seal p at 2", "at 13s"]);
}

#[test]
fn what_is_no_target_is_refused_with_what_helps() {
    let other = |target: &str| {
        let plan = PlanId::from_text("plan-2");
        WriteRight { state: RightState::Closing { target: agent(target), plan }, ..right() }
    };
    for (record, says) in [
        (WriteRight { members: members(2, &["t"]), ..right() }, "s is no promotable member"),
        (
            WriteRight { acknowledged: members(1, &["t"]), ..right() },
            "s is a member that p has not acknowledged yet",
        ),
        (WriteRight { generation: WriteGeneration(3), ..right() }, "generation 1 is over, 3 is held by p"),
        (other("t"), "plan-2 is giving the right to t"),
        (other("s"), "plan-2 is giving the right to s"),
    ] {
        let (_, effects) = reading(record);
        let [TransferEffect::Over(Outcome::Refused(refusal))] = &effects[..] else { panic!("{effects:?}") };
        assert!(refusal.to_string().starts_with(says), "{refusal}");
    }
    let granted = WriteRight { generation: WriteGeneration(2), holder: agent("s"), ..right() };
    assert_eq!(lines(reading(granted).1), ["Granted(WriteGeneration(2))"], "by the leader before");
}

fn any_event() -> impl Strategy<Value = (u64, TransferEvent)> {
    let event = (0u8..8, 1u64..4, any::<bool>(), 0u64..8_000, 5u64..12).prop_map(
        |(kind, generation, flag, left, revision)| match kind {
            0 => {
                let record = WriteRight { generation: WriteGeneration(generation), ..right() };
                let record = if flag { closing(record) } else { record };
                TransferEvent::Read(record, seen(revision, 9_000 + left))
            }
            1 => TransferEvent::Committed(Revision(revision)),
            2 => TransferEvent::Unsettled,
            3 | 4 => sealed("s", generation, left),
            5 if left > 7_000 => sealed("p", generation, left),
            6 if left > 7_000 => TransferEvent::Abort,
            _ => TransferEvent::Tick,
        },
    );
    (0u64..2_000, event)
}

proptest! {
    /// Whatever comes back, in whatever order: one swap at a time, and no grant before the target's seal and the wait, or
    /// both seals.
    #[test]
    fn a_grant_follows_its_proof(events in proptest::collection::vec(any_event(), 1..60)) {
        let (mut transfer, _) = Transfer::begin(intervals(), EPOCH, intent());
        let (mut now, mut pending) = (at(10_000), false);
        let (mut target, mut holder) = (false, false);
        for (step, event) in events {
            now = now.plus(Span::from_millis(step));
            match &event {
                TransferEvent::Read(..) | TransferEvent::Committed(_) => pending = false,
                TransferEvent::Sealed(sealed) if sealed.generation == WriteGeneration(2) => {
                    target |= sealed.from == agent("s");
                    holder |= sealed.from == agent("p");
                }
                _ => {}
            }
            for effect in transfer.handle(event, now) {
                if let TransferEffect::Swap(swap) = effect {
                    prop_assert!(!pending, "two swaps at once");
                    pending = true;
                    if swap.kind() == SwapKind::Grant {
                        prop_assert!(target && swap.record().generation == WriteGeneration(2));
                        // Nothing was seen before 9 s.
                        prop_assert!(holder || now >= at(15_500), "granted at {now}");
                    }
                }
            }
        }
    }
}
