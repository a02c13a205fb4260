//! The demo: whole, and however it ends. It leaves nothing behind.
//!
//! Every process of a world carries the number of the demo's process on its command line, so that those of one run can be
//! told from those of another that happens at the same time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code, also the helpers")]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Ten times what a world needs on a busy machine.
const GUARD: Duration = Duration::from_secs(60);

/// Waits until `what` holds; a hang guard, not a measure.
fn until(why: &str, mut what: impl FnMut() -> bool) {
    let began = Instant::now();
    while !what() {
        assert!(began.elapsed() < GUARD, "{why}: not within {} s", GUARD.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The command lines of the living processes that `parent` started.
fn children(parent: u32) -> Vec<String> {
    let mark = format!("--die-with-parent={parent}");
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|p| std::fs::read(p.path().join("cmdline")).ok());
    let words = |line: Vec<u8>| String::from_utf8_lossy(&line).replace('\0', " ");
    lines.map(words).filter(|line| line.split(' ').any(|w| w == mark)).collect()
}

/// Starts `drover WORDS`, with its temporary files in `directory`, and waits for all of its world.
fn start(words: &[&str], directory: &Path) -> Child {
    let child = Command::new(env!("CARGO_BIN_EXE_drover"))
        .args(words)
        .env("TMPDIR", directory)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Six services, references, two DNS servers, coordinator, four agents.
    until("the world comes up", || children(child.id()).len() == 14);
    child
}

fn end(mut child: Child, signal: Signal) -> Option<i32> {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
    let pid = child.id();
    let mut status = None;
    until("the demo ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    until("its processes end", || children(pid).is_empty());
    status.and_then(|s| s.code())
}

/// Reads what the demo says until `word` is in it, and the rest on a thread, so that it is never held up.
fn hear(child: &mut Child, word: &str) {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains(word)), "the demo ended and never said {word:?}");
    std::thread::spawn(move || lines.for_each(drop));
}

/// Ten times what it takes.
const WHOLE_GUARD: Duration = Duration::from_secs(600);

/// Plays `drover demo WORDS`; its scenes, all of whose expectations were met.
fn play(words: &[&str]) -> Vec<serde_json::Value> {
    let directory = tempfile::tempdir().unwrap();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_drover"))
        .args(["demo", "-o", "json"])
        .args(words)
        .env("TMPDIR", directory.path())
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = demo.stderr.take().unwrap();
    let complaining = std::thread::spawn(move || std::io::read_to_string(&mut stderr).unwrap());
    let mut stdout = demo.stdout.take().unwrap();
    let reading = std::thread::spawn(move || std::io::read_to_string(&mut stdout).unwrap());
    let began = Instant::now();
    let status = loop {
        match demo.try_wait().unwrap() {
            Some(status) => break status,
            None => assert!(began.elapsed() < WHOLE_GUARD, "the demo hangs"),
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let (said, complained) = (reading.join().unwrap(), complaining.join().unwrap());
    let report: serde_json::Value =
        serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}{complained}"));
    let scenes = report["scenes"].as_array().unwrap();
    let unmet =
        scenes.iter().flat_map(|s| s["expectations"].as_array().unwrap()).filter(|e| e["met"] != true);
    assert_eq!(unmet.collect::<Vec<_>>(), Vec::<&serde_json::Value>::new());
    assert!(status.code() == Some(0) && report["met"] == true, "{status}: {said}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "files are left");
    scenes.clone()
}

#[test]
fn every_scene_ends_as_it_was_told_to() {
    let scenes = play(&[]);
    let numbers: Vec<_> = scenes.iter().map(|s| s["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    let ramp = scenes[4]["ramp"].as_array().unwrap();
    let shares: Vec<&str> = ramp.iter().map(|s| s["of_its_share"].as_str().unwrap()).collect();
    assert_eq!(shares, ["1%", "5%", "25%", "50%", "100%"]);
    let samples =
        |s: &serde_json::Value| s["own_samples"].as_array().unwrap().iter().all(|n| n.as_u64() >= Some(20));
    assert!(ramp.iter().all(samples), "{ramp:#?}");
    let phases = |scene: usize| -> Vec<&str> {
        scenes[scene]["phases"].as_array().unwrap().iter().map(|p| p["phase"].as_str().unwrap()).collect()
    };
    let recovery = ["detection", "decision", "publication", "drain", "validation", "after"];
    assert_eq!(phases(0), recovery);
    assert_eq!(phases(3), recovery);
    assert_eq!(
        phases(2),
        ["detection", "decision", "approval", "publication", "drain", "validation", "after"]
    );
}

#[test]
fn a_failover_that_changes_hands_publishes_once_at_servers_of_others() {
    for server in ["bind", "knot", "powerdns", "route53"] {
        let scenes = play(&["--dns", server, "--scene", "4"]);
        assert_eq!(scenes.len(), 1, "{server}");
    }
}

#[test]
fn a_ramp_is_not_played_on_servers_that_know_no_weights() {
    let refused = Command::new(env!("CARGO_BIN_EXE_drover"))
        .args(["demo", "--dns", "knot", "--scene", "5"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(2) && said.contains("needs weights"), "{said}");
}

#[test]
fn a_demo_that_is_interrupted_leaves_neither_processes_nor_files() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let directory = tempfile::tempdir().unwrap();
        let mut child = start(&["demo", "--scene", "2"], directory.path());
        // Once as early as can be, once in the middle of a scene.
        if signal == Signal::SIGTERM {
            hear(&mut child, "packets are dropped:");
        }
        let code = end(child, signal);
        assert_eq!(code, Some(4), "an interrupted demo has not met its expectations");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "files are left after {signal}");
    }
}

#[test]
fn a_demo_that_is_killed_leaves_no_process() {
    let directory = tempfile::tempdir().unwrap();
    end(start(&["demo", "--scene", "2"], directory.path()), Signal::SIGKILL);
}

#[test]
fn a_world_is_found_while_it_is_up_and_gone_after() {
    let directory = tempfile::tempdir().unwrap();
    let child = start(&["up"], directory.path());
    let world = directory.path().join(".drover/world.json");
    until("the world says where it is", || world.exists());
    let drover = |words: &[&str]| {
        let ran = Command::new(env!("CARGO_BIN_EXE_drover"))
            .args(words)
            .current_dir(directory.path())
            .output()
            .unwrap();
        (ran.status.code(), String::from_utf8_lossy(&ran.stdout).into_owned())
    };
    let (code, said) = drover(&["status", "--all"]);
    assert!(code == Some(0) && said.contains("eu-west"), "{code:?}: {said}");
    assert_eq!(drover(&["break", "atlantis"]).0, Some(2), "there is no such region");
    let before = children(child.id()).len();
    let (code, said) = drover(&["break", "eu-west"]);
    assert!(code == Some(0) && said.contains("eu-west is dead"), "{code:?}: {said}");
    assert_eq!(children(child.id()).len(), before - 3, "two services and an agent");
    assert_eq!(drover(&["heal"]).0, Some(0));
    assert_eq!(children(child.id()).len(), before);
    assert_eq!(end(child, Signal::SIGINT), Some(0), "Ctrl-C is how it is meant to end");
    assert!(!world.exists());
    assert_eq!(drover(&["heal"]).0, Some(3), "nothing is broken where no sample world runs");
}
