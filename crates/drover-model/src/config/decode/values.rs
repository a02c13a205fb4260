//! Single values: numbers, words and everything that carries a unit.

use super::rules;
use super::sink::Sink;
use super::tree::{Node, ScalarType, Value, scalar_type};
use crate::config::diagnostic::suggest;
use crate::config::shapes::{Default, Field, Kind, Need};
use crate::time::Span;
use crate::units::{Percent, RequestsPerSecond};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// A value that was read and lies within its bounds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
    Text(String),
    Integer(u64),
    Number(f64),
    Boolean(bool),
    Span(Span),
    Percent(Percent),
    Rate(RequestsPerSecond),
    Ip(IpAddr),
    Socket(SocketAddr),
}

/// A finding about one value: message and suggestion.
type Wrong = (String, Option<String>);

/// What holds when a field with a single value is left out.
pub(crate) fn default(field: &Field) -> Option<Scalar> {
    let Need::Default(value) = field.need else { return None };
    match value {
        Default::Span(v) => Some(Scalar::Span(v)),
        Default::Percent(v) => Some(Scalar::Percent(v)),
        Default::Integer(v) => Some(Scalar::Integer(v)),
        Default::Boolean(v) => Some(Scalar::Boolean(v)),
        Default::Text(v) => Some(Scalar::Text(v.to_owned())),
        Default::Socket(v) => Some(Scalar::Socket(v)),
        Default::Percents(_)
        | Default::Integers(_)
        | Default::Nothing
        | Default::Object
        | Default::Derived => None,
    }
}

/// What holds when a list of single values is left out.
pub(crate) fn default_list(value: Default) -> Vec<Scalar> {
    match value {
        Default::Percents(v) => v.iter().map(|p| Scalar::Percent(*p)).collect(),
        Default::Integers(v) => v.iter().map(|n| Scalar::Integer(*n)).collect(),
        _ => Vec::new(),
    }
}

/// Reads `node` as `kind`, or reports why it is not one.
pub(crate) fn read(sink: &Sink<'_>, name: &str, kind: &Kind, node: &Node) -> Option<Scalar> {
    let result = match &node.value {
        Value::Scalar { text, plain } => read_scalar(name, kind, text, *plain, node),
        Value::List(_) | Value::Map(_) => Err(wrong_kind(name, kind, node)),
    };
    match result {
        Ok(v) => Some(v),
        Err((message, suggestion)) => {
            sink.error(node.place, message, suggestion);
            None
        }
    }
}

fn wrong_kind(name: &str, kind: &Kind, node: &Node) -> Wrong {
    (format!("`{name}` must be {}, not {}", in_words(kind), node.describe()), None)
}

fn in_words(kind: &Kind) -> &'static str {
    match kind {
        Kind::Text(_) => "text",
        Kind::Integer { .. } => "a whole number",
        Kind::Number { .. } => "a number",
        Kind::Boolean => "true or false",
        Kind::Span { .. } => "a length of time",
        Kind::Percent { .. } => "a percentage",
        Kind::Rate => "a rate",
        Kind::Choice(_) => "a word",
        Kind::Ip => "an IP address",
        Kind::Socket { .. } => "an address with a port",
        Kind::ChoiceOrSpan(_) => "a word or a length of time",
        Kind::ChoiceOrInteger { .. } => "a word or a whole number",
        Kind::List { .. } => "a list",
        Kind::Object(_) | Kind::Variants(_) | Kind::Keyed(_) => "a mapping",
    }
}

fn read_scalar(name: &str, kind: &Kind, text: &str, plain: bool, node: &Node) -> Result<Scalar, Wrong> {
    let typed = scalar_type(text, plain);
    match kind {
        Kind::Text(rule) => {
            if typed != ScalarType::Text {
                let quoted = format!("write it in quotes: '{text}'");
                return Err((wrong_kind(name, kind, node).0, Some(quoted)));
            }
            rules::check(*rule, name, text).map(|()| Scalar::Text(text.to_owned()))
        }
        Kind::Integer { min, max } => {
            integer(name, kind, (*min, *max), text, plain, node).map(Scalar::Integer)
        }
        Kind::Number { min, max } => number(name, kind, (*min, *max), text, typed, node).map(Scalar::Number),
        Kind::Boolean => match (typed, text.to_ascii_lowercase().as_str()) {
            (ScalarType::Truth, "true") => Ok(Scalar::Boolean(true)),
            (ScalarType::Truth, "false") => Ok(Scalar::Boolean(false)),
            (_, "yes" | "on") => Err((wrong_kind(name, kind, node).0, Some("write true".into()))),
            (_, "no" | "off") => Err((wrong_kind(name, kind, node).0, Some("write false".into()))),
            _ => Err(wrong_kind(name, kind, node)),
        },
        Kind::Span { min, max } => {
            bounded(name, kind, (*min, *max), text, typed, "s", node).map(Scalar::Span)
        }
        Kind::Percent { min, max } => {
            bounded(name, kind, (*min, *max), text, typed, "%", node).map(Scalar::Percent)
        }
        Kind::Rate => {
            let (min, max) = (RequestsPerSecond(1), RequestsPerSecond(RATE_MAX));
            bounded(name, kind, (min, max), text, typed, "rps", node).map(Scalar::Rate)
        }
        Kind::Choice(words) => choice(name, words, text).map(Scalar::Text),
        Kind::ChoiceOrSpan(words) => {
            if words.contains(&text) {
                return Ok(Scalar::Text(text.to_owned()));
            }
            let (min, max) = (Span::from_millis(1), crate::config::shapes::SPAN_MAX);
            let looks_like_time = text.starts_with(|c: char| c.is_ascii_digit());
            if looks_like_time {
                bounded(name, kind, (min, max), text, typed, "s", node).map(Scalar::Span)
            } else {
                choice(name, words, text).map(Scalar::Text)
            }
        }
        Kind::ChoiceOrInteger { words, min, max } => {
            if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
                integer(name, kind, (*min, *max), text, plain, node).map(Scalar::Integer)
            } else {
                choice(name, words, text).map(Scalar::Text)
            }
        }
        Kind::Ip => text.parse().map(Scalar::Ip).map_err(|_| {
            (
                format!("`{name}` must be an IP address, not {}", node.describe()),
                Some("such as 192.0.2.1 or 2001:db8::1".into()),
            )
        }),
        Kind::Socket { loopback } => socket(name, *loopback, text, node).map(Scalar::Socket),
        Kind::List { .. } | Kind::Object(_) | Kind::Variants(_) | Kind::Keyed(_) => {
            Err(wrong_kind(name, kind, node))
        }
    }
}

/// Highest rate that is accepted; sums of a hundred of them stay far inside of a u64.
pub(crate) const RATE_MAX: u64 = 1_000_000_000_000;

fn integer(
    name: &str,
    kind: &Kind,
    (min, max): (u64, u64),
    text: &str,
    plain: bool,
    node: &Node,
) -> Result<u64, Wrong> {
    let digits = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    if digits && !plain {
        let message = format!("`{name}` must be {}, not text", in_words(kind));
        return Err((message, Some(format!("take the quotes off: {text}"))));
    }
    if !digits {
        let negative =
            text.strip_prefix('-').is_some_and(|t| !t.is_empty() && t.chars().all(|c| c.is_ascii_digit()));
        if plain && negative {
            return Err((format!("`{name}` must be between {min} and {max}, not {text}"), None));
        }
        return Err(wrong_kind(name, kind, node));
    }
    match text.parse::<u64>() {
        Ok(n) if n >= min && n <= max => Ok(n),
        _ => {
            let shown: String = text.chars().take(30).collect();
            Err((format!("`{name}` must be between {min} and {max}, not {shown}"), None))
        }
    }
}

fn number(
    name: &str,
    kind: &Kind,
    (min, max): (f64, f64),
    text: &str,
    typed: ScalarType,
    node: &Node,
) -> Result<f64, Wrong> {
    let parsed = if typed == ScalarType::Number { text.parse::<f64>().ok() } else { None };
    match parsed {
        Some(n) if n >= min && n <= max => Ok(n),
        Some(n) => Err((format!("`{name}` must be between {min} and {max}, not {n}"), None)),
        None => Err(wrong_kind(name, kind, node)),
    }
}

/// A value that is written with its unit.
fn bounded<T>(
    name: &str,
    kind: &Kind,
    (min, max): (T, T),
    text: &str,
    typed: ScalarType,
    unit: &str,
    node: &Node,
) -> Result<T, Wrong>
where
    T: FromStr<Err = String> + PartialOrd + std::fmt::Display,
{
    if typed == ScalarType::Number {
        let message = format!("`{name}` must be {}, and {text} has no unit", in_words(kind));
        return Err((message, Some(format!("write it with its unit: {text}{unit}"))));
    }
    match text.parse::<T>() {
        Ok(v) if v >= min && v <= max => Ok(v),
        Ok(v) => Err((format!("`{name}` must be between {min} and {max}, not {v}"), None)),
        Err(why) => {
            let suggestion = why.split_once("; ").map(|(_, s)| s.to_owned());
            Err((wrong_kind(name, kind, node).0, suggestion))
        }
    }
}

fn choice(name: &str, words: &[&str], text: &str) -> Result<String, Wrong> {
    if words.contains(&text) {
        return Ok(text.to_owned());
    }
    let shown: String = text.chars().take(40).collect();
    let suggestion = suggest(text, words.iter().copied());
    Err((format!("`{name}` must be one of {}, not `{shown}`", words.join(", ")), suggestion))
}

fn socket(name: &str, loopback: bool, text: &str, node: &Node) -> Result<SocketAddr, Wrong> {
    let address: SocketAddr = text.parse().map_err(|_| {
        let message = format!("`{name}` must be an IP address with a port, not {}", node.describe());
        (message, Some("such as 127.0.0.1:7400 or [::1]:7400".to_owned()))
    })?;
    if address.port() == 0 {
        return Err((format!("`{name}` must name its port, and {address} leaves it to chance"), None));
    }
    if loopback && !address.ip().is_loopback() {
        let message =
            format!("`{name}` must be a loopback address, and {address} is reachable from elsewhere");
        return Err((
            message,
            Some(format!("use 127.0.0.1:{} and a tunnel or proxy of your own", address.port())),
        ));
    }
    Ok(address)
}
