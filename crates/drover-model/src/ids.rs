//! Identifiers: one type each, so that a wrong one does not compile.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io::BufWriter;
use std::str::FromStr;
use std::sync::Arc;

/// Longest name that a user may give to a region, service or agent, in bytes: one DNS label (RFC 1035, 2.3.4),
/// because names end up in DNS set identifiers and store keys.
pub const NAME_BYTES_MAX: usize = 63;

/// A name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("a name must not be empty")]
    Empty,
    /// Longer than [`NAME_BYTES_MAX`].
    #[error("`{0}` is longer than {NAME_BYTES_MAX} bytes")]
    TooLong(String),
    /// A character outside `a-z`, `0-9`, `-`, or a hyphen at either end.
    #[error("`{0}` may hold only a-z, 0-9 and inner hyphens")]
    BadCharacter(String),
}

/// Checks that `name` is a lower-case DNS label.
///
/// # Errors
/// [`NameError`] says which rule was broken.
pub fn check_name(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong(name.to_owned()));
    }
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.chars().all(inner) || name.starts_with('-') || name.ends_with('-') {
        return Err(NameError::BadCharacter(name.to_owned()));
    }
    Ok(())
}

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Eq, JsonSchema)]
        #[schemars(with = "String")]
        // Shared, because a world is copied for every decision and holds each name many times over.
        pub struct $name(Arc<str>);

        impl $name {
            /// Makes the identifier from a checked name.
            ///
            /// # Errors
            /// [`NameError`] when the name is not a lower-case DNS label.
            pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
                let name = name.into();
                check_name(&name)?;
                Ok(Self(name.into()))
            }

            /// The name as text.
            #[must_use]
            #[inline]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        // By what the name says; one that is shared says the same, which needs no look at its letters.
        impl PartialEq for $name {
            #[inline(always)]
            fn eq(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
            }
        }

        impl Ord for $name {
            #[inline(always)]
            fn cmp(&self, other: &Self) -> Ordering {
                if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
            }
        }

        impl PartialOrd for $name {
            #[inline]
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.0.hash(state);
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(s: &str) -> Result<Self, NameError> {
                check_name(s)?;
                Ok(Self(s.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(s: String) -> Result<Self, NameError> {
                Self::new(s)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.as_str().to_owned()
            }
        }

        impl Serialize for $name {
            #[inline]
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::text::read(deserializer)
            }
        }
    };
}

name_id! {
    /// A failure domain, such as `eu-west`.
    RegionId
}
name_id! {
    /// What users call: a DNS name served from several regions.
    ServiceId
}
name_id! {
    /// State that moves with a service, and has one writer.
    DatasetId
}
name_id! {
    /// An agent, which is also a vantage point.
    AgentId
}
name_id! {
    /// A machine that is neither an agent nor a region's: a coordinator, or where a person works.
    MachineName
}
name_id! {
    /// Whose a token is: a person, or a program that acts for people.
    TokenName
}
name_id! {
    /// A run of a plan, such as `run-7`: counted, so that it can be read out over the telephone.
    RunId
}
name_id! {
    /// A stored decision, such as `decision-42`.
    DecisionId
}

impl TokenName {
    /// Whose it is: the name without the number that its renewal was given (`ann-2` is `ann`). Of two such tokens both may be
    /// valid for a while, and are one person.
    #[must_use]
    pub fn person(&self) -> &str {
        match self.as_str().rsplit_once('-') {
            Some((person, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => {
                person
            }
            _ => self.as_str(),
        }
    }
}

impl RunId {
    /// The run with this number.
    #[must_use]
    pub fn numbered(number: u64) -> Self {
        Self(format!("run-{number}").into())
    }
}

impl DecisionId {
    /// The decision with this number.
    #[must_use]
    pub fn numbered(number: u64) -> Self {
        Self(format!("decision-{number}").into())
    }
}

/// A service in one region.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String")]
pub struct EndpointKey {
    /// The service.
    pub service: ServiceId,
    /// The region that serves it.
    pub region: RegionId,
}

impl EndpointKey {
    /// The endpoint of `service` in `region`.
    #[must_use]
    pub fn new(service: &ServiceId, region: &RegionId) -> Self {
        Self { service: service.clone(), region: region.clone() }
    }
}

impl fmt::Display for EndpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.width().is_none() && f.precision().is_none() {
            return write!(f, "{}@{}", self.service, self.region);
        }
        f.pad(&format!("{}@{}", self.service, self.region))
    }
}

crate::text::as_text!(EndpointKey);

impl FromStr for EndpointKey {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        let (service, region) = s.split_once('@').ok_or_else(|| NameError::BadCharacter(s.to_owned()))?;
        Ok(Self { service: service.parse()?, region: region.parse()? })
    }
}

impl TryFrom<String> for EndpointKey {
    type Error = NameError;
    fn try_from(s: String) -> Result<Self, NameError> {
        s.parse()
    }
}

impl From<EndpointKey> for String {
    fn from(key: EndpointKey) -> String {
        key.to_string()
    }
}

/// A plan's name: the SHA-256 of what it executes and of the generations that it read (I9).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct PlanId(String);

/// Bytes that are digested at once: few enough to stay in a core's nearest cache until then.
const DIGEST_BLOCK_BYTES: usize = 16 * 1024;

/// Digests what is written to it.
struct Digester(Sha256);

impl std::io::Write for Digester {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Hexadecimal digits of a plan id that are shown and accepted: 48 bits, since a person compares two of them.
pub const PLAN_ID_DIGITS: usize = 12;

impl PlanId {
    /// Names a plan by the digest of its JSON. Of a plan for thousands of services that is megabytes, which are never
    /// held as a whole.
    ///
    /// # Errors
    /// When `content` is no JSON.
    pub fn of_json<T: Serialize + ?Sized>(content: &T) -> serde_json::Result<Self> {
        let mut text = BufWriter::with_capacity(DIGEST_BLOCK_BYTES, Digester(Sha256::new()));
        serde_json::to_writer(&mut text, content)?;
        let digester = text.into_inner().map_err(|e| serde_json::Error::io(e.into_error()))?;
        Ok(Self::of_digest(digester.0.finalize()))
    }

    fn of_digest(digest: impl AsRef<[u8]>) -> Self {
        Self(format!("plan-{}", &hex::encode(digest)[..PLAN_ID_DIGITS]))
    }

    /// A plan id as somebody typed it; whether such a plan exists is for the store to say.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_dns_label() {
        assert!(RegionId::new("eu-west").is_ok());
        for bad in ["", "-eu", "eu-", "EU", "eu west", "eu/west", &"a".repeat(64)] {
            assert!(RegionId::new(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn names_compare_by_what_they_say_and_not_by_where_it_stands() {
        let [one, again, other] = ["eu-west", "eu-west", "us-east"].map(|n| RegionId::new(n).unwrap());
        for same in [&again, &one.clone()] {
            assert_eq!((&one == same, one.cmp(same)), (true, Ordering::Equal));
        }
        assert_eq!(
            (one == other, one.cmp(&other), other.cmp(&one)),
            (false, Ordering::Less, Ordering::Greater)
        );
    }

    #[test]
    fn a_plan_has_one_name_however_its_text_is_digested() {
        let texts: Vec<String> = (0..5_000).map(|n| format!("\"{n}\"")).collect();
        let bytes = serde_json::to_vec(&texts).unwrap();
        assert!(bytes.len() > 2 * DIGEST_BLOCK_BYTES);
        assert_eq!(PlanId::of_json(&texts).unwrap(), PlanId::of_digest(Sha256::digest(&bytes)));
        assert!(PlanId::of_json(&std::collections::BTreeMap::from([((), 1)])).is_err());
    }

    #[test]
    fn an_endpoint_key_survives_its_text() {
        let key: EndpointKey = "checkout@eu-west".parse().unwrap();
        assert_eq!(key.to_string().parse::<EndpointKey>().unwrap(), key);
        assert!("checkout".parse::<EndpointKey>().is_err());
    }
}
