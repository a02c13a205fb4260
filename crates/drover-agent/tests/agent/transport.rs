//! Below HTTP: connecting, names, source addresses, and the timeout of each phase.

use crate::world::{
    Script, answer, assert_failed, endpoint, endpoint_on, http_check, http_spec, nobody, probe, probe_from,
    spec, tcp_spec,
};
use drover_model::Span;
use drover_model::config::{HealthCheck, TcpCheck};
use drover_model::probe::FailureKind;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

#[tokio::test]
async fn an_accepted_connection_is_good() {
    let (address, _) = endpoint(Script::Silence).await;
    let result = probe(tcp_spec(address)).await;
    assert_eq!(result.outcome, Ok(()));
    assert_eq!(result.status, None);
}

#[tokio::test]
async fn a_closed_port_refuses() {
    assert_failed(&probe(tcp_spec(nobody())).await, FailureKind::Refused, "connecting");
    assert_failed(&probe(http_spec(nobody(), http_check())).await, FailureKind::Refused, "connecting");
}

/// A listener whose queue is full drops every further SYN: as near to a black hole as loopback comes.
async fn black_hole() -> (SocketAddr, socket2::Socket, Vec<TcpStream>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut filling = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
    {
        filling.push(stream.unwrap());
    }
    (address, socket, filling)
}

#[tokio::test]
async fn a_black_hole_times_out_while_connecting() {
    let (address, _socket, _filling) = black_hole().await;
    let mut spec = tcp_spec(address);
    spec.timeout = Span::from_millis(200);
    let result = probe(spec).await;
    assert_failed(&result, FailureKind::TimedOut, "connecting after 200ms");
    assert!(result.latency >= Duration::from_millis(200) && result.latency < Duration::from_secs(2));
}

#[tokio::test]
async fn silence_times_out_while_waiting_for_the_answer() {
    let (address, _) = endpoint(Script::Silence).await;
    let mut spec = http_spec(address, http_check());
    spec.timeout = Span::from_millis(200);
    assert_failed(&probe(spec).await, FailureKind::TimedOut, "waiting for the answer");
}

/// Each byte arrives well inside the timeout, the whole answer does not: the timeout covers the exchange, not a read.
#[tokio::test]
async fn a_dripping_head_and_a_dripping_body_time_out_all_the_same() {
    let gap = Duration::from_millis(30);
    let long = "X-Padding: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    for (script, phase) in [
        (Script::Drip("HTTP/1.1 200 OK\r\n", long, gap), "waiting for the answer"),
        (Script::Drip("HTTP/1.1 200 OK\r\nContent-Length: 75\r\n\r\n", long, gap), "reading the body"),
    ] {
        let (address, _) = endpoint(script).await;
        let mut spec = http_spec(address, http_check());
        spec.timeout = Span::from_millis(300);
        let result = probe(spec).await;
        assert_failed(&result, FailureKind::TimedOut, phase);
        assert!(result.latency < Duration::from_secs(2), "{:?}", result.latency);
    }
}

#[tokio::test]
async fn a_reset_is_a_reset_before_and_within_the_answer() {
    for script in [
        Script::Reset,
        Script::SayAndReset("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
        Script::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec()),
        Script::Say(Vec::new()),
    ] {
        let (address, _) = endpoint(script).await;
        assert_failed(&probe(http_spec(address, http_check())).await, FailureKind::Reset, "");
    }
}

#[tokio::test]
async fn ipv6_is_probed_as_pinned() {
    let (address, seen) = endpoint_on("[::1]:0", answer("200 OK", "")).await;
    let result = probe(http_spec(address, http_check())).await;
    assert_eq!(result.outcome, Ok(()));
    assert!(seen.last_request().0.is_ipv6());
}

#[tokio::test]
async fn a_name_is_resolved_for_each_probe_and_its_first_live_address_is_used() {
    let (address, _) = endpoint(answer("200 OK", "")).await;
    let mut named = http_spec(address, http_check());
    // It may resolve to ::1 first, where nobody listens on this port.
    named.address = "localhost".to_owned();
    assert_eq!(probe(named.clone()).await.outcome, Ok(()));
    named.address = "no-such-host.invalid".to_owned();
    assert_failed(&probe(named).await, FailureKind::Resolve, "no-such-host.invalid");
}

#[tokio::test]
async fn probes_leave_from_the_source_address() {
    let (address, seen) = endpoint(answer("200 OK", "")).await;
    let result = probe_from(http_spec(address, http_check()), Some("127.0.0.9".parse().unwrap())).await;
    assert_eq!(result.outcome, Ok(()));
    assert_eq!(seen.last_request().0.ip().to_string(), "127.0.0.9");
}

#[tokio::test]
async fn a_source_address_that_cannot_be_used_is_the_agents_own_fault() {
    let (address, _) = endpoint(answer("200 OK", "")).await;
    for (source, words) in [("192.0.2.1", "192.0.2.1"), ("::1", "other family")] {
        let result = probe_from(http_spec(address, http_check()), Some(source.parse().unwrap())).await;
        assert_failed(&result, FailureKind::Local, words);
    }
}

#[tokio::test]
async fn slow_but_good_is_too_slow_for_tcp_and_http_alike() {
    let slow = Script::Drip("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", "x", Duration::from_millis(150));
    let (address, _) = endpoint(slow).await;
    let mut check = http_check();
    check.max_latency = Some(Span::from_millis(50));
    let result = probe(http_spec(address, check)).await;
    assert_failed(&result, FailureKind::TooSlow, "50 ms are allowed");
    assert_eq!(result.status, Some(200));
    let tcp = HealthCheck::Tcp(TcpCheck { max_latency: Some(Span::ZERO) });
    assert_failed(&probe(spec("shop@us-east", address, tcp)).await, FailureKind::TooSlow, "0 ms are allowed");
}
