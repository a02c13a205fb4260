use super::*;
use crate::testbed::{Bed, person};
use drover_model::Span;
use drover_model::api::{CommandRequest, MoveRequest, RightStanding};
use drover_model::config::DatasetMember;
use drover_model::write_right::{BootTime, Nonce, Renew, RightSettings};

fn agent(name: &str) -> AgentId {
    AgentId::new(name).unwrap()
}

fn orders() -> Dataset {
    let member =
        |name: &str, port: u16| DatasetMember { agent: agent(name), peer: ([127, 0, 0, 1], port).into() };
    Dataset {
        name: DatasetId::new("orders").unwrap(),
        holder: agent("eu-west-1"),
        members: vec![member("eu-west-1", 1), member("us-east-1", 2)],
        write_right: RightSettings::default(),
    }
}

async fn bed() -> (Bed, Dataset) {
    let bed = Bed::with(|config| drop(config.datasets.insert(orders().name, orders()))).await;
    tend(&bed.c, &orders()).await;
    (bed, orders())
}

fn renewal(from: &str, generation: u64, right: &WriteRight) -> RenewRequest {
    let nonce = Nonce { session: 1, sent: BootTime::after_boot(Span::from_secs(1)) };
    let (incarnation, generation) = (right.incarnation, WriteGeneration(generation));
    let renew = Renew { from: agent(from), incarnation, generation, echoes: None, nonce };
    RenewRequest { renew, writing: true }
}

async fn read(c: &Coordinator, dataset: &DatasetId) -> ReadRight {
    c.right_of(dataset).await.unwrap().unwrap()
}

async fn right(c: &Coordinator) -> WriteRight {
    read(c, &orders().name).await.kept.record.right
}

async fn tend(c: &Arc<Coordinator>, dataset: &Dataset) {
    let read = c.read_datasets().await.unwrap();
    c.tend(&dataset.name, Some(dataset), &read).await.unwrap();
}

#[tokio::test]
async fn a_right_is_granted_first_to_whom_the_configuration_names_and_renewed_for_nobody_else() {
    let (bed, dataset) = bed().await;
    let c = &bed.c;
    let told = c.rights_for(&agent("us-east-1")).await.unwrap();
    let first = &told[0].right;
    assert_eq!((first.holder.clone(), first.generation), (agent("eu-west-1"), WriteGeneration(1)));
    assert_eq!(told[0].peers.keys().collect::<Vec<_>>(), [&agent("eu-west-1")]);
    assert_eq!(c.rights_for(&agent("ap-south-1")).await.unwrap(), []);
    // Looking again grants nothing anew.
    tend(c, &dataset).await;
    assert_eq!(right(c).await, *first);
    let before = read(c, &dataset.name).await.revision;
    let answer = c.renew_right(&dataset.name, &renewal("eu-west-1", 1, first)).await.unwrap();
    assert!(matches!(answer, RenewAnswer::Renewed { .. }), "{answer:?}");
    let after = read(c, &dataset.name).await.revision;
    assert!(after > before, "a renewal is a change, by which a close is overtaken");
    for other in [renewal("us-east-1", 1, first), renewal("eu-west-1", 2, first)] {
        let answer = c.renew_right(&dataset.name, &other).await.unwrap();
        assert_eq!(answer, RenewAnswer::Refused { right: right(c).await });
    }
}

#[tokio::test]
async fn members_follow_the_configuration_and_a_holder_that_was_taken_out_keeps_its_right() {
    let (bed, mut dataset) = bed().await;
    dataset.members.remove(1);
    tend(&bed.c, &dataset).await;
    let changed = right(&bed.c).await;
    assert_eq!((changed.members.promotable.len(), changed.acknowledged.promotable.len()), (0, 1));
    // The next change waits until the holder has heard of this one.
    tend(&bed.c, &orders()).await;
    assert_eq!(right(&bed.c).await, changed);
    let mut echo = renewal("eu-west-1", 1, &changed);
    echo.renew.echoes = Some(changed.members.version);
    bed.c.renew_right(&dataset.name, &echo).await.unwrap();
    tend(&bed.c, &orders()).await;
    assert_eq!(right(&bed.c).await.members.promotable.len(), 1);
}

#[tokio::test]
async fn what_another_store_granted_is_neither_renewed_nor_moved() {
    let (bed, dataset) = bed().await;
    let ReadRight { kept, revision, .. } = read(&bed.c, &dataset.name).await;
    let mut record = kept.record.clone();
    record.right.incarnation = Incarnation(record.right.incarnation.0 + 1);
    let other = kept.with(record.clone());
    bed.c.swap_right(Txn::new(), &dataset.name, revision, &other).await.unwrap().unwrap();
    let refused =
        bed.c.renew_right(&dataset.name, &renewal("eu-west-1", 1, &record.right)).await.unwrap_err();
    assert_eq!(refused.0.code, "another_incarnation");
    let ask = MoveRequest { by: person(), reason: "test".into(), to: "us-east".into() };
    assert_eq!(bed.c.move_dataset("orders", &ask).await.unwrap_err().0.code, "another_incarnation");
}

#[tokio::test]
async fn a_move_says_at_once_what_stands_in_its_way() {
    let (bed, _) = bed().await;
    let ask = |to: &str| MoveRequest { by: person(), reason: "test".into(), to: to.into() };
    for (dataset, to, code) in [
        ("nothing", "us-east", "not_found"),
        ("orders", "ap-south", "not_found"),
        ("orders", "eu-west", "holds_already"),
    ] {
        let refused = bed.c.move_dataset(dataset, &ask(to)).await.unwrap_err();
        assert_eq!(refused.0.code, code, "{dataset} {to}: {}", refused.0.detail);
    }
    let abort =
        CommandRequest { by: person(), reason: "test".into(), plan: None, roll_back: false, alone: false };
    assert_eq!(bed.c.abort_move("orders", &abort).await.unwrap_err().0.code, "no_move");
}

/// Nobody answers here, so that a move only closes the right, and an abort gives it back above what may have been sealed.
#[tokio::test]
async fn a_move_is_gone_on_with_by_the_next_leader_and_can_be_aborted() {
    let (bed, dataset) = bed().await;
    let ask = MoveRequest { by: person(), reason: "test".into(), to: "us-east".into() };
    bed.c.move_dataset("orders", &ask).await.unwrap();
    while right(&bed.c).await.is_open() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(bed.c.move_dataset("orders", &ask).await.unwrap_err().0.code, "move_under_way");
    let seal = right(&bed.c).await.seal_for(&agent("us-east-1")).unwrap();
    assert_eq!(seal.generation, WriteGeneration(2));
    let bed = bed.reopened().await;
    assert!(!right(&bed.c).await.is_open(), "what was closed stays closed");
    tend(&bed.c, &dataset).await;
    let abort =
        CommandRequest { by: person(), reason: "test".into(), plan: None, roll_back: false, alone: false };
    bed.c.abort_move("orders", &abort).await.unwrap();
    let view = loop {
        let view = bed.c.datasets_now().await.unwrap().remove(0);
        if view.last_move.as_ref().is_some_and(|last| last.ended.is_some()) {
            break view;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!((view.standing, view.generation), (RightStanding::Held, Some(WriteGeneration(3))));
    let last = view.last_move.unwrap();
    assert_eq!((last.by, last.ended.unwrap().granted), (person(), false));
}

#[tokio::test]
async fn a_record_that_makes_no_sense_hides_no_other_dataset() {
    let odd = Dataset { name: DatasetId::new("odd").unwrap(), ..orders() };
    let bed = Bed::with(|config| {
        config.datasets.extend([odd.clone(), orders()].map(|dataset| (dataset.name.clone(), dataset)));
    })
    .await;
    for dataset in [&odd, &orders()] {
        tend(&bed.c, dataset).await;
    }
    let key = keys::write_right(&odd.name);
    let mut record = read(&bed.c, &odd.name).await.kept.record;
    record.intervals.renew = Span::ZERO;
    let refused = serde_json::to_value(&record).unwrap();
    for (nonsense, why) in [(serde_json::json!({"holder": 7}), "undecodable"), (refused, "intervals")] {
        bed.c.db.put(&key, &nonsense).await.unwrap();
        bed.c.look_at_datasets().await.unwrap();
        let views = bed.c.datasets_now().await.unwrap();
        let standings: Vec<_> = views.iter().map(|view| (view.dataset.as_str(), view.standing)).collect();
        assert_eq!(standings, [("odd", RightStanding::Unreadable), ("orders", RightStanding::Held)], "{why}");
        let page = attention(&views[0]).unwrap();
        assert_eq!(page.code, "dataset_unreadable");
        assert!(page.sentence.contains("odd"), "{}", page.sentence);
        let told = bed.c.rights_for(&agent("us-east-1")).await.unwrap();
        assert!(told.iter().any(|told| told.dataset == orders().name), "{why}: {told:?}");
    }
}

#[tokio::test]
async fn a_holder_that_runs_nothing_says_so_until_it_does() {
    let (bed, dataset) = bed().await;
    let since = async || read(&bed.c, &dataset.name).await.kept.record.not_writing_since;
    let mut renew = renewal("eu-west-1", 1, &right(&bed.c).await);
    renew.writing = false;
    bed.c.renew_right(&dataset.name, &renew).await.unwrap();
    let first = since().await.unwrap();
    bed.c.renew_right(&dataset.name, &renew).await.unwrap();
    assert_eq!(since().await, Some(first), "it counts from the first time");
    renew.writing = true;
    bed.c.renew_right(&dataset.name, &renew).await.unwrap();
    assert_eq!(since().await, None);
    // An agent that does not say is taken for one that writes.
    let unsaid = serde_json::to_value(&renew.renew).unwrap();
    assert_eq!(serde_json::from_value::<RenewRequest>(unsaid).unwrap(), renew);
}

/// While an installation is upgraded, older coordinators renew what newer ones write.
#[tokio::test]
async fn a_renewal_and_a_move_leave_what_a_later_drover_wrote() {
    let (bed, dataset) = bed().await;
    let key = keys::write_right(&dataset.name);
    let mut stored = serde_json::to_value(read(&bed.c, &dataset.name).await.kept).unwrap();
    stored["lag"] = serde_json::json!({"bytes": 17});
    stored["right"]["witness"] = serde_json::json!("ap-south-1");
    bed.c.db.put(&key, &stored).await.unwrap();
    let is_kept = async || {
        let (now, _) = bed.c.db.get::<serde_json::Value>(&key).await.unwrap().unwrap();
        now["lag"]["bytes"] == 17 && now["right"]["witness"] == "ap-south-1"
    };
    let mut echo = renewal("eu-west-1", 1, &right(&bed.c).await);
    echo.writing = false;
    bed.c.renew_right(&dataset.name, &echo).await.unwrap();
    assert!(is_kept().await);
    assert!(read(&bed.c, &dataset.name).await.kept.record.not_writing_since.is_some());
    let ask = MoveRequest { by: person(), reason: "test".into(), to: "us-east".into() };
    bed.c.move_dataset("orders", &ask).await.unwrap();
    while right(&bed.c).await.is_open() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(is_kept().await, "also when it is closed");
}

#[tokio::test]
async fn a_dataset_that_is_taken_out_while_it_moves_is_shown_and_can_be_given_back() {
    let (bed, dataset) = bed().await;
    let ask = MoveRequest { by: person(), reason: "test".into(), to: "us-east".into() };
    bed.c.move_dataset("orders", &ask).await.unwrap();
    while right(&bed.c).await.is_open() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The next leader finds it so.
    bed.rewrite(|config| drop(config.datasets.remove(&dataset.name)));
    let bed = bed.reopened().await;
    bed.c.tend_datasets().await.unwrap();
    let view = bed.c.datasets_now().await.unwrap().remove(0);
    assert!(view.unconfigured && view.standing == RightStanding::Closing, "{view:?}");
    let page = attention(&view).unwrap();
    assert_eq!(
        (page.code.as_str(), page.severity),
        ("dataset_taken_out", drover_model::api::Severity::Critical)
    );
    let abort =
        CommandRequest { by: person(), reason: "test".into(), plan: None, roll_back: false, alone: false };
    bed.c.abort_move("orders", &abort).await.unwrap();
    let ended = loop {
        let view = bed.c.datasets_now().await.unwrap().remove(0);
        if let Some(ended) = view.last_move.and_then(|last| last.ended) {
            break ended;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(!ended.granted && right(&bed.c).await.is_open());
    assert_eq!(bed.c.abort_move("nothing", &abort).await.unwrap_err().0.code, "not_found");
}
