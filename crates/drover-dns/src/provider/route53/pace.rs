//! The account's limit on requests, kept by whoever sends: below the SDK's retries, so that these count too.
//!
//! Route 53 takes five requests a second from an account, whatever they ask, and refuses the rest.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// A second, and what two requests may come closer together on the way.
const WINDOW: Duration = Duration::from_millis(1050);

/// When the last requests were sent; as many as fit into a window.
#[derive(Debug)]
struct Pace {
    window_max: usize,
    sent: Mutex<VecDeque<Instant>>,
}

impl Pace {
    /// Returns when one more request may be sent. In the order of asking.
    async fn turn(&self) {
        let mut sent = self.sent.lock().await;
        // Looked at while waiting and taken out after: who stops waiting leaves the window as it was.
        if sent.len() >= self.window_max
            && let Some(oldest) = sent.front()
        {
            tokio::time::sleep_until(*oldest + WINDOW).await;
            sent.pop_front();
        }
        sent.push_back(Instant::now());
    }
}

/// A client that sends no more than so many requests in any second.
#[derive(Debug)]
pub(super) struct Paced {
    client: SharedHttpClient,
    pace: Arc<Pace>,
}

impl Paced {
    pub(super) fn new(client: SharedHttpClient, requests_per_second: u32) -> Self {
        let window_max = usize::try_from(requests_per_second).unwrap_or(usize::MAX).max(1);
        Self { client, pace: Arc::new(Pace { window_max, sent: Mutex::default() }) }
    }
}

impl HttpClient for Paced {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let inner = self.client.http_connector(settings, components);
        SharedHttpConnector::new(PacedConnector { inner, pace: Arc::clone(&self.pace) })
    }
}

#[derive(Debug)]
struct PacedConnector {
    inner: SharedHttpConnector,
    pace: Arc<Pace>,
}

impl HttpConnector for PacedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (inner, pace) = (self.inner.clone(), Arc::clone(&self.pace));
        HttpConnectorFuture::new(async move {
            pace.turn().await;
            inner.call(request).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_second_has_more_requests_than_the_account_takes() {
        let pace = Pace { window_max: 5, sent: Mutex::default() };
        let began = Instant::now();
        let mut turns = Vec::new();
        for n in 0..40u64 {
            pace.turn().await;
            turns.push(began.elapsed());
            // Whether they come in a bunch or one by one.
            if n >= 20 {
                tokio::time::sleep(Duration::from_millis(n * 7)).await;
            }
        }
        assert_eq!(turns[4], Duration::ZERO, "what is free is given at once");
        for some in turns.windows(6) {
            assert!(some[5] - some[0] >= WINDOW, "{some:?}");
        }
    }
}
