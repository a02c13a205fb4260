//! The nearest allowed region, by where a client is; and what a resolver is told about whom its copy is for.

use std::net::IpAddr;
use std::sync::Arc;

use drover_dns::answer::{Context, Transport, answer};
use drover_dns::publish::PublishError;
use drover_dns::zone::{
    Answering, Answers, Draws, InvalidSnapshot, RecordSet, RecordType, Snapshot, ValidRecordSet,
};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use hickory_proto::rr::{RData, RecordType as QueryType};

use crate::common::{app, batch, exchange, put, query, serve, set, zone};

const LINES: [&str; 4] = [
    r#"{"jurisdictions":{"ap-south":"IN","eu-west":"EU","sa-east":"BR","us-east":"US"}}"#,
    r#"{"network":{"cidr":"198.51.0.0/16","prefer":["ap-south","us-east"]}}"#,
    r#"{"network":{"cidr":"198.51.100.0/24","prefer":["sa-east","us-east"],"jurisdiction":"EU"}}"#,
    r#"{"network":{"cidr":"2001:db8::/32","prefer":["sa-east","us-east"]}}"#,
];

fn geography(outside: &str, generation: u64) -> RecordSet {
    let outside = format!(r#"{{"outside":"{outside}"}}"#);
    let lines: Vec<&str> = LINES.into_iter().chain([outside.as_str()]).collect();
    let numbers: Vec<String> = (1..=lines.len()).map(|n| format!("#{n}")).collect();
    let members: Vec<(&str, &str, u16)> =
        numbers.iter().zip(&lines).map(|(number, line)| (number.as_str(), *line, 1)).collect();
    RecordSet {
        answering: Answering { answers: Answers::All, draws: Draws::Anew },
        ..set("example.test", RecordType::Geography, generation, &members)
    }
}

fn near(set: RecordSet) -> RecordSet {
    RecordSet { answering: Answering { answers: Answers::One, draws: Draws::Nearest }, ..set }
}

fn snapshot(sets: impl IntoIterator<Item = RecordSet>) -> Snapshot {
    let sets = sets.into_iter().map(|set| Arc::new(ValidRecordSet::new(set).unwrap()));
    Snapshot::new(zone(), 1, sets).unwrap()
}

/// As a resolver of its own asks; or in the name of a client.
fn ask(snapshot: &Snapshot, name: &str, client: &str, told: Option<u8>, draw: u64) -> Message {
    let mut message = query(name, QueryType::A, Some(1232));
    let client: IpAddr = client.parse().unwrap();
    let resolver: IpAddr = "9.9.9.9".parse().unwrap();
    if let Some(bits) = told {
        let subnet = EdnsOption::Subnet(ClientSubnet::new(client, bits, 0));
        message.edns.as_mut().unwrap().options_mut().insert(subnet);
    }
    let client = if told.is_some() { resolver } else { client };
    let context =
        Context { transport: Transport::Udp, client, draw, reads_client_subnet: true, cookie: None };
    Message::from_vec(&answer(snapshot, &message.to_vec().unwrap(), &context).unwrap().bytes).unwrap()
}

fn last(message: &Message) -> u8 {
    match &message.answers.last().unwrap_or_else(|| panic!("{message}")).data {
        RData::A(address) => address.0.octets()[3],
        other => panic!("{other}"),
    }
}

fn scope(message: &Message) -> Option<u8> {
    match message.edns.as_ref()?.option(EdnsCode::Subnet)? {
        EdnsOption::Subnet(subnet) => Some(subnet.scope_prefix()),
        _ => None,
    }
}

#[test]
fn a_zone_has_one_geography() {
    let sets = [geography("answer", 1), geography("answer", 2)];
    let sets = sets.map(|set| Arc::new(ValidRecordSet::new(set).unwrap()));
    let refused = Snapshot::new(zone(), 1, sets).unwrap_err();
    assert!(matches!(refused, InvalidSnapshot::Duplicate { .. }), "{refused}");
}

#[test]
fn clients_get_the_nearest_region_that_may_answer_and_has_weight() {
    let www = set("www.example.test", RecordType::Cname, 1, &[("eu-west", "app.example.test", 1)]);
    let anew = RecordSet { name: "anew.example.test".into(), ..app(1) };
    let snapshot = snapshot([near(app(1)), geography("answer", 1), www, anew]);
    let mut random = fastrand::Rng::with_seed(5);
    for _ in 0..50 {
        let draw = random.u64(..);
        // The third of its regions is the nearest; the fourth has no weight.
        assert_eq!(last(&ask(&snapshot, "app.example.test.", "198.51.7.1", None, draw)), 3);
        assert_eq!(last(&ask(&snapshot, "www.example.test.", "198.51.7.1", None, draw)), 3);
        assert_eq!(last(&ask(&snapshot, "app.example.test.", "2001:db8:9::1", None, draw)), 2);
        assert_eq!(
            last(&ask(&snapshot, "app.example.test.", "198.51.100.1", None, draw)),
            1,
            "its jurisdiction's"
        );
        assert!([1, 2, 3].contains(&last(&ask(&snapshot, "app.example.test.", "192.0.2.1", None, draw))));
    }
    let seen: std::collections::BTreeSet<u8> = (0..200)
        .map(|_| last(&ask(&snapshot, "app.example.test.", "192.0.2.1", None, random.u64(..))))
        .collect();
    assert_eq!(seen.len(), 3, "nobody knows where he is, so chance decides");
}

#[test]
fn a_resolver_is_told_for_whom_its_copy_is() {
    let anew = RecordSet { name: "anew.example.test".into(), ..app(1) };
    let snapshot = snapshot([near(app(1)), geography("answer", 1), anew]);
    for (name, client, told, expected) in [
        ("app.example.test.", "198.51.100.0", 24, 24),
        ("app.example.test.", "198.51.0.0", 24, 18),
        ("app.example.test.", "198.51.0.0", 16, 16),
        ("app.example.test.", "2001:db8:1::", 56, 32),
        // As far as no network lies there: the first bit says so.
        ("app.example.test.", "9.9.9.0", 24, 1),
        ("anew.example.test.", "198.51.100.0", 24, 0),
    ] {
        let found = ask(&snapshot, name, client, Some(told), 1);
        assert_eq!(scope(&found), Some(expected), "{name} {client}/{told}");
    }
    assert_eq!(last(&ask(&snapshot, "app.example.test.", "198.51.7.0", Some(24), 1)), 3);
}

#[test]
fn whom_no_region_may_answer_is_answered_or_refused_as_it_is_set_and_never_told_that_there_is_none() {
    let mut drained = near(app(2));
    drained.members[0].weight = 0;
    let kept = snapshot([drained.clone(), geography("answer", 1)]);
    assert_eq!(last(&ask(&kept, "app.example.test.", "198.51.100.1", None, 1)), 2);
    let strict = snapshot([drained, geography("refuse", 1)]);
    let refused = ask(&strict, "app.example.test.", "198.51.100.0", Some(24), 1);
    assert_eq!(refused.metadata.response_code, ResponseCode::Refused);
    assert!(refused.answers.is_empty() && refused.authorities.is_empty() && !refused.metadata.authoritative);
    assert_eq!(scope(&refused), Some(24), "others are answered");
    assert_eq!(last(&ask(&strict, "app.example.test.", "198.51.7.1", None, 1)), 3);
}

#[tokio::test]
async fn it_is_published_as_records_are_and_answered_to_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path()).await;
    // This machine is in no network of it.
    served.publish_all(vec![near(app(1)), geography("answer", 1)]);
    for qtype in [QueryType::TXT, QueryType::ANY, QueryType::Unknown(65_280)] {
        let found = exchange(served.dns(), &query("example.test.", qtype, None)).await;
        assert!(!found.answers.iter().any(|r| r.data.to_string().contains("198.51")), "{found}");
    }
    let below = RecordSet { name: "app.example.test".into(), ..geography("answer", 1) };
    let refused = served.running.publisher().publish(&batch(1, vec![put(None, below)])).unwrap_err();
    assert!(matches!(refused, PublishError::InvalidSnapshot(_)), "{refused:?}");
    served.running.publisher().publish(&batch(1, vec![put(Some(1), geography("refuse", 2))])).unwrap();
    served.end().await;
    let served = serve(directory.path()).await;
    let key = geography("refuse", 2).key().unwrap();
    assert_eq!(served.running.publisher().load().get(&key).unwrap().document().generation, 2);
    served.end().await;
}

#[test]
fn a_line_that_is_none_and_several_values_of_the_nearest_are_refused() {
    let mut wrong = geography("answer", 1);
    wrong.members[0].value = "{}".into();
    assert!(ValidRecordSet::new(wrong).is_err());
    let several =
        RecordSet { answering: Answering { answers: Answers::All, draws: Draws::Nearest }, ..app(1) };
    assert!(ValidRecordSet::new(several).unwrap_err().to_string().contains("must be one"));
}
