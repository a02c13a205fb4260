//! `kind: Dataset`.

use super::{BASE, load_text};
use crate::config::{DATASETS_MAX, DATASETS_PER_AGENT_MAX};
use crate::config::{diff, encode};
use crate::ids::DatasetId;
use crate::write_right::RightSettings;

const DATASET: &str = "\
---
kind: Dataset
name: orders
holder: eu-1
members: [{agent: eu-1, peer: '127.0.0.1:1'}, {agent: us-1, peer: '127.0.0.1:2'}]
";

fn errors(from: &str, to: &str) -> String {
    let text = format!("{BASE}{}", DATASET.replacen(from, to, 1));
    assert!(text.contains(to), "{from}");
    let errors = load_text(&text).expect_err(to);
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_dataset_is_read_and_written_as_it_was() {
    let config = load_text(&format!("{BASE}{DATASET}")).unwrap().config;
    let dataset = &config.datasets[&DatasetId::new("orders").unwrap()];
    assert_eq!(dataset.write_right, RightSettings::default(), "as shipped");
    assert_eq!(config.members_at(dataset, "us"), config.members_at(dataset, "us-1"));
    assert_eq!(config.members_at(dataset, "watch"), []);
    let again = load_text(&encode::to_yaml(&config)).unwrap().config;
    assert_eq!(again, config);
    let without = load_text(BASE).unwrap().config;
    assert_eq!(diff::diff(&without, &config)[0].path, "dataset/orders");
}

#[test]
fn what_can_not_be_kept_is_refused_with_its_numbers() {
    for (from, to, why) in [
        ("holder: eu-1", "holder: us-2", "`holder` us-2 is none of the members"),
        ("agent: us-1", "agent: us-9", "agent `us-9` is in no region"),
        ("agent: us-1", "agent: eu-1", "agent `eu-1` is a member twice"),
        ("127.0.0.1:2", "127.0.0.1:1", "two members are reached at 127.0.0.1:1"),
        (
            "members:",
            "write_right: {retry: 2s}\nmembers:",
            "demotion 1s + drift 500ms + gate tick 500ms = 7s",
        ),
        ("members:", "write_right: {retry: 2s}\nmembers:", "make the width 7s91ms or more"),
        ("members:", "write_right: {renew: 0s}\nmembers:", "renew"),
        ("members:", "write_right: {colour: red}\nmembers:", "unknown field `colour` of write_right"),
    ] {
        let said = errors(from, to);
        assert!(said.contains(why), "{to:?} gave {said}");
    }
    let twice = format!("{BASE}{DATASET}{DATASET}");
    let said = load_text(&twice).unwrap_err().iter().map(ToString::to_string).collect::<String>();
    assert!(said.contains("dataset `orders` is defined twice"), "{said}");
}

#[test]
fn there_are_so_many_datasets_and_no_more() {
    let many = |count: usize| {
        let dataset = |n: usize| DATASET.replacen("orders", &format!("orders-{n}"), 1);
        let text = format!("{BASE}{}", (0..count).map(dataset).collect::<String>());
        let errors = load_text(&text).err().unwrap_or_default();
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(many(DATASETS_PER_AGENT_MAX), "");
    let said = many(DATASETS_PER_AGENT_MAX + 1);
    assert!(said.contains("agent `eu-1` is a member of more than 64 datasets"), "{said}");
    assert!(said.contains("agent `us-1` is a member of more than 64 datasets"), "{said}");
    let said = many(DATASETS_MAX + 1);
    assert!(said.contains("257 datasets are more than 256"), "{said}");
    assert_eq!(said.matches("more than").count(), 3, "each is told once: {said}");
}
