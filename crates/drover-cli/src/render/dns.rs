//! `dns show` and `dns drift`: what is live beside what should be.

use crate::output::paint::{Tone, paint};
use crate::output::words::{ago, count};
use crate::output::{Look, table};
use drover_dns::zone::{AliasTarget, RecordType, in_zone_file};
use drover_model::api::{
    ContradictionView, DNS_COMMAND_TAKEN_BY, DnsCommandView, DnsView, RecordState, RecordVersion, RecordView,
    ValueView, ZoneView,
};

/// The whole zone.
pub fn render(zone: &ZoneView, look: &Look) -> String {
    let mut text = headline(zone, look);
    text.push('\n');
    let row = |r: &RecordView| {
        let live = r.live.as_ref().unwrap_or(&r.wanted);
        vec![
            r.service.to_string(),
            format!("{} {}", r.name, r.record_type),
            format!("{} s", live.ttl_seconds),
            r.live.as_ref().map_or_else(|| "nothing".to_owned(), |v| values(zone, r, v)),
            whole_state(r),
        ]
    };
    let header = ["service", "name", "TTL", "answered", "state"];
    text.push_str(&table::table(look, &header, zone.records.iter().map(row).collect()));
    for record in zone.records.iter().filter(|r| r.state != RecordState::InLine) {
        text.push('\n');
        text.push_str(&difference(record, look));
    }
    for more in
        [of_another_store(&zone.of_another_store, look), servers(zone, look), contradictions(zone, look)]
            .iter()
            .filter(|more| !more.is_empty())
    {
        text.push('\n');
        text.push_str(more);
    }
    text
}

/// Only what differs.
pub fn drift(zone: &ZoneView, look: &Look) -> String {
    let differs = zone.records.iter().map(|r| difference(r, look));
    let others = of_another_store(&zone.of_another_store, look);
    let all = differs
        .chain([others, servers(zone, look), contradictions(zone, look)])
        .filter(|part| !part.is_empty());
    let all = all.collect::<Vec<_>>().join("\n");
    if all.is_empty() {
        return table::paragraph(look, &format!("{} is as it should be", zone.zone));
    }
    all
}

/// Was it reached, and has it got all that was published?
pub fn shows_all(server: &DnsView) -> bool {
    server.is_in_line() && server.published_partial == 0
}

/// Of one server so many reasons are shown; a zone has many records.
const REASONS_MAX: usize = 5;

/// Servers that do not show what they should, and why.
fn servers(zone: &ZoneView, look: &Look) -> String {
    let mut rows = Vec::new();
    for server in zone.servers.iter().filter(|s| !shows_all(s)) {
        let mut why: Vec<String> = Vec::new();
        if !server.reachable {
            why.push("it can't be reached".to_owned());
        }
        if server.published_partial > 0 {
            let missed = count(server.published_partial as usize, "record set");
            why.push(format!("{missed} published without it"));
        }
        why.extend(server.behind.iter().take(REASONS_MAX).cloned());
        let left = server.behind.len().saturating_sub(REASONS_MAX);
        why.extend((left > 0).then(|| format!("and {left} more: -o json")));
        rows.extend(why.into_iter().map(|why| vec![server.instance.clone(), why]));
    }
    if rows.is_empty() {
        String::new()
    } else {
        table::table(look, &["server", "what is wrong with it"], rows)
    }
}

/// Servers that refuse what they are told from here.
pub fn of_another_store(others: &[DnsCommandView], look: &Look) -> String {
    if others.is_empty() {
        return String::new();
    }
    let row = |one: &DnsCommandView| vec![one.server.clone(), one.epoch.to_string()];
    let mut text = table::table(
        look,
        &["server", "obeys another store, last by epoch"],
        others.iter().map(row).collect(),
    );
    let next = format!("where that store is lost for good: {DNS_COMMAND_TAKEN_BY}");
    text.push_str(&table::paragraph(look, &next));
    text
}

/// Servers that answer something else than the zone has.
fn contradictions(zone: &ZoneView, look: &Look) -> String {
    let all = zone.servers.iter().flat_map(|s| s.contradictions.iter().map(move |c| (s, c)));
    let row = |(server, c): (&DnsView, &ContradictionView)| {
        let tone = if c.stands { Tone::Bad } else { Tone::Doubtful };
        vec![
            server.instance.clone(),
            c.name.clone(),
            paint(tone, &c.found),
            c.from.clone(),
            ago(look, c.since),
        ]
    };
    let rows: Vec<Vec<String>> = all.map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    table::table(look, &["server", "name", "answers", "seen from", "first"], rows)
}

fn headline(zone: &ZoneView, look: &Look) -> String {
    let in_line = zone.servers.iter().filter(|s| s.is_in_line()).count();
    let weights =
        if zone.has_weights { "" } else { "; it knows no weights: whoever answers gets the same share" };
    let servers = count(zone.servers.len(), "server");
    table::paragraph(
        look,
        &format!(
            "{} ({}), {in_line} of {servers} in line{weights}",
            paint(Tone::Strong, &zone.zone),
            zone.provider
        ),
    )
}

/// One record set: in what it differs, and what to do about it.
pub fn difference(record: &RecordView, look: &Look) -> String {
    let sentence = record.sentence.as_deref().unwrap_or("it is as it should be");
    let mut rows = vec![vec![record.service.to_string(), sentence.to_owned()]];
    let line = |version: &RecordVersion| {
        if is_fixed(&record.record_type) {
            let (generation, owner, ttl) = (version.generation, &version.owner, version.ttl_seconds);
            return format!("generation {generation} of {owner}, TTL {ttl} s: {}", texts(version));
        }
        let listed: Vec<String> = version.values.iter().map(value).collect();
        let answering = answering(version).map_or_else(String::new, |told| format!(", {told}"));
        format!(
            "generation {} of {}, TTL {} s{answering}: {}",
            version.generation,
            version.owner,
            version.ttl_seconds,
            listed.join(", ")
        )
    };
    rows.push(vec!["live".into(), record.live.as_ref().map_or_else(|| "nothing".to_owned(), line)]);
    rows.push(vec!["should be".into(), line(&record.wanted)]);
    rows.extend(record.next.iter().map(|next| vec!["next".into(), paint(Tone::Quiet, next)]));
    table::hanging(look, rows)
}

/// What is wanted, in the form of RFC 1035, whole: with a start of authority and with name servers that are to be set. Whoever
/// has weight stands there; the weights, which that form can't say, stand in comments. Of several aliases a name can have one:
/// the heaviest.
pub fn zone_file(zone: &ZoneView) -> String {
    let (apex, serial) = (&zone.zone, zone.at.as_millis() / 1000);
    let mut text = format!(
        "; {apex} as drover wants it, {}\n$ORIGIN {apex}.\n$TTL 60\n\
         ; Set the name servers and their addresses to those that will answer.\n\
         @ IN SOA ns1 hostmaster {serial} 3600 600 604800 30\n@ IN NS ns1\n@ IN NS ns2\n\
         ns1 IN A 192.0.2.53\nns2 IN A 198.51.100.53\n",
        zone.at
    );
    for record in &zone.records {
        let RecordVersion { generation, ttl_seconds, values, .. } = &record.wanted;
        text.push_str(&format!("\n; {}, generation {generation}\n", record.service));
        if is_fixed(&record.record_type) {
            let rtype = RecordType::parse(&record.record_type);
            for written in values.iter().filter_map(|v| in_zone_file(rtype?, &v.value)) {
                let (name, rtype) = (&record.name, &record.record_type);
                text.push_str(&format!("{name}. {ttl_seconds} IN {rtype} {written}\n"));
            }
            continue;
        }
        if let Some(told) = answering(&record.wanted) {
            text.push_str(&format!("; {told}\n"));
        }
        if values.iter().any(|v| v.weight > 0 && AliasTarget::parse(&v.value).is_some()) {
            text.push_str("; An alias target stands in no zone file: put addresses of it in its place.\n");
        }
        let heaviest = values.iter().max_by_key(|v| v.weight);
        let is_alias = record.record_type == "CNAME";
        for value in values {
            let name = value.region.as_ref().map_or_else(String::new, |region| format!("{region}, "));
            // An alias target is no record that a zone file could have.
            let is_target = AliasTarget::parse(&value.value).is_some();
            let is_out = value.weight == 0 || is_target || (is_alias && Some(value) != heaviest);
            let (off, dot) = (if is_out { "; " } else { "" }, if is_alias { "." } else { "" });
            text.push_str(&format!(
                "{off}{}. {ttl_seconds} IN {} {}{dot} ; {name}weight {}\n",
                record.name, record.record_type, value.value, value.weight
            ));
        }
    }
    text
}

/// Does no traffic move it?
pub(super) fn is_fixed(record_type: &str) -> bool {
    RecordType::parse(record_type).is_some_and(|rtype| !RecordType::OF_SERVICES.contains(&rtype))
}

/// The longest value that is shown whole; a key says nothing to anybody.
const TEXT_CHARS_SHOWN: usize = 60;

/// So many values are shown; a geography has thousands.
const TEXTS_SHOWN: usize = 8;

/// Its values, as far as they say something.
pub(super) fn texts(version: &RecordVersion) -> String {
    let one = |v: &ValueView| {
        let cut: String = v.value.chars().take(TEXT_CHARS_SHOWN).collect();
        if cut.len() < v.value.len() { format!("{cut}…") } else { cut }
    };
    let mut shown: Vec<String> = version.values.iter().take(TEXTS_SHOWN).map(one).collect();
    let more = version.values.len().saturating_sub(TEXTS_SHOWN);
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    shown.join(", ")
}

/// How it is answered, where that is not with one value, drawn anew.
fn answering(version: &RecordVersion) -> Option<String> {
    (!version.answering.is_usual()).then(|| version.answering.to_string())
}

fn value(v: &ValueView) -> String {
    match &v.region {
        Some(region) => format!("{region} {} weight {}", v.value, v.weight),
        None => format!("{} weight {}", v.value, v.weight),
    }
}

fn values(zone: &ZoneView, record: &RecordView, version: &RecordVersion) -> String {
    if is_fixed(&record.record_type) {
        return texts(version);
    }
    let answered = version.values.iter().filter(|v| v.weight > 0);
    let one = |v: &ValueView| {
        let name = v.region.as_ref().map_or_else(|| v.value.clone(), ToString::to_string);
        if zone.has_weights { format!("{name} {}", v.weight) } else { name }
    };
    let mut shown: Vec<String> = answered.map(one).collect();
    shown.extend(answering(version).map(|told| format!("({told})")));
    shown.join("  ")
}

/// With the servers that don't show what is live yet.
fn whole_state(record: &RecordView) -> String {
    let state = state(record.state);
    if record.published_partial.is_empty() {
        return state;
    }
    let missing = record.published_partial.join(", ");
    format!("{state}, {}", paint(Tone::Doubtful, format!("published_partial: not at {missing}")))
}

fn state(state: RecordState) -> String {
    match state {
        RecordState::InLine => paint(Tone::Good, "in line"),
        RecordState::Pending => paint(Tone::Doubtful, "pending"),
        RecordState::Withheld => paint(Tone::Bad, "withheld"),
        RecordState::Drifted => paint(Tone::Bad, "changed by hand"),
        RecordState::Foreign => paint(Tone::Bad, "somebody else's"),
        RecordState::Overtaken => paint(Tone::Bad, "overtaken"),
        RecordState::Invalid => paint(Tone::Bad, "can't be published"),
    }
}
