//! Errors of the control listener, as `application/problem+json` (RFC 9457) with a stable code.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use drover_model::Epoch;
use serde::{Deserialize, Serialize};

use crate::publish::{Conflict, FenceReason, PublishError};

/// What went wrong, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProblemCode {
    Fenced,
    Conflict,
    OwnedByOther,
    GenerationNotRaised,
    Malformed,
    Invalid,
    TooLarge,
    NotFound,
    Forbidden,
    TimedOut,
    NotWritten,
    NotDurable,
    NotSigned,
    Backwards,
}

/// The body of an error.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Problem {
    pub(crate) title: String,
    pub(crate) status: u16,
    pub(crate) code: ProblemCode,
    pub(crate) detail: String,
    /// What is live instead, for `conflict`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) conflicts: Vec<Conflict>,
    /// The highest epoch seen, for `fenced`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) highest: Option<Epoch>,
    /// Why, for `fenced`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fence_reason: Option<FenceReason>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            title: status.canonical_reason().unwrap_or("error").to_owned(),
            status: status.as_u16(),
            code,
            detail: detail.into(),
            conflicts: vec![],
            highest: None,
            fence_reason: None,
        }
    }

    pub(super) fn of(error: PublishError) -> Self {
        let (status, code) = match &error {
            PublishError::Fenced { .. } => (StatusCode::CONFLICT, ProblemCode::Fenced),
            PublishError::Conflict(_) => (StatusCode::CONFLICT, ProblemCode::Conflict),
            PublishError::OwnedByOther { .. } => (StatusCode::CONFLICT, ProblemCode::OwnedByOther),
            PublishError::GenerationNotRaised { .. } => {
                (StatusCode::UNPROCESSABLE_ENTITY, ProblemCode::GenerationNotRaised)
            }
            PublishError::Malformed(_) => (StatusCode::BAD_REQUEST, ProblemCode::Malformed),
            PublishError::InvalidRecordSet(_) | PublishError::InvalidSnapshot(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, ProblemCode::Invalid)
            }
            PublishError::NotSigned(_) => (StatusCode::FORBIDDEN, ProblemCode::NotSigned),
            PublishError::Backwards { .. } => (StatusCode::CONFLICT, ProblemCode::Backwards),
            PublishError::NotWritten(_) => (StatusCode::INTERNAL_SERVER_ERROR, ProblemCode::NotWritten),
            PublishError::NotDurable(_) => (StatusCode::INTERNAL_SERVER_ERROR, ProblemCode::NotDurable),
        };
        let mut problem = Self::new(status, code, drover_model::chain(&error));
        match error {
            PublishError::Conflict(conflicts) => problem.conflicts = conflicts,
            PublishError::Fenced { highest, reason, .. } => {
                problem.highest = Some(highest);
                problem.fence_reason = Some(reason);
            }
            _ => {}
        }
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
    }
}
