//! Short goldens of what an operator reads.

use super::*;
use crate::plan::plan;
use crate::testworld::{self, NOW, intent, judge, service_id, world};
use drover_model::decision::VerdictState;
use drover_model::plan::Intent;
use drover_model::runbook::Purpose;
use drover_model::traffic::Load;

fn without_name(planned: &Planned) -> String {
    let text = render(planned, 80);
    planned.plan.as_ref().map_or(text.clone(), |p| text.replace(p.id.as_str(), "plan-X"))
}

#[test]
fn a_drain_fits_one_screen() {
    let planned = plan(&world(), &intent(Purpose::Drain, "eu-west"), NOW);
    insta::assert_snapshot!(without_name(&planned), @r"
    plan-X: drain eu-west, 2 services (runbook drain)
                              weight                  load  usable (used)
    * checkout  ap-south    34 -> 50      306rps -> 450rps  640rps (70%)
    *           eu-west      33 -> 0        297rps -> 0rps  640rps (0%)
    *           us-east     33 -> 50      297rps -> 450rps  640rps (70%)
    * catalog   ap-south    34 -> 50      204rps -> 300rps  640rps (46%)
    *           eu-west      33 -> 0        198rps -> 0rps  640rps (0%)
    *           us-east     33 -> 50      198rps -> 300rps  640rps (46%)
      0 unchanged
    guards
      ok   capacity: checkout would put 450rps on ap-south, which may carry 640rps
      ok   dns, runbook, target
    steps
      1-preflight     or pause 10 live facts must hold
      2-verify_app    or pause 2 scripted requests
      3-shift_traffic or pause 2 services get new weights
      4-verify_dns    or pause every DNS server answers so for 2 services
      5-wait          or pause 45s: old answers leave the caches (TTL and half)
      6-validate      or pause 2 services judged over 2m
      7-notify        or pause done
    estimate: old answers gone after 45s, validated after 2m45s
    ");
}

#[test]
fn a_failover_shows_its_point_of_no_return() {
    let mut world = world();
    judge(&mut world, "eu-west", VerdictState::Down);
    let wanted = Intent { services: vec![service_id("checkout")], ..intent(Purpose::Failover, "eu-west") };
    insta::assert_snapshot!(without_name(&plan(&world, &wanted, NOW)), @r"
    plan-X: failover eu-west, checkout (runbook failover)
                              weight                  load  usable (used)
    * checkout  ap-south    34 -> 50      306rps -> 450rps  640rps (70%)
    *           eu-west      33 -> 0        297rps -> 0rps  640rps (0%)
    *           us-east     33 -> 50      297rps -> 450rps  640rps (70%)
      0 unchanged
    guards
      ok   capacity: checkout would put 450rps on ap-south, which may carry 640rps
      ok   dns, runbook, target
    steps
      1-preflight     or pause 5 live facts must hold
      2-verify_app    or pause 2 scripted requests
      ---- point of no return: from here drover goes forward or asks ----
      3-shift_traffic or pause checkout 34/33/33 -> 50/0/50
      4-verify_dns    or pause every DNS server answers so for 1 service
      5-wait          or pause 45s: old answers leave the caches (TTL and half)
      6-validate      or pause 1 service judged over 2m
      7-notify        or pause done
    estimate: old answers gone after 45s, validated after 2m45s,
              within the objective of 10m
    ");
}

#[test]
fn a_refusal_says_why_and_what_next() {
    let mut world = world();
    let rate = RequestsPerSecond(1_400);
    world.loads.insert(service_id("checkout"), Load::Measured { rate, at: NOW });
    let wanted = Intent { services: vec![service_id("checkout")], ..intent(Purpose::Failover, "eu-west") };
    insta::assert_snapshot!(without_name(&plan(&world, &wanted, NOW)), @r"
    no plan: refused
                              weight                  load  usable (used)
    * checkout  ap-south    34 -> 50      476rps -> 700rps  640rps (too much)
    *           eu-west      33 -> 0        462rps -> 0rps  640rps (0%)
    *           us-east     33 -> 50      462rps -> 700rps  640rps (too much)
      0 unchanged
    guards
      NO   capacity: checkout would put 700rps on ap-south, which may carry 640rps
           (800rps less 20% headroom)
           next: drover explain checkout; to overrule: --accept capacity
      NO   capacity: checkout would put 700rps on us-east, which may carry 640rps
           (800rps less 20% headroom)
           next: drover explain checkout; to overrule: --accept capacity
      ok   dns, runbook, target
    ");
}

#[test]
fn the_largest_plan_still_fits_one_screen() {
    let names: Vec<String> = (0..100).map(|n| format!("a-rather-long-service-name-{n}")).collect();
    let mut world =
        testworld::of(names.iter().map(|n| testworld::service(n, 1, &testworld::REGIONS)).collect());
    judge(&mut world, "us-east", VerdictState::Unknown);
    for automatic in [false, true] {
        for purpose in [Purpose::Failover, Purpose::Drain, Purpose::Undrain] {
            let planned = plan(&world, &Intent { automatic, ..intent(purpose, "eu-west") }, NOW);
            let text = render(&planned, 80);
            assert!(text.lines().count() <= 40, "{} lines:\n{text}", text.lines().count());
            assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
            assert!(!text.contains("rps …") && !text.contains("rps…"), "a number was cut off:\n{text}");
        }
    }
}

#[test]
fn what_stays_is_a_count() {
    let wanted = Intent { services: vec![service_id("catalog")], ..intent(Purpose::Drain, "eu-west") };
    let to = Intent { to: Some(testworld::region("us-east")), ..wanted };
    let diff = changes(&plan(&world(), &to, NOW));
    assert_eq!((diff.changed.len(), diff.unchanged), (2, 1));
    let taker = &diff.changed[1];
    assert_eq!(taker.weight, (Weight(33), Weight(66)));
    assert_eq!(taker.load, Some((RequestsPerSecond(198), RequestsPerSecond(396))));
    assert_eq!(taker.used, Some(Percent::from_basis_points(6_187)));
}
