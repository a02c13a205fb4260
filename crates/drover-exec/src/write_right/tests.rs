//! Each machine by itself: tables of what it answers, and properties that hold whatever it is told.

mod keeper;
mod transfer;

use super::*;
use drover_model::write_right::{
    BootTime, Incarnation, Members, RightIntervals, RightSettings, RightState, Seal, WriteGeneration,
    WriteRight,
};
use drover_model::{AgentId, Generation, PlanId, Span};
use proptest::prelude::*;
use std::collections::BTreeSet;

const INCARNATION: Incarnation = Incarnation(1);

fn agent(name: &str) -> AgentId {
    AgentId::new(name).unwrap()
}

/// W 6 s, drift 0.5 s, demotion 1 s: a deadline is 4.5 s after the sending, and over after 6.5 s.
fn intervals() -> RightIntervals {
    RightIntervals::new(RightSettings::default()).unwrap()
}

fn at(millis: u64) -> BootTime {
    BootTime::after_boot(Span::from_millis(millis))
}

fn seal(generation: u64) -> Seal {
    Seal { incarnation: INCARNATION, generation: WriteGeneration(generation) }
}

fn members(version: u64, names: &[&str]) -> Members {
    Members { version: Generation(version), promotable: names.iter().map(|name| agent(name)).collect() }
}

/// Open, generation 1, held by `p`; `s` and `t` could take over.
fn right() -> WriteRight {
    WriteRight {
        incarnation: INCARNATION,
        generation: WriteGeneration(1),
        holder: agent("p"),
        members: members(1, &["s", "t"]),
        acknowledged: members(1, &["s", "t"]),
        sync_set: BTreeSet::from([agent("s")]),
        state: RightState::Open,
    }
}

fn closing(right: WriteRight) -> WriteRight {
    WriteRight {
        state: RightState::Closing { target: agent("s"), plan: PlanId::from_text("plan-1") },
        ..right
    }
}

mod renewals {
    use super::*;
    use drover_model::write_right::{Nonce, Renew};

    fn asked(generation: u64, from: &str, echoes: Option<u64>) -> Renew {
        Renew {
            from: agent(from),
            incarnation: INCARNATION,
            generation: WriteGeneration(generation),
            echoes: echoes.map(Generation),
            nonce: Nonce { session: 1, sent: at(5) },
        }
    }

    #[test]
    fn a_right_is_renewed_for_its_holder_while_it_is_open() {
        let renewal = renew(&right(), &asked(1, "p", Some(1))).unwrap();
        assert_eq!(renewal.record(), &right());
        let answer = renewal.committed();
        assert_eq!((answer.generation, answer.nonce.sent), (WriteGeneration(1), at(5)));

        let foreign = WriteRight { incarnation: Incarnation(2), ..right() };
        for (record, asked, says) in [
            (right(), asked(2, "p", None), "generation 2 is over, 1 is held by p"),
            (right(), asked(1, "s", None), "generation 1 is held by p, not by s"),
            (closing(right()), asked(1, "p", None), "generation 1 is closing"),
            (foreign, asked(1, "p", None), "incarnation 00000001, this is 00000002"),
        ] {
            let refused = renew(&record, &asked).unwrap_err().to_string();
            assert!(refused.contains(says), "{refused}");
        }
    }

    #[test]
    fn only_the_members_as_they_are_can_be_acknowledged() {
        let changed = change_members(&right(), BTreeSet::from([agent("t")])).unwrap();
        assert_eq!(changed.members, members(2, &["t"]));
        for (echo, acknowledged) in [(None, 1), (Some(1), 1), (Some(2), 2), (Some(3), 1)] {
            let renewed = renew(&changed, &asked(1, "p", echo)).unwrap();
            assert_eq!(renewed.record().acknowledged.version, Generation(acknowledged), "{echo:?}");
        }
    }

    #[test]
    fn members_do_not_change_while_somebody_may_not_know_them() {
        let to = || BTreeSet::from([agent("t")]);
        let changed = change_members(&right(), to()).unwrap();
        let unheard = MembersFrozen::Unacknowledged { holder: agent("p"), wanted: 2 };
        assert_eq!(change_members(&changed, to()), Err(unheard));
        assert_eq!(change_members(&closing(right()), to()), Err(MembersFrozen::Closing));
        let holder = BTreeSet::from([agent("p")]);
        assert_eq!(change_members(&right(), holder), Err(MembersFrozen::Holder(agent("p"))));
    }
}

mod gates {
    use super::*;

    proptest! {
        /// However the looks fall, none more than a tick after the one before: the gate stops before the deadline.
        #[test]
        fn a_gate_stops_before_its_deadline(steps in proptest::collection::vec(100u64..=500, 20..40), until in 500u64..4_000) {
            let mut keeper = super::keeper::holder(at(10_000));
            let right = super::keeper::renewed(&mut keeper, at(10_000 + until), at(10_000 + until));
            let (Some(KeeperEffect::Promote(right)), until) = (right, at(14_500 + until)) else {
                return Err(TestCaseError::fail("a holder that is renewed writes"));
            };
            prop_assert_eq!(right.until(), until);
            let gate = Gate::open(right.permit(&intervals()));
            let mut now = at(10_000);
            for step in steps.into_iter().cycle().take(200) {
                now = now.plus(Span::from_millis(step));
                if gate.look(now) == GateLook::Stop {
                    break;
                }
            }
            prop_assert_eq!(gate.look(now), GateLook::Stop);
            prop_assert!(now <= until && gate.stopped_by() == until.plus(Span::from_secs(1)));
        }
    }
}
