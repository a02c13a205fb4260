//! Status pages: what they say while coordinators come, go and contradict themselves, and while people are in the way.

use crate::agent::{identity, list, start};
use crate::coordinator::{Desk, serve};
use crate::world::HANG_GUARD;
use drover_agent::Identity;
use drover_model::out_of_service::{OutOfService, status_text};
use drover_model::{Epoch, Generation, RegionId};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn said(counter: u64, generation: u64, regions: &[&str]) -> OutOfService {
    OutOfService {
        epoch: Epoch { incarnation: 7, counter },
        generation: Generation(generation),
        regions: regions.iter().map(|r| RegionId::new(*r).unwrap()).collect(),
    }
}

fn paged(state_dir: &Path, coordinator: &str) -> Identity {
    let mut identity = identity(state_dir, &[coordinator]);
    identity.status_listen = Some("127.0.0.1:0".parse().unwrap());
    identity
}

/// Where the pages of an agent that was just started are.
async fn address(state_dir: &Path) -> SocketAddr {
    let path = state_dir.join("status-pages.address");
    let waiting = async {
        loop {
            if let Ok(text) = std::fs::read_to_string(&path)
                && let Ok(address) = text.parse()
                && TcpStream::connect::<SocketAddr>(address).await.is_ok()
            {
                return address;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(HANG_GUARD, waiting).await.expect("the pages are served")
}

/// Status and text of one request.
async fn ask(at: SocketAddr, request: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(at).await?;
    stream.write_all(format!("{request} HTTP/1.1\r\nHost: status\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    Ok((status, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned())))
}

async fn page(at: SocketAddr, region: &str) -> u16 {
    ask(at, &format!("GET /v1/out-of-service/{region}")).await.unwrap().0
}

async fn until(at: SocketAddr, region: &str, status: u16) {
    let waiting = async {
        while page(at, region).await != status {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(HANG_GUARD, waiting).await.unwrap_or_else(|_| panic!("{region} is never {status}"));
}

/// The agent has reported so often since, so that it has heard whatever it was told.
async fn has_heard(desk: &Arc<Desk>) {
    let before = desk.reports().len();
    desk.wait_for("two reports more", |r| (r.len() > before + 2).then_some(())).await;
}

#[tokio::test]
async fn a_page_says_what_was_declared_last_over_restarts_and_without_a_coordinator() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::new(list("v1", vec![]));
    let url = serve(&desk).await;
    let agent = start(paged(dir.path(), &url));
    let at = address(dir.path()).await;
    // Nobody has said anything: that is in service, as of a region that nobody knows.
    assert_eq!((page(at, "us-east").await, page(at, "nowhere").await), (503, 503));
    *desk.out_of_service.lock().unwrap() = Some(said(1, 1, &["us-east"]));
    until(at, "us-east", 200).await;
    let (_, text) = ask(at, "GET /v1/out-of-service/us-east").await.unwrap();
    assert_eq!(text.trim(), status_text(&RegionId::new("us-east").unwrap()));
    assert_eq!(page(at, "eu-west").await, 503, "another region is another matter");
    desk.wait_for("it says what it holds", |r| r.last()?.out_of_service.filter(|h| h.generation.0 == 1))
        .await;
    // What is late, or contradicts itself, changes nothing; nor does silence.
    for wrong in [said(1, 0, &[]), said(1, 1, &[]), said(0, 9, &[])] {
        *desk.out_of_service.lock().unwrap() = Some(wrong);
        has_heard(&desk).await;
        assert_eq!(page(at, "us-east").await, 200);
    }
    *desk.out_of_service.lock().unwrap() = None;
    has_heard(&desk).await;
    desk.cut_off(true);
    assert_eq!(page(at, "us-east").await, 200);
    agent.stop().await;
    std::fs::remove_file(dir.path().join("status-pages.address")).unwrap();
    let agent = start(paged(dir.path(), &url));
    let at = address(dir.path()).await;
    assert_eq!(page(at, "us-east").await, 200, "no coordinator answers");
    // A successor, under a higher epoch.
    *desk.out_of_service.lock().unwrap() = Some(said(2, 2, &["eu-west"]));
    desk.cut_off(false);
    until(at, "eu-west", 200).await;
    assert_eq!(page(at, "us-east").await, 503);
    agent.stop().await;
    assert!(TcpStream::connect(at).await.is_err());
}

#[tokio::test]
async fn a_page_can_only_be_read_and_says_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::new(list("v1", vec![]));
    *desk.out_of_service.lock().unwrap() = Some(said(1, 1, &["us-east"]));
    let agent = start(paged(dir.path(), &serve(&desk).await));
    let at = address(dir.path()).await;
    until(at, "us-east", 200).await;
    for (request, status) in [
        ("HEAD /v1/out-of-service/us-east", 200),
        ("POST /v1/out-of-service/us-east", 405),
        ("DELETE /v1/out-of-service/us-east", 405),
        ("GET /", 404),
        ("GET /v1/agent", 404),
        ("GET /metrics", 404),
        ("GET /v1/out-of-service/", 503),
        ("GET /v1/out-of-service/US-EAST", 503),
        ("GET /v1/out-of-service/us-east/more", 503),
        ("GET /v1/out-of-service/..%2f..%2fagent", 503),
    ] {
        assert_eq!(ask(at, request).await.unwrap().0, status, "{request}");
    }
    // More than a page needs is not read.
    let long = ask(at, &format!("GET /v1/out-of-service/{}", "x".repeat(64 << 10))).await;
    assert!(long.is_err() || long.unwrap().0 != 200);
    agent.stop().await;
}

#[tokio::test]
async fn who_dawdles_or_comes_in_crowds_keeps_no_checker_from_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::new(list("v1", vec![]));
    *desk.out_of_service.lock().unwrap() = Some(said(1, 1, &["us-east"]));
    let agent = start(paged(dir.path(), &serve(&desk).await));
    let at = address(dir.path()).await;
    until(at, "us-east", 200).await;
    // Twice as many as there are places for, which say a word and then nothing.
    let mut crowd = Vec::new();
    for _ in 0..2 * drover_agent::status_pages::PAGES_CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"GET /v1/out-of").await.unwrap();
        crowd.push(stream);
    }
    for _ in 0..20 {
        assert_eq!(page(at, "us-east").await, 200);
    }
    // The eldest had to go; and the last one, whom nobody pushed, is not kept for ever either.
    for stream in [crowd.swap_remove(0), crowd.pop().unwrap()] {
        let mut stream = stream;
        let gone = tokio::time::timeout(HANG_GUARD, stream.read_to_end(&mut Vec::new())).await;
        assert!(gone.is_ok(), "it is still held");
    }
    agent.stop().await;
}
