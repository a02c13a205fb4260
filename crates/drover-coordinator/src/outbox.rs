//! Pages: written down first, delivered after, told apart by a key so that the same trouble pages once.
//!
//! Delivery is at least once: the receiver gets the key and may drop what it has seen. A channel that fails is tried
//! again with growing pauses for as long as pages are kept; what is undelivered shows in `status` and in the metrics.
//! Delivered pages move under a prefix of their own, so that looking for work never reads a week of them.

use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::error::CoordinatorError;
use drover_model::api::Severity;
use drover_model::config::WebhookTarget;
use drover_model::config::version_of;
use drover_model::{Span, Timestamp};
use drover_store::Expect;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Longest pause between two attempts; the first is 2 s, and each is twice the one before.
const PAUSE_MAX: Span = Span::from_mins(5);
/// One delivery may take this long.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(15);
/// Pause between two attempts to write a page down.
const WRITE_PAUSE: Duration = Duration::from_secs(1);
/// Pages are kept this long: a delivered one so that the same key does not page again soon, an undelivered one because
/// after a week of attempts every five minutes the news is none any more.
pub(crate) const KEPT_FOR: Span = Span::from_hours(24 * 7);

/// A page as written down.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct PageRecord {
    /// Tells the same trouble apart.
    pub key: String,
    /// How bad.
    pub severity: Severity,
    /// What it is about.
    pub subject: String,
    /// One sentence.
    pub message: String,
    /// The command that goes on from here.
    pub next: Option<String>,
    /// When.
    pub at: Timestamp,
    /// Channels that took it.
    pub delivered: BTreeSet<String>,
    /// Attempts so far.
    pub attempts: u32,
    /// The last failure.
    pub failure: Option<String>,
    /// Next attempt.
    pub next_attempt: Timestamp,
    /// Nothing more to do.
    pub closed: bool,
}

/// A page to be written down.
#[derive(Debug, Clone)]
pub struct NewPage {
    /// Tells the same trouble apart.
    pub key: String,
    /// How bad.
    pub severity: Severity,
    /// What it is about.
    pub subject: String,
    /// One sentence.
    pub message: String,
    /// The command that goes on from here.
    pub next: Option<String>,
}

/// Store key of a page under `prefix`: its dedup key's digest, because a dedup key may hold any text.
pub(crate) fn store_key(prefix: &str, key: &str) -> String {
    format!("{prefix}{}", version_of(&key))
}

impl Coordinator {
    /// Writes a page down unless its key is there already.
    ///
    /// # Errors
    /// When the store fails or this coordinator no longer leads.
    pub async fn page(&self, page: NewPage) -> Result<(), CoordinatorError> {
        let now = self.clock.now();
        tracing::warn!(key = page.key, subject = page.subject, "page: {}", page.message);
        let record = PageRecord {
            key: page.key.clone(),
            severity: page.severity,
            subject: page.subject,
            message: page.message,
            next: page.next,
            at: now,
            delivered: BTreeSet::new(),
            attempts: 0,
            failure: None,
            next_attempt: now,
            closed: false,
        };
        let waiting = store_key(keys::OUTBOX, &page.key);
        let txn = self.db.fenced().expect(&waiting, Expect::Absent);
        let txn = txn.expect(store_key(keys::PAGED, &page.key), Expect::Absent);
        // A full store is itself something to page about, so pages may use the journal's reserve.
        let txn = self.db.put_op(txn, &waiting, &record)?.for_journal();
        self.db.commit(&format!("write the page {}", page.key), txn).await?;
        self.outbox_wake.notify_one();
        Ok(())
    }

    /// Is a page with this key on record, whether it waits or was delivered?
    pub(crate) async fn has_page(&self, key: &str) -> Result<bool, CoordinatorError> {
        for prefix in [keys::OUTBOX, keys::PAGED] {
            match self.db.get::<PageRecord>(&store_key(prefix, key)).await {
                Ok(None) => {}
                // One that can't be read is one: it is named, and not written over.
                Err(e) if !e.is_of_one_record() => return Err(e),
                _ => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Writes a page down, and tries again until it is written or this coordinator stops: whoever is told nothing must not
    /// be the one who was needed. The journal has it, so that a successor tells it again.
    pub(crate) async fn page_until_written(&self, page: NewPage) {
        loop {
            match self.page(page.clone()).await {
                Ok(()) | Err(CoordinatorError::Fenced { .. }) => return,
                Err(e) => tracing::error!(error = &e as &dyn std::error::Error, "can't write a page down"),
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(WRITE_PAUSE) => {}
            }
        }
    }

    /// Delivers what is due until told to stop.
    pub async fn run_outbox(self: Arc<Self>) {
        let mut idle = tokio::time::interval(Duration::from_millis(500));
        idle.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.outbox_wake.notified() => {}
                _ = idle.tick() => {}
            }
            // A page in delivery is dropped with its program: it is in the store, and told again after the next start.
            let work = tokio::select! {
                () = self.stop.cancelled() => return,
                work = self.deliver_due() => work,
            };
            if let Err(e) = work {
                tracing::error!(error = &e as &dyn std::error::Error, "can't work on the outbox");
                if matches!(e, CoordinatorError::Fenced { .. }) {
                    return;
                }
            }
        }
    }

    async fn deliver_due(&self) -> Result<(), CoordinatorError> {
        let now = self.clock.now();
        let all: Vec<(String, PageRecord)> = self.db.list_placed(keys::OUTBOX).await?;
        let mut undelivered = 0;
        let mut oldest: Option<Timestamp> = None;
        for (key, mut record) in all {
            if !record.closed && record.next_attempt <= now {
                self.deliver(&mut record).await;
                if !record.closed && now.since(record.at) > KEPT_FOR {
                    tracing::error!(
                        key = record.key,
                        attempts = record.attempts,
                        "giving up a page after {KEPT_FOR}: {}",
                        record.failure.as_deref().unwrap_or("no reason")
                    );
                    record.closed = true;
                }
                self.put_away(&key, &record).await?;
            } else if record.closed {
                self.put_away(&key, &record).await?;
            }
            if !record.closed {
                undelivered += 1;
                oldest = Some(oldest.map_or(record.at, |o| o.min(record.at)));
            }
        }
        let mut live = self.live();
        live.pages_undelivered = undelivered;
        live.pages_oldest = oldest;
        Ok(())
    }

    /// Writes down how far a page is; one that is over leaves the outbox in the same breath.
    async fn put_away(&self, key: &str, record: &PageRecord) -> Result<(), CoordinatorError> {
        let txn = if record.closed {
            let txn = self.db.fenced().delete(key);
            self.db.put_op(txn, &store_key(keys::PAGED, &record.key), record)?
        } else {
            self.db.put_op(self.db.fenced(), key, record)?
        };
        self.db.commit(&format!("write the page {}", record.key), txn.for_journal()).await.map(|_| ())
    }

    async fn deliver(&self, record: &mut PageRecord) {
        let paging = self.loaded().config.settings.paging.clone();
        let mut failure = None;
        if let Some(argv) = paging.on_page.as_ref().filter(|_| !record.delivered.contains("on_page")) {
            match run_command(argv, record, DELIVERY_TIMEOUT).await {
                Ok(()) => drop(record.delivered.insert("on_page".into())),
                Err(e) => failure = Some(format!("on_page: {e}")),
            }
        }
        if let Some(hook) = paging.webhook.as_ref().filter(|_| !record.delivered.contains("webhook")) {
            match post(&self.http, hook, record, self.clock.now()).await {
                Ok(()) => drop(record.delivered.insert("webhook".into())),
                Err(e) => failure = Some(format!("webhook: {e}")),
            }
        }
        if paging.channels() == 0 {
            tracing::warn!(key = record.key, "no channel is configured: this page is only logged");
        }
        record.attempts = record.attempts.saturating_add(1);
        record.closed = failure.is_none();
        if let Some(f) = &failure {
            tracing::warn!(key = record.key, attempt = record.attempts, "can't deliver a page: {f}");
        }
        record.failure = failure;
        let pause = Span::from_secs(1 << record.attempts.min(16)).min(PAUSE_MAX);
        record.next_attempt = self.clock.now() + pause;
    }
}

async fn run_command(argv: &[String], record: &PageRecord, within: Duration) -> Result<(), String> {
    let (program, arguments) = argv.split_first().ok_or("the command is empty")?;
    let body = serde_json::to_vec(record).map_err(|e| e.to_string())?;
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .env("DROVER_PAGE_KEY", &record.key)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| format!("can't start `{program}`: {e}"))?;
    let stdin = child.stdin.take();
    // A page is larger than a pipe may be, and a program that hangs may never read: writing waits no longer than it.
    let ended = tokio::time::timeout(within, async {
        if let Some(mut stdin) = stdin {
            // A program that does not read its input is not a failed page; its exit status is what counts.
            let _unread = stdin.write_all(&body).await;
        }
        child.wait().await
    });
    match ended.await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("`{program}` ended with {status}")),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err(format!("`{program}` took longer than {within:?}")),
    }
}

/// The signature header: `sha256=` and the HMAC-SHA-256 of `TIMESTAMP.BODY` in hexadecimal, the timestamp being in
/// `Drover-Timestamp`, so that an old page can't be replayed as new.
#[must_use]
pub fn signature(secret: &[u8], timestamp: &str, body: &[u8]) -> Option<String> {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret).ok()?;
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    Some(format!("sha256={}", hex::encode(mac.finalize().into_bytes())))
}

/// `now` is signed, not the time of the page: a receiver that refuses old signatures would refuse every retry.
async fn post(
    http: &reqwest::Client,
    hook: &WebhookTarget,
    record: &PageRecord,
    now: Timestamp,
) -> Result<(), String> {
    let secret = tokio::fs::read(&hook.secret_file)
        .await
        .map_err(|e| format!("can't read the secret {}: {e}", hook.secret_file.display()))?;
    let body = serde_json::to_vec(record).map_err(|e| e.to_string())?;
    let timestamp = now.to_string();
    let signed =
        signature(secret.trim_ascii(), &timestamp, &body).ok_or("the secret can't be used as a key")?;
    let answer = http
        .post(&hook.url)
        .header("content-type", "application/json")
        .header("idempotency-key", &record.key)
        .header("drover-timestamp", timestamp)
        .header("drover-signature", signed)
        .timeout(DELIVERY_TIMEOUT)
        .body(body)
        .send()
        .await
        .map_err(|e| e.without_url().to_string())?;
    if answer.status().is_success() { Ok(()) } else { Err(format!("answered {}", answer.status())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(message: String) -> PageRecord {
        let at = Timestamp::from_millis(0);
        PageRecord {
            key: "k".into(),
            severity: Severity::Info,
            subject: "s".into(),
            message,
            next: None,
            at,
            delivered: BTreeSet::new(),
            attempts: 0,
            failure: None,
            next_attempt: at,
            closed: false,
        }
    }

    #[tokio::test]
    async fn a_command_that_never_reads_its_page_does_not_hold_up_the_others() {
        // More than a pipe holds, so that the write itself would wait for ever.
        let page = record("x".repeat(1 << 20));
        let argv = ["sh", "-c", "exec sleep 3600"].map(str::to_owned);
        let why = run_command(&argv, &page, Duration::from_millis(300)).await.unwrap_err();
        assert_eq!(why, "`sh` took longer than 300ms");
        let argv = ["sh", "-c", "exit 0"].map(str::to_owned);
        let unread = run_command(&argv, &page, Duration::from_secs(60)).await;
        assert_eq!(unread, Ok(()), "its exit status counts, not what it read");
    }

    #[test]
    fn the_signature_is_hmac_sha256_over_time_and_body() {
        // RFC 4231's algorithm; the value was made with `printf 't.body' | openssl dgst -sha256 -hmac key`.
        assert_eq!(
            signature(b"key", "t", b"body").unwrap(),
            "sha256=36bb3cf04498a381b2004152aec5af4ab27a7f870edb80606632fecf0cee4f7d"
        );
    }
}
