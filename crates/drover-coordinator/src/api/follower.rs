//! What a coordinator does with requests while another one leads: it answers reads itself, from the store and from what
//! agents report to it, and hands on to the leader what only the leader does. One hop, and no more: who is handed a
//! request and does not lead says so, or two that take each other for the leader would play it back and forth.

use super::problem::ApiError;
use super::{API_BODY_BYTES_MAX, API_REQUEST_TIMEOUT};
use crate::coordinator::Coordinator;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use drover_model::api::Problem;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// On a request that a follower handed on.
const FORWARDED: HeaderName = HeaderName::from_static("drover-forwarded");
/// Where the coordinator that answered is reached.
const ANSWERED_BY: HeaderName = HeaderName::from_static("drover-answered-by");
/// Where the leader is reached, as the one that answered knows it.
const LEADER: HeaderName = HeaderName::from_static("drover-leader");
/// When what is shown of the store was read, while it can't be read again.
const AS_OF: HeaderName = HeaderName::from_static(drover_model::api::AS_OF_HEADER);
/// The leader's time for it: a moment less than the whole, so that its follower still says what happened.
const FORWARD_WITHIN: Duration = API_REQUEST_TIMEOUT.saturating_sub(Duration::from_secs(1));
/// For so long a request waits for a leader: the bound as shipped, and 2 s to take over.
const LEADER_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks for one.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Headers that belong to one connection or are made anew for the next (RFC 9110, section 7.6.1).
const OF_ONE_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHORIZATION,
];

/// Who answers a request, while another coordinator leads.
#[derive(Debug, PartialEq, Eq)]
enum By {
    /// This one, from what it has itself.
    Itself,
    /// This one, once it has read the store.
    ItsReading,
    /// The leader.
    Leader,
}

fn by(method: &Method, path: &str) -> By {
    // Nothing that needs a role: a token that was revoked must be known to be so first.
    let own = ["/livez", "/readyz"];
    if own.contains(&path) || path.starts_with("/v1/agents/") {
        return By::Itself;
    }
    // Only the leader talks to DNS, and remembers what it published.
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    if is_read && path != "/v1/dns" && !path.starts_with("/v1/dns/") { By::ItsReading } else { By::Leader }
}

/// Stands before every route.
pub(super) async fn guide(State(c): State<Arc<Coordinator>>, request: Request, next: Next) -> Response {
    let answer = if c.leads() {
        next.run(request).await
    } else {
        match by(request.method(), request.uri().path()) {
            By::Itself => next.run(request).await,
            By::ItsReading => match c.mirror().await {
                Ok(()) => next.run(request).await,
                Err(e) => ApiError::from(e).into_response(),
            },
            By::Leader => to_the_leader(&c, request, next).await.unwrap_or_else(IntoResponse::into_response),
        }
    };
    signed(&c, answer)
}

/// Says who answered, and who leads; an answer of the leader's that was handed back keeps its own.
fn signed(c: &Coordinator, mut answer: Response) -> Response {
    let Some(view) = c.leadership_view() else { return answer };
    let unread = c.leading.unread.load();
    if let Some(as_of) =
        unread.as_ref().as_ref().and_then(|u| HeaderValue::from_str(&u.since.to_string()).ok())
    {
        answer.headers_mut().insert(AS_OF, as_of);
    }
    for (name, url) in [(ANSWERED_BY, view.answered_by), (LEADER, view.leader)] {
        let value = url.and_then(|url| HeaderValue::from_str(&url).ok());
        if let (Some(value), false) = (value, answer.headers().contains_key(&name)) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

fn unavailable(code: &str, detail: String, next: &str) -> ApiError {
    let mut error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
    error.0.next = Some(next.to_owned());
    error
}

/// Who takes a command at this moment.
enum Whom {
    Itself,
    Other(String),
    Nobody,
}

fn whom(c: &Coordinator) -> Whom {
    if c.leads() {
        return Whom::Itself;
    }
    let leader = c.leading.leader().filter(|l| !l.released && !c.db.is_leader());
    leader.and_then(|l| l.advertise).map_or(Whom::Nobody, Whom::Other)
}

/// Hands a request to the leader. Between two leaders it waits for the next one, since whoever sends a command at night
/// would do nothing else: while nobody leads, and while nobody listens where the leader was, so that it took nothing.
async fn to_the_leader(c: &Arc<Coordinator>, request: Request, next: Next) -> Result<Response, ApiError> {
    // One that has the record and reads what its predecessor left will do it in a moment.
    if request.headers().contains_key(FORWARDED) && !c.db.is_leader() {
        let detail = "another coordinator took this one for the leader, which it is not";
        return Err(unavailable(NOT_LEADING, detail.into(), "drover status"));
    }
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, API_BODY_BYTES_MAX).await.map_err(|e| {
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large_or_broken", e.to_string())
    })?;
    let began = Instant::now();
    loop {
        let last = began.elapsed() > LEADER_WITHIN || c.stop.is_cancelled();
        match whom(c) {
            Whom::Itself => return Ok(next.run(Request::from_parts(parts, Body::from(body))).await),
            Whom::Other(url) => {
                let within = FORWARD_WITHIN.saturating_sub(began.elapsed());
                let forwarded = tokio::select! {
                    done = forward(c, &url, &parts, body.clone(), within) => done,
                    // The key goes to the next leader, who knows what was done under it.
                    () = another_leads(c, &url) => continue,
                };
                match forwarded {
                    Err(e) if e.is_connect() && !last => {}
                    // It took nothing: its record is that of a process before it, or not yet its own.
                    Ok(Handed::NotLeading(_)) if !last => {}
                    done => {
                        // Who commanded through this one sees what came of it with the next question.
                        c.forget_mirrored();
                        let (Handed::Back(answer) | Handed::NotLeading(answer)) =
                            done.map_err(|e| unreachable(&url, &e))?;
                        return Ok(answer);
                    }
                }
            }
            Whom::Nobody if last => {
                let detail =
                    "no coordinator leads at this moment; send it again with the same Idempotency-Key";
                return Err(unavailable("no_leader", detail.into(), "drover status"));
            }
            Whom::Nobody => {}
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The code of one who is handed what only the leader does.
const NOT_LEADING: &str = "not_leading";

/// What the leader made of it.
enum Handed {
    Back(Response),
    /// Nothing, since it does not lead.
    NotLeading(Response),
}

/// Waits until this one, or one at another address, leads.
async fn another_leads(c: &Coordinator, url: &str) {
    loop {
        match whom(c) {
            Whom::Itself => return,
            Whom::Other(other) if other != url => return,
            Whom::Other(_) | Whom::Nobody => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

fn unreachable(url: &str, e: &reqwest::Error) -> ApiError {
    let detail = format!(
        "the leader at {url} can't be reached ({}); whether it took the command is not known: send it again with the same \
         Idempotency-Key, and it is done once",
        drover_model::chain(e)
    );
    unavailable("leader_unreachable", detail, "drover status")
}

async fn forward(
    c: &Coordinator,
    url: &str,
    parts: &Parts,
    body: Bytes,
    within: Duration,
) -> Result<Handed, reqwest::Error> {
    let path = parts.uri.path_and_query().map_or("/", axum::http::uri::PathAndQuery::as_str);
    let to = format!("{}{path}", url.trim_end_matches('/'));
    let sent = c
        .peers
        .client()
        .request(parts.method.clone(), to)
        .headers(without_hop(&parts.headers))
        .header(FORWARDED, "1")
        .timeout(within)
        .body(body);
    let answer = sent.send().await?;
    let (status, headers) = (answer.status(), without_hop(answer.headers()));
    let bytes = answer.bytes().await?;
    let is_not_leading = status == StatusCode::SERVICE_UNAVAILABLE
        && serde_json::from_slice::<Problem>(&bytes).is_ok_and(|problem| problem.code == NOT_LEADING);
    let mut handed_back = Response::new(Body::from(bytes));
    (*handed_back.status_mut(), *handed_back.headers_mut()) = (status, headers);
    Ok(if is_not_leading { Handed::NotLeading(handed_back) } else { Handed::Back(handed_back) })
}

fn without_hop(headers: &HeaderMap) -> HeaderMap {
    let kept = headers.iter().filter(|(name, _)| !OF_ONE_HOP.contains(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_go_to_the_leader_and_reads_stay() {
        for (method, path, expected) in [
            (Method::GET, "/livez", By::Itself),
            (Method::POST, "/v1/agents/a-1/reports", By::Itself),
            (Method::GET, "/v1/agents/a-1/questions", By::Itself),
            (Method::GET, "/v1/status", By::ItsReading),
            (Method::GET, "/v1/runs/run-1", By::ItsReading),
            (Method::GET, "/v1/nothing", By::ItsReading),
            (Method::GET, "/v1/dns", By::Leader),
            (Method::GET, "/v1/dns/history", By::Leader),
            (Method::POST, "/v1/plans", By::Leader),
            (Method::POST, "/v1/freeze", By::Leader),
            (Method::DELETE, "/v1/runs", By::Leader),
        ] {
            assert_eq!(by(&method, path), expected, "{method} {path}");
        }
    }
}
