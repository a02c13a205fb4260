//! One schedule, from its first fault until the world is at rest again, and what is said about it.

use crate::dataset;
use crate::history::{History, Injected, Violation, around, violations};
use crate::records;
use crate::rest;
use crate::schedule::{Fault, Move, Planned, Whose, drawn, drawn_move};
use crate::site::{REGIONS, Site, Who, name_of};
use crate::watch::{Watch, dns_control, now};
use drover_model::Timestamp;
use drover_model::api::{RunView, StatusView};
use drover_model::runbook::Purpose;
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Between two looks at the clock and the processes.
const TICK: Duration = Duration::from_millis(50);
/// Between two looks whether all is at rest.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Hang guard: coming to rest takes a fifth of it.
const REST_WITHIN: Duration = Duration::from_secs(120);
/// What waits for a person waits that long before somebody comes.
const ON_CALL_AFTER: Duration = Duration::from_secs(8);
/// Undisturbed before the first fault, so that it can be told that all was well.
const QUIET: Duration = Duration::from_secs(2);

/// A world in which one schedule follows on another.
pub struct World {
    directory: tempfile::TempDir,
    watch: Watch,
    site: Site,
    /// What was broken by the schedule before: it may still be felt.
    before: Vec<Injected>,
}

/// What is said of a schedule.
pub struct Verdict {
    seed: u64,
    faults: Vec<String>,
    pub takeovers: usize,
    pub failovers: usize,
    failbacks: usize,
    answered: usize,
    calls: usize,
    failed: usize,
    writes: usize,
    moved: Option<String>,
    /// Did the right go where somebody commanded it?
    pub is_moved: bool,
    rest: Result<Duration, String>,
    restarts: Vec<String>,
    violations: Vec<Violation>,
}

impl Verdict {
    pub fn is_good(&self) -> bool {
        self.violations.is_empty() && self.rest.is_ok()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, takeovers, failovers, failbacks, answered, calls, failed, .. } = self;
        write!(f, "seed {seed}: {}; ", self.faults.join(", "))?;
        write!(
            f,
            "{takeovers} takeovers, {failovers} failovers, {failbacks} failbacks, {answered} answers by a person, "
        )?;
        write!(f, "{calls} calls of which {failed} failed, {} writes; ", self.writes)?;
        if let Some(moved) = &self.moved {
            write!(f, "moved {moved}; ")?;
        }
        if !self.restarts.is_empty() {
            write!(f, "{}; ", self.restarts.join(", "))?;
        }
        match &self.rest {
            Ok(after) => write!(f, "at rest after {:.1} s: ", after.as_secs_f64())?,
            Err(why) => write!(f, "NOT AT REST within {} s: {why}: ", REST_WITHIN.as_secs())?,
        }
        f.write_str(if self.is_good() { "ok" } else { "VIOLATED" })?;
        self.violations.iter().try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}

impl World {
    pub fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("partition-").tempdir().unwrap();
        let mut site = Site::start(directory.path().to_owned());
        let (rest, _, _) = until_rest(&mut site);
        if let Err(why) = rest {
            drop(site);
            let kept = directory.keep();
            panic!(
                "the world is not at rest within {} s: {why}: see {}",
                REST_WITHIN.as_secs(),
                kept.display()
            );
        }
        let watch = Watch::start(&site);
        Self { directory, watch, site, before: Vec::new() }
    }

    /// Ends it, and leaves its files.
    pub fn keep(self) -> PathBuf {
        let Self { directory, watch, site, before: _ } = self;
        drop((watch, site));
        directory.keep()
    }

    /// Plays the schedule of a seed.
    pub fn play(&mut self, seed: u64) -> Verdict {
        self.watch.take();
        let begun = now();
        std::thread::sleep(QUIET);
        let (injected, mut restarts, moving) = self.disturb(drawn(seed).into(), drawn_move(seed));
        let healed = Instant::now();
        let asked = moving.map(|moving| moving.join().unwrap_or_else(|e| std::panic::resume_unwind(e)));
        let (rest, answered, more) = until_rest(&mut self.site);
        restarts.extend(more);
        let (moved, is_moved) = moved(asked, begun, rest.as_ref().ok());
        // Without rest nobody may be there to tell, which is a violation already.
        let runs = rest.as_ref().map(|status| self.runs(status, begun)).unwrap_or_default();
        let broken = [std::mem::replace(&mut self.before, injected.clone()), injected.clone()].concat();
        let history = self.history(broken, &runs);
        let violations = violations(&history);
        if !violations.is_empty() {
            let file = self.directory.path().join(format!("history-{seed}"));
            std::fs::write(file, format!("{history:#?}")).unwrap();
        }
        let epochs: BTreeSet<u64> = history.leads.iter().map(|l| l.epoch.counter).collect();
        let first = injected[0].from;
        Verdict {
            seed,
            faults: injected.iter().map(|i| described(i, first)).collect(),
            takeovers: epochs.len().saturating_sub(1),
            failovers: history.failovers.len(),
            failbacks: runs.iter().filter(|r| r.summary.purpose == Purpose::Failback).count(),
            answered,
            calls: history.calls.len(),
            failed: history.calls.iter().filter(|c| c.failed.is_some()).count(),
            writes: history.acknowledged.len(),
            moved,
            is_moved,
            rest: rest.map(|_| healed.elapsed()),
            restarts,
            violations,
        }
    }

    /// The runs that were begun since then.
    fn runs(&self, status: &StatusView, since: Timestamp) -> Vec<RunView> {
        let begun = status.runs.iter().filter(|r| r.started_at >= since);
        begun.map(|r| rest::run(&self.site, status, &r.id)).collect()
    }

    /// Faults begin and end as planned; in the end none is left. What was done, what ended by itself meanwhile, and the dataset's
    /// move, as somebody asks for it.
    fn disturb(
        &mut self,
        mut waiting: VecDeque<Planned>,
        mut planned_move: Option<Move>,
    ) -> (Vec<Injected>, Vec<String>, Option<dataset::Moving>) {
        let (begun, mut moving) = (Instant::now(), None);
        let (mut active, mut over): (Vec<(Duration, Injected)>, Vec<Injected>) = (Vec::new(), Vec::new());
        let mut restarts = Vec::new();
        while !(waiting.is_empty() && active.is_empty() && planned_move.is_none()) {
            let passed = begun.elapsed();
            if let Some(planned) = planned_move.take_if(|planned| planned.from <= passed) {
                let sockets = (1..=REGIONS.len()).map(|region| self.site.socket(region));
                let to = (self.watch.writer() - 1 + planned.further) % REGIONS.len() + 1;
                moving = Some(dataset::move_to(sockets.collect(), to));
            }
            let mut is_changed = false;
            while let Some(planned) = waiting.pop_front_if(|p| p.from <= passed) {
                let place = match planned.fault.place() {
                    Whose::Region(region) => region,
                    Whose::Leaders => self.watch.leader(),
                };
                let fault = planned.fault.at(place);
                self.site.inject(fault, true);
                active.push((planned.until, Injected { fault, from: now(), until: now() }));
                is_changed = true;
            }
            let (ended, still) = active.into_iter().partition(|(until, _)| *until <= passed);
            active = still;
            let ended: Vec<(Duration, Injected)> = ended;
            if is_changed || !ended.is_empty() {
                let faults: Vec<Fault<usize>> = active.iter().map(|(_, i)| i.fault).collect();
                self.site.link(&faults);
            }
            for (_, injected) in ended {
                self.site.inject(injected.fault, false);
                over.push(Injected { until: now(), ..injected });
            }
            let down: Vec<Who> = active.iter().filter_map(|(_, i)| down(&i.fault)).collect();
            restarts.extend(self.site.supervise(&down));
            std::thread::sleep(TICK);
        }
        over.sort_by_key(|i| i.from);
        (over, restarts, moving)
    }

    /// What was seen since the last schedule, and what is kept since ever.
    fn history(&self, injected: Vec<Injected>, runs: &[RunView]) -> History {
        let seen = self.watch.take();
        let store = records::of_store(&self.site.store());
        let mut accepted = records::of_journals(&store);
        accepted.insert("the store".to_owned(), store);
        for server in 1..=REGIONS.len() {
            let changes = self.site.place(server).within(|| dns_control(server, "/v1/changes"));
            let changes = changes.map(|c| records::of_dns(&c)).unwrap_or_default();
            accepted.insert(format!("DNS server {server}"), changes);
        }
        History {
            injected,
            told: seen.told,
            calls: seen.calls,
            leads: seen.leads,
            obeys: seen.obeys,
            accepted,
            failovers: runs.iter().filter_map(records::failover).collect(),
            written: (1..=REGIONS.len())
                .flat_map(|region| records::of_register(region, &self.site.register(region)))
                .collect(),
            acknowledged: seen.acknowledged,
        }
    }
}

/// What became of a move, by the leader once all is at rest, and whether the right went where it was to.
fn moved(
    asked: Option<Result<String, String>>,
    since: Timestamp,
    status: Option<&StatusView>,
) -> (Option<String>, bool) {
    let Some(asked) = asked else { return (None, false) };
    let begun = match asked {
        Ok(begun) => begun,
        Err(refused) => return (Some(format!("nowhere, since {refused}")), false),
    };
    let last = status.and_then(|status| status.datasets.first()?.last_move.clone());
    let ended = last.filter(|last| last.began_at >= since).and_then(|last| last.ended);
    let sentence = ended.as_ref().map_or("nobody knows how it ended", |ended| &ended.sentence);
    (Some(format!("{begun}: {sentence}")), ended.is_some_and(|ended| ended.granted))
}

/// What must not be started again yet.
fn down(fault: &Fault<usize>) -> Option<Who> {
    match *fault {
        Fault::Killed(place, role) | Fault::Stopped(place, role) => Some((role, place)),
        _ => None,
    }
}

/// Waits until all is at rest. Whose status it is then, or why it is not; how many runs waited for a person; and what ended
/// by itself meanwhile.
fn until_rest(site: &mut Site) -> (Result<StatusView, String>, usize, Vec<String>) {
    let begun = Instant::now();
    let (mut answered, mut restarts) = (0, Vec::new());
    loop {
        restarts.extend(site.supervise(&[]));
        match rest::at_rest(site) {
            Ok(status) => return (Ok(status), answered, restarts),
            Err(why) if begun.elapsed() > REST_WITHIN => return (Err(why), answered, restarts),
            Err(_) if begun.elapsed() > ON_CALL_AFTER => answered += rest::answer(site),
            Err(_) => {}
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// A fault in the words of whoever reads the log.
fn described(injected: &Injected, first: Timestamp) -> String {
    let Injected { fault, from, until } = injected;
    let place = fault.place();
    let name = name_of(place);
    let what = match *fault {
        Fault::Isolated(_) => format!("{name} cut from all"),
        Fault::Parted(_, further) => format!("{name} cut from {}", name_of(around(place, further))),
        Fault::Deaf(_, further) => format!("{name} deaf to {}", name_of(around(place, further))),
        Fault::Slow(_, delay, jitter) => format!("{name} {delay}+{jitter} ms late"),
        Fault::Lossy(_, percent) => format!("{name} loses {percent}%"),
        Fault::Reordered(_, percent) => format!("{name} reorders {percent}%"),
        Fault::Stopped(_, role) => format!("{role} of {name} stopped"),
        Fault::Killed(_, role) => format!("{role} of {name} killed"),
    };
    let seconds = |at: Timestamp| at.since(first).as_secs_f64();
    format!("{what} {:.1}-{:.1} s", seconds(*from), seconds(*until))
}
