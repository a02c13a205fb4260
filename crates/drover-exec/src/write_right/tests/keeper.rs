use super::*;
use drover_model::write_right::{Ask, Nonce, PeerAnswer, Renew, Renewed, Sealed};

const SESSION: u64 = 9;

/// A keeper with this durable seal, a day after boot, so that its start is long over.
fn keeper(name: &str, generation: u64) -> Keeper {
    let (mut keeper, effects) = Keeper::start(agent(name), intervals(), seal(generation), SESSION, at(0));
    assert!(matches!(effects[..], [KeeperEffect::Stop]));
    assert_eq!(told(&mut keeper, KeeperEvent::Stopped, at(0)), [""; 0]);
    keeper
}

/// `p`, which the record names, and which has asked for its first renewal.
pub fn holder(now: BootTime) -> Keeper {
    let mut keeper = keeper("p", 1);
    let _ = keeper.handle(KeeperEvent::Record(right()), now);
    let _ = keeper.handle(KeeperEvent::Tick, now);
    keeper
}

/// The renewal that was sent at `sent` is answered.
pub fn renewed(keeper: &mut Keeper, sent: BootTime, now: BootTime) -> Option<KeeperEffect> {
    let nonce = Nonce { session: SESSION, sent };
    let renewed = Renewed { generation: WriteGeneration(1), members: members(1, &["s", "t"]), nonce };
    keeper.handle(KeeperEvent::Renewed(renewed), now).into_iter().next()
}

fn ask(generation: u64, sent: BootTime) -> Ask {
    let nonce = Nonce { session: 1, sent };
    Ask { from: agent("p"), incarnation: INCARNATION, generation: WriteGeneration(generation), nonce }
}

fn yes(from: &str, sent: BootTime) -> KeeperEvent {
    let nonce = Nonce { session: SESSION, sent };
    KeeperEvent::Answered(PeerAnswer::Yes { from: agent(from), generation: WriteGeneration(1), nonce })
}

/// What it wants done, in a line each; when it wants to be told the time is left out.
fn told(keeper: &mut Keeper, event: KeeperEvent, now: BootTime) -> Vec<String> {
    let line = |effect| match effect {
        KeeperEffect::WakeAt(_) => None,
        KeeperEffect::Renew(Renew { generation, echoes, .. }) => {
            Some(format!("renew {generation} echo {:?}", echoes.map(|version| version.0)))
        }
        KeeperEffect::Ask(members, ask) => {
            let names: Vec<_> = members.iter().map(AgentId::as_str).collect();
            Some(format!("ask {} about {}", names.join(" "), ask.generation))
        }
        KeeperEffect::Answer(PeerAnswer::Yes { generation, .. }) => Some(format!("yes {generation}")),
        KeeperEffect::Answer(PeerAnswer::No { generation, .. }) => Some(format!("no {generation}")),
        KeeperEffect::Persist(seal) => Some(format!("persist {}", seal.generation)),
        KeeperEffect::Sealed(Sealed { generation, promise_left, .. }) => {
            Some(format!("sealed {generation}, {promise_left} left"))
        }
        KeeperEffect::Promote(right) => Some(format!("write {} until {}", right.generation(), right.until())),
        KeeperEffect::Extend(right) => Some(format!("until {}", right.until())),
        KeeperEffect::Stop => Some("stop".to_owned()),
        KeeperEffect::Foreign(incarnation) => Some(format!("foreign {incarnation}")),
    };
    keeper.handle(event, now).into_iter().filter_map(line).collect()
}

#[test]
fn a_holder_writes_from_its_first_renewal_counted_from_the_sending() {
    let mut keeper = keeper("p", 1);
    assert_eq!(told(&mut keeper, KeeperEvent::Record(right()), at(10_000)), [""; 0]);
    assert_eq!(told(&mut keeper, KeeperEvent::Tick, at(10_000)), ["renew 1 echo None"]);
    // Asked three times, and no peer: whom to ask is not known before the first renewal.
    assert_eq!(told(&mut keeper, KeeperEvent::Tick, at(11_000)), ["renew 1 echo None"]);
    assert_eq!(told(&mut keeper, KeeperEvent::Tick, at(12_000)), ["renew 1 echo None"]);
    let first = renewed(&mut keeper, at(10_000), at(13_000));
    assert!(matches!(first, Some(KeeperEffect::Promote(right)) if right.until() == at(14_500)));
    let late = renewed(&mut keeper, at(9_000), at(13_100));
    assert!(matches!(late, Some(KeeperEffect::WakeAt(_))), "an older answer changes nothing: {late:?}");
    assert_eq!(told(&mut keeper, KeeperEvent::Tick, at(14_000)), ["renew 1 echo Some(1)"]);
    assert_eq!(told(&mut keeper, KeeperEvent::Tick, at(14_500)), ["stop"]);
}

#[test]
fn silence_leads_to_the_peers_and_all_of_them_must_vouch() {
    let mut keeper = holder(at(10_000));
    assert!(matches!(renewed(&mut keeper, at(10_000), at(10_000)), Some(KeeperEffect::Promote(_))));
    assert_eq!(told(&mut keeper, KeeperEvent::Tick, at(11_000)), ["renew 1 echo Some(1)"]);
    assert_eq!(told(&mut keeper, KeeperEvent::Tick, at(12_000)), ["renew 1 echo Some(1)"]);
    assert_eq!(told(&mut keeper, KeeperEvent::Tick, at(13_000)), ["renew 1 echo Some(1)", "ask s t about 1"]);
    assert_eq!(told(&mut keeper, yes("s", at(13_000)), at(13_100)), [""; 0]);
    assert_eq!(told(&mut keeper, yes("s", at(13_000)), at(13_100)), [""; 0], "twice is not two");
    assert_eq!(told(&mut keeper, yes("t", at(12_000)), at(13_100)), [""; 0], "of no round");
    assert_eq!(told(&mut keeper, yes("t", at(13_000)), at(13_100)), ["until 17s500ms"]);
}

#[test]
fn another_state_of_the_record_ends_writing_and_leads_to_no_peer() {
    let later = WriteRight { generation: WriteGeneration(3), holder: agent("s"), ..right() };
    for record in [closing(right()), later] {
        let mut keeper = holder(at(10_000));
        assert!(matches!(renewed(&mut keeper, at(10_000), at(10_000)), Some(KeeperEffect::Promote(_))));
        assert_eq!(told(&mut keeper, KeeperEvent::Record(record), at(10_500)), ["stop"]);
        assert_eq!(told(&mut keeper, KeeperEvent::Stopped, at(10_600)), [""; 0]);
        assert_eq!(told(&mut keeper, KeeperEvent::Tick, at(20_000)), [""; 0]);
        let late = renewed(&mut keeper, at(10_400), at(10_700));
        assert!(late.is_none(), "an answer that was on its way renews nothing: {late:?}");
    }
}

#[test]
fn a_peer_vouches_for_the_newest_right_that_it_knows_of_and_only_while_it_is_idle() {
    let mut peer = keeper("s", 0);
    assert_eq!(told(&mut peer, KeeperEvent::Asked(ask(1, at(0))), at(10_000)), ["yes 1"]);
    assert_eq!(told(&mut peer, KeeperEvent::SealOrdered(seal(2)), at(11_000)), ["persist 2"]);
    assert_eq!(told(&mut peer, KeeperEvent::Asked(ask(1, at(0))), at(11_000)), ["no 2"]);
    assert_eq!(told(&mut peer, KeeperEvent::Persisted(seal(2)), at(11_500)), ["sealed 2, 5s left"]);
    assert_eq!(told(&mut peer, KeeperEvent::SealOrdered(seal(2)), at(12_000)), ["sealed 2, 4s500ms left"]);
    assert_eq!(told(&mut peer, KeeperEvent::SealOrdered(seal(1)), at(12_000)), ["sealed 2, 4s500ms left"]);
    assert_eq!(told(&mut peer, KeeperEvent::Asked(ask(1, at(0))), at(12_000)), ["no 2"]);
    assert_eq!(told(&mut peer, KeeperEvent::Asked(ask(3, at(0))), at(12_000)), ["yes 3"]);
}

#[test]
fn a_target_writes_after_grant_seal_promise_and_renewal() {
    let mut target = keeper("s", 0);
    let granted = WriteRight { generation: WriteGeneration(2), holder: agent("s"), ..right() };
    assert_eq!(told(&mut target, KeeperEvent::Asked(ask(1, at(0))), at(10_000)), ["yes 1"]);
    // Granted without a seal, as by a leader that lost its answer: it seals itself first.
    assert_eq!(told(&mut target, KeeperEvent::Record(granted.clone()), at(15_000)), ["persist 2"]);
    assert_eq!(told(&mut target, KeeperEvent::Persisted(seal(2)), at(15_100)), [""; 0]);
    assert_eq!(told(&mut target, KeeperEvent::Record(granted), at(15_200)), [""; 0]);
    assert_eq!(told(&mut target, KeeperEvent::Tick, at(15_200)), ["renew 2 echo None"]);
    let nonce = Nonce { session: SESSION, sent: at(15_200) };
    let answer = Renewed { generation: WriteGeneration(2), members: members(2, &["t"]), nonce };
    assert_eq!(
        told(&mut target, KeeperEvent::Renewed(answer), at(15_300)),
        [""; 0],
        "it promised until 16.5 s"
    );
    assert_eq!(
        told(&mut target, KeeperEvent::Tick, at(16_500)),
        ["renew 2 echo Some(2)", "write 2 until 19s700ms"]
    );
}

#[test]
fn a_start_is_quiet_and_what_another_store_says_is_followed_by_nobody() {
    let (mut fresh, _) = Keeper::start(agent("p"), intervals(), seal(1), SESSION, at(10_000));
    let foreign = WriteRight { incarnation: Incarnation(2), ..right() };
    assert_eq!(told(&mut fresh, KeeperEvent::Record(foreign), at(10_000)), ["foreign 00000002"]);
    let order = Seal { incarnation: Incarnation(2), generation: WriteGeneration(9) };
    assert_eq!(told(&mut fresh, KeeperEvent::SealOrdered(order), at(10_000)), ["foreign 00000002"]);
    let asked = Ask { incarnation: Incarnation(2), ..ask(9, at(0)) };
    assert_eq!(told(&mut fresh, KeeperEvent::Asked(asked), at(10_000)), ["foreign 00000002", "no 0"]);
    assert_eq!(told(&mut fresh, KeeperEvent::Asked(ask(1, at(0))), at(10_000)), ["no 1"], "not stopped yet");
    assert_eq!(told(&mut fresh, KeeperEvent::Stopped, at(10_100)), [""; 0]);
    assert_eq!(told(&mut fresh, KeeperEvent::Record(right()), at(10_100)), [""; 0]);
    assert_eq!(told(&mut fresh, KeeperEvent::Tick, at(12_500)), ["renew 1 echo None"]);
    assert!(matches!(renewed(&mut fresh, at(12_500), at(12_600)), Some(KeeperEffect::WakeAt(_))));
    let after = told(&mut fresh, KeeperEvent::Tick, at(16_500));
    assert_eq!(after, ["renew 1 echo Some(1)", "write 1 until 17s"]);
}

#[test]
fn a_holder_that_is_fenced_stops_before_it_says_so() {
    let mut keeper = holder(at(10_000));
    assert!(matches!(renewed(&mut keeper, at(10_000), at(10_000)), Some(KeeperEffect::Promote(_))));
    assert_eq!(told(&mut keeper, KeeperEvent::SealOrdered(seal(2)), at(10_500)), ["stop"]);
    assert_eq!(told(&mut keeper, KeeperEvent::Stopped, at(10_900)), ["persist 2"]);
    assert_eq!(told(&mut keeper, KeeperEvent::SealOrdered(seal(3)), at(10_900)), [""; 0]);
    assert_eq!(told(&mut keeper, KeeperEvent::Persisted(seal(2)), at(10_950)), ["persist 3"]);
    assert_eq!(told(&mut keeper, KeeperEvent::Persisted(seal(3)), at(11_000)), ["sealed 3, 0s left"]);
    assert_eq!(told(&mut keeper, KeeperEvent::Record(right()), at(11_000)), [""; 0], "shown late");
}

#[test]
fn a_write_needs_its_proof() {
    cov_mark::check!(i5_single_writer);
    let mut keeper = holder(at(10_000));
    assert!(matches!(renewed(&mut keeper, at(10_000), at(10_000)), Some(KeeperEffect::Promote(_))));
}

fn any_event() -> impl Strategy<Value = (u64, KeeperEvent)> {
    let generation = 0u64..5;
    let event = (0u8..8, generation, 0u64..20_000, any::<bool>(), any::<bool>()).prop_map(
        |(kind, generation, sent, flag, other)| {
            let nonce = Nonce { session: if other { SESSION } else { 1 }, sent: at(sent) };
            let record = WriteRight {
                generation: WriteGeneration(generation),
                holder: agent(if other { "p" } else { "s" }),
                ..right()
            };
            let generation_ = WriteGeneration(generation);
            match kind {
                0 => KeeperEvent::Record(if flag { closing(record) } else { record }),
                1 => KeeperEvent::Renewed(Renewed {
                    generation: generation_,
                    members: members(sent % 4, &["s"]),
                    nonce,
                }),
                2 => KeeperEvent::Asked(ask(generation, at(sent))),
                3 if flag => KeeperEvent::Answered(PeerAnswer::No { generation: generation_, nonce }),
                3 => KeeperEvent::Answered(PeerAnswer::Yes {
                    from: agent("s"),
                    generation: generation_,
                    nonce,
                }),
                4 => KeeperEvent::SealOrdered(seal(generation)),
                5 => KeeperEvent::Persisted(seal(generation)),
                6 => KeeperEvent::Stopped,
                _ => KeeperEvent::Tick,
            }
        },
    );
    (0u64..2_000, event)
}

proptest! {
    /// Whatever it hears, in whatever order: a database is promoted from stopped only, at the generation of the durable
    /// seal, never below one that it was sealed or promoted for before, and for no longer than a renewal of now would give.
    #[test]
    fn a_keeper_never_promotes_below_its_seal(events in proptest::collection::vec(any_event(), 1..60)) {
        let (mut keeper, mut now) = (keeper("p", 1), at(10_000));
        let (mut durable, mut running) = (1, None);
        for (step, event) in events {
            now = now.plus(Span::from_millis(step));
            if let KeeperEvent::Persisted(seal) = &event {
                durable = durable.max(seal.generation.0);
            }
            if event == KeeperEvent::Stopped && running.is_some() {
                continue;
            }
            for effect in keeper.handle(event, now) {
                match effect {
                    KeeperEffect::Promote(right) => {
                        prop_assert!(running.is_none(), "promoted twice");
                        prop_assert_eq!(right.generation().0, durable);
                        prop_assert!(right.until() > now && right.until() <= intervals().deadline(now.max(at(20_000))));
                        running = Some(durable);
                    }
                    KeeperEffect::Extend(right) => prop_assert!(running.is_some() && right.until() > now),
                    KeeperEffect::Stop => running = None,
                    KeeperEffect::WakeAt(_) => {}
                    KeeperEffect::Sealed(sealed) => {
                        prop_assert_eq!(sealed.generation.0, durable);
                        prop_assert!(running.is_none_or(|generation| generation >= durable), "sealed and writing below");
                    }
                    _ => {}
                }
            }
        }
    }
}
