//! The written form, once: which fields each object of a file may have, of what kind, within which bounds, and what holds
//! when they are left out.
//!
//! Decoder, JSON Schema, encoder tests and scaling all read these tables, so that they can't tell different stories.

pub(crate) mod dataset;
pub(crate) mod region;
pub(crate) mod runbook;
pub(crate) mod service;
pub(crate) mod settings;

use crate::time::Span;
use crate::units::Percent;
use std::net::SocketAddr;

/// An object of a file.
pub(crate) struct Shape {
    /// Its name in messages and in the schema.
    pub name: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// Its fields, in the order in which drover writes them.
    pub fields: &'static [Field],
}

impl Shape {
    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|f| f.name == name)
    }
}

/// A field of an object.
pub(crate) struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub need: Need,
    pub doc: &'static str,
}

/// Must it be there?
#[derive(Clone, Copy)]
pub(crate) enum Need {
    Required,
    /// Nothing takes its place.
    Optional,
    /// This takes its place.
    Default(Default),
}

/// What takes the place of a field that was left out.
#[derive(Clone, Copy)]
pub(crate) enum Default {
    Span(Span),
    Percent(Percent),
    Percents(&'static [Percent]),
    Integer(u64),
    Integers(&'static [u64]),
    Boolean(bool),
    Text(&'static str),
    Socket(SocketAddr),
    /// An empty list.
    Nothing,
    /// An object whose fields all have defaults.
    Object,
    /// Depends on the rest of the object; the documentation says how.
    Derived,
}

/// Rules for text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Anything that is not empty.
    Any,
    /// A DNS label, as for regions, services and agents.
    Name,
    /// A host name, without the final dot.
    HostName,
    /// The name of a record: as a host name, and labels may begin with `_`.
    RecordName,
    /// The target of an HTTP request.
    Target,
    /// A value for an HTTP `Host` header.
    Host,
    /// The name of an HTTP header.
    Token,
    /// A name of the Prometheus data model.
    Metric,
    /// An `http` or `https` address.
    Url,
}

/// What a field holds.
pub(crate) enum Kind {
    Text(Rule),
    Integer {
        min: u64,
        max: u64,
    },
    Number {
        min: f64,
        max: f64,
    },
    Boolean,
    Span {
        min: Span,
        max: Span,
    },
    Percent {
        min: Percent,
        max: Percent,
    },
    Rate,
    Choice(&'static [&'static str]),
    Ip,
    Socket {
        loopback: bool,
    },
    List {
        item: &'static Kind,
        min: usize,
        max: usize,
    },
    Object(&'static Shape),
    /// One of these objects, told apart by their `kind`; the first when it is left out.
    Variants(&'static [&'static Shape]),
    /// A mapping with one key, the word; or the word alone when its body needs nothing.
    Keyed(&'static [(&'static str, &'static Kind)]),
    /// One of these words, or a length of time.
    ChoiceOrSpan(&'static [&'static str]),
    /// One of these words, or a whole number.
    ChoiceOrInteger {
        words: &'static [&'static str],
        min: u64,
        max: u64,
    },
}

/// Longest length of time that makes sense anywhere: ten years. It keeps sums far from the end of the range.
pub(crate) const SPAN_MAX: Span = Span::from_hours(10 * 365 * 24);

/// Any positive length of time.
pub(crate) const POSITIVE: Kind = Kind::Span { min: Span::from_millis(1), max: SPAN_MAX };

/// Any length of time, also none.
pub(crate) const FROM_ZERO: Kind = Kind::Span { min: Span::ZERO, max: SPAN_MAX };

/// Below this a probe measures the machine it runs on.
pub(crate) const PROBE_SPAN_MIN: Span = Span::from_millis(100);

/// For what happens over and over: probes, reports, reference checks.
pub(crate) const RECURRING: Kind = Kind::Span { min: PROBE_SPAN_MIN, max: Span::from_hours(24) };

/// A share that must not be nothing.
pub(crate) const SHARE: Kind = Kind::Percent { min: Percent::from_basis_points(1), max: Percent::FULL };

/// Any share.
pub(crate) const ANY_SHARE: Kind = Kind::Percent { min: Percent::ZERO, max: Percent::FULL };

/// A file's path; relative ones start where the program that reads it runs.
pub(crate) const FILE: Kind = Kind::Text(Rule::Any);

pub(crate) const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Field {
    Field { name, kind, need: Need::Required, doc }
}

pub(crate) const fn optional(name: &'static str, kind: Kind, doc: &'static str) -> Field {
    Field { name, kind, need: Need::Optional, doc }
}

pub(crate) const fn default(name: &'static str, kind: Kind, value: Default, doc: &'static str) -> Field {
    Field { name, kind, need: Need::Default(value), doc }
}
