//! Health checks of Route 53, against moto with checkers that look, and PowerDNS as a name server that follows them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_route53::types::{ChangeAction, RrType};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use drover_dns::provider::{
    HostedZone, ProviderError, RecordSets, Verification, WantedChecks, WantedPage, WantedRegion,
};
use drover_model::api::{CheckFound, CheckState};
use drover_model::out_of_service::{status_path, status_text};
use drover_model::{RegionId, Span};

use crate::common::{app, app_key, batch, drained, epoch, put};
use crate::hosted::{Checked, Hosted};

/// Hang guard for what follows a page.
const GUARD: Duration = Duration::from_secs(60);
/// In the order of the status servers that stand in them.
const REGIONS: [&str; 4] = ["eu-west", "us-east", "ap-south", "sa-east"];

type Declared = Arc<Mutex<BTreeSet<String>>>;

/// Status servers, as agents are.
struct Pages {
    servers: Vec<(String, SocketAddr, Declared)>,
}

async fn page(State(declared): State<Declared>, uri: Uri) -> (StatusCode, String) {
    let region = uri.path().rsplit('/').next().unwrap().to_owned();
    if declared.lock().unwrap().contains(&region) {
        return (StatusCode::OK, status_text(&RegionId::new(region).unwrap()));
    }
    (StatusCode::SERVICE_UNAVAILABLE, "not declared out of service".into())
}

impl Pages {
    async fn start(agents: &[&str]) -> Self {
        let mut servers = Vec::new();
        for agent in agents {
            let declared = Declared::default();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let router = Router::new().fallback(page).with_state(declared.clone());
            tokio::spawn(async move { axum::serve(listener, router).await });
            servers.push(((*agent).to_owned(), address, declared));
        }
        Self { servers }
    }

    /// Each region is judged by all of them but the one of its own number.
    fn wanted(&self) -> WantedChecks {
        let region = |(number, name): (usize, &&str)| {
            let region = RegionId::new(*name).unwrap();
            let others = self.servers.iter().enumerate().filter(|(n, _)| *n != number);
            let page = |(_, (agent, at, _)): (usize, &(String, SocketAddr, Declared))| WantedPage {
                agent: agent.clone(),
                url: format!("http://{at}{}", status_path(&region)),
            };
            WantedRegion {
                text: status_text(&region),
                pages: others.map(page).collect(),
                region: region.clone(),
            }
        };
        WantedChecks {
            regions: REGIONS.iter().enumerate().map(region).collect(),
            interval: Span::from_secs(10),
            failure_threshold: 1,
        }
    }

    /// These servers say so of a region, and no other.
    fn declare(&self, region: &str, numbers: &[usize]) {
        for (number, (_, _, declared)) in self.servers.iter().enumerate() {
            let mut declared = declared.lock().unwrap();
            if numbers.contains(&number) {
                declared.insert(region.to_owned())
            } else {
                declared.remove(region)
            };
        }
    }
}

async fn provision(provider: &HostedZone) -> Vec<CheckFound> {
    provider.provision(epoch(1), &[app_key()], &BTreeSet::new()).await.unwrap()
}

/// Until nothing is left to wait for.
async fn settled(provider: &HostedZone) -> Vec<CheckFound> {
    let settling = async {
        loop {
            let found = provision(provider).await;
            if !found.is_empty() && found.iter().all(|c| c.state == CheckState::InLine) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(GUARD, settling).await.expect("the checks settle")
}

/// A zone with one service, whose records follow their checks.
async fn followed() -> (Hosted, Pages, HostedZone) {
    let (hosted, pages) = (Hosted::start().await, Pages::start(&["eu-1", "us-1", "ap-1", "sa-1"]).await);
    let provider = hosted.checked(pages.wanted());
    provider.apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
    settled(&provider).await;
    (hosted, pages, provider)
}

/// Waits until a region's value is answered, or not any more.
async fn until_answered(provider: &HostedZone, region: &str, is_wanted: bool) {
    let value = app(1).members.into_iter().find(|m| m.set_id == region).unwrap().value;
    let values = BTreeSet::from([value]);
    let waiting = async {
        loop {
            let found = provider.unanswered(&app_key(), &values, 40).await.unwrap();
            if matches!(found, Verification::Verified { .. }) != is_wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let Ok(()) = tokio::time::timeout(GUARD, waiting).await else {
        panic!("{region} answered: never {is_wanted}");
    };
}

/// The checkers have looked a few times.
async fn a_while() {
    tokio::time::sleep(Duration::from_millis(600)).await;
}

/// By region; none where a record follows none.
async fn follows(hosted: &Hosted) -> BTreeMap<String, Option<String>> {
    let sets = hosted.sets("app.example.test", RrType::A).await;
    let one = |set: aws_sdk_route53::types::ResourceRecordSet| {
        let region = set.set_identifier.unwrap().split('/').next().unwrap().to_owned();
        (region, set.health_check_id)
    };
    sets.into_iter().map(one).collect()
}

fn parent<'c>(checks: &'c [Checked], region: &str) -> &'c Checked {
    checks.iter().find(|c| c.tags["Name"] == format!("drover: {region}")).unwrap()
}

/// A check that is new counts as unhealthy where it is inverted.
#[tokio::test]
async fn no_record_follows_a_check_before_its_checkers_have_reported() {
    let hosted = Hosted::start_with(&["--checker-interval", "3600"]).await;
    let pages = Pages::start(&["eu-1", "us-1", "ap-1"]).await;
    let provider = hosted.checked(pages.wanted());
    provider.apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
    for pass in 0..2 {
        let found = provision(&provider).await;
        let of_regions: Vec<&CheckFound> = found.iter().filter(|c| c.page.is_none()).collect();
        assert!(
            of_regions.iter().all(|c| c.state == CheckState::Waiting && c.id.is_none()),
            "{pass}: {found:?}"
        );
        assert!(of_regions[0].sentence.as_ref().unwrap().contains("to report"), "{found:?}");
        assert!(follows(&hosted).await.values().all(Option::is_none));
    }
    assert!(hosted.checks().await.iter().all(|c| !c.healthy && c.config["Type"] != "CALCULATED"));
}

#[tokio::test]
async fn checks_are_made_once_and_records_follow_them_on() {
    let (hosted, pages) =
        (Hosted::start_with(&["--pages", "3"]).await, Pages::start(&["eu-1", "us-1", "ap-1"]).await);
    let provider = hosted.checked(pages.wanted());
    provider.apply(&batch(1, vec![put(None, app(1))])).await.unwrap();
    let found = settled(&provider).await;
    assert_eq!(found.len(), 4 + 2 + 2 + 2 + 3, "one for each region and page");
    let checks = hosted.checks().await;
    assert_eq!(checks.len(), 13);
    for region in REGIONS {
        let parent = parent(&checks, region);
        let healthy_min = if region == "sa-east" { 2 } else { 1 };
        assert_eq!(parent.config["Type"], "CALCULATED");
        assert_eq!(parent.config["HealthThreshold"], healthy_min, "{region}");
        assert_eq!(follows(&hosted).await[region].as_ref(), Some(&parent.id));
        assert!(
            parent.healthy && parent.reference.len() <= 64 && parent.tags["drover-zone"] == "example.test"
        );
    }
    // What is there is found again, by another coordinator too, and what is answered is as it was.
    let before = hosted.log().await.len();
    let again = hosted.checked(pages.wanted());
    assert_eq!(provision(&again).await, found);
    assert!(hosted.log().await.split_off(before).iter().all(|asked| asked.method == "GET"));
    assert_eq!(hosted.checks().await.len(), 13);
    let observed = again.observe(&[app_key()]).await.unwrap();
    assert!(!observed[0].is_changed_by_hand && observed[0].current.as_ref().unwrap().same_target(&app(1)));
    // A write has the records follow on, from whoever has not looked at the checks yet as well.
    for (generation, provider) in [(2, &again), (3, &hosted.checked(pages.wanted()))] {
        let wanted = drained(generation);
        provider.apply(&batch(1, vec![put(Some(generation - 1), wanted.clone())])).await.unwrap();
        let shown = provider.verify(&app_key(), Some(&wanted)).await.unwrap();
        assert!(matches!(shown, Verification::Verified { .. }), "{shown:?}");
        for region in REGIONS {
            let checks = hosted.checks().await;
            assert_eq!(
                follows(&hosted).await[region].as_ref(),
                Some(&parent(&checks, region).id),
                "{generation}"
            );
        }
    }
}

#[tokio::test]
async fn two_pages_take_a_region_out_without_the_control_plane_and_no_single_one_does() {
    let (hosted, pages, provider) = followed().await;
    until_answered(&provider, "eu-west", true).await;
    hosted.knobs(r#"{"down": 1000000}"#).await;
    // One lies. Of three it takes nothing out.
    pages.declare("eu-west", &[1]);
    a_while().await;
    until_answered(&provider, "eu-west", true).await;
    pages.declare("eu-west", &[1, 2]);
    until_answered(&provider, "eu-west", false).await;
    let written = provider.apply(&batch(1, vec![put(Some(1), drained(2))])).await.unwrap_err();
    assert!(
        matches!(written, ProviderError::Unreachable { .. } | ProviderError::Unclear { .. }),
        "{written:?}"
    );
    until_answered(&provider, "eu-west", false).await;
    // Of the third nobody hears anything: neither that nor its own word changes it.
    pages.declare("eu-west", &[1, 2, 3]);
    a_while().await;
    until_answered(&provider, "eu-west", false).await;
    pages.declare("eu-west", &[]);
    until_answered(&provider, "eu-west", true).await;
}

#[tokio::test]
async fn records_take_over_and_the_way_back_is_weights_first() {
    let (hosted, pages, provider) = followed().await;
    pages.declare("eu-west", &[1, 2, 3]);
    until_answered(&provider, "eu-west", false).await;
    let left = drained(2);
    provider.apply(&batch(1, vec![put(Some(1), left.clone())])).await.unwrap();
    assert!(matches!(provider.verify(&app_key(), Some(&left)).await.unwrap(), Verification::Verified { .. }));
    pages.declare("eu-west", &[]);
    a_while().await;
    until_answered(&provider, "eu-west", false).await;
    // All that have weight are out: those that have none are answered, as Route 53 does.
    pages.declare("us-east", &[0, 2, 3]);
    pages.declare("ap-south", &[0, 1, 3]);
    until_answered(&provider, "eu-west", true).await;
    until_answered(&provider, "sa-east", true).await;
    pages.declare("eu-west", &[1, 2, 3]);
    until_answered(&provider, "eu-west", false).await;
    // And with the last one out as well, those that have weight: never nothing.
    pages.declare("sa-east", &[0, 1, 2]);
    until_answered(&provider, "us-east", true).await;
    until_answered(&provider, "sa-east", false).await;
    assert!(hosted.checks().await.iter().filter(|c| c.config["Type"] == "CALCULATED").all(|c| !c.healthy));
}

#[tokio::test]
async fn what_a_hand_changed_of_a_check_is_told_and_one_that_is_gone_is_made_again() {
    let (hosted, pages, provider) = followed().await;
    let client = hosted.client();
    let checks = hosted.checks().await;
    let page = checks.iter().find(|c| c.tags["Name"].ends_with("eu-west by us-1")).unwrap().clone();
    client.update_health_check().health_check_id(&page.id).disabled(true).send().await.unwrap();
    let changed = |found: &[CheckFound]| -> Vec<String> {
        let changed = found.iter().filter(|c| c.state == CheckState::ChangedByHand);
        changed.map(|c| c.sentence.clone().unwrap()).collect()
    };
    let found = provision(&provider).await;
    assert!(changed(&found)[0].contains("disabled"), "{found:?}");
    client.update_health_check().health_check_id(&page.id).disabled(false).port(9).send().await.unwrap();
    assert!(changed(&provision(&provider).await)[0].contains("the port was changed"));
    // It is left alone, and the way to have it mended is to delete it.
    client.delete_health_check().health_check_id(&page.id).send().await.unwrap();
    settled(&provider).await;
    let made = hosted.checks().await;
    let again = made.iter().find(|c| c.tags["Name"].ends_with("eu-west by us-1")).unwrap();
    assert_eq!(
        again.reference.rsplit('-').next(),
        Some("2"),
        "Route 53 knows the first one's reference still"
    );
    assert!(
        parent(&made, "eu-west").config["ChildHealthChecks"]
            .as_array()
            .unwrap()
            .contains(&again.id.clone().into())
    );

    // Other children or another threshold are put right; a region's check that is inverted or gone is told, or made again.
    let of_region = parent(&made, "eu-west").id.clone();
    client.update_health_check().health_check_id(&of_region).health_threshold(0).send().await.unwrap();
    settled(&provider).await;
    assert_eq!(parent(&hosted.checks().await, "eu-west").config["HealthThreshold"], 2);
    client.update_health_check().health_check_id(&of_region).inverted(true).send().await.unwrap();
    assert!(changed(&provision(&provider).await)[0].contains("inverted now"));
    assert_eq!(
        follows(&hosted).await["eu-west"],
        Some(of_region.clone()),
        "no record is changed because of it"
    );
    client.delete_health_check().health_check_id(&of_region).send().await.unwrap();
    settled(&provider).await;
    let now = follows(&hosted).await["eu-west"].clone().unwrap();
    assert_ne!(now, of_region);
    assert!(hosted.checks().await.iter().any(|c| c.id == now));

    // A record's own check is part of its sum.
    let mut by_hand = hosted.sets("app.example.test", RrType::A).await.remove(0);
    by_hand.health_check_id = None;
    hosted.by_hand(ChangeAction::Upsert, by_hand).await;
    provider.forget(&[app_key()]);
    tokio::time::sleep(Duration::from_millis(10)).await;
    let observed = hosted.checked(pages.wanted()).observe(&[app_key()]).await.unwrap();
    assert!(observed[0].is_changed_by_hand);
}

#[tokio::test]
async fn of_a_region_that_is_out_no_record_is_given_another_check() {
    let (hosted, pages, provider) = followed().await;
    let before = follows(&hosted).await;
    let out = BTreeSet::from([RegionId::new("eu-west").unwrap()]);
    // The settings are taken out, and later put back.
    let without = hosted.provider();
    without.provision(epoch(1), &[app_key()], &out).await.unwrap();
    let now = follows(&hosted).await;
    assert_eq!((&now["eu-west"], &now["us-east"]), (&before["eu-west"], &None));
    without.provision(epoch(1), &[app_key()], &BTreeSet::new()).await.unwrap();
    assert!(follows(&hosted).await.values().all(Option::is_none), "and then they can be deleted");
    settled(&hosted.checked(pages.wanted())).await;
    assert_eq!(follows(&hosted).await, before);
    drop(provider);
}

#[tokio::test]
async fn a_deposed_leader_makes_no_checks_and_a_busy_or_full_account_stops_nothing_else() {
    let (hosted, pages) = (Hosted::start().await, Pages::start(&["eu-1", "us-1", "ap-1"]).await);
    let (old, new) = (hosted.checked(pages.wanted()), hosted.checked(pages.wanted()));
    new.apply(&batch(2, vec![put(None, app(1))])).await.unwrap();
    let late = old.provision(epoch(1), &[app_key()], &BTreeSet::new()).await.unwrap_err();
    assert!(matches!(late, ProviderError::Fenced { .. }), "{late:?}");
    assert!(hosted.checks().await.is_empty());
    let provision = async || new.provision(epoch(2), &[app_key()], &BTreeSet::new()).await;
    hosted.knobs(r#"{"checks_full": 1000}"#).await;
    let full = provision().await.unwrap();
    assert!(full.iter().filter(|c| c.page.is_some()).all(|c| c.state == CheckState::Refused), "{full:?}");
    assert!(full.iter().any(|c| c.sentence.as_ref().is_some_and(|s| s.contains("TooManyHealthChecks"))));
    hosted.knobs(r#"{"throttle": 12}"#).await;
    let busy = provision().await.unwrap_err();
    assert!(drover_model::chain(&busy).contains("Throttling"), "{busy:?}");
    hosted.knobs("{}").await;
    let observed = new.observe(&[app_key()]).await.unwrap();
    assert!(observed[0].current.is_some());
    assert!(matches!(provision().await.unwrap()[0].state, CheckState::Waiting));
}

#[tokio::test]
async fn other_settings_make_other_checks_and_those_that_count_no_longer_go() {
    let (hosted, pages, provider) = followed().await;
    let before = follows(&hosted).await;
    let old: BTreeSet<String> = hosted.checks().await.into_iter().map(|c| c.id).collect();
    let wanted = WantedChecks { interval: Span::from_secs(30), ..pages.wanted() };
    let provider_30 = hosted.checked(wanted);
    hosted.knobs(r#"{"versions": 1}"#).await;
    let settling = async {
        loop {
            // Whoever changes a check in between has it tried again.
            if let Ok(found) = provider_30.provision(epoch(1), &[app_key()], &BTreeSet::new()).await
                && found.iter().all(|c| c.state == CheckState::InLine)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(GUARD, settling).await.expect("they settle");
    // What counts no longer is deleted when the others are found to count.
    provision(&provider_30).await;
    let checks = hosted.checks().await;
    assert_eq!(follows(&hosted).await, before, "records follow the same ones");
    let pages_now = checks.iter().filter(|c| c.config["Type"] != "CALCULATED");
    assert!(
        pages_now.clone().all(|c| c.config["RequestInterval"] == 30 && !old.contains(&c.id)),
        "{checks:?}"
    );
    assert_eq!(pages_now.count(), 12);
    drop(provider);
}
