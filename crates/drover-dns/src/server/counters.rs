//! What the instance counts, and the text in which Prometheus reads it.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::answer::Response;
use crate::publish::{PublishError, Published};
use crate::zone::Snapshot;

/// The result codes that are counted one by one, by number and name.
const RCODES: [(u16, &str); 7] = [
    (0, "NOERROR"),
    (1, "FORMERR"),
    (2, "SERVFAIL"),
    (3, "NXDOMAIN"),
    (4, "NOTIMP"),
    (5, "REFUSED"),
    (16, "BADVERS"),
];

/// Answers with one result code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RcodeCount {
    /// The code's name.
    pub rcode: &'static str,
    /// How many answers had it.
    pub answers: u64,
}

/// All counters of an instance. They start at 0 with the process and only grow, but for the gauge of
/// connections.
#[derive(Debug, Default)]
pub struct Counters {
    pub(super) queries_udp: AtomicU64,
    pub(super) queries_tcp: AtomicU64,
    by_rcode: [AtomicU64; RCODES.len()],
    truncated: AtomicU64,
    pub(super) unanswered: AtomicU64,
    pub(super) send_errors: AtomicU64,
    pub(super) rate_limited: AtomicU64,
    pub(super) sent_to_tcp: AtomicU64,
    pub(super) tcp_connections: AtomicU64,
    pub(super) tcp_connections_refused: AtomicU64,
    published: AtomicU64,
    unchanged: AtomicU64,
    conflicts: AtomicU64,
    fenced: AtomicU64,
    refused: AtomicU64,
    write_errors: AtomicU64,
}

pub(super) fn increment(counter: &AtomicU64) {
    add(counter, 1);
}

pub(super) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Counters {
    pub(super) fn answered(&self, response: &Response) {
        if let Some(index) = RCODES.iter().position(|(rcode, _)| *rcode == response.rcode) {
            increment(&self.by_rcode[index]);
        }
        if response.is_truncated {
            increment(&self.truncated);
        }
    }

    pub(super) fn published(&self, result: &Result<Published, PublishError>) {
        increment(match result {
            Ok(Published::Changed { .. }) => &self.published,
            Ok(Published::Unchanged { .. }) => &self.unchanged,
            Err(PublishError::Conflict(_)) => &self.conflicts,
            Err(PublishError::Fenced { .. }) => &self.fenced,
            Err(PublishError::NotWritten(_) | PublishError::NotDurable(_)) => &self.write_errors,
            Err(_) => &self.refused,
        });
    }

    /// Queries received, over both transports.
    #[must_use]
    pub fn queries(&self) -> u64 {
        read(&self.queries_udp) + read(&self.queries_tcp)
    }

    /// Answers by result code, all codes that an instance can give.
    #[must_use]
    pub fn by_rcode(&self) -> Vec<RcodeCount> {
        let names = RCODES.iter().zip(&self.by_rcode);
        names.map(|((_, rcode), answers)| RcodeCount { rcode, answers: read(answers) }).collect()
    }

    /// Answers that did not fit and said so.
    #[must_use]
    pub fn truncated(&self) -> u64 {
        read(&self.truncated)
    }

    /// Messages that deserved no answer.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        read(&self.unanswered)
    }

    /// DNS connections over TCP that were closed because there were too many.
    #[must_use]
    pub fn tcp_connections_refused(&self) -> u64 {
        read(&self.tcp_connections_refused)
    }

    /// All of it in Prometheus' text format.
    #[must_use]
    pub fn prometheus(&self, snapshot: &Snapshot) -> String {
        let mut text = String::with_capacity(4096);
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(&str, u64)]| {
            // Writing to a String can't fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let transports = [
            ("{transport=\"udp\"}", read(&self.queries_udp)),
            ("{transport=\"tcp\"}", read(&self.queries_tcp)),
        ];
        family("drover_dns_queries_total", "counter", "Messages received.", &transports);
        let rcodes: Vec<(String, u64)> = self
            .by_rcode()
            .into_iter()
            .map(|count| (format!("{{rcode=\"{}\"}}", count.rcode), count.answers))
            .collect();
        let rcodes: Vec<(&str, u64)> = rcodes.iter().map(|(label, value)| (label.as_str(), *value)).collect();
        family("drover_dns_answers_total", "counter", "Answers by result code.", &rcodes);
        for (name, kind, help, value) in self.single_values(snapshot) {
            family(name, kind, help, &[("", value)]);
        }
        let outcomes = [
            ("{outcome=\"changed\"}", read(&self.published)),
            ("{outcome=\"unchanged\"}", read(&self.unchanged)),
            ("{outcome=\"conflict\"}", read(&self.conflicts)),
            ("{outcome=\"fenced\"}", read(&self.fenced)),
            ("{outcome=\"refused\"}", read(&self.refused)),
            ("{outcome=\"write_error\"}", read(&self.write_errors)),
        ];
        family("drover_dns_publications_total", "counter", "Batches by outcome.", &outcomes);
        text
    }

    /// What has one value and no label: name, kind, help, value.
    fn single_values(&self, snapshot: &Snapshot) -> [(&'static str, &'static str, &'static str, u64); 10] {
        [
            ("drover_dns_truncated_total", "counter", "Answers that did not fit.", read(&self.truncated)),
            ("drover_dns_unanswered_total", "counter", "Messages without an answer.", read(&self.unanswered)),
            (
                "drover_dns_rate_limited_total",
                "counter",
                "Answers that a network was given too many of, and that were not sent.",
                read(&self.rate_limited),
            ),
            (
                "drover_dns_rate_limited_to_tcp_total",
                "counter",
                "Such answers that were sent empty, so that a real client comes over TCP.",
                read(&self.sent_to_tcp),
            ),
            (
                "drover_dns_send_errors_total",
                "counter",
                "Answers that were not sent.",
                read(&self.send_errors),
            ),
            ("drover_dns_tcp_connections", "gauge", "Open TCP connections.", read(&self.tcp_connections)),
            (
                "drover_dns_tcp_connections_refused_total",
                "counter",
                "TCP connections closed because there were too many.",
                read(&self.tcp_connections_refused),
            ),
            ("drover_dns_snapshot_generation", "gauge", "Generation that is served.", snapshot.generation()),
            (
                "drover_dns_record_sets",
                "gauge",
                "Record sets that are served.",
                snapshot.record_sets().len() as u64,
            ),
            (
                "drover_dns_short_ttls",
                "gauge",
                "Record sets that are given for less long while a failover seems near.",
                snapshot.short_times().len() as u64,
            ),
        ]
    }
}
