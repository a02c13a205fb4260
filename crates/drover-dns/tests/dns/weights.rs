//! Weights are obeyed: shares by a chi-square test on fixed seeds, and a weight of 0 is never answered.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use drover_dns::answer::{Context, Transport, answer};
use drover_dns::zone::{Snapshot, ValidRecordSet};
use hickory_proto::op::Message;
use hickory_proto::rr::{RData, RecordType as QueryType};

use crate::common::{app, query, set, zone};

/// 99.9 % of honest draws stay below it with two degrees of freedom (three members with weight).
const CHI_SQUARE_MAX: f64 = 13.82;

fn snapshot() -> Snapshot {
    Snapshot::new(zone(), 1, [Arc::new(ValidRecordSet::new(app(1)).unwrap())]).unwrap()
}

fn ask(snapshot: &Snapshot, message: &[u8], draw: u64) -> Ipv4Addr {
    let context = Context {
        transport: Transport::Udp,
        client: Ipv4Addr::LOCALHOST.into(),
        draw,
        reads_client_subnet: false,
        cookie: None,
    };
    let response = answer(snapshot, message, &context).unwrap();
    let message = Message::from_vec(&response.bytes).unwrap();
    let [record] = message.answers.as_slice() else { panic!("{message}") };
    let RData::A(address) = &record.data else { panic!("{message}") };
    assert_eq!(record.ttl, 30);
    address.0
}

#[test]
fn shares_follow_the_weights() {
    let snapshot = snapshot();
    let message = query("app.example.test.", QueryType::A, Some(1232)).to_vec().unwrap();
    for seed in [1, 42, 0x00c0_ffee] {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut seen: BTreeMap<Ipv4Addr, u32> = BTreeMap::new();
        let draws = 20_000;
        for _ in 0..draws {
            *seen.entry(ask(&snapshot, &message, random.u64(..))).or_default() += 1;
        }
        let mut chi_square = 0.0;
        for (last, weight) in [(1, 50.0), (2, 30.0), (3, 20.0)] {
            let expected = f64::from(draws) * weight / 100.0;
            let found = f64::from(seen.remove(&Ipv4Addr::new(192, 0, 2, last)).unwrap_or(0));
            chi_square += (found - expected).powi(2) / expected;
        }
        assert!(seen.is_empty(), "a drained region was answered: {seen:?}");
        assert!(chi_square < CHI_SQUARE_MAX, "seed {seed}: chi-square {chi_square}");
    }
}

#[test]
fn the_ends_of_the_draw_fall_on_members_with_weight() {
    let members = [("a", "192.0.2.1", 0), ("b", "192.0.2.2", 255), ("c", "192.0.2.3", 0)];
    let set =
        ValidRecordSet::new(set("app.example.test", drover_dns::zone::RecordType::A, 1, &members)).unwrap();
    for draw in [0, 1, u64::from(u32::MAX), 1 << 32, u64::MAX] {
        assert_eq!(set.draw(draw).set_id, "b", "draw {draw}");
    }
}
