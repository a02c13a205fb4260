//! Endpoints that are there and do not answer, or hardly: neither is refused, and no check may wait for them for ever.

use super::{address, generation, kinds, observations, seen};
use crate::world::{World, weights};
use drover_model::Span;
use drover_model::api::ObservationView;
use drover_model::decision::VerdictState;
use drover_model::journal::RunState;
use drover_model::probe::FailureKind;
use nix::sys::signal::Signal;
use serde_json::json;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two bytes: the whole answer takes minutes, and something comes all the time.
const TRICKLE: Duration = Duration::from_millis(50);
/// Connections that are held open: two seconds of all that come.
const OPEN_MAX: usize = 300;
/// Long enough for a trickle that a check would have waited for.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n";

/// A server in the place of a sample service, until it is dropped.
struct Instead {
    stop: Arc<AtomicBool>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Instead {
    /// Takes every connection and says nothing, or one byte at a time.
    fn of(w: &World, service: &str, region: &str, trickles: bool) -> Self {
        let killed = w.service(service, region);
        killed.signal(Signal::SIGKILL);
        let address = address(w, &format!("{service}@{region}"));
        let listener = w.wait_for("its place is free", |_| TcpListener::bind(address).ok());
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut open: Vec<(TcpStream, usize)> = vec![];
            while !stopped.load(Ordering::Relaxed) {
                while let Ok((stream, _)) = listener.accept() {
                    open.push((stream, 0));
                }
                // The clients of the sample world come as well; the oldest of them have given up.
                open.drain(..open.len().saturating_sub(OPEN_MAX));
                if trickles {
                    open.retain_mut(|(stream, sent)| {
                        let byte = ANSWER.get(*sent).copied().unwrap_or(b'.');
                        *sent += 1;
                        stream.write_all(&[byte]).is_ok()
                    });
                }
                std::thread::sleep(TRICKLE);
            }
        });
        Self { stop, address, thread: Some(thread) }
    }
}

impl Drop for Instead {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|t| t.join().is_err()) && !std::thread::panicking() {
            panic!("what stood at {} failed", self.address);
        }
    }
}

/// eu-west hangs in one service and trickles in the other; catalog in us-east is slow, but inside of its bound.
#[test]
fn a_region_that_hangs_is_left_and_one_that_is_slow_within_its_bound_is_not() {
    // Four times as slow is still within it, on a busy machine too.
    const SLOW: Span = Span::from_millis(200);
    const BOUND: Span = Span::from_millis(900);
    let w = World::up();
    w.edit(|c| {
        for service in c.services.values_mut() {
            service.timeout = BOUND;
            service.app_checks.iter_mut().for_each(|check| check.timeout = BOUND);
            service.validation.max_latency_p95 = BOUND;
        }
    });
    w.fault(&w.service("catalog", "us-east"), &json!({"slow": SLOW}));
    let _hangs = Instead::of(&w, "checkout", "eu-west", false);
    let _trickles = Instead::of(&w, "catalog", "eu-west", true);

    let run = w.until_run(RunState::Succeeded);
    assert_eq!((run.summary.region.as_str(), run.plan.services.len()), ("eu-west", 2));
    for service in ["checkout", "catalog"] {
        assert_eq!(w.answered(service), ["ap-south", "us-east"]);
        let inputs = seen(&w, &format!("{service}@eu-west"));
        let all_late = kinds(&inputs).iter().all(|k| *k == Some(FailureKind::TimedOut));
        assert!(all_late, "{service} accepts, so it is neither refused nor without a route: {inputs:#?}");
    }

    let status = w.status();
    assert_eq!(status.runs.len(), 1, "{:#?}", status.runs);
    assert!(weights(&status, "catalog").contains(&("us-east".into(), 50)), "it even took over");
    assert_eq!(generation(&status, "catalog"), generation(&status, "checkout"), "one change each");
    let slow = status.services.iter().flat_map(|s| s.endpoints.iter().map(move |e| (s, e)));
    for (s, e) in slow.filter(|(_, e)| e.region.as_str() != "eu-west") {
        assert_eq!(e.verdict, VerdictState::Healthy, "{}@{}", s.name, e.region);
    }
    assert!(was_seen_slow(&w, SLOW), "nobody saw it slow, so that nothing was tested");
}

/// Did every outside vantage have a good answer from catalog in us-east that took so long?
fn was_seen_slow(w: &World, slow: Span) -> bool {
    let all = observations(w, "catalog@us-east");
    ["ap-south-1", "witness-1"].iter().all(|vantage| {
        let of = |o: &&ObservationView| o.vantage.as_str() == *vantage;
        all.iter().filter(of).any(|o| o.outcome.is_good() && o.latency_micros >= slow.as_millis() * 1_000)
    })
}
