//! `dns history`: what was published, when, and who decided it.

use crate::output::words::clock;
use crate::output::{Look, table};
use drover_model::api::{PublicationView, RecordVersion, ValueView};
use drover_model::traffic::TargetOrigin;
use std::collections::BTreeMap;

/// One line a publication, newest first.
pub fn render(published: &[PublicationView], look: &Look) -> String {
    if published.is_empty() {
        return "nothing was published yet, or it is not kept any more\n".to_owned();
    }
    let row = |p: &PublicationView| {
        let before = p.before.as_ref().map_or_else(|| "none".to_owned(), |b| b.generation.to_string());
        vec![
            clock(look, p.at),
            p.service.to_string(),
            format!("{before} -> {}", p.after.generation),
            decided(p),
            changed(p),
        ]
    };
    let header = ["published", "service", "generation", "decided by", "change"];
    table::table(look, &header, published.iter().map(row).collect())
}

fn decided(p: &PublicationView) -> String {
    if !p.caught_up.is_empty() {
        return "nobody".to_owned();
    }
    match &p.decided {
        Some(TargetOrigin::Configuration) => "configuration".to_owned(),
        Some(TargetOrigin::Run { run }) => run.to_string(),
        Some(TargetOrigin::Adoption) => "adoption".to_owned(),
        None => format!("not known ({})", p.batch),
    }
}

/// In what the answers differ.
fn changed(p: &PublicationView) -> String {
    let partial = if p.published_partial.is_empty() {
        String::new()
    } else {
        format!("; published_partial: not at {}", p.published_partial.join(", "))
    };
    if !p.caught_up.is_empty() {
        return format!("{} caught up{partial}", p.caught_up.join(", "));
    }
    format!("{}{partial}", differences(p))
}

fn differences(p: &PublicationView) -> String {
    let nothing = RecordVersion { values: vec![], ..p.after.clone() };
    let before = p.before.as_ref().unwrap_or(&nothing);
    let (was, is) = (by_place(before), by_place(&p.after));
    let mut changes: Vec<String> = if super::dns::is_fixed(&p.record_type) {
        let came = differ("added", &p.after, &was);
        came.into_iter().chain(differ("removed", before, &is)).collect()
    } else {
        let differs = is.iter().filter(|(place, value)| was.get(*place) != Some(*value));
        let gone = was.iter().filter(|(place, _)| !is.contains_key(*place));
        differs
            .map(|(place, value)| difference(place, was.get(place).copied(), value))
            .chain(gone.map(|(place, value)| format!("{place} {} -> gone", value.weight)))
            .collect()
    };
    if before.ttl_seconds != p.after.ttl_seconds {
        changes.push(format!("TTL {} s -> {} s", before.ttl_seconds, p.after.ttl_seconds));
    }
    if before.answering != p.after.answering {
        changes.push(format!("{} -> {}", before.answering, p.after.answering));
    }
    if before.owner != p.after.owner {
        changes.push(format!("owner {} -> {}", before.owner, p.after.owner));
    }
    if changes.is_empty() { "the same answers".to_owned() } else { changes.join(", ") }
}

/// The values of one that the other has not, of what no traffic moves.
fn differ(word: &str, one: &RecordVersion, other: &BTreeMap<String, &ValueView>) -> Option<String> {
    let values: Vec<ValueView> =
        one.values.iter().filter(|v| !other.contains_key(&v.value)).cloned().collect();
    let differ = RecordVersion { values, ..one.clone() };
    (!differ.values.is_empty()).then(|| format!("{word} {}", super::dns::texts(&differ)))
}

fn difference(place: &str, was: Option<&ValueView>, is: &ValueView) -> String {
    match was {
        None => format!("{place} none -> {}", is.weight),
        Some(was) if was.value == is.value => format!("{place} {} -> {}", was.weight, is.weight),
        Some(was) => format!("{place} {} {} -> {} {}", was.value, was.weight, is.value, is.weight),
    }
}

/// By region, where that is known.
fn by_place(version: &RecordVersion) -> BTreeMap<String, &ValueView> {
    let place = |v: &ValueView| v.region.as_ref().map_or_else(|| v.value.clone(), ToString::to_string);
    version.values.iter().map(|v| (place(v), v)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::fixture::{NOON_MILLIS, look};
    use crate::output::paint::finish;
    use drover_model::{Epoch, RunId, Timestamp};

    fn version(generation: u64, values: &[(&str, &str, u16)]) -> RecordVersion {
        let value = |(region, value, weight): &(&str, &str, u16)| ValueView {
            region: Some(region.parse().unwrap()),
            value: (*value).to_owned(),
            weight: *weight,
        };
        RecordVersion {
            answering: Default::default(),
            generation,
            owner: "drover".into(),
            ttl_seconds: 30,
            values: values.iter().map(value).collect(),
        }
    }

    #[test]
    fn a_line_says_when_who_and_from_what_to_what() {
        let first = version(4, &[("eu-west", "192.0.2.1", 50), ("us-east", "192.0.2.2", 50)]);
        let left = version(5, &[("eu-west", "192.0.2.1", 0), ("us-east", "192.0.2.2", 100)]);
        let moved = RecordVersion {
            ttl_seconds: 60,
            ..version(6, &[("ap-south", "192.0.2.3", 1), ("us-east", "192.0.2.9", 100)])
        };
        let one = |decided, before: Option<&RecordVersion>, after: &RecordVersion| PublicationView {
            at: Timestamp::from_millis(NOON_MILLIS),
            service: "checkout".parse().unwrap(),
            name: "checkout.drover.test".into(),
            record_type: "A".into(),
            epoch: Epoch { incarnation: 1, counter: 3 },
            decided,
            batch: "adopt-1".into(),
            before: before.cloned(),
            after: after.clone(),
            published_partial: vec![],
            caught_up: vec![],
        };
        let run = TargetOrigin::Run { run: RunId::numbered(3) };
        let all = [
            one(None, Some(&left), &RecordVersion { generation: 7, ..left.clone() }),
            one(Some(TargetOrigin::Configuration), Some(&left), &moved),
            one(Some(run), Some(&first), &left),
            one(Some(TargetOrigin::Adoption), None, &first),
        ];
        let text = finish(&render(&all, &look(200)), false);
        let lines: Vec<&str> = text.lines().collect();
        for (line, words) in lines[lines.len() - 4..].iter().zip([
            &["5 -> 7", "not known (adopt-1)", "the same answers"][..],
            &[
                "5 -> 6",
                "configuration",
                "ap-south none -> 1",
                "us-east 192.0.2.2 100 -> 192.0.2.9 100",
                "eu-west 0 -> gone",
                "TTL 30 s -> 60 s",
            ],
            &["4 -> 5", "run-3", "eu-west 50 -> 0, us-east 50 -> 100"],
            &["none -> 4", "adoption", "eu-west none -> 50"],
        ]) {
            words.iter().for_each(|word| assert!(line.contains(word), "{word} in {line}"));
        }
        let missed = one(None, Some(&first), &left);
        let missed = PublicationView { published_partial: vec!["dns-2".into(), "dns-3".into()], ..missed };
        let caught_up = one(None, Some(&left), &left);
        let caught_up = PublicationView {
            caught_up: vec!["dns-2".into()],
            published_partial: vec!["dns-3".into()],
            ..caught_up
        };
        let text = finish(&render(&[caught_up, missed], &look(200)), false);
        assert!(text.contains("dns-2 caught up; published_partial: not at dns-3"), "{text}");
        assert!(text.contains("us-east 50 -> 100; published_partial: not at dns-2, dns-3"), "{text}");
        assert!(render(&[], &look(80)).contains("nothing"));
    }

    #[test]
    fn of_what_no_traffic_moves_its_values_are_told_and_no_weights() {
        let text = |generation, values: &[&str]| {
            let value = |v: &&str| ValueView { region: None, value: (*v).to_owned(), weight: 1 };
            RecordVersion { values: values.iter().map(value).collect(), ..version(generation, &[]) }
        };
        let (before, after) = (text(1, &["v=spf1 -all", "other"]), text(2, &["v=spf1 mx -all", "other"]));
        let one = PublicationView {
            at: Timestamp::from_millis(NOON_MILLIS),
            service: "spf".parse().unwrap(),
            name: "drover.test".into(),
            record_type: "TXT".into(),
            epoch: Epoch { incarnation: 1, counter: 3 },
            decided: None,
            batch: "reconcile-1".into(),
            before: Some(before),
            after: RecordVersion { ttl_seconds: 60, ..after },
            published_partial: vec![],
            caught_up: vec![],
        };
        assert_eq!(changed(&one), "added v=spf1 mx -all, removed v=spf1 -all, TTL 30 s -> 60 s");
    }
}
