//! The behaviour matrix: what an authoritative server must answer to each kind of question, over UDP.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType as QueryType};

use crate::common::{self, Served, exchange, exchange_bytes, query, record_sets, serve, set};
use drover_dns::resolver::resolve;
use drover_dns::zone::RecordType;

/// One row: the question, and what its answer must look like.
struct Row {
    name: &'static str,
    qtype: QueryType,
    rcode: ResponseCode,
    is_authoritative: bool,
    answers: &'static [QueryType],
    has_soa: bool,
}

const fn yes(name: &'static str, qtype: QueryType, answers: &'static [QueryType]) -> Row {
    Row { name, qtype, rcode: ResponseCode::NoError, is_authoritative: true, answers, has_soa: false }
}

const fn no(name: &'static str, qtype: QueryType, rcode: ResponseCode) -> Row {
    Row { name, qtype, rcode, is_authoritative: true, answers: &[], has_soa: true }
}

const fn refused(name: &'static str, qtype: QueryType) -> Row {
    Row { name, qtype, rcode: ResponseCode::Refused, is_authoritative: false, answers: &[], has_soa: false }
}

const ROWS: &[Row] = &[
    yes("app.example.test.", QueryType::A, &[QueryType::A]),
    yes("APP.eXample.TEST.", QueryType::A, &[QueryType::A]),
    yes("example.test.", QueryType::A, &[QueryType::A]),
    yes("example.test.", QueryType::SOA, &[QueryType::SOA]),
    yes("example.test.", QueryType::NS, &[QueryType::NS, QueryType::NS]),
    yes("ns1.example.test.", QueryType::A, &[QueryType::A]),
    yes("ns2.example.test.", QueryType::AAAA, &[QueryType::AAAA]),
    yes("dual.example.test.", QueryType::A, &[QueryType::A]),
    yes("dual.example.test.", QueryType::AAAA, &[QueryType::AAAA]),
    // To ANY, one record is enough.
    yes("dual.example.test.", QueryType::ANY, &[QueryType::A]),
    yes("ns2.example.test.", QueryType::ANY, &[QueryType::A]),
    yes("example.test.", QueryType::ANY, &[QueryType::SOA]),
    // A CNAME answers for every type, and is followed inside the zone.
    yes("www.example.test.", QueryType::CNAME, &[QueryType::CNAME]),
    yes("www.example.test.", QueryType::A, &[QueryType::CNAME, QueryType::A]),
    yes("out.example.test.", QueryType::A, &[QueryType::CNAME]),
    Row { has_soa: true, ..yes("www.example.test.", QueryType::AAAA, &[QueryType::CNAME]) },
    Row {
        rcode: ResponseCode::NXDomain,
        has_soa: true,
        ..yes("dangling.example.test.", QueryType::A, &[QueryType::CNAME])
    },
    yes("loop-a.example.test.", QueryType::A, &[QueryType::CNAME; 8]),
    // A name with records of other types, and names that only lie on the way, exist.
    no("app.example.test.", QueryType::AAAA, ResponseCode::NoError),
    no("app.example.test.", QueryType::TXT, ResponseCode::NoError),
    no("empty.example.test.", QueryType::A, ResponseCode::NoError),
    no("below.empty.example.test.", QueryType::ANY, ResponseCode::NoError),
    no("example.test.", QueryType::AAAA, ResponseCode::NoError),
    no("nosuch.example.test.", QueryType::A, ResponseCode::NXDomain),
    no("a.app.example.test.", QueryType::A, ResponseCode::NXDomain),
    no("_generation.nosuch.example.test.", QueryType::TXT, ResponseCode::NXDomain),
    no("_generation.app.example.test.", QueryType::A, ResponseCode::NoError),
    yes("_generation.example.test.", QueryType::TXT, &[QueryType::TXT, QueryType::TXT]),
    yes("_generation.dual.example.test.", QueryType::TXT, &[QueryType::TXT, QueryType::TXT]),
    refused("example.org.", QueryType::A),
    refused("test.", QueryType::SOA),
    refused("notexample.test.", QueryType::A),
    refused(".", QueryType::NS),
    refused("example.test.", QueryType::AXFR),
    refused("example.test.", QueryType::IXFR),
];

async fn served(directory: &tempfile::TempDir) -> Served {
    let served = serve(directory.path()).await;
    served.publish_all(record_sets());
    served
}

fn types(records: &[hickory_proto::rr::Record]) -> Vec<QueryType> {
    records.iter().map(hickory_proto::rr::Record::record_type).collect()
}

#[tokio::test]
async fn every_kind_of_question_gets_its_kind_of_answer() {
    let directory = tempfile::tempdir().unwrap();
    let served = served(&directory).await;
    for row in ROWS {
        for payload in [None, Some(1232)] {
            let message = query(row.name, row.qtype, payload);
            let answer = exchange(served.dns(), &message).await;
            let what = format!("{} {} with OPT {payload:?}: {answer}", row.name, row.qtype);
            assert_eq!(answer.metadata.response_code, row.rcode, "{what}");
            assert_eq!(answer.metadata.authoritative, row.is_authoritative, "{what}");
            assert_eq!(types(&answer.answers), row.answers, "{what}");
            assert_eq!(types(&answer.authorities) == [QueryType::SOA], row.has_soa, "{what}");
            assert_eq!(answer.edns.is_some(), payload.is_some(), "{what}");
            assert!(!answer.metadata.truncation, "{what}");
            // The question comes back in the case in which it was asked.
            assert_eq!(answer.queries[0].name().to_ascii(), row.name, "{what}");
            if let Some(record) = answer.answers.first() {
                assert_eq!(record.name.to_ascii(), row.name, "{what}");
            }
        }
    }
    served.end().await;
}

#[tokio::test]
async fn negative_answers_carry_a_short_lived_start_of_authority() {
    let directory = tempfile::tempdir().unwrap();
    let served = served(&directory).await;
    let answer = exchange(served.dns(), &query("nosuch.example.test.", QueryType::A, None)).await;
    let record = &answer.authorities[0];
    let RData::SOA(soa) = &record.data else { panic!("{answer}") };
    assert_eq!(record.name.to_ascii(), "example.test.");
    assert!(record.ttl <= 30 && soa.minimum <= 30, "{answer}");
    assert_eq!(u64::from(soa.serial), served.running.publisher().snapshot().generation());
    served.end().await;
}

#[tokio::test]
async fn name_servers_come_with_their_addresses() {
    let directory = tempfile::tempdir().unwrap();
    let served = served(&directory).await;
    let answer = exchange(served.dns(), &query("example.test.", QueryType::NS, Some(1232))).await;
    assert_eq!(types(&answer.additionals), [QueryType::A, QueryType::A, QueryType::AAAA], "{answer}");
    served.end().await;
}

#[tokio::test]
async fn generations_can_be_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let served = served(&directory).await;
    let texts = async |name: &str| -> Vec<String> {
        let answer = exchange(served.dns(), &query(name, QueryType::TXT, None)).await;
        answer.answers.iter().map(|record| record.data.to_string()).collect()
    };
    assert_eq!(texts("_generation.example.test.").await, ["snapshot=2", "A=1"]);
    assert_eq!(texts("_generation.dual.example.test.").await, ["A=4", "AAAA=7"]);
    assert_eq!(texts("_GENERATION.out.example.test.").await, ["CNAME=1"]);
    served.end().await;
}

#[tokio::test]
async fn other_operations_and_classes_are_declined() {
    let directory = tempfile::tempdir().unwrap();
    let served = served(&directory).await;
    for opcode in [OpCode::Update, OpCode::Notify, OpCode::Status, OpCode::Unknown(7)] {
        let mut message = query("example.test.", QueryType::SOA, None);
        message.metadata.op_code = opcode;
        let bytes = exchange_bytes(served.dns(), &message.to_vec().unwrap()).await;
        // By hand: other operations name their sections otherwise.
        assert_eq!((bytes[2] >> 3) & 0xf, u8::from(opcode), "{opcode:?}");
        assert_eq!(bytes[3] & 0xf, 4, "{opcode:?} is NOTIMP");
    }
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    let mut question = Query::query(Name::from_ascii("version.bind.").unwrap(), QueryType::TXT);
    message.add_query(question.set_query_class(DNSClass::CH).clone());
    assert_eq!(exchange(served.dns(), &message).await.metadata.response_code, ResponseCode::Refused);
    served.end().await;
}

#[tokio::test]
async fn edns_is_answered_by_the_rules() {
    let directory = tempfile::tempdir().unwrap();
    let served = served(&directory).await;
    let mut message = query("app.example.test.", QueryType::A, None);
    let mut edns = Edns::new();
    edns.set_max_payload(4096).set_dnssec_ok(true);
    edns.options_mut().insert(EdnsOption::Unknown(10, vec![1, 2, 3, 4, 5, 6, 7, 8]));
    edns.options_mut().insert(EdnsOption::Unknown(65_001, vec![1, 2, 3]));
    message.set_edns(edns.clone());
    let answer = exchange(served.dns(), &message).await;
    let found = answer.edns.unwrap();
    assert_eq!((found.max_payload(), found.version(), found.flags().dnssec_ok), (1232, 0, true));
    let Some(EdnsOption::Unknown(_, cookie)) = found.option(EdnsCode::Cookie) else {
        panic!("no cookie: {found:?}")
    };
    assert_eq!((cookie.len(), &cookie[..8]), (24, &[1, 2, 3, 4, 5, 6, 7, 8][..]));
    assert!(found.option(EdnsCode::from(65_001)).is_none(), "unknown options are not repeated");

    message.set_edns(edns.set_version(1).clone());
    let answer = exchange(served.dns(), &message).await;
    // The other library reads 16 as BADSIG, which shares the number.
    assert_eq!(u16::from(answer.metadata.response_code), 16);
    assert!(answer.answers.is_empty() && answer.edns.is_some(), "{answer}");
    served.end().await;
}

#[tokio::test]
async fn malformed_messages_get_format_errors_or_silence() {
    let directory = tempfile::tempdir().unwrap();
    let served = served(&directory).await;
    let plain = query("app.example.test.", QueryType::A, None).to_vec().unwrap();
    let with_opt = query("app.example.test.", QueryType::A, Some(1232)).to_vec().unwrap();
    let opt = &with_opt[plain.len()..];
    let with = |counts: [u8; 8], tail: &[u8]| {
        let mut bytes = plain.clone();
        bytes[4..12].copy_from_slice(&counts);
        bytes.extend_from_slice(tail);
        bytes
    };
    let short_cookie = [&[0u8, 0, 41, 4, 208, 0, 0, 0, 0, 0, 7, 0, 10, 0, 3][..], &[1, 2, 3]].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("two OPT records", with([0, 1, 0, 0, 0, 0, 0, 2], &[opt, opt].concat())),
        ("an OPT record as answer", with([0, 1, 0, 1, 0, 0, 0, 0], opt)),
        ("a cookie of three bytes", with([0, 1, 0, 0, 0, 0, 0, 1], &short_cookie)),
        ("an announced record that is missing", with([0, 1, 0, 0, 0, 0, 0, 1], &[])),
        ("two questions", with([0, 2, 0, 0, 0, 0, 0, 0], &plain[12..])),
        ("no question", with([0; 8], &[])),
        ("a name that points to itself", [&plain[..12], &[0xc0, 12, 0, 1, 0, 1]].concat()),
    ];
    for (what, bytes) in cases {
        let answer = exchange_bytes(served.dns(), &bytes).await;
        assert_eq!(answer[3] & 0xf, 1, "{what} is FORMERR");
        assert_eq!(answer[..2], bytes[..2], "{what}: same id");
    }
    // Silence: a good question sent right behind is answered first.
    let socket = tokio::net::UdpSocket::bind(common::LOOPBACK).await.unwrap();
    socket.connect(served.dns()).await.unwrap();
    let mut response = plain.clone();
    response[2] |= 0x80;
    for silent in [&plain[..11], &[], &response] {
        socket.send(silent).await.unwrap();
    }
    let good = query("app.example.test.", QueryType::A, None);
    socket.send(&good.to_vec().unwrap()).await.unwrap();
    let mut buffer = [0; 512];
    let length = tokio::time::timeout(common::GUARD, socket.recv(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(Message::from_vec(&buffer[..length]).unwrap().metadata.id, good.metadata.id);
    assert_eq!(served.running.counters.unanswered(), 3);
    served.end().await;
}

#[tokio::test]
async fn what_does_not_fit_says_so_and_comes_whole_over_tcp() {
    let directory = tempfile::tempdir().unwrap();
    // 13 name servers with long names: over 512 bytes even without their addresses.
    let mut zone = common::zone();
    zone.name_servers = (0..13)
        .map(|index| drover_dns::zone::NameServer {
            name: common::name(&format!("server-{index}-{}.example.test", "x".repeat(40))),
            addresses: vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
        })
        .collect();
    let mut config = common::config(directory.path(), drover_dns::server::Limits::default());
    config.zone = zone;
    let shutdown = tokio_util::sync::CancellationToken::new();
    let running = drover_dns::server::run(config, shutdown.clone()).await.unwrap();
    let served = Served { running, shutdown };

    let bytes =
        exchange_bytes(served.dns(), &query("example.test.", QueryType::NS, None).to_vec().unwrap()).await;
    let cut = Message::from_vec(&bytes).unwrap();
    assert!(cut.metadata.truncation && bytes.len() <= 512, "{cut}");
    assert!(cut.answers.is_empty() && cut.additionals.is_empty(), "half a set is no set: {cut}");
    // A client that says 100 still takes 512; one that says 4096 gets 1232: the servers fit, not all of their
    // addresses do.
    let cut = exchange(served.dns(), &query("example.test.", QueryType::NS, Some(100))).await;
    assert!(cut.metadata.truncation && cut.edns.is_some(), "{cut}");
    let bytes =
        exchange_bytes(served.dns(), &query("example.test.", QueryType::NS, Some(4096)).to_vec().unwrap())
            .await;
    let whole = Message::from_vec(&bytes).unwrap();
    assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, 13), "{whole}");
    assert!(whole.additionals.len() < 26 && bytes.len() <= 1232, "{} bytes", bytes.len());
    assert_eq!(served.running.counters.truncated(), 2);

    let origin = common::name("example.test");
    let asked =
        resolve(served.dns(), &origin, drover_dns::resolver::QueryType::Ns, common::GUARD).await.unwrap();
    assert_eq!(asked.values.len(), 13);
    served.end().await;
}

#[tokio::test]
async fn counters_tell_what_was_answered() {
    let directory = tempfile::tempdir().unwrap();
    let served = served(&directory).await;
    served.publish_all(vec![set("more.example.test", RecordType::A, 1, &[("eu-west", "192.0.2.8", 1)])]);
    for name in ["app.example.test.", "nosuch.example.test.", "example.org."] {
        exchange(served.dns(), &query(name, QueryType::A, None)).await;
    }
    let (status, text) = common::http(served.running.control, "GET", "/metrics", "").await;
    assert_eq!(status, 200);
    for line in [
        "drover_dns_queries_total{transport=\"udp\"} 3",
        "drover_dns_answers_total{rcode=\"NOERROR\"} 1",
        "drover_dns_answers_total{rcode=\"NXDOMAIN\"} 1",
        "drover_dns_answers_total{rcode=\"REFUSED\"} 1",
        "drover_dns_snapshot_generation 3",
        "drover_dns_record_sets 11",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    served.end().await;
}
