//! The values that hold where a file says nothing, each with its reason.

use crate::time::Span;
use crate::units::Percent;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Services that nobody ranked move after those that somebody did.
pub const SERVICE_PRIORITY: u64 = 100;

/// All endpoints share the traffic unless some are set back.
pub const ENDPOINT_PRIORITY: u64 = 1;

/// TTL of records that no traffic moves.
pub const FIXED_TTL: Span = Span::from_hours(1);

/// Resolvers let go of a dead region within half a minute, and a query every 30 s a cache is no load to speak of.
pub const TTL: Span = Span::from_secs(30);

/// What it shrinks to while a failover seems near: what gdnsd takes, too, and no server minds.
pub const TTL_FLOOR: Span = Span::from_secs(20);

/// The path that most services answer already.
pub const HEALTH_PATH: &str = "/health";

/// Three failures, the default threshold, take 90 s at most; four agents cost an endpoint 8 requests a minute.
pub const PROBE_INTERVAL: Span = Span::from_secs(30);

/// Longer than any answer that a user would wait for, short enough for six tries in an interval.
pub const PROBE_TIMEOUT: Span = Span::from_secs(5);

/// Longer than a DNS server on another continent takes for anything.
pub const DNS_TIMEOUT: Span = Span::from_secs(5);

/// Only a plain "OK" is good: a redirect or an empty answer from a health endpoint means something else answered.
pub const HEALTH_STATUS: &[u64] = &[200];

/// What Route 53 takes from one account, whatever is asked.
pub const ROUTE53_REQUESTS_PER_SECOND: u64 = 5;

/// Changes "generally" reach all servers of Route 53 within 60 s (its developer guide). An attempt of a step that publishes has
/// 60 s, and the step five: this is for one, and leaves it time to say what it waited for.
pub const ROUTE53_IN_SYNC_WITHIN: Span = Span::from_secs(50);

/// The faster of the two intervals that Route 53's checkers have: a failover should not wait for half a minute.
pub const ROUTE53_CHECK_INTERVAL: Span = Span::from_secs(10);

/// A declaration is made on purpose and does not flap; a second look costs ten seconds of every failover.
pub const ROUTE53_CHECK_THRESHOLD: u64 = 1;

/// OctoDNS refuses a plan that changes more than 30 % of a zone, unless it has fewer than ten records (`MAX_SAFE_UPDATE_PCENT`,
/// `MIN_EXISTING_RECORDS`).
pub const DNS_VELOCITY_SHARE: Percent = Percent::whole(30);

/// As there.
pub const DNS_VELOCITY_AT_LEAST: u64 = 10;

/// Two edits of a configuration that belong together are made within this time.
pub const DNS_VELOCITY_WINDOW: Span = Span::from_mins(10);

/// Whoever mends by hand at night is done within this time.
pub const DNS_DRIFT_HOLD: Span = Span::from_mins(15);

/// Two weeks are time enough to renew a certificate by hand.
pub const EXPIRY_WARNING: Span = Span::from_hours(14 * 24);

/// What the user wants at night. I6, I7 and I8 still bound it.
pub const AUTOMATIC: bool = true;

/// Who is well is decided in one place.
pub const EVALUATE_TARGET_HEALTH: bool = false;

/// One lost packet is nothing and two may be chance.
pub const FAILURE_THRESHOLD: u64 = 3;

/// Ten probes at the default interval: room for a late report, too short to add up the failures of a whole morning.
pub const FAILURE_WINDOW: Span = Span::from_mins(5);

/// Every second request failing is an outage, even if no three failures come in a row.
pub const GRAY_FAILURE_SHARE: Percent = Percent::whole(50);

/// Six probes: with fewer a share of one half says little (three of six by chance of a coin is one in three).
pub const GRAY_MIN_SAMPLES: u64 = 6;

/// Slower back than out: ten good probes, five minutes, so that a flapping region stays out.
pub const RECOVERY_THRESHOLD: u64 = 10;

/// Two regions failing at once is more often a mistake of ours than of theirs.
pub const MAX_UNAVAILABLE_REGIONS: u64 = 1;

/// Time for a person to look before the same thing is done again by itself.
pub const BLOCK_PERIOD: Span = Span::from_hours(1);

/// One per cent shows a broken region at the cost of few users; then roughly by five.
pub const RAMP: &[Percent] =
    &[Percent::whole(1), Percent::whole(5), Percent::whole(25), Percent::whole(50), Percent::whole(100)];

/// What comes back at night without anybody looking may go again the same way: offering it costs nothing.
pub const FAILBACK_AUTOMATIC: bool = false;

/// Three times what ten good probes take: long enough for a crash loop or a cold cache to show itself, short enough that
/// the other regions do not carry more than their share through the next peak.
pub const STABLE_HOLD: Span = Span::from_mins(15);

/// Ten TTLs at each share: caches have followed, and slow leaks begin to show.
pub const SOAK: Span = Span::from_mins(5);

/// Weights by DNS hold on average only; a tenth absorbs the unevenness.
pub const HEADROOM: Percent = Percent::whole(10);

/// A question unanswered for a quarter of an hour is about a world that no longer exists.
pub const APPROVAL_EXPIRES: Span = Span::from_mins(15);

/// Whoever is awake may act. Who wants four eyes says so, and has two people on call.
pub const APPROVALS: u64 = 1;

/// Connections to the API that one machine may have at once: an agent needs two, a follower one for each command that it hands on
/// at the same moment. Eight machines that went wrong together still fill the port.
pub const CONNECTIONS_PER_MACHINE: u64 = 64;

/// Where Prometheus looks too.
pub const METRICS_PATH: &str = "/metrics";

/// The name that Prometheus' own guide gives to a request counter.
pub const REQUESTS_METRIC: &str = "http_requests_total";

/// The usual label for it.
pub const STATUS_LABEL: &str = "status";

/// The name that Prometheus' own guide gives to a latency histogram.
pub const LATENCY_METRIC: &str = "http_request_duration_seconds";

/// Prometheus' usual rhythm: eight readings in a validation window.
pub const METRICS_INTERVAL: Span = Span::from_secs(15);

/// A scripted request asks nothing of the service's state.
pub const APP_CHECK_METHOD: &str = "GET";

/// Success.
pub const APP_CHECK_STATUS: u64 = 200;

/// As for a probe.
pub const APP_CHECK_TIMEOUT: Span = Span::from_secs(5);

/// Four TTLs: most caches have asked again, so the numbers are of the new state.
pub const VALIDATION_WINDOW: Span = Span::from_mins(2);

/// Among 100 requests an error rate of 5 % is five errors: enough to tell from one.
pub const VALIDATION_MIN_SAMPLES: u64 = 100;

/// Above what retries hide from users.
pub const MAX_ERROR_RATE: Percent = Percent::whole(5);

/// Users leave after it.
pub const MAX_LATENCY_P95: Span = Span::from_secs(2);

/// One failed probe in a hundred is noise.
pub const MIN_AVAILABILITY: Percent = Percent::whole(99);

/// What a critical service is commonly promised; the demo's failover takes a few minutes of it.
pub const RTO: Span = Span::from_mins(30);

/// Hourly copies are the coarsest protection that still deserves the name.
pub const RPO: Span = Span::from_hours(1);

/// Loopback, in plain text: beyond it the API wants certificates, which are one machine's and no configuration.
pub const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7400);

/// Blindness is noticed within one probe interval.
pub const REFERENCE_INTERVAL: Span = Span::from_secs(10);

/// Detection is not delayed by more than a second; an idle report is a few hundred bytes.
pub const REPORT_INTERVAL: Span = Span::from_secs(1);

/// Three probe intervals: longer than a restart of the agent.
pub const SILENT_AFTER: Span = Span::from_secs(90);

/// NTP keeps within milliseconds; ten seconds apart a clock is broken, yet windows of minutes still hold.
pub const MAX_CLOCK_SKEW: Span = Span::from_secs(10);

/// More than half of all regions at once: the observer is the likelier fault (I6).
pub const COMMON_CAUSE_SHARE: Percent = Percent::whole(50);

/// As long as the failure window, so that regions failing one after the other count together.
pub const COMMON_CAUSE_WINDOW: Span = Span::from_mins(5);

/// Two days of raw probes: a weekend's question can be answered on Monday morning.
pub const KEEP_OBSERVATIONS: Span = Span::from_hours(48);

/// A quarter, as a review of incidents looks back.
pub const KEEP_TRANSITIONS: Span = Span::from_hours(90 * 24);

/// 4 GiB: far above what the retention above needs, far below what fills a small disk.
pub const STORE_ALARM_BYTES: u64 = 4 << 30;

/// One installation a cluster is what most have.
pub const ETCD_PREFIX: &str = "/drover";

/// A watch is away for seconds. A day is what a person wants who looks up what a record was yesterday.
pub const ETCD_KEEP_HISTORY: Span = Span::from_hours(24);
/// A leader that was not heard for this long is lost. etcd needs up to 2 s to choose a new leader of its own, in which nobody can
/// write: shorter than that and every such election changed drover's leader, too.
pub const LEADER_LOST_AFTER: Span = Span::from_secs(3);

/// Three tries ride out one restart of whatever answers.
pub const STEP_ATTEMPTS: u64 = 3;

/// Doubled each time: 1 s, 2 s, 4 s.
pub const STEP_BACKOFF: Span = Span::from_secs(1);

/// Reading live facts, asking DNS, or sending a page takes milliseconds; half a minute means that it hangs.
pub const STEP_TIMEOUT: Span = Span::from_secs(30);

/// A change at a DNS provider may take up to a minute to be in sync.
pub const SHIFT_TIMEOUT: Span = Span::from_secs(60);

/// Beside the time that a wait or a validation takes by design.
pub const WAIT_TIMEOUT: Span = Span::from_mins(2);

/// A person needs time to read; after that the answer is no.
pub const APPROVE_TIMEOUT: Span = Span::from_mins(15);

/// Traffic of a region that was left must have stayed below its threshold for this long: twice the scrape interval that is most common.
pub const DRAINED_HOLD: Span = Span::from_secs(30);

/// Traffic that stays is measured for this long past the time that caches have; then the run ends and says so.
pub const DRAINED_TIMEOUT: Span = Span::from_mins(2);
