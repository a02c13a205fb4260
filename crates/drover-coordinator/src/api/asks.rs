//! What all commands have in common: who, why, and about what.

use super::problem::ApiError;
use crate::operator::REASON_BYTES_MAX;
use axum::http::StatusCode;
use drover_model::access::TokenRequest;
use drover_model::api::{
    AdoptRequest, CommandRequest, FreezeRequest, MoveRequest, PlanRequest, RearmRequest, TakeCommandRequest,
};
use drover_model::break_glass::ReconcileRequest;
use drover_model::traffic::Actor;

/// A command's body, with what its path says.
pub(super) trait Asks {
    /// Who, in the body's words until the door's are put in their place.
    fn by(&mut self) -> &mut Actor;
    /// Why.
    fn reason(&self) -> &str;
    /// About what.
    fn subject(&self) -> String;
}

/// Bytes of a person's name and of his host, at most: they stand in records that have a limit, and who is commanding must be on record.
const ACTOR_BYTES_MAX: usize = 256;

/// Refuses words that are longer than anybody's, before anything is done by them.
///
/// # Errors
/// Naming what is too long.
pub(super) fn check_words(asked: &mut impl Asks) -> Result<(), ApiError> {
    let (name, host) = match asked.by() {
        Actor::Person { name, host } => (name.len(), host.len()),
        Actor::Automatic => (0, 0),
    };
    let words = [
        ("the name in `by`", name, ACTOR_BYTES_MAX),
        ("the host in `by`", host, ACTOR_BYTES_MAX),
        ("the reason", asked.reason().len(), REASON_BYTES_MAX),
    ];
    match words.into_iter().find(|(_, bytes, most)| bytes > most) {
        None => Ok(()),
        Some((what, bytes, most)) => {
            let detail = format!("{what} has {bytes} bytes, and may have {most}");
            Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "too_long", detail))
        }
    }
}

/// For a type with `by` and `reason`, and what it is about.
macro_rules! asks {
    ($type:ty, $about:expr) => {
        impl Asks for $type {
            fn by(&mut self) -> &mut Actor {
                &mut self.by
            }
            fn reason(&self) -> &str {
                &self.reason
            }
            fn subject(&self) -> String {
                let about: fn(&Self) -> String = $about;
                about(self)
            }
        }
    };
}

asks!(CommandRequest, |_| String::new());
asks!(TokenRequest, |_| String::new());
asks!(FreezeRequest, |_| "automatic action".to_owned());
asks!(RearmRequest, |r| r.service.as_ref().map_or_else(|| "all services".to_owned(), ToString::to_string));
asks!(MoveRequest, |_| String::new());
asks!(ReconcileRequest, |r| format!("--{}", r.how));
asks!(AdoptRequest, |r| r.service.to_string());
asks!(TakeCommandRequest, |_| "command".to_owned());

impl Asks for PlanRequest {
    fn by(&mut self) -> &mut Actor {
        &mut self.by
    }
    fn reason(&self) -> &str {
        &self.intent.reason
    }
    fn subject(&self) -> String {
        format!("{} {}", self.intent.purpose, self.intent.region)
    }
}

/// With what stands in the path.
impl<A: std::fmt::Display, R: Asks> Asks for (A, R) {
    fn by(&mut self) -> &mut Actor {
        self.1.by()
    }
    fn reason(&self) -> &str {
        self.1.reason()
    }
    fn subject(&self) -> String {
        self.0.to_string()
    }
}

impl<A: std::fmt::Display, R: Asks> Asks for (A, String, R) {
    fn by(&mut self) -> &mut Actor {
        self.2.by()
    }
    fn reason(&self) -> &str {
        self.2.reason()
    }
    fn subject(&self) -> String {
        format!("{} {}", self.1, self.0)
    }
}
