//! Values that are sent and stored as their text.

use serde::de::{Deserializer, Error, Visitor};
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

/// Reads a value from its text. Where the text lies at hand it is not copied first: a large world has a million of them.
pub(crate) fn read<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_str(Text(PhantomData))
}

struct Text<T>(PhantomData<T>);

impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// A type that is read and written as its text.
macro_rules! as_text {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::text::read(deserializer)
            }
        }
    };
}

pub(crate) use as_text;

/// Writes a text straight through, or by way of a string where it is to be padded.
pub(crate) fn padded(
    f: &mut fmt::Formatter<'_>,
    write: impl Fn(&mut dyn fmt::Write) -> fmt::Result,
) -> fmt::Result {
    if f.width().is_none() && f.precision().is_none() {
        return write(f);
    }
    let mut text = String::new();
    write(&mut text)?;
    f.pad(&text)
}

#[cfg(test)]
mod tests {
    use crate::{EndpointKey, Percent, RegionId, RequestsPerSecond, Span, Timestamp};
    use serde::de::DeserializeOwned;
    use serde_json::json;

    fn refused<T: DeserializeOwned + std::fmt::Debug>(value: serde_json::Value) -> String {
        serde_json::from_value::<T>(value).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_text_or_another_one_is_refused_with_its_reason() {
        assert!(refused::<Percent>(json!(5)).contains("expected a string"));
        assert!(refused::<Percent>(json!("5")).contains("is not a percentage"));
        assert!(refused::<RequestsPerSecond>(json!("9")).contains("is not a rate"));
        assert!(refused::<Span>(json!("9")).contains("is not a length of time"));
        assert!(refused::<Timestamp>(json!("now")).contains("is not an RFC 3339 time"));
        assert!(refused::<RegionId>(json!("EU")).contains("may hold only"));
        assert!(refused::<EndpointKey>(json!("pay")).contains("may hold only"));
    }

    #[test]
    fn values_are_their_texts_wherever_they_come_from() {
        let texts = (
            Percent::from_basis_points(1_230),
            RequestsPerSecond(900),
            Span::from_millis(90_500),
            Timestamp::from_millis(1_700_000_000_123),
            "pay@eu-west".parse::<EndpointKey>().unwrap(),
        );
        let written = json!(["12.3%", "900rps", "1m30s500ms", "2023-11-14T22:13:20.123Z", "pay@eu-west"]);
        assert_eq!(serde_json::to_value(&texts).unwrap(), written);
        let from_value: (Percent, RequestsPerSecond, Span, Timestamp, EndpointKey) =
            serde_json::from_value(written.clone()).unwrap();
        assert_eq!(from_value, texts);
        // A reader holds no whole text that could be lent, and an escaped one lies nowhere as it reads.
        let read = serde_json::from_reader(written.to_string().replace("pay", "\\u0070ay").as_bytes());
        assert_eq!(from_value, read.unwrap());
    }
}
