//! What servers showed, one by one and summed up. A mismatch outweighs silence, silence outweighs success.

use super::{InstanceMismatch, Mismatch, MissingInstance, ProviderError, Verification};
use crate::resolver::Answer;

/// What one server's answers show.
pub(super) enum Finding {
    Verified,
    Mismatch(Mismatch),
    Missing(String),
}

/// All findings together, each with its server's name.
pub(super) fn sum_up(
    findings: impl IntoIterator<Item = (String, Finding)>,
) -> Result<Verification, ProviderError> {
    let (mut verified, mut mismatches, mut missing) = (vec![], vec![], vec![]);
    for (instance, finding) in findings {
        match finding {
            Finding::Verified => verified.push(instance),
            Finding::Mismatch(found) => mismatches.push(InstanceMismatch { instance, found }),
            Finding::Missing(reason) => missing.push(MissingInstance { instance, reason }),
        }
    }
    if !mismatches.is_empty() {
        return Ok(Verification::Mismatch { mismatches, verified, missing });
    }
    if verified.is_empty() {
        return Err(ProviderError::Unreachable { missing });
    }
    if missing.is_empty() {
        return Ok(Verification::Verified { instances: verified });
    }
    Ok(Verification::Partial { verified, missing })
}

/// No server has to be asked to know that it is none.
pub(super) fn invalid(detail: impl ToString) -> ProviderError {
    ProviderError::Refused {
        instance: "the provider".into(),
        code: "invalid".into(),
        detail: detail.to_string(),
    }
}

pub(super) fn bad_rcode(answer: &Answer) -> Mismatch {
    Mismatch::Rcode { rcode: answer.rcode.to_string(), is_authoritative: answer.is_authoritative }
}
