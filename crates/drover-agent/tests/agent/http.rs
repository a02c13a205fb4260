//! What an answer is worth.

use crate::world::{Script, answer, assert_failed, endpoint, http_check, http_spec, probe, target};
use drover_agent::probe::Prober;
use drover_agent::probe::http::BODY_BYTES_MAX;
use drover_model::probe::FailureKind;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[tokio::test]
async fn the_request_is_what_a_client_would_send() {
    let (address, seen) = endpoint(answer("200 OK", "fine")).await;
    let mut check = http_check();
    check.path = "/health?deep=1".to_owned();
    let result = probe(http_spec(address, check)).await;
    assert_eq!((result.outcome, result.status), (Ok(()), Some(200)));
    let (_, request) = seen.last_request();
    assert!(request.starts_with("GET /health?deep=1 HTTP/1.1\r\n"), "{request}");
    let request = request.to_lowercase();
    assert!(request.contains(&format!("\r\nhost: shop.example:{}\r\n", address.port())), "{request}");
    assert!(request.contains("\r\nconnection: close\r\n"), "{request}");
    assert!(request.contains("\r\nuser-agent: drover-agent/"), "{request}");
}

#[tokio::test]
async fn the_host_can_be_overridden() {
    let (address, seen) = endpoint(answer("200 OK", "")).await;
    let mut check = http_check();
    check.host = Some("other.example".to_owned());
    assert_eq!(probe(http_spec(address, check)).await.outcome, Ok(()));
    assert!(seen.last_request().1.to_lowercase().contains("\r\nhost: other.example\r\n"));
}

#[tokio::test]
async fn only_the_expected_statuses_are_good_and_a_redirect_is_not_followed() {
    let (elsewhere, seen) = endpoint(answer("200 OK", "")).await;
    let redirect =
        format!("HTTP/1.1 302 Found\r\nLocation: http://{elsewhere}/\r\nContent-Length: 0\r\n\r\n");
    let (address, _) = endpoint(Script::Say(redirect.into_bytes())).await;
    let result = probe(http_spec(address, http_check())).await;
    assert_failed(&result, FailureKind::Status, "status 302, expected 200");
    assert_eq!(result.status, Some(302));
    assert_eq!(seen.accepted.load(Ordering::SeqCst), 0, "the redirect was followed");
    let mut check = http_check();
    check.expect_status = vec![204, 302];
    assert_eq!(probe(http_spec(address, check)).await.outcome, Ok(()));
    let (broken, _) = endpoint(answer("503 Service Unavailable", "no")).await;
    assert_failed(&probe(http_spec(broken, http_check())).await, FailureKind::Status, "status 503");
}

#[tokio::test]
async fn the_body_must_hold_the_expected_text() {
    let (address, _) = endpoint(answer("200 OK", "status: fine, thank you")).await;
    let mut check = http_check();
    check.expect_body = Some("fine".to_owned());
    assert_eq!(probe(http_spec(address, check.clone())).await.outcome, Ok(()));
    check.expect_body = Some("splendid".to_owned());
    assert_failed(&probe(http_spec(address, check)).await, FailureKind::Body, "do not hold `splendid`");
}

#[tokio::test]
async fn a_chunked_body_is_searched_as_one() {
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nspl\r\n5\r\nendid\r\n0\r\n\r\n";
    let (address, _) = endpoint(Script::Say(chunked.to_vec())).await;
    let mut check = http_check();
    check.expect_body = Some("splendid".to_owned());
    assert_eq!(probe(http_spec(address, check)).await.outcome, Ok(()));
}

#[tokio::test]
async fn a_huge_body_is_read_to_64_kib_and_no_further() {
    const TEN_MIB: usize = 10 * 1024 * 1024;
    for wanted in [None, Some("1".to_owned())] {
        let (address, seen) =
            endpoint(Script::Flood("HTTP/1.1 200 OK\r\nContent-Length: 10485760\r\n\r\n", TEN_MIB)).await;
        let mut check = http_check();
        check.expect_body.clone_from(&wanted);
        let result = probe(http_spec(address, check)).await;
        match wanted {
            None => assert_eq!(result.outcome, Ok(())),
            Some(_) => assert_failed(&result, FailureKind::Body, &format!("first {BODY_BYTES_MAX} bytes")),
        }
        // What the kernel's buffers took; far from the whole.
        assert!(seen.bytes_written.load(Ordering::SeqCst) < TEN_MIB, "the whole body was read");
    }
}

#[tokio::test]
async fn what_is_no_http_is_a_protocol_failure() {
    let many: String = (0..200).map(|i| format!("X-{i}: y\r\n")).collect();
    let huge = "a".repeat(64 * 1024);
    for bytes in [
        "SSH-2.0-OpenSSH_9.6\r\n\r\n".to_owned(),
        "HTTP/1.1 two hundred\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\n{many}\r\n"),
        format!("HTTP/1.1 200 OK\r\nX-Huge: {huge}\r\n\r\n"),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot a length\r\n".to_owned(),
    ] {
        let (address, _) = endpoint(Script::Say(bytes.clone().into_bytes())).await;
        let result = probe(http_spec(address, http_check())).await;
        let kind = result.outcome.as_ref().expect_err("it failed").kind;
        assert_eq!(kind, FailureKind::Protocol, "{:?} for {:.60}", result.outcome, bytes);
    }
}

#[tokio::test]
async fn a_secret_header_comes_from_its_file_and_follows_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "first-secret\n").unwrap();
    let (address, seen) = endpoint(answer("401 Unauthorized", "")).await;
    let mut check = http_check();
    check.secret_header = Some(("x-probe-token".to_owned(), path.clone()));
    let prober = Prober::default();
    let target = target(http_spec(address, check), None);
    let result = prober.probe(&target).await;
    assert!(seen.last_request().1.contains("x-probe-token: first-secret\r\n"));
    std::fs::write(&path, "second-secret").unwrap();
    let changed = async {
        while !seen.last_request().1.contains("x-probe-token: second-secret\r\n") {
            tokio::time::sleep(Duration::from_millis(50)).await;
            prober.probe(&target).await;
        }
    };
    tokio::time::timeout(crate::world::HANG_GUARD, changed).await.expect("the new secret is sent");
    let shown = format!("{result:?} {target:?} {prober:?}");
    assert!(!shown.contains("first-secret") && !shown.contains("second-secret"), "a secret was shown");
}

#[tokio::test]
async fn a_missing_secret_is_the_agents_own_fault_and_nothing_is_sent() {
    let (address, seen) = endpoint(answer("200 OK", "")).await;
    let mut check = http_check();
    check.secret_header = Some(("x-probe-token".to_owned(), "/nonexistent/token".into()));
    assert_failed(&probe(http_spec(address, check)).await, FailureKind::Local, "/nonexistent/token");
    assert_eq!(seen.accepted.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_check_that_cannot_be_sent_is_the_agents_own_fault() {
    let (address, _) = endpoint(answer("200 OK", "")).await;
    let mut check = http_check();
    check.path = "/a b".to_owned();
    assert_failed(&probe(http_spec(address, check)).await, FailureKind::Local, "cannot be sent as a path");
    let mut check = http_check();
    check.host = Some("a\nb".to_owned());
    assert_failed(&probe(http_spec(address, check)).await, FailureKind::Local, "cannot be sent as a host");
}
