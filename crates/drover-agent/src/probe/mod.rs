//! One probe: one future with one true timeout over the whole exchange, from the name's resolution to the body's end.
//!
//! ```text
//! files ─► resolve ─► connect ─► TLS ─► request ─► body        a timeout says where it was
//! ```
//!
//! Nothing is shared between two probes of a target: a new connection, a new handshake, no proxy whatever the
//! environment says. What is cached (certificates, secrets) is the agent's own.

pub mod connect;
pub mod failure;
pub mod files;
pub mod http;
pub mod tls;

use crate::clock::{monotonic_now, wall_now};
use crate::target::{Plan, Target};
use ::http::HeaderValue;
use connect::{Resolver, connect};
use drover_model::Timestamp;
use drover_model::probe::FailureKind;
use failure::Failure;
use files::Secrets;
use http::HttpPlan;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU16, Ordering};
use std::time::Duration;
use tls::TlsConfigs;
use tokio::time::{Instant, timeout_at};

/// A probe that ended this long after its timeout was not timed by it: the process or the machine stood still. Its
/// failure says nothing of the endpoint.
pub const STALL_MIN: Duration = Duration::from_secs(1);

/// Where an exchange is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Reading certificates and secrets.
    Files,
    /// Resolving the name.
    Resolve,
    /// Connecting.
    Connect,
    /// In the TLS handshake.
    Tls,
    /// Waiting for status and headers.
    Request,
    /// Reading the body.
    Body,
}

impl Phase {
    const ALL: [Phase; 6] =
        [Phase::Files, Phase::Resolve, Phase::Connect, Phase::Tls, Phase::Request, Phase::Body];

    /// In words.
    #[must_use]
    pub fn doing(self) -> &'static str {
        match self {
            Phase::Files => "reading the check's files",
            Phase::Resolve => "resolving the name",
            Phase::Connect => "connecting",
            Phase::Tls => "in the TLS handshake",
            Phase::Request => "waiting for the answer",
            Phase::Body => "reading the body",
        }
    }

    /// Whose trouble it is to run out of time here.
    fn late(self) -> FailureKind {
        match self {
            Phase::Files => FailureKind::Local,
            Phase::Resolve => FailureKind::Resolve,
            Phase::Connect | Phase::Tls | Phase::Request | Phase::Body => FailureKind::TimedOut,
        }
    }
}

/// What is known of an exchange so far; it outlives the exchange when the timeout ends it.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    status: AtomicU16,
    certificate_expires_millis: AtomicI64,
}

impl Progress {
    /// The exchange came this far.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// How far it came.
    #[must_use]
    pub fn phase(&self) -> Phase {
        let at = usize::from(self.phase.load(Ordering::Relaxed));
        Phase::ALL.get(at).copied().unwrap_or(Phase::Files)
    }

    /// A status came.
    pub fn set_status(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    fn status(&self) -> Option<u16> {
        Some(self.status.load(Ordering::Relaxed)).filter(|&s| s != 0)
    }

    fn set_certificate_expires_at(&self, at: Timestamp) {
        self.certificate_expires_millis.store(at.as_millis(), Ordering::Relaxed);
    }

    fn certificate_expires_at(&self) -> Option<Timestamp> {
        let millis = self.certificate_expires_millis.load(Ordering::Relaxed);
        Some(Timestamp::from_millis(millis)).filter(|_| millis != 0)
    }
}

/// What came of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeResult {
    /// When it began, by the clock of [`monotonic_now`].
    pub began: Timestamp,
    /// When it began, by the wall clock.
    pub began_at: Timestamp,
    /// Time of the whole exchange.
    pub latency: Duration,
    /// Good, or how not.
    pub outcome: Result<(), Failure>,
    /// HTTP status, when one came.
    pub status: Option<u16>,
    /// End of the server certificate's life, when one was shown and accepted.
    pub certificate_expires_at: Option<Timestamp>,
}

/// Makes probes. One for all targets.
#[derive(Debug, Default)]
pub struct Prober {
    resolver: Resolver,
    secrets: Secrets,
    tls: TlsConfigs,
}

impl Prober {
    /// Probes `target` once. Always returns, at the latest when the target's timeout is over.
    pub async fn probe(&self, target: &Target) -> ProbeResult {
        let (began, began_at, start) = (monotonic_now(), wall_now(), Instant::now());
        let timeout = target.spec().timeout.to_duration();
        let deadline = start + timeout;
        let progress = Progress::default();
        let ended = timeout_at(deadline, self.exchange(target, deadline, &progress)).await;
        let latency = start.elapsed();
        let outcome = match ended {
            Ok(outcome) => in_time(outcome, target.latency_max(), latency),
            Err(_) if latency > timeout + STALL_MIN => Err(Failure::local(&format!(
                "the agent stood still: {} ms went by in a timeout of {}",
                latency.as_millis(),
                target.spec().timeout
            ))),
            Err(_) => {
                let phase = progress.phase();
                Err(Failure::new(phase.late(), &format!("{} after {}", phase.doing(), target.spec().timeout)))
            }
        };
        ProbeResult {
            began,
            began_at,
            latency,
            outcome,
            status: progress.status(),
            certificate_expires_at: progress.certificate_expires_at(),
        }
    }

    /// Reads certificates and secrets anew, for a new probe list.
    pub fn forget_files(&self) {
        self.secrets.clear();
        self.tls.clear();
    }

    async fn exchange(&self, target: &Target, deadline: Instant, progress: &Progress) -> Result<(), Failure> {
        match target.plan() {
            Plan::Tcp => {
                connect(target.place(), target.source(), &self.resolver, deadline, progress).await.map(drop)
            }
            Plan::Illegal(failure) => Err(failure.clone()),
            Plan::Http(plan) => self.exchange_http(target, plan, deadline, progress).await,
        }
    }

    async fn exchange_http(
        &self,
        target: &Target,
        plan: &HttpPlan,
        deadline: Instant,
        progress: &Progress,
    ) -> Result<(), Failure> {
        // Before the connection: a missing file then is the agent's own fault, whatever the endpoint does.
        let secret = self.secret(plan).await?;
        let Some(name) = plan.server_name() else {
            let stream = connect(target.place(), target.source(), &self.resolver, deadline, progress).await?;
            return http::exchange(stream, plan, secret, progress).await;
        };
        // On the heap, so that plain probes do not carry the weight of a TLS session.
        Box::pin(async {
            let config = self.tls.get(&plan.check().tls_options).await?;
            let stream = connect(target.place(), target.source(), &self.resolver, deadline, progress).await?;
            let _ = stream.set_nodelay(true);
            progress.enter(Phase::Tls);
            let (stream, expires_at) = tls::handshake(config, name.clone(), stream).await?;
            if let Some(at) = expires_at {
                progress.set_certificate_expires_at(at);
            }
            http::exchange(stream, plan, secret, progress).await
        })
        .await
    }

    async fn secret(&self, plan: &HttpPlan) -> Result<Option<HeaderValue>, Failure> {
        match &plan.check().secret_header {
            Some((_, path)) => self.secrets.get(path).await.map(Some),
            None => Ok(None),
        }
    }
}

fn in_time(
    outcome: Result<(), Failure>,
    latency_max: Option<Duration>,
    latency: Duration,
) -> Result<(), Failure> {
    match latency_max {
        Some(max) if outcome.is_ok() && latency > max => Err(Failure::new(
            FailureKind::TooSlow,
            &format!("good after {} ms, but {} ms are allowed", latency.as_millis(), max.as_millis()),
        )),
        _ => outcome,
    }
}
