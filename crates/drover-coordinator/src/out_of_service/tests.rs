use super::*;
use crate::coordinator::Dns;
use crate::steps::Hands;
use crate::testbed::{Bed, GUARD, PlayedDns};
use drover_dns::provider::Gate;
use drover_exec::{Effects as _, Order};
use drover_model::api::RegionStanding;
use drover_model::config::{DnsServers, HealthChecks, Route53Dns, StatusServer, ZoneServer};
use drover_model::out_of_service::OutOfService;
use drover_model::{AgentId, Span};
use serde_json::json;
use std::collections::BTreeSet;

/// The sample world in a zone of Route 53, with a status server in each region and one at the witness's.
fn checked(config: &mut Config) {
    let agents: Vec<AgentId> = config.agents().into_keys().collect();
    let server = |agent: AgentId| StatusServer { url: format!("http://{agent}.example.org:7412"), agent };
    let dns = config.settings.dns.as_mut().unwrap();
    dns.servers = DnsServers::Route53(Route53Dns {
        hosted_zone: "Z1".into(),
        servers: vec![ZoneServer { name: "ns-1".into(), query: ([192, 0, 2, 1], 53).into() }],
        credentials_file: None,
        endpoint: Some("http://127.0.0.1:9".into()),
        requests_per_second: 5,
        timeout: Span::from_secs(1),
        in_sync_within: Span::from_secs(1),
        health_checks: Some(HealthChecks {
            status_servers: agents.into_iter().map(server).collect(),
            interval: Span::from_secs(10),
            failure_threshold: 1,
        }),
    });
}

fn play(bed: &Bed, dns: &Arc<PlayedDns>) {
    let settings = bed.c.loaded().config.settings.dns.clone().unwrap();
    let gate = Arc::new(Gate::new(dns.clone()));
    bed.c.dns.store(Arc::new(Some(Dns { gate, settings, checks: None })));
}

async fn published() -> (Bed, Arc<PlayedDns>) {
    let bed = Bed::with(checked).await;
    let dns = Arc::new(PlayedDns::default());
    play(&bed, &dns);
    bed.c.retarget_all().await.unwrap();
    for _ in 0..2 {
        reconcile(&bed).await;
    }
    hear(&bed);
    (bed, dns)
}

async fn reconcile(bed: &Bed) {
    bed.c.reconcile(&bed.c.dns().unwrap()).await.unwrap();
}

fn said(bed: &Bed) -> OutOfService {
    bed.c.live().out_of_service.said(bed.c.db.epoch(), &bed.c.loaded().config).unwrap()
}

/// Each agent reports that its pages say what it was told.
fn hear(bed: &Bed) {
    let told = said(bed);
    for agent in bed.c.loaded().config.agents().into_keys() {
        let report = json!({
            "schema": 1, "agent": agent, "boot": "b", "boot_number": 1, "sent_at": bed.c.clock.now(),
            "config_version": "any", "observations": [], "opinions": [], "dropped": 0,
            "self_check": {"references_reached": 2, "references": 2, "blind": false},
            "out_of_service": told.held(),
        });
        let ack = bed.c.ingest(&serde_json::from_value(report).unwrap());
        assert_eq!(ack.out_of_service.as_ref(), Some(&told), "{agent} is told");
    }
}

/// Checkers that take no time, so that nobody waits for them.
fn quick_checkers(bed: &Bed) {
    let mut loaded = crate::config_dir::Loaded::clone(&bed.c.loaded());
    let dns = Arc::make_mut(&mut loaded.config).settings.dns.as_mut().unwrap();
    let DnsServers::Route53(zone) = &mut dns.servers else { panic!("{dns:?}") };
    let checks = zone.health_checks.as_mut().unwrap();
    assert_eq!(checks.follows_within(), Span::from_secs(20));
    checks.interval = Span::from_millis(50);
    bed.c.loaded.store(Arc::new(loaded));
}

async fn until_in_service(bed: &Bed) {
    let looking = async {
        while standing(bed) != RegionStanding::InService {
            bed.c.look_out_of_service().await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(GUARD, looking).await.unwrap();
}

/// Route 53's checkers follow what the pages say, until the end.
async fn follow(c: Arc<Coordinator>, dns: Arc<PlayedDns>) {
    loop {
        dns.leave_out(c.live().out_of_service.told().declared());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn us_east() -> RegionId {
    RegionId::new("us-east").unwrap()
}

fn standing(bed: &Bed) -> RegionStanding {
    let view = bed.c.status_view().health_checks.unwrap();
    view.regions.into_iter().find(|r| r.region == us_east()).unwrap().standing
}

fn waits_for(bed: &Bed) -> String {
    let view = bed.c.status_view().health_checks.unwrap();
    let of_it = view.regions.into_iter().find(|r| r.region == us_east()).unwrap();
    of_it.waits_for.unwrap_or_default()
}

async fn shift(bed: &Bed, order: &Order) -> Result<String, String> {
    let hands = Hands { coordinator: bed.c.clone() };
    let done = tokio::time::timeout(GUARD, hands.act(order)).await.unwrap();
    done.map(|outcome| outcome.summary).map_err(|failure| failure.message)
}

fn weight_of_us_east(dns: &PlayedDns) -> Vec<u16> {
    let members = dns.live().into_iter().flat_map(|set| set.members);
    members.filter(|m| m.set_id == "us-east").map(|m| m.weight).collect()
}

#[tokio::test]
async fn while_the_control_plane_is_down_pages_carry_a_move_until_the_records_say_so() {
    let (bed, dns) = published().await;
    let order = bed.order().await;
    dns.cut_off(true);
    let following = tokio::spawn(follow(bed.c.clone(), dns.clone()));
    let summary = shift(&bed, &order).await.unwrap();
    assert!(summary.contains("us-east is out by its health checks"), "{summary}");
    assert!(summary.contains("records still give it weight"), "no more is said than is so: {summary}");
    assert!(weight_of_us_east(&dns).iter().all(|w| *w > 0), "nobody wrote a record");
    assert_eq!((said(&bed).regions, standing(&bed)), (BTreeSet::from([us_east()]), RegionStanding::Declared));
    let attention = bed.c.status_view().attention;
    assert!(attention.iter().any(|a| a.code == "out_by_health_check"), "{attention:?}");
    // Whoever asks once more is told the same, by whoever looks as well.
    assert!(bed.c.look_out_of_service().await.unwrap().is_empty(), "the records are behind");

    // The API is back: first the records, and then, on proof alone, the pages.
    dns.cut_off(false);
    reconcile(&bed).await;
    assert!(weight_of_us_east(&dns).iter().all(|w| *w == 0));
    assert_eq!(standing(&bed), RegionStanding::Declared);
    reconcile(&bed).await;
    let waiting = bed.c.look_out_of_service().await.unwrap();
    assert_eq!(
        (&waiting, standing(&bed)),
        (&vec![us_east()], RegionStanding::Declared),
        "only a proof is wanting"
    );
    bed.c.withdraw_proven(&waiting).await.unwrap();
    assert_eq!((said(&bed).regions, standing(&bed)), (BTreeSet::new(), RegionStanding::Withdrawing));
    bed.c.look_out_of_service().await.unwrap();
    assert_eq!(standing(&bed), RegionStanding::Withdrawing, "nobody has heard it yet");
    hear(&bed);
    bed.c.look_out_of_service().await.unwrap();
    assert_eq!(standing(&bed), RegionStanding::Withdrawing, "Route 53's checkers may not have followed");
    quick_checkers(&bed);
    until_in_service(&bed).await;
    following.abort();
}

#[tokio::test]
async fn endpoints_that_are_taken_out_of_the_configuration_do_not_bring_their_region_back() {
    let (bed, dns) = published().await;
    let order = bed.order().await;
    dns.cut_off(true);
    let following = tokio::spawn(follow(bed.c.clone(), dns.clone()));
    shift(&bed, &order).await.unwrap();
    // Whoever cleans up after the dead region.
    let mut loaded = crate::config_dir::Loaded::clone(&bed.c.loaded());
    let config = Arc::make_mut(&mut loaded.config);
    config.services.values_mut().for_each(|service| drop(service.endpoints.remove(&us_east())));
    bed.c.loaded.store(Arc::new(loaded));
    quick_checkers(&bed);
    hear(&bed);
    assert!(bed.c.look_out_of_service().await.unwrap().is_empty(), "the records are behind");
    bed.c.withdraw_proven(&[us_east()]).await.unwrap();
    assert_eq!(standing(&bed), RegionStanding::Declared);
    // Nor is what is known of no service a proof that none has it.
    bed.c.live().out_of_service.set_seen(BTreeMap::new());
    let mut loaded = crate::config_dir::Loaded::clone(&bed.c.loaded());
    Arc::make_mut(&mut loaded.config).services.clear();
    bed.c.loaded.store(Arc::new(loaded));
    assert_eq!(bed.c.look_out_of_service().await.unwrap(), [us_east()], "a reading is wanting");
    bed.c.withdraw_proven(&[us_east()]).await.unwrap();
    assert_eq!(standing(&bed), RegionStanding::Declared, "and there is none");
    following.abort();
}

#[tokio::test]
async fn nothing_is_moved_to_where_checks_may_still_leave_out_all_of_it() {
    let (bed, dns) = published().await;
    let mut order = bed.order().await;
    dns.cut_off(true);
    let following = tokio::spawn(follow(bed.c.clone(), dns.clone()));
    shift(&bed, &order).await.unwrap();
    let drover_model::plan::StepKind::ShiftTraffic { changes, .. } = order.step().kind.clone() else {
        panic!("it moves traffic")
    };
    let mut changes = changes.to_vec();
    changes.truncate(1);
    let (name, target) = (changes[0].service.clone(), changes[0].weights_after.clone());
    let mut all_there: Weights = target.iter().map(|(r, _)| (r.clone(), drover_model::Weight(0))).collect();
    all_there.insert(us_east(), drover_model::Weight(100));
    let why = bed.c.out_by_checks(&name, &all_there).unwrap();
    assert!(why.contains("us-east alone") && why.contains("drover dns checks"), "{why}");
    let mut some_elsewhere = all_there.clone();
    some_elsewhere.insert(RegionId::new("eu-west").unwrap(), drover_model::Weight(1));
    assert_eq!(bed.c.out_by_checks(&name, &some_elsewhere), None);
    // A step waits for as long as it has, and says so.
    changes[0].weights_after = all_there;
    order.deadline = bed.c.clock.now();
    let refused = crate::steps::until_some_is_left(&bed.c, &order, &changes).await.unwrap_err();
    assert!(refused.message.contains("us-east alone"), "{}", refused.message);
    following.abort();
}

#[tokio::test]
async fn a_successor_goes_on_with_what_was_declared_though_nobody_can_read_the_records() {
    let (bed, dns) = published().await;
    let order = bed.order().await;
    dns.cut_off(true);
    let following = tokio::spawn(follow(bed.c.clone(), dns.clone()));
    shift(&bed, &order).await.unwrap();
    following.abort();
    assert!(following.await.unwrap_err().is_cancelled());
    let before = said(&bed);
    drop(order);
    let bed = bed.reopened().await;
    play(&bed, &dns);
    let after = said(&bed);
    assert!(after.epoch > before.epoch && after.replaces(Some(&before)) == Ok(true), "{after:?}");
    assert_eq!((&after.regions, after.generation), (&before.regions, before.generation));
    assert!(bed.c.look_out_of_service().await.unwrap().is_empty());
    bed.c.withdraw_proven(&[us_east()]).await.unwrap();
    assert_eq!(standing(&bed), RegionStanding::Declared, "unknown ends nothing");
}

#[tokio::test]
async fn a_hand_at_any_record_of_the_region_is_no_proof() {
    let (bed, dns) = published().await;
    let order = bed.order().await;
    dns.cut_off(true);
    let following = tokio::spawn(follow(bed.c.clone(), dns.clone()));
    shift(&bed, &order).await.unwrap();
    dns.cut_off(false);
    for _ in 0..2 {
        reconcile(&bed).await;
    }
    let waiting = bed.c.look_out_of_service().await.unwrap();
    assert_eq!(waiting, [us_east()]);
    dns.change_by_hand(dns.live().pop().unwrap());
    bed.c.withdraw_proven(&waiting).await.unwrap();
    bed.c.look_out_of_service().await.unwrap();
    assert_eq!(standing(&bed), RegionStanding::Declared);
    assert!(waits_for(&bed).contains("changed by hand"), "{}", waits_for(&bed));
    following.abort();
}

#[tokio::test]
async fn a_set_whose_owner_is_gone_may_answer_anything() {
    let (bed, dns) = published().await;
    let order = bed.order().await;
    let mut set = dns.live().remove(0);
    set.owner = String::new();
    dns.change_by_hand(set);
    reconcile(&bed).await;
    dns.cut_off(true);
    let failure = shift(&bed, &order).await.unwrap_err();
    assert!(failure.contains("no region is declared"), "{failure}");
    assert!(waits_for(&bed).contains("are not known"), "{}", waits_for(&bed));
}

#[tokio::test]
async fn what_pages_can_not_carry_fails_as_it_would_without_them() {
    let (bed, dns) = published().await;
    let order = bed.order().await;
    dns.cut_off(true);
    // Nobody follows: as where checkers can't reach the pages, or records follow no check. A step has the time to wait for it.
    quick_checkers(&bed);
    let failure = shift(&bed, &order).await.unwrap_err();
    assert!(failure.contains("cut off") && failure.contains("is answered and must not be"), "{failure}");
}

#[tokio::test]
async fn one_service_of_a_region_is_no_matter_for_its_pages() {
    let (bed, dns) = published().await;
    dns.cut_off(true);
    let name = bed.c.loaded().config.services.keys().next().unwrap().clone();
    let mut target = bed.c.live().traffic[&name].clone();
    let all: u8 = target.weights.iter().map(|(_, w)| w.0).sum();
    let others = target.weights.iter().map(|(r, _)| (r.clone(), drover_model::Weight(0)));
    let mut weights: Weights = others.collect();
    weights.insert(RegionId::new("eu-west").unwrap(), drover_model::Weight(all));
    target.weights = weights;
    bed.c.live().traffic.insert(name, target);
    bed.c.look_out_of_service().await.unwrap();
    assert_eq!((said(&bed).regions, standing(&bed)), (BTreeSet::new(), RegionStanding::InService));
}
