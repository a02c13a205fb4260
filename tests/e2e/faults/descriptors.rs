//! A process that may open no further file or connection says so, stays alive, and goes on once it may.

use super::SEEN_FOR;
use super::role::{Site, descriptors, highest_descriptor, limit_descriptors, sockets, wait_for};
use crate::wire;
use crate::world::{World, all_serve, is_well};
use drover_model::api::StatusView;
use drover_model::decision::VerdictState;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Connections that ask nothing.
const IDLE: usize = 30;
/// Less than any process holds: nothing at all can be opened.
const NONE: usize = 3;
/// An ordinary limit.
const PLENTY: usize = 1_024;

fn idle(address: SocketAddr) -> Vec<TcpStream> {
    (0..IDLE).map(|_| TcpStream::connect(address).unwrap()).collect()
}

#[test]
fn a_coordinator_without_descriptors_closes_idle_connections_and_serves_on() {
    let site = Site::new();
    let mut coordinator = site.coordinator("c", &[], "127.0.0.1:0", &site.path("state"));
    let api = coordinator.api();
    let url = format!("http://{api}");
    let mut connections = idle(api);
    wait_for("they are accepted", || (sockets(coordinator.pid()) >= IDLE).then_some(()));
    limit_descriptors(coordinator.pid(), highest_descriptor(coordinator.pid()) + 1);
    wait_for("it lacks descriptors, says so, and answers all the same", || {
        // Numbers that were free below the highest one are used up first; a slow machine must not take a question for each.
        connections.extend((0..8).map(|_| TcpStream::connect(api).unwrap()));
        let (code, said) = site.ask(&url, &["status", "-o", "json"]);
        assert_eq!(code, 0, "{said}");
        (coordinator.says("can't accept a connection") && coordinator.says("Too many open files"))
            .then_some(())
    });

    // Now nobody can be let in, and nothing can be opened.
    limit_descriptors(coordinator.pid(), NONE);
    drop(connections);
    let waiting = TcpStream::connect(api).unwrap();
    let began = Instant::now();
    while began.elapsed() < SEEN_FOR {
        assert!(coordinator.is_alive(), "{}", coordinator.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(coordinator.log().matches("can't accept a connection").count(), 1, "it floods its log");
    limit_descriptors(coordinator.pid(), PLENTY);
    drop(waiting);
    let (code, said) = site.ask(&url, &["freeze", "--for", "1h", "--reason", "it writes again too"]);
    assert_eq!(code, 0, "{said}");
    wait_for("it is ready", || (wire::http(api, "GET", "/readyz", "").ok()?.0 == 200).then_some(()));
    assert!(!coordinator.says("panicked"), "{}", coordinator.log());
}

/// With a limit that is low from the start, connections leave room for everything else.
#[test]
fn a_low_limit_bounds_connections_and_is_said() {
    let site = Site::new();
    let mut coordinator =
        site.coordinator("c", &["prlimit", "--nofile=128:128", "--"], "127.0.0.1:0", &site.path("s"));
    let api = coordinator.api();
    let _idle: Vec<_> = (0..4).flat_map(|_| idle(api)).collect();
    let (code, said) = site.ask(&format!("http://{api}"), &["status", "-o", "json"]);
    assert_eq!(code, 0, "{said}");
    let held = descriptors(coordinator.pid());
    assert!(held < 100, "{held} of 128");
    let said = coordinator.log();
    assert!(coordinator.says("the descriptor limit allows fewer connections"), "{said}");
    assert!(coordinator.says("LimitNOFILE") && !coordinator.says("Too many open files"), "{said}");
}

#[test]
fn dns_without_descriptors_answers_over_udp_and_takes_changes_afterwards() {
    let site = Site::new();
    let mut dns = site.dns("127.0.0.1:0", "127.0.0.1:0");
    let at = dns.addresses();
    site.configure_dns(&at);
    let mut coordinator = site.coordinator("c", &[], "127.0.0.1:0", &site.path("state"));
    coordinator.ready();
    let answered = || wire::addresses(at.query, "checkout.drover.test").len();
    wait_for("it answers", || (answered() > 0).then_some(()));
    drop(coordinator);

    limit_descriptors(dns.pid(), NONE);
    let _waiting = (TcpStream::connect(at.query).unwrap(), TcpStream::connect(at.control).unwrap());
    for _ in 0..20 {
        assert!(answered() > 0, "UDP needs no further descriptor");
    }
    assert!(dns.is_alive());
    limit_descriptors(dns.pid(), PLENTY);
    let (status, sets) = wire::http(at.control, "GET", "/v1/recordsets", "").unwrap();
    assert_eq!(status, 200, "{sets}");
    assert!(!dns.says("panicked"), "{}", dns.log());
}

/// What an agent can't probe for want of a descriptor says nothing of the endpoint (checklist 4): all agents without
/// descriptors are no failure of all regions.
#[test]
fn agents_without_descriptors_are_no_witnesses() {
    let w = World::up();
    let agents: Vec<i32> = w.config.agents().keys().map(|a| w.agent(a.as_str()).pid).collect();
    let before: Vec<usize> = agents.iter().map(|pid| descriptors(*pid)).collect();
    let quiet = |s: &StatusView| s.runs.is_empty() && all_serve(s);
    agents.iter().for_each(|pid| limit_descriptors(*pid, NONE));
    let unsure = w.until("nobody sees anything", |s| {
        s.services.iter().flat_map(|s| &s.endpoints).all(|e| e.verdict == VerdictState::Unknown)
    });
    assert!(!unsure.attention.is_empty());
    w.stays_for(SEEN_FOR, "unknown is not down", quiet);
    for (pid, before) in agents.iter().zip(before) {
        limit_descriptors(*pid, PLENTY.max(2 * before));
    }
    w.until("all is well again", |s| is_well(s) && quiet(s));
    let now: Vec<i32> = w.config.agents().keys().map(|a| w.agent(a.as_str()).pid).collect();
    assert_eq!(now, agents, "none of them died of it");
}
