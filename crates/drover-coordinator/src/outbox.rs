//! Pages: written down first, delivered after, told apart by a key so that the same trouble pages once.
//!
//! Delivery is at least once: the receiver gets the key and may drop what it has seen. A channel that fails is tried
//! again with growing pauses until `PAGE_ATTEMPTS_MAX`; what is undelivered shows in `status` and in the metrics.

use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::error::CoordinatorError;
use drover_model::api::Severity;
use drover_model::config::WebhookTarget;
use drover_model::config::version_of;
use drover_model::{Span, Timestamp};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Attempts on one channel: with pauses from 1 s doubling to 5 min this is about an hour and a half.
pub const PAGE_ATTEMPTS_MAX: u32 = 24;
/// Longest pause between two attempts.
const PAUSE_MAX: Span = Span::from_mins(5);
/// One delivery may take this long.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(15);
/// Delivered pages are kept this long, so that the same key does not page again soon.
const KEPT_FOR: Span = Span::from_hours(24 * 7);

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

/// Store key of a page: its dedup key's digest, because a dedup key may hold any text.
#[must_use]
pub fn store_key(key: &str) -> String {
    format!("{}{}", keys::OUTBOX, version_of(&key))
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
        self.db.create(&store_key(&page.key), &record).await?;
        self.outbox_wake.notify_one();
        Ok(())
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
            if let Err(e) = self.deliver_due().await {
                tracing::error!(error = &e as &dyn std::error::Error, "can't work on the outbox");
                if matches!(e, CoordinatorError::Fenced { .. }) {
                    return;
                }
            }
        }
    }

    async fn deliver_due(&self) -> Result<(), CoordinatorError> {
        let now = self.clock.now();
        let all: Vec<(String, PageRecord)> = self.db.list(keys::OUTBOX).await?;
        let mut undelivered = 0;
        let mut oldest: Option<Timestamp> = None;
        for (key, mut record) in all {
            if record.closed {
                if now.since(record.at) > KEPT_FOR {
                    self.db.delete(&key).await?;
                }
                continue;
            }
            if record.next_attempt <= now {
                self.deliver(&mut record).await;
                self.db.put(&key, &record).await?;
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

    async fn deliver(&self, record: &mut PageRecord) {
        let paging = self.loaded().config.settings.paging.clone();
        let mut failure = None;
        if let Some(argv) = paging.on_page.as_ref().filter(|_| !record.delivered.contains("on_page")) {
            match run_command(argv, record).await {
                Ok(()) => drop(record.delivered.insert("on_page".into())),
                Err(e) => failure = Some(format!("on_page: {e}")),
            }
        }
        if let Some(hook) = paging.webhook.as_ref().filter(|_| !record.delivered.contains("webhook")) {
            match post(&self.http, hook, record).await {
                Ok(()) => drop(record.delivered.insert("webhook".into())),
                Err(e) => failure = Some(format!("webhook: {e}")),
            }
        }
        record.attempts += 1;
        record.closed = failure.is_none() || record.attempts >= PAGE_ATTEMPTS_MAX;
        if let Some(f) = &failure {
            tracing::warn!(key = record.key, attempt = record.attempts, "can't deliver a page: {f}");
        }
        record.failure = failure;
        let pause = Span::from_secs(1 << record.attempts.min(16)).min(PAUSE_MAX);
        record.next_attempt = self.clock.now() + pause;
    }
}

async fn run_command(argv: &[String], record: &PageRecord) -> Result<(), String> {
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
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input is not a failed page; its exit status is what counts.
        let _unread = stdin.write_all(&body).await;
    }
    match tokio::time::timeout(DELIVERY_TIMEOUT, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("`{program}` ended with {status}")),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err(format!("`{program}` took longer than {}s", DELIVERY_TIMEOUT.as_secs())),
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

async fn post(http: &reqwest::Client, hook: &WebhookTarget, record: &PageRecord) -> Result<(), String> {
    let secret = tokio::fs::read(&hook.secret_file)
        .await
        .map_err(|e| format!("can't read the secret {}: {e}", hook.secret_file.display()))?;
    let body = serde_json::to_vec(record).map_err(|e| e.to_string())?;
    let timestamp = record.at.to_string();
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

    #[test]
    fn the_signature_is_hmac_sha256_over_time_and_body() {
        // RFC 4231's algorithm; the value was made with `printf 't.body' | openssl dgst -sha256 -hmac key`.
        assert_eq!(
            signature(b"key", "t", b"body").unwrap(),
            "sha256=36bb3cf04498a381b2004152aec5af4ab27a7f870edb80606632fecf0cee4f7d"
        );
    }
}
