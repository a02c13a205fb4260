//! A changed directory becomes the configuration without a restart. A bad one is refused whole and stays visible,
//! while the old one goes on.

use crate::config_dir::{ConfigDir, Loaded, judge};
use crate::coordinator::Coordinator;
use crate::error::CoordinatorError;
use drover_model::config::diagnostic::Diagnostic;
use drover_model::config::diff;
use std::sync::Arc;
use std::time::Duration;

/// How often the directory is compared with what was read last.
const POLL_EVERY: Duration = Duration::from_secs(1);

impl Coordinator {
    /// Watches the directory until told to stop.
    pub(crate) async fn run_reload(self: Arc<Self>) {
        let mut tick = tokio::time::interval(POLL_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = tick.tick() => {}
                () = self.reload_wake.notified() => {}
            }
            if let Err(e) = self.reload_now().await {
                tracing::error!(error = &e as &dyn std::error::Error, "can't reload the configuration");
            }
        }
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
            return Ok("nothing changed".into());
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
        self.connect_dns();
        self.retarget_all().await?;
        self.decide_wake.notify_one();
        Ok(format!("{} setting(s) changed", changes.len()))
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
