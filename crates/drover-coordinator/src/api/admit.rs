//! The door before every route: who asks, whether that is enough, and that a refusal is on record.

use super::problem::{ApiError, Refused};
use crate::access::refusals::Refusal;
use crate::access::{Caller, Needs, NotLetIn, Peer};
use crate::coordinator::Coordinator;
use crate::error::CoordinatorError;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use drover_model::Span;
use drover_model::access::Role;
use drover_model::traffic::Actor;
use std::sync::Arc;

/// Characters of a request's path that are told of it in the audit.
const PATH_CHARS_TOLD: usize = 200;

/// One route's door.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) c: Arc<Coordinator>,
    pub(super) needs: Needs,
    /// What is refused behind it is on record.
    pub(super) is_command: bool,
}

/// What a request asks, for the audit.
fn told(method: &Method, uri: &Uri) -> String {
    let path: String = uri.path().chars().take(PATH_CHARS_TOLD).collect();
    format!("{method} {path}")
}

/// The token that a request shows. One that can't be read is nobody's.
fn shown(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?;
    let token = value.to_str().ok().and_then(|text| text.split_once(' '));
    Some(
        token
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map_or("", |(_, token)| token.trim()),
    )
}

/// Lets a request in, or says why not.
pub(super) async fn admit(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    // Whoever put a request here by another way than a listener is treated as one from far away.
    let peer = request.extensions().get::<Peer>().copied();
    let peer = peer.unwrap_or(Peer::Tcp(([0, 0, 0, 0], 0).into()));
    let what = told(request.method(), request.uri());
    let caller = match door.needs {
        Needs::Nothing | Needs::Machine => Caller { token: None, role: Role::Viewer, peer },
        Needs::Role(role) => {
            let known = door.who(shown(request.headers()), peer);
            match door.enough(known, role, peer, &what).await {
                Ok(caller) => caller,
                Err(response) => return *response,
            }
        }
    };
    let by = caller.unsaid();
    request.extensions_mut().insert(caller);
    let response = next.run(request).await;
    let refused = response.extensions().get::<Refused>();
    if door.is_command && response.status().is_client_error() && !refused.is_some_and(|r| r.is_on_record) {
        let outcome = match refused {
            Some(refused) => format!("refused: {}", refused.detail),
            None => format!("refused: {}", response.status()),
        };
        door.on_record(Refusal::Command, &by, "command", &what, &outcome).await;
    }
    response
}

impl Door {
    fn who(&self, token: Option<&str>, peer: Peer) -> Result<Caller, NotLetIn> {
        self.c.caller(token, peer)
    }

    /// The caller, when it may do what needs `role`; otherwise the answer.
    async fn enough(
        &self,
        known: Result<Caller, NotLetIn>,
        role: Role,
        peer: Peer,
        what: &str,
    ) -> Result<Caller, Box<Response>> {
        let caller = match known {
            Ok(caller) if caller.role >= role => return Ok(caller),
            Ok(caller) => caller,
            Err(why) => return Err(Box::new(self.not_let_in(&why, peer, what).await)),
        };
        let has = caller.role;
        let name = caller.token.as_ref().map_or_else(|| caller.peer.to_string(), ToString::to_string);
        let detail = format!("this needs the role {role}, and the token of {name} has {has}");
        self.on_record(Refusal::Role, &caller.unsaid(), "access", what, &format!("refused: {detail}")).await;
        let mut error = ApiError::new(StatusCode::FORBIDDEN, "role_too_small", detail).on_record();
        error.0.next = Some(format!(
            "ask somebody with the role {role}; an admin gives it: drover token create NAME --role {role}"
        ));
        Err(Box::new(error.into_response()))
    }

    async fn not_let_in(&self, why: &NotLetIn, peer: Peer, what: &str) -> Response {
        let limited = self.c.access.failed_logins.failed(peer.address(), self.c.clock.now());
        let kind = match why {
            NotLetIn::NoToken | NotLetIn::Unknown => Refusal::Login,
            NotLetIn::Expired { .. } | NotLetIn::Revoked { .. } => Refusal::Lapsed,
        };
        if limited.is_ok() || kind == Refusal::Lapsed {
            self.on_record(kind, &why.who(peer), "login", what, &format!("refused: {why}")).await;
        } else {
            self.c.count_refusal(kind);
        }
        if let Err(wait) = limited {
            return too_many(wait);
        }
        let mut error = ApiError::new(StatusCode::UNAUTHORIZED, why.code(), why.to_string()).on_record();
        error.0.next = Some(why.next().to_owned());
        let mut response = error.into_response();
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        response
    }

    /// A refusal stays one though it can't be written down.
    async fn on_record(&self, kind: Refusal, by: &Actor, verb: &str, what: &str, outcome: &str) {
        let written = self.c.audit_refusal(kind, by, [verb, what, "", outcome]).await;
        if let Err(e) = written {
            let error: &(dyn std::error::Error + 'static) = &e;
            match e {
                CoordinatorError::Fenced { .. } => tracing::debug!(error, "a refusal is not on record"),
                _ => tracing::warn!(error, outcome, "a refusal is not on record"),
            }
        }
    }
}

fn too_many(wait: Span) -> Response {
    let seconds = wait.as_millis().div_ceil(1_000).max(1);
    let detail = format!("too many failed logins of late; another one is looked at in {seconds} s");
    let mut error =
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_failed_logins", detail).on_record();
    error.0.next = Some("find what sends a wrong token; a valid one is let in meanwhile".to_owned());
    let mut response = error.into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

#[cfg(test)]
mod tests;
