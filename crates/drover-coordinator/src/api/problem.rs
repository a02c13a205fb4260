//! Errors as `application/problem+json` (RFC 9457), with the reason's stable code and the next command.

use crate::error::CoordinatorError;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use drover_model::api::Problem;
use drover_model::reason::Reason;
use drover_store::{ReadError, TxnError};

const PROBLEM_JSON: &str = "application/problem+json";

/// A refused or failed request, and whether that is in the audit already.
#[derive(Debug, Clone)]
pub struct ApiError(pub Box<Problem>, bool);

/// What an answer was that refused something; goes along with it inside the process.
#[derive(Debug, Clone)]
pub(super) struct Refused {
    pub(super) detail: String,
    pub(super) is_on_record: bool,
}

impl ApiError {
    /// With a status, a stable code and a sentence.
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self::from(Problem {
            kind: "about:blank".into(),
            title: status.canonical_reason().unwrap_or("error").into(),
            status: status.as_u16(),
            detail: detail.into(),
            code: code.into(),
            reasons: Vec::new(),
            next: None,
        })
    }

    /// The same, once it is in the audit.
    #[must_use]
    pub(crate) fn on_record(self) -> Self {
        Self(self.0, true)
    }

    /// Whether somebody was refused what he asked, and the audit doesn't say so yet.
    pub(super) fn is_untold_refusal(&self) -> bool {
        (400..500).contains(&self.0.status) && !self.1
    }

    /// A guard refused: 409, with every reason.
    #[must_use]
    pub fn refused(reasons: Vec<Reason>) -> Self {
        let first = reasons.first();
        let detail = first.map_or_else(|| "refused".to_owned(), ToString::to_string);
        let code = first.map_or_else(|| "refused".to_owned(), Reason::code);
        let status = match first {
            Some(Reason::NotFound { .. } | Reason::UnknownPlan { .. }) => StatusCode::NOT_FOUND,
            _ => StatusCode::CONFLICT,
        };
        let mut error = Self::new(status, &code, detail);
        error.0.next = first.and_then(Reason::next_command);
        error.0.reasons = reasons;
        error
    }

    /// There is no such object.
    pub fn not_found(what: impl Into<String>, known: Vec<String>) -> Self {
        Self::refused(vec![Reason::NotFound { what: what.into(), known }])
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem), false)
    }
}

impl From<CoordinatorError> for ApiError {
    fn from(e: CoordinatorError) -> Self {
        tracing::error!(error = &e as &dyn std::error::Error, "a request failed");
        let store = store_trouble(&e);
        let (status, code) = match e {
            CoordinatorError::Fenced { .. } => (StatusCode::SERVICE_UNAVAILABLE, "fenced"),
            _ => match &store {
                Some(trouble) => (trouble.status, trouble.code),
                None => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            },
        };
        let mut text = e.to_string();
        let mut source = std::error::Error::source(&e);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        let mut error = Self::new(status, code, text);
        error.0.next = store.map(|trouble| trouble.next);
        error
    }
}

/// What a person can look at when the store is why.
struct StoreTrouble {
    status: StatusCode,
    code: &'static str,
    next: String,
}

/// The first error of a type, among an error and its causes.
fn in_chain<'a, T: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a T> {
    std::iter::successors(Some(error), |e| e.source()).find_map(|e| e.downcast_ref::<T>())
}

fn store_trouble(e: &CoordinatorError) -> Option<StoreTrouble> {
    let CoordinatorError::Store { source, .. } = e else { return None };
    let (no_space, away) = (StatusCode::INSUFFICIENT_STORAGE, StatusCode::SERVICE_UNAVAILABLE);
    let (status, code, next) = match (in_chain::<TxnError>(&**source), in_chain::<ReadError>(&**source)) {
        (Some(TxnError::OutOfSpace { path, .. }), _) => {
            (no_space, "no_space", format!("df -h {}", path.parent()?.display()))
        }
        (Some(TxnError::QuotaReached { .. }), _) => {
            (no_space, "no_space", "etcdctl endpoint status --cluster -w table".to_owned())
        }
        (Some(TxnError::Unreachable { .. }), _) | (_, Some(ReadError::Unreachable { .. })) => {
            (away, "store_unreachable", "etcdctl endpoint health --cluster".to_owned())
        }
        _ => return None,
    };
    Some(StoreTrouble { status, code, next })
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        response.extensions_mut().insert(Refused { detail: self.0.detail, is_on_record: self.1 });
        response
    }
}

/// Bytes of a plain error that are kept as its detail.
const PLAIN_DETAIL_BYTES_MAX: usize = 4 << 10;

/// Makes a problem of every error that is none yet: what the router and its layers answer by themselves, such as a
/// method that a path does not take, a path that can't be decoded, or a request that took too long.
pub(super) async fn every_error_is_one(response: Response) -> Response {
    let status = response.status();
    let is_problem = response.headers().get(header::CONTENT_TYPE).is_some_and(|t| t == PROBLEM_JSON);
    if is_problem || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = axum::body::to_bytes(body, PLAIN_DETAIL_BYTES_MAX).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    let (code, otherwise) = match status {
        StatusCode::METHOD_NOT_ALLOWED => ("method_not_allowed", "this path does not take this method"),
        StatusCode::REQUEST_TIMEOUT => ("timeout", "the request took longer than one may"),
        StatusCode::PAYLOAD_TOO_LARGE => ("body_too_large", "the body is larger than one may be"),
        s if s.is_server_error() => ("internal", "something went wrong"),
        _ => ("malformed", "the request can't be understood"),
    };
    let detail = if text.is_empty() { otherwise.to_owned() } else { text };
    let mut answer = ApiError::new(status, code, detail).into_response();
    // Such as `allow`, which a 405 must have.
    for (name, value) in parts.headers.iter().filter(|(n, _)| !BODY_HEADERS.contains(n)) {
        answer.headers_mut().insert(name, value.clone());
    }
    answer
}

/// Headers that tell of the body that is replaced.
const BODY_HEADERS: [header::HeaderName; 2] = [header::CONTENT_TYPE, header::CONTENT_LENGTH];
