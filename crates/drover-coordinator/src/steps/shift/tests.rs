//! Moves of more services than a transaction takes: what is there after each way to break off.

use super::*;
use crate::coordinator::Dns;
use crate::steps::preflight;
use crate::testbed::{Bed, GUARD, Meddling, PlayedDns, person};
use drover_dns::provider::Gate;
use drover_exec::{Approved, Command, Consent};
use drover_model::Span;
use drover_model::journal::Trigger;
use drover_model::plan::StepKind;
use drover_model::runbook::Purpose;
use drover_model::traffic::Hold;
use drover_store::TxnError;
use futures::FutureExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// More than two transactions move.
const SERVICES: usize = 2 * TARGETS_PER_TXN + 10;

async fn many() -> Bed {
    Bed::with(|config| {
        let one = config.services.values().next().unwrap().clone();
        for n in config.services.len()..SERVICES {
            let name = ServiceId::new(format!("service-{n:03}")).unwrap();
            let dns_name = format!("{name}.{}", config.settings.dns.as_ref().unwrap().zone);
            config
                .services
                .insert(name.clone(), drover_model::config::Service { name, dns_name, ..one.clone() });
        }
    })
    .await
}

fn changes(order: &Order) -> (Vec<TrafficChange>, Vec<TrafficChange>) {
    let StepKind::ShiftTraffic { changes } = &order.step().kind else { panic!("no shift") };
    let drover_model::plan::Reversal::RestoreWeights { changes: back } = &order.step().reversal else {
        panic!("not reversible")
    };
    (changes.clone(), back.clone())
}

async fn moved(c: &Coordinator, changes: &[TrafficChange]) -> usize {
    let mut there = 0;
    for change in changes {
        there += usize::from(standing(c, change).await.unwrap().0.weights == change.weights_after);
    }
    there
}

#[tokio::test]
async fn a_plan_for_many_services_is_kept_packed_and_read_again() {
    let bed = many().await;
    let plan = bed.plan().await;
    let key = keys::plan(&plan.id);
    let stored = drover_store::Store::get(&*bed.c.store, &key).await.unwrap().unwrap();
    let json = serde_json::to_vec(&plan).unwrap();
    assert!(stored.value[0] != b'{' && stored.value.len() < json.len(), "{}", stored.value.len());
    let (kept, _) = bed.c.db.get::<drover_model::api::PlanView>(&key).await.unwrap().unwrap();
    assert_eq!(kept.planned.plan, Some(plan));
}

/// What is known in memory of targets and holds is what the store says.
async fn is_known(bed: &Bed) {
    let targets = bed.c.db.list::<TrafficState>(keys::TRAFFIC).await.unwrap();
    let holds = bed.c.db.list::<Hold>(keys::HOLDS).await.unwrap();
    let live = bed.c.live();
    assert!(targets.into_iter().map(|(_, t)| t).eq(live.traffic.values().cloned()));
    assert!(holds.into_iter().map(|(_, h)| h).eq(live.holds.values().cloned()));
}

fn is_of_move(txn: &Txn) -> bool {
    txn.ops.iter().any(|op| op.key().starts_with(keys::MOVED))
}

/// Of the transactions that move, the `number`th (from 1) comes to this end.
fn at_move(bed: &mut Bed, number: usize, end: impl Fn() -> Meddling + Send + Sync + 'static) {
    let seen = AtomicUsize::new(0);
    bed.meddle(move |txn| {
        let hit = is_of_move(txn) && seen.fetch_add(1, Ordering::Relaxed) + 1 == number;
        futures::future::ready(if hit { end() } else { Meddling::None }).boxed()
    });
}

/// Where the second transaction that moves waits, so that something else can happen in the middle of a move.
#[derive(Default)]
struct Halfway {
    reached: Notify,
    go_on: Notify,
    /// Kinds of transactions in the order in which the store took them.
    log: Mutex<Vec<&'static str>>,
}

impl Halfway {
    fn of(bed: &mut Bed) -> Arc<Self> {
        let me = Arc::new(Self::default());
        let (it, seen) = (me.clone(), Arc::new(AtomicUsize::new(0)));
        bed.meddle(move |txn| {
            let kind = match txn.ops.first().map(drover_store::Op::key).unwrap_or_default() {
                _ if is_of_move(txn) => "move",
                key if key.starts_with(keys::TRAFFIC) => "retarget",
                key if key.starts_with(keys::RUNS)
                    && txn.ops.iter().any(|op| op.key().starts_with(keys::ENDED)) =>
                {
                    "end"
                }
                _ => "other",
            };
            let (it, seen) = (it.clone(), seen.clone());
            async move {
                it.log.lock().unwrap().push(kind);
                if kind == "move" && seen.fetch_add(1, Ordering::Relaxed) == 1 {
                    it.reached.notify_one();
                    it.go_on.notified().await;
                }
                Meddling::None
            }
            .boxed()
        });
        me
    }

    /// Lets everybody go on who can, as long as nothing of this kind came.
    async fn let_others_run(&self, kind: &str) {
        for _ in 0..1_000 {
            if self.log.lock().unwrap().contains(&kind) {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    fn moves_before(&self, kind: &str) -> usize {
        self.log.lock().unwrap().iter().take_while(|k| **k != kind).filter(|k| **k == "move").count()
    }
}

#[tokio::test]
async fn more_targets_than_a_transaction_takes_are_moved_and_moved_back() {
    let bed = many().await;
    let order = bed.order().await;
    assert_eq!(order.plan.intent.purpose, Purpose::Drain);
    let (forth, back) = changes(&order);
    assert_eq!(forth.len(), SERVICES);
    assert!(move_forth(&bed.c, &order, &forth).await.unwrap());
    assert_eq!(moved(&bed.c, &forth).await, SERVICES);
    is_known(&bed).await;
    assert_eq!(bed.c.live().holds.len(), 1);
    assert!(!move_forth(&bed.c, &order, &forth).await.unwrap(), "doing it again does nothing");
    assert!(move_back(&bed.c, &order, &back).await.unwrap());
    assert_eq!(moved(&bed.c, &back).await, SERVICES);
    is_known(&bed).await;
    assert!(bed.c.live().holds.is_empty(), "the drain is over with the last");
}

#[tokio::test]
async fn what_a_hand_changed_is_left_alone_and_keeps_no_other_service_back() {
    let bed = Bed::new().await;
    let dns = Arc::new(PlayedDns::default());
    let gate = Arc::new(Gate::new(dns.clone()));
    let settings = bed.c.loaded().config.settings.dns.clone().unwrap();
    bed.c.dns.store(Arc::new(Some(Dns { gate: gate.clone(), settings, checks: None })));
    bed.c.retarget_all().await.unwrap();
    let order = bed.order().await;
    let (forth, back) = changes(&order);
    bed.c.reconcile(&gate).await.unwrap();
    let generation = |name: &str| {
        let live = dns.live().into_iter().find(|set| set.name.starts_with(name)).unwrap();
        (live.generation, live)
    };
    let (_, mut by_hand) = generation("checkout");
    by_hand.members[0].weight += 1;
    dns.change_by_hand(by_hand.clone());

    // At leisure nothing is begun.
    let refused = preflight::act(&bed.c, &order, &[]).await.unwrap_err();
    assert!(
        refused.message.contains("changed by hand") && refused.message.contains("drover dns adopt"),
        "{refused:?}"
    );
    // Where it happens in the middle, the others move.
    let held = act(&bed.c, &order, &forth).await.unwrap_err();
    assert_eq!(held.kind, FailureNature::Permanent, "{}", held.message);
    assert!(
        held.message.contains("checkout") && held.message.contains("drover dns adopt"),
        "{}",
        held.message
    );
    assert_eq!((generation("catalog").0, generation("checkout").1), (2, by_hand.clone()));
    // And come back.
    let undone = undo(&bed.c, &order, &back).await.unwrap();
    assert!(undone.summary.contains("left alone: checkout"), "{}", undone.summary);
    assert_eq!((generation("catalog").0, generation("checkout").1), (3, by_hand));
}

#[tokio::test]
async fn a_move_that_breaks_off_is_known_as_far_as_it_went_and_carried_on_by_the_next() {
    let mut bed = many().await;
    at_move(&mut bed, 3, || Meddling::Refuse(TxnError::Conflict { key: "traffic/x".into(), current: None }));
    let order = bed.order().await;
    let (forth, back) = changes(&order);
    let broken = move_forth(&bed.c, &order, &forth).await.unwrap_err();
    assert_eq!(broken.kind, FailureNature::Retryable, "{}", broken.message);
    assert_eq!(moved(&bed.c, &forth).await, 2 * TARGETS_PER_TXN);
    is_known(&bed).await;
    let begun = bed.c.live().holds.clone();
    assert_eq!(begun.len(), 1);
    // DNS is brought to what has moved although the step published nothing.
    bed.c.reconcile_wake.notified().now_or_never().expect("nobody told the reconciler");

    assert!(move_forth(&bed.c, &order, &forth).await.unwrap());
    assert_eq!(moved(&bed.c, &forth).await, SERVICES);
    assert_eq!(bed.c.live().holds, begun, "it began with the first attempt");
    assert!(move_back(&bed.c, &order, &back).await.unwrap());
    assert_eq!((moved(&bed.c, &back).await, bed.c.live().holds.len()), (SERVICES, 0));
    is_known(&bed).await;
}

#[tokio::test]
async fn a_transaction_whose_answer_was_lost_is_known_all_the_same() {
    let mut bed = many().await;
    at_move(&mut bed, 2, || Meddling::Lose(TxnError::Closed));
    let order = bed.order().await;
    let (forth, _) = changes(&order);
    move_forth(&bed.c, &order, &forth).await.unwrap_err();
    assert_eq!(moved(&bed.c, &forth).await, 2 * TARGETS_PER_TXN);
    is_known(&bed).await;
    assert!(move_forth(&bed.c, &order, &forth).await.unwrap());
    assert_eq!(moved(&bed.c, &forth).await, SERVICES);
}

#[tokio::test]
async fn an_undo_that_breaks_off_is_known_and_its_hold_stands_until_the_last_is_back() {
    let mut bed = many().await;
    // Three transactions forth, then the third of those back.
    at_move(&mut bed, 6, || Meddling::Refuse(TxnError::Closed));
    let order = bed.order().await;
    let (forth, back) = changes(&order);
    move_forth(&bed.c, &order, &forth).await.unwrap();
    move_back(&bed.c, &order, &back).await.unwrap_err();
    assert_eq!((moved(&bed.c, &back).await, bed.c.live().holds.len()), (2 * TARGETS_PER_TXN, 1));
    is_known(&bed).await;
    assert!(move_back(&bed.c, &order, &back).await.unwrap());
    assert_eq!((moved(&bed.c, &back).await, bed.c.live().holds.len()), (SERVICES, 0));
    is_known(&bed).await;
}

#[tokio::test]
async fn a_new_configuration_waits_for_a_move_under_way() {
    let mut bed = many().await;
    let halfway = Halfway::of(&mut bed);
    let order = bed.order().await;
    let (forth, _) = changes(&order);
    let (c, version) = (bed.c.clone(), bed.c.loaded().version.clone());
    let moving = tokio::spawn(async move { move_forth(&c, &order, &forth).await });
    tokio::time::timeout(GUARD, halfway.reached.notified()).await.unwrap();
    bed.rewrite(|config| {
        let first = config.services.values_mut().next().unwrap();
        first.ttl = first.ttl.times(2);
    });
    let c = bed.c.clone();
    let reload = tokio::spawn(async move { c.reload_now().await });
    tokio::time::timeout(GUARD, async {
        while bed.c.loaded().version == version {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    halfway.let_others_run("retarget").await;
    halfway.go_on.notify_one();
    assert!(tokio::time::timeout(GUARD, moving).await.unwrap().unwrap().unwrap());
    tokio::time::timeout(GUARD, reload).await.unwrap().unwrap().unwrap();
    assert_eq!(halfway.moves_before("retarget"), SERVICES.div_ceil(TARGETS_PER_TXN));
    is_known(&bed).await;
}

#[tokio::test]
async fn an_abort_ends_a_move_of_many_services_between_two_transactions_and_the_run_after_it() {
    let mut bed = many().await;
    let halfway = Halfway::of(&mut bed);
    let mut plan = bed.plan().await;
    // What looks at services that do not run here would end it first.
    plan.steps.retain(|step| matches!(step.kind, StepKind::ShiftTraffic { .. }));
    let id = plan.id.clone();
    let consent = Consent::Given(Approved::by_command(plan, &id).unwrap());
    let run = bed.c.next_run();
    let run = bed.c.create_run(run, consent, person(), Trigger::Command, Span::from_mins(30)).await.unwrap();
    tokio::time::timeout(GUARD, halfway.reached.notified()).await.unwrap();
    let (c, aborted) = (bed.c.clone(), run.clone());
    let command = Command::Abort { by: person(), reason: "enough".into(), roll_back: false };
    let abort = tokio::spawn(async move { c.send_command(&aborted, command).await.map_err(|e| e.0.detail) });
    halfway.let_others_run("end").await;
    halfway.go_on.notify_one();
    tokio::time::timeout(GUARD, abort).await.unwrap().unwrap().unwrap();
    assert_eq!(halfway.moves_before("end"), 2, "the one that was on its way, and no further");
    let ended = bed.c.run_summary(&run).await.unwrap().unwrap();
    assert_eq!(ended.state, drover_model::journal::RunState::Aborted);
    let moved = bed.c.live().traffic.values().filter(|t| t.generation > Generation(1)).count();
    assert_eq!(moved, 2 * TARGETS_PER_TXN);
    is_known(&bed).await;
    // Nothing that it left keeps the next plan from being made, and from being true.
    let next = bed.plan().await;
    assert_eq!(next.services.len(), SERVICES - moved, "the rest");
    bed.c.stop.cancel();
}

#[tokio::test]
async fn a_stale_plan_moves_none_of_its_targets() {
    let bed = many().await;
    let order = bed.order().await;
    let (mut forth, _) = changes(&order);
    forth.last_mut().unwrap().from_generation = Generation(7);
    let refused = move_forth(&bed.c, &order, &forth).await.unwrap_err();
    assert_eq!(refused.kind, FailureNature::Permanent, "{}", refused.message);
    assert_eq!(moved(&bed.c, &forth).await, 0);
    assert!(bed.c.live().holds.is_empty());
}
