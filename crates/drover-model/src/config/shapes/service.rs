//! `kind: Service`.

use super::{
    ANY_SHARE, Default, FILE, FROM_ZERO, Kind, POSITIVE, RECURRING, Rule, SHARE, Shape, default, optional,
    required,
};
use crate::approvals::APPROVALS_MAX;
use crate::config::{ANSWERS_MAX, Answers, defaults};
use crate::time::Span;
use crate::units::Percent;

/// Endpoints that a service may have: what fits a DNS answer many times over.
pub(crate) const ENDPOINTS_MAX: usize = 100;

/// Shares in a ramp: each takes five steps of the shipped runbook, and a plan has 64 at most.
pub(crate) const RAMP_MAX: usize = 12;

/// Shortest TTL: what DNS can say. Zero would have every request ask.
pub(crate) const TTL_MIN: Span = Span::from_secs(1);

/// Longest TTL: with a day no failover by DNS is worth its name.
pub(crate) const TTL_MAX: Span = Span::from_hours(24);

pub(crate) static SERVICE: Shape = Shape {
    name: "Service",
    doc: "What users call: a DNS name served from several regions.",
    fields: &[
        required("kind", Kind::Choice(&["Service"]), "Says what this document is."),
        required("name", Kind::Text(Rule::Name), "Its name: a-z, 0-9 and inner hyphens."),
        default(
            "priority",
            Kind::Integer { min: 1, max: 1_000 },
            Default::Integer(defaults::SERVICE_PRIORITY),
            "1 is moved first.",
        ),
        required("dns", Kind::Object(&SERVICE_DNS), "How it is published."),
        required(
            "endpoints",
            Kind::List { item: &Kind::Object(&ENDPOINT), min: 1, max: ENDPOINTS_MAX },
            "Where it runs, one for each region.",
        ),
        default("health_check", Kind::Variants(CHECKS), Default::Object, "What is probed."),
        default("failover", Kind::Object(&FAILOVER), Default::Object, "When it may be moved."),
        optional(
            "metrics",
            Kind::Object(&METRICS),
            "Its own numbers; without them validation is inconclusive and holds.",
        ),
        optional(
            "traffic",
            Kind::Variants(TRAFFIC),
            "What still reaches a region that was left; without it a region counts as drained by the time that has passed.",
        ),
        optional("peak_load", Kind::Rate, "Declared peak load, used where no measured load is fresh."),
        default(
            "app_checks",
            Kind::List { item: &Kind::Object(&APP_CHECK), min: 0, max: 32 },
            Default::Nothing,
            "Scripted requests with expected answers.",
        ),
        default("validation", Kind::Object(&VALIDATION), Default::Object, "What counts as recovered."),
        default("objectives", Kind::Object(&OBJECTIVES), Default::Object, "What was promised."),
    ],
};

pub(crate) static SERVICE_DNS: Shape = Shape {
    name: "dns",
    doc: "How a service is published.",
    fields: &[
        required("name", Kind::Text(Rule::HostName), "Fully qualified name, without the final dot."),
        default(
            "type",
            Kind::Choice(&["A", "AAAA", "CNAME"]),
            Default::Text("A"),
            "Record type: A, AAAA or CNAME.",
        ),
        default(
            "ttl",
            Kind::Span { min: TTL_MIN, max: TTL_MAX },
            Default::Span(defaults::TTL),
            "TTL of its answers.",
        ),
        default(
            "answers",
            Kind::ChoiceOrInteger { words: &Answers::WORDS, min: 1, max: ANSWERS_MAX as u64 },
            Default::Text("one"),
            "With how many of the values that have weight it is answered: one, all, or so many. With more than one every region that has weight gets an equal share.",
        ),
        default(
            "draws",
            Kind::Choice(&["anew", "stable", "nearest"]),
            Default::Text("anew"),
            "Which values a client gets: drawn anew for each question, the same ones for its network as long as the weights stay, or the nearest by `geography` of the zone.",
        ),
    ],
};

pub(crate) static ENDPOINT: Shape = Shape {
    name: "endpoint",
    doc: "A service in one region.",
    fields: &[
        required("region", Kind::Text(Rule::Name), "The region."),
        required(
            "address",
            Kind::Text(Rule::Any),
            "What DNS answers: an IP address, or a host name for CNAME and for the target of an `alias`.",
        ),
        optional(
            "alias",
            Kind::Object(&ALIAS),
            "In Route 53: `address` is the host name of an alias record's target, such as a load balancer.",
        ),
        required(
            "port",
            Kind::Integer { min: 1, max: 65_535 },
            "The port that is probed and that clients use.",
        ),
        optional(
            "weight",
            Kind::Integer { min: 0, max: 255 },
            "Its share; absent means an equal share of what the others leave of 100.",
        ),
        default(
            "priority",
            Kind::Integer { min: 0, max: 255 },
            Default::Integer(defaults::ENDPOINT_PRIORITY),
            "The lowest priority with a usable endpoint carries the traffic.",
        ),
        required("capacity", Kind::Rate, "What it can serve, such as 900rps."),
    ],
};

pub(crate) static ALIAS: Shape = Shape {
    name: "alias",
    doc: "What makes an endpoint's host name the target of an alias record of Route 53.",
    fields: &[
        required(
            "hosted_zone",
            Kind::Text(Rule::Any),
            "The hosted zone that the target belongs to: a load balancer shows its own.",
        ),
        default(
            "evaluate_target_health",
            Kind::Boolean,
            Default::Boolean(defaults::EVALUATE_TARGET_HEALTH),
            "Route 53 leaves the region out by itself while it finds the target unhealthy.",
        ),
    ],
};

pub(crate) static CHECKS: &[&Shape] = &[&HTTP_CHECK, &HTTPS_CHECK, &TCP_CHECK];

macro_rules! check {
    ($name:ident, $title:literal, $doc:literal, $kind:expr, [$($own:expr),* $(,)?]) => {
        pub(crate) static $name: Shape = Shape {
            name: $title,
            doc: $doc,
            fields: &[
                $kind,
                default("interval", RECURRING, Default::Span(defaults::PROBE_INTERVAL), "How often each vantage probes."),
                default(
                    "timeout",
                    RECURRING,
                    Default::Span(defaults::PROBE_TIMEOUT),
                    "For the whole exchange; at most the interval.",
                ),
                optional("max_latency", POSITIVE, "Slower than this is a failure of its own kind."),
                $($own,)*
            ],
        };
    };
}

const PATH: super::Field =
    default("path", Kind::Text(Rule::Target), Default::Text(defaults::HEALTH_PATH), "Request target.");
const EXPECT_STATUS: super::Field = default(
    "expect_status",
    Kind::List { item: &Kind::Integer { min: 100, max: 599 }, min: 1, max: 32 },
    Default::Integers(defaults::HEALTH_STATUS),
    "Statuses that count as good.",
);
const EXPECT_BODY: super::Field =
    optional("expect_body", Kind::Text(Rule::Any), "Text that the first 64 KiB of the body must hold.");
const HOST: super::Field =
    optional("host", Kind::Text(Rule::Host), "`Host` header instead of the service's DNS name.");
const SECRET_HEADER: super::Field =
    optional("secret_header", Kind::Object(&SECRET), "A header whose value is read from a file.");

check!(
    HTTP_CHECK,
    "http check",
    "An HTTP health check.",
    default("kind", Kind::Choice(&["http"]), Default::Text("http"), "http, https or tcp."),
    [PATH, EXPECT_STATUS, EXPECT_BODY, HOST, SECRET_HEADER]
);
check!(
    HTTPS_CHECK,
    "https check",
    "An HTTPS health check.",
    required("kind", Kind::Choice(&["https"]), "http, https or tcp."),
    [
        PATH,
        EXPECT_STATUS,
        EXPECT_BODY,
        HOST,
        SECRET_HEADER,
        optional(
            "sni",
            Kind::Text(Rule::HostName),
            "Server name to ask for and to check; the host otherwise."
        ),
        optional("ca_file", FILE, "PEM bundle to trust instead of the system's roots."),
        optional("client_certificate_file", FILE, "PEM certificate chain to present."),
        optional("client_key_file", FILE, "PEM key for it."),
        default(
            "expiry_warning",
            FROM_ZERO,
            Default::Span(defaults::EXPIRY_WARNING),
            "Warn when the server's certificate ends sooner than this.",
        ),
    ]
);
check!(
    TCP_CHECK,
    "tcp check",
    "A TCP health check: a connection that is accepted is good.",
    required("kind", Kind::Choice(&["tcp"]), "http, https or tcp."),
    []
);

pub(crate) static SECRET: Shape = Shape {
    name: "secret_header",
    doc: "A header whose value is read from a file, so that the secret is not in the configuration.",
    fields: &[
        required("name", Kind::Text(Rule::Token), "Name of the header."),
        required("file", FILE, "File with its value."),
    ],
};

pub(crate) static FAILOVER: Shape = Shape {
    name: "failover",
    doc: "When a service may be moved, by whom, and how far.",
    fields: &[
        default(
            "automatic",
            Kind::Boolean,
            Default::Boolean(defaults::AUTOMATIC),
            "May drover act by itself? Otherwise it asks.",
        ),
        default(
            "failure_threshold",
            Kind::Integer { min: 1, max: 1_000 },
            Default::Integer(defaults::FAILURE_THRESHOLD),
            "Consecutive failures that make a vantage's opinion failing.",
        ),
        default(
            "failure_window",
            POSITIVE,
            Default::Span(defaults::FAILURE_WINDOW),
            "They must lie inside this window; at least `failure_threshold` probe intervals.",
        ),
        default(
            "gray_failure_share",
            SHARE,
            Default::Percent(defaults::GRAY_FAILURE_SHARE),
            "Failing share over the window that counts without a streak.",
        ),
        default(
            "gray_min_samples",
            Kind::Integer { min: 1, max: 100_000 },
            Default::Integer(defaults::GRAY_MIN_SAMPLES),
            "Probes needed before that share counts.",
        ),
        default(
            "recovery_threshold",
            Kind::Integer { min: 1, max: 1_000 },
            Default::Integer(defaults::RECOVERY_THRESHOLD),
            "Consecutive successes that end a failing opinion.",
        ),
        optional(
            "quorum",
            Kind::Integer { min: 1, max: 1_000 },
            "Outside vantages that must agree; never below max(2, n/2+1) of n, which is used when absent.",
        ),
        default(
            "max_unavailable_regions",
            Kind::Integer { min: 0, max: 100 },
            Default::Derived,
            "Regions that may be out at once by automatic action: 1, or 0 for a service with a single endpoint.",
        ),
        default(
            "block_period",
            POSITIVE,
            Default::Span(defaults::BLOCK_PERIOD),
            "No second automatic failover of the same failure class for this long.",
        ),
        default(
            "ramp",
            Kind::List { item: &SHARE, min: 1, max: RAMP_MAX },
            Default::Percents(defaults::RAMP),
            "Shares of a returning region, rising, ending at 100%.",
        ),
        default("soak", FROM_ZERO, Default::Span(defaults::SOAK), "Hold at each share of the ramp."),
        default(
            "headroom",
            Kind::Percent { min: Percent::ZERO, max: Percent::from_basis_points(9_999) },
            Default::Percent(defaults::HEADROOM),
            "Capacity that must stay free in every region that takes traffic.",
        ),
        default(
            "jurisdictions",
            Kind::List { item: &Kind::Text(Rule::Any), min: 0, max: 32 },
            Default::Nothing,
            "Where traffic may go; empty means anywhere.",
        ),
        default(
            "approval_expires",
            POSITIVE,
            Default::Span(defaults::APPROVAL_EXPIRES),
            "An unanswered question expires after this long, never as consent.",
        ),
        default(
            "approvals",
            Kind::Integer { min: 1, max: APPROVALS_MAX as u64 },
            Default::Integer(defaults::APPROVALS),
            "People who must agree to a plan; of 2 and more each shows a token, and who began it is one of them.",
        ),
        default(
            "failback",
            Kind::Object(&FAILBACK),
            Default::Object,
            "When a region that was left comes back.",
        ),
    ],
};

pub(crate) static FAILBACK: Shape = Shape {
    name: "failback",
    doc: "When a region that was left may come back, and who begins it.",
    fields: &[
        default(
            "automatic",
            Kind::Boolean,
            Default::Boolean(defaults::FAILBACK_AUTOMATIC),
            "May drover begin it by itself, where it was drover that left? Otherwise it offers it.",
        ),
        default(
            "stable_hold",
            FROM_ZERO,
            Default::Span(defaults::STABLE_HOLD),
            "Healthy, with the service's weights untouched, for this long before that.",
        ),
    ],
};

pub(crate) static METRICS: Shape = Shape {
    name: "metrics",
    doc: "How the service's own numbers are read.",
    fields: &[
        default(
            "path",
            Kind::Text(Rule::Target),
            Default::Text(defaults::METRICS_PATH),
            "Path of the Prometheus text on each endpoint's port.",
        ),
        default(
            "requests_metric",
            Kind::Text(Rule::Metric),
            Default::Text(defaults::REQUESTS_METRIC),
            "Counter of requests.",
        ),
        default(
            "status_label",
            Kind::Text(Rule::Metric),
            Default::Text(defaults::STATUS_LABEL),
            "Its label that holds the HTTP status.",
        ),
        default(
            "latency_metric",
            Kind::Text(Rule::Metric),
            Default::Text(defaults::LATENCY_METRIC),
            "Histogram of latency in seconds.",
        ),
        default("interval", RECURRING, Default::Span(defaults::METRICS_INTERVAL), "How often to read it."),
    ],
};

/// How traffic that stays is measured.
pub(crate) static TRAFFIC: &[&Shape] = &[&CONNECTIONS, &ACCESS_LOG, &PROMETHEUS];

macro_rules! traffic {
    ($name:ident, $shape:literal, $word:literal, $doc:literal, $below:expr, [$($own:expr),*]) => {
        static $name: Shape = Shape {
            name: $shape,
            doc: $doc,
            fields: &[
                required("kind", Kind::Choice(&[$word]), "Says where the number comes from."),
                $($own,)*
                $below,
                default(
                    "hold",
                    FROM_ZERO,
                    Default::Span(defaults::DRAINED_HOLD),
                    "It must have stayed below for this long.",
                ),
            ],
        };
    };
}

const BELOW_RATE: super::Field =
    required("drained_below", Kind::Rate, "The region is drained below this; health checks count, too.");

traffic!(
    CONNECTIONS,
    "connections",
    "connections",
    "Established TCP connections to the endpoint's port, counted by the region's agents.",
    required(
        "drained_below",
        Kind::Integer { min: 1, max: 1_000_000 },
        "The region is drained below so many connections."
    ),
    []
);
traffic!(
    ACCESS_LOG,
    "access log",
    "access_log",
    "Lines that are appended to a file, counted by the region's agents.",
    BELOW_RATE,
    [required("path", FILE, "The file, where the agent runs. It may be rotated.")]
);
traffic!(
    PROMETHEUS,
    "prometheus",
    "prometheus",
    "A query to a Prometheus server.",
    BELOW_RATE,
    [
        required("url", Kind::Text(Rule::Url), "The server."),
        required(
            "query",
            Kind::Text(Rule::Any),
            "In requests a second; `{region}` and `{service}` stand for the endpoint's."
        )
    ]
);

pub(crate) static APP_CHECK: Shape = Shape {
    name: "app check",
    doc: "A scripted request with an expected answer.",
    fields: &[
        required("name", Kind::Text(Rule::Name), "Name for reports."),
        default(
            "method",
            Kind::Choice(&["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
            Default::Text(defaults::APP_CHECK_METHOD),
            "HTTP method.",
        ),
        required("path", Kind::Text(Rule::Target), "Request target."),
        optional("body", Kind::Text(Rule::Any), "Body to send."),
        default(
            "expect_status",
            Kind::Integer { min: 100, max: 599 },
            Default::Integer(defaults::APP_CHECK_STATUS),
            "Status that must come back.",
        ),
        optional("expect_body", Kind::Text(Rule::Any), "Text that the answer must hold."),
        default("timeout", RECURRING, Default::Span(defaults::APP_CHECK_TIMEOUT), "For the whole exchange."),
    ],
};

pub(crate) static VALIDATION: Shape = Shape {
    name: "validation",
    doc: "What counts as recovered.",
    fields: &[
        default("window", POSITIVE, Default::Span(defaults::VALIDATION_WINDOW), "How long to watch."),
        default(
            "min_samples",
            Kind::Integer { min: 1, max: 1_000_000_000 },
            Default::Integer(defaults::VALIDATION_MIN_SAMPLES),
            "Fewer client requests are inconclusive.",
        ),
        default("max_error_rate", ANY_SHARE, Default::Percent(defaults::MAX_ERROR_RATE), "Fails above."),
        default("max_latency_p95", POSITIVE, Default::Span(defaults::MAX_LATENCY_P95), "Fails above."),
        default("min_availability", ANY_SHARE, Default::Percent(defaults::MIN_AVAILABILITY), "Fails below."),
    ],
};

pub(crate) static OBJECTIVES: Shape = Shape {
    name: "objectives",
    doc: "What was promised.",
    fields: &[
        default("rto", POSITIVE, Default::Span(defaults::RTO), "Objective for the time to recover."),
        default("rpo", FROM_ZERO, Default::Span(defaults::RPO), "Objective for the data that may be lost."),
    ],
};
