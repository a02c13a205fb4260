//! Any bytes get no answer, or one that another library reads: to the right id, not too large, and never one that
//! sends a user nowhere or to a region of weight zero.

use drover_dns::Epoch;
use drover_dns::answer::{Context, CookieContext, Response, Transport, UDP_ANSWER_BYTES_MAX, answer};
use drover_dns::zone::{
    Answering, Answers, DnsName, Draws, Member, NameServer, RecordSet, RecordType, Snapshot, ValidRecordSet,
    ZoneConfig,
};
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{DNSClass, RData, RecordType as QueryType};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

/// Bytes of a query's header.
const HEADER: usize = 12;
/// The member that must never be answered.
const DRAINED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 4);

/// Answered with all its values, and with two that stay with the client's network.
const ALL: &str = "all.example.test.";
const STABLE: &str = "stable.example.test.";

/// Answered by where the client is.
const NEAR: &str = "near.example.test.";
/// Its networks with their lengths: of the first only one region may answer, of the second none.
const HOME: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 0, 0, 0), 9);
const NOWHERE: (Ipv4Addr, u8) = (Ipv4Addr::new(198, 51, 100, 0), 24);
/// The one that may.
const OF_HOME: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Bits of a client's address that are looked at.
const CLIENT_BITS: u8 = 24;

static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(snapshot);

/// Checks one input: its first eight bytes decide the member, the rest is the message.
pub fn check(bytes: &[u8]) {
    let Some((draw, message)) = bytes.split_first_chunk::<8>() else { return };
    for transport in [Transport::Udp, Transport::Tcp] {
        let cookie = Some(CookieContext { secret: [7; 16], now_unix_seconds: 1_900_000_000 });
        let client = Ipv4Addr::LOCALHOST.into();
        let context =
            Context { transport, client, draw: u64::from_be_bytes(*draw), reads_client_subnet: true, cookie };
        let Some(response) = answer(&SNAPSHOT, message, &context) else { continue };
        check_response(message, transport, &response);
        let again = answer(&SNAPSHOT, message, &context).expect("answered a moment ago");
        assert_eq!(again.bytes, response.bytes, "the same question and chance, another answer");
        let by_chance = Context { draw: !context.draw, ..context };
        check_stable(message, &response, &answer(&SNAPSHOT, message, &by_chance));
    }
}

/// What stays with a network is no matter of chance.
fn check_stable(message: &[u8], response: &Response, by_chance: &Option<Response>) {
    let Ok(query) = Message::from_vec(message) else { return };
    let asks = |q: &hickory_proto::op::Query| q.name().to_ascii().eq_ignore_ascii_case(STABLE);
    if !query.queries.iter().any(asks) {
        return;
    }
    let values = |response: &Response| {
        let read = Message::from_vec(&response.bytes).ok()?;
        Some(read.answers.iter().map(|r| r.data.to_string()).collect::<BTreeSet<String>>())
    };
    let by_chance = by_chance.as_ref().expect("answered a moment ago");
    assert_eq!(values(by_chance), values(response), "another chance, other values");
}

fn check_response(message: &[u8], transport: Transport, response: &Response) {
    let bytes = &response.bytes;
    assert!(bytes.len() >= HEADER && bytes[..2] == message[..2], "not an answer to this query");
    assert!(bytes[2] & 0x80 != 0, "an answer says that it is one");
    if transport == Transport::Udp {
        assert!(bytes.len() <= usize::from(UDP_ANSWER_BYTES_MAX), "{} bytes", bytes.len());
    }
    // Other operations are refused with their opcode, which the other library may not know.
    if (message[2] >> 3) & 0xf != 0 {
        return;
    }
    let read = Message::from_vec(bytes).unwrap_or_else(|e| panic!("unreadable answer {bytes:?}: {e}"));
    assert_eq!(read.metadata.message_type, MessageType::Response);
    assert_eq!(read.metadata.truncation, response.is_truncated);
    for record in &read.answers {
        assert_ne!(record.data, RData::A(DRAINED.into()), "a drained region was answered");
    }
    if let Ok(query) = Message::from_vec(message) {
        check_subnet(&query, &read);
        check_meaning(&query, &read);
        check_near(&query, &read);
    }
}

/// What an answer says of the client is what it was told, and how much of that it used.
fn check_subnet(query: &Message, read: &Message) {
    let told = |message: &Message| match message.edns.as_ref()?.option(EdnsCode::Subnet)? {
        EdnsOption::Subnet(subnet) => Some(*subnet),
        _ => None,
    };
    let Some(answered) = told(read) else {
        let must_tell = matches!(read.metadata.response_code, ResponseCode::NoError | ResponseCode::Refused);
        assert!(told(query).is_none() || !must_tell, "it was told of a client, and does not say so: {read}");
        return;
    };
    let asked = told(query).expect("an answer tells of a client of whom it was told");
    assert_eq!((answered.addr(), answered.source_prefix()), (asked.addr(), asked.source_prefix()));
    assert!(answered.scope_prefix() <= answered.source_prefix(), "more than it was told: {read}");
    if let (IpAddr::V4(client), true) = (asked.addr(), asks_near(query)) {
        let bits = asked.source_prefix().min(CLIENT_BITS);
        let is_by_place =
            matches!(read.metadata.response_code, ResponseCode::NoError | ResponseCode::Refused);
        assert!(
            !is_by_place || answered.scope_prefix() == depends_on(client).min(bits),
            "{client} is told {answered:?}: {read}"
        );
    }
}

fn asks_near(query: &Message) -> bool {
    let [question] = query.queries.as_slice() else { return false };
    question.query_class() == DNSClass::IN
        && question.query_type() == QueryType::A
        && question.name().to_ascii().eq_ignore_ascii_case(NEAR)
}

/// As many bits of an address as tell in which network it lies, or that it lies in none.
fn depends_on(client: Ipv4Addr) -> u8 {
    let of = |(network, bits): (Ipv4Addr, u8)| {
        let common = common_bits(network, client);
        if common >= bits { bits } else { common + 1 }
    };
    of(HOME).max(of(NOWHERE))
}

fn common_bits(one: Ipv4Addr, other: Ipv4Addr) -> u8 {
    u8::try_from((one.to_bits() ^ other.to_bits()).leading_zeros()).unwrap_or(u8::MAX)
}

/// Where the client is decides: of one network there is one region, of another none, and of any other any that has weight.
fn check_near(query: &Message, read: &Message) {
    if !asks_near(query) || query.metadata.op_code != OpCode::Query {
        return;
    }
    let told = query.edns.as_ref().and_then(|edns| match edns.option(EdnsCode::Subnet)? {
        EdnsOption::Subnet(subnet) => Some(*subnet),
        _ => None,
    });
    let client = match told.map(|subnet| (subnet.addr(), subnet.source_prefix())) {
        // The resolver itself, which is here.
        None | Some((_, 0)) => Ipv4Addr::LOCALHOST,
        Some((IpAddr::V4(client), _)) => client,
        Some((IpAddr::V6(_), _)) => return,
    };
    let is_in = |(network, bits): (Ipv4Addr, u8)| common_bits(network, client) >= bits;
    if read.metadata.response_code == ResponseCode::NoError && !read.metadata.truncation {
        assert!(!is_in(NOWHERE), "no region may answer {client}: {read}");
        assert_eq!(read.answers.len(), 1, "{read}");
        let is_home = read.answers[0].data == RData::A(OF_HOME.into());
        assert!(!is_in(HOME) || is_home, "another region may not answer {client}: {read}");
    }
    if read.metadata.response_code == ResponseCode::Refused {
        assert!(is_in(NOWHERE), "a region may answer {client}: {read}");
    }
}

/// Of a query that the other library understands: the service always has an answer (I4).
fn check_meaning(query: &Message, read: &Message) {
    let ([question], OpCode::Query) = (query.queries.as_slice(), query.metadata.op_code) else { return };
    let asks = |name: &str| question.name().to_ascii().eq_ignore_ascii_case(name);
    let ours = question.query_class() == DNSClass::IN && question.query_type() == QueryType::A;
    if ours
        && read.metadata.response_code == ResponseCode::NoError
        && (asks("app.example.test.") || asks("www.example.test."))
    {
        let addresses = read.answers.iter().filter(|r| matches!(r.data, RData::A(_))).count();
        assert!(addresses == 1 || read.metadata.truncation, "{addresses} addresses: {read}");
    }
    let fixed = [("example.test.", QueryType::TXT), ("example.test.", QueryType::CAA)];
    for (name, qtype) in fixed.into_iter().chain([("deep.below.empty.example.test.", QueryType::MX)]) {
        let is_asked = question.query_class() == DNSClass::IN && question.query_type() == qtype && asks(name);
        if is_asked && read.metadata.response_code == ResponseCode::NoError && !read.metadata.truncation {
            assert_eq!(read.answers.len(), 2, "{name} {qtype}: {read}");
        }
    }
    for (name, count) in [(ALL, 3), (STABLE, 2)] {
        if ours && read.metadata.response_code == ResponseCode::NoError && asks(name) {
            let addresses: BTreeSet<String> = read.answers.iter().map(|r| r.data.to_string()).collect();
            let is_whole = addresses.len() == count && read.answers.len() == count;
            assert!(is_whole || read.metadata.truncation, "{name} answers {addresses:?}: {read}");
        }
    }
}

fn snapshot() -> Snapshot {
    let name = |text: &str| DnsName::parse(text).expect("a name");
    let server = |n: u8| NameServer {
        name: name(&format!("ns{n}.example.test")),
        addresses: vec![Ipv4Addr::new(127, 0, 0, n).into()],
    };
    let zone = ZoneConfig::new(name("example.test"), vec![server(1), server(2)]).expect("a zone");
    let sets = [
        set("app.example.test", RecordType::A, &[("192.0.2.1", 50), ("192.0.2.2", 50), ("192.0.2.4", 0)]),
        set("example.test", RecordType::A, &[("192.0.2.9", 1)]),
        set("dual.example.test", RecordType::A, &[("192.0.2.5", 1)]),
        set("dual.example.test", RecordType::Aaaa, &[("2001:db8::5", 1)]),
        set("www.example.test", RecordType::Cname, &[("app.example.test", 1)]),
        set("out.example.test", RecordType::Cname, &[("lb.example.org", 1)]),
        set("loop-a.example.test", RecordType::Cname, &[("loop-b.example.test", 1)]),
        set("loop-b.example.test", RecordType::Cname, &[("loop-a.example.test", 1)]),
        set("deep.below.empty.example.test", RecordType::A, &[("192.0.2.6", 1)]),
        fixed("example.test", RecordType::Txt, &["v=spf1 -all", &"long".repeat(100)]),
        fixed(
            "example.test",
            RecordType::Caa,
            &["0 issue \"ca.example\"", "128 iodef \"mailto:x@example.test\""],
        ),
        fixed(
            "deep.below.empty.example.test",
            RecordType::Mx,
            &["10 app.example.test", "20 mail.example.org"],
        ),
        answered(ALL, Answers::All, Draws::Anew),
        answered(NEAR, Answers::One, Draws::Nearest),
        fixed(
            "example.test",
            RecordType::Geography,
            &[
                r#"{"jurisdictions":{"192-0-2-1":"EU"}}"#,
                r#"{"network":{"cidr":"127.0.0.0/9","prefer":["192-0-2-2"],"jurisdiction":"EU"}}"#,
                r#"{"network":{"cidr":"198.51.100.0/24","jurisdiction":"US"}}"#,
                r#"{"outside":"refuse"}"#,
            ],
        ),
        answered(STABLE, Answers::Several(2), Draws::Stable),
    ];
    let sets = sets.map(|set| Arc::new(ValidRecordSet::new(set).expect("a record set")));
    Snapshot::new(zone, 3, sets).expect("a snapshot")
}

/// What no traffic moves.
fn fixed(name: &str, rtype: RecordType, values: &[&str]) -> RecordSet {
    let members: Vec<(&str, u16)> = values.iter().map(|value| (*value, 1)).collect();
    RecordSet {
        answering: Answering { answers: Answers::All, draws: Draws::Anew },
        ..set(name, rtype, &members)
    }
}

/// Three values with weight and one without, answered like this.
fn answered(name: &str, answers: Answers, draws: Draws) -> RecordSet {
    let members = [("192.0.2.1", 50), ("192.0.2.2", 1), ("192.0.2.4", 0), ("192.0.2.3", 255)];
    RecordSet {
        answering: Answering { answers, draws },
        ..set(name.trim_end_matches('.'), RecordType::A, &members)
    }
}

fn set(name: &str, rtype: RecordType, members: &[(&str, u16)]) -> RecordSet {
    let member = |(value, weight): &(&str, u16)| Member {
        // A geography knows it as a region's name.
        set_id: value.replace('.', "-"),
        value: (*value).to_owned(),
        weight: *weight,
    };
    RecordSet {
        name: name.to_owned(),
        rtype,
        ttl_seconds: 30,
        members: members.iter().map(member).collect(),
        generation: 1,
        epoch: Epoch { incarnation: 1, counter: 1 },
        owner: "drover".to_owned(),
        note: String::new(),
        answering: Answering::USUAL,
    }
}
