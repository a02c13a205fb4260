//! The world: three regions, each with an etcd member, a coordinator, an agent, a DNS server, a service, and a register behind a gate; a witness, from
//! which clients call; and the references elsewhere. Each in a network of its own. All that is set up is what an operator
//! would set up: certificates, a signed zone, and a tunnel to each other region's DNS server for the coordinators.

use crate::dataset;
use crate::fabric::{DEVICE, Fabric, Link, PLACES_MAX};
use crate::history::around;
use crate::place::{Place, address};
use crate::process::Process;
use crate::schedule::{Fault, Role};
use crate::watch::{LOOK_TIMEOUT, status};
use crate::wire;
use drover_model::api::StatusView;
use drover_model::config::decode::{self, SourceFile};
use drover_model::config::{Config, DnsInstance, EtcdSettings, StoreSettings, encode, scale};
use drover_model::{Percent, Span};
use drover_tests::{binary, surroundings};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The serving regions are places 1 to 3, in this order.
pub const REGIONS: [&str; 3] = ["ap-south", "eu-west", "us-east"];
pub const WITNESS: usize = 4;
/// Where the references are, which no fault is about.
const ELSEWHERE: usize = 5;

/// The service's name.
pub const NAME: &str = "checkout.drover.test";
pub const SERVICE_PORT: u16 = 8081;
pub const DNS_PORT: u16 = 5353;
const API_PORT: u16 = 7400;
const PEER_PORT: u16 = 7420;
const STORE_PORT: u16 = 2379;
const STORE_PEER_PORT: u16 = 2380;
const REFERENCE_PORTS: [u16; 2] = [8090, 8091];

/// Every length of time of the shipped policy is divided by this: a probe every half second.
const FACTOR: u64 = 60;
/// A probe's patience is all of its interval: what a busy machine delays is no failure.
const PROBE_TIMEOUT: Span = Span::from_millis(500);

/// Which process.
pub type Who = (Role, usize);

pub struct Site {
    places: Vec<Place>,
    fabric: Fabric,
    pub processes: BTreeMap<Who, Process>,
    others: Vec<Process>,
    directory: PathBuf,
}

/// Where a DNS server takes changes: the coordinators of other regions reach it there by a tunnel.
pub fn control(region: usize) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 7410 + u16::try_from(region).unwrap()))
}

/// Where a coordinator is reached by all others.
pub fn api(region: usize) -> String {
    url("https", region, API_PORT)
}

fn at(place: usize, port: u16) -> SocketAddr {
    SocketAddr::from((address(place), port))
}

fn url(scheme: &str, place: usize, port: u16) -> String {
    format!("{scheme}://{}", at(place, port))
}

impl Site {
    /// Lays everything out in this directory, and starts it.
    pub fn start(directory: PathBuf) -> Self {
        let places: Vec<Place> = (1..=ELSEWHERE).map(Place::open).collect();
        let fabric = Fabric::between(&places);
        let mut site = Self { places, fabric, processes: BTreeMap::new(), others: Vec::new(), directory };
        for region in 1..=REGIONS.len() {
            // What comes from elsewhere may go to its loopback: tunnels end there.
            let setting = "/proc/sys/net/ipv4/conf/all/route_localnet";
            site.place(region).within(|| std::fs::write(setting, "1")).unwrap();
            site.place(region).filter(&tunnels(region));
        }
        site.heal_links();
        site.certify();
        site.configure();
        site.start_references();
        for role in [Role::Store, Role::Service, Role::Dns, Role::Gate, Role::Coordinator] {
            (1..=REGIONS.len()).for_each(|region| site.add(role, region));
        }
        (1..=WITNESS).for_each(|place| site.add(Role::Agent, place));
        site
    }

    pub fn place(&self, index: usize) -> &Place {
        &self.places[index - 1]
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Where a coordinator is asked from this machine, whatever became of its network.
    pub fn socket(&self, region: usize) -> PathBuf {
        self.path(&format!("c-{region}.sock"))
    }

    /// A command of an operator, on a machine of their own.
    fn drover(&self, words: &[&str]) -> String {
        let mut command = Command::new(binary());
        surroundings(&mut command, &self.directory);
        let said = command.args(words).stdin(Stdio::null()).output().unwrap();
        assert!(said.status.success(), "{words:?}: {}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).unwrap()
    }

    fn certify(&self) {
        self.drover(&["pki", "init"]);
        for (region, name) in (1..).zip(REGIONS) {
            let (machine, host) = (format!("c-{region}"), address(region).to_string());
            self.drover(&["pki", "issue", "coordinator", &machine, "--host", &host, "--out", &machine]);
            let agent = format!("{name}-1");
            self.drover(&["pki", "issue", "agent", &agent, "--region", name, "--out", &agent]);
        }
        self.drover(&["pki", "issue", "agent", "witness-1", "--region", "witness", "--out", "witness-1"]);
    }

    fn configure(&self) {
        let key = self.path("dns-signing.key");
        self.drover(&["dns", "keygen", "--out", key.to_str().unwrap()]);
        let public = self.drover(&["dns", "keygen", "--show", key.to_str().unwrap(), "-o", "json"]);
        let public: Value = serde_json::from_str(&public).unwrap();
        let public = public["public_key"].as_str().unwrap_or_else(|| panic!("no key in {public}"));
        std::fs::create_dir(self.path("config")).unwrap();
        std::fs::write(self.path("config/world.yaml"), encode::to_yaml(&config(&key))).unwrap();
        let server =
            |region| json!({"name": format!("ns{region}.drover.test"), "addresses": [address(region)]});
        let servers: Vec<Value> = (1..=REGIONS.len()).map(server).collect();
        for region in 1..=REGIONS.len() {
            let peer = |r: &usize| json!({"name": format!("dns-{r}"), "control": at(*r, PEER_PORT)});
            let peers: Vec<Value> = (1..=REGIONS.len()).filter(|r| *r != region).map(|r| peer(&r)).collect();
            let file = json!({
                "zone": "drover.test", "nameservers": servers, "listen": [at(region, DNS_PORT)],
                "control": control(region), "trusted_keys": [public], "peers": peers,
                "peer_listen": at(region, PEER_PORT), "peer_interval": "500ms",
            });
            std::fs::write(self.path(&format!("dns-{region}.yaml")), file.to_string()).unwrap();
        }
        let coordinators: Vec<String> = (1..=REGIONS.len()).map(api).collect();
        for (place, region) in (1..).zip(REGIONS.into_iter().chain(["witness"])) {
            let (agent, tls) = (format!("{region}-1"), self.path(&format!("{region}-1")));
            let mut identity = json!({
                "agent": agent, "region": region, "coordinators": coordinators,
                "state_dir": self.path(&format!("{agent}.state")),
                "tls": {"ca": tls.join("ca.pem"), "certificate": tls.join("certificate.pem"), "key": tls.join("key.pem")},
            });
            if place <= REGIONS.len() {
                let socket = self.path(&format!("gate-{place}.sock"));
                identity["peer_listen"] = json!(at(place, dataset::MEMBER_PORT));
                identity["datasets"] = json!([{"name": dataset::DATASET, "gate": socket}]);
                let command = dataset::command(place, self.register_file(place).to_str().unwrap());
                let gate = json!({"dataset": dataset::DATASET, "socket": socket, "command": command});
                std::fs::write(self.path(&format!("gate-{place}.yaml")), gate.to_string()).unwrap();
            }
            std::fs::write(self.path(&format!("agent-{place}.yaml")), identity.to_string()).unwrap();
        }
    }

    fn start_references(&mut self) {
        let control = self.path("references.control").display().to_string();
        let [a, b] = REFERENCE_PORTS.map(|port| at(ELSEWHERE, port).to_string());
        let words = ["sample-service", "--region", "elsewhere", "--control", &control, "--listen", &a];
        let words = [&words[..], &["--listen", &b]].concat();
        let program = binary().display().to_string();
        let words = words.into_iter().map(str::to_owned).collect();
        let mut process = Process::new(
            "references".into(),
            program,
            words,
            self.path("references.log"),
            self.directory.clone(),
        );
        process.start(&self.places[ELSEWHERE - 1]);
        self.others.push(process);
    }

    fn add(&mut self, role: Role, place: usize) {
        let name = format!("{role}-{place}");
        let log = self.path(&format!("{name}.log"));
        let program = if role == Role::Store { "etcd".to_owned() } else { binary().display().to_string() };
        let mut process = Process::new(name, program, self.words(role, place), log, self.directory.clone());
        process.start(&self.places[place - 1]);
        self.processes.insert((role, place), process);
    }

    /// How each is started.
    fn words(&self, role: Role, place: usize) -> Vec<String> {
        let path = |name: String| self.path(&name).display().to_string();
        match role {
            Role::Store => store_words(place, path(format!("etcd-{place}.data"))),
            Role::Coordinator => {
                let machine = format!("c-{place}");
                let file = |name: &str| path(format!("{machine}/{name}.pem"));
                let (listen, advertise) = (at(place, API_PORT).to_string(), api(place));
                line(&[
                    "coordinator",
                    "--config",
                    &path("config".into()),
                    "--state",
                    &path(format!("{machine}.state")),
                    "--socket",
                    &path(format!("{machine}.sock")),
                    "--listen",
                    &listen,
                    "--advertise",
                    &advertise,
                    "--ca",
                    &file("ca"),
                    "--certificate",
                    &file("certificate"),
                    "--key",
                    &file("key"),
                    "--crl",
                    &file("crl"),
                ])
            }
            Role::Gate => line(&["gate", "--config", &path(format!("gate-{place}.yaml"))]),
            Role::Agent => line(&["agent", "--identity", &path(format!("agent-{place}.yaml"))]),
            Role::Dns => line(&[
                "dns",
                "--config",
                &path(format!("dns-{place}.yaml")),
                "--state",
                &path(format!("dns-{place}.state")),
            ]),
            Role::Service => line(&[
                "sample-service",
                "--service",
                "checkout",
                "--region",
                REGIONS[place - 1],
                "--listen",
                &at(place, SERVICE_PORT).to_string(),
                "--control",
                &path(format!("service-{place}.control")),
            ]),
        }
    }

    fn register_file(&self, region: usize) -> PathBuf {
        self.path(&format!("register-{region}"))
    }

    /// What a region's register kept so far; nothing of one that never wrote.
    pub fn register(&self, region: usize) -> String {
        let kept = std::fs::read(self.register_file(region)).unwrap_or_default();
        String::from_utf8_lossy(&kept).into_owned()
    }

    /// What a coordinator says, when it says anything.
    pub fn status(&self, region: usize) -> Option<StatusView> {
        status(&self.socket(region))
    }

    /// The region where the leader is, and what it says.
    pub fn leader(&self) -> Option<(usize, StatusView)> {
        let all = (1..=REGIONS.len()).filter_map(|region| Some((region, self.status(region)?)));
        let mut leading = all.filter(|(_, s)| s.coordinator.leadership.as_ref().is_some_and(|l| l.leads));
        leading.next()
    }

    /// One request of a coordinator; code 0 when nobody answers.
    pub fn ask(&self, region: usize, method: &str, path: &str, body: &str) -> (u16, String) {
        let said = wire::socket_within(LOOK_TIMEOUT, &self.socket(region), method, path, body);
        said.unwrap_or_else(|e| (0, e.to_string()))
    }

    /// Breaks something, or ends its being broken.
    pub fn inject(&mut self, fault: Fault<usize>, begins: bool) {
        match fault {
            Fault::Stopped(place, role) => {
                let signal = if begins { Signal::SIGSTOP } else { Signal::SIGCONT };
                self.process(role, place).signal(signal);
            }
            Fault::Killed(place, role) => {
                let process = self.processes.get_mut(&(role, place)).unwrap();
                if begins { process.kill() } else { process.start(&self.places[place - 1]) }
            }
            _ => {}
        }
    }

    fn process(&mut self, role: Role, place: usize) -> &mut Process {
        self.processes.get_mut(&(role, place)).unwrap()
    }

    /// Makes all links what these faults make of them.
    pub fn link(&self, faults: &[Fault<usize>]) {
        self.heal_links();
        let mut unheard: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for fault in faults {
            match *fault {
                Fault::Isolated(p) => {
                    for other in (1..=ELSEWHERE).filter(|other| *other != p) {
                        unheard.entry(p).or_default().push(other);
                        unheard.entry(other).or_default().push(p);
                    }
                }
                Fault::Parted(p, further) => {
                    unheard.entry(p).or_default().push(around(p, further));
                    unheard.entry(around(p, further)).or_default().push(p);
                }
                Fault::Deaf(p, further) => unheard.entry(p).or_default().push(around(p, further)),
                Fault::Slow(p, delay, jitter) => {
                    self.leaving(p, Link { delay: ms(delay), jitter: ms(jitter), ..Link::default() });
                }
                Fault::Lossy(p, lost_percent) => self.leaving(p, Link { lost_percent, ..Link::default() }),
                Fault::Reordered(p, reordered_percent) => {
                    let link = Link { delay: ms(30), jitter: ms(10), reordered_percent, lost_percent: 0 };
                    self.leaving(p, link);
                }
                Fault::Stopped(..) | Fault::Killed(..) => {}
            }
        }
        for (place, from) in unheard {
            let drops: Vec<String> =
                from.iter().map(|from| format!("ip saddr {} drop", address(*from))).collect();
            self.place(place).filter(&cut(&drops.join("\n")));
        }
    }

    fn heal_links(&self) {
        self.places.iter().for_each(|place| place.filter(&cut("")));
        for from in 0..PLACES_MAX {
            (0..PLACES_MAX).for_each(|to| self.fabric.set(from, to, Link::default()));
        }
    }

    fn leaving(&self, from: usize, link: Link) {
        (1..PLACES_MAX).for_each(|to| self.fabric.set(from, to, link));
    }

    /// Starts again what ended without being told to, as a supervisor does; which, for the record.
    pub fn supervise(&mut self, down: &[Who]) -> Vec<String> {
        let mut ended = Vec::new();
        for (who, process) in &mut self.processes {
            if !down.contains(who)
                && let Some(code) = process.restart_if_ended(&self.places[who.1 - 1])
            {
                ended.push(format!("{} {} ended with {code}", who.0, name_of(who.1)));
            }
        }
        ended
    }

    /// Everything that is in the store, as etcd prints it field by field, by any member that has a quorum.
    pub fn store(&self) -> String {
        let endpoints: Vec<String> = (1..=REGIONS.len()).map(|r| url("http", r, STORE_PORT)).collect();
        let endpoints = endpoints.join(",");
        let words = ["etcdctl", "--endpoints", &endpoints, "get", "--prefix", "/drover/", "-w", "fields"];
        self.place(1).run(&[&["env", "ETCDCTL_API=3"][..], &words].concat())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.processes.clear();
        self.others.clear();
        for place in &self.places {
            place.run(&["ip", "link", "delete", DEVICE]);
        }
        self.fabric.end();
    }
}

/// What a place is called.
pub fn name_of(place: usize) -> &'static str {
    REGIONS.get(place - 1).copied().unwrap_or("witness")
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn line(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn store_words(place: usize, data: String) -> Vec<String> {
    let members: Vec<String> =
        (1..=REGIONS.len()).map(|r| format!("m{r}={}", url("http", r, STORE_PEER_PORT))).collect();
    let (client, peer) = (url("http", place, STORE_PORT), url("http", place, STORE_PEER_PORT));
    line(&[
        "--name",
        &format!("m{place}"),
        "--initial-cluster",
        &members.join(","),
        "--initial-cluster-state",
        "new",
        "--initial-cluster-token",
        "drover-partition",
        "--listen-client-urls",
        &client,
        "--advertise-client-urls",
        &client,
        "--listen-peer-urls",
        &peer,
        "--initial-advertise-peer-urls",
        &peer,
        "--data-dir",
        &data,
    ])
}

/// A region's own ports on its loopback, as a tunnel between machines makes them: what the coordinator there sends to another
/// region's DNS server goes to that region, and arrives at its loopback.
fn tunnels(region: usize) -> String {
    let others = (1..=REGIONS.len()).filter(|other| *other != region);
    let out = others.map(|other| {
        let port = control(other).port();
        format!("ip daddr 127.0.0.1 tcp dport {port} dnat to {}\n", at(other, port))
    });
    let own = control(region);
    format!(
        "table ip tunnels {{\n\
         chain leaving {{ type nat hook output priority -100;\n{}}}\n\
         chain left {{ type nat hook postrouting priority 100;\nip saddr 127.0.0.1 oifname \"{DEVICE}\" masquerade\n}}\n\
         chain arriving {{ type nat hook prerouting priority -100;\niifname \"{DEVICE}\" tcp dport {} dnat to {own}\n}}\n}}\n",
        out.collect::<String>(),
        own.port(),
    )
}

/// What arrives and is dropped; without rules, nothing.
fn cut(rules: &str) -> String {
    format!(
        "table ip cut\ndelete table ip cut\ntable ip cut {{\n\
         chain arriving {{ type filter hook prerouting priority -300;\n{rules}\n}}\n}}\n"
    )
}

/// The shipped world with one service, scaled and moved here.
fn config(key: &Path) -> Config {
    let mut config = scale(&shipped(), FACTOR);
    for (place, region) in (1..).zip(REGIONS.into_iter().chain(["witness"])) {
        let region = config.regions.values_mut().find(|r| r.name.as_str() == region).unwrap();
        region.agents[0].source_address = Some(address(place).into());
    }
    let orders = dataset::configured();
    config.datasets.insert(orders.name.clone(), orders);
    config.services.retain(|name, _| name.as_str() == "checkout");
    for service in config.services.values_mut() {
        for endpoint in service.endpoints.values_mut() {
            let place = REGIONS.iter().position(|r| *r == endpoint.region.as_str()).unwrap() + 1;
            (endpoint.address, endpoint.port) = (address(place).to_string(), SERVICE_PORT);
        }
        service.timeout = PROBE_TIMEOUT;
        service.app_checks.iter_mut().for_each(|check| check.timeout = Span::from_secs(2));
        let policy = &mut service.failover;
        policy.recovery_threshold = 4;
        // Schedules follow each other in minutes, and each may need a failover.
        policy.block_period = Span::from_secs(1);
        policy.ramp = vec![Percent::whole(50), Percent::FULL];
        policy.soak = Span::from_millis(500);
        policy.failback.automatic = true;
        policy.failback.stable_hold = Span::from_secs(1);
        // The clients here make some twenty calls a second.
        service.validation.window = Span::from_secs(2);
        service.validation.min_samples = 5;
        service.validation.max_latency_p95 = Span::from_secs(2);
    }
    let settings = &mut config.settings;
    settings.vantage.references = REFERENCE_PORTS.map(|port| at(ELSEWHERE, port)).to_vec();
    settings.vantage.silent_after = Span::from_secs(3);
    settings.store = Some(StoreSettings {
        etcd: EtcdSettings {
            endpoints: (1..=REGIONS.len()).map(|r| url("http", r, STORE_PORT)).collect(),
            prefix: "/drover".into(),
            keep_history: Span::from_hours(24),
            leader_lost_after: Span::from_secs(3),
        },
    });
    let dns = settings.dns.as_mut().and_then(|dns| dns.embedded_mut()).unwrap();
    dns.signing_key_file = Some(key.to_owned());
    dns.nameservers =
        (1..=REGIONS.len()).map(|r| (format!("ns{r}.drover.test"), IpAddr::from(address(r)))).collect();
    let instance = |region| DnsInstance {
        name: format!("dns-{region}"),
        control: control(region),
        query: at(region, DNS_PORT),
    };
    dns.instances = (1..=REGIONS.len()).map(instance).collect();
    config
}

fn shipped() -> Config {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../regions");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        files.push(SourceFile::new(path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
    }
    decode::load(&files).unwrap_or_else(|e| panic!("{e:?}")).config
}
