//! Alias targets of Route 53, which stand in place of a value: its servers answer whatever the target does.

use std::fmt;

use super::{DnsName, RecordType};

/// The longest id of a hosted zone, by the API's own model.
const HOSTED_ZONE_CHARS_MAX: usize = 32;
const HEAD: &str = "alias ";
const EVALUATED: &str = ", target health evaluated";

/// Where an alias leads. As the value of a member it is written in words, so that whoever shows, compares or sums values up
/// has all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasTarget {
    /// The hosted zone that the target belongs to.
    pub hosted_zone: String,
    /// The target.
    pub name: DnsName,
    /// Route 53 leaves the record out while it finds the target unhealthy.
    pub evaluates_health: bool,
}

impl AliasTarget {
    /// The alias target that a value of this type is: a text may read as one, and is a text.
    #[must_use]
    pub fn of(rtype: RecordType, value: &str) -> Option<Self> {
        matches!(rtype, RecordType::A | RecordType::Aaaa).then(|| Self::parse(value)).flatten()
    }

    /// Reads what [`fmt::Display`] writes; none: it is something else.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let (name, rest) = value.strip_prefix(HEAD)?.split_once(" (")?;
        let inner = rest.strip_suffix(')')?;
        let (hosted_zone, evaluates_health) =
            inner.strip_suffix(EVALUATED).map_or((inner, false), |zone| (zone, true));
        let is_id = (1..=HOSTED_ZONE_CHARS_MAX).contains(&hosted_zone.len())
            && hosted_zone.bytes().all(|b| b.is_ascii_alphanumeric());
        let name = DnsName::parse(name).ok()?;
        is_id.then(|| Self { hosted_zone: hosted_zone.to_owned(), name, evaluates_health })
    }
}

impl fmt::Display for AliasTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let evaluated = if self.evaluates_health { EVALUATED } else { "" };
        write!(f, "{HEAD}{} ({}{evaluated})", self.name, self.hosted_zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_alias_is_written_for_people_and_read_again() {
        for (text, evaluates_health) in [
            ("alias lb-1.eu-west-1.elb.amazonaws.com (Z32O12XQLNTSW2)", false),
            ("alias lb-1.eu-west-1.elb.amazonaws.com (Z32O12XQLNTSW2, target health evaluated)", true),
        ] {
            let alias = AliasTarget::parse(text).unwrap();
            assert_eq!((alias.to_string().as_str(), alias.evaluates_health), (text, evaluates_health));
        }
        for other in ["192.0.2.1", "alias x", "alias x ()", "alias x (Z 1)", "alias  (Z1)", "alias x (Z1"] {
            assert_eq!(AliasTarget::parse(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_panic(text: String) {
            let _ = AliasTarget::parse(&text);
            let _ = AliasTarget::parse(&format!("alias {text}"));
        }
    }
}
