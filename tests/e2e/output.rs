//! `docs/output.md` tells the truth: each command of its table writes just the keys that it says.

use crate::world::World;
use drover_model::config::{Dataset, DatasetMember, encode};
use drover_model::write_right::RightSettings;
use drover_model::{AgentId, DatasetId};
use serde_json::Value;
use std::collections::BTreeSet;

const PAGE: &str = include_str!("../../docs/output.md");

/// A row: the command's words, its keys, and those of each item.
struct Row {
    words: Vec<String>,
    keys: BTreeSet<String>,
    of_items: BTreeSet<String>,
}

fn rows() -> Vec<Row> {
    let codes =
        |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        let [command, keys, of_items] = cells[..] else { panic!("not three cells: {line}") };
        let words = codes(command)[0].split(' ').skip(1).map(str::to_owned).collect();
        Row {
            words,
            keys: codes(keys).into_iter().collect(),
            of_items: codes(of_items).into_iter().collect(),
        }
    };
    PAGE.lines().filter(|l| l.starts_with("| `drover ")).map(row).collect()
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap_or_else(|| panic!("no object: {value}")).keys().cloned().collect()
}

/// A dataset to list. Nobody keeps it here.
fn orders() -> Dataset {
    Dataset {
        name: DatasetId::new("orders").unwrap(),
        holder: AgentId::new("eu-west-1").unwrap(),
        members: vec![DatasetMember {
            agent: AgentId::new("eu-west-1").unwrap(),
            peer: ([127, 0, 0, 1], 7_414).into(),
        }],
        write_right: RightSettings::default(),
    }
}

#[test]
fn every_output_has_the_keys_that_the_page_says() {
    let rows = rows();
    assert!(rows.len() > 15, "{} rows", rows.len());
    let w = World::up();
    let plan = w.plan(&["drain", "us-east", "--for", "1h", "--reason", "work"]);
    w.apply(&plan).expect_code(0);
    w.edit(|config| drop(config.datasets.insert(orders().name, orders())));
    w.until("the dataset is looked at", |status| !status.datasets.is_empty());
    let mut other = w.config.clone();
    other.services.values_mut().for_each(|s| s.ttl = drover_model::Span::from_secs(7));
    std::fs::create_dir(w.path("regions")).unwrap();
    std::fs::write(w.path("regions/world.yaml"), encode::to_yaml(&other)).unwrap();
    // What the table's backtest replays.
    let seen = w.drover(&["log", "--observations", "checkout@eu-west", "-o", "json"]).expect_code(0).stdout;
    std::fs::write(w.path("seen.json"), seen).unwrap();

    // Whose token it lists and ends.
    w.drover(&["token", "create", "ann", "--role", "viewer"]).expect_code(0);
    // And the key that it shows.
    w.drover(&["dns", "keygen", "--out", "signing.key"]).expect_code(0);
    // And certificates to list.
    w.drover(&["pki", "init"]).expect_code(0);
    w.drover(&["pki", "issue", "client", "ann", "--out", "ann"]).expect_code(0);

    for Row { words, keys: told, of_items } in rows {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let said = w.drover(&words.iter().copied().chain(["-o", "json"]).collect::<Vec<_>>());
        assert!(matches!(said.code, 0 | 8), "{words:?} ended with {}: {}", said.code, said.stderr);
        let output: Value = said.json();
        assert_eq!(output["schema"], 1, "{words:?}");
        assert_eq!(keys(&output), told, "{words:?}");
        if told.contains("items") {
            let items = output["items"].as_array().unwrap();
            assert!(!items.is_empty(), "{words:?} lists nothing");
            items.iter().for_each(|item| assert_eq!(keys(item), of_items, "{words:?}"));
        }
        let yaml = w.drover(&words.iter().copied().chain(["-o", "yaml"]).collect::<Vec<_>>());
        assert!(yaml.stdout.starts_with("schema: 1\n"), "{words:?}: {}", yaml.stdout);
    }
}
