//! Whatever bytes come, the answer path neither panics nor says what it must not.

use std::net::Ipv4Addr;
use std::sync::Arc;

use drover_dns::answer::{Context, CookieContext, Transport, answer};
use drover_dns::zone::{Answering, Member, RecordSet, RecordType, Snapshot, ValidRecordSet};
use hickory_proto::op::Message;
use hickory_proto::rr::{RData, RecordType as QueryType};
use proptest::prelude::*;

use crate::common::{epoch, query, record_sets, zone};

fn snapshot(sets: Vec<RecordSet>) -> Snapshot {
    let sets = sets.into_iter().map(|set| Arc::new(ValidRecordSet::new(set).unwrap()));
    Snapshot::new(zone(), 3, sets).unwrap()
}

fn context(transport: Transport, draw: u64) -> Context {
    let cookie = Some(CookieContext { secret: [7; 16], now_unix_seconds: 1 });
    Context { transport, client: Ipv4Addr::LOCALHOST.into(), draw, reads_client_subnet: true, cookie }
}

/// An answer that came of bytes: one that the other library can read, of the right size, to the right id.
fn check(snapshot: &Snapshot, bytes: &[u8], draw: u64) {
    for transport in [Transport::Udp, Transport::Tcp] {
        let Some(response) = answer(snapshot, bytes, &context(transport, draw)) else { continue };
        assert_eq!(response.bytes[..2], bytes[..2]);
        assert!(response.bytes[2] & 0x80 != 0, "an answer says that it is one");
        if transport == Transport::Udp {
            assert!(response.bytes.len() <= 1232, "{} bytes", response.bytes.len());
        }
        if (bytes[2] >> 3) & 0xf == 0 {
            Message::from_vec(&response.bytes).unwrap();
        }
    }
}

fn any_query() -> impl Strategy<Value = Vec<u8>> {
    let names = prop::sample::select(vec![
        "app.example.test.",
        "www.example.test.",
        "loop-a.example.test.",
        "example.test.",
        "_generation.dual.example.test.",
        "empty.example.test.",
        "nosuch.example.test.",
        "example.org.",
        ".",
    ]);
    let payload = prop::option::of(any::<u16>());
    (names, any::<u16>(), payload).prop_map(|(name, qtype, payload)| {
        // OPT as a question's type can't be written by the other library's builder.
        query(name, QueryType::from(qtype), payload).to_vec().unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..600), draw: u64) {
        check(&snapshot(record_sets()), &bytes, draw);
    }

    #[test]
    fn any_bytes_behind_a_header_are_survived(
        counts in prop::array::uniform4(0u16..4),
        body in prop::collection::vec(any::<u8>(), 0..300),
        draw: u64,
    ) {
        let mut bytes = vec![0, 1, 0, 0];
        bytes.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
        bytes.extend(body);
        check(&snapshot(record_sets()), &bytes, draw);
    }

    #[test]
    fn mutated_queries_are_survived(
        bytes in any_query(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        tail in prop::collection::vec(any::<u8>(), 0..40),
        draw: u64,
    ) {
        let mut bytes = bytes;
        for (place, value) in flips {
            let place = place.index(bytes.len());
            bytes[place] ^= value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes.extend(tail);
        check(&snapshot(record_sets()), &bytes, draw);
    }

    #[test]
    fn a_drained_member_is_never_answered(
        weights in prop::collection::vec(prop_oneof![Just(0u16), 0u16..=255], 1..20),
        draws in prop::collection::vec(any::<u64>(), 1..50),
    ) {
        prop_assume!(weights.iter().any(|weight| *weight > 0));
        let member = |(index, weight): (usize, &u16)| Member {
            set_id: format!("region-{index}"),
            value: format!("192.0.2.{index}"),
            weight: *weight,
        };
        let set = RecordSet {
            name: "app.example.test".into(),
            rtype: RecordType::A,
            ttl_seconds: 30,
            members: weights.iter().enumerate().map(member).collect(),
            generation: 1,
            epoch: epoch(1),
            owner: String::new(),
            note: String::new(),
            answering: Answering::USUAL,
        };
        let snapshot = snapshot(vec![set]);
        let bytes = query("app.example.test.", QueryType::A, None).to_vec().unwrap();
        for draw in draws {
            let response = answer(&snapshot, &bytes, &context(Transport::Udp, draw)).unwrap();
            let message = Message::from_vec(&response.bytes).unwrap();
            let [record] = message.answers.as_slice() else { panic!("{message}") };
            let RData::A(address) = &record.data else { panic!("{message}") };
            let index = usize::from(address.0.octets()[3]);
            prop_assert!(weights[index] > 0, "weight 0 was answered: {message}");
        }
    }

    #[test]
    fn a_set_that_would_be_dark_has_no_value(zeros in 0usize..5) {
        let mut set = record_sets().remove(0);
        set.members.truncate(zeros);
        set.members.iter_mut().for_each(|member| member.weight = 0);
        prop_assert!(ValidRecordSet::new(set).is_err());
    }
}
