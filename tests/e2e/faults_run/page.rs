//! `docs/failure-modes.md` tells the truth: every item of the checklist is there, and every test that it names exists.

use std::collections::BTreeSet;
use std::path::Path;

const PAGE: &str = include_str!("../../../docs/failure-modes.md");
const ITEMS: u32 = 40;

/// The names of all test functions of the repository.
fn tests_below(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut lines = text.lines().map(str::trim_start);
            while let Some(line) = lines.next() {
                if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                    let function = lines.by_ref().find_map(|l| l.split_once("fn ").map(|(_, rest)| rest));
                    found.extend(function.and_then(|f| f.split('(').next()).map(str::to_owned));
                }
            }
        }
    }
}

#[test]
fn every_item_of_the_checklist_is_held_by_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut tests = BTreeSet::new();
    tests_below(&root.join("crates"), &mut tests);
    tests_below(&root.join("tests"), &mut tests);
    assert!(tests.len() > 400, "{} tests found", tests.len());

    let mut items = 1..=ITEMS;
    let rows = PAGE.lines().filter(|l| l.starts_with("| ") && l.as_bytes()[2].is_ascii_digit());
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [item, _, does, held_by] = cells[..] else { panic!("not four cells: {row}") };
        assert_eq!(item.parse().ok(), items.next(), "{row}");
        let names: Vec<&str> = held_by.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            assert!(held_by.contains("part ") && does.is_empty(), "item {item} is held by nothing: {row}");
        }
        for name in names {
            let there = if name.ends_with(".txt") {
                root.join("tests/scenarios").join(name).exists()
            } else {
                tests.contains(name)
            };
            assert!(there, "item {item} names `{name}`, which does not exist");
        }
    }
    assert_eq!(items.next(), None, "items are missing at the end");
}

/// A story begins with the item that its file is named after.
#[test]
fn every_story_cites_its_item() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((item, _)) = name.split_once('-').filter(|_| name.ends_with(".txt")) else { continue };
        let item: u32 = item.parse().unwrap_or_else(|e| panic!("{name}: {e}"));
        let text = std::fs::read_to_string(entry.path()).unwrap();
        assert!(text.starts_with(&format!("# item {item}:")), "{name}: {:?}", text.lines().next());
        assert!((1..=ITEMS).contains(&item), "{name}");
    }
}
