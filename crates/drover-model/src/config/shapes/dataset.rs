//! `kind: Dataset`.

use super::{Default, FROM_ZERO, Kind, POSITIVE, Rule, Shape, default, required};
use crate::time::Span;
use crate::units::Percent;

/// Databases of one dataset, at most: each of them is asked before a holder goes on without a coordinator.
pub(crate) const MEMBERS_MAX: usize = 16;

/// Datasets of one configuration, at most. Each is renewed once a second, which is a write that every store takes of so many;
/// and all of them are read at once, in one page.
pub const DATASETS_MAX: usize = 256;

/// Datasets beside which one agent can be: each has a gate and a keeper there.
pub const DATASETS_PER_AGENT_MAX: usize = 64;

pub(crate) static DATASET: Shape = Shape {
    name: "Dataset",
    doc: "State that moves with a service, and has one writer.",
    fields: &[
        required("kind", Kind::Choice(&["Dataset"]), "Says what this document is."),
        required("name", Kind::Text(Rule::Name), "Its name: a-z, 0-9 and inner hyphens."),
        required(
            "holder",
            Kind::Text(Rule::Name),
            "The member whose database writes first. Once it does, only `drover dataset move` changes who writes.",
        ),
        required(
            "members",
            Kind::List { item: &Kind::Object(&MEMBER), min: 1, max: MEMBERS_MAX },
            "The agents beside its databases.",
        ),
        default(
            "write_right",
            Kind::Object(&WRITE_RIGHT),
            Default::Object,
            "How long a right to write lasts, and how often it is asked for.",
        ),
    ],
};

pub(crate) static MEMBER: Shape = Shape {
    name: "member",
    doc: "An agent beside one of the databases.",
    fields: &[
        required("agent", Kind::Text(Rule::Name), "Its name."),
        required(
            "peer",
            Kind::Socket { loopback: false },
            "Where the others reach its `peer_listen` when no coordinator answers.",
        ),
    ],
};

pub(crate) static WRITE_RIGHT: Shape = Shape {
    name: "write_right",
    doc: "The intervals of a write right: renew + 2 × retry + demotion + drift of the width + gate_tick must fit into the width.",
    fields: &[
        default(
            "width",
            POSITIVE,
            Default::Span(Span::from_secs(6)),
            "How long a right lasts after it was asked for.",
        ),
        default(
            "drift",
            Kind::Percent { min: Percent::ZERO, max: Percent::whole(50) },
            Default::Percent(Percent::from_basis_points(833)),
            "By how much the rate of a clock may be wrong.",
        ),
        default(
            "demotion",
            FROM_ZERO,
            Default::Span(Span::from_secs(1)),
            "The longest that stopping the database takes.",
        ),
        default("renew", POSITIVE, Default::Span(Span::from_secs(1)), "Between two renewals."),
        default(
            "retry",
            POSITIVE,
            Default::Span(Span::from_secs(1)),
            "Until a renewal without an answer is sent again.",
        ),
        default(
            "gate_tick",
            POSITIVE,
            Default::Span(Span::from_millis(500)),
            "Between two looks of the gate that stops the database.",
        ),
    ],
};
