//! The screens as people see them. What a test compares word by word is kept in `snapshots/`.

use super::*;
use crate::offline::DnsAnswer;
use crate::output::Look;
use crate::output::fixture::look;
use crate::output::paint::finish;
use drover_model::api::{Attention, Severity, StatusView};
use drover_model::decision::VerdictState;

fn dns(generation: u64) -> Vec<DnsAnswer> {
    vec![DnsAnswer {
        instance: "dns-1".into(),
        service: "checkout".into(),
        name: "checkout.drover.test".into(),
        generation: Some(generation),
        is_unversioned: false,
        values: vec!["127.0.12.1".into()],
        ttl_seconds: 30,
        error: None,
    }]
}

fn without_coordinator(look: &Look) -> String {
    let view = crate::offline::OfflineView {
        schema: 1,
        coordinator_reachable: false,
        error: "can't reach the coordinator at unix:/run/drover/drover.sock: no such file".into(),
        snapshot: Some(fixture::well()),
        agents: vec![crate::offline::AgentAnswer {
            agent: "eu-west-1".into(),
            status: None,
            error: Some("no answer at 127.0.0.1:7420".into()),
        }],
        dns: dns(7),
    };
    offline::render(&view, "lab", false, look)
}

/// Every screen at one width.
fn screens(width: usize) -> Vec<(&'static str, String)> {
    let look = look(width);
    vec![
        ("status_well", status::render(&fixture::well(), "lab", false, &look)),
        ("status_trouble", status::render(&fixture::trouble(), "lab", false, &look)),
        ("status_all", status::render(&fixture::trouble(), "lab", true, &look)),
        ("status_offline", without_coordinator(&look)),
        ("explain", explain::render(&fixture::explain(), &look)),
        ("plan", plan::render(&fixture::planned(false), &look)),
        ("plan_refused", plan::render(&fixture::planned(true), &look)),
        ("run", run::show(&fixture::run(true), &look)),
        (
            "doctor",
            doctor::render(&doctor::diagnose(&fixture::trouble(), &dns(6), &[], "0.1.0", &look), &look),
        ),
    ]
}

fn without_escapes(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    plain + rest
}

#[test]
fn every_screen_fits_and_says_the_same_without_colour() {
    for width in [80, 120] {
        for (name, screen) in screens(width) {
            let plain = finish(&screen, false);
            let widest = plain.lines().map(|l| l.chars().count()).max().unwrap_or(0);
            assert!(widest <= width, "{name} is {widest} wide at {width}:\n{plain}");
            let coloured = finish(&screen, true);
            assert_eq!(without_escapes(&coloured), plain, "{name} at {width}");
            assert!(!plain.contains('\u{1b}') && coloured.contains('\u{1b}'), "{name} at {width}");
        }
    }
}

#[test]
fn the_screens_look_as_they_did() {
    // Plans are worded by `drover-core`, which has its own tests.
    for (name, screen) in screens(80).into_iter().filter(|(name, _)| !name.starts_with("plan")) {
        insta::assert_snapshot!(name, finish(&screen, false));
    }
    let (name, screen) = screens(120).swap_remove(1);
    insta::assert_snapshot!(format!("{name}_120"), finish(&screen, false));
    insta::assert_snapshot!(
        format!("{name}_colour"),
        finish(&screens(80).swap_remove(1).1, true).replace('\u{1b}', "^")
    );
    insta::assert_snapshot!("run_markdown", finish(&markdown::render(&fixture::run(true)), false));
}

#[test]
fn a_plan_stands_out_where_it_decides() {
    let screen = |refused| finish(&plan::render(&fixture::planned(refused), &look(80)), true);
    let planned = screen(false);
    assert!(planned.starts_with("\u{1b}[1mplan-0a1b2c3d4e5f"), "{planned}");
    let refused = screen(true);
    assert!(refused.contains("\u{1b}[1m\u{1b}[31mNO\u{1b}[0m"), "{refused}");
    assert_eq!(refused.matches("which may carry 225rps").count(), 1, "{refused}");
}

#[test]
fn all_is_well_only_where_nobody_laid_anything_down() {
    let mut view = fixture::well();
    let said =
        |view: &drover_model::api::StatusView| finish(&status::render(view, "prod", false, &look(80)), false);
    assert!(said(&view).contains("\nall is well"));
    view.attention = vec![Attention {
        severity: Severity::Info,
        subject: "eu-west".into(),
        sentence: "eu-west is drained of checkout by ann (rack move), with no end set".into(),
        code: "drained".into(),
        next: None,
        since: None,
    }];
    assert!(said(&view).contains("but for what stands below, all is well"));
    // As just after a start, when no agent has reported.
    view.services[0].endpoints[0].verdict = VerdictState::Unknown;
    assert!(said(&view).contains("nothing is known to be wrong, and not all is known: "), "{}", said(&view));
}

#[test]
fn who_follows_a_run_sees_time_step_and_next_decision() {
    let lines = finish(&run::progress(&fixture::run(false), &look(80)), false);
    assert_eq!(
        lines,
        "run-7 validating | 2 m 35 s of RTO 30 m | 1/2 | 2-wait 2 m 8 s (usually 45 s)\n\
         next: validated at the end of the window\n"
    );
}

#[test]
fn an_objective_that_cannot_be_met_is_told_while_there_is_time() {
    let mut view = fixture::run(false);
    let told = |view: &drover_model::api::RunView| {
        let screen = finish(&run::show(view, &look(80)), false);
        let line = finish(&run::progress(view, &look(80)), false);
        (screen.contains("LATE"), line.contains("LATE"))
    };
    let secs = drover_model::Span::from_secs;
    assert_eq!(told(&view), (false, false), "a coordinator that does not say");
    view.remaining = Some(view.rto.minus(view.elapsed));
    assert_eq!(told(&view), (false, false), "to the second");
    view.remaining = view.remaining.map(|r| r.plus(secs(90)));
    assert_eq!(told(&view), (true, true));
    let late = |view: &drover_model::api::RunView| finish(&run::late(view).unwrap(), false);
    assert_eq!(late(&view), "LATE by 1 m 30 s: the steps ahead take 28 m 55 s, 27 m 25 s left");
    (view.elapsed, view.remaining) = (view.rto.plus(secs(1)), Some(secs(1)));
    assert_eq!(late(&view), "LATE by 2 s: the steps ahead take 1 s, 0 s left");
}

#[test]
fn a_doctor_finds_what_would_stop_a_failover() {
    let look = look(80);
    let worst = |view: &StatusView, answers: &[DnsAnswer]| {
        doctor::diagnose(view, answers, &[], "0.1.0", &look).worst()
    };
    assert_eq!(worst(&fixture::well(), &dns(7)), doctor::Mark::Ok);
    assert_eq!(worst(&fixture::well(), &dns(6)), doctor::Mark::Bad);
    assert_eq!(worst(&fixture::trouble(), &dns(7)), doctor::Mark::Bad);
}

#[test]
fn of_a_zone_that_shows_no_generation_answers_are_judged_and_what_it_depends_on_is_told() {
    let look = look(80);
    let hosted = |values: &[&str], generation| {
        let values = values.iter().map(|v| (*v).to_owned()).collect();
        let [one] = <[DnsAnswer; 1]>::try_from(dns(7)).unwrap();
        vec![DnsAnswer { generation, is_unversioned: generation.is_none(), values, ..one }]
    };
    let diagnosed =
        |view: &StatusView, answers: &[DnsAnswer]| doctor::diagnose(view, answers, &[], "0.1.0", &look);
    let well = diagnosed(&fixture::well(), &hosted(&["192.0.2.1"], None));
    assert_eq!(well.worst(), doctor::Mark::Ok);
    let plane = well.checks.iter().find(|c| c.what == "DNS control plane").unwrap();
    assert!(plane.finding.contains("checkout") && plane.finding.contains("us-east-1"), "{}", plane.finding);
    assert_eq!(diagnosed(&fixture::well(), &hosted(&[], None)).worst(), doctor::Mark::Bad);
    let mut late = fixture::well();
    late.dns[0].behind = vec!["an earlier state of the zone".into()];
    assert_eq!(diagnosed(&late, &hosted(&["192.0.2.1"], None)).worst(), doctor::Mark::Bad);
    let own = diagnosed(&fixture::well(), &hosted(&["192.0.2.1"], Some(7)));
    assert!(own.checks.iter().all(|c| c.what != "DNS control plane"));
}

#[test]
fn what_helps_a_failing_store_depends_on_why_it_fails() {
    let mut view = fixture::well();
    let next = |view: &StatusView| {
        let checks = doctor::diagnose(view, &dns(7), &[], "0.1.0", &look(80)).checks;
        checks.into_iter().find(|c| c.what == "store").and_then(|c| c.next).unwrap()
    };
    view.coordinator.store_failing = Some("the disk has 1 bytes free".into());
    assert!(next(&view).contains("goes on by itself"));
    view.coordinator.store_stopped = true;
    assert!(next(&view).contains("restart the coordinator"));
}
