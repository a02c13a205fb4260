//! Records of the zone that no traffic moves: `records` of `dns`.

use crate::ids::ServiceId;
use crate::time::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest value of one record, in bytes: a key of 8192 bits in base64, and words around it.
pub const FIXED_VALUE_BYTES_MAX: usize = 2_048;

/// The longest tag of a CAA record (RFC 8659, 4.1).
const CAA_TAG_CHARS_MAX: usize = 15;

/// The type of such a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum FixedType {
    /// Who may issue certificates (RFC 8659).
    Caa,
    /// Who takes mail (RFC 1035, RFC 7505).
    Mx,
    /// Text (RFC 1035).
    Txt,
}

impl FixedType {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Caa, Self::Mx, Self::Txt];

    /// As it is configured.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caa => "CAA",
            Self::Mx => "MX",
            Self::Txt => "TXT",
        }
    }
}

impl fmt::Display for FixedType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A record set that no traffic moves: all its values are answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FixedRecord {
    /// What drover calls it, as it calls services by their names; no service has the same.
    pub id: ServiceId,
    /// Its owner in DNS, without the final dot.
    pub name: String,
    /// Its type.
    pub record_type: FixedType,
    /// TTL of its answers; whole seconds on the wire, rounded up.
    pub ttl: Span,
    /// Its values: a text as it is; `PREFERENCE HOST` of MX; `FLAGS TAG "VALUE"` of CAA.
    pub values: Vec<String>,
}

/// What a value says, by its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FixedValue<'t> {
    /// Who may issue certificates.
    Caa {
        /// 128: who does not know the tag must not issue.
        flags: u8,
        /// Letters and digits, such as `issue`.
        tag: &'t str,
        /// What the tag is given.
        value: &'t str,
    },
    /// Who takes mail.
    Mx {
        /// The lowest is tried first.
        preference: u16,
        /// The host; `.`: nobody takes mail (RFC 7505).
        host: &'t str,
    },
    /// The text.
    Txt(&'t str),
}

impl<'t> FixedValue<'t> {
    /// Reads a value as it is configured.
    ///
    /// # Errors
    /// How it should look.
    pub fn read(rtype: FixedType, text: &'t str) -> Result<Self, &'static str> {
        if text.is_empty() || text.len() > FIXED_VALUE_BYTES_MAX {
            return Err("1 to 2048 bytes");
        }
        match rtype {
            FixedType::Txt => Ok(Self::Txt(text)),
            FixedType::Mx => {
                let form = "a preference and a host, such as `10 mail.example.com`; or `0 .`";
                let (preference, host) = text.split_once(' ').ok_or(form)?;
                let is_name = |host: &str| !host.is_empty() && !host.contains(char::is_whitespace);
                let preference = preference.parse().ok().filter(|_| is_name(host)).ok_or(form)?;
                Ok(Self::Mx { preference, host })
            }
            FixedType::Caa => {
                let form = "flags, a tag and a value, such as `0 issue \"ca.example\"`";
                let (flags, rest) = text.split_once(' ').ok_or(form)?;
                let (tag, value) = rest.split_once(' ').ok_or(form)?;
                let bare = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
                let is_tag = (1..=CAA_TAG_CHARS_MAX).contains(&tag.len())
                    && tag.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
                let is_plain = bare.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\');
                let flags = flags.parse().ok().filter(|_| is_tag && is_plain).ok_or(form)?;
                Ok(Self::Caa { flags, tag, value: bare })
            }
        }
    }
}

impl FixedValue<'_> {
    /// As servers have it: of all texts that say the same, one.
    #[must_use]
    pub fn spelled(&self) -> String {
        match self {
            Self::Mx { preference, host } if *host != "." => {
                let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
                FixedValue::Mx { preference: *preference, host: &host }.to_string()
            }
            Self::Mx { .. } | Self::Caa { .. } | Self::Txt(_) => self.to_string(),
        }
    }
}

impl fmt::Display for FixedValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caa { flags, tag, value } => write!(f, "{flags} {tag} \"{value}\""),
            Self::Mx { preference, host } => write!(f, "{preference} {host}"),
            Self::Txt(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_one_spelling_and_the_others_are_told_how_to_look() {
        let read = |rtype, text| FixedValue::read(rtype, text).map(|value| value.to_string());
        for (rtype, text, spelled) in [
            (FixedType::Caa, "0 issue ca.example", "0 issue \"ca.example\""),
            (FixedType::Caa, "128 iodef \"mailto:x@example.com\"", "128 iodef \"mailto:x@example.com\""),
            (FixedType::Caa, "0 issue \";\"", "0 issue \";\""),
            (FixedType::Mx, "10 mail.example.com", "10 mail.example.com"),
            (FixedType::Mx, "0 .", "0 ."),
            (FixedType::Txt, "v=spf1 -all", "v=spf1 -all"),
        ] {
            assert_eq!(read(rtype, text).unwrap(), spelled);
        }
        for (rtype, text) in [
            (FixedType::Caa, "issue ca.example"),
            (FixedType::Caa, "256 issue ca.example"),
            (FixedType::Caa, "0 is-sue ca.example"),
            (FixedType::Caa, "0 Issue ca.example"),
            (FixedType::Caa, "0 issue a\"b"),
            (FixedType::Mx, "mail.example.com"),
            (FixedType::Mx, "70000 mail.example.com"),
            (FixedType::Mx, "10 mail example"),
            (FixedType::Txt, ""),
        ] {
            assert!(read(rtype, text).is_err(), "{text}");
        }
    }
}
