//! Three coordinators on one cluster: one leads, and whatever becomes of it another one goes on.

use crate::cluster::Cluster;
use crate::distributed::moved;
use crate::world::{GUARD, Said, World, binary, is_well, surroundings};
use drover_model::RunId;
use drover_model::api::{LeadershipView, StatusView};
use drover_model::journal::RunState;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A role beside those of the world, with a file for what it logs. It ends with the thread that started it.
fn beside(w: &World, name: &str, words: &[&str]) -> Child {
    let log = File::create(w.path(&format!("{name}.log"))).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(binary()).args(words);
    surroundings(&mut command, w.path("").as_path());
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// A further coordinator of the world.
pub struct Further {
    pub child: Child,
    pub url: String,
}

impl Further {
    pub fn start(w: &World, name: &str) -> Self {
        let at = |what: &str| w.path(&format!("{name}.{what}")).display().to_string();
        let (state, socket, ready) = (at("state"), at("sock"), at("ready"));
        let config = w.config_path("").display().to_string();
        let words = ["coordinator", "--config", &config, "--state", &state, "--socket", &socket];
        let child =
            beside(w, name, &[&words[..], &["--listen", "127.0.0.1:0", "--ready-file", &ready]].concat());
        let bound: Value = w.wait_for(&format!("{name} serves"), |_| {
            serde_json::from_slice(&std::fs::read(&ready).ok()?).ok()
        });
        Self { child, url: format!("http://{}", bound["http"].as_str().unwrap()) }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// How it ended.
    pub fn ended(&mut self) -> i32 {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(began.elapsed() < GUARD, "{} does not end", self.url);
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Further {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Agents that tell these coordinators what they see: those of the world tell the world's own. They keep their names, and
/// each coordinator hears one of each.
pub fn agents(w: &World, coordinators: &[&str]) -> Vec<Ending> {
    let start = |(agent, region): (&drover_model::AgentId, &drover_model::RegionId)| {
        let identity = serde_json::json!({
            "agent": agent, "region": region, "coordinators": coordinators, "state_dir": w.path(&format!("{agent}.state")),
        });
        let file = w.path(&format!("{agent}.json"));
        std::fs::write(&file, identity.to_string()).unwrap();
        Ending(beside(w, agent.as_str(), &["agent", "--identity", &file.display().to_string()]))
    };
    w.config.agents().iter().map(start).collect()
}

pub struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Through this coordinator.
pub fn at(w: &World, url: &str, words: &[&str]) -> Said {
    w.drover(&[&["--coordinator", url][..], words].concat())
}

pub fn status(w: &World, url: &str) -> Option<StatusView> {
    let said = at(w, url, &["status", "-o", "json"]);
    (said.code == 0).then(|| said.json())
}

pub fn leadership(w: &World, url: &str) -> Option<LeadershipView> {
    status(w, url)?.coordinator.leadership
}

/// Which of these leads, as it says itself.
pub fn leader<'a>(w: &World, urls: &[&'a str]) -> Option<&'a str> {
    urls.iter().find(|url| leadership(w, url).is_some_and(|l| l.leads)).copied()
}

/// etcd without a quorum: what is known is still shown, and said to be old; nothing is commanded, nothing happens by itself.
#[test]
fn without_etcds_quorum_reads_go_on_and_nothing_moves() {
    let mut cluster = Cluster::start(3, &[]);
    let w = World::up();
    moved(&w, &cluster);
    let first = format!("http://{}", w.config.settings.listen);
    let b = Further::start(&w, "b");
    let _agents = agents(&w, &[&b.url]);
    let reads = |url: &str| status(&w, url).filter(is_well);
    w.wait_for("a follower knows what the agents know", |_| reads(&b.url));
    w.wait_for("the leader knows the follower", |w| {
        leadership(w, &first).filter(|l| l.followers.iter().any(|f| f.url == b.url && f.silent.is_none()))
    });
    let before = w.status();

    cluster.kill_all();
    let says = |url: &str, code: &str| {
        status(&w, url).filter(|s| s.attention.iter().any(|a| a.code == code && a.next.is_some()))
    };
    let told = w.wait_for("the follower says that it shows what was", |_| says(&b.url, "store_unread"));
    assert_eq!(told.services.len(), before.services.len());
    assert!(told.services.iter().all(|s| s.endpoints.iter().any(|e| e.weight.0 > 0)), "{told:?}");
    w.wait_for("the leader says that it waits", |_| says(&first, "leader_waits"));
    let runs = at(&w, &b.url, &["run", "list"]).expect_code(0);
    assert!(runs.stderr.contains("as of"), "{}", runs.stderr);
    let refused = at(&w, &first, &["freeze", "--for", "1h", "--reason", "no surprises"]).expect_code(6);
    assert!(refused.stderr.contains("etcdctl endpoint health"), "{}", refused.stderr);

    w.drover(&["break", "eu-west"]).expect_code(0);
    w.wait_for("the follower sees the region die", |_| {
        status(&w, &b.url).filter(|s| {
            s.services
                .iter()
                .flat_map(|s| &s.endpoints)
                .any(|e| e.verdict == drover_model::decision::VerdictState::Down)
        })
    });
    assert_eq!(w.answered("checkout"), ["ap-south", "eu-west", "us-east"], "DNS answers as before");
    assert_eq!(status(&w, &first).unwrap().runs.len(), before.runs.len());

    cluster.start_all();
    w.until("the failover takes place once the store is back", |s| {
        s.runs.iter().any(|r| r.state == RunState::Succeeded)
    });
    assert_eq!(w.status().coordinator.epoch, before.coordinator.epoch, "nobody took over");
    w.wait_for("the follower shows what is", |_| {
        status(&w, &b.url).filter(|s| s.coordinator.store_unread.is_none())
    });
}

#[test]
fn a_leader_that_is_killed_told_to_end_or_stopped_is_followed_by_another() {
    let cluster = Cluster::start(3, &[]);
    let w = World::up();
    moved(&w, &cluster);
    let first = format!("http://{}", w.config.settings.listen);
    let (b, c) = (Further::start(&w, "b"), Further::start(&w, "c"));
    let urls = [b.url.clone(), c.url.clone()];
    let _agents = agents(&w, &[&urls[0], &urls[1]]);
    for url in &urls {
        w.wait_for("a follower knows what the agents know", |w| status(w, url).filter(is_well));
        let l = leadership(&w, url).unwrap();
        assert!(
            !l.leads && l.leader.as_ref() == Some(&first) && l.answered_by.as_ref() == Some(url),
            "{l:?}"
        );
    }

    // A plan and its application through a follower, and the death of the leader in the middle of it.
    let plan = ["drain", "us-east", "--for", "1h", "--reason", "kernel update", "-o", "json", "--plan"];
    let made: Value = at(&w, &urls[0], &plan).expect_code(8).json();
    let plan = made["planned"]["plan"]["id"].as_str().unwrap();
    let apply = ["apply", plan, "--reason", "as agreed", "--yes", "--no-wait", "-o", "json"];
    let begun: Value = at(&w, &urls[1], &apply).expect_code(0).json();
    let run: RunId = begun["id"].as_str().unwrap().parse().unwrap();
    w.until("the traffic moves", |s| s.runs.iter().any(|r| r.id == run && r.state == RunState::Running));
    let before = w.status().coordinator.epoch;
    w.coordinator().signal(Signal::SIGKILL);
    let next = w.wait_for("another one leads", |w| leader(w, &[&urls[0], &urls[1]])).to_owned();
    // Whoever names all of them need not know which one lives.
    let all = format!("http://127.0.0.1:1,{next}");
    at(&w, &all, &["run", "follow", run.as_str()]).expect_code(0);
    w.wait_for("the run is over for a follower, too", |w| {
        w.run_now(&run).filter(|r| r.summary.state == RunState::Succeeded)
    });
    assert_eq!(w.answered("checkout"), ["ap-south", "eu-west"]);
    let epoch = status(&w, &next).unwrap().coordinator.epoch;
    assert_eq!((epoch.incarnation, epoch.counter), (before.incarnation, before.counter + 1));

    // Told to end, it hands over.
    let (mut old, mut other) = if next == b.url { (b, c) } else { (c, b) };
    w.wait_for("the first one follows", |w| leadership(w, &first).filter(|l| !l.leads));
    old.signal(Signal::SIGTERM);
    assert_eq!(old.ended(), 0);
    let heir = w.wait_for("another one leads", |w| leader(w, &[&first, &other.url])).to_owned();
    at(
        &w,
        &format!("http://127.0.0.1:1,{}", other.url),
        &["freeze", "--for", "1h", "--reason", "no surprises"],
    )
    .expect_code(0);
    assert_eq!(status(&w, &heir).unwrap().coordinator.epoch.counter, epoch.counter + 1);

    // Stopped past the bound, its next write is refused.
    let stopped = if heir == first { w.coordinator().pid } else { i32::try_from(other.child.id()).unwrap() };
    let rest = if heir == first { other.url.clone() } else { first.clone() };
    kill(Pid::from_raw(stopped), Signal::SIGSTOP).unwrap();
    w.wait_for("another one leads", |w| leader(w, &[&rest]));
    kill(Pid::from_raw(stopped), Signal::SIGCONT).unwrap();
    if heir == first {
        w.wait_for("it ended and was started again", |w| (w.coordinator().pid != stopped).then_some(()));
        w.wait_for("it follows", |w| leadership(w, &first).filter(|l| !l.leads));
    } else {
        assert_eq!(other.ended(), 9, "deposed");
    }
    let status = status(&w, &rest).unwrap();
    assert_eq!(status.coordinator.epoch.counter, epoch.counter + 2);
    assert!(status.freeze.is_some());
}
