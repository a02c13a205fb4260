//! Of what an operator is told first.

use super::*;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_millis(secs * 1_000)
}

#[test]
fn what_lapses_warns_in_its_last_quarter_and_no_earlier_than_a_quarter_of_an_hour() {
    let near = |length: i64, now: i64| lapse(at(0), Some(at(length)), at(now)).near;
    assert!(!near(600, 0), "a drain for ten minutes does not page when it begins");
    assert!(!near(600, 449) && near(600, 450));
    assert!(!near(86_400, 85_499) && near(86_400, 85_500));
    assert_eq!(lapse(at(0), Some(at(600)), at(601)).severity, Severity::Critical);
    assert!(!lapse(at(0), None, at(9)).near);
}

#[test]
fn a_region_that_is_asked_for_more_than_it_may_carry_is_told() {
    let measured =
        serde_json::json!({"source": "measured", "rate": "900rps", "at": Timestamp::from_millis(0)});
    let declared = serde_json::json!({"source": "declared", "rate": "900rps"});
    let service = |load: u64, weight: u32, from: &serde_json::Value| -> ServiceView {
        serde_json::from_value(serde_json::json!({
            "name": "checkout", "dns_name": "checkout.drover.test", "generation": 1, "run": null, "automatic": true,
            "load": from,
            "endpoints": [{
                "region": "eu-west", "address": "127.0.0.1:80", "verdict": "healthy", "since": null, "weight": weight,
                "configured_weight": 50, "share": "100%", "share_reason": {"why": "configured"},
                "usable": "225rps", "load": format!("{load}rps"), "certificate_expires_at": null,
                "certificate_expiring": false,
            }],
        }))
        .unwrap()
    };
    let told = |load, weight, from| {
        let (service, mut all) = (service(load, weight, from), vec![]);
        endpoint(&service, &service.endpoints[0], false, &mut all);
        all.into_iter().map(|a| (a.code, a.severity)).collect::<Vec<_>>()
    };
    assert_eq!(told(225, 50, &measured), vec![]);
    assert_eq!(told(226, 50, &measured), vec![("overloaded".to_owned(), Severity::Warning)]);
    assert_eq!(
        told(226, 50, &declared),
        vec![("overloaded".to_owned(), Severity::Info)],
        "nobody measured it"
    );
    assert_eq!(told(226, 0, &measured), vec![], "nobody is sent there");
}

#[test]
fn what_a_person_wrote_never_pages() {
    let reason = "the lease lapses in May, past its end we move";
    let drained = line(Severity::Info, "eu-west", "drained", reason.into(), None);
    assert!(!pages(&drained));
    assert!(pages(&Attention { code: "drained_lapsing".into(), severity: Severity::Warning, ..drained }));
}

#[test]
fn the_same_trouble_has_one_key_until_it_gets_worse_or_was_long_over() {
    let mut first_seen = FirstSeen::default();
    let alarm = line(Severity::Warning, "store", "store_alarm", "full".into(), None);
    let key = first_seen.page_key(&alarm, at(10));
    first_seen.forget(at(86_000));
    assert_ne!(first_seen.page_key(&alarm, at(86_000)), key, "over for a day, and back");

    let key = first_seen.page_key(&alarm, at(86_001));
    first_seen.forget(at(86_100));
    assert_eq!(first_seen.page_key(&alarm, at(86_100)), key, "it only flickered");
    for midnight_passes in (86_100..90_000).step_by(60) {
        first_seen.forget(at(midnight_passes));
        assert_eq!(first_seen.page_key(&alarm, at(midnight_passes)), key);
    }
    let worse = Attention { severity: Severity::Critical, ..alarm };
    assert_ne!(first_seen.page_key(&worse, at(90_000)), key);
}
