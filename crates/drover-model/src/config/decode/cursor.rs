//! Reading the fields of one mapping by the table that describes it.
//!
//! Opening a mapping reports what is unknown and what is missing; reading a field reports what is of the wrong kind or out
//! of its bounds. A reader goes on after a finding, so that one look at a file tells all that is wrong with it.

use super::sink::{Place, Sink};
use super::tree::{Key, Node, Value};
use super::values::{self, Scalar};
use crate::config::diagnostic::suggest;
use crate::config::shapes::{Default, Field, Kind, Need, Shape};
use crate::time::Span;
use crate::units::{Percent, RequestsPerSecond};
use std::net::{IpAddr, SocketAddr};

/// What was found where a field was looked for. `Bad` was reported already.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Got<T> {
    Absent,
    Bad,
    Value(T),
}

impl<T> Got<T> {
    /// The value; absent and bad are both nothing (a required field's absence was reported when its mapping was opened).
    pub fn value(self) -> Option<T> {
        match self {
            Got::Value(v) => Some(v),
            Got::Absent | Got::Bad => None,
        }
    }

    /// Absent is fine, bad is not.
    #[allow(clippy::option_option, reason = "the outer level is: could it be read")]
    pub fn optional(self) -> Option<Option<T>> {
        match self {
            Got::Value(v) => Some(Some(v)),
            Got::Absent => Some(None),
            Got::Bad => None,
        }
    }
}

/// A mapping that is being read.
pub(crate) struct Fields<'n, 's, 't> {
    pub sink: &'s Sink<'t>,
    pub shape: &'static Shape,
    pub place: Place,
    pub path: String,
    entries: &'n [(Key, Node)],
}

impl<'n, 's, 't> Fields<'n, 's, 't> {
    /// Opens `node` as `shape`. `path` names it for later checks.
    pub fn open(sink: &'s Sink<'t>, node: &'n Node, shape: &'static Shape, path: String) -> Option<Self> {
        if !matches!(node.value, Value::Map(_)) {
            sink.remember(&path, node.place);
            let message = format!("expected a mapping for {}, not {}", shape.name, node.describe());
            let known: Vec<&str> = shape.fields.iter().map(|f| f.name).collect();
            sink.error(node.place, message, Some(format!("its fields: {}", known.join(", "))));
            return None;
        }
        Self::open_value(sink, node.place, &node.value, shape, path)
    }

    /// Opens a mapping that stands at `place`.
    pub fn open_value(
        sink: &'s Sink<'t>,
        place: Place,
        value: &'n Value,
        shape: &'static Shape,
        path: String,
    ) -> Option<Self> {
        sink.remember(&path, place);
        let Value::Map(entries) = value else { return None };
        let fields = Self { sink, shape, place, path, entries };
        fields.report_unknown();
        fields.report_missing();
        Some(fields)
    }

    /// The object that was left out, whose fields all have defaults.
    pub fn left_out(sink: &'s Sink<'t>, shape: &'static Shape, path: String) -> Self {
        Self { sink, shape, place: sink.place(&path), path, entries: &[] }
    }

    fn report_unknown(&self) {
        for (key, _) in self.entries {
            if self.shape.field(&key.text).is_some() || self.sink.is_full() {
                continue;
            }
            let shown: String = key.text.chars().take(60).collect();
            let suggestion = if key.text == "<<" {
                Some("merge keys are not part of YAML 1.2; write the fields out".to_owned())
            } else {
                suggest(&key.text, self.shape.fields.iter().map(|f| f.name))
            };
            self.sink.error(key.place, format!("unknown field `{shown}` of {}", self.shape.name), suggestion);
        }
    }

    fn report_missing(&self) {
        for field in self.shape.fields.iter().filter(|f| matches!(f.need, Need::Required)) {
            if self.entries.iter().all(|(k, _)| k.text != field.name) {
                let message = format!("missing field `{}` of {}", field.name, self.shape.name);
                self.sink.error(
                    self.place,
                    message,
                    Some(format!("add `{}`: {}", field.name, in_a_sentence(field.doc))),
                );
            }
        }
    }

    /// The path of a field.
    pub fn path_of(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    /// The place of a field's value, or of this mapping.
    pub fn place_of(&self, name: &str) -> Place {
        self.entries.iter().find(|(k, _)| k.text == name).map_or(self.place, |(_, n)| n.place)
    }

    /// The text of a field, read before its mapping is opened for good: to name things, never to decide.
    pub fn peek(node: &Node, name: &str) -> Option<String> {
        let Value::Map(entries) = &node.value else { return None };
        match entries.iter().find(|(k, _)| k.text == name).map(|(_, n)| &n.value) {
            Some(Value::Scalar { text, .. }) => Some(text.clone()),
            _ => None,
        }
    }

    fn find(&self, name: &'static str) -> (Option<&'static Field>, Got<&'n Node>) {
        let field = self.shape.field(name);
        debug_assert!(field.is_some(), "the table of {} has no field {name}", self.shape.name);
        self.sink.asked(self.shape.name, name);
        let Some((_, node)) = self.entries.iter().find(|(k, _)| k.text == name) else {
            return (field, Got::Absent);
        };
        self.sink.remember(&self.path_of(name), node.place);
        if node.is_null() {
            let message = format!("`{name}` has no value");
            self.sink.error(node.place, message, Some("give it one, or take the line out".to_owned()));
            return (field, Got::Bad);
        }
        (field, Got::Value(node))
    }

    fn scalar(&self, name: &'static str) -> Got<Scalar> {
        match self.find(name) {
            (Some(field), Got::Value(node)) => {
                values::read(self.sink, name, &field.kind, node).map_or(Got::Bad, Got::Value)
            }
            (Some(field), Got::Absent) => values::default(field).map_or(Got::Absent, Got::Value),
            _ => Got::Bad,
        }
    }

    fn typed<T>(&self, name: &'static str, pick: impl Fn(Scalar) -> Option<T>) -> Got<T> {
        match self.scalar(name) {
            Got::Value(v) => pick(v).map_or(Got::Bad, Got::Value),
            Got::Absent => Got::Absent,
            Got::Bad => Got::Bad,
        }
    }

    /// A field of text, or a word of a choice.
    pub fn text(&self, name: &'static str) -> Got<String> {
        self.typed(name, |v| if let Scalar::Text(v) = v { Some(v) } else { None })
    }

    /// A whole number; the table's bounds keep it inside of `T`.
    pub fn integer<T: TryFrom<u64>>(&self, name: &'static str) -> Got<T> {
        self.typed(name, |v| if let Scalar::Integer(v) = v { T::try_from(v).ok() } else { None })
    }

    /// A number.
    pub fn number(&self, name: &'static str) -> Got<f64> {
        self.typed(name, |v| if let Scalar::Number(v) = v { Some(v) } else { None })
    }

    /// `true` or `false`.
    pub fn boolean(&self, name: &'static str) -> Got<bool> {
        self.typed(name, |v| if let Scalar::Boolean(v) = v { Some(v) } else { None })
    }

    /// A length of time.
    pub fn span(&self, name: &'static str) -> Got<Span> {
        self.typed(name, |v| if let Scalar::Span(v) = v { Some(v) } else { None })
    }

    /// One of some words, or else a length of time.
    pub fn word_or_span(&self, name: &'static str) -> Got<Result<String, Span>> {
        self.typed(name, |v| match v {
            Scalar::Text(word) => Some(Ok(word)),
            Scalar::Span(span) => Some(Err(span)),
            _ => None,
        })
    }

    /// One of some words, or else a whole number.
    pub fn word_or_integer(&self, name: &'static str) -> Got<Result<String, u64>> {
        self.typed(name, |v| match v {
            Scalar::Text(word) => Some(Ok(word)),
            Scalar::Integer(count) => Some(Err(count)),
            _ => None,
        })
    }

    /// A share.
    pub fn percent(&self, name: &'static str) -> Got<Percent> {
        self.typed(name, |v| if let Scalar::Percent(v) = v { Some(v) } else { None })
    }

    /// A rate.
    pub fn rate(&self, name: &'static str) -> Got<RequestsPerSecond> {
        self.typed(name, |v| if let Scalar::Rate(v) = v { Some(v) } else { None })
    }

    /// An IP address.
    pub fn ip(&self, name: &'static str) -> Got<IpAddr> {
        self.typed(name, |v| if let Scalar::Ip(v) = v { Some(v) } else { None })
    }

    /// An address with a port.
    pub fn socket(&self, name: &'static str) -> Got<SocketAddr> {
        self.typed(name, |v| if let Scalar::Socket(v) = v { Some(v) } else { None })
    }

    /// The items of a list with their paths; absent is an empty list only where the table says so.
    pub fn list(&self, name: &'static str) -> Got<Vec<(String, &'n Node)>> {
        let (field, found) = self.find(name);
        let Some(Field { kind: Kind::List { min, max, .. }, need, .. }) = field else { return Got::Bad };
        let node = match found {
            Got::Value(node) => node,
            Got::Absent if matches!(need, Need::Default(Default::Nothing)) => return Got::Value(Vec::new()),
            Got::Absent => return Got::Absent,
            Got::Bad => return Got::Bad,
        };
        let Value::List(items) = &node.value else {
            let message = format!("`{name}` must be a list, not {}", node.describe());
            self.sink.error(
                node.place,
                message,
                Some("write the items in [ ] or each after a hyphen".to_owned()),
            );
            return Got::Bad;
        };
        if items.len() < *min || items.len() > *max {
            let message = format!("`{name}` has {} items; it must have {min} to {max}", items.len());
            self.sink.error(node.place, message, None);
            return Got::Bad;
        }
        let path = self.path_of(name);
        Got::Value(items.iter().enumerate().map(|(i, n)| (format!("{path}/{i}"), n)).collect())
    }

    /// The scalars of a list, picked by `pick`.
    pub fn scalars<T>(&self, name: &'static str, pick: impl Fn(Scalar) -> Option<T>) -> Got<Vec<T>> {
        let Some(Field { kind: Kind::List { item, .. }, need, .. }) = self.shape.field(name) else {
            return Got::Bad;
        };
        let items = match self.list(name) {
            Got::Value(items) => items,
            Got::Absent => {
                let Need::Default(value) = need else { return Got::Absent };
                return values::default_list(*value)
                    .into_iter()
                    .map(pick)
                    .collect::<Option<_>>()
                    .map_or(Got::Bad, Got::Value);
            }
            Got::Bad => return Got::Bad,
        };
        let read: Vec<Option<T>> = items
            .into_iter()
            .map(|(path, node)| {
                self.sink.remember(&path, node.place);
                values::read(self.sink, name, item, node).and_then(&pick)
            })
            .collect();
        read.into_iter().collect::<Option<_>>().map_or(Got::Bad, Got::Value)
    }

    /// An object; the one with all defaults when it is left out and may be.
    pub fn object(&self, name: &'static str) -> Got<Fields<'n, 's, 't>> {
        let (field, found) = self.find(name);
        let Some(Field { kind: Kind::Object(shape), need, .. }) = field else { return Got::Bad };
        match (found, need) {
            (Got::Value(node), _) => {
                Fields::open(self.sink, node, shape, self.path_of(name)).map_or(Got::Bad, Got::Value)
            }
            (Got::Absent, Need::Default(_)) => {
                Got::Value(Fields::left_out(self.sink, shape, self.path_of(name)))
            }
            (Got::Absent, _) => Got::Absent,
            (Got::Bad, _) => Got::Bad,
        }
    }

    /// One of several objects, told apart by `kind`; the first when it says no kind, or when it is left out and may be.
    pub fn variant(&self, name: &'static str) -> Got<Fields<'n, 's, 't>> {
        let (field, found) = self.find(name);
        let Some(Field { kind: Kind::Variants(shapes), need, .. }) = field else { return Got::Bad };
        match (found, need, shapes.first()) {
            (Got::Value(node), ..) => self.one_of(name, shapes, node).map_or(Got::Bad, Got::Value),
            (Got::Absent, Need::Default(_), Some(first)) => {
                Got::Value(Fields::left_out(self.sink, first, self.path_of(name)))
            }
            (Got::Absent, ..) => Got::Absent,
            (Got::Bad, ..) => Got::Bad,
        }
    }

    fn one_of(
        &self,
        name: &str,
        shapes: &'static [&'static Shape],
        node: &'n Node,
    ) -> Option<Fields<'n, 's, 't>> {
        let path = self.path_of(name);
        let Some(kind) = Fields::peek(node, "kind") else {
            return Fields::open(self.sink, node, shapes.first()?, path);
        };
        let words = |s: &&'static Shape| match s.field("kind").map(|f| &f.kind) {
            Some(Kind::Choice([word])) => Some(*word),
            _ => None,
        };
        if let Some(shape) = shapes.iter().find(|s| words(s) == Some(kind.as_str())) {
            return Fields::open(self.sink, node, shape, path);
        }
        let opened =
            Fields { sink: self.sink, shape: shapes.first()?, place: node.place, path, entries: &[] };
        let place = match &node.value {
            Value::Map(entries) => {
                entries.iter().find(|(k, _)| k.text == "kind").map_or(opened.place, |(_, n)| n.place)
            }
            _ => opened.place,
        };
        let suggestion = suggest(&kind, shapes.iter().filter_map(words));
        self.sink.error(place, format!("unknown kind `{kind}` of `{name}`"), suggestion);
        None
    }
}

/// Documentation as the end of a sentence.
fn in_a_sentence(doc: &str) -> String {
    let doc = doc.trim_end_matches('.');
    let mut chars = doc.chars();
    match (chars.next(), chars.next()) {
        (Some(first), second) if !second.is_some_and(char::is_uppercase) => {
            format!("{}{}", first.to_lowercase(), &doc[first.len_utf8()..])
        }
        _ => doc.to_owned(),
    }
}
