//! EDNS client subnet (RFC 7871): read strictly where it is read at all, and answered with how much of it was used.

use std::net::IpAddr;
use std::sync::Arc;

use drover_dns::answer::{Context, Transport, answer};
use drover_dns::server::Limits;
use drover_dns::zone::{Answering, Answers, Draws, RecordSet, Snapshot, ValidRecordSet};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use hickory_proto::rr::{RData, RecordType as QueryType};
use proptest::prelude::*;

use crate::common::{app, exchange, query, serve_with, set, zone};

fn snapshot() -> Snapshot {
    let stable = RecordSet { answering: Answering { answers: Answers::One, draws: Draws::Stable }, ..app(1) };
    let anew = RecordSet { name: "anew.example.test".into(), ..app(1) };
    let www =
        set("www.example.test", drover_dns::zone::RecordType::Cname, 1, &[("eu", "app.example.test", 1)]);
    let sets = [stable, anew, www].map(|set| Arc::new(ValidRecordSet::new(set).unwrap()));
    Snapshot::new(zone(), 1, sets).unwrap()
}

fn asked(name: &str, subnet: (&str, u8)) -> Message {
    let mut message = query(name, QueryType::A, Some(1232));
    let edns = message.edns.as_mut().unwrap();
    edns.options_mut().insert(EdnsOption::Subnet(ClientSubnet::new(subnet.0.parse().unwrap(), subnet.1, 0)));
    message
}

fn told(message: &Message) -> Option<(IpAddr, u8, u8)> {
    match message.edns.as_ref()?.option(EdnsCode::Subnet)? {
        EdnsOption::Subnet(subnet) => Some((subnet.addr(), subnet.source_prefix(), subnet.scope_prefix())),
        _ => None,
    }
}

fn answered(snapshot: &Snapshot, bytes: &[u8], client: &str, reads_client_subnet: bool) -> Message {
    let client = client.parse().unwrap();
    let context = Context { transport: Transport::Udp, client, draw: 7, reads_client_subnet, cookie: None };
    Message::from_vec(&answer(snapshot, bytes, &context).unwrap().bytes).unwrap()
}

fn address(message: &Message) -> IpAddr {
    match &message.answers.last().unwrap().data {
        RData::A(address) => address.0.into(),
        other => panic!("{other}"),
    }
}

const RESOLVER: &str = "9.9.9.9";

fn ask(snapshot: &Snapshot, name: &str, subnet: (&str, u8)) -> Message {
    answered(snapshot, &asked(name, subnet).to_vec().unwrap(), RESOLVER, true)
}

#[test]
fn an_answer_says_how_much_of_what_it_was_told_it_depends_on() {
    let snapshot = snapshot();
    for (name, subnet, scope) in [
        ("app.example.test.", ("198.51.100.0", 24), 24),
        ("www.example.test.", ("198.51.100.0", 24), 24),
        // More than is looked at, less than could be, and nothing.
        ("app.example.test.", ("198.51.100.77", 32), 24),
        ("app.example.test.", ("198.51.0.0", 16), 16),
        ("app.example.test.", ("0.0.0.0", 0), 0),
        ("app.example.test.", ("2001:db8:0:ff00::", 56), 56),
        ("app.example.test.", ("2001:db8::1", 128), 56),
        ("app.example.test.", ("::ffff:198.51.100.1", 128), 56),
        // Whose answers are the same for everybody.
        ("anew.example.test.", ("198.51.100.0", 24), 0),
        ("nosuch.example.test.", ("198.51.100.0", 24), 0),
        ("example.org.", ("198.51.100.0", 24), 0),
    ] {
        let found = ask(&snapshot, name, subnet);
        assert_eq!(
            told(&found),
            Some((subnet.0.parse().unwrap(), subnet.1, scope)),
            "{name} {subnet:?}: {found}"
        );
    }
}

#[test]
fn who_is_behind_a_resolver_gets_what_he_would_get_himself() {
    let snapshot = snapshot();
    let plain = query("app.example.test.", QueryType::A, Some(1232)).to_vec().unwrap();
    for network in 0..64 {
        let client = format!("198.51.{network}.9");
        let himself = address(&answered(&snapshot, &plain, &client, true));
        let subnet = format!("198.51.{network}.0");
        assert_eq!(address(&ask(&snapshot, "app.example.test.", (&subnet, 24))), himself);
        // A resolver that keeps its client to itself is asked for itself.
        let kept = ask(&snapshot, "app.example.test.", ("0.0.0.0", 0));
        assert_eq!(address(&kept), address(&answered(&snapshot, &plain, RESOLVER, true)));
    }
}

#[test]
fn what_is_not_read_is_neither_answered_nor_refused() {
    let snapshot = snapshot();
    let found = answered(
        &snapshot,
        &asked("app.example.test.", ("198.51.100.0", 24)).to_vec().unwrap(),
        RESOLVER,
        false,
    );
    assert_eq!((told(&found), found.metadata.response_code), (None, ResponseCode::NoError));
    let found = answered(&snapshot, &with_option(&[0, 9, 99, 99]), RESOLVER, false);
    assert_eq!(found.metadata.response_code, ResponseCode::NoError);
}

/// A query whose OPT record has this for a client subnet.
fn with_option(option: &[u8]) -> Vec<u8> {
    let mut bytes = query("app.example.test.", QueryType::A, Some(1232)).to_vec().unwrap();
    let length = u16::try_from(option.len() + 4).unwrap().to_be_bytes();
    let end = bytes.len();
    bytes[end - 2..].copy_from_slice(&length);
    bytes.extend([0, 8]);
    bytes.extend(u16::try_from(option.len()).unwrap().to_be_bytes());
    bytes.extend(option);
    bytes
}

#[test]
fn a_malformed_one_is_a_format_error() {
    let snapshot = snapshot();
    let right = [0, 1, 24, 0, 198, 51, 100];
    assert_eq!(
        answered(&snapshot, &with_option(&right), RESOLVER, true).metadata.response_code,
        ResponseCode::NoError
    );
    for (wrong, why) in [
        (&[0, 1, 24, 24, 198, 51, 100][..], "a scope in a query"),
        (&[0, 1, 24, 0, 198, 51], "fewer bytes than the prefix has"),
        (&[0, 1, 24, 0, 198, 51, 100, 0], "more bytes than the prefix has"),
        (&[0, 1, 20, 0, 198, 51, 111], "bits beyond the prefix"),
        (&[0, 1, 33, 0, 198, 51, 100, 1, 1], "a prefix longer than an address"),
        (&[0, 3, 24, 0, 198, 51, 100], "a family that is none"),
        (&[0, 1, 24], "no option at all"),
        (&[], "nothing"),
    ] {
        let found = answered(&snapshot, &with_option(wrong), RESOLVER, true);
        assert_eq!(found.metadata.response_code, ResponseCode::FormErr, "{why}");
        assert!(found.answers.is_empty(), "{why}");
    }
    let mut twice = with_option(&right);
    let option = twice[twice.len() - right.len() - 4..].to_vec();
    let length_at = twice.len() - option.len() - 2;
    twice[length_at..length_at + 2].copy_from_slice(&u16::try_from(2 * option.len()).unwrap().to_be_bytes());
    twice.extend(option);
    assert_eq!(answered(&snapshot, &twice, RESOLVER, true).metadata.response_code, ResponseCode::FormErr);
}

#[tokio::test]
async fn an_instance_looks_at_it_where_its_file_says_so() {
    for client_subnet in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let served = serve_with(directory.path(), Limits { client_subnet, ..Limits::default() }).await;
        served.publish_all(vec![app(1)]);
        let found = exchange(served.dns(), &asked("app.example.test.", ("198.51.100.0", 24))).await;
        assert_eq!(told(&found).is_some(), client_subnet, "{found}");
        served.end().await;
    }
}

proptest! {
    /// A resolver gives what it keeps for a scope to all clients within it: they would have got the same.
    #[test]
    fn within_a_scope_all_get_the_same(four: [u8; 4], other: [u8; 4], source in 0u8..=32) {
        let snapshot = snapshot();
        let cut = |bytes: [u8; 4], bits: u8| {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            std::net::Ipv4Addr::from(u32::from_be_bytes(bytes) & mask)
        };
        let of = |at: std::net::Ipv4Addr| ask(&snapshot, "app.example.test.", (&at.to_string(), source));
        let first = of(cut(four, source));
        let (_, told_source, scope) = told(&first).unwrap();
        prop_assert!(told_source == source && scope <= source.min(24));
        // Another client of the same scope.
        let host = u32::from_be_bytes(other) & !u32::MAX.checked_shl(32 - u32::from(scope)).unwrap_or(0);
        let within = u32::from(cut(four, scope)) | host;
        let second = of(cut(within.to_be_bytes(), source));
        prop_assert_eq!(address(&first), address(&second));
    }
}
