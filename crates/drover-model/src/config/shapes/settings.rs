//! `kind: Settings`.

use super::service::{TTL_MAX, TTL_MIN};
use super::{
    Default, FILE, Field, Kind, POSITIVE, PROBE_SPAN_MIN, RECURRING, Rule, SHARE, Shape, default, optional,
    required,
};
use crate::config::defaults;
use crate::time::Span;

pub(crate) static SETTINGS: Shape = Shape {
    name: "Settings",
    doc: "What holds for the whole installation; at most one in a directory.",
    fields: &[
        required("kind", Kind::Choice(&["Settings"]), "Says what this document is."),
        default(
            "listen",
            Kind::Socket { loopback: true },
            Default::Socket(defaults::LISTEN),
            "Where the coordinator's API listens: a loopback address, in plain text. Beyond it: `drover coordinator --listen` with certificates.",
        ),
        optional(
            "dns",
            Kind::Variants(&[&EMBEDDED, &RFC2136, &ROUTE53]),
            "The zone, and the servers that answer for it.",
        ),
        optional(
            "store",
            Kind::Object(&STORE),
            "Where the records are kept; left out, in a file of the coordinator's state directory.",
        ),
        default("access", Kind::Object(&ACCESS), Default::Object, "Who may come in."),
        default("vantage", Kind::Object(&VANTAGE), Default::Object, "What is expected of a vantage point."),
        default("paging", Kind::Object(&PAGING), Default::Object, "Who is told."),
        default("retention", Kind::Object(&RETENTION), Default::Object, "How long things are kept."),
    ],
};

pub(crate) static ACCESS: Shape = Shape {
    name: "access settings",
    doc: "Who may come in.",
    fields: &[
        default(
            "require_tokens",
            Kind::Boolean,
            Default::Boolean(false),
            "Whoever comes over TCP shows a token (`drover token create`); so it is anyway once an admin has one. The Unix socket is not meant.",
        ),
        default(
            "connections_per_machine",
            Kind::Integer { min: 4, max: 512 },
            Default::Integer(defaults::CONNECTIONS_PER_MACHINE),
            "Connections to the API that the certificates of one machine may have at once.",
        ),
    ],
};

pub(crate) static EMBEDDED: Shape = Shape {
    name: "dns settings",
    doc: "A zone for which drover's own servers answer.",
    fields: &[
        default("kind", Kind::Choice(&["embedded"]), Default::Text("embedded"), "Says who answers."),
        required("zone", Kind::Text(Rule::HostName), "Zone apex, without the final dot."),
        required(
            "nameservers",
            Kind::List { item: &Kind::Object(&NAMESERVER), min: 1, max: 13 },
            "The zone's name servers.",
        ),
        required(
            "instances",
            Kind::List { item: &Kind::Object(&INSTANCE), min: 1, max: 32 },
            "The running servers.",
        ),
        default(
            "ttl_floor",
            Kind::Span { min: TTL_MIN, max: TTL_MAX },
            Default::Span(defaults::TTL_FLOOR),
            "What the time to live of answers shrinks to while a failover seems near.",
        ),
        RECORDS_FIELD,
        GEOGRAPHY_FIELD,
        optional(
            "signing_key_file",
            FILE,
            "File with the key that signs what is published, as `drover dns keygen` writes it; it is read again for every change. Servers that trust it take what they missed from each other. Keep it out of this directory.",
        ),
        VELOCITY_FIELD,
        DRIFT_FIELD,
        DRIFT_HOLD_FIELD,
    ],
};

pub(crate) static RFC2136: Shape = Shape {
    name: "rfc2136 settings",
    doc: "A zone of BIND, Knot or PowerDNS, whose primary takes dynamic updates. Every region that has weight is answered in equal shares, unless `weights` says how they are told.",
    fields: &[
        required("kind", Kind::Choice(&["rfc2136"]), "Says who answers."),
        required("zone", Kind::Text(Rule::HostName), "Zone apex, without the final dot."),
        required("primary", Kind::Socket { loopback: false }, "The server that takes updates, over TCP."),
        required(
            "servers",
            Kind::List { item: &Kind::Object(&SERVER), min: 1, max: 32 },
            "All servers that answer for the zone, as its resolvers reach them: each must show a change before it counts.",
        ),
        required("key", Kind::Object(&KEY), "Signs the updates."),
        default(
            "timeout",
            Kind::Span { min: PROBE_SPAN_MIN, max: Span::from_mins(1) },
            Default::Span(defaults::DNS_TIMEOUT),
            "For one exchange with one server.",
        ),
        optional(
            "weights",
            Kind::Choice(&["lua"]),
            "How answers follow the weights: `lua`, by LUA records, which PowerDNS alone has. All servers of the zone must be PowerDNS with `enable-lua-records`, and the key must be allowed to transfer the zone.",
        ),
        RECORDS_FIELD,
        GEOGRAPHY_FIELD,
        VELOCITY_FIELD,
        DRIFT_FIELD,
        DRIFT_HOLD_FIELD,
    ],
};

pub(crate) static ROUTE53: Shape = Shape {
    name: "route53 settings",
    doc: "A hosted zone of Amazon Route 53.",
    fields: &[
        required("kind", Kind::Choice(&["route53"]), "Says who answers."),
        required("zone", Kind::Text(Rule::HostName), "Zone apex, without the final dot."),
        required("hosted_zone", Kind::Text(Rule::Any), "The zone's id, such as Z0123456789ABCDEFGHIJ."),
        required(
            "servers",
            Kind::List { item: &Kind::Object(&SERVER), min: 1, max: 32 },
            "The name servers of the zone's delegation set: each must show a change before it counts.",
        ),
        optional(
            "credentials_file",
            FILE,
            "File with an access key under `[default]`, as AWS's own tools have it; it is read again every minute. Without: their usual chain (environment, profile, the role of the machine or pod).",
        ),
        optional("endpoint", Kind::Text(Rule::Url), "Another place of the API than AWS's own."),
        default(
            "requests_per_second",
            Kind::Integer { min: 1, max: 100 },
            Default::Integer(defaults::ROUTE53_REQUESTS_PER_SECOND),
            "Requests that drover sends in any second; an account has five for all that it does.",
        ),
        default(
            "timeout",
            Kind::Span { min: PROBE_SPAN_MIN, max: Span::from_mins(1) },
            Default::Span(defaults::DNS_TIMEOUT),
            "For one exchange, with the API or a name server.",
        ),
        default(
            "in_sync_within",
            Kind::Span { min: PROBE_SPAN_MIN, max: Span::from_mins(10) },
            Default::Span(defaults::ROUTE53_IN_SYNC_WITHIN),
            "How long a change may take to reach all name servers, as Route 53 itself says, before a step that waits for it fails.",
        ),
        RECORDS_FIELD,
        GEOGRAPHY_FIELD,
        optional(
            "health_checks",
            Kind::Object(&HEALTH_CHECKS),
            "By what Route 53 leaves a whole region out without a change of a record, and so without its API in us-east-1.",
        ),
        VELOCITY_FIELD,
        DRIFT_FIELD,
        DRIFT_HOLD_FIELD,
    ],
};

/// Records that no traffic moves: each has a few lines in every reading of the zone.
const FIXED_RECORDS_MAX: usize = 1_000;

/// Values of one of them.
const FIXED_VALUES_MAX: usize = 32;

pub(crate) static FIXED_RECORD: Shape = Shape {
    name: "record",
    doc: "A record set that no traffic moves: all its values are answered.",
    fields: &[
        required("id", Kind::Text(Rule::Name), "What drover calls it, as it calls services by their names."),
        required(
            "name",
            Kind::Text(Rule::RecordName),
            "Its name in DNS, without the final dot; such as _dmarc.example.com.",
        ),
        required("type", Kind::Choice(&["CAA", "MX", "TXT"]), "Its type."),
        default(
            "ttl",
            Kind::Span { min: TTL_MIN, max: TTL_MAX },
            Default::Span(defaults::FIXED_TTL),
            "TTL of its answers.",
        ),
        required(
            "values",
            Kind::List { item: &Kind::Text(Rule::Any), min: 1, max: FIXED_VALUES_MAX },
            "Its values: a text as it is, `10 mail.example.com` of MX, `0 issue \"ca.example\"` of CAA.",
        ),
    ],
};

/// Networks of a geography: each is a line of what servers are told.
const CLIENT_NETWORKS_MAX: usize = 2_000;

pub(crate) static GEOGRAPHY: Shape = Shape {
    name: "geography",
    doc: "Which regions are near to which clients, and which may answer them.",
    fields: &[
        default(
            "id",
            Kind::Text(Rule::Name),
            Default::Text("geography"),
            "What drover calls it, as it calls services by their names.",
        ),
        required(
            "networks",
            Kind::List { item: &Kind::Object(&CLIENT_NETWORK), min: 1, max: CLIENT_NETWORKS_MAX },
            "Networks of clients; the longest that has a client is his.",
        ),
        default(
            "outside",
            Kind::Choice(&["answer", "refuse"]),
            Default::Text("answer"),
            "What a client gets whose jurisdiction has no region with weight: another region's answer, or a refusal.",
        ),
    ],
};

pub(crate) static CLIENT_NETWORK: Shape = Shape {
    name: "client network",
    doc: "Clients that are alike to the zone.",
    fields: &[
        required(
            "cidr",
            Kind::Text(Rule::Any),
            "Where they are, such as 203.0.113.0/24: at most /24, or /56 of IPv6.",
        ),
        default(
            "prefer",
            Kind::List { item: &Kind::Text(Rule::Name), min: 0, max: 100 },
            Default::Nothing,
            "The regions that are near to them, the nearest first.",
        ),
        optional(
            "jurisdiction",
            Kind::Text(Rule::Any),
            "Regions of this jurisdiction alone may answer them.",
        ),
    ],
};

pub(crate) static HEALTH_CHECKS: Shape = Shape {
    name: "health checks",
    doc: "Health checks of Route 53 that read from agents whether a region is declared out of service.",
    fields: &[
        required(
            "status_servers",
            Kind::List { item: &Kind::Object(&STATUS_SERVER), min: 2, max: 16 },
            "Agents that serve status pages (`status_listen` in their file). Two outside of a region must agree before it is left out.",
        ),
        default(
            "interval",
            Kind::Span { min: Span::from_secs(10), max: Span::from_secs(30) },
            Default::Span(defaults::ROUTE53_CHECK_INTERVAL),
            "Between two requests of one checker: 10s or 30s, which Route 53 has. It can't be changed of a check that exists, so another one is made.",
        ),
        default(
            "failure_threshold",
            Kind::Integer { min: 1, max: 10 },
            Default::Integer(defaults::ROUTE53_CHECK_THRESHOLD),
            "Answers of one kind in a row that change what a checker reports.",
        ),
    ],
};

pub(crate) static STATUS_SERVER: Shape = Shape {
    name: "status server",
    doc: "An agent that serves status pages, and where Route 53's checkers reach it.",
    fields: &[
        required("agent", Kind::Text(Rule::Name), "The agent, whose region is where the server stands."),
        required(
            "url",
            Kind::Text(Rule::Url),
            "Scheme, host and port, as http://192.0.2.7:7412. An address needs no DNS; a name must not be one that drover moves.",
        ),
    ],
};

static RECORD: Kind = Kind::Object(&FIXED_RECORD);

// Zones of other kinds know these two as well, so that whoever sets them there is told why they have no use for them.
const RECORDS_FIELD: Field = default(
    "records",
    Kind::List { item: &RECORD, min: 0, max: FIXED_RECORDS_MAX },
    Default::Nothing,
    "Records that no traffic moves, such as TXT and CAA; of `kind: embedded` alone.",
);

const GEOGRAPHY_FIELD: Field = optional(
    "geography",
    Kind::Object(&GEOGRAPHY),
    "Where clients are, for services with `draws: nearest`; of `kind: embedded` alone.",
);

/// The same in every zone.
const VELOCITY_FIELD: Field = default(
    "velocity",
    Kind::Object(&VELOCITY),
    Default::Object,
    "How much of what is live changes when nobody was asked, because the configuration changed.",
);

const DRIFT_FIELD: Field = default(
    "drift",
    Kind::Choice(&["report", "repair"]),
    Default::Text("report"),
    "What becomes of a record set that a hand changed: it is shown and left as it is, or put back.",
);

const DRIFT_HOLD_FIELD: Field = default(
    "drift_hold",
    POSITIVE,
    Default::Span(defaults::DNS_DRIFT_HOLD),
    "How long it must have stood unchanged before it is put back.",
);

pub(crate) static VELOCITY: Shape = Shape {
    name: "dns velocity",
    doc: "How many record sets that are live may be changed because the configuration changed; more wait for a person. A run changes what its plan names.",
    fields: &[
        default("share", SHARE, Default::Percent(defaults::DNS_VELOCITY_SHARE), "Of those that are live."),
        default(
            "at_least",
            Kind::Integer { min: 0, max: 1_000_000 },
            Default::Integer(defaults::DNS_VELOCITY_AT_LEAST),
            "So many in any case.",
        ),
        default("window", POSITIVE, Default::Span(defaults::DNS_VELOCITY_WINDOW), "Within this time."),
    ],
};

pub(crate) static SERVER: Shape = Shape {
    name: "dns server",
    doc: "A server that answers for the zone.",
    fields: &[
        required("name", Kind::Text(Rule::Name), "Its name in reports."),
        required("query", Kind::Socket { loopback: false }, "Where it answers queries."),
    ],
};

pub(crate) static KEY: Shape = Shape {
    name: "tsig key",
    doc: "A key that the primary knows and lets update the zone.",
    fields: &[
        required(
            "name",
            Kind::Text(Rule::HostName),
            "Its name, without the final dot, as the primary knows it.",
        ),
        default(
            "algorithm",
            Kind::Choice(&["hmac-sha256", "hmac-sha384", "hmac-sha512"]),
            Default::Text("hmac-sha256"),
            "Its algorithm.",
        ),
        required("secret_file", FILE, "File with the secret in base64; it is read again for every change."),
    ],
};

pub(crate) static NAMESERVER: Shape = Shape {
    name: "nameserver",
    doc: "A name server of the zone.",
    fields: &[
        required("name", Kind::Text(Rule::HostName), "Its host name."),
        required("address", Kind::Ip, "Its address, published as glue."),
    ],
};

pub(crate) static INSTANCE: Shape = Shape {
    name: "dns instance",
    doc: "A running DNS server of drover's own.",
    fields: &[
        required("name", Kind::Text(Rule::Name), "Its name in reports."),
        required("control", Kind::Socket { loopback: true }, "Where changes are sent: a loopback address."),
        required("query", Kind::Socket { loopback: false }, "Where it answers queries."),
    ],
};

pub(crate) static VANTAGE: Shape = Shape {
    name: "vantage",
    doc: "What is expected of a vantage point.",
    fields: &[
        default(
            "references",
            Kind::List { item: &Kind::Socket { loopback: false }, min: 0, max: 16 },
            Default::Nothing,
            "Independent TCP addresses by which an agent checks that it sees anything at all.",
        ),
        default(
            "reference_interval",
            RECURRING,
            Default::Span(defaults::REFERENCE_INTERVAL),
            "How often the references are tried.",
        ),
        default(
            "report_interval",
            RECURRING,
            Default::Span(defaults::REPORT_INTERVAL),
            "How often an agent reports.",
        ),
        default(
            "silent_after",
            POSITIVE,
            Default::Span(defaults::SILENT_AFTER),
            "No report for this long: silent. At least twice `report_interval`.",
        ),
        default(
            "max_clock_skew",
            POSITIVE,
            Default::Span(defaults::MAX_CLOCK_SKEW),
            "Clocks further apart than this: observations go to history only.",
        ),
        default(
            "common_cause_share",
            SHARE,
            Default::Percent(defaults::COMMON_CAUSE_SHARE),
            "Share of serving regions failing at once above which the observer is suspected.",
        ),
        default(
            "common_cause_window",
            POSITIVE,
            Default::Span(defaults::COMMON_CAUSE_WINDOW),
            "What counts as at once.",
        ),
    ],
};

pub(crate) static PAGING: Shape = Shape {
    name: "paging",
    doc: "Who is told.",
    fields: &[
        optional(
            "on_page",
            Kind::List { item: &Kind::Text(Rule::Any), min: 1, max: 64 },
            "A program and its arguments; it gets the page as JSON on its standard input.",
        ),
        optional("webhook", Kind::Object(&WEBHOOK), "Where signed pages are posted."),
    ],
};

pub(crate) static WEBHOOK: Shape = Shape {
    name: "webhook",
    doc: "Where signed pages are posted.",
    fields: &[
        required("url", Kind::Text(Rule::Url), "Its address."),
        required("secret_file", FILE, "File with the key for the HMAC-SHA-256 signature."),
    ],
};

pub(crate) static STORE: Shape = Shape {
    name: "store",
    doc: "Where the records are kept: journal, targets, runs and the audit.",
    fields: &[required("etcd", Kind::Object(&ETCD), "A cluster of etcd.")],
};

pub(crate) static ETCD: Shape = Shape {
    name: "etcd",
    doc: "Records in an etcd cluster, which goes on while a majority of its members does.",
    fields: &[
        required(
            "endpoints",
            Kind::List { item: &Kind::Text(Rule::Url), min: 1, max: 16 },
            "Client URLs of its members, one each.",
        ),
        default(
            "prefix",
            Kind::Text(Rule::Any),
            Default::Text(defaults::ETCD_PREFIX),
            "What stands before every key of this installation; another one for each that shares the cluster.",
        ),
        default(
            "keep_history",
            Kind::Span { min: Span::from_mins(10), max: Span::from_hours(24 * 30) },
            Default::Span(defaults::ETCD_KEEP_HISTORY),
            "How long values that were replaced are kept, for whoever watches and was away. The cluster's history is one: others in it lose theirs, too.",
        ),
        default(
            "leader_lost_after",
            Kind::Span { min: Span::from_secs(1), max: Span::from_mins(1) },
            Default::Span(defaults::LEADER_LOST_AFTER),
            "A leading coordinator that was not heard for this long is lost, and another one takes over. The same for all coordinators; it makes itself heard six times in it.",
        ),
    ],
};

pub(crate) static RETENTION: Shape = Shape {
    name: "retention",
    doc: "How long things are kept; runs and the audit are kept for ever.",
    fields: &[
        default("observations", POSITIVE, Default::Span(defaults::KEEP_OBSERVATIONS), "Raw probe results."),
        default(
            "transitions",
            POSITIVE,
            Default::Span(defaults::KEEP_TRANSITIONS),
            "Changes of opinion and verdict.",
        ),
        default(
            "store_alarm_bytes",
            Kind::Integer { min: 1 << 20, max: 1 << 50 },
            Default::Integer(defaults::STORE_ALARM_BYTES),
            "Size of the store and the history together, in bytes, from which an alarm is raised.",
        ),
    ],
};
