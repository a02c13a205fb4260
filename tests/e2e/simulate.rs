//! `drover simulate` on a directory of files. No world runs here.

use crate::world::{Said, binary};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const WORLD: &str = include_str!("../scenarios/worlds/three-regions.yaml");

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::Builder::new().prefix("simulate-").tempdir().unwrap());
        std::fs::create_dir(place.path("regions")).unwrap();
        std::fs::write(place.path("regions/world.yaml"), WORLD).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn simulate(&self, words: &[&str]) -> Said {
        let output = Command::new(binary())
            .arg("simulate")
            .args(words)
            .current_dir(self.0.path())
            .env_remove("DROVER_CONFIG")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Said::of(output)
    }
}

#[test]
fn without_a_loss_every_loss_is_judged() {
    let said = Place::new().simulate(&[]);
    assert_eq!(said.code, 8, "{}", said.stderr);
    for sentence in [
        "losing eu-west is survivable: at most, ap-south would carry 60 %",
        "losing eu-west and us-east together is not survivable",
        "ap-south would carry 120 %",
    ] {
        let words = said.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(sentence), "{sentence}: {}", said.stdout);
    }
}

#[test]
fn a_loss_is_played_with_a_table_and_a_picture() {
    let place = Place::new();
    let said = place.simulate(&["--kill", "eu-west", "--svg", "loss.svg"]);
    assert_eq!(said.code, 0, "{}\n{}", said.stdout, said.stderr);
    assert!(said.stdout.contains("moved") && said.stdout.contains("failing over eu-west"), "{}", said.stdout);
    let picture = std::fs::read_to_string(place.path("loss.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("ap-south 60 %"), "{picture}");
}

#[test]
fn many_runs_give_a_range_and_the_same_seed_the_same() {
    let place = Place::new();
    let ask = || {
        let said = place.simulate(&["--kill", "eu-west", "--runs", "8", "--seed", "3", "-o", "json"]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        said.stdout
    };
    let once = ask();
    assert_eq!(once, ask());
    let report: Value = serde_json::from_str(&once).unwrap();
    let service = &report["services"][0];
    assert_eq!((&service["affected"], &service["moved"]), (&Value::from(8), &Value::from(8)), "{service:#}");
    assert_ne!(service["rta"]["least"], service["rta"]["most"], "{service:#}");
}

#[test]
fn what_can_not_be_asked_is_refused_with_what_to_write() {
    let place = Place::new();
    for (words, sentence) in [
        (&["--kill", "eu-wets"][..], "eu-west"),
        (&["--kill", "witness"], "witness"),
        (&["--partition", "eu-west"], "--partition A,B"),
        (&["--svg", "x.svg"], "--kill REGION"),
        (&["--kill", "eu-west", "--for", "100h"], "at most"),
    ] {
        let said = place.simulate(words);
        assert_eq!(said.code, 2, "{words:?}: {}", said.stderr);
        assert!(said.stderr.contains(sentence), "{words:?}: {}", said.stderr);
    }
}
