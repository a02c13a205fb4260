//! What the instance counts, and the text in which Prometheus reads it.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::answer::Response;
use crate::publish::{PublishError, Published, Taken, WhyRefused};
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
    not_signed: AtomicU64,
    /// When somebody else than a peer was at the control listener.
    pub(super) coordinator: Contact,
    /// In the order of the configuration.
    pub(super) peers: Vec<PeerCounters>,
}

/// When somebody was heard last; never yet, at first.
#[derive(Debug, Default)]
pub(super) struct Contact(Mutex<Option<Instant>>);

impl Contact {
    pub(super) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn age_seconds(&self) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map(|at| at.elapsed().as_secs())
    }
}

/// What came of asking one peer.
#[derive(Debug, Default)]
pub(super) struct PeerCounters {
    name: String,
    pub(super) answered: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) contact: Contact,
    taken: AtomicU64,
    not_signed: AtomicU64,
    backwards: AtomicU64,
    other_incarnation: AtomicU64,
    older_epoch: AtomicU64,
    invalid: AtomicU64,
}

impl PeerCounters {
    pub(super) fn has_answered(&self) -> bool {
        read(&self.answered) > 0
    }

    pub(super) fn took(&self, all: &Taken) {
        add(&self.taken, all.taken);
        add(&self.invalid, all.unreadable);
        for refused in &all.refused {
            increment(match refused.why {
                WhyRefused::NotSigned(_) => &self.not_signed,
                WhyRefused::Backwards { .. } | WhyRefused::MayBeRemoved { .. } => &self.backwards,
                WhyRefused::OtherIncarnation { .. } => &self.other_incarnation,
                WhyRefused::OlderEpoch { .. } => &self.older_epoch,
                WhyRefused::Invalid(_) => &self.invalid,
            });
        }
    }

    /// Name of the family, the label beside the peer's, and the number.
    fn samples(&self) -> [(&'static str, &'static str, u64); 8] {
        let (rounds, sets) = ("drover_dns_peer_rounds_total", "drover_dns_peer_record_sets_total");
        [
            (rounds, "answered", read(&self.answered)),
            (rounds, "failed", read(&self.failed)),
            (sets, "taken", read(&self.taken)),
            (sets, "not_signed", read(&self.not_signed)),
            (sets, "backwards", read(&self.backwards)),
            (sets, "other_incarnation", read(&self.other_incarnation)),
            (sets, "older_epoch", read(&self.older_epoch)),
            (sets, "invalid", read(&self.invalid)),
        ]
    }
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
    /// With these peers.
    pub(super) fn of_peers(names: impl Iterator<Item = String>) -> Self {
        let peers = names.map(|name| PeerCounters { name, ..PeerCounters::default() }).collect();
        Self { peers, ..Self::default() }
    }

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
            Err(PublishError::NotSigned(_)) => &self.not_signed,
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
    pub fn prometheus(&self, snapshot: &Snapshot, contested: usize) -> String {
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
        for (name, kind, help, value) in self.single_values(snapshot, contested) {
            family(name, kind, help, &[("", value)]);
        }
        let outcomes = [
            ("{outcome=\"changed\"}", read(&self.published)),
            ("{outcome=\"unchanged\"}", read(&self.unchanged)),
            ("{outcome=\"conflict\"}", read(&self.conflicts)),
            ("{outcome=\"fenced\"}", read(&self.fenced)),
            ("{outcome=\"not_signed\"}", read(&self.not_signed)),
            ("{outcome=\"refused\"}", read(&self.refused)),
            ("{outcome=\"write_error\"}", read(&self.write_errors)),
        ];
        family("drover_dns_publications_total", "counter", "Batches by outcome.", &outcomes);
        self.peers_prometheus(&mut text);
        text
    }

    /// What has a label for each peer, and when everybody was heard last.
    fn peers_prometheus(&self, text: &mut String) {
        let families = [
            ("drover_dns_peer_rounds_total", "How often each peer was asked, by outcome."),
            (
                "drover_dns_peer_record_sets_total",
                "Record sets that were taken from each peer, and those that were not, by why. Backwards: that peer is behind.",
            ),
        ];
        for (family, help) in families.into_iter().filter(|_| !self.peers.is_empty()) {
            let _ = writeln!(text, "# HELP {family} {help}\n# TYPE {family} counter");
            for peer in &self.peers {
                for (_, outcome, value) in peer.samples().into_iter().filter(|(of, ..)| *of == family) {
                    let _ =
                        writeln!(text, "{family}{{peer=\"{}\",outcome=\"{outcome}\"}} {value}", peer.name);
                }
            }
        }
        let family = "drover_dns_last_contact_seconds";
        let _ = writeln!(
            text,
            "# HELP {family} Since the coordinator, and each peer, was heard last.\n# TYPE {family} gauge"
        );
        if let Some(age) = self.coordinator.age_seconds() {
            let _ = writeln!(text, "{family}{{of=\"coordinator\"}} {age}");
        }
        for peer in &self.peers {
            if let Some(age) = peer.contact.age_seconds() {
                let _ = writeln!(text, "{family}{{of=\"peer\",peer=\"{}\"}} {age}", peer.name);
            }
        }
    }

    /// What has one value and no label: name, kind, help, value.
    fn single_values(
        &self,
        snapshot: &Snapshot,
        contested: usize,
    ) -> [(&'static str, &'static str, &'static str, u64); 11] {
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
            (
                "drover_dns_contested_record_sets",
                "gauge",
                "Record sets that were signed by a leader that had been deposed, and have nothing that could stand instead.",
                contested as u64,
            ),
        ]
    }
}
