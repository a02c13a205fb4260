//! Status pages: one bit a region, for Route 53's checkers and whoever else asks.
//!
//! `GET /v1/out-of-service/REGION` is 200 while a coordinator has positively declared the region out of service, with the text that the
//! checkers look for; 503 otherwise, also of a region that nobody knows. It asks nobody who they are and says nothing else, so it may stand
//! in the open; what it must not do is to be kept from answering. Each connection is good for one request and a few seconds, and when all
//! places are taken the one that was opened first gives way: a checker's is over within milliseconds, and one that dawdles is not missed. One
//! address has few of the places, and the eldest of its own gives way first.

use crate::declaration::Declarations;
use crate::error::AgentError;
use crate::state::StateDir;
use bytes::Bytes;
use drover_model::RegionId;
use drover_model::out_of_service::{STATUS_PATH, status_text};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Connections at once. Route 53 has some sixteen checkers for each check, and each asks every ten seconds at most.
pub const PAGES_CONNECTIONS_MAX: usize = 256;

/// The same of one address. A checker that asks for the pages of every region at the same moment needs fewer.
pub const PAGES_CONNECTIONS_OF_ONE_MAX: usize = 16;

/// Time to send a request's headers.
pub const PAGES_HEADER_TIMEOUT: Duration = Duration::from_secs(2);

/// Time for a whole connection: what a checker gives it, to connect and to be answered.
pub const PAGES_CONNECTION_TIME_MAX: Duration = Duration::from_secs(6);

/// Bytes of a request's headers, at most; 8 KiB is the least that the library has.
pub const PAGES_HEADER_BYTES_MAX: usize = 8 << 10;

/// Pause after a failed accept (no descriptors): long enough not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection that is open.
#[derive(Debug)]
struct Place {
    id: u64,
    from: IpAddr,
    ended: CancellationToken,
}

/// The connections that are open, the eldest first.
#[derive(Debug, Default)]
struct Places {
    open: Mutex<(u64, VecDeque<Place>)>,
}

impl Places {
    /// A place; where there is none, the eldest connection's, and first of all the eldest of the same address.
    fn take(&self, from: IpAddr) -> (u64, CancellationToken) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, places) = &mut *open;
        *next += 1;
        let eldest_of = |all: bool| places.iter().position(|place| all || place.from == from);
        let of_one = places.iter().filter(|place| place.from == from).count();
        let gives_way = match places.len() >= PAGES_CONNECTIONS_MAX {
            _ if of_one >= PAGES_CONNECTIONS_OF_ONE_MAX => eldest_of(false),
            true => eldest_of(true),
            false => None,
        };
        if let Some(eldest) = gives_way.and_then(|at| places.remove(at)) {
            eldest.ended.cancel();
        }
        let ended = CancellationToken::new();
        places.push_back(Place { id: *next, from, ended: ended.clone() });
        (*next, ended)
    }

    fn give_back(&self, id: u64) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.1.retain(|place| place.id != id);
    }
}

/// A bound address for status pages.
#[derive(Debug)]
pub struct StatusPages {
    listener: TcpListener,
}

impl StatusPages {
    /// Binds `address`, and writes down in `state` where that turned out to be.
    ///
    /// # Errors
    /// [`AgentError::StatusListen`] when the address is taken or forbidden.
    pub async fn bind(address: SocketAddr, state: &StateDir) -> Result<Self, AgentError> {
        let failed = |source| AgentError::StatusListen { address: address.to_string(), source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        state.save_pages_address(&bound.to_string())?;
        Ok(Self { listener })
    }

    /// Answers until told to stop.
    pub async fn serve(self, declarations: Arc<Declarations>, shutdown: CancellationToken) {
        let places = Arc::new(Places::default());
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let Ok((stream, from)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let (id, ended) = places.take(from.ip());
            let (places, declarations, shutdown) =
                (Arc::clone(&places), Arc::clone(&declarations), shutdown.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = ended.cancelled() => {}
                    () = shutdown.cancelled() => {}
                    _ = tokio::time::timeout(PAGES_CONNECTION_TIME_MAX, answer(stream, &declarations)) => {}
                }
                places.give_back(id);
            });
        }
    }
}

/// One request.
async fn answer(stream: TcpStream, declarations: &Declarations) {
    let page = service_fn(async |request: Request<Incoming>| {
        Ok::<_, Infallible>(page(request.method(), request.uri().path(), declarations))
    });
    let mut server = http1::Builder::new();
    server.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(PAGES_HEADER_TIMEOUT);
    server.max_buf_size(PAGES_HEADER_BYTES_MAX);
    // Whoever breaks off has no answer to wait for.
    if let Err(error) = server.serve_connection(TokioIo::new(stream), page).await {
        tracing::debug!(%error, "a status page was not answered");
    }
}

fn page(method: &Method, path: &str, declarations: &Declarations) -> Response<Full<Bytes>> {
    let Some(region) = path.strip_prefix(STATUS_PATH) else {
        return said(StatusCode::NOT_FOUND, "no such page\n".to_owned());
    };
    if method != Method::GET && method != Method::HEAD {
        let mut refused = said(StatusCode::METHOD_NOT_ALLOWED, "it can only be read\n".to_owned());
        refused.headers_mut().insert(ALLOW, http::HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match RegionId::new(region) {
        Ok(region) if declarations.is_out(&region) => {
            said(StatusCode::OK, format!("{}\n", status_text(&region)))
        }
        // Not declared, or nobody knows: the same, so that nothing else can be learnt here.
        _ => said(StatusCode::SERVICE_UNAVAILABLE, "not declared out of service\n".to_owned()),
    }
}

fn said(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_of_one_address_takes_no_place_of_another() {
        let places = Places::default();
        let address = |last: u16| IpAddr::from([10, 0, last.to_be_bytes()[0], last.to_be_bytes()[1]]);
        let (_, checker) = places.take(address(1));
        let crowd: Vec<_> = (0..2 * PAGES_CONNECTIONS_MAX).map(|_| places.take(address(2)).1).collect();
        assert!(!checker.is_cancelled());
        let held = crowd.iter().filter(|one| !one.is_cancelled()).count();
        assert_eq!(held, PAGES_CONNECTIONS_OF_ONE_MAX);
        assert!(!crowd[crowd.len() - 1].is_cancelled(), "the eldest of its own gave way");
        // Of many addresses it is the eldest of all.
        (0..300).for_each(|n| drop(places.take(address(10 + n))));
        assert!(checker.is_cancelled());
    }
}
