//! Response-rate limiting, over real sockets.

use std::num::NonZeroU32;
use std::time::Duration;

use drover_dns::server::{Limits, RateLimitConfig};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType as QueryType;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::common::{GUARD, LOOPBACK, Served, exchange, http, query, record_sets, serve_with};

/// Answers a second, and at once.
const LIMIT: u32 = 5;
const ASKED: usize = 60;
/// Nothing comes any more.
const QUIET: Duration = Duration::from_millis(300);

async fn limited(directory: &tempfile::TempDir, exempt_loopback: bool) -> Served {
    let rate_limit = RateLimitConfig { answers_per_second: NonZeroU32::new(LIMIT).unwrap(), exempt_loopback };
    let served =
        serve_with(directory.path(), Limits { rate_limit: Some(rate_limit), ..Limits::default() }).await;
    served.publish_all(record_sets());
    served
}

/// All answers to many questions at once: those with records, and those that are empty and send to TCP.
async fn flood(served: &Served, question: &Message) -> (usize, usize) {
    let socket = UdpSocket::bind(LOOPBACK).await.unwrap();
    socket.connect(served.dns()).await.unwrap();
    for _ in 0..ASKED {
        socket.send(&question.to_vec().unwrap()).await.unwrap();
    }
    let (mut whole, mut empty, mut buffer) = (0, 0, vec![0; 4096]);
    while let Ok(length) = timeout(QUIET, socket.recv(&mut buffer)).await {
        let answer = Message::from_vec(&buffer[..length.unwrap()]).unwrap();
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
        if answer.metadata.truncation {
            assert!(answer.answers.is_empty() && answer.authorities.is_empty());
            empty += 1;
        } else {
            whole += 1;
        }
    }
    (whole, empty)
}

fn asked() -> Message {
    query("app.example.test.", QueryType::A, Some(1232))
}

#[tokio::test]
async fn who_asks_too_much_gets_less_and_a_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let served = limited(&directory, false).await;
    let (whole, empty) = flood(&served, &asked()).await;
    // As many as at once, and what a slow machine's seconds add.
    assert!(whole > LIMIT as usize && whole < ASKED / 2, "{whole} whole, {empty} empty");
    assert!(empty > 0 && whole + empty < ASKED, "{whole} whole, {empty} empty");
    let (_, metrics) = http(served.running.control, "GET", "/metrics", "").await;
    let count = |name: &str| -> usize {
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let (dropped, sent) =
        (count("drover_dns_rate_limited_total"), count("drover_dns_rate_limited_to_tcp_total"));
    assert_eq!((dropped + sent + whole, sent), (ASKED, empty));
    served.end().await;
}

#[tokio::test]
async fn a_client_that_has_proven_its_address_is_not_limited() {
    let directory = tempfile::tempdir().unwrap();
    let served = limited(&directory, false).await;
    let with_cookie = |cookie: Vec<u8>| {
        let mut message = asked();
        let edns = message.edns.as_mut().unwrap();
        edns.options_mut().insert(EdnsOption::Unknown(u16::from(EdnsCode::Cookie), cookie));
        message
    };
    let first = exchange(served.dns(), &with_cookie(vec![7; 8])).await;
    let given = first.edns.as_ref().unwrap().options().get(EdnsCode::Cookie).cloned();
    let Some(EdnsOption::Unknown(_, cookie)) = given else { panic!("no cookie: {given:?}") };
    assert_eq!(cookie.len(), 24);
    assert_eq!(flood(&served, &with_cookie(cookie.clone())).await, (ASKED, 0));
    // One that is made up proves nothing.
    let forged = [&cookie[..23], &[cookie[23] ^ 1]].concat();
    let (whole, _) = flood(&served, &with_cookie(forged)).await;
    assert!(whole < ASKED / 2, "{whole}");
    served.end().await;
}

#[tokio::test]
async fn this_machine_is_left_out_unless_it_shall_not_be() {
    let directory = tempfile::tempdir().unwrap();
    let served = limited(&directory, true).await;
    assert_eq!(timeout(GUARD, flood(&served, &asked())).await.unwrap(), (ASKED, 0));
    served.end().await;
}
