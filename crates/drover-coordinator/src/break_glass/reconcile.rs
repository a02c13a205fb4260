//! The record of a break-glass session is brought to a coordinator that is back: its lines go into the audit, each once, and what it holds
//! is drover's again.
//!
//! The lines come first: whatever becomes of the rest, what was done is on record. A line and the count of those that were taken are one
//! transaction, so that the same file twice adds nothing, and a file that went on since adds what is new.

use super::Keeping;
use crate::api::problem::ApiError;
use crate::audit::Appended;
use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::error::CoordinatorError;
use crate::operator::{REASON_BYTES_MAX, need_reason};
use crate::zone::version;
use axum::http::StatusCode;
use drover_dns::break_glass::{Began, Entry, Intends, Line, Record, Unsound};
use drover_dns::publish::{PublicKey, SigningKey};
use drover_dns::zone::RecordSet;
use drover_model::ServiceId;
use drover_model::api::RecordVersion;
use drover_model::break_glass::{HeldBy, ReconcileRequest, Reconciled, ReconciledService};
use drover_model::config::DnsServers;
use drover_model::traffic::Actor;
use drover_store::Expect;
use serde::{Deserialize, Serialize};

/// Bytes of a text of a record that go into the audit, as of any other text that a request brings.
const TEXT_BYTES_MAX: usize = 256;

/// How many lines of a command the audit has.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Taken {
    lines: u64,
}

/// What came of the lines.
struct Lines {
    added: u64,
    known: u64,
}

impl Coordinator {
    /// Takes a record into the audit, and what it holds back to drover.
    ///
    /// # Errors
    /// When a line is not what a command wrote, when what is live is not what was shown or what the record put there, or DNS or the store can't be
    /// told. Lines that were taken stay.
    pub(crate) async fn reconcile_glass(&self, request: &ReconcileRequest) -> Result<Reconciled, ApiError> {
        need_reason(&request.reason)?;
        let record = Record::read(&request.record).map_err(|e| unsound(&e))?;
        self.check_zone(&record)?;
        let Lines { added, known } = self.take_lines(&record, &request.by).await?;
        let mut services = vec![];
        for (service, seen) in &request.services {
            check_held(&record, service, seen)?;
            let keeping = Keeping::of(request.how, &request.by, &request.reason);
            let outcome = self.taken(service, Some(seen), keeping.as_ref()).await;
            let text = match &outcome {
                Ok(done) => done.sentence.clone(),
                Err(e) => format!("refused: {}", e.0.detail),
            };
            let verb = format!("break-glass reconcile --{}", request.how);
            self.noted(&request.by, &verb, service.as_str(), &request.reason, &text).await?;
            let sentence = outcome.map_err(ApiError::on_record)?.sentence;
            services.push(ReconciledService { service: service.clone(), sentence });
        }
        Ok(Reconciled { added, known, services })
    }

    fn check_zone(&self, record: &Record) -> Result<(), ApiError> {
        let (_, zone) = self.zone()?;
        let sessions = record.sessions();
        match sessions.iter().find(|session| session.began.zone != zone) {
            None => Ok(()),
            Some(other) => {
                let detail =
                    format!("the record is of {}, and this coordinator's zone is {zone}", other.began.zone);
                Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "other_zone", detail))
            }
        }
    }

    async fn take_lines(&self, record: &Record, by: &Actor) -> Result<Lines, ApiError> {
        let own = self.own_key().await;
        let mut lines = Lines { added: 0, known: 0 };
        let mut session: Option<(&Began, String, u64)> = None;
        for line in record.lines() {
            if let Entry::Began(began) = &line.entry {
                session = Some((began, keys::glass(&String::from(line.hash)), 0));
            }
            // A record that begins with no command was refused when it was read.
            let Some((began, key, place)) = session.as_mut() else { continue };
            *place += 1;
            let taken = self.db.get::<Taken>(key).await?;
            if taken.as_ref().is_some_and(|(taken, _)| taken.lines >= *place) {
                lines.known += 1;
                continue;
            }
            let expected = taken.map_or(Expect::Absent, |(_, revision)| Expect::ModRevision(revision));
            let also = self.db.fenced().expect(key.clone(), expected);
            let also = self.db.put_op(also, key, &Taken { lines: *place })?;
            let told = Told::of(line, began, own.as_ref());
            let words = ["break-glass", &told.subject, &told.reason, &told.outcome];
            match self.audit_with(also, by, words).await? {
                Appended::Together => lines.added += 1,
                // Commands wait for each other, and nobody else takes lines.
                Appended::Otherwise => {
                    let what = format!("take line {} of a break-glass record", line.number);
                    return Err(CoordinatorError::store(what, "it was taken at the same moment").into());
                }
            }
        }
        Ok(lines)
    }

    /// The public part of the key that the zone's servers trust, where there is one that can be read.
    async fn own_key(&self) -> Option<PublicKey> {
        let loaded = self.loaded();
        let DnsServers::Embedded(own) = &loaded.config.settings.dns.as_ref()?.servers else { return None };
        let file = own.signing_key_file.clone()?;
        let read = tokio::task::spawn_blocking(move || SigningKey::read(&file)).await.ok()?;
        read.ok().map(|key| key.public())
    }
}

fn unsound(error: &Unsound) -> ApiError {
    let mut refused = ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "record_unsound", error.to_string());
    refused.0.next = Some(
        "bring the file as the command wrote it; without it: drover dns adopt SERVICE --reason TEXT".into(),
    );
    refused
}

/// The same in any order of their values: a provider lists them in its own.
fn is_same(one: &RecordVersion, other: &RecordVersion) -> bool {
    let sorted = |version: &RecordVersion| {
        let mut version = version.clone();
        version.values.sort_by_cached_key(|v| (v.region.clone(), v.value.clone(), v.weight));
        version
    };
    sorted(one) == sorted(other)
}

/// Is it this record by which the service is held, and is what it put there what is live?
fn check_held(record: &Record, service: &ServiceId, seen: &RecordVersion) -> Result<(), ApiError> {
    let Some(held_by) = HeldBy::of_owner(&seen.owner) else {
        let detail = format!("nobody holds {service} by break-glass");
        return Err(ApiError::new(StatusCode::CONFLICT, "not_held", detail));
    };
    let put = record.put_by(service, &held_by);
    if put.iter().any(|set| is_same(&version(set), seen)) {
        return Ok(());
    }
    if let Some(newest) = put.first() {
        let detail = format!(
            "what is live for {service} (generation {}) is not what this record put there (generation {}): the file is not \
             what {held_by} did, or somebody changed it since",
            seen.generation, newest.generation
        );
        let mut refused = ApiError::new(StatusCode::CONFLICT, "not_as_recorded", detail);
        refused.0.next = Some(format!(
            "drover dns show {service}, and if that may be replaced: drover dns adopt {service} --reason TEXT"
        ));
        return Err(refused);
    }
    let detail = format!("{held_by} holds {service}, and this record has nothing of that session");
    let mut refused = ApiError::new(StatusCode::CONFLICT, "other_record", detail);
    refused.0.next =
        Some(format!("bring that session's file; without it: drover dns adopt {service} --reason TEXT"));
    Err(refused)
}

/// A line in the words of the audit.
struct Told {
    subject: String,
    reason: String,
    outcome: String,
}

impl Told {
    fn of(line: &Line, session: &Began, own: Option<&PublicKey>) -> Self {
        let (subject, what) = match &line.entry {
            Entry::Began(began) => {
                let signed =
                    if own == Some(&began.key) { "the zone's signing key" } else { "a key of its own" };
                let by = match &began.by {
                    Actor::Person { name, host } => format!("{} at {}", short(name), short(host)),
                    Actor::Automatic => began.by.to_string(),
                };
                (
                    began.zone.clone(),
                    format!("begun by {by}, as that machine says, signed with {signed} {}", began.key),
                )
            }
            Entry::Intends(intends) => (intends.service.to_string(), format!("meant {}", moved(intends))),
            Entry::Ended(ended) => {
                (ended.service.to_string(), format!("{}: {}", ended.outcome, short(&ended.sentence)))
            }
            Entry::Verified(verified) => {
                let word = if verified.is_answered { "proven" } else { "not proven" };
                (verified.service.to_string(), format!("{word}: {}", short(&verified.sentence)))
            }
        };
        let reason = cut(&session.reason, REASON_BYTES_MAX).to_owned();
        let outcome = format!(
            "session {} at {}: {what} (line {}, {})",
            short(&session.session),
            line.at,
            line.number,
            String::from(line.hash)
        );
        Self { subject, reason, outcome }
    }
}

/// A text of a record, which anybody may have written.
fn short(text: &str) -> &str {
    cut(text, TEXT_BYTES_MAX)
}

fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

fn moved(intends: &Intends) -> String {
    let was = |set: &RecordSet, region: &str| {
        set.members
            .iter()
            .find(|m| m.set_id == region)
            .map_or_else(|| "none".to_owned(), |m| m.weight.to_string())
    };
    let Intends { before, after, epoch, .. } = intends;
    let each = after
        .members
        .iter()
        .map(|m| format!("{} {} -> {}", short(&m.set_id), was(before, &m.set_id), m.weight));
    let each: Vec<String> = each.collect();
    let each = each.join(", ");
    let each = cut(&each, REASON_BYTES_MAX);
    format!("{each} (generation {} -> {}, epoch {epoch})", before.generation, after.generation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::AuditRecord;
    use crate::testbed::{Bed, PlayedDns, person, send};
    use crate::zone::tests::{of, published, reconcile, record};
    use axum::http::Method;
    use drover_dns::break_glass::{Ended, Outcome, Recorder};
    use drover_model::api::RecordState;
    use drover_model::break_glass::How;
    use drover_model::traffic::{Hold, TargetOrigin};
    use drover_model::{Percent, RunId, Timestamp};
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Arc;

    fn checkout() -> ServiceId {
        ServiceId::new("checkout").unwrap()
    }

    /// Adds a command's lines to a file, as `drover break-glass dns set` does.
    fn write(file: &Path, held_by: &HeldBy, zone: &str, before: &RecordSet, after: &RecordSet) {
        let key = SigningKey::for_once().unwrap();
        let began = Began {
            session: held_by.session.clone(),
            key: key.public(),
            by: Actor::Person { name: "ada".into(), host: "laptop".into() },
            reason: "eu-west burns".into(),
            zone: zone.into(),
            provider: "played".into(),
            version: "0".into(),
        };
        let intends = Intends {
            service: checkout(),
            epoch: before.epoch,
            before: before.clone(),
            after: after.clone(),
        };
        let ended = Ended { service: checkout(), outcome: Outcome::Done, sentence: "live at played".into() };
        let mut recorder = Recorder::open(file, key).unwrap();
        for entry in [Entry::Began(began), Entry::Intends(intends), Entry::Ended(ended)] {
            recorder.write(Timestamp::from_millis(1_000), entry).unwrap();
        }
    }

    struct Held {
        bed: Bed,
        dns: Arc<PlayedDns>,
        held_by: HeldBy,
        /// The record, and where it stands.
        text: String,
        files: tempfile::TempDir,
    }

    /// Somebody gave eu-west nothing while the coordinator was away.
    async fn held() -> Held {
        let (bed, dns) = published().await;
        let (files, held_by) = (tempfile::tempdir().unwrap(), HeldBy::new("ada", 7));
        let before = of(&dns, "checkout");
        let mut after =
            RecordSet { generation: before.generation + 1, owner: held_by.owner(), ..before.clone() };
        after.members.iter_mut().find(|m| m.set_id == "eu-west").unwrap().weight = 0;
        let zone = bed.c.loaded().config.settings.dns.as_ref().unwrap().zone.clone();
        let file = files.path().join("record.jsonl");
        write(&file, &held_by, &zone, &before, &after);
        dns.change_by_hand(after);
        reconcile(&bed).await;
        let text = std::fs::read_to_string(file).unwrap();
        Held { bed, dns, held_by, text, files }
    }

    async fn request(held: &Held, how: How) -> ReconcileRequest {
        let live = record(&held.bed, "checkout").await.live.unwrap();
        let services = BTreeMap::from([(checkout(), live)]);
        ReconcileRequest {
            by: person(),
            reason: "it is back".into(),
            record: held.text.clone(),
            how,
            services,
        }
    }

    async fn lines(bed: &Bed) -> Vec<AuditRecord> {
        let audit = bed.c.db.list::<AuditRecord>(keys::AUDIT).await.unwrap();
        audit.into_iter().map(|(_, record)| record).filter(|record| record.verb == "break-glass").collect()
    }

    #[tokio::test]
    async fn what_is_released_is_as_drover_wants_it_and_each_line_is_audited_once() {
        let held = held().await;
        let asked = request(&held, How::Release).await;
        let (api, body) = (held.bed.serve().await, serde_json::to_vec(&asked).unwrap());
        let (status, _, said) = send(Method::POST, api, "/v1/break-glass/reconcile", Some(body)).await;
        let done: Reconciled = serde_json::from_str(&said).unwrap();
        assert_eq!((status, done.added, done.known, done.services.len()), (200, 3, 0, 1), "{said}");
        let live = of(&held.dns, "checkout");
        assert_eq!((live.owner.as_str(), live.generation), ("drover", 3));
        assert!(live.members.iter().all(|m| m.weight > 0), "{live:?}");
        assert_eq!(record(&held.bed, "checkout").await.state, RecordState::InLine);
        let told = lines(&held.bed).await;
        let outcomes: Vec<&str> = told.iter().map(|r| r.outcome.as_str()).collect();
        assert!(
            outcomes[0]
                .contains("begun by ada at laptop, as that machine says, signed with a key of its own")
        );
        assert!(outcomes[1].contains("eu-west 3") && outcomes[1].contains("-> 0"), "{outcomes:?}");
        assert!(outcomes[2].contains("done: live at played"), "{outcomes:?}");
        assert!(told.iter().all(|r| r.by == person() && r.reason == "eu-west burns"), "{told:?}");
        // Once more there is nothing to add, and nothing to take.
        let again = ReconcileRequest { services: BTreeMap::new(), ..asked };
        let done = held.bed.c.reconcile_glass(&again).await.unwrap();
        assert_eq!((done.added, done.known, lines(&held.bed).await.len()), (0, 3, 3));
        // A file that went on since adds what is new.
        let file = held.files.path().join("record.jsonl");
        let zone = held.bed.c.loaded().config.settings.dns.as_ref().unwrap().zone.clone();
        write(&file, &HeldBy::new("ada", 8), &zone, &live, &live);
        let more = ReconcileRequest { record: std::fs::read_to_string(file).unwrap(), ..again };
        let done = held.bed.c.reconcile_glass(&more).await.unwrap();
        assert_eq!((done.added, done.known), (3, 3));
    }

    #[tokio::test]
    async fn what_is_kept_becomes_the_target_and_a_drain_and_nothing_moves() {
        let held = held().await;
        let (before, now) = (of(&held.dns, "checkout"), held.bed.c.clock.now());
        // Somebody had drained us-east of both services; checkout was given something there since.
        let (run, region) = (RunId::numbered(1), "us-east".parse().unwrap());
        let target = {
            let mut live = held.bed.c.live();
            let target = live.traffic.get_mut(&checkout()).unwrap();
            let share = target.shares.get_mut(&region).unwrap();
            share.share = Percent::ZERO;
            let target = target.clone();
            let services = vec![checkout(), "catalog".parse().unwrap()];
            let by = person();
            let hold = Hold {
                run: run.clone(),
                region,
                services,
                by,
                reason: "r".into(),
                since: now,
                expires_at: None,
            };
            live.holds.insert(run.clone(), hold);
            target
        };
        held.bed.c.db.put(&keys::traffic(&checkout()), &target).await.unwrap();
        held.bed.c.reconcile_glass(&request(&held, How::Keep).await).await.unwrap();
        let live = of(&held.dns, "checkout");
        assert_eq!((live.owner.as_str(), live.generation), ("drover", before.generation + 1));
        let carries = |set: &RecordSet| -> Vec<(String, bool)> {
            set.members.iter().map(|m| (m.set_id.clone(), m.weight > 0)).collect()
        };
        assert_eq!(carries(&live), carries(&before));
        let kept = held.bed.c.live().traffic[&checkout()].clone();
        let share = |region: &str| kept.shares[&region.parse().unwrap()].share;
        assert_eq!((share("eu-west"), share("us-east")), (Percent::ZERO, Percent::FULL));
        assert_eq!((kept.origin.clone(), kept.generation.0), (TargetOrigin::Adoption, live.generation));
        assert_eq!(kept.weights.values().map(|w| u32::from(w.0)).sum::<u32>(), 100);
        let stored = held.bed.c.db.list::<Hold>(keys::HOLDS).await.unwrap();
        let of_hold = |hold: &Hold| (hold.run.to_string(), hold.region.to_string(), hold.services.len());
        let told: Vec<_> = stored.iter().map(|(_, hold)| of_hold(hold)).collect();
        let session = &held.held_by.session;
        assert_eq!(
            told,
            [
                (format!("break-glass-{session}-1"), "eu-west".to_owned(), 1),
                ("run-1".to_owned(), "us-east".to_owned(), 1)
            ]
        );
        let known: Vec<_> = held.bed.c.live().holds.values().map(of_hold).collect();
        assert_eq!(known, told);
        reconcile(&held.bed).await;
        assert_eq!(of(&held.dns, "checkout"), live);
    }

    #[test]
    fn what_a_record_says_is_bounded_in_the_audit() {
        let long = "\u{fc}".repeat(1_000);
        let key = SigningKey::for_once().unwrap();
        let began = Began {
            session: "00000007".into(),
            key: key.public(),
            by: Actor::Person { name: long.clone(), host: long.clone() },
            reason: long.repeat(2),
            zone: "example.test".into(),
            provider: "played".into(),
            version: "0".into(),
        };
        let ended = Ended { service: checkout(), outcome: Outcome::Done, sentence: long };
        let files = tempfile::tempdir().unwrap();
        let file = files.path().join("record.jsonl");
        let mut recorder = Recorder::open(&file, key).unwrap();
        for entry in [Entry::Began(began.clone()), Entry::Ended(ended)] {
            recorder.write(Timestamp::from_millis(1_000), entry).unwrap();
        }
        let record = Record::read(&std::fs::read_to_string(file).unwrap()).unwrap();
        assert_eq!(record.lines().len(), 2);
        for line in record.lines() {
            let told = Told::of(line, &began, None);
            assert!(told.outcome.len() < 2 * TEXT_BYTES_MAX + 300, "{}", told.outcome);
            assert_eq!(told.reason.len(), REASON_BYTES_MAX);
        }
    }

    #[tokio::test]
    async fn another_record_a_changed_one_and_what_moved_since_are_refused() {
        let held = held().await;
        let asked = request(&held, How::Release).await;
        let before = of(&held.dns, "checkout");
        let broken =
            ReconcileRequest { record: held.text.replacen("at played", "at nobody", 1), ..asked.clone() };
        let refused = held.bed.c.reconcile_glass(&broken).await.unwrap_err();
        assert_eq!(refused.0.code, "record_unsound");
        assert!(refused.0.detail.contains("line 3"), "{}", refused.0.detail);
        assert!(lines(&held.bed).await.is_empty());
        let mut older = asked.clone();
        older.services.get_mut(&checkout()).unwrap().generation = 1;
        let refused = held.bed.c.reconcile_glass(&older).await.unwrap_err();
        assert_eq!(refused.0.code, "not_as_recorded");
        assert!(refused.0.next.unwrap().contains("drover dns adopt checkout"));
        // The same session, with weights that its file has nothing of.
        let by_record = of(&held.dns, "checkout");
        let mut other = by_record.clone();
        other.members.iter_mut().for_each(|m| m.weight += 1);
        held.dns.change_by_hand(other.clone());
        let unrecorded = request(&held, How::Keep).await;
        let refused = held.bed.c.reconcile_glass(&unrecorded).await.unwrap_err();
        assert_eq!(refused.0.code, "not_as_recorded");
        assert_eq!(of(&held.dns, "checkout"), other);
        held.dns.change_by_hand(by_record);
        // Bob took it over meanwhile: Ada's record says nothing of that.
        let bob =
            RecordSet { owner: HeldBy::new("bob", 9).owner(), generation: before.generation + 1, ..before };
        held.dns.change_by_hand(bob.clone());
        let other = request(&held, How::Release).await;
        assert_eq!(held.bed.c.reconcile_glass(&other).await.unwrap_err().0.code, "other_record");
        assert_eq!(of(&held.dns, "checkout"), bob);
        assert_eq!(lines(&held.bed).await.len(), 3, "what was done is on record all the same");
        // A record of another zone is none of this coordinator's.
        let file = held.files.path().join("other.jsonl");
        write(&file, &held.held_by, "example.org", &bob, &bob);
        let foreign = ReconcileRequest { record: std::fs::read_to_string(file).unwrap(), ..other };
        assert_eq!(held.bed.c.reconcile_glass(&foreign).await.unwrap_err().0.code, "other_zone");
    }
}
