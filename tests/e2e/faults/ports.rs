//! A port, or a socket, that somebody else has: the role says which one and what to do, ends with 4, and has done nothing.

use super::role::{Role, Site, says, wait_for};
use crate::wire;
use serde_json::Value;
use std::net::{SocketAddr, TcpListener, UdpSocket};

/// The role could not listen on `address`, said so and how to go on, and never said that it serves.
#[track_caller]
fn refused(mut role: Role, address: SocketAddr) -> String {
    let ended = role.ready_or_ended().expect_err("it serves on a port that somebody else has");
    let said = role.log();
    assert_eq!(ended, 4, "{said}");
    let port = address.port();
    for part in
        [&address.to_string(), "in use", &format!("ss -lntup 'sport = :{port}'"), "another address with"]
    {
        assert!(says(&said, part), "{part:?} is not in: {said}");
    }
    said
}

/// The batches that a DNS server applied.
fn applied(control: SocketAddr) -> usize {
    let (status, changes) = wire::http(control, "GET", "/v1/changes", "").unwrap();
    assert_eq!(status, 200, "{changes}");
    changes["applied"].as_array().unwrap().len()
}

#[test]
fn a_coordinator_whose_port_is_taken_has_touched_nothing() {
    let site = Site::new();
    let mut dns = site.dns("127.0.0.1:0", "127.0.0.1:0");
    let at = dns.addresses();
    site.configure_dns(&at);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let listen = address.to_string();
    let said = refused(site.coordinator("c", &[], &listen, &site.path("state")), address);
    assert!(says(&said, "--listen"), "{said}");
    assert!(!site.path("c.sock").exists(), "nobody can be asked there");
    assert_eq!(applied(at.control), 0, "it published before it knew whether it can run");

    drop(taken);
    let mut coordinator = site.coordinator("c", &[], &listen, &site.path("state"));
    assert_eq!(coordinator.api(), address, "the same state, and nobody is in the way");
    wait_for("the targets are published", || (applied(at.control) > 0).then_some(()));
}

#[test]
fn a_socket_that_a_living_coordinator_answers_is_not_taken_from_it() {
    let site = Site::new();
    let mut first = site.coordinator("c", &[], "127.0.0.1:0", &site.path("state"));
    first.ready();
    let socket = site.path("c.sock");
    let [config, state, at] =
        [&site.path("config"), &site.path("other"), &socket].map(|p| p.to_str().unwrap().to_owned());
    let words =
        ["coordinator", "--config", &config, "--state", &state, "--socket", &at, "--listen", "127.0.0.1:0"];
    let mut second = site.start("second", &[], &words);
    assert_eq!(second.ended(), 4);
    assert!(second.says("ss -lxp src") && second.says("--socket"), "{}", second.log());
    let (code, said) = site.ask(&format!("unix:{at}"), &["status", "-o", "json"]);
    assert_eq!(code, 0, "{said}");

    // What a dead one left behind is no obstacle.
    drop(first);
    assert!(socket.exists());
    let mut second = site.start("second", &[], &words);
    second.ready();
}

#[test]
fn a_dns_server_whose_port_is_taken_answers_nowhere() {
    let site = Site::new();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap();
    let said = refused(site.dns(&address.to_string(), "127.0.0.1:0"), address);
    assert!(says(&said, "for DNS") && says(&said, "--listen"), "{said}");
    drop(udp);

    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let said = refused(site.dns(&address.to_string(), "127.0.0.1:0"), address);
    assert!(says(&said, "for DNS"), "the port is free for UDP alone: {said}");

    // The port of DNS would be free, but half a server must not take it.
    // An address of its own: clients of other tests have thousands of ports of 127.0.0.1, which UDP does not tell of.
    let free = UdpSocket::bind("127.0.0.77:0").unwrap().local_addr().unwrap();
    let said = refused(site.dns(&free.to_string(), &address.to_string()), address);
    assert!(says(&said, "for control") && says(&said, "--control"), "{said}");
    drop(tcp);
    let mut dns = site.dns(&free.to_string(), &address.to_string());
    assert_eq!((dns.addresses().query, dns.addresses().control), (free, address));
}

#[test]
fn an_agent_whose_port_is_taken_reports_nothing() {
    let site = Site::new();
    let coordinator = TcpListener::bind("127.0.0.1:0").unwrap();
    coordinator.set_nonblocking(true).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let asked = coordinator.local_addr().unwrap();
    let said = refused(site.agent(asked, &address.to_string()), address);
    assert!(says(&said, "identity file"), "{said}");
    let nobody = coordinator.accept().expect_err("it spoke to its coordinator");
    assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);

    drop(taken);
    let mut agent = site.agent(asked, &address.to_string());
    assert_eq!(agent.ready()["status"], Value::from(address.to_string()));
    wait_for("it speaks to its coordinator", || coordinator.accept().ok());
}
