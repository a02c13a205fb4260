//! Of records and how they are walked.

use super::*;

#[tokio::test]
async fn a_follower_reads_and_writes_nothing_until_it_leads() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) =
        drover_store::EmbeddedStore::open(dir.path().join("s.redb"), drover_store::Options::default())
            .unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let follows = Db::follow(store.clone());
    let refused = |done| matches!(done, Err(CoordinatorError::Fenced { .. }));
    assert!(refused(follows.put("k", &1).await), "before anybody leads");
    let leads = Db::take_over(store, Timestamp::from_millis(0), 1).await.unwrap();
    leads.put("k", &2).await.unwrap();
    follows.note_leader(leads.epoch());
    assert_eq!(follows.epoch(), leads.epoch(), "it speaks of who commands");
    assert!(refused(follows.put("k", &3).await), "and does not command itself");
    assert_eq!(follows.get::<i32>("k").await.unwrap().unwrap().0, 2);
    assert!(!follows.leads().await.unwrap());
}

#[tokio::test]
async fn numbered_records_are_walked_down_across_gaps() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) =
        drover_store::EmbeddedStore::open(dir.path().join("s.redb"), drover_store::Options::default())
            .unwrap();
    let db = Db::take_over(Arc::new(store), Timestamp::from_millis(0), 1).await.unwrap();
    for number in [1_u64, 2, 5_000, 5_001, 5_002] {
        db.put(&keys::numbered(keys::AUDIT, number), &number).await.unwrap();
    }
    let walk = async |below, limit| {
        let found = db.list_below::<u64>(keys::AUDIT, below, 5_002, limit).await.unwrap();
        assert!(found.iter().all(|(number, record)| number == record));
        found.into_iter().map(|(number, _)| number).collect::<Vec<_>>()
    };
    assert_eq!(walk(u64::MAX, 2).await, [5_002, 5_001]);
    assert_eq!(walk(5_001, 3).await, [5_000, 2, 1]);
    assert_eq!(walk(5_000, 1).await, [2]);
    assert_eq!(walk(1, 9).await, Vec::<u64>::new());

    db.put(&keys::journal(&drover_model::RunId::numbered(7), 3), &0).await.unwrap();
    for (prefix, last) in [(keys::AUDIT, 5_002), (keys::RUNS, 7), (keys::DECISIONS, 0)] {
        assert_eq!(db.last_number(prefix).await.unwrap(), last, "{prefix}");
        for known in 0..=last.min(9) {
            let found = db.last_number_from(prefix, last - known).await.unwrap();
            assert_eq!(found, last, "{prefix} from {known} below");
        }
    }
}
