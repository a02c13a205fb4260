//! What is left behind: declared and drained are two times, and the second is measured where the traffic arrives.

use crate::world::World;
use drover_model::Span;
use drover_model::config::{TrafficFrom, TrafficSource};
use drover_model::journal::RunState;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn a_drain_is_over_when_the_old_sides_log_falls_silent() {
    let w = World::up();
    let log = w.path("access.log");
    std::fs::write(&log, "").unwrap();
    w.edit(|c| {
        for service in c.services.values_mut() {
            let from = TrafficFrom::AccessLog { path: log.clone() };
            service.traffic = Some(TrafficSource { from, drained_below: 5, hold: Span::from_secs(2) });
        }
    });
    // Clients that keep the old address.
    let stays = Arc::new(AtomicBool::new(true));
    let (on, path) = (Arc::clone(&stays), log.clone());
    let clients = std::thread::spawn(move || {
        while on.load(Ordering::Relaxed) {
            let mut file = std::fs::File::options().append(true).open(&path).unwrap();
            file.write_all("GET /\n".repeat(20).as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let plan =
        w.plan(&["drain", "us-east", "--service", "checkout", "--for", "1h", "--reason", "kernel update"]);
    w.drover(&["apply", &plan, "--reason", "kernel update", "--yes", "--no-wait"]).expect_code(0);
    let id = w.status().runs[0].id.clone();
    w.wait_for("the old side is measured", |w| {
        let step = w.run(&id).steps.into_iter().find(|s| s.id.ends_with("drained")).unwrap();
        (step.state == "running").then_some(())
    });
    w.stays("it is not drained", |s| s.runs.iter().any(|r| r.id == id && !r.state.is_final()));
    let recovered = w.run(&id);
    assert!(recovered.recovered_at.is_some() && recovered.drained_at.is_none(), "{recovered:?}");

    stays.store(false, Ordering::Relaxed);
    clients.join().unwrap();
    w.wait_for("it is over", |w| w.run(&id).summary.state.is_final().then_some(()));
    let run = w.run(&id);
    assert_eq!(run.summary.state, RunState::Succeeded, "{run:?}");
    assert!(run.drained_at > run.recovered_at && !run.drained_is_assumed, "{run:?}");
    let measured = run.steps.iter().flat_map(|s| &s.measurements).find(|m| m.as_drained().is_some()).unwrap();
    assert_eq!(measured.bound, "below 5rps for 2s");
    let shown = w.drover(&["run", "show", id.as_str()]).expect_code(0).stdout;
    assert!(shown.contains("live in DNS and verified") && shown.contains("measured"), "{shown}");
}
