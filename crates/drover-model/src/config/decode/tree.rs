//! From YAML text to a tree whose every node knows its place.
//!
//! Built from the parser's events rather than from its ready-made documents: those keep only the last of two equal keys
//! and lose where the first one stood, and they nest as deep as the file says.

use super::sink::{Place, Sink};
use saphyr_parser::{Event, Parser, ScalarStyle, Span as YamlSpan, Tag};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Nesting that is accepted. A service needs five levels and a runbook six; the rest is room.
pub const DEPTH_MAX: usize = 32;

/// Nodes that all aliases of one file may expand to, so that a few nested anchors can't fill the memory.
pub const ALIAS_NODES_MAX: usize = 10_000;

/// A value in a file.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub place: Place,
    pub value: Value,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// Text, and whether it was written without quotes (only then can it be a number or a truth value).
    Scalar { text: String, plain: bool },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the order of the file, without repeated keys.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub text: String,
    pub place: Place,
}

impl Node {
    /// Nothing was written, or `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What was written, in words.
    pub fn describe(&self) -> String {
        match &self.value {
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a mapping".into(),
            Value::Scalar { .. } if self.is_null() => "nothing".into(),
            Value::Scalar { text, plain } => {
                let shown: String = text.chars().take(40).collect();
                match scalar_type(text, *plain) {
                    ScalarType::Number => format!("the number {shown}"),
                    ScalarType::Truth => format!("the truth value {shown}"),
                    ScalarType::Text => format!("the text `{shown}`"),
                }
            }
        }
    }

    fn count(&self) -> usize {
        1 + match &self.value {
            Value::Scalar { .. } => 0,
            Value::List(items) => items.iter().map(Node::count).sum(),
            Value::Map(entries) => entries.iter().map(|(_, n)| n.count()).sum(),
        }
    }
}

/// What YAML 1.2's core schema makes of a scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScalarType {
    Number,
    Truth,
    Text,
}

/// How an editor, or any other reader of the file, would type this scalar.
pub(crate) fn scalar_type(text: &str, plain: bool) -> ScalarType {
    if !plain {
        return ScalarType::Text;
    }
    match saphyr::Scalar::parse_from_cow(Cow::Borrowed(text)) {
        saphyr::Scalar::Integer(_) | saphyr::Scalar::FloatingPoint(_) => ScalarType::Number,
        saphyr::Scalar::Boolean(_) => ScalarType::Truth,
        saphyr::Scalar::Null | saphyr::Scalar::String(_) => ScalarType::Text,
    }
}

enum Frame {
    List {
        place: Place,
        anchor: usize,
        items: Vec<Node>,
    },
    Map {
        place: Place,
        anchor: usize,
        entries: Vec<(Key, Node)>,
        seen: BTreeMap<String, Place>,
        pending: Option<Node>,
    },
}

struct Builder<'s, 't> {
    sink: &'s Sink<'t>,
    file: usize,
    /// Byte offset of each character; empty when the text is ASCII, where they are equal.
    offsets: Vec<usize>,
    stack: Vec<Frame>,
    anchors: BTreeMap<usize, Node>,
    alias_nodes_left: usize,
    documents: Vec<Node>,
}

/// The documents of file number `file`, empty ones left out. `false` says that the file could not be read to its end.
pub(crate) fn parse(sink: &Sink<'_>, file: usize) -> (Vec<Node>, bool) {
    let text = sink.files()[file].text.as_str();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let skipped = sink.files()[file].text.len() - text.len();
    let offsets = if text.is_ascii() && skipped == 0 {
        Vec::new()
    } else {
        text.char_indices().map(|(i, _)| i + skipped).chain([text.len() + skipped]).collect()
    };
    let mut builder = Builder {
        sink,
        file,
        offsets,
        stack: Vec::new(),
        anchors: BTreeMap::new(),
        alias_nodes_left: ALIAS_NODES_MAX,
        documents: Vec::new(),
    };
    let mut parser = Parser::new_from_str(text);
    while let Some(next) = parser.next_event() {
        let complete = match next {
            Ok((event, span)) => builder.event(event, span),
            Err(e) => {
                let at = builder.offset(e.marker().index());
                let message = format!("this is not valid YAML: {}", e.info());
                sink.error(Place { file, start: at, end: at }, message, None);
                false
            }
        };
        if !complete {
            return (builder.documents, false);
        }
    }
    (builder.documents, true)
}

impl Builder<'_, '_> {
    fn offset(&self, index: usize) -> usize {
        match self.offsets.last() {
            None => index,
            Some(last) => self.offsets.get(index).copied().unwrap_or(*last),
        }
    }

    fn place(&self, span: YamlSpan) -> Place {
        Place { file: self.file, start: self.offset(span.start.index()), end: self.offset(span.end.index()) }
    }

    /// A collection's events have no length; its place reaches to the end of its first line (cut there when shown).
    fn open_place(&self, span: YamlSpan) -> Place {
        Place { end: usize::MAX, ..self.place(span) }
    }

    /// Takes one event; `false` when the rest of the file must not be read.
    fn event(&mut self, event: Event<'_>, span: YamlSpan) -> bool {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => true,
            Event::DocumentEnd => {
                self.anchors.clear();
                true
            }
            Event::Scalar(text, style, anchor, tag) => {
                let place = self.place(span);
                let text_tag = self.check_tag(tag.as_deref(), place);
                let plain = style == ScalarStyle::Plain && !text_tag;
                self.complete(
                    Node { place, value: Value::Scalar { text: text.into_owned(), plain } },
                    anchor,
                );
                true
            }
            Event::SequenceStart(anchor, tag) => {
                let place = self.open_place(span);
                self.check_tag(tag.as_deref(), place);
                self.open(Frame::List { place, anchor, items: Vec::new() }, place)
            }
            Event::MappingStart(anchor, tag) => {
                let place = self.open_place(span);
                self.check_tag(tag.as_deref(), place);
                let (entries, seen) = (Vec::new(), BTreeMap::new());
                self.open(Frame::Map { place, anchor, entries, seen, pending: None }, place)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                match self.stack.pop() {
                    Some(Frame::List { place, anchor, items }) => {
                        self.complete(Node { place, value: Value::List(items) }, anchor);
                    }
                    Some(Frame::Map { place, anchor, entries, .. }) => {
                        self.complete(Node { place, value: Value::Map(entries) }, anchor);
                    }
                    None => {}
                }
                true
            }
            Event::Alias(id) => self.alias(id, self.place(span)),
        }
    }

    /// `!!str` makes text of a plain scalar; other core tags say what is checked anyway; private tags have no meaning here.
    fn check_tag(&self, tag: Option<&Tag>, place: Place) -> bool {
        match tag {
            Some(tag) if tag.is_yaml_core_schema() => tag.suffix == "str",
            Some(tag) => {
                self.sink.error(
                    place,
                    format!("the tag `{tag}` has no meaning here"),
                    Some("take it out".into()),
                );
                false
            }
            None => false,
        }
    }

    fn open(&mut self, frame: Frame, place: Place) -> bool {
        if self.stack.len() >= DEPTH_MAX {
            self.sink.error(place, format!("nested deeper than {DEPTH_MAX} levels"), None);
            return false;
        }
        self.stack.push(frame);
        true
    }

    fn alias(&mut self, id: usize, place: Place) -> bool {
        let Some(node) = self.anchors.get(&id) else {
            self.sink.error(place, "this alias names nothing that ended before it in this document", None);
            return false;
        };
        let count = node.count();
        if count > self.alias_nodes_left {
            let message = format!("the aliases of this file expand to more than {ALIAS_NODES_MAX} values");
            self.sink.error(place, message, None);
            return false;
        }
        self.alias_nodes_left -= count;
        let node = Node { place, value: node.value.clone() };
        self.complete(node, 0);
        true
    }

    fn complete(&mut self, node: Node, anchor: usize) {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut() {
            None if node.is_null() => {}
            None => self.documents.push(node),
            Some(Frame::List { items, .. }) => items.push(node),
            Some(Frame::Map { entries, seen, pending, .. }) => match pending.take() {
                None => *pending = Some(node),
                Some(key) => insert(self.sink, entries, seen, key, node),
            },
        }
    }
}

fn insert(
    sink: &Sink<'_>,
    entries: &mut Vec<(Key, Node)>,
    seen: &mut BTreeMap<String, Place>,
    key: Node,
    value: Node,
) {
    let Value::Scalar { text, .. } = key.value else {
        sink.error(key.place, "a key must be one word", None);
        return;
    };
    if let Some(first) = seen.get(&text) {
        let message = format!("`{text}` is given twice in this mapping, first at {}", sink.name_of(*first));
        sink.error(key.place, message, Some("keep one of them".into()));
        return;
    }
    seen.insert(text.clone(), key.place);
    entries.push((Key { text, place: key.place }, value));
}
