//! Who may do what, and the audit that tells who did.

use crate::world::{Said, World, all_serve};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;

/// The same world over TCP, with this token.
fn as_whom(w: &World, name: &str, words: &[&str]) -> Said {
    let all: Vec<&str> = ["--context", name].into_iter().chain(words.iter().copied()).collect();
    w.drover(&all)
}

/// Makes a token, and a context that shows it.
fn make(w: &World, name: &str, role: &str) -> String {
    let made = w.drover(&["token", "create", name, "--role", role, "--valid-for", "1d"]).expect_code(0);
    let token = made.stdout.trim().to_owned();
    assert!(token.starts_with("drover_") && !made.stderr.contains(&token), "{made:?}");
    std::fs::create_dir_all(w.path("drover")).unwrap();
    let file = w.path(&format!("drover/{name}.token"));
    std::fs::write(&file, &made.stdout).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    token
}

fn contexts(w: &World, names: &[&str]) {
    let url = format!("http://{}", w.config.settings.listen);
    let mut text = "contexts:\n".to_owned();
    for name in names {
        text.push_str(&format!("  {name}: {{coordinator: '{url}', token_file: {name}.token}}\n"));
    }
    std::fs::write(w.path("drover/config.yaml"), text).unwrap();
}

fn broken(said: &Said) -> Value {
    let found: Value = said.json();
    assert_eq!(found["holds"], false, "{found}");
    found["broken"].clone()
}

#[test]
fn a_token_allows_what_its_role_does_until_it_is_revoked_and_all_of_it_is_on_record() {
    let w = World::up();
    let tokens = [make(&w, "vi", "viewer"), make(&w, "op", "operator"), make(&w, "ad", "admin")];
    contexts(&w, &["vi", "op", "ad"]);

    let url = format!("http://{}", w.config.settings.listen);
    let without = w.drover(&["--coordinator", &url, "run", "list"]).expect_code(3);
    assert!(without.stderr.contains("DROVER_TOKEN_FILE"), "{}", without.stderr);
    as_whom(&w, "vi", &["status"]).expect_code(0);
    // A viewer's token in a thief's hands moves nothing.
    let words = ["failover", "checkout", "--from", "eu-west", "--reason", "stolen", "--plan"];
    let stolen = as_whom(&w, "vi", &words).expect_code(3);
    assert!(stolen.stderr.contains("needs the role operator"), "{}", stolen.stderr);
    let stolen = as_whom(&w, "vi", &["freeze", "--for", "1h", "--reason", "stolen"]).expect_code(3);
    assert!(stolen.stderr.contains("needs the role operator"), "{}", stolen.stderr);
    as_whom(&w, "op", &["token", "create", "mine", "--role", "admin"]).expect_code(3);
    let status = w.status();
    assert!(all_serve(&status) && status.freeze.is_none() && status.runs.is_empty());

    as_whom(&w, "op", &["freeze", "--for", "1h", "--reason", "maintenance"]).expect_code(0);
    as_whom(&w, "ad", &["token", "revoke", "op", "--reason", "laptop stolen"]).expect_code(0);
    let revoked = as_whom(&w, "op", &["unfreeze", "--reason", "over"]).expect_code(3);
    assert!(
        revoked.stderr.contains("revoked") && revoked.stderr.contains("drover token create"),
        "{revoked:?}"
    );
    assert!(w.status().freeze.is_some());

    let log: Value = w.drover(&["log", "-o", "json"]).expect_code(0).json();
    let told = |by: &str, verb: &str, outcome: &str| {
        log["items"].as_array().unwrap().iter().any(|r| {
            r["by"]["name"] == by && r["verb"] == verb && r["outcome"].as_str().unwrap().contains(outcome)
        })
    };
    assert!(told("op", "freeze", "frozen") && told("ad", "token revoke", "revoked"), "{log}");
    assert!(told("vi", "access", "needs the role operator") && told("op", "login", "revoked"), "{log}");

    // Nowhere but in their files.
    let everywhere = [
        std::fs::read_to_string(w.path("up.log")).unwrap(),
        log.to_string(),
        w.drover(&["token", "list", "-o", "json"]).expect_code(0).stdout,
        w.drover(&["config", "show"]).expect_code(0).stdout,
    ];
    assert!(tokens.iter().all(|token| everywhere.iter().all(|text| !text.contains(token))));
}

#[test]
fn the_audit_is_whole_and_one_record_changed_or_cut_off_in_an_export_is_found() {
    let w = World::up();
    for reason in ["first", "second", "third"] {
        w.drover(&["freeze", "--for", "1h", "--reason", reason]).expect_code(0);
    }
    let head = w.drover(&["audit", "head"]).expect_code(0).stdout.trim().to_owned();
    let found: Value = w.drover(&["audit", "verify", "--head", &head, "-o", "json"]).expect_code(0).json();
    assert_eq!(
        (&found["holds"], &found["begins"], &found["unchained"]),
        (&true.into(), &1.into(), &0.into())
    );
    let other = format!("{}@1", head.split('@').next().unwrap());
    let wrong = w.drover(&["audit", "verify", "--head", &other, "-o", "json"]).expect_code(10);
    assert_eq!(broken(&wrong)["code"], "other_head");

    let state = w.coordinator().option("--state").unwrap().to_owned();
    kill(w.keeper(), Signal::SIGSTOP).unwrap();
    w.coordinator().signal(Signal::SIGKILL);
    w.wait_for("nobody has the store any more", |w| {
        (w.drover(&["store", "export", "--state", &state, "--to", "all.jsonl"]).code == 0).then_some(())
    });
    kill(w.keeper(), Signal::SIGCONT).unwrap();

    let verify = |file: &str| w.drover(&["audit", "verify", "--head", &head, "--export", file, "-o", "json"]);
    verify("all.jsonl").expect_code(0);
    let text = std::fs::read_to_string(w.path("all.jsonl")).unwrap();
    let is_second = |line: &str| line.starts_with("{\"key\":\"audit/") && line.contains("\"second\"");
    let line = text.lines().find(|line| is_second(line)).unwrap();
    let number: u64 = line["{\"key\":\"audit/".len()..].split('"').next().unwrap().parse().unwrap();
    std::fs::write(w.path("changed.jsonl"), text.replace(line, &line.replace("second", "secret"))).unwrap();
    let found = broken(&verify("changed.jsonl").expect_code(10));
    assert_eq!((&found["number"], &found["code"]), (&number.into(), &"altered".into()), "{found}");

    let mut records = text.lines().filter(|line| line.starts_with("{\"key\":\"audit/"));
    let last = format!("{}\n", records.next_back().unwrap());
    std::fs::write(w.path("cut.jsonl"), text.replace(&last, "")).unwrap();
    // The file's own end tells of that, as long as whoever cut it leaves the end alone.
    let cut = verify("cut.jsonl").expect_code(4);
    assert!(cut.stderr.contains("damaged or changed"), "{}", cut.stderr);
}

#[test]
fn of_two_people_one_begins_and_the_other_agrees() {
    let w = World::up();
    w.edit(|c| {
        c.services.values_mut().for_each(|s| s.failover.approvals = 2);
    });
    let directory = w.config_path("").display().to_string();
    let warned = w.drover(&["config", "validate", &directory]);
    assert!(format!("{warned:?}").contains("counts people by their tokens"), "{warned:?}");
    make(&w, "ann", "operator");
    make(&w, "bob", "operator");
    contexts(&w, &["ann", "bob"]);

    let made: Value =
        as_whom(&w, "ann", &["drain", "us-east", "--for", "1h", "--reason", "work", "--plan", "-o", "json"])
            .expect_code(8)
            .json();
    let plan = made["planned"]["plan"]["id"].as_str().unwrap_or_else(|| panic!("{made}"));
    let asks = as_whom(&w, "ann", &["apply", plan, "--reason", "work", "--yes"]).expect_code(5);
    assert!(asks.stdout.contains("somebody else: drover approve run-1"), "{asks:?}");
    let yes = ["approve", "run-1", "--reason", "seen", "--yes", "--plan", plan];
    let again = as_whom(&w, "ann", &yes).expect_code(3);
    assert!(again.stderr.contains("ann has agreed to run-1 already"), "{}", again.stderr);
    let alone: Vec<&str> = yes.into_iter().chain(["--alone"]).collect();
    let alone = as_whom(&w, "ann", &alone).expect_code(3);
    assert!(alone.stderr.contains("needs the role admin"), "{}", alone.stderr);
    let shown = w.drover(&["run", "show", "run-1"]).expect_code(0).stdout;
    assert!(shown.contains("so far ann, of 2 people who must agree"), "{shown}");
    let status = w.status();
    let told = status.attention.iter().find(|a| a.code == "run_awaiting_approval").unwrap();
    assert!(told.sentence.contains("2 people approve: ann did, 1 more must"), "{told:?}");

    as_whom(&w, "bob", &yes).expect_code(0);
    as_whom(&w, "bob", &["run", "follow", "run-1"]).expect_code(0);
    let view: Value = w.drover(&["run", "show", "run-1", "-o", "json"]).expect_code(0).json();
    assert_eq!(view["approvals"]["agreed"], serde_json::json!(["ann", "bob"]), "{view}");
}
