//! Host names in one spelling: lower case, no trailing dot, letters, digits, `-` and `_` only.
//!
//! One spelling makes names comparable as map keys; queries keep their own case (0x20) and are folded at
//! lookup.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use domain::base::name::Name;
use serde::{Deserialize, Serialize};

/// The longest name in text, RFC 1035: 255 octets on the wire less the first length and the root.
const NAME_CHARS_MAX: usize = 253;
/// The longest label, RFC 1035.
const LABEL_CHARS_MAX: usize = 63;

/// An absolute host name: lower case, no trailing dot. Cheap to clone.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsName(Arc<Spelled>);

/// Shared: names are copied into keys, errors and answers all over.
struct Spelled {
    text: String,
    wire: Name<Bytes>,
}

/// Why a text is no name that drover publishes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot use \"{text}\" as a DNS name: {reason}")]
pub struct InvalidName {
    text: String,
    reason: &'static str,
}

impl DnsName {
    /// Reads a name; upper case is folded and one trailing dot is dropped.
    ///
    /// # Errors
    /// Empty names and labels, names past 253 and labels past 63 characters, wildcards, and characters other
    /// than letters, digits, `-` and `_`.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let folded = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let refuse = |reason| InvalidName { text: text.chars().take(NAME_CHARS_MAX).collect(), reason };
        if folded.is_empty() {
            return Err(refuse("it is empty"));
        }
        if folded.len() > NAME_CHARS_MAX {
            return Err(refuse("it is longer than 253 characters"));
        }
        let mut wire = Vec::with_capacity(folded.len() + 2);
        for label in folded.split('.') {
            check_label(label).map_err(refuse)?;
            wire.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
            wire.extend_from_slice(label.as_bytes());
        }
        wire.push(0);
        let wire = Name::from_octets(Bytes::from(wire)).map_err(|_| refuse("it is too long"))?;
        Ok(Self(Arc::new(Spelled { text: folded, wire })))
    }

    /// The name as text, without trailing dot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The name as it stands in a message, uncompressed.
    #[must_use]
    pub fn wire(&self) -> &Name<Bytes> {
        &self.0.wire
    }

    /// Is this name `other`, or below it?
    #[must_use]
    pub fn is_at_or_below(&self, other: &Self) -> bool {
        self.0.text.strip_suffix(other.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// The labels, leftmost first.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.0.text.split('.')
    }

    /// The name one label up, if there is one below the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (_, rest) = self.0.text.split_once('.')?;
        Self::parse(rest).ok()
    }
}

fn check_label(label: &str) -> Result<(), &'static str> {
    if label.is_empty() {
        return Err("it has an empty label");
    }
    if label.len() > LABEL_CHARS_MAX {
        return Err("it has a label longer than 63 characters");
    }
    if label == "*" {
        return Err("wildcards are not served");
    }
    if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
        return Err("it may hold letters, digits, - and _ only");
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err("a label may not begin or end with -");
    }
    Ok(())
}

impl TryFrom<String> for DnsName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl std::str::FromStr for DnsName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl From<DnsName> for String {
    fn from(name: DnsName) -> Self {
        name.0.text.clone()
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0.text, f)
    }
}

// By text alone: the wire form follows from it.
impl PartialEq for DnsName {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for DnsName {}

impl PartialOrd for DnsName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DnsName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.text.cmp(&other.0.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_and_the_refusals() {
        assert_eq!(DnsName::parse("App.Example.TEST.").unwrap().as_str(), "app.example.test");
        let long_label = "a".repeat(64);
        let long_name = vec!["a".repeat(60); 5].join(".");
        for bad in ["", ".", "a..b", "*.x", "a b.c", "-a.b", "a-.b", "ü.b", &long_label, &long_name] {
            assert!(DnsName::parse(bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn below_means_at_a_label_boundary() {
        let origin = DnsName::parse("example.test").unwrap();
        for (name, below) in
            [("example.test", true), ("a.example.test", true), ("notexample.test", false), ("test", false)]
        {
            assert_eq!(DnsName::parse(name).unwrap().is_at_or_below(&origin), below, "{name}");
        }
    }
}
