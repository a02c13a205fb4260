//! Raw observations in the history: what was seen, by whom, and whether it counted. Nothing is decided from them; they
//! are what a person looks back on who doubts a verdict.

use crate::api::paging::bad_query;
use crate::api::problem::ApiError;
use crate::coordinator::Coordinator;
use crate::error::CoordinatorError;
use drover_core::vantage::{Late, Placement};
use drover_model::api::{ObservationPlace, ObservationView, Page};
use drover_model::probe::{Observation, Report};
use drover_model::{AgentId, EndpointKey, Timestamp};
use drover_store::{EntryId, HISTORY_VALUE_BYTES_MAX, HistoryEntry};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Kind of raw observations in the history.
pub(crate) const HISTORY_OBSERVATIONS: &str = "observations";
/// Entries of the history that one request reads, at most: 16 MiB of the largest. Where the page is not full by then,
/// it ends early and the next one goes on.
const ENTRIES_READ_MAX: usize = 1_000;
/// Entries read at once.
const ENTRIES_AT_ONCE: usize = 100;

/// An observation as it is kept. What counted is kept as it came; anything else is marked.
#[derive(Serialize)]
struct Marked<'a> {
    #[serde(flatten)]
    observation: &'a Observation,
    place: ObservationPlace,
}

#[derive(Deserialize)]
struct Kept {
    #[serde(flatten)]
    observation: Observation,
    #[serde(default)]
    place: ObservationPlace,
}

/// Where an observation went that passed the gate so.
pub(crate) fn place_of(placement: &Placement) -> ObservationPlace {
    match placement {
        Placement::Current { .. } => ObservationPlace::Current,
        Placement::HistoryOnly(Late::TooOld { .. }) => ObservationPlace::TooOld,
        Placement::HistoryOnly(Late::Skewed) => ObservationPlace::Skewed,
        Placement::HistoryOnly(Late::Blind) => ObservationPlace::Blind,
        Placement::HistoryOnly(Late::NotConfigured) => ObservationPlace::NotConfigured,
        Placement::Replayed => ObservationPlace::Replayed,
    }
}

/// What is looked for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) endpoint: EndpointKey,
    pub(crate) since: Timestamp,
    pub(crate) cursor: Option<Cursor>,
    pub(crate) limit: usize,
}

/// Where a page ends: before the observation of this index in this entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) entry: EntryId,
    pub(crate) index: usize,
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}-{}", self.entry.timestamp_ms, self.entry.sequence, self.index)
    }
}

impl FromStr for Cursor {
    type Err = ApiError;

    fn from_str(s: &str) -> Result<Self, ApiError> {
        let wrong = || bad_query(format!("`{s}` is no cursor of this list"));
        let numbers: Vec<u64> =
            s.split('-').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
        let [timestamp_ms, sequence, index] = numbers[..] else { return Err(wrong()) };
        let index = usize::try_from(index).map_err(|_| wrong())?;
        Ok(Self { entry: EntryId { timestamp_ms, sequence }, index })
    }
}

impl Coordinator {
    /// Keeps what a report said, whether it counted or not.
    pub(crate) fn keep_history(&self, report: &Report, places: &[ObservationPlace], now: Timestamp) {
        let at = u64::try_from(now.as_millis()).unwrap_or(0);
        let agent = report.agent.as_str();
        let room = HISTORY_VALUE_BYTES_MAX.saturating_sub(agent.len());
        let (chunks, left_out) = chunks(report.observations.iter().zip(places.iter().copied()), room);
        if left_out > 0 {
            tracing::warn!(agent, left_out, "observations too large for the history");
        }
        for chunk in chunks {
            if let Err(e) = self.history.append(HISTORY_OBSERVATIONS, at, agent, &chunk) {
                tracing::warn!(
                    error = &e as &dyn std::error::Error,
                    "can't keep observations in the history"
                );
            }
        }
    }

    /// One page, newest first. Reads from the disk: call it where that may block.
    pub(crate) fn observations(&self, wanted: &Wanted) -> Result<Page<ObservationView>, CoordinatorError> {
        let from_ms = u64::try_from(wanted.since.as_millis()).unwrap_or(0);
        // An entry that a page ended in is read again; the sequence after it is the bound that includes it.
        let mut before = wanted.cursor.map_or(EntryId { timestamp_ms: u64::MAX, sequence: 0 }, |c| EntryId {
            sequence: c.entry.sequence.saturating_add(1),
            ..c.entry
        });
        let (mut found, mut read) = (Vec::new(), 0);
        loop {
            let entries = self
                .history
                .range_before(HISTORY_OBSERVATIONS, from_ms, before, ENTRIES_AT_ONCE)
                .map_err(|e| CoordinatorError::store("read observations", e))?;
            for entry in &entries {
                let below = wanted.cursor.filter(|c| c.entry == entry.id).map_or(usize::MAX, |c| c.index);
                for (index, view) in views(entry, &wanted.endpoint)?.into_iter().rev() {
                    if index >= below {
                        continue;
                    }
                    if found.len() == wanted.limit {
                        let next = Cursor { entry: entry.id, index: index.saturating_add(1) };
                        return Ok(Page { items: found, next_cursor: Some(next.to_string()) });
                    }
                    found.push(view);
                }
            }
            let Some(last) = entries.last().filter(|_| entries.len() == ENTRIES_AT_ONCE) else {
                return Ok(Page { items: found, next_cursor: None });
            };
            before = last.id;
            read += entries.len();
            if read >= ENTRIES_READ_MAX {
                let next = Cursor { entry: last.id, index: 0 };
                return Ok(Page { items: found, next_cursor: Some(next.to_string()) });
            }
        }
    }
}

/// The observations of an entry about one endpoint, each with its index in the entry.
fn views(
    entry: &HistoryEntry,
    endpoint: &EndpointKey,
) -> Result<Vec<(usize, ObservationView)>, CoordinatorError> {
    let broken = |e: &dyn std::fmt::Display| {
        CoordinatorError::store("read observations", format!("the entry of {}: {e}", entry.key))
    };
    let vantage = AgentId::new(&entry.key).map_err(|e| broken(&e))?;
    let kept: Vec<Kept> = serde_json::from_slice(&entry.bytes).map_err(|e| broken(&e))?;
    let received_at = Timestamp::from_millis(i64::try_from(entry.id.timestamp_ms).unwrap_or(i64::MAX));
    let of_endpoint = kept.into_iter().enumerate().filter(|(_, k)| k.observation.endpoint == *endpoint);
    let view = |k: Kept| ObservationView {
        received_at,
        vantage: vantage.clone(),
        endpoint: k.observation.endpoint,
        outcome: k.observation.outcome,
        status: k.observation.status,
        latency_micros: k.observation.latency_micros,
        began_at: k.observation.began_at,
        age: k.observation.age,
        place: k.place,
    };
    Ok(of_endpoint.map(|(index, k)| (index, view(k))).collect())
}

/// JSON arrays of the observations in their order, none longer than `room` bytes, and how many observations fit in no
/// array. A report after a long cut is far larger than one entry of the history may be.
fn chunks<'a>(
    observations: impl Iterator<Item = (&'a Observation, ObservationPlace)>,
    room: usize,
) -> (Vec<Vec<u8>>, usize) {
    let mut all: Vec<Vec<u8>> = Vec::new();
    let mut left_out = 0;
    for (one, place) in observations {
        let text = match place {
            ObservationPlace::Current => serde_json::to_vec(one),
            place => serde_json::to_vec(&Marked { observation: one, place }),
        };
        let Some(text) = text.ok().filter(|t| t.len() + 2 <= room) else {
            left_out += 1;
            continue;
        };
        match all.last_mut().filter(|chunk| chunk.len() + 1 + text.len() <= room) {
            Some(chunk) => {
                // Over the closing bracket of what is there.
                chunk.pop();
                chunk.push(b',');
                chunk.extend_from_slice(&text);
            }
            None => all.push([b"[".as_slice(), &text].concat()),
        }
        if let Some(chunk) = all.last_mut() {
            chunk.push(b']');
        }
    }
    (all, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::{Bed, code_of, get};
    use drover_model::Span;
    use drover_model::probe::ReportAck;
    use serde_json::{Value, json};

    fn observation(sequence: u64, endpoint: &str, age: &str) -> Value {
        json!({
            "sequence": sequence, "endpoint": endpoint, "began_at": Timestamp::from_millis(0),
            "age": age, "latency_micros": 900 + sequence, "outcome": {"result": "good"}, "status": 200,
            "certificate_expires_at": null,
        })
    }

    fn report(bed: &Bed, boot_number: u64, observations: Vec<Value>) -> ReportAck {
        let report = json!({
            "schema": 1, "agent": "us-east-1", "boot": format!("b{boot_number}"), "boot_number": boot_number,
            "sent_at": bed.c.clock.now(), "config_version": "any", "observations": observations,
            "opinions": [], "self_check": {"references_reached": 2, "references": 2, "blind": false},
            "dropped": 0,
        });
        bed.c.ingest(&serde_json::from_value(report).unwrap())
    }

    async fn pages(api: std::net::SocketAddr, limit: usize) -> Vec<ObservationView> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/observations?endpoint=checkout@eu-west&since=1h&limit={limit}{cursor}");
            let (status, _, body) = get(api, &path).await;
            assert_eq!(status, 200, "{body}");
            let page: Page<ObservationView> = serde_json::from_str(&body).unwrap();
            assert!(page.items.len() <= limit);
            all.extend(page.items);
            match page.next_cursor {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }

    #[tokio::test]
    async fn what_was_seen_can_be_read_with_what_became_of_it() {
        let bed = Bed::new().await;
        let api = bed.serve().await;
        report(
            &bed,
            2,
            vec![
                observation(1, "checkout@eu-west", "5ms"),
                observation(2, "catalog@eu-west", "5ms"),
                observation(3, "checkout@eu-west", "2h"),
            ],
        );
        // Sent again in another report, and then by a process from before.
        report(
            &bed,
            2,
            vec![observation(3, "checkout@eu-west", "2h"), observation(4, "checkout@eu-west", "1ms")],
        );
        let refused = report(&bed, 1, vec![observation(9, "checkout@eu-west", "1ms")]);
        assert_eq!((refused.accepted, refused.replayed), (0, 1), "it does not count");
        bed.c.history.flush().await.unwrap();

        let all = pages(api, 200).await;
        let told: Vec<(u64, ObservationPlace)> =
            all.iter().map(|o| (o.latency_micros - 900, o.place)).collect();
        use ObservationPlace::{Current, Refused, Replayed, TooOld};
        assert_eq!(told, [(9, Refused), (4, Current), (3, Replayed), (3, TooOld), (1, Current)]);
        assert!(all.iter().all(|o| o.vantage.as_str() == "us-east-1" && o.status == Some(200)));
        for limit in [1, 2, 3] {
            assert_eq!(pages(api, limit).await, all, "in pages of {limit}");
        }
        let live = bed.c.live();
        let key: EndpointKey = "checkout@eu-west".parse().unwrap();
        assert_eq!(live.seen[&key].tally.good, 2, "the current window has what is current");
    }

    #[tokio::test]
    async fn a_read_is_bounded_and_a_wrong_question_is_a_problem() {
        let bed = Bed::new().await;
        let api = bed.serve().await;
        let millis = u64::try_from(bed.c.clock.now().as_millis()).unwrap();
        let other = serde_json::to_vec(&json!([observation(1, "catalog@eu-west", "5ms")])).unwrap();
        let wanted = serde_json::to_vec(&json!([observation(1, "checkout@eu-west", "5ms")])).unwrap();
        bed.c.history.append(HISTORY_OBSERVATIONS, millis - 2, "us-east-1", &wanted).unwrap();
        for _ in 0..ENTRIES_READ_MAX + 5 {
            bed.c.history.append(HISTORY_OBSERVATIONS, millis - 1, "us-east-1", &other).unwrap();
        }
        bed.c.history.flush().await.unwrap();
        let question = Wanted {
            endpoint: "checkout@eu-west".parse().unwrap(),
            since: bed.c.clock.now() - Span::from_hours(1),
            cursor: None,
            limit: 10,
        };
        let first = bed.c.observations(&question).unwrap();
        assert_eq!(first.items, [], "it stopped reading");
        let cursor = Some(first.next_cursor.unwrap().parse().unwrap());
        let second = bed.c.observations(&Wanted { cursor, ..question }).unwrap();
        assert_eq!((second.items.len(), second.next_cursor), (1, None), "and went on from there");

        for query in [
            "",
            "?endpoint=x",
            "?endpoint=checkout@eu-west&since=soon",
            "?endpoint=checkout@eu-west&cursor=7",
        ] {
            assert_eq!(
                code_of(&get(api, &format!("/v1/observations{query}")).await, 400),
                "bad_query",
                "{query}"
            );
        }
        let unknown = get(api, "/v1/observations?endpoint=checkout@mars").await;
        assert_eq!(code_of(&unknown, 404), "not_found");
    }

    #[test]
    fn a_long_report_is_kept_in_entries_that_the_history_takes() {
        let all: Vec<Observation> = (1..=500)
            .map(|n| serde_json::from_value(observation(n, "pay@eu-west", "5ms")).unwrap())
            .collect();
        let marked = || all.iter().map(|o| (o, ObservationPlace::TooOld));
        let (chunks, left_out) = super::chunks(marked(), HISTORY_VALUE_BYTES_MAX - 9);
        assert!(chunks.len() > 1 && chunks.iter().all(|c| c.len() <= HISTORY_VALUE_BYTES_MAX - 9));
        let kept: Vec<Kept> =
            chunks.iter().flat_map(|c| serde_json::from_slice::<Vec<Kept>>(c).unwrap()).collect();
        assert!(kept.iter().all(|k| k.place == ObservationPlace::TooOld));
        let kept: Vec<Observation> = kept.into_iter().map(|k| k.observation).collect();
        assert_eq!((kept, left_out), (all.clone(), 0));
        assert_eq!(super::chunks(marked(), 10), (Vec::new(), all.len()));
    }
}
