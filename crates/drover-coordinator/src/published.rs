//! What was published, when, and who decided it: kept beside the observations for as long as changes of verdicts are.
//!
//! An entry is written when a provider has said that it is live. The history is written behind: what was published in the last second before a
//! crash may be missing, and so is a change whose answer was lost. The DNS servers' own logs have the same batches by name.

use crate::coordinator::Coordinator;
use crate::error::CoordinatorError;
use crate::observations::Cursor;
use crate::source::{Source, by_record, sources};
use crate::zone::version;
use drover_dns::provider::{Admitted, Applied, Gate, ProviderError};
use drover_dns::publish::{Batch, Change};
use drover_dns::zone::{RecordKey, RecordSet};
use drover_model::api::{Page, PublicationView};
use drover_model::{Epoch, ServiceId};
use drover_store::{EntryId, HistoryEntry};
use std::collections::BTreeSet;

/// Kind of publications in the history.
pub(crate) const HISTORY_PUBLISHED: &str = "published";
/// Entries that one request reads, at most. Where the page is not full by then, it ends early and the next one goes on.
const ENTRIES_READ_MAX: usize = 5_000;
/// Entries read at once.
const ENTRIES_AT_ONCE: usize = 500;

/// Which publications are looked for.
#[derive(Debug, Clone)]
pub(crate) struct WantedPublications {
    /// Of this service; of all.
    pub(crate) service: Option<ServiceId>,
    pub(crate) cursor: Option<Cursor>,
    pub(crate) limit: usize,
}

impl Coordinator {
    /// Gives a batch to its provider, and keeps what became live of it.
    ///
    /// # Errors
    /// As [`Gate::apply`].
    pub(crate) async fn give(
        &self,
        gate: &Gate,
        batch: &Batch,
        admitted: &Admitted,
    ) -> Result<Applied, ProviderError> {
        let applied = gate.apply(batch, admitted).await?;
        let missing = self.note_missed(batch, &applied);
        if matches!(applied, Applied::Changed(_)) {
            self.keep_published(batch, admitted, &missing);
        }
        Ok(applied)
    }

    /// What a provider made of a batch that it refused, when so much is left.
    pub(crate) fn keep_published_but(&self, batch: &Batch, left: &[Change], admitted: &Admitted) {
        let left: Vec<_> = left.iter().filter_map(Change::put).map(|set| (&set.name, set.rtype)).collect();
        let is_made = |c: &&Change| c.put().is_some_and(|set| !left.contains(&(&set.name, set.rtype)));
        let changes = batch.changes.iter().filter(is_made).cloned().collect();
        self.keep_published(&Batch { changes, ..batch.clone() }, admitted, &BTreeSet::new());
    }

    /// That servers show by now what was published without them.
    pub(crate) fn keep_caught_up(
        &self,
        source: Source<'_>,
        key: &RecordKey,
        live: &RecordSet,
        caught_up: Vec<String>,
        published_partial: Vec<String>,
    ) {
        let told = self.publication(source, key, Some(live), live, live.epoch, "");
        if self.append_published(&PublicationView { published_partial, caught_up, ..told }).is_err() {
            tracing::warn!(record_set = %key, "the history does not take that servers caught up");
        }
    }

    fn keep_published(&self, batch: &Batch, admitted: &Admitted, missing: &BTreeSet<String>) {
        let loaded = self.loaded();
        let sources = by_record(sources(&loaded.config));
        let mut lost = 0;
        for set in batch.changes.iter().filter_map(Change::put) {
            let Some(key) = set.key() else { continue };
            let before = admitted.before(&key);
            // A server that had missed a version has it now: nothing was published.
            let is_new = before.is_none_or(|b| b.generation != set.generation);
            let Some(source) = sources.get(&key).filter(|_| is_new) else { continue };
            let told = self.publication(*source, &key, before, set, batch.epoch, &batch.idempotency_key);
            let kept = PublicationView { published_partial: missing.iter().cloned().collect(), ..told };
            if self.append_published(&kept).is_err() {
                lost += 1;
            }
        }
        if lost > 0 {
            tracing::warn!(
                lost,
                batch = batch.idempotency_key,
                "publications that the history does not take"
            );
        }
    }

    fn publication(
        &self,
        source: Source<'_>,
        key: &RecordKey,
        before: Option<&RecordSet>,
        set: &RecordSet,
        epoch: Epoch,
        batch: &str,
    ) -> PublicationView {
        let targets = self.live().targets();
        let target = targets.of(source).filter(|t| t.generation.0 == set.generation);
        PublicationView {
            at: self.clock.now(),
            service: source.name().clone(),
            name: key.name.as_str().to_owned(),
            record_type: key.rtype.to_string(),
            epoch,
            decided: target.map(|t| t.origin.clone()),
            batch: batch.to_owned(),
            before: before.map(version),
            after: version(set),
            published_partial: vec![],
            caught_up: vec![],
        }
    }

    fn append_published(&self, kept: &PublicationView) -> Result<(), CoordinatorError> {
        let failed =
            |e: Box<dyn std::error::Error + Send + Sync>| CoordinatorError::store("keep a publication", e);
        let bytes = serde_json::to_vec(kept).map_err(|e| failed(e.into()))?;
        let at = u64::try_from(kept.at.as_millis()).unwrap_or(0);
        let key = kept.service.as_str();
        self.history.append(HISTORY_PUBLISHED, at, key, &bytes).map_err(|e| failed(e.into()))
    }

    /// One page, newest first. Reads from the disk: call it where that may block.
    pub(crate) fn publications(
        &self,
        wanted: &WantedPublications,
    ) -> Result<Page<PublicationView>, CoordinatorError> {
        let newest = EntryId { timestamp_ms: u64::MAX, sequence: 0 };
        let mut before = wanted.cursor.map_or(newest, |c| c.entry);
        let (mut items, mut read) = (Vec::new(), 0);
        let page = |items, at: EntryId| Page {
            items,
            next_cursor: Some(Cursor { entry: at, index: 0 }.to_string()),
        };
        loop {
            let entries = self
                .history
                .range_before(HISTORY_PUBLISHED, 0, before, ENTRIES_AT_ONCE)
                .map_err(|e| CoordinatorError::store("read publications", e))?;
            for entry in &entries {
                if wanted.service.as_ref().is_some_and(|s| s.as_str() != entry.key) {
                    continue;
                }
                if items.len() == wanted.limit {
                    return Ok(page(items, before));
                }
                items.push(view(entry)?);
                before = entry.id;
            }
            let Some(last) = entries.last().filter(|_| entries.len() == ENTRIES_AT_ONCE) else {
                return Ok(Page { items, next_cursor: None });
            };
            before = last.id;
            read += entries.len();
            if read >= ENTRIES_READ_MAX {
                return Ok(page(items, before));
            }
        }
    }
}

fn view(entry: &HistoryEntry) -> Result<PublicationView, CoordinatorError> {
    serde_json::from_slice(&entry.bytes)
        .map_err(|e| CoordinatorError::store("read publications", format!("the entry of {}: {e}", entry.key)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::{Bed, code_of, get};
    use crate::zone::tests::{asked, of, published, reconcile, record};
    use drover_model::Span;
    use drover_model::traffic::TargetOrigin;
    use std::net::SocketAddr;

    async fn history(bed: &Bed, api: SocketAddr, query: &str) -> Page<PublicationView> {
        bed.c.history.flush().await.unwrap();
        let (status, _, text) = get(api, &format!("/v1/dns/history{query}")).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    #[tokio::test]
    async fn what_was_published_is_told_with_who_decided_it_and_what_was_there_before() {
        let (bed, dns) = published().await;
        bed.rewrite(|c| c.services.values_mut().for_each(|s| s.ttl = s.ttl.times(2)));
        bed.c.reload_now().await.unwrap();
        reconcile(&bed).await;
        reconcile(&bed).await;
        let mut by_hand = of(&dns, "checkout");
        by_hand.members[0].weight += 7;
        dns.change_by_hand(by_hand);
        let seen = record(&bed, "checkout").await.live;
        bed.c.adopt(&asked("checkout", seen.clone())).await.unwrap();

        let told = history(&bed, bed.serve().await, "?service=checkout").await;
        assert_eq!(told.next_cursor, None);
        let versions: Vec<_> = told
            .items
            .iter()
            .map(|p| (p.before.as_ref().map(|b| b.generation), p.after.generation))
            .collect();
        assert_eq!(versions, [(Some(2), 3), (Some(1), 2), (None, 1)]);
        let [adopted, configured, first] = &told.items[..] else { panic!("{told:?}") };
        assert_eq!((&adopted.before, &adopted.decided), (&seen, &Some(TargetOrigin::Adoption)));
        assert!(adopted.batch.starts_with("adopt-"), "{}", adopted.batch);
        assert_eq!(configured.decided, Some(TargetOrigin::Configuration));
        assert_eq!(configured.before.as_ref(), Some(&first.after));
        assert_eq!(configured.after.ttl_seconds, 2 * first.after.ttl_seconds);
        assert_eq!(first.epoch, bed.c.db.epoch());
    }

    #[tokio::test]
    async fn it_is_read_in_pages_and_a_service_that_never_was_is_a_mistake() {
        let (bed, _dns) = published().await;
        for _ in 0..3 {
            bed.rewrite(|c| c.services.values_mut().for_each(|s| s.ttl = s.ttl.times(2)));
            bed.c.reload_now().await.unwrap();
            reconcile(&bed).await;
        }
        let api = bed.serve().await;
        let whole = history(&bed, api, "").await.items;
        assert_eq!(whole.len(), 8, "two services, four times each");
        let (mut paged, mut cursor) = (vec![], String::new());
        loop {
            let page = history(&bed, api, &format!("?limit=3{cursor}")).await;
            assert!(page.items.len() <= 3);
            paged.extend(page.items);
            match page.next_cursor {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(paged, whole);
        let nobody = get(api, "/v1/dns/history?service=nobody").await;
        assert_eq!(code_of(&nobody, 404), "not_found");
        let wrong = get(api, "/v1/dns/history?cursor=x").await;
        assert_eq!(code_of(&wrong, 400), "bad_query");
    }

    #[tokio::test]
    async fn it_is_kept_as_long_as_changes_of_verdicts() {
        let (bed, _dns) = published().await;
        let api = bed.serve().await;
        assert_eq!(history(&bed, api, "").await.items.len(), 2);
        let kept_for = bed.c.loaded().config.settings.retention.transitions;
        bed.c.sweep(bed.c.clock.now() + kept_for - Span::from_hours(1)).await.unwrap();
        assert_eq!(history(&bed, api, "").await.items.len(), 2);
        bed.c.sweep(bed.c.clock.now() + kept_for + Span::from_hours(1)).await.unwrap();
        assert_eq!(history(&bed, api, "").await.items, []);
    }

    #[tokio::test]
    async fn of_a_batch_that_was_refused_what_was_made_of_it_is_told() {
        let (bed, dns) = published().await;
        dns.refuse(&of(&dns, "catalog").name);
        dns.make_the_rest(true);
        bed.rewrite(|c| c.services.values_mut().for_each(|s| s.ttl = s.ttl.times(2)));
        bed.c.reload_now().await.unwrap();
        reconcile(&bed).await;
        let told = history(&bed, bed.serve().await, "").await.items;
        let newest: Vec<_> =
            told.iter().filter(|p| p.after.generation == 2).map(|p| p.service.as_str()).collect();
        assert_eq!(newest, ["checkout"]);
    }
}
