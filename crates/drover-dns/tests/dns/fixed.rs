//! Records that no traffic moves: published as services are, and answered as RFC 1035, 7505 and 8659 have them, which another
//! library reads.

use drover_dns::provider::{EmbeddedInstances, EmbeddedOptions, RecordSets, Verification};
use drover_dns::publish::PublishError;
use drover_dns::zone::{Answering, Answers, Draws, RecordSet, RecordType, ValidRecordSet};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType as QueryType};

use crate::common::{app, batch, exchange, key, put, query, serve, set};

pub fn fixed(name: &str, rtype: RecordType, values: &[&str]) -> RecordSet {
    let numbers: Vec<String> = (1..=values.len()).map(|n| format!("#{n}")).collect();
    let members: Vec<(&str, &str, u16)> =
        numbers.iter().zip(values).map(|(number, value)| (number.as_str(), *value, 1)).collect();
    RecordSet {
        answering: Answering { answers: Answers::All, draws: Draws::Anew },
        ..set(name, rtype, 1, &members)
    }
}

fn data(message: &Message) -> Vec<String> {
    let mut told: Vec<String> = message.answers.iter().map(|record| record.data.to_string()).collect();
    told.sort();
    told
}

#[tokio::test]
async fn all_values_are_answered_as_the_standards_have_them() {
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path()).await;
    let long = "v=DKIM1; p=".to_owned() + &"A".repeat(392);
    let sets = vec![
        app(1),
        fixed("example.test", RecordType::Txt, &["v=spf1 -all", "other"]),
        fixed("key._domainkey.example.test", RecordType::Txt, &[&long]),
        fixed(
            "example.test",
            RecordType::Caa,
            &["0 issue ca.example", "128 iodef \"mailto:x@example.test\""],
        ),
        fixed("example.test", RecordType::Mx, &["10 Mail.example.org", "20 app.example.test"]),
        fixed("app.example.test", RecordType::Mx, &["0 ."]),
        // Of addresses this would be an alias target, which this server has not.
        fixed("note.example.test", RecordType::Txt, &["alias lb.example.com (Z1)"]),
    ];
    served.publish_all(sets.clone());
    let ask = async |name: &str, qtype| {
        let found = exchange(served.dns(), &query(name, qtype, Some(1232))).await;
        assert_eq!(found.metadata.response_code, ResponseCode::NoError, "{found}");
        assert!(found.metadata.authoritative);
        found
    };
    assert_eq!(data(&ask("example.test.", QueryType::TXT).await), ["other", "v=spf1 -all"]);
    let key_record = ask("key._domainkey.example.test.", QueryType::TXT).await;
    let RData::TXT(text) = &key_record.answers[0].data else { panic!("{key_record}") };
    let lengths: Vec<usize> = text.txt_data.iter().map(|part| part.len()).collect();
    assert_eq!((lengths, text.txt_data.concat()), (vec![255, 148], long.into_bytes()));
    let caa = ask("example.test.", QueryType::CAA).await;
    assert_eq!(data(&caa), ["0 issue \"ca.example\"", "128 iodef \"mailto:x@example.test\""]);
    let mx = ask("example.test.", QueryType::MX).await;
    assert_eq!(data(&mx), ["10 mail.example.org.", "20 app.example.test."]);
    assert_eq!(data(&ask("app.example.test.", QueryType::MX).await), ["0 ."]);
    assert_eq!(data(&ask("note.example.test.", QueryType::TXT).await), ["alias lb.example.com (Z1)"]);
    // The name goes on answering by weight, and a name above it is there.
    assert_eq!(ask("app.example.test.", QueryType::A).await.answers.len(), 1);
    assert!(ask("_domainkey.example.test.", QueryType::TXT).await.answers.is_empty());

    // Proven live as services are, by values that are read from the wire.
    let provider = EmbeddedInstances::new(vec![served.instance("one")], EmbeddedOptions::default()).unwrap();
    for set in sets {
        let key = set.key().unwrap();
        let verified = provider.verify(&key, Some(&set)).await.unwrap();
        assert!(matches!(verified, Verification::Verified { .. }), "{key}: {verified:?}");
    }
    served.end().await;
}

#[tokio::test]
async fn they_outlive_a_restart_and_stand_beside_no_alias() {
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path()).await;
    let text = fixed("www.example.test", RecordType::Txt, &["here"]);
    served.publish_all(vec![text.clone()]);
    let www = set("www.example.test", RecordType::Cname, 1, &[("eu-west", "app.example.test", 1)]);
    let refused = served.running.publisher().publish(&batch(1, vec![put(None, www)])).unwrap_err();
    assert!(matches!(refused, PublishError::InvalidSnapshot(_)), "{refused:?}");
    served.end().await;
    let served = serve(directory.path()).await;
    let found = exchange(served.dns(), &query("www.example.test.", QueryType::TXT, None)).await;
    assert_eq!(data(&found), ["here"]);
    assert_eq!(
        served
            .running
            .publisher()
            .load()
            .get(&key("www.example.test", RecordType::Txt))
            .unwrap()
            .document()
            .members,
        text.members
    );
    served.end().await;
}

#[test]
fn what_is_no_value_and_what_is_not_answered_whole_can_not_be_published() {
    for (rtype, value) in [
        (RecordType::Mx, "mail.example.test"),
        (RecordType::Mx, "10 not_a host"),
        (RecordType::Caa, "0 issue"),
        (RecordType::Txt, ""),
    ] {
        assert!(ValidRecordSet::new(fixed("example.test", rtype, &[value])).is_err(), "{value}");
    }
    let part =
        RecordSet { answering: Answering::USUAL, ..fixed("example.test", RecordType::Txt, &["a", "b"]) };
    let refused = ValidRecordSet::new(part).unwrap_err();
    assert!(refused.to_string().contains("of its type it must be all"), "{refused}");
}
