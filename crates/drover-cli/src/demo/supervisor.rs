//! Keeps the coordinator running: starts it again whenever it ends, as systemd does in a real installation.

use super::process::Recipe;
use crate::failure::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Before it is started again.
const BACKOFF: Duration = Duration::from_millis(200);

/// The supervisor of one coordinator.
#[derive(Debug)]
pub struct Supervisor {
    pid: watch::Receiver<Option<u32>>,
    starts: Arc<AtomicU32>,
    kill: tokio::sync::mpsc::Sender<()>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Supervisor {
    /// Starts the coordinator, waits until it answers, and watches it from then on.
    ///
    /// # Errors
    /// When it does not come up the first time.
    pub async fn start(recipe: Recipe) -> Result<Self> {
        let mut role = recipe.start()?;
        role.ready().await?;
        let (pids, pid) = watch::channel(Some(role.pid));
        let starts = Arc::new(AtomicU32::new(1));
        let (kill, mut kills) = tokio::sync::mpsc::channel::<()>(1);
        let stop = CancellationToken::new();
        let (stopped, counted) = (stop.clone(), starts.clone());
        let task = tokio::spawn(async move {
            let mut current = Some(role);
            loop {
                if let Some(role) = &mut current {
                    tokio::select! {
                        () = stopped.cancelled() => break,
                        _ = role.ended() => {}
                        Some(()) = kills.recv() => {
                            role.kill();
                            continue;
                        }
                    }
                }
                let _ = pids.send(None);
                tokio::select! {
                    () = stopped.cancelled() => break,
                    () = tokio::time::sleep(BACKOFF) => {}
                }
                // A start that fails is tried again after the same pause.
                current = recipe.start().ok();
                counted.fetch_add(1, Ordering::Relaxed);
                let _ = pids.send(current.as_ref().map(|r| r.pid));
            }
            if let Some(role) = current {
                role.end().await;
            }
        });
        Ok(Self { pid, starts, kill, stop, task })
    }

    /// The coordinator's process, while there is one.
    pub fn pid(&self) -> Option<u32> {
        *self.pid.borrow()
    }

    /// How often it was started.
    pub fn starts(&self) -> u32 {
        self.starts.load(Ordering::Relaxed)
    }

    /// Sends SIGKILL to the coordinator.
    pub async fn kill(&self) {
        let _ = self.kill.send(()).await;
    }

    /// Ends the coordinator for good.
    pub async fn end(mut self) {
        self.stop.cancel();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // The task drops its process, which kills it.
        self.stop.cancel();
        self.task.abort();
    }
}
