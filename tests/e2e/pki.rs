//! From an authority to a coordinator and agents that know each other by certificates, and one of them put out.

use crate::faults::role::{Role, Site, says, wait_for};
use crate::world::{Said, binary, surroundings};
use drover_model::api::StatusView;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

struct Pki {
    site: Site,
}

impl Pki {
    fn new() -> Self {
        let this = Self { site: Site::new() };
        this.drover(&["pki", "init"]).expect_code(0);
        this
    }

    /// Runs a command in the site's directory, where `pki` is the usual authority.
    fn drover(&self, words: &[&str]) -> Said {
        let mut command = Command::new(binary());
        surroundings(&mut command, &self.site.path(""));
        Said::of(command.args(words).stdin(Stdio::null()).output().unwrap())
    }

    fn issue(&self, words: &[&str], out: &str) {
        let all: Vec<&str> = ["pki", "issue"].iter().chain(words).copied().chain(["--out", out]).collect();
        self.drover(&all).expect_code(0);
    }

    /// The flags that name the files of a machine.
    fn flags(&self, machine: &str) -> Vec<String> {
        let file = |name: &str| self.site.path(machine).join(name).display().to_string();
        ["ca.pem", "certificate.pem", "key.pem", "crl.pem"]
            .iter()
            .zip(["--ca", "--certificate", "--key", "--crl"])
            .flat_map(|(name, flag)| [flag.to_owned(), file(name)])
            .collect()
    }

    fn coordinator(&self, listen: &str) -> Role {
        let (config, state, socket) =
            (self.site.path("config"), self.site.path("state"), self.site.path("c.sock"));
        let [config, state, socket] = [&config, &state, &socket].map(|p| p.to_str().unwrap().to_owned());
        let mut words: Vec<String> =
            ["coordinator", "--config", &config, "--state", &state, "--socket", &socket, "--listen", listen]
                .map(str::to_owned)
                .to_vec();
        words.extend(self.flags("c-1"));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.site.start("coordinator", &[], &words)
    }

    /// An agent with its own certificate. Port 0: it tells about itself wherever there is room.
    fn agent(&self, name: &str, region: &str, coordinator: SocketAddr) -> Role {
        let tls = self.site.path(name);
        let identity = json!({
            "agent": name, "region": region, "coordinators": [format!("https://{coordinator}")],
            "state_dir": self.site.path(&format!("{name}.state")),
            "tls": {"ca": tls.join("ca.pem"), "certificate": tls.join("certificate.pem"), "key": tls.join("key.pem")},
        });
        let file = self.site.path(&format!("{name}.yaml"));
        std::fs::write(&file, identity.to_string()).unwrap();
        self.site.start(name, &[], &["agent", "--identity", file.to_str().unwrap()])
    }

    /// A command to the coordinator, as this machine.
    fn ask(&self, machine: &str, api: SocketAddr, words: &[&str]) -> Said {
        let flags = self.flags(machine);
        let url = format!("https://{api}");
        let mut all: Vec<&str> = words.to_vec();
        all.extend(["--coordinator", &url]);
        all.extend(flags.iter().map(String::as_str));
        self.drover(&all)
    }

    fn heard(&self, api: SocketAddr) -> Vec<(String, Option<drover_model::Timestamp>)> {
        let said = self.ask("ann", api, &["status", "-o", "json"]).expect_code(0);
        let view: StatusView = serde_json::from_str(&said.stdout).unwrap();
        view.vantages.into_iter().map(|v| (v.agent.to_string(), v.heard_at)).collect()
    }
}

fn copy(from: &Path, to: &Path) {
    // Whole or not at all, as whoever brings a list to a coordinator does.
    let new = to.with_extension("new");
    std::fs::copy(from, &new).unwrap();
    std::fs::rename(&new, to).unwrap();
}

#[test]
fn machines_are_let_in_renewed_and_put_out_without_a_restart() {
    let p = Pki::new();
    p.issue(&["coordinator", "c-1", "--host", "127.0.0.1"], "c-1");
    p.issue(&["agent", "eu-west-1", "--region", "eu-west"], "eu-west-1");
    p.issue(&["agent", "us-east-1", "--region", "us-east"], "us-east-1");
    p.issue(&["client", "ann"], "ann");
    let mut coordinator = p.coordinator("127.0.0.1:0");
    let api = coordinator.api();
    let agents = [p.agent("eu-west-1", "eu-west", api), p.agent("us-east-1", "us-east", api)];
    let is_heard = |who: &str, after| {
        p.heard(api).into_iter().any(|(agent, at)| agent == who && at.is_some_and(|at| Some(at) > after))
    };
    for agent in ["eu-west-1", "us-east-1"] {
        wait_for("the agent is heard", || is_heard(agent, None).then_some(()));
    }

    // Renewed while they are connected: the coordinator, an agent, and the one who asks.
    let renewed: Value = serde_json::from_str(
        &p.drover(&["pki", "rotate", "c-1", "eu-west-1", "ann", "-o", "json"]).expect_code(0).stdout,
    )
    .unwrap();
    assert_eq!(renewed["items"].as_array().unwrap().len(), 3);
    let told = |role: &Role| role.says("certificates changed and were read anew").then_some(());
    wait_for("the coordinator has taken its own over", || told(&coordinator));
    wait_for("and so has the agent", || told(&agents[0]));
    let now = p.heard(api).into_iter().filter_map(|(_, at)| at).max();
    wait_for("the agent is heard after that", || is_heard("eu-west-1", now).then_some(()));

    // What it had before is worth nothing any more, and what it has now neither.
    p.drover(&["pki", "revoke", "drover://agent/eu-west/eu-west-1", "--reason", "stolen"]).expect_code(0);
    copy(&p.site.path("pki/crl.pem"), &p.site.path("c-1/crl.pem"));
    wait_for("it is refused, and that is on record", || {
        let log = p.ask("ann", api, &["log", "-o", "json"]).expect_code(0);
        let log: Value = serde_json::from_str(&log.stdout).unwrap();
        let refused = log["items"].as_array().unwrap().iter().find(|line| line["verb"] == "refuse").cloned();
        refused.map(|line| assert_eq!(line["subject"], "drover://agent/eu-west/eu-west-1", "{line}"))
    });
    let last = p.heard(api).into_iter().filter_map(|(_, at)| at).max();
    wait_for("the other one is heard as before", || is_heard("us-east-1", last).then_some(()));
    let shown = p.drover(&["pki", "show"]).expect_code(0);
    assert!(shown.stdout.contains("revoked: stolen"), "{}", shown.stdout);
}

#[test]
fn what_would_go_wrong_later_is_refused_at_once() {
    let p = Pki::new();
    p.issue(&["coordinator", "c-1", "--host", "127.0.0.1"], "c-1");
    p.issue(&["agent", "eu-west-1", "--region", "us-east"], "eu-west-1");
    p.issue(&["client", "ann"], "ann");

    // In plain text beyond loopback: the coordinator, an agent, a command.
    let state = p.site.path("state");
    let mut open = p.site.coordinator("open", &[], "0.0.0.0:0", &state);
    assert_eq!(open.ready_or_ended(), Err(2), "{}", open.log());
    assert!(open.says("drover pki init"), "{}", open.log());
    let plain = p.drover(&["status", "--coordinator", "http://192.0.2.1:7400"]).expect_code(2);
    assert!(says(&plain.stderr, "drover pki init"), "{}", plain.stderr);
    let bare = p.drover(&["status", "--coordinator", "https://192.0.2.1:7400"]).expect_code(2);
    assert!(says(&bare.stderr, "drover pki issue client"), "{}", bare.stderr);

    // A key in the configuration directory, which is shown and copied.
    std::fs::rename(p.site.path("c-1"), p.site.path("config/c-1")).unwrap();
    std::os::unix::fs::symlink(p.site.path("config/c-1"), p.site.path("c-1")).unwrap();
    let mut inside = p.coordinator("127.0.0.1:0");
    assert_eq!(inside.ready_or_ended(), Err(2));
    assert!(inside.says("is a secret"), "{}", inside.log());
    std::fs::remove_file(p.site.path("c-1")).unwrap();
    std::fs::rename(p.site.path("config/c-1"), p.site.path("c-1")).unwrap();

    // Another region's certificate, and another machine's.
    let nowhere = "127.0.0.1:9".parse().unwrap();
    let mut agent = p.agent("eu-west-1", "eu-west", nowhere);
    assert_eq!(agent.ready_or_ended(), Err(2), "{}", agent.log());
    assert!(agent.says("drover://agent/us-east/eu-west-1"), "{}", agent.log());
    std::fs::rename(p.site.path("c-1"), p.site.path("c-2")).unwrap();
    std::fs::rename(p.site.path("ann"), p.site.path("c-1")).unwrap();
    let mut client = p.coordinator("127.0.0.1:0");
    assert_eq!(client.ready_or_ended(), Err(2), "{}", client.log());
    assert!(client.says("drover://client/ann"), "{}", client.log());

    // Nothing is made twice.
    p.drover(&["pki", "init"]).expect_code(3);
    let twice = p
        .drover(&["pki", "issue", "coordinator", "c-1", "--host", "a.example", "--out", "c-2"])
        .expect_code(3);
    assert!(says(&twice.stderr, "drover pki rotate"), "{}", twice.stderr);
    let none = p.drover(&["pki", "show", "--pki", "elsewhere"]).expect_code(2);
    assert!(says(&none.stderr, "drover pki init"), "{}", none.stderr);
}

#[test]
fn a_new_machine_joins_by_a_token_and_its_key_stays_with_it() {
    let pki = Pki::new();
    let words = ["pki", "invite", "client", "bob", "--listen", "127.0.0.1:0", "--for", "5m", "-o", "json"];
    let mut command = Command::new(binary());
    surroundings(&mut command, &pki.site.path(""));
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut host = command.spawn().unwrap();
    // One object, before it waits.
    let mut said = serde_json::Deserializer::from_reader(host.stdout.take().unwrap()).into_iter::<Value>();
    let invited = said.next().unwrap().unwrap();
    assert_eq!((&invited["schema"], &invited["identity"]), (&json!(1), &json!("drover://client/bob")));
    let (address, token) = (invited["address"].as_str().unwrap(), invited["token"].as_str().unwrap());
    let file = pki.site.path("token");
    let join = |text: &str, out: &str| {
        std::fs::write(&file, text).unwrap();
        pki.drover(&["pki", "join", address, "--token-file", "token", "--out", out, "-o", "json"])
    };
    join("join_1", "bob").expect_code(2);
    let wrong = format!("join_{}{}", "0".repeat(32), &token[token.len() - 32..]);
    let refused = join(&wrong, "bob").expect_code(3);
    assert!(refused.stderr.contains("drover pki invite"), "{}", refused.stderr);
    let joined: Value = join(token, "bob").expect_code(0).json();
    assert_eq!(joined["identity"], "drover://client/bob");
    let ended = host.wait_with_output().unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success() && told.contains("showed a wrong token"), "{told}");
    assert!(told.contains(joined["serial"].as_str().unwrap()), "{told}");
    let shown: Value = pki.drover(&["pki", "show", "-o", "json"]).expect_code(0).json();
    assert_eq!(shown["items"][0]["serial"], joined["serial"]);

    // What came is as good as what is issued in place.
    pki.issue(&["coordinator", "c-1", "--host", "127.0.0.1"], "c-1");
    let mut coordinator = pki.coordinator("127.0.0.1:0");
    let api = coordinator.api();
    pki.ask("bob", api, &["run", "list"]).expect_code(0);
}
