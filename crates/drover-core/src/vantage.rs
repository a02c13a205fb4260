//! The gate that every report passes before it may form an opinion.
//!
//! Two clocks are never compared for evidence: a probe's place in time is the coordinator's receive time less the age
//! that the agent measured on its own monotonic clock. The agent's wall clock is compared once a report, only to notice
//! that something is wrong with it; ours may have been set since the start, so it is wrong only when it fits neither the
//! old time nor the new one. Order comes from the boot number and the sequence, so that what was replayed,
//! duplicated or delayed by the network never enters a current window: at most it enters the history.

use drover_model::config::VantageSettings;
use drover_model::decision::VantageState;
use drover_model::probe::{Observation, REPORT_OBSERVATIONS_MAX, REPORT_SCHEMA, Report};
use drover_model::{EndpointKey, Span, Timestamp};

/// Longest boot id that is kept, in bytes: a UUID with its hyphens has 36.
pub const BOOT_BYTES_MAX: usize = 64;

/// When a report arrived, by both of the coordinator's clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// By the clock that windows are counted on: the wall clock at the start, carried on.
    pub at: Timestamp,
    /// By the wall clock as it is now; the same, unless that was set since the start.
    pub wall: Timestamp,
}

impl From<Timestamp> for Receipt {
    fn from(at: Timestamp) -> Self {
        Self { at, wall: at }
    }
}

/// Why an observation counts for history only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// Older than an opinion may be.
    TooOld {
        /// Its age when the report was sent.
        age: Span,
        /// The oldest that counts.
        bound: Span,
    },
    /// The agent's clock is too far from the coordinator's.
    Skewed,
    /// The agent reached nothing at all then: that says where the agent was, and nothing of the endpoint.
    Blind,
    /// No such endpoint is configured any more.
    NotConfigured,
}

/// Where an observation belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Into the opinion, as a probe begun then by the coordinator's time.
    Current {
        /// Never later than the report's receipt.
        began_at: Timestamp,
    },
    /// Into the history alone.
    HistoryOnly(Late),
    /// Nowhere: it was seen before.
    Replayed,
}

/// Why a whole report was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportRefused {
    /// From before the agent's present boot.
    #[error("report of boot {given} refused: boot {known} of this agent was heard already")]
    EarlierBoot {
        /// The report's.
        given: u64,
        /// The latest heard.
        known: u64,
    },
    /// Two processes speak as one agent: a clone, or a disk that was set back.
    #[error(
        "report of boot {number} refused: another boot id under that number was heard, so two agents use one name"
    )]
    TwoBoots {
        /// The number that both use.
        number: u64,
    },
    /// Longer than [`REPORT_OBSERVATIONS_MAX`].
    #[error("report of {given} observations refused: {REPORT_OBSERVATIONS_MAX} are allowed")]
    TooMany {
        /// How many it holds.
        given: usize,
    },
    /// Longer than [`BOOT_BYTES_MAX`].
    #[error("report refused: its boot id has {given} bytes, {BOOT_BYTES_MAX} are allowed")]
    BootTooLong {
        /// Its length in bytes.
        given: usize,
    },
    /// A format that this build does not read.
    #[error("report in format {given} refused: this build reads up to {REPORT_SCHEMA}")]
    UnknownFormat {
        /// The report's.
        given: u16,
    },
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingested {
    /// One placement for each observation, in their order.
    pub placements: Vec<Placement>,
    /// It told something new and the agent may speak: its opinions may seed.
    pub opinions_count: bool,
    /// Placed as current.
    pub accepted: u32,
    /// Placed in history.
    pub history_only: u32,
    /// Seen before.
    pub replayed: u32,
    /// Everything up to here need not be sent again.
    pub acknowledged_sequence: u64,
}

/// What is remembered of one vantage. Bounded: a boot id and a few numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vantage {
    /// The boot that was heard last. Any text is a boot's name, also an empty one.
    boot: Option<String>,
    boot_number: u64,
    last_sequence: u64,
    last_sent_at: Option<Timestamp>,
    heard_at: Option<Timestamp>,
    skew_millis: Option<i64>,
    skewed: bool,
    blind: bool,
    newest_probe_at: Option<Timestamp>,
    replayed: u64,
    late: u64,
}

impl Vantage {
    /// Never heard.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a report that arrived at `receipt`. `oldest` says how old a probe of an endpoint may be to count, and
    /// nothing for an endpoint that is not configured.
    ///
    /// # Errors
    /// [`ReportRefused`]: nothing of the report counts, and the vantage is as before.
    pub fn ingest(
        &mut self,
        report: &Report,
        receipt: impl Into<Receipt>,
        settings: &VantageSettings,
        oldest: impl Fn(&EndpointKey) -> Option<Span>,
    ) -> Result<Ingested, ReportRefused> {
        let receipt = receipt.into();
        self.admit(report)?;
        let repeated = self.last_sent_at.is_some_and(|last| report.sent_at <= last);
        let news = report.observations.iter().any(|o| o.sequence > self.last_sequence);
        let fresh = news || !repeated;
        if fresh {
            self.hear(report, receipt, settings);
        }
        let mut done = Ingested {
            placements: Vec::with_capacity(report.observations.len()),
            opinions_count: fresh && !self.skewed && !self.blind,
            accepted: 0,
            history_only: 0,
            replayed: 0,
            acknowledged_sequence: 0,
        };
        for observation in &report.observations {
            let placement = self.place(observation, receipt.at, oldest(&observation.endpoint));
            match placement {
                Placement::Current { .. } => done.accepted += 1,
                Placement::HistoryOnly(_) => done.history_only += 1,
                Placement::Replayed => done.replayed += 1,
            }
            done.placements.push(placement);
        }
        self.replayed = self.replayed.saturating_add(u64::from(done.replayed));
        self.late = self.late.saturating_add(u64::from(done.history_only));
        done.acknowledged_sequence = self.last_sequence;
        Ok(done)
    }

    fn admit(&mut self, report: &Report) -> Result<(), ReportRefused> {
        if report.schema > REPORT_SCHEMA {
            return Err(ReportRefused::UnknownFormat { given: report.schema });
        }
        if report.observations.len() > REPORT_OBSERVATIONS_MAX {
            cov_mark::hit!(report_too_long);
            return Err(ReportRefused::TooMany { given: report.observations.len() });
        }
        if report.boot.len() > BOOT_BYTES_MAX {
            return Err(ReportRefused::BootTooLong { given: report.boot.len() });
        }
        let Some(boot) = self.boot.as_ref().filter(|_| report.boot_number <= self.boot_number) else {
            self.boot = Some(report.boot.clone());
            self.boot_number = report.boot_number;
            self.last_sequence = 0;
            self.last_sent_at = None;
            return Ok(());
        };
        if report.boot_number < self.boot_number {
            cov_mark::hit!(earlier_boot_refused);
            return Err(ReportRefused::EarlierBoot { given: report.boot_number, known: self.boot_number });
        }
        if report.boot != *boot {
            cov_mark::hit!(two_boots_refused);
            return Err(ReportRefused::TwoBoots { number: report.boot_number });
        }
        Ok(())
    }

    /// Only a report that tells something new says that its sender lives: a replay must not keep a dead vantage alive.
    fn hear(&mut self, report: &Report, receipt: Receipt, settings: &VantageSettings) {
        let beside = |clock: Timestamp| report.sent_at.as_millis().saturating_sub(clock.as_millis());
        let (carried, wall) = (beside(receipt.at), beside(receipt.wall));
        // Whichever of our own clocks it is nearer to. One correction of the time on all machines, or on ours alone, is
        // no fault of the vantages; taken for one, it would silence all of them until the next start.
        let skew = if wall.unsigned_abs() < carried.unsigned_abs() {
            cov_mark::hit!(own_clock_was_set);
            wall
        } else {
            carried
        };
        self.skewed = skew.unsigned_abs() > settings.max_clock_skew.as_millis();
        self.skew_millis = Some(skew);
        self.blind = report.self_check.blind;
        self.heard_at = self.heard_at.max(Some(receipt.at));
        self.last_sent_at = Some(report.sent_at);
    }

    fn place(
        &mut self,
        observation: &Observation,
        received_at: Timestamp,
        oldest: Option<Span>,
    ) -> Placement {
        if observation.sequence <= self.last_sequence {
            cov_mark::hit!(replay_is_ignored);
            return Placement::Replayed;
        }
        self.last_sequence = observation.sequence;
        let Some(bound) = oldest else { return Placement::HistoryOnly(Late::NotConfigured) };
        if self.skewed {
            cov_mark::hit!(skewed_clock_is_history);
            return Placement::HistoryOnly(Late::Skewed);
        }
        if observation.age > bound {
            cov_mark::hit!(late_report_is_history);
            return Placement::HistoryOnly(Late::TooOld { age: observation.age, bound });
        }
        // By the report, and by the probe: what was seen blindly may be sent when the agent sees again. It would leave a
        // vote behind that nothing was seen for, and that lasts until the successes that end it.
        if self.blind || observation.blind {
            cov_mark::hit!(blind_probe_is_history);
            return Placement::HistoryOnly(Late::Blind);
        }
        let began_at = received_at - observation.age;
        self.newest_probe_at = self.newest_probe_at.max(Some(began_at));
        Placement::Current { began_at }
    }

    /// May this vantage speak at `now`?
    #[must_use]
    pub fn state(&self, now: Timestamp, settings: &VantageSettings) -> VantageState {
        match self.heard_at {
            None => VantageState::NeverHeard,
            Some(heard) if now.since(heard) >= settings.silent_after => VantageState::Silent,
            Some(_) if self.skewed => VantageState::Skewed,
            Some(_) if self.blind => VantageState::Blind,
            Some(_) => VantageState::Reporting,
        }
    }

    /// When [`Vantage::state`] will say `Silent` although nothing arrives.
    #[must_use]
    pub fn next_change_at(&self, now: Timestamp, settings: &VantageSettings) -> Option<Timestamp> {
        self.heard_at.map(|heard| heard + settings.silent_after).filter(|silent| now < *silent)
    }

    /// Has it reported a probe that began after `start`? A coordinator that took over then waits for this (quiet time).
    #[must_use]
    pub fn probed_since(&self, start: Timestamp) -> bool {
        self.newest_probe_at.is_some_and(|probe| probe > start)
    }

    /// When something new was last heard.
    #[must_use]
    pub fn heard_at(&self) -> Option<Timestamp> {
        self.heard_at
    }

    /// Its wall clock less the coordinator's at the last report, in milliseconds; the way of the report included.
    #[must_use]
    pub fn skew_millis(&self) -> Option<i64> {
        self.skew_millis
    }

    /// Observations that were ignored because they were seen before.
    #[must_use]
    pub fn replayed(&self) -> u64 {
        self.replayed
    }

    /// Observations that went to history only.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.late
    }
}

#[cfg(test)]
mod tests;
