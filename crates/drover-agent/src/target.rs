//! One endpoint under watch: what is asked for, made ready to send, and what is held of it.
//!
//! The two halves have different lives. The [`Target`] is made anew for each probe list; the [`Watch`] stays for as long
//! as the same thing is probed, so that a list that changed elsewhere, or only changed its thresholds, forgets nothing.

use crate::probe::connect::Place;
use crate::probe::failure::Failure;
use crate::probe::http::HttpPlan;
use drover_core::opinion::Opinion;
use drover_model::config::HealthCheck;
use drover_model::decision::OpinionState;
use drover_model::probe::ProbeTarget;
use drover_model::{EndpointKey, RegionId, Span};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Shortest interval between two probes of one endpoint.
pub const INTERVAL_MIN: Span = Span::from_millis(100);

/// Shortest timeout of a probe.
pub const TIMEOUT_MIN: Span = Span::from_millis(10);

/// What a probe sends.
#[derive(Debug)]
pub enum Plan {
    /// Nothing; it connects.
    Tcp,
    /// A request.
    Http(Box<HttpPlan>),
    /// It cannot be sent; every probe says why.
    Illegal(Failure),
}

/// One endpoint, ready to be probed.
#[derive(Debug)]
pub struct Target {
    spec: ProbeTarget,
    key: Arc<EndpointKey>,
    source: Option<IpAddr>,
    place: Place,
    plan: Plan,
    outside: bool,
    watch: Arc<Watch>,
}

impl Target {
    /// Makes `spec` ready, for an agent in `home` that probes from `source`, going on with `watch`.
    /// Intervals and timeouts below the limits are raised to them.
    #[must_use]
    pub fn new(mut spec: ProbeTarget, home: &RegionId, source: Option<IpAddr>, watch: Arc<Watch>) -> Self {
        spec.interval = spec.interval.max(INTERVAL_MIN);
        spec.timeout = spec.timeout.max(TIMEOUT_MIN);
        let plan = match &spec.check {
            HealthCheck::Tcp(_) => Plan::Tcp,
            HealthCheck::Http(check) => match HttpPlan::new(check, &spec.host, spec.port) {
                Ok(plan) => Plan::Http(Box::new(plan)),
                Err(failure) => Plan::Illegal(failure),
            },
        };
        Self {
            key: Arc::new(spec.endpoint.clone()),
            place: Place::new(&spec.address, spec.port),
            outside: spec.endpoint.region != *home,
            source,
            plan,
            watch,
            spec,
        }
    }

    /// What was asked for.
    #[must_use]
    pub fn spec(&self) -> &ProbeTarget {
        &self.spec
    }

    /// Its name, shared.
    #[must_use]
    pub fn key(&self) -> &Arc<EndpointKey> {
        &self.key
    }

    /// The address that its probes leave from.
    #[must_use]
    pub fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What is sent.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// In another region than the agent.
    #[must_use]
    pub fn is_outside(&self) -> bool {
        self.outside
    }

    /// Slower than this is too slow.
    #[must_use]
    pub fn latency_max(&self) -> Option<Duration> {
        let max = match &self.spec.check {
            HealthCheck::Http(check) => check.max_latency,
            HealthCheck::Tcp(check) => check.max_latency,
        };
        max.map(Span::to_duration)
    }

    /// What is held of it.
    #[must_use]
    pub fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    /// Does `spec` probe the same thing in the same way? How often, for how long and how it is judged may differ.
    #[must_use]
    pub fn probes_the_same_as(&self, spec: &ProbeTarget) -> bool {
        let own = &self.spec;
        own.endpoint == spec.endpoint
            && own.address == spec.address
            && own.port == spec.port
            && own.host == spec.host
            && own.check == spec.check
    }
}

/// What is held of one endpoint.
#[derive(Debug, Default)]
pub struct Watch {
    running: AtomicBool,
    retired: AtomicBool,
    held: Mutex<Held>,
}

/// An opinion and what the reports need to know about it.
#[derive(Debug, Default)]
pub struct Held {
    /// The opinion, on the clock of [`crate::clock::monotonic_now`].
    pub opinion: Opinion,
    /// Its state when last looked at; `None` before the first probe.
    pub state: Option<OpinionState>,
    /// Did the last probe get an answer as expected?
    pub last_good: Option<bool>,
    /// Number of its last change; 0 before the first probe.
    pub change: u64,
}

impl Watch {
    /// Marks a probe as under way, unless one is.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> Option<Running> {
        let was = self.running.swap(true, Ordering::AcqRel);
        (!was).then(|| Running(Arc::clone(self)))
    }

    /// No list asks for it any more: what still arrives is not reported.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Was it retired?
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// What is held.
    pub fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A probe is under way until this is dropped, however it ends.
#[derive(Debug)]
pub struct Running(Arc<Watch>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Release);
    }
}
