//! The coordinator's disk is filled to its last block by somebody else, before a failover and in the middle of one.
//!
//! The disk is a small tmpfs in a mount namespace of the world's own. Whatever DNS was told must have been written down
//! before, and what was written down must still be there after a SIGKILL on the full disk (I1, checklist 13): so the
//! journal that counts is the one that the successor reads.

use super::SEEN_FOR;
use super::role::says;
use crate::wire;
use crate::world::{Setup, World, is_well, weights};
use drover_model::RunId;
use drover_model::api::{Severity, StatusView, TimelineEntry};
use drover_model::decision::VerdictState;
use drover_model::journal::{Entry, RunState};
use nix::sys::signal::{Signal, kill};
use nix::sys::statvfs::statvfs;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The store, its history and the journal's reserve of 16 MiB, with as much again for an ordinary life.
const DISK_MEBIBYTES: u32 = 48;
/// Room for the journal and not for anything else, without its reserve.
const JOURNAL_ONLY_BYTES: u64 = 3 << 20;
/// Between two looks for room that was made.
const FILL_EVERY: Duration = Duration::from_millis(10);

/// How this machine lets a process have mounts of its own: for starting it, and for joining it.
struct Namespaces {
    unshare: &'static [&'static str],
    nsenter: &'static [&'static str],
}

const AS_ROOT: Namespaces =
    Namespaces { unshare: &["unshare", "--mount", "--"], nsenter: &["nsenter", "--mount"] };
const AS_USER: Namespaces = Namespaces {
    unshare: &["unshare", "--user", "--map-root-user", "--mount", "--"],
    nsenter: &["nsenter", "--user", "--preserve-credentials", "--mount"],
};

impl Namespaces {
    fn of_this_machine() -> &'static Self {
        let works = |n: &&Self| {
            let tried = Command::new(n.unshare[0]).args(&n.unshare[1..]).arg("true").output();
            tried
                .unwrap_or_else(|e| panic!("unshare: {e}; install it: apt-get install -y util-linux"))
                .status
                .success()
        };
        [&AS_ROOT, &AS_USER].into_iter().find(works).expect(
            "a full disk needs a mount namespace: run the tests as root, or allow user namespaces: \
             sysctl -w kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0",
        )
    }

    /// Runs a shell script among the mounts of the world.
    fn inside(&self, w: &World, script: &str) -> Output {
        let target = format!("--target={}", w.keeper());
        let mut line = Command::new(self.nsenter[0]);
        line.arg(target).args(&self.nsenter[1..]).args(["--", "sh", "-ec", script]);
        line.output().unwrap_or_else(|e| panic!("nsenter: {e}; install it: apt-get install -y util-linux"))
    }
}

/// A world whose coordinator has a small disk to itself.
fn world() -> World {
    let namespaces = Namespaces::of_this_machine();
    let under = namespaces.unshare.iter().map(ToString::to_string).collect();
    let w = World::start(Setup { under, ..Setup::default() });
    let (epoch, coordinator) = (w.status().coordinator.epoch, w.coordinator());
    // Nobody starts it again while its files move.
    kill(w.keeper(), Signal::SIGSTOP).unwrap();
    coordinator.signal(Signal::SIGKILL);
    w.wait_for("it is dead", |_| {
        let stat = fs::read_to_string(format!("/proc/{}/stat", coordinator.pid)).ok()?;
        stat.contains(") Z ").then_some(())
    });
    let moved = namespaces.inside(
        &w,
        &format!(
            "cd '{}'; cp -a coordinator kept; mount -t tmpfs -o size={DISK_MEBIBYTES}m tmpfs coordinator; \
             cp -a --sparse=never kept/. coordinator/; rm -r kept",
            w.files().display()
        ),
    );
    kill(w.keeper(), Signal::SIGCONT).unwrap();
    assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
    w.until("it leads again, from its small disk", |s| s.coordinator.epoch > epoch && is_well(s));
    assert!(w.status().coordinator.store_failing.is_none(), "the disk is too small for an ordinary day");
    w
}

/// Somebody else's file, which takes all the room but some, and all that is made, until this value is dropped.
struct Ballast {
    path: PathBuf,
    /// Bytes that it leaves free.
    left: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ballast {
    fn fill(w: &World, left: u64) -> Self {
        // The disk as the world sees it.
        let root = PathBuf::from(format!("/proc/{}/root", w.keeper()));
        let path = root.join(w.files().strip_prefix("/").unwrap()).join("coordinator/ballast");
        let (mut file, at) = (File::create(&path).unwrap(), path.clone());
        let (left, stop) = (Arc::new(AtomicU64::new(left)), Arc::new(AtomicBool::new(false)));
        let (leave, stopped) = (left.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let block = vec![0x5a; 64 << 10];
            while !stopped.load(Ordering::Relaxed) {
                let free = statvfs(&at).map_or(0, |s| s.blocks_available() * s.fragment_size());
                // What fits of a block is written before it fails.
                if free <= leave.load(Ordering::Relaxed) || file.write_all(&block).is_err() {
                    std::thread::sleep(FILL_EVERY);
                }
            }
        });
        Self { path, left, stop, thread: Some(thread) }
    }

    /// Nothing is left free from now on.
    fn fill_up(&self) {
        self.left.store(0, Ordering::Relaxed);
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = fs::remove_file(&self.path);
    }
}

/// Waits until the reserve is used up as well, which is said everywhere.
fn until_alarmed(w: &World) {
    let status = w.until("the alarm", |s| {
        let failing = s.coordinator.store_failing.as_deref().unwrap_or_default();
        failing.contains("reserve") || failing.contains("takes no writes")
    });
    let alarm = status.attention.iter().find(|a| a.code == "store_failing");
    let alarm = alarm.unwrap_or_else(|| panic!("nothing of it in {:?}", status.attention));
    assert_eq!(alarm.severity, Severity::Critical);
    assert!(
        alarm.sentence.contains(&w.files().join("coordinator").display().to_string()),
        "{}",
        alarm.sentence
    );
    let doctor = w.drover(&["doctor"]);
    assert_eq!(doctor.code, 8, "{}", doctor.stderr);
    assert!(says(&doctor.stdout, "free some space"), "{}", doctor.stdout);
    let metrics = metrics(w);
    assert!(metrics.lines().any(|l| l == "drover_store_failing{} 1.0"), "{metrics}");
}

fn metrics(w: &World) -> String {
    let socket = w.files().join("coordinator.sock");
    wire::over_socket(&socket, "/metrics").1
}

/// What DNS was told so far: the key of each batch, and the generation that each record set came to.
fn told(w: &World) -> (Vec<String>, BTreeMap<String, u64>) {
    let control = w.config.settings.dns.as_ref().unwrap().embedded().unwrap().instances[0].control;
    let (status, said) = wire::http(control, "GET", "/v1/changes", "").unwrap();
    assert_eq!(status, 200, "{said}");
    let (mut keys, mut live) = (Vec::new(), BTreeMap::new());
    for batch in said["applied"].as_array().unwrap() {
        keys.push(batch["idempotency_key"].as_str().unwrap().to_owned());
        for change in batch["changes"].as_array().unwrap() {
            let (set, to) = (change["key"].to_string(), change["to_generation"].as_u64().unwrap());
            let before = live.insert(set, to);
            assert_eq!(before, change["from_generation"].as_u64(), "a change was made twice: {said}");
            assert!(before.is_none_or(|b| b < to), "{said}");
        }
    }
    (keys, live)
}

/// Everything that DNS was told has its intent in the journal, or in the target, that the coordinator has now.
#[track_caller]
fn all_was_intended(w: &World) {
    let (keys, live) = told(w);
    let status = w.status();
    for (set, generation) in live {
        let service = status.services.iter().find(|s| set.contains(&s.dns_name)).unwrap();
        assert!(
            generation <= service.generation.0,
            "{set} is at {generation}, its target at {}",
            service.generation
        );
    }
    for key in keys.iter().filter(|k| k.starts_with("run-")) {
        let (run, step) = key.split_once('/').unwrap();
        let run = w.run(&RunId::new(run).unwrap());
        let index =
            run.steps.iter().position(|s| s.id == step).unwrap_or_else(|| panic!("{key}: {:?}", run.steps));
        let is_it = |step: u32| usize::try_from(step) == Ok(index);
        let begun = |t: &TimelineEntry| matches!(t.entry, Entry::StepStarted { step, .. } if is_it(step));
        assert!(run.timeline.iter().any(begun), "{key} has no intent in {:?}", run.timeline);
    }
}

/// Entries by run, as the coordinator tells them now.
fn timelines(w: &World) -> BTreeMap<RunId, Vec<Entry>> {
    let runs = w.status().runs.into_iter().map(|r| r.id);
    runs.map(|id| (id.clone(), w.run(&id).timeline.into_iter().map(|t| t.entry).collect())).collect()
}

/// Kills the coordinator on the full disk, makes room, and waits for its successor to end the failover.
fn ends_right(w: &World, ballast: Ballast) {
    let (epoch, before, (keys, _)) = (w.status().coordinator.epoch, timelines(w), told(w));
    w.coordinator().signal(Signal::SIGKILL);
    drop(ballast);
    let status = w.until("its successor ends the failover, and the disk is as it was", |s| {
        s.coordinator.epoch > epoch
            && s.coordinator.store_failing.is_none()
            && s.runs.iter().any(|r| r.state == RunState::Succeeded)
    });
    assert_eq!(status.runs.len(), 1, "{:?}", status.runs);
    all_was_intended(w);
    let (after, (keys_after, _)) = (timelines(w), told(w));
    assert_eq!(keys_after[..keys.len()], keys);
    for (run, entries) in before {
        let kept = &after[&run];
        assert_eq!(kept[..entries.len()], entries, "{run} lost what was journaled");
    }
    for service in ["checkout", "catalog"] {
        let expected = [("ap-south".to_owned(), 50), ("eu-west".to_owned(), 0), ("us-east".to_owned(), 50)];
        assert_eq!(weights(&status, service), expected);
        assert_eq!(w.answered(service), ["ap-south", "us-east"]);
    }
}

/// Pages that people got so far.
fn pages(w: &World) -> String {
    fs::read_to_string(w.files().join("pages.json")).unwrap_or_default()
}

#[test]
fn a_disk_that_is_full_before_a_failover() {
    let w = world();
    let ballast = Ballast::fill(&w, JOURNAL_ONLY_BYTES);
    let early = |s: &StatusView| {
        s.coordinator.store_failing.as_deref().is_some_and(|why| why.contains("only the journal is written"))
    };
    let epoch = w.until("the alarm, while the reserve is still there", early).coordinator.epoch;
    w.coordinator().signal(Signal::SIGKILL);
    w.until("its successor leads all the same", |s| s.coordinator.epoch > epoch && early(s));
    ballast.fill_up();
    until_alarmed(&w);
    w.wait_for("people are told, from the reserve", |w| pages(w).contains("store_failing").then_some(()));
    let refused = w.drover(&["rearm", "checkout", "--reason", "is anything written?"]).expect_code(4);
    assert!(says(&refused.stderr, "free some space") && says(&refused.stderr, "df -h"), "{}", refused.stderr);

    w.drover(&["break", "eu-west"]).expect_code(0);
    w.until("the failure is concluded all the same", |s| {
        let lost = |v| matches!(v, VerdictState::Down | VerdictState::Unreachable);
        s.services.iter().flat_map(|s| &s.endpoints).filter(|e| lost(e.verdict)).count() == 2
    });
    w.stays_for(SEEN_FOR, "the alarm stands", |s| s.coordinator.store_failing.is_some());
    all_was_intended(&w);
    ends_right(&w, ballast);
}

#[test]
fn a_disk_that_is_full_in_the_middle_of_a_failover() {
    let w = world();
    w.drover(&["break", "eu-west"]).expect_code(0);
    w.until("the failover runs", |s| !s.runs.is_empty());
    let ballast = Ballast::fill(&w, 0);
    until_alarmed(&w);
    ends_right(&w, ballast);
}
