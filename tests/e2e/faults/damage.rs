//! What a role kept on disk is not what it wrote: flipped bits, cut files, another version's format, a copy from earlier.
//!
//! A store is refused by its name with the next step and left byte for byte as it was, or every record in it is as it
//! was. What agents and the history keep can be made again, so that damage there is said and stops nobody.

use super::role::{Role, Site};
use crate::wire;
use redb::{Builder, ReadableTable, TableDefinition};
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Flipped bits of the coordinator's store, half of them in a store that was closed and half in one of a killed process.
/// The store's own tests flip hundreds; here it is the program that must not take half a store for a whole one.
const STORE_FLIPS: usize = 24;
/// redb's header and commit slots, where half of the flips go: the rest of a small store is mostly unused.
const HEADER_BYTES: usize = 320;
/// Flipped bits of the DNS server's snapshot.
const SNAPSHOT_FLIPS: usize = 12;
/// So many that the pages of the store are not all empty.
const COMMANDS: usize = 12;

/// What a coordinator kept, and what it said of it.
struct Kept {
    store: Vec<u8>,
    anchor: Vec<u8>,
    /// What people did, on record.
    audit: Vec<Value>,
}

impl Kept {
    /// Puts this store beside the anchor of the true one, in a state directory of its own.
    fn lay_out(&self, site: &Site, name: &str, store: &[u8]) -> PathBuf {
        let state = site.path(name);
        fs::create_dir(&state).unwrap();
        fs::write(state.join("drover.redb"), store).unwrap();
        fs::write(state.join("drover.redb.anchor"), &self.anchor).unwrap();
        state
    }
}

/// The commands on record. Drover adds decisions of its own, at every start.
fn audit(api: SocketAddr) -> Vec<Value> {
    let (status, page) = wire::http(api, "GET", "/v1/audit", "").unwrap();
    assert_eq!(status, 200, "{page}");
    let mut items = page["items"].as_array().unwrap().clone();
    items.retain(|i| i["verb"] == "freeze" || i["verb"] == "unfreeze");
    items
}

/// Some commands, and the files that they left behind.
fn kept(site: &Site, name: &str, closed: bool) -> Kept {
    let state = site.path(name);
    let mut coordinator = site.coordinator(name, &[], "127.0.0.1:0", &state);
    let api = coordinator.api();
    for number in 0..COMMANDS {
        let verb = if number % 2 == 0 { "freeze" } else { "unfreeze" };
        let reason = format!("rehearsal {number}");
        let mut words = vec![verb, "--reason", &reason];
        words.extend(if verb == "freeze" { &["--for", "1h"][..] } else { &[] });
        let (code, said) = site.ask(&format!("http://{api}"), &words);
        assert_eq!(code, 0, "{said}");
    }
    let audit = audit(api);
    assert_eq!(audit.len(), COMMANDS, "{audit:?}");
    if closed {
        coordinator.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(coordinator.ended(), 0, "{}", coordinator.log());
    } else {
        drop(coordinator);
    }
    let read = |file: &str| fs::read(state.join(file)).unwrap();
    Kept { store: read("drover.redb"), anchor: read("drover.redb.anchor"), audit }
}

/// It ended with 4, named the file and what to do, and left the file alone.
#[track_caller]
fn refused(role: &mut Role, file: &Path, before: &[u8], next: &str) {
    let ended = role.ready_or_ended().expect_err("it serves from a damaged file");
    let said = role.log();
    assert_eq!(ended, 4, "{said}");
    assert!(role.says(file.to_str().unwrap()), "does not name {}: {said}", file.display());
    assert!(role.says(next), "does not say {next:?}: {said}");
    assert!(!role.says("panicked"), "{said}");
    assert!(fs::read(file).unwrap() == before, "it was refused and changed nevertheless");
}

/// Whether a coordinator refused this store. If it did not, it knows all that was kept.
fn refused_or_whole(site: &Site, what: &str, store: &[u8], kept: &Kept) -> bool {
    let state = kept.lay_out(site, what, store);
    let mut coordinator = site.coordinator(what, &[], "127.0.0.1:0", &state);
    let is_refused = coordinator.ready_or_ended().is_err();
    if is_refused {
        refused(&mut coordinator, &state.join("drover.redb"), store, "restore");
    } else {
        assert_eq!(audit(coordinator.api()), kept.audit, "{what}: opened with other records");
    }
    drop(coordinator);
    fs::remove_dir_all(state).unwrap();
    is_refused
}

fn flip(bytes: &[u8], random: &mut fastrand::Rng, end: usize) -> (Vec<u8>, String) {
    let (at, bit) = (random.usize(..end), random.u8(..8));
    let mut damaged = bytes.to_vec();
    damaged[at] ^= 1 << bit;
    (damaged, format!("bit-{bit}-of-byte-{at}"))
}

#[test]
fn a_flipped_bit_in_the_store_is_refused_or_harmless() {
    let site = Site::new();
    for closed in [true, false] {
        let kept = kept(&site, &format!("closed-{closed}"), closed);
        let mut random = fastrand::Rng::with_seed(u64::from(closed));
        let mut found = 0;
        for n in 0..STORE_FLIPS / 2 {
            let end = if n % 2 == 0 { HEADER_BYTES } else { kept.store.len() };
            let (damaged, what) = flip(&kept.store, &mut random, end);
            let name = format!("{what}-{n}-{closed}");
            found += usize::from(refused_or_whole(&site, &name, &damaged, &kept));
        }
        assert!(found > 0, "closed {closed}: no flip of {STORE_FLIPS} was found: is anything verified?");
    }
}

#[test]
fn a_cut_or_replaced_store_is_refused() {
    let site = Site::new();
    let kept = kept(&site, "kept", false);
    let length = kept.store.len();
    for keep in [0, 1, HEADER_BYTES, 4_096, length / 3, length / 2] {
        let what = format!("first-{keep}-bytes");
        assert!(refused_or_whole(&site, &what, &kept.store[..keep], &kept), "{what}");
    }
    assert!(refused_or_whole(&site, "zeros", &vec![0; length], &kept));
    let mut random = fastrand::Rng::with_seed(7);
    let garbage: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
    assert!(refused_or_whole(&site, "garbage", &garbage, &kept));
}

#[test]
fn a_store_that_is_gone_or_from_earlier_is_not_taken_for_the_newest() {
    let site = Site::new();
    let mut first = site.coordinator("first", &[], "127.0.0.1:0", &site.path("state"));
    first.ready();
    drop(first);
    let store = site.path("state/drover.redb");
    let earlier = fs::read(&store).unwrap();
    drop(kept(&site, "state", true));

    fs::write(&store, &earlier).unwrap();
    let mut old = site.coordinator("old", &[], "127.0.0.1:0", &site.path("state"));
    refused(&mut old, &store, &earlier, "restore the newer file");
    fs::remove_file(&store).unwrap();
    let mut gone = site.coordinator("gone", &[], "127.0.0.1:0", &site.path("state"));
    assert_eq!(gone.ready_or_ended().expect_err("it began anew with an empty store"), 4);
    assert!(gone.says("drover.redb is missing") && gone.says("restore it"), "{}", gone.log());
}

/// Gives a store another format number, as another version would.
fn set_format(store: &Path, format: u32) {
    const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
    let database = Builder::new().create(store).unwrap();
    let write = database.begin_write().unwrap();
    {
        let mut meta = write.open_table(META).unwrap();
        let written: Vec<u8> = meta.get("format").unwrap().unwrap().value().to_vec();
        assert_eq!(written, encoded(1), "the format is kept elsewhere now: this test must follow");
        meta.insert("format", encoded(format).as_slice()).unwrap();
    }
    write.commit().unwrap();
}

/// A number and its checksum.
fn encoded(format: u32) -> Vec<u8> {
    let number = format.to_le_bytes();
    [number, crc32c::crc32c(&number).to_le_bytes()].concat()
}

#[test]
fn a_store_of_another_version_is_refused_and_says_which_version_reads_it() {
    let site = Site::new();
    let kept = kept(&site, "kept", true);
    for (format, next) in [
        (2, "has format 2, this drover knows up to 1; start the drover that wrote it, or a newer one"),
        (0, "has format 0, and this drover can't bring it to 1; open it with a version in between first"),
    ] {
        let name = format!("format-{format}");
        let state = kept.lay_out(&site, &name, &kept.store);
        let store = state.join("drover.redb");
        set_format(&store, format);
        let before = fs::read(&store).unwrap();
        refused(&mut site.coordinator(&name, &[], "127.0.0.1:0", &state), &store, &before, next);
    }
}

/// A DNS server's snapshot with record sets in it.
fn published(site: &Site) -> Vec<u8> {
    let mut dns = site.dns("127.0.0.1:0", "127.0.0.1:0");
    let at = dns.addresses();
    site.configure_dns(&at);
    let mut coordinator = site.coordinator("c", &[], "127.0.0.1:0", &site.path("state"));
    coordinator.ready();
    let snapshot = site.path("dns/snapshot.json");
    super::role::wait_for("record sets are kept", || {
        let text = fs::read_to_string(&snapshot).ok()?;
        // Not in the middle of a change that is being appended.
        (text.contains("checkout") && text.ends_with('\n')).then_some(text.into_bytes())
    })
}

#[test]
fn a_damaged_snapshot_of_dns_is_refused() {
    let site = Site::new();
    let whole = published(&site);
    let file = site.path("dns/snapshot.json");
    let try_it = |bytes: &[u8], next: &str| {
        fs::write(&file, bytes).unwrap();
        refused(&mut site.dns("127.0.0.1:0", "127.0.0.1:0"), &file, bytes, next);
    };
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..SNAPSHOT_FLIPS {
        let (damaged, _) = flip(&whole, &mut random, whole.len());
        // A bit of the format number makes it another version's; that is told apart, and refused as well.
        let newer = !damaged.starts_with(b"{\"format\":2,") && damaged.starts_with(b"{\"format\":");
        try_it(&damaged, if newer { "" } else { "restore it, or remove it to start empty" });
    }
    let ends: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] == b'\n').collect();
    for keep in [0, 1, ends[0], ends[1]] {
        try_it(&whole[..keep], "restore it, or remove it to start empty");
    }
    assert!(ends.len() > 2, "no change stands behind the state: {ends:?}");
    let without_first_change = [&whole[..=ends[1]], &whole[ends[1] + 9..]].concat();
    try_it(&without_first_change, "restore it, or remove it to start empty");
    let newer = String::from_utf8(whole.clone()).unwrap().replacen("\"format\":2", "\"format\":4", 1);
    try_it(newer.as_bytes(), "start the drover that wrote it, or a newer one");

    fs::write(&file, &whole).unwrap();
    let mut dns = site.dns("127.0.0.1:0", "127.0.0.1:0");
    assert!(
        !wire::addresses(dns.addresses().query, "checkout.drover.test").is_empty(),
        "whole again, it serves"
    );
}

#[test]
fn a_change_that_a_crash_cut_short_is_dropped_and_dns_serves_what_stood_before() {
    let site = Site::new();
    let whole = published(&site);
    let file = site.path("dns/snapshot.json");
    let torn = [&whole[..], b"000003e8 0badcafe {\"generation\":"].concat();
    fs::write(&file, torn).unwrap();
    let mut dns = site.dns("127.0.0.1:0", "127.0.0.1:0");
    let query = dns.addresses().query;
    assert!(!wire::addresses(query, "checkout.drover.test").is_empty());
    assert!(dns.says("dropped a last change that is cut short"), "{}", dns.log());
}

#[test]
fn a_damaged_history_is_set_aside_and_stops_nobody() {
    let site = Site::new();
    drop(kept(&site, "state", true));
    let history = site.path("state/history.redb");
    let mut bytes = fs::read(&history).unwrap();
    bytes.iter_mut().step_by(3).for_each(|b| *b ^= 0x55);
    fs::write(&history, &bytes).unwrap();
    let mut coordinator = site.coordinator("c", &[], "127.0.0.1:0", &site.path("state"));
    coordinator.ready();
    let aside = site.path("state/history.redb.corrupt-1");
    assert!(fs::read(&aside).unwrap() == bytes, "kept for whoever wants to know");
    assert!(coordinator.says(aside.to_str().unwrap()), "{}", coordinator.log());
}

#[test]
fn an_agent_with_a_damaged_counter_speaks_under_a_higher_number() {
    let site = Site::new();
    let nobody: SocketAddr = ([127, 0, 0, 1], 9).into();
    let boot = |site: &Site| {
        let mut agent = site.agent(nobody, "127.0.0.1:0");
        let status: SocketAddr = agent.ready()["status"].as_str().unwrap().parse().unwrap();
        let (_, view) = wire::http(status, "GET", "/v1/agent", "").unwrap();
        (view["boot_number"].as_u64().unwrap(), agent.log())
    };
    let (first, _) = boot(&site);
    let counter = site.path("agent/boot.json");
    for damaged in [&b""[..], b"{\"boot_number\":", &[0xff; 40]] {
        fs::write(&counter, damaged).unwrap();
        let (number, said) = boot(&site);
        // An earlier number would make all that it says a replay (checklist 9 and 10).
        assert!(number >= first, "{number} after {first}");
        assert!(said.contains("boot counter was not readable"), "{said}");
    }
}
