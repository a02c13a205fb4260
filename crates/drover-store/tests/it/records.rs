//! Typed records.

use crate::{open, runtime};
use drover_store::{JsonError, Revision, Store, Txn, get_json};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Freeze {
    by: String,
    reason: String,
}

#[test]
fn json_records_round_trip_and_errors_name_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(&directory.path().join("store.redb")).unwrap();
    runtime().block_on(async {
        let freeze = Freeze { by: "ana".to_owned(), reason: "migration".to_owned() };
        store.txn(Txn::new().put_json("freeze/all", &freeze).unwrap().put("freeze/bad", "{")).await.unwrap();
        let read = get_json::<Freeze>(&store, "freeze/all").await.unwrap().unwrap();
        assert_eq!((read.value, read.mod_revision), (freeze, Revision(1)));
        assert!(get_json::<Freeze>(&store, "freeze/none").await.unwrap().is_none());
        let error = get_json::<Freeze>(&store, "freeze/bad").await.unwrap_err();
        assert!(matches!(&error, JsonError::Decode { key, .. } if key == "freeze/bad"), "{error}");
    });
    let no_json = BTreeMap::from([((1, 2), 3)]);
    assert!(matches!(Txn::new().put_json("k", &no_json), Err(JsonError::Encode { .. })));
}
