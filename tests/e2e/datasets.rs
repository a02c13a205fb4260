//! Write rights with real processes: three agents, a register behind a gate beside each, one coordinator. Whatever happens, no
//! register writes at a generation after another one wrote at the next (I5).

use crate::faults::role::{Role, Site, says, wait_for};
use crate::world::{GUARD, Said, binary, surroundings};
use drover_model::api::{DatasetView, RightStanding};
use drover_model::config::{Dataset, DatasetMember};
use drover_model::write_right::{RightSettings, WriteGeneration};
use drover_model::{AgentId, DatasetId};
use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const MEMBERS: [(&str, &str); 3] =
    [("eu-west-1", "eu-west"), ("us-east-1", "us-east"), ("ap-south-1", "ap-south")];
const HOLDER: usize = 0;
const TARGET: usize = 1;

/// An address that nobody has.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// An agent with its gate and its register.
struct Member {
    agent: Role,
    gate: Role,
    register: SocketAddr,
}

struct Fleet {
    site: Site,
    api: SocketAddr,
    coordinator: Option<Role>,
    peers: [SocketAddr; 3],
    members: Vec<Member>,
}

#[derive(Deserialize)]
struct Items {
    items: Vec<DatasetView>,
}

impl Fleet {
    /// Starts all of it, and waits until the holder's register writes.
    fn start() -> Self {
        Self::of(Site::new(), free())
    }

    /// The same, with agents that have certificates: their members ask each other by TLS.
    fn certified() -> Self {
        let peers = MEMBERS.map(|_| free());
        let fleet = Self { site: Site::new(), api: free(), coordinator: None, peers, members: Vec::new() };
        fleet.drover(&["pki", "init"]).expect_code(0);
        for (name, region) in MEMBERS {
            fleet.drover(&["pki", "issue", "agent", name, "--region", region, "--out", name]).expect_code(0);
        }
        Self::of(fleet.site, fleet.api)
    }

    fn of(site: Site, api: SocketAddr) -> Self {
        let peers = MEMBERS.map(|_| free());
        let members = MEMBERS.iter().zip(peers);
        let members =
            members.map(|((name, _), peer)| DatasetMember { agent: AgentId::new(*name).unwrap(), peer });
        let name = DatasetId::new("orders").unwrap();
        let dataset = Dataset {
            name: name.clone(),
            holder: AgentId::new(MEMBERS[HOLDER].0).unwrap(),
            members: members.collect(),
            write_right: RightSettings::default(),
        };
        site.configure(|config| {
            config.settings.dns = None;
            config.datasets.insert(name, dataset);
        });
        let mut fleet = Self { site, api, coordinator: None, peers, members: Vec::new() };
        fleet.start_coordinator();
        for (at, peer) in peers.into_iter().enumerate() {
            let member = fleet.member(at, peer);
            fleet.members.push(member);
        }
        fleet.until_written(HOLDER, 1);
        // A target must be one that the holder is known to ask.
        wait_for("the others could take over", || (fleet.dataset().ready.len() == 2).then_some(()));
        fleet
    }

    fn start_coordinator(&mut self) {
        let state = self.site.path("state");
        let mut role = self.site.coordinator("coordinator", &[], &self.api.to_string(), &state);
        role.ready();
        self.coordinator = Some(role);
    }

    fn kill_coordinator(&mut self) {
        let mut role = self.coordinator.take().unwrap();
        role.signal(Signal::SIGKILL);
        role.ended();
    }

    fn member(&self, at: usize, peer: SocketAddr) -> Member {
        let (name, region) = MEMBERS[at];
        let (register, socket) = (free(), self.site.path(&format!("{name}.gate.sock")));
        let program = env!("CARGO_BIN_EXE_drover-test-register");
        let command = json!([program, register.to_string(), self.log(at)]);
        let gate = json!({"dataset": "orders", "socket": socket, "command": command});
        let mut identity = json!({
            "agent": name, "region": region, "coordinators": [format!("http://{}", self.api)],
            "state_dir": self.site.path(&format!("{name}.state")), "peer_listen": peer,
            "datasets": [{"name": "orders", "gate": socket}],
        });
        if self.site.path(name).exists() {
            let file = |file: &str| self.site.path(name).join(file);
            identity["tls"] = json!({
                "ca": file("ca.pem"), "certificate": file("certificate.pem"), "key": file("key.pem"), "crl": file("crl.pem"),
            });
        }
        let files = [("gate", gate), ("agent", identity)].map(|(what, text)| {
            let file = self.site.path(&format!("{name}.{what}.yaml"));
            fs::write(&file, text.to_string()).unwrap();
            file.display().to_string()
        });
        let mut gate = self.site.start(&format!("{name}.gate"), &[], &["gate", "--config", &files[0]]);
        gate.ready();
        let agent = self.site.start(name, &[], &["agent", "--identity", &files[1]]);
        Member { agent, gate, register }
    }

    fn log(&self, at: usize) -> String {
        self.site.path(&format!("{}.register", MEMBERS[at].0)).display().to_string()
    }

    /// One write to a register: the generation at which it was acknowledged, if it was.
    fn write(&self, at: usize) -> Option<u64> {
        let mut stream = TcpStream::connect(self.members[at].register).ok()?;
        stream.set_read_timeout(Some(GUARD)).unwrap();
        writeln!(stream, "{}", self.members[at].register.port()).ok()?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).ok()?;
        answer.split(' ').next()?.parse().ok()
    }

    /// Waits until this register acknowledges, at this generation; the others are written to meanwhile.
    fn until_written(&self, at: usize, generation: u64) {
        let what = format!("{} writes at {generation}: {}", MEMBERS[at].0, self.logs());
        wait_for(&what, || {
            let written: Vec<_> = (0..self.members.len()).map(|member| self.write(member)).collect();
            (written[at] == Some(generation)).then_some(())
        });
    }

    /// Waits until nobody acknowledges anything at this register.
    fn until_silent(&self, at: usize) {
        wait_for(&format!("{} writes no more", MEMBERS[at].0), || self.write(at).is_none().then_some(()));
    }

    fn logs(&self) -> String {
        let roles = self.members.iter().flat_map(|m| [m.agent.log(), m.gate.log()]);
        roles.chain(self.coordinator.as_ref().map(Role::log)).collect::<Vec<_>>().join("\n")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary());
        surroundings(&mut command, &self.site.path(""));
        command.args(words).args(["--coordinator", &format!("http://{}", self.api)]).stdin(Stdio::null());
        command
    }

    fn drover(&self, words: &[&str]) -> Said {
        Said::of(self.command(words).output().unwrap())
    }

    fn dataset(&self) -> DatasetView {
        let said = self.drover(&["dataset", "status", "orders", "-o", "json"]);
        said.json::<Items>().items.remove(0)
    }

    fn move_to_target(&self) -> Said {
        self.drover(&["dataset", "move", "orders", "--to", MEMBERS[TARGET].1, "--reason", "test", "--yes"])
    }

    /// I5, from what the registers themselves kept: every write at a generation was before every write at a later one.
    #[track_caller]
    fn check(&self) -> BTreeMap<u64, usize> {
        let mut first = BTreeMap::<u64, u128>::new();
        let mut last = BTreeMap::<u64, u128>::new();
        let mut writers = BTreeMap::<u64, usize>::new();
        for at in 0..MEMBERS.len() {
            for line in fs::read_to_string(self.log(at)).unwrap_or_default().lines() {
                let words: Vec<&str> = line.split(' ').collect();
                // The last line of a register that was killed may be cut off.
                let [_, generation, _, nanoseconds] = words.as_slice() else { continue };
                let generation: u64 = generation.parse().unwrap();
                let when: u128 = nanoseconds.parse().unwrap();
                first.entry(generation).and_modify(|first| *first = when.min(*first)).or_insert(when);
                last.entry(generation).and_modify(|last| *last = when.max(*last)).or_insert(when);
                let writer = *writers.entry(generation).or_insert(at);
                assert_eq!(writer, at, "two writers at generation {generation}: {}", self.logs());
            }
        }
        for (generation, ended) in &last {
            if let Some((later, began)) = first.range(generation + 1..).next() {
                assert!(ended < began, "a write at {generation} after one at {later}: {}", self.logs());
            }
        }
        writers
    }
}

#[test]
fn a_right_moves_to_another_region_and_back_and_no_older_write_follows() {
    let fleet = Fleet::start();
    assert_eq!(fleet.dataset().standing, RightStanding::Held);
    let said = fleet.move_to_target().expect_code(0);
    assert!(said.stdout.contains("us-east-1 holds the right at generation 2"), "{said:?}");
    fleet.until_written(TARGET, 2);
    assert_eq!(fleet.write(HOLDER), None);
    // The old holder is asked about once the new one has heard of it; then it may have the right back.
    wait_for("the old holder could take over", || (fleet.dataset().ready.len() == 2).then_some(()));
    let back = ["dataset", "move", "orders", "--to", "eu-west-1", "--reason", "back", "--yes"];
    fleet.drover(&back).expect_code(0);
    fleet.until_written(HOLDER, 3);
    assert_eq!(fleet.check(), BTreeMap::from([(1, HOLDER), (2, TARGET), (3, HOLDER)]));
    let again = fleet.drover(&back).expect_code(3);
    assert!(again.stderr.contains("has the write right of orders already"), "{again:?}");
    let audit = fleet.drover(&["log"]).expect_code(0).stdout;
    assert!(audit.contains("dataset move") && audit.contains("dataset move ended"), "{audit}");
}

/// The agent can't stop its database; the gate does. A leader that dies while it waits is followed by one that goes on.
#[test]
fn an_agent_that_is_stopped_has_its_database_stopped_and_another_one_writes() {
    let mut fleet = Fleet::start();
    fleet.members[HOLDER].agent.signal(Signal::SIGSTOP);
    fleet.until_silent(HOLDER);
    wait_for("the right lapsed", || (fleet.dataset().standing == RightStanding::Lapsed).then_some(()));
    assert_eq!(fleet.drover(&["dataset", "status"]).code, 8, "nobody writes");
    wait_for("status says so", || {
        says(&fleet.drover(&["status"]).stdout, "dataset move orders").then_some(())
    });
    let words = ["dataset", "move", "orders", "--to", MEMBERS[TARGET].1, "--reason", "test", "--yes"];
    let mut asking = fleet.command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the move began", || fleet.dataset().last_move);
    fleet.kill_coordinator();
    fleet.start_coordinator();
    fleet.until_written(TARGET, 2);
    let _ = asking.kill();
    asking.wait().unwrap();
    fleet.members[HOLDER].agent.signal(Signal::SIGCONT);
    // It learns that another one writes, and is asked about from then on.
    wait_for("the old holder follows", || (fleet.dataset().ready.len() == 2).then_some(()));
    fleet.until_written(TARGET, 2);
    assert_eq!(fleet.write(HOLDER), None);
    assert_eq!(fleet.check(), BTreeMap::from([(1, HOLDER), (2, TARGET)]));
}

#[test]
fn without_a_coordinator_the_holder_writes_on_for_as_long_as_every_member_vouches() {
    let mut fleet = Fleet::certified();
    fleet.kill_coordinator();
    // Twice as long as a right lasts.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(12) {
        assert_eq!(fleet.write(HOLDER), Some(1), "{}", fleet.logs());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(fleet.members[HOLDER].agent.says("the other members are asked"));
    // Its port is no place for those without a certificate.
    let plain = crate::wire::http(fleet.peers[TARGET], "POST", "/v1/datasets/orders/ask", "{}");
    assert!(!matches!(plain, Ok((200..=499, _))), "{plain:?}");
    wait_for("the member says why", || fleet.members[TARGET].agent.says("no_tls").then_some(()));
    fleet.members[TARGET].agent.signal(Signal::SIGSTOP);
    fleet.until_silent(HOLDER);
    fleet.members[TARGET].agent.signal(Signal::SIGCONT);
    // A right that lapsed is not lost: all members vouch again, and later a coordinator renews it.
    fleet.until_written(HOLDER, 1);
    fleet.start_coordinator();
    let lately = drover_model::Span::from_secs(3);
    wait_for("it is renewed", || fleet.dataset().renewed_ago.filter(|ago| *ago < lately));
    assert_eq!(fleet.dataset().standing, RightStanding::Held);
    assert_eq!(fleet.dataset().generation, Some(WriteGeneration(1)));
    assert_eq!(fleet.check(), BTreeMap::from([(1, HOLDER)]));
}
