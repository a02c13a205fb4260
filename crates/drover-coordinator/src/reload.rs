//! A changed directory becomes the configuration without a restart. A bad one is refused whole and stays visible,
//! while the old one goes on.

use crate::config_dir::judge;
use crate::coordinator::Coordinator;
use crate::error::CoordinatorError;
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

    /// Reads the directory and takes it when it is new and good. Says what was done.
    ///
    /// # Errors
    /// When the directory can't be read, or the store fails. A directory that is read and wrong is no error here: it
    /// is refused, and `status` shows it.
    pub(crate) async fn reload_now(&self) -> Result<String, CoordinatorError> {
        let dir = self.options.config.clone();
        let texts = tokio::task::spawn_blocking(move || dir.read())
            .await
            .map_err(|e| CoordinatorError::store("read the configuration", e))??;
        let digest = texts.digest();
        if self.live().config_digest == digest {
            return Ok("nothing changed".into());
        }
        self.live().config_digest = digest;
        match judge(&texts, self.clock.now()) {
            Ok(new) => {
                let old = self.loaded();
                let changes = diff::diff(&old.config, &new.config);
                for change in &changes {
                    tracing::info!(
                        path = change.path,
                        old = change.old,
                        new = change.new,
                        "configuration changed"
                    );
                }
                let sentence = format!("{} setting(s) changed", changes.len());
                self.loaded.store(Arc::new(new));
                {
                    let mut live = self.live();
                    live.config_refused.clear();
                    live.keep_only(&self.loaded().config);
                }
                self.connect_dns();
                self.retarget_all().await?;
                self.decide_wake.notify_one();
                Ok(sentence)
            }
            Err(diagnostics) => {
                for d in &diagnostics {
                    tracing::error!("configuration refused, the old one stays: {d}");
                }
                let sentence =
                    format!("refused: {} error(s), the old configuration stays", diagnostics.len());
                self.live().config_refused = diagnostics;
                Ok(sentence)
            }
        }
    }
}
