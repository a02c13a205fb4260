//! `kind: Region`.

use super::{Default, Kind, Rule, Shape, default, optional, required};

/// Agents that a region may have.
pub(crate) const AGENTS_MAX: usize = 100;

pub(crate) static REGION: Shape = Shape {
    name: "Region",
    doc: "A failure domain.",
    fields: &[
        required("kind", Kind::Choice(&["Region"]), "Says what this document is."),
        required("name", Kind::Text(Rule::Name), "Its name: a-z, 0-9 and inner hyphens."),
        default(
            "role",
            Kind::Choice(&["serving", "witness"]),
            Default::Text("serving"),
            "`serving`, or `witness`: it serves nothing and only watches the others.",
        ),
        required("location", Kind::Object(&LOCATION), "Where it is."),
        default(
            "agents",
            Kind::List { item: &Kind::Object(&AGENT), min: 0, max: AGENTS_MAX },
            Default::Nothing,
            "The agents that watch from it.",
        ),
    ],
};

pub(crate) static LOCATION: Shape = Shape {
    name: "location",
    doc: "Where a region is.",
    fields: &[
        required("city", Kind::Text(Rule::Any), "Nearest city, for people."),
        required("latitude", Kind::Number { min: -90.0, max: 90.0 }, "Degrees north, -90 to 90."),
        required("longitude", Kind::Number { min: -180.0, max: 180.0 }, "Degrees east, -180 to 180."),
        required(
            "jurisdiction",
            Kind::Text(Rule::Any),
            "Whose rules apply to data held there, such as `EU`.",
        ),
    ],
};

pub(crate) static AGENT: Shape = Shape {
    name: "agent",
    doc: "An agent that is expected to report.",
    fields: &[
        required("name", Kind::Text(Rule::Name), "Its name, unique in the directory."),
        optional(
            "source_address",
            Kind::Ip,
            "Address that its probes leave from; the system chooses when absent.",
        ),
    ],
};
