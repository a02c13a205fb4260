//! Zonemaster, with which registries check a delegation before they accept it, asks two name servers of drover's own.
//!
//! It asks port 53 and refuses addresses that can't be public, so the servers have some that look so, in a network that has no way
//! out. No test is switched off: what needs the world around says so, and `docs/dns.md` lists it.

use crate::faults::role::{Role, Site};
use crate::{network, wire};
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

const ZONE: &str = "drover.test";
const SERVERS: [(&str, [&str; 2]); 2] =
    [("ns1.drover.test", ["1.2.3.4", "2600:1::53"]), ("ns2.drover.test", ["5.6.7.8", "2a00:1::53"])];
/// Hang guard, in seconds: it takes two.
const CHECKED_WITHIN: &str = "120";
/// Of its sixty, those that a zone without DNSSEC has.
const TEST_CASES_MIN: usize = 50;

/// What was said, from `NOTICE` up: tag and level.
type Messages = BTreeSet<(String, String)>;

/// Two name servers in a network of their own.
struct Zone {
    site: Site,
    servers: Vec<Role>,
}

impl Zone {
    fn serve() -> Self {
        let mut zone = Self { site: Site::new(), servers: vec![] };
        let nameservers = SERVERS.map(|(name, addresses)| json!({"name": name, "addresses": addresses}));
        let file = json!({"zone": ZONE, "nameservers": nameservers});
        fs::write(zone.site.path("dns.yaml"), file.to_string()).unwrap();
        let addresses = SERVERS.iter().flat_map(|(_, addresses)| addresses);
        let added: String = addresses.map(|a| format!(" && ip address add {a} dev lo")).collect();
        let own = format!("PATH=\"$PATH:/usr/sbin:/sbin\"; ip link set lo up{added} && exec \"$0\" \"$@\"");
        zone.start(0, &["unshare", "--net", "sh", "-c", &own]);
        let within = zone.within();
        zone.start(1, &["nsenter", &within]);
        zone
    }

    fn start(&mut self, number: usize, under: &[&str]) {
        let name = SERVERS[number].0;
        let [file, state] = [self.site.path("dns.yaml"), self.site.path(name)];
        let [file, state] = [&file, &state].map(|p| p.to_str().unwrap());
        let at = |address: &str| SocketAddr::new(address.parse().unwrap(), 53).to_string();
        let listen = SERVERS[number].1.map(at);
        let mut words = vec!["dns", "--config", file, "--state", state, "--control", "127.0.0.1:0"];
        words.extend(listen.iter().flat_map(|a| ["--listen", a]));
        let mut role = self.site.start(name, under, &words);
        let control = role.addresses().control;
        self.servers.push(role);
        self.publish(control);
    }

    /// `nsenter`'s word for the network.
    fn within(&self) -> String {
        format!("--net=/proc/{}/ns/net", self.servers[0].pid())
    }

    /// A service, as a coordinator would have it.
    fn publish(&self, control: SocketAddr) {
        let epoch = json!({"incarnation": 1, "counter": 1});
        let member = |region: &str, value: &str| json!({"set_id": region, "value": value, "weight": 1});
        let set = json!({
            "name": format!("www.{ZONE}"), "rtype": "A", "ttl_seconds": 30, "generation": 1, "epoch": epoch,
            "owner": "drover", "note": "",
            "members": [member("eu-west", "198.51.100.1"), member("us-east", "203.0.113.1")],
        });
        // What no traffic moves, at the zone's own name.
        let fixed = |rtype: &str, value: &str| {
            json!({
                "name": ZONE, "rtype": rtype, "ttl_seconds": 3600, "generation": 1, "epoch": epoch,
                "owner": "drover", "members": [member("#1", value)],
                "answering": {"answers": "all", "draws": "anew"},
            })
        };
        let put = |set: Value| json!({"op": "put", "expected_generation": null, "record_set": set});
        let sets = [set, fixed("TXT", "v=spf1 -all"), fixed("CAA", "0 issue \"ca.example\"")];
        let changes = sets.map(put);
        let batch = json!({"epoch": epoch, "idempotency_key": "check", "changes": changes}).to_string();
        let network = File::open(format!("/proc/{}/ns/net", self.servers[0].pid())).unwrap();
        // A network is a thread's: this one ends in it.
        let told = std::thread::spawn(move || {
            setns(network, CloneFlags::CLONE_NEWNET).unwrap();
            wire::http(control, "PUT", "/v1/recordsets", &batch)
        });
        let (status, said) = told.join().unwrap().unwrap();
        assert_eq!(status, 200, "{said}");
    }

    /// What Zonemaster says of the zone, delegated to its servers and to these.
    fn checked(&self, more: &[&str]) -> Messages {
        let delegated = SERVERS.iter().flat_map(|(name, at)| at.map(|at| format!("{name}/{at}")));
        let delegated =
            delegated.chain(more.iter().map(ToString::to_string)).flat_map(|ns| ["--ns".into(), ns]);
        let mut command = Command::new("nsenter");
        command.args([&self.within(), "timeout", CHECKED_WITHIN, "zonemaster-cli"]);
        command.args(["--json", "--raw", "--no-progress", "--level", "DEBUG"]).args(delegated).arg(ZONE);
        let said = network::output(&mut command);
        let messages: Vec<Value> = serde_json::from_slice(&said.stdout).unwrap_or_else(|e| {
            panic!(
                "zonemaster-cli: {e}: {}; install it: bash tests/setup",
                String::from_utf8_lossy(&said.stderr)
            )
        });
        let word = |m: &Value, field: &str| m[field].as_str().unwrap_or_default().to_owned();
        let begun = messages.iter().filter(|m| word(m, "tag") == "TEST_CASE_START");
        assert!(begun.count() >= TEST_CASES_MIN, "{messages:?}");
        let counts = |m: &&Value| !word(m, "level").starts_with("DEBUG") && word(m, "level") != "INFO";
        messages.iter().filter(counts).map(|m| (word(m, "tag"), word(m, "level"))).collect()
    }
}

/// The rows of the page's section on Zonemaster.
fn documented() -> Messages {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/dns.md");
    let text = fs::read_to_string(page).unwrap();
    let section = text.split("\n## ").find(|s| s.starts_with("What Zonemaster says")).expect("its section");
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(|cell| cell.trim().trim_end_matches('`'));
        Some((cells.next()?.to_owned(), cells.next()?.to_owned()))
    };
    section.lines().filter_map(row).collect()
}

#[test]
fn zonemaster_says_of_a_zone_of_drovers_own_what_is_documented_and_nothing_else() {
    network::is_needed();
    let zone = Zone::serve();
    let said = zone.checked(&[]);
    assert_eq!(said, documented(), "what is said is on the left; docs/dns.md says why each is as it is");
    let grave = said.iter().find(|(_, level)| level == "ERROR" || level == "CRITICAL");
    assert_eq!(grave, None);
    // The check can fail: a delegation to a server that the zone doesn't know.
    let wrong = zone.checked(&["ns3.drover.test/1.2.3.4"]);
    assert!(wrong.contains(&("EXTRA_NAME_PARENT".into(), "ERROR".into())), "{wrong:?}");
}
