//! A changed directory becomes the configuration without a restart. A bad one is refused whole and stays visible,
//! while the old one goes on.

use crate::config_dir::{ConfigDir, Loaded, judge};
use crate::coordinator::Coordinator;
use crate::error::CoordinatorError;
use drover_model::config::diagnostic::Diagnostic;
use drover_model::config::diff;
use drover_model::traffic::Actor;
use std::sync::Arc;
use std::time::Duration;

/// What a reload says that found what is in force.
const NOTHING_CHANGED: &str = "nothing changed";

/// How often the directory is compared with what was read last.
const POLL_EVERY: Duration = Duration::from_secs(1);

impl Coordinator {
    /// Watches the directory until told to stop.
    pub(crate) async fn run_reload(self: Arc<Self>) {
        let mut tick = tokio::time::interval(POLL_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told_of = self.live().config_digest.clone();
        loop {
            let told = tokio::select! {
                () = self.stop.cancelled() => return,
                _ = tick.tick() => false,
                () = self.reload_wake.notified() => true,
            };
            let reloaded =
                if told { self.reload_on_signal().await } else { self.reload_by_itself(&mut told_of).await };
            if let Err(e) = reloaded {
                tracing::error!(error = &e as &dyn std::error::Error, "can't reload the configuration");
            }
        }
    }

    /// As the directory is found. Who changed it nobody knows; that it was taken or refused is audited, and once where
    /// it is found again and again in a state that can't be read.
    async fn reload_by_itself(&self, told_of: &mut String) -> Result<String, CoordinatorError> {
        let sentence = self.reload_now().await?;
        let digest = self.live().config_digest.clone();
        // A follower reads its own copy of the directory, and writes nothing.
        if sentence != NOTHING_CHANGED && digest != *told_of && self.db.is_leader() {
            let why = "the directory changed";
            self.audit(&Actor::Automatic, "config reload", "configuration", why, &sentence).await?;
        }
        *told_of = digest;
        Ok(sentence)
    }

    /// On SIGHUP. Who sent it nobody knows; that it came, and what followed, is audited.
    async fn reload_on_signal(&self) -> Result<String, CoordinatorError> {
        let done = self.reload_now().await;
        let outcome = match &done {
            Ok(sentence) => sentence.clone(),
            Err(e) => drover_model::chain(e),
        };
        if self.db.is_leader() {
            self.audit(&Actor::Automatic, "config reload", "configuration", "SIGHUP", &outcome).await?;
        }
        done
    }

    /// What of the configuration in force only counts from the next start.
    pub(crate) fn restart_needed(&self, loaded: &Loaded) -> Vec<String> {
        let settings = &loaded.config.settings;
        let mut needed = Vec::new();
        if self.options.listen.is_none() && settings.listen != self.listen {
            let (wanted, now) = (settings.listen, self.listen);
            needed
                .push(format!("`listen: {wanted}` takes effect at the next start; until then {now} answers"));
        }
        if settings.store != self.records.settings() {
            needed.push(
                "`store` takes effect at the next start; until then the records stay where they are".into(),
            );
        }
        needed
    }

    /// Reads the directory and takes it when it is new and good. Says what was done. One at a time: of two that
    /// overlapped, the one that read first could win.
    ///
    /// # Errors
    /// When the store fails; the same texts are then tried again. A directory that can't be read, or is wrong, is no
    /// error here: it is refused, and `status` shows it.
    pub(crate) async fn reload_now(&self) -> Result<String, CoordinatorError> {
        let _one_at_a_time = self.reloading.lock().await;
        let dir = self.options.config.clone();
        let read = tokio::task::spawn_blocking(move || dir.read())
            .await
            .map_err(|e| CoordinatorError::store("read the configuration", e))?;
        let texts = match read {
            Ok(texts) => texts,
            Err(e) => return Ok(self.refuse(String::new(), vec![unreadable(&self.options.config, &e)])),
        };
        let digest = texts.digest();
        if self.live().config_digest == digest {
            return Ok(NOTHING_CHANGED.into());
        }
        match judge(&texts, self.clock.now()) {
            Ok(new) => {
                let sentence = self.take_config(new).await?;
                let mut live = self.live();
                live.config_digest = digest;
                live.config_refused.clear();
                Ok(sentence)
            }
            Err(diagnostics) => Ok(self.refuse(digest, diagnostics)),
        }
    }

    async fn take_config(&self, new: Loaded) -> Result<String, CoordinatorError> {
        let old = self.loaded();
        let changes = diff::diff(&old.config, &new.config);
        for change in &changes {
            tracing::info!(path = change.path, old = change.old, new = change.new, "configuration changed");
        }
        self.loaded.store(Arc::new(new));
        {
            let loaded = self.loaded();
            let mut live = self.live();
            live.keep_only(&loaded.config);
            live.forget_moved(&old.config, &loaded.config);
            if loaded.config.settings.dns.is_none() {
                live.dns_views.clear();
            }
        }
        // Who begins to lead from here on finds the new configuration in force.
        if self.db.is_leader() {
            self.connect_dns();
            self.retarget_all().await?;
        }
        self.decide_wake.notify_one();
        let mut sentence = format!("{} setting(s) changed", changes.len());
        for needed in self.restart_needed(&self.loaded()) {
            sentence.push_str("; ");
            sentence.push_str(&needed);
        }
        Ok(sentence)
    }

    /// Keeps what is in force and shows why. Logged once for each set of findings, not at every look.
    fn refuse(&self, digest: String, diagnostics: Vec<Diagnostic>) -> String {
        let sentence = format!("refused: {} error(s), the old configuration stays", diagnostics.len());
        let mut live = self.live();
        if live.config_refused != diagnostics {
            for d in &diagnostics {
                tracing::error!("configuration refused, the old one stays: {d}");
            }
        }
        live.config_digest = digest;
        live.config_refused = diagnostics;
        sentence
    }
}

/// What can't be read has no text to point into; the place is the directory.
fn unreadable(dir: &ConfigDir, error: &CoordinatorError) -> Diagnostic {
    let directory = match error {
        CoordinatorError::ReadConfig { directory, .. } => directory,
        _ => &dir.config,
    };
    Diagnostic {
        file: directory.display().to_string(),
        line: 1,
        column: 1,
        offset: 0,
        length: 1,
        source_line: String::new(),
        message: drover_model::chain(error),
        suggestion: Some("make it readable; nothing has to be restarted".into()),
    }
}

#[cfg(test)]
mod tests {
    use crate::testbed::{Bed, person, send};
    use serde_json::{Value, json};

    async fn post_reload(bed: &Bed) -> String {
        let body = serde_json::to_vec(&json!({"by": person(), "reason": "new values"})).unwrap();
        let api = bed.serve().await;
        let (status, _, text) = send(reqwest::Method::POST, api, "/v1/config/reload", Some(body)).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()["sentence"].as_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_reload_by_command_takes_what_is_on_disk_and_is_audited() {
        let bed = Bed::new().await;
        let before = bed.c.loaded().version.clone();
        bed.rewrite(|c| c.settings.retention.store_alarm_bytes += 1);
        assert_eq!(post_reload(&bed).await, "1 setting(s) changed");
        assert_ne!(bed.c.loaded().version, before);
        let audit = bed.c.db.list::<crate::audit::AuditRecord>(crate::db::keys::AUDIT).await.unwrap();
        let last = &audit.last().unwrap().1;
        assert_eq!((last.verb.as_str(), last.outcome.as_str()), ("config reload", "1 setting(s) changed"));
    }

    #[tokio::test]
    async fn a_reload_of_what_is_wrong_says_so_and_changes_nothing() {
        let bed = Bed::new().await;
        let before = bed.c.loaded().version.clone();
        std::fs::write(bed.dir.path().join("config/bad.yaml"), "kind: Service\nendpionts: []\n").unwrap();
        assert!(post_reload(&bed).await.starts_with("refused: "));
        assert_eq!(bed.c.loaded().version, before);
    }

    #[tokio::test]
    async fn a_new_alarm_size_counts_at_once_and_counts_the_history_too() {
        let bed = Bed::new().await;
        let now = bed.c.status_view().coordinator;
        let length = |name: &str| std::fs::metadata(bed.dir.path().join("state").join(name)).unwrap().len();
        assert_eq!(now.store_bytes, length("drover.redb") + length("history.redb"));
        assert!(!now.store_alarm);
        // The smallest alarm size that the settings take: the store alone is far below it.
        let alarm = 1 << 20;
        assert!(length("drover.redb") < alarm);
        for _ in 0..100 {
            bed.c.history.append("filling", 1, "k", &[0; 16_000]).unwrap();
        }
        bed.c.history.flush().await.unwrap();
        bed.rewrite(|c| c.settings.retention.store_alarm_bytes = alarm);
        assert_eq!(bed.c.reload_now().await.unwrap(), "1 setting(s) changed");
        let view = bed.c.status_view();
        assert!(view.coordinator.store_alarm && view.attention.iter().any(|a| a.code == "store_alarm"));
    }

    #[tokio::test]
    async fn what_counts_from_the_next_start_only_says_so_until_then() {
        let bed = Bed::new().await;
        bed.rewrite(|c| c.settings.listen = "127.0.0.1:7999".parse().unwrap());
        let said = bed.c.reload_now().await.unwrap();
        assert!(
            said.contains("1 setting(s) changed; `listen: 127.0.0.1:7999` takes effect at the next start"),
            "{said}"
        );
        let view = bed.c.status_view();
        assert!(view.attention.iter().any(|a| a.code == "restart_needed"), "{:?}", view.attention);
        let bed = bed.reopened().await;
        assert_eq!(bed.c.listen, "127.0.0.1:7999".parse().unwrap());
        assert_eq!(bed.c.status_view().coordinator.restart_needed, Vec::<String>::new());
    }
}
