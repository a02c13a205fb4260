//! Who looks while a schedule runs: clients that resolve and call as users do, and watchers of coordinators and DNS servers.

use crate::dataset;
use crate::history::{Acknowledged, Call, Leads, Obeys, Told};
use crate::place::{address, enter};
use crate::site::{self, DNS_PORT, REGIONS, SERVICE_PORT, Site, WITNESS};
use crate::wire;
use drover_model::api::StatusView;
use drover_model::{Epoch, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Clients, and the pause between two calls of each.
const CLIENTS: usize = 4;
const PAUSE: Duration = Duration::from_millis(150);
/// Between two writes that a client tries at one register.
const WRITE_PAUSE: Duration = Duration::from_millis(100);
/// A resolver asks the next server after that.
const DNS_TIMEOUT: Duration = Duration::from_millis(700);
/// A user waits so long for a connection, and for each part of an answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two looks at a coordinator or a DNS server, and how long one waits.
const LOOK_EVERY: Duration = Duration::from_millis(300);
pub const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// Now, as drover writes it.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap())
}

/// What is collected.
#[derive(Default)]
pub struct Seen {
    pub told: Vec<Told>,
    pub calls: Vec<Call>,
    pub leads: Vec<Leads>,
    pub obeys: Vec<Obeys>,
    pub acknowledged: Vec<Acknowledged>,
}

/// The watchers of a world. They end with this value.
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Watch {
    pub fn start(site: &Site) -> Self {
        let mut watch =
            Self { seen: Arc::default(), is_over: Arc::new(AtomicBool::new(false)), threads: Vec::new() };
        for _ in 0..CLIENTS {
            let namespace = site.place(WITNESS).open_file();
            watch.repeatedly(PAUSE, Some(namespace), call);
        }
        let numbers = Arc::new(AtomicU64::new(1));
        for region in 1..=REGIONS.len() {
            let (namespace, numbers) = (site.place(WITNESS).open_file(), numbers.clone());
            watch.repeatedly(WRITE_PAUSE, Some(namespace), move |seen| {
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                if let Some(acknowledged) = dataset::try_write(region, number) {
                    note(seen, |s| s.acknowledged.push(acknowledged));
                }
            });
            let socket = site.socket(region);
            watch.repeatedly(LOOK_EVERY, None, move |seen| look_at_coordinator(seen, region, &socket));
            let namespace = site.place(region).open_file();
            watch.repeatedly(LOOK_EVERY, Some(namespace), move |seen| look_at_dns(seen, region));
        }
        watch
    }

    fn repeatedly(
        &mut self,
        pause: Duration,
        namespace: Option<File>,
        does: impl Fn(&Mutex<Seen>) + Send + 'static,
    ) {
        let (seen, is_over) = (self.seen.clone(), self.is_over.clone());
        self.threads.push(std::thread::spawn(move || {
            if let Some(namespace) = &namespace {
                enter(namespace);
            }
            while !is_over.load(Ordering::Relaxed) {
                does(&seen);
                std::thread::sleep(pause);
            }
        }));
    }

    /// Where the leader was last seen; in the first region while nobody was.
    pub fn leader(&self) -> usize {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.leads.iter().max_by_key(|l| l.epoch.counter).map_or(1, |l| l.coordinator)
    }

    /// The region whose register acknowledged the last write; the second one, which writes first, while none did.
    pub fn writer(&self) -> usize {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.acknowledged.iter().max_by_key(|a| a.generation).map_or(2, |a| a.register)
    }

    /// What was seen since the last time.
    pub fn take(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn note(seen: &Mutex<Seen>, notes: impl FnOnce(&mut Seen)) {
    notes(&mut seen.lock().unwrap_or_else(PoisonError::into_inner));
}

/// Resolves the name and calls one of the addresses.
fn call(seen: &Mutex<Seen>) {
    let begun = now();
    let failed = resolve(seen).and_then(|service| {
        let answer = wire::http_within(CALL_TIMEOUT, service, "GET", "/", "");
        match answer {
            Ok((200, _)) => Ok(()),
            Ok((status, _)) => Err(format!("{service} answered {status}")),
            Err(e) => Err(format!("{service}: {e}")),
        }
    });
    note(seen, |s| s.calls.push(Call { begun, ended: now(), failed: failed.err() }));
}

/// Asks one server after the other, beginning with any, as resolvers do.
fn resolve(seen: &Mutex<Seen>) -> Result<SocketAddr, String> {
    let first = fastrand::usize(..REGIONS.len());
    for n in 0..REGIONS.len() {
        let server = (first + n) % REGIONS.len() + 1;
        let asked = SocketAddr::from((address(server), DNS_PORT));
        let Ok(answer) = wire::ask(asked, site::NAME, DNS_TIMEOUT) else { continue };
        let told = Told { at: now(), server, code: answer.code, addresses: answer.addresses.len() };
        note(seen, |s| s.told.push(told));
        if let Some(address) = fastrand::choice(answer.addresses) {
            return Ok(SocketAddr::from((address, SERVICE_PORT)));
        }
    }
    Err("no DNS server answered".to_owned())
}

/// What a coordinator says of itself; nothing while it is dead or stopped.
pub fn status(socket: &Path) -> Option<StatusView> {
    let (code, body) = wire::socket_within(LOOK_TIMEOUT, socket, "GET", "/v1/status", "").ok()?;
    if code != 200 { None } else { serde_json::from_str(&body).ok() }
}

fn look_at_coordinator(seen: &Mutex<Seen>, coordinator: usize, socket: &Path) {
    let Some(status) = status(socket) else { return };
    let epoch = status.coordinator.epoch;
    if status.coordinator.leadership.is_some_and(|l| l.leads) {
        note(seen, |s| s.leads.push(Leads { at: now(), coordinator, epoch }));
    }
}

/// As a DNS server tells it on its control port.
#[derive(Deserialize)]
struct Fence {
    highest_epoch: Option<Epoch>,
    generation: u64,
}

fn look_at_dns(seen: &Mutex<Seen>, server: usize) {
    let Some(fence) = dns_control(server, "/v1/fence") else { return };
    let Ok(Fence { highest_epoch: Some(epoch), generation }) = serde_json::from_value(fence) else { return };
    note(seen, |s| s.obeys.push(Obeys { at: now(), server, epoch, generation }));
}

/// What a DNS server says on its control port to somebody on its machine.
pub fn dns_control(server: usize, path: &str) -> Option<Value> {
    let (code, body) = wire::http_within(LOOK_TIMEOUT, site::control(server), "GET", path, "").ok()?;
    if code != 200 { None } else { serde_json::from_str(&body).ok() }
}
