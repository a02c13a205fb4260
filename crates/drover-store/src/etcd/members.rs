//! The members of the cluster, one connection to each, and one call to one of them.
//!
//! A call stays with the member that answered last, so that an idle connection to a dead one costs nothing. Which one
//! that is matters to nobody: every member passes what must be agreed on to the leader.

use super::failure::{Fault, OpenEtcdError};
use super::options::EtcdOptions;
use super::wire;
use crate::types::{TXN_BYTES_MAX, TXN_OPS_MAX, VALUE_BYTES_MAX};
use http::uri::PathAndQuery;
use prost::Message;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// Largest answer: what every compare of a failed transaction may have found, with room for keys and framing.
const ANSWER_BYTES_MAX: usize = TXN_OPS_MAX * VALUE_BYTES_MAX + TXN_BYTES_MAX;

#[derive(Debug)]
pub(super) struct Members {
    members: Vec<Member>,
    current: AtomicUsize,
    attempt_timeout: Duration,
}

#[derive(Debug)]
struct Member {
    endpoint: String,
    channel: Channel,
}

impl Members {
    /// Connects to nobody yet. Needs a runtime.
    pub(super) fn new(options: &EtcdOptions) -> Result<Self, OpenEtcdError> {
        let members = options.endpoints.iter().map(|endpoint| {
            let bad = |error: tonic::transport::Error| OpenEtcdError::Options {
                problem: format!("endpoint {endpoint:?} is not http://HOST:PORT: {error}"),
            };
            let channel = Endpoint::from_shared(endpoint.clone())
                .map_err(bad)?
                .connect_timeout(options.connect_timeout)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(options.keep_alive)
                .keep_alive_timeout(options.keep_alive)
                // Without a watch or a call nothing is waited for, and etcd would take it for an attack.
                .keep_alive_while_idle(false)
                .connect_lazy();
            Ok::<_, OpenEtcdError>(Member { endpoint: endpoint.clone(), channel })
        });
        Ok(Self {
            members: members.collect::<Result<_, _>>()?,
            // Any: not all clients should lean on the first.
            current: AtomicUsize::new(fastrand::usize(..options.endpoints.len())),
            attempt_timeout: options.attempt_timeout,
        })
    }

    /// The member to ask.
    pub(super) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// The next call asks another one. Whoever else left `member` already has chosen.
    pub(super) fn leave(&self, member: usize) {
        let next = (member + 1) % self.members.len();
        let _ = self.current.compare_exchange(member, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(super) fn endpoint(&self, member: usize) -> &str {
        &self.members[member].endpoint
    }

    /// One request to one member.
    pub(super) async fn call<Asked, Answered>(
        &self,
        member: usize,
        path: &'static str,
        request: Asked,
    ) -> Result<Answered, Fault>
    where
        Asked: Message + 'static,
        Answered: wire::Answer,
    {
        let mut grpc = self.grpc(member);
        let call = async {
            grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
            let path = PathAndQuery::from_static(path);
            grpc.unary(Request::new(request), path, ProstCodec::<Asked, Answered>::default()).await
        };
        match timeout(self.attempt_timeout, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(at(self.endpoint(member), Fault::of(&status))),
            Err(_) => {
                let waited = self.attempt_timeout;
                Err(Fault::Unclear(format!("{} did not answer within {waited:?}", self.endpoint(member))))
            }
        }
    }

    /// Begins a watch at one member. It ends by itself when that member is cut off from the others.
    pub(super) async fn watch(
        &self,
        member: usize,
        create: wire::WatchCreateRequest,
    ) -> Result<Streaming<wire::WatchResponse>, Fault> {
        use futures::StreamExt;
        let mut grpc = self.grpc(member);
        // The stream of requests stays open: its end would end the watch.
        let asked = futures::stream::iter([wire::WatchRequest { create: Some(create) }]);
        let mut request = Request::new(asked.chain(futures::stream::pending()));
        // etcd's own name for "end this stream when you have no leader".
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        let call = async {
            grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
            let path = PathAndQuery::from_static(wire::WATCH);
            grpc.streaming(request, path, ProstCodec::<wire::WatchRequest, wire::WatchResponse>::default())
                .await
        };
        match timeout(self.attempt_timeout, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(at(self.endpoint(member), Fault::of(&status))),
            Err(_) => Err(Fault::Unclear(format!("{} began no watch", self.endpoint(member)))),
        }
    }

    fn grpc(&self, member: usize) -> Grpc<Channel> {
        Grpc::new(self.members[member].channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }
}

/// Names the member in what is told to people.
fn at(endpoint: &str, fault: Fault) -> Fault {
    match fault {
        Fault::NotSent(told) => Fault::NotSent(format!("{endpoint}: {told}")),
        Fault::Busy(told) => Fault::Busy(format!("{endpoint}: {told}")),
        Fault::Unclear(told) => Fault::Unclear(format!("{endpoint}: {told}")),
        other => other,
    }
}

/// The waits between the attempts of one call.
#[derive(Debug)]
pub(super) struct Attempts {
    until: Instant,
    delay: Duration,
    delay_max: Duration,
}

impl Attempts {
    pub(super) fn new(options: &EtcdOptions) -> Self {
        Self {
            until: Instant::now() + options.call_timeout,
            delay: options.retry_delay_min,
            delay_max: options.retry_delay_max,
        }
    }

    /// Waits, up to half as long again so that clients don't come all at once. `false`: the call's time is over.
    pub(super) async fn pause(&mut self) -> bool {
        let wait = self.delay.mul_f64(1.0 + fastrand::f64() / 2.0);
        self.delay = (self.delay * 2).min(self.delay_max);
        if Instant::now() + wait >= self.until {
            return false;
        }
        sleep(wait).await;
        true
    }
}
