//! Errors as `application/problem+json` (RFC 9457), with the reason's stable code and the next command.

use crate::error::CoordinatorError;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use drover_model::api::Problem;
use drover_model::reason::Reason;

/// A refused or failed request.
#[derive(Debug, Clone)]
pub struct ApiError(pub Box<Problem>);

impl ApiError {
    /// With a status, a stable code and a sentence.
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem {
            kind: "about:blank".into(),
            title: status.canonical_reason().unwrap_or("error").into(),
            status: status.as_u16(),
            detail: detail.into(),
            code: code.into(),
            reasons: Vec::new(),
            next: None,
        }))
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

impl From<CoordinatorError> for ApiError {
    fn from(e: CoordinatorError) -> Self {
        tracing::error!(error = &e as &dyn std::error::Error, "a request failed");
        let status = match e {
            CoordinatorError::Fenced { .. } => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let code = if status == StatusCode::SERVICE_UNAVAILABLE { "fenced" } else { "internal" };
        let mut text = e.to_string();
        let mut source = std::error::Error::source(&e);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::new(status, code, text)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
    }
}
