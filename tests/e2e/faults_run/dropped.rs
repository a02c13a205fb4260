//! Packets that are dropped, and packets that are refused: different troubles with different cures, so they are told
//! apart, and either is an outage.
//!
//! The world lives in a network of its own (`unshare --net`), in which nftables drops and rejects. Nothing outside of it
//! is touched, and the kernel takes it away with the world's last process.

use super::{address, kinds, seen};
use crate::network;
use crate::world::{Setup, World, weights};
use drover_model::decision::VerdictState;
use drover_model::journal::RunState;
use drover_model::probe::FailureKind;
use std::process::Command;

/// Gives the world's network these rules, instead of those that it had.
fn rules(w: &World, rules: &[String]) {
    let net = format!("--net=/proc/{}/ns/net", w.keeper());
    let rules = rules.iter().map(|r| format!("add rule inet faults input {r}\n")).collect::<String>();
    let script = format!(
        "add table inet faults\ndelete table inet faults\nadd table inet faults\n\
         add chain inet faults input {{ type filter hook input priority 0; policy accept; }}\n{rules}"
    );
    let file = w.path("rules.nft");
    std::fs::write(&file, script).unwrap();
    // Debian keeps what only root may run here.
    let in_it = [net.as_str(), "sh", "-c", "PATH=\"$PATH:/usr/sbin:/sbin\"; exec nft -f \"$0\""];
    let said = network::output(Command::new("nsenter").args(in_it).arg(&file));
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

/// eu-west: every packet to checkout is dropped; those to catalog are answered with "no route" or, for the witness,
/// with a reset. All of it comes back with the rules gone.
#[test]
fn packets_dropped_by_nftables_and_packets_refused_are_told_apart() {
    network::is_needed();
    let w = World::start(Setup { under: network::OWN.map(String::from).to_vec(), ..Setup::default() });
    let to = |endpoint: &str| {
        let address = address(&w, endpoint);
        format!("ip daddr {} tcp dport {}", address.ip(), address.port())
    };
    let witness = w.config.regions.values().find(|r| r.name.as_str() == "witness").unwrap();
    let witness = witness.agents[0].source_address.unwrap();
    rules(
        &w,
        &[
            format!("{} drop", to("checkout@eu-west")),
            format!("ip saddr {witness} {} reject with tcp reset", to("catalog@eu-west")),
            format!("{} reject with icmp type host-unreachable", to("catalog@eu-west")),
        ],
    );
    let run = w.until_run(RunState::Succeeded);
    assert_eq!((run.summary.region.as_str(), run.plan.services.len()), ("eu-west", 2));
    assert!(weights(&w.status(), "checkout").contains(&("eu-west".into(), 0)));

    let dropped = seen(&w, "checkout@eu-west");
    assert_eq!(kinds(&dropped), [Some(FailureKind::TimedOut); 3], "{dropped:#?}");
    let refused = seen(&w, "catalog@eu-west");
    for o in &refused.outside {
        let expected =
            if o.vantage.as_str() == "witness-1" { FailureKind::Refused } else { FailureKind::Unreachable };
        assert_eq!(o.last_failure, Some(expected), "{refused:#?}");
    }
    rules(&w, &[]);
    w.until("it is seen again", |s| {
        let endpoints = s.services.iter().flat_map(|s| &s.endpoints);
        endpoints.filter(|e| e.region.as_str() == "eu-west").all(|e| e.verdict == VerdictState::Healthy)
    });
}
