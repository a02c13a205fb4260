//! Datasets as people see them.

use super::reading::ReadDatasets;
use super::{Datasets, intervals_of};
use crate::api::problem::ApiError;
use crate::clock::Clock;
use crate::coordinator::Coordinator;
use crate::error::CoordinatorError;
use crate::mirror::READ_WITHIN;
use drover_model::api::{Attention, DatasetView, RightStanding, Severity};
use drover_model::config::{Config, Dataset};
use drover_model::write_right::{BootTime, DatasetRecord, MoveRecord, RightState};
use drover_model::{DatasetId, RegionId, Span, Timestamp};
use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};

/// A longer time between two readings says nothing of whether a right was renewed: longer than a follower that nobody asks
/// leaves between them, and shorter than a right as shipped less the age that a renewal may have.
const READ_GAP_MAX: Span = Span::from_millis(5_500);

/// How a move ended is shown so long, of a dataset that is not configured any more: longer than whoever began it watches.
const ENDED_SHOWN_FOR: Span = Span::from_mins(5);

/// What was read of datasets, and when.
#[derive(Debug, Default)]
pub(super) struct Looked {
    seen: Vec<Seen>,
    /// For the last time.
    read: Option<BootTime>,
    /// The store has answered all the while since then.
    answers_since: BootTime,
    /// The last time was in vain.
    failed: bool,
}

/// A dataset as it was read.
#[derive(Debug)]
struct Seen {
    /// With the standing that its record says.
    view: DatasetView,
    /// W(1+ρ) of an open right, and since when its record is as it was read.
    open: Option<(Span, BootTime)>,
}

impl Looked {
    fn take(&mut self, seen: Vec<Seen>, now: BootTime) {
        let is_gap = self.read.is_none_or(|read| now.since(read) > READ_GAP_MAX);
        if self.failed || is_gap {
            self.answers_since = now;
        }
        (self.seen, self.read, self.failed) = (seen, Some(now), false);
    }

    fn shown(&self, now: Timestamp, boot: BootTime) -> Vec<DatasetView> {
        self.seen.iter().map(|seen| self.aged(seen, now, boot)).collect()
    }

    fn aged(&self, seen: &Seen, now: Timestamp, boot: BootTime) -> DatasetView {
        let mut view = seen.view.clone();
        view.renewed_ago = view.renewed_at.map(|at| now.since(at));
        let (Some((over, since)), Some(read)) = (seen.open, self.read) else { return view };
        // What was not renewed while nobody looked, or no store answered, says nothing: a holder renews again once it can.
        let unrenewed = read.since(since.max(self.answers_since));
        // An agent that starts keeps its database stopped for as long as a right lasts, and then it takes a moment to start.
        let not_writing = view.not_writing_since.is_some_and(|at| now.since(at) > over.times(2));
        view.standing = if boot.since(read) > over.max(READ_GAP_MAX) {
            RightStanding::Unread
        } else if unrenewed > over {
            RightStanding::Lapsed
        } else if not_writing {
            RightStanding::NotWriting
        } else {
            RightStanding::Held
        };
        view
    }
}

impl Datasets {
    fn looked(&self) -> MutexGuard<'_, Looked> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As they were at the last look, and as old as that is by now.
    pub(crate) fn shown(&self, now: Timestamp) -> Vec<DatasetView> {
        self.looked().shown(now, Clock::boot())
    }

    /// The store did not answer: until it does, no right that is not seen renewed is known to have lapsed.
    pub(crate) fn went_unread(&self) {
        self.looked().failed = true;
    }
}

impl Coordinator {
    /// Reads what `status` shows of datasets. A record that makes no sense hides no other one.
    pub(crate) async fn look_at_datasets(&self) -> Result<(), CoordinatorError> {
        match self.read_datasets().await {
            Ok(read) => {
                self.show_datasets(&self.loaded().config, &read);
                Ok(())
            }
            Err(e) => {
                self.datasets.went_unread();
                Err(e)
            }
        }
    }

    /// Takes what was read for what `status` shows.
    pub(super) fn show_datasets(&self, config: &Config, read: &ReadDatasets) {
        let configured = config.datasets.values().map(|dataset| {
            let unread = |why| Seen { view: unreadable(config, dataset, why), open: None };
            see(config, dataset, read).unwrap_or_else(unread)
        });
        let mut seen: Vec<Seen> = configured.collect();
        seen.extend(taken_out(config, read, self.clock.now()));
        self.datasets.looked().take(seen, read.at);
    }

    /// Every dataset that is configured, as the store has it; as it had them at the last look, where it does not answer.
    pub(crate) async fn datasets_now(&self) -> Result<Vec<DatasetView>, ApiError> {
        let was_read = self.datasets.looked().read.is_some();
        if was_read {
            let looked = tokio::time::timeout(READ_WITHIN, self.look_at_datasets()).await;
            if !matches!(looked, Ok(Ok(()))) {
                self.datasets.went_unread();
            }
        } else {
            self.look_at_datasets().await?;
        }
        Ok(self.datasets.shown(self.clock.now()))
    }
}

/// A dataset as it was read, or in words why its records make no sense.
fn see(config: &Config, dataset: &Dataset, read: &ReadDatasets) -> Result<Seen, String> {
    let Some(right) = read.rights.get(&dataset.name) else {
        let view = ungranted(config.region_of_agent(&dataset.holder).cloned(), dataset);
        return Ok(Seen { view, open: None });
    };
    let right = right.as_ref().map_err(|e| drover_model::chain(e))?;
    let record = &right.kept.record;
    let over = intervals_of(&dataset.name, record.intervals).map_err(|e| drover_model::chain(&e))?.over();
    let last = read.moves.get(&dataset.name).map(Result::as_ref).transpose();
    let last = last.map_err(|e| drover_model::chain(e))?.cloned();
    let open = record.right.is_open().then(|| (over, right.sighting.since()));
    let view = granted(config, &dataset.name, record.clone(), last);
    let intervals_differ = record.intervals != dataset.write_right;
    Ok(Seen { view: DatasetView { intervals_differ, ..view }, open })
}

/// Datasets that were taken out of the configuration in the middle of a move. Nobody else would say what goes on there, and how it
/// ended; after a while they are gone from sight.
fn taken_out(config: &Config, read: &ReadDatasets, now: Timestamp) -> Vec<Seen> {
    let mut seen = Vec::new();
    for (name, right) in &read.rights {
        let (Ok(right), None) = (right, config.datasets.get(name)) else { continue };
        let last = read.moves.get(name).and_then(|last| last.as_ref().ok());
        let ended = last.and_then(|last| last.ended.as_ref());
        let is_lately = ended.is_some_and(|ended| now.since(ended.at) < ENDED_SHOWN_FOR);
        if !right.kept.record.right.is_open() || read.is_moving(name) || is_lately {
            let view = granted(config, name, right.kept.record.clone(), last.cloned());
            seen.push(Seen { view: DatasetView { unconfigured: true, ..view }, open: None });
        }
    }
    seen
}

/// What a person should do about a dataset.
pub(crate) fn attention(view: &DatasetView) -> Option<Attention> {
    let id = &view.dataset;
    let holder = &view.holder;
    let (severity, code, sentence, next) = match (view.standing, &view.target) {
        (RightStanding::Closing, Some(target)) if view.unconfigured => (
            Severity::Critical,
            "dataset_taken_out",
            format!(
                "{id} was taken out of the configuration while its right goes from {holder} to {target}: nobody writes, and no agent \
                 hears of it; put the document back, or give the right back"
            ),
            format!("drover dataset abort {id} --reason TEXT"),
        ),
        (RightStanding::Lapsed, _) => (
            Severity::Critical,
            "dataset_unwritten",
            format!(
                "{} does not renew its right to write {id}: nobody writes, unless every other member vouches for it",
                view.holder
            ),
            format!("drover dataset move {id} --to REGION --reason TEXT"),
        ),
        (RightStanding::NotWriting, _) => (
            Severity::Critical,
            "dataset_unwritten",
            format!(
                "{holder} renews its right to write {id}, and nothing runs behind its gate: nobody writes; its log and the gate's \
                 say why"
            ),
            format!("drover dataset move {id} --to REGION --reason TEXT"),
        ),
        (RightStanding::Unreadable, _) => (
            Severity::Warning,
            "dataset_unreadable",
            format!(
                "what the store has of dataset {id} makes no sense here: {}",
                view.unreadable.as_deref().unwrap_or_default()
            ),
            "drover store check".to_owned(),
        ),
        (RightStanding::Closing, Some(target)) => (
            Severity::Warning,
            "dataset_moving",
            format!("the right to write {id} goes from {} to {target}", view.holder),
            format!("drover dataset status {id}"),
        ),
        _ => return None,
    };
    let since =
        if view.standing == RightStanding::NotWriting { view.not_writing_since } else { view.renewed_at };
    let (subject, code) = (id.to_string(), code.to_owned());
    Some(Attention { severity, subject, sentence, code, next: Some(next), since })
}

fn ungranted(region: Option<RegionId>, dataset: &Dataset) -> DatasetView {
    DatasetView {
        dataset: dataset.name.clone(),
        standing: RightStanding::Ungranted,
        holder: dataset.holder.clone(),
        region,
        generation: None,
        renewed_at: None,
        renewed_ago: None,
        target: None,
        plan: None,
        ready: BTreeSet::new(),
        waiting: dataset.agents(),
        intervals: None,
        intervals_differ: false,
        last_move: None,
        not_writing_since: None,
        unreadable: None,
        unconfigured: false,
    }
}

fn unreadable(config: &Config, dataset: &Dataset, why: String) -> DatasetView {
    let view = ungranted(config.region_of_agent(&dataset.holder).cloned(), dataset);
    DatasetView { standing: RightStanding::Unreadable, unreadable: Some(why), ..view }
}

/// With what ages as of the reading.
fn granted(
    config: &Config,
    dataset: &DatasetId,
    record: DatasetRecord,
    last_move: Option<MoveRecord>,
) -> DatasetView {
    let DatasetRecord { right, intervals, renewed_at, not_writing_since } = record;
    let (standing, target, plan) = match right.state {
        RightState::Closing { target, plan } => (RightStanding::Closing, Some(target), Some(plan)),
        RightState::Open => (RightStanding::Held, None, None),
    };
    let known = right.acknowledged.promotable;
    let (ready, waiting) = right.members.promotable.into_iter().partition(|agent| known.contains(agent));
    DatasetView {
        dataset: dataset.clone(),
        standing,
        region: config.region_of_agent(&right.holder).cloned(),
        holder: right.holder,
        generation: Some(right.generation),
        renewed_at: Some(renewed_at),
        renewed_ago: None,
        target,
        plan,
        ready,
        waiting,
        intervals: Some(intervals),
        intervals_differ: false,
        last_move,
        not_writing_since,
        unreadable: None,
        unconfigured: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_model::AgentId;

    const OVER: Span = Span::from_millis(6_500);

    fn at(seconds: u64) -> BootTime {
        BootTime::after_boot(Span::from_secs(seconds))
    }

    /// By the clock for people, of which only differences count here.
    fn wall(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    /// An open right whose record is as it is since then.
    fn seen(since: u64, not_writing_since: Option<i64>) -> Vec<Seen> {
        let dataset = Dataset {
            name: DatasetId::new("orders").unwrap(),
            holder: AgentId::new("eu-west-1").unwrap(),
            members: Vec::new(),
            write_right: drover_model::write_right::RightSettings::default(),
        };
        let view = ungranted(None, &dataset);
        let not_writing_since = not_writing_since.map(wall);
        let view = DatasetView { standing: RightStanding::Held, not_writing_since, ..view };
        vec![Seen { view, open: Some((OVER, at(since))) }]
    }

    fn standing(looked: &Looked, now: u64) -> RightStanding {
        looked.shown(wall(i64::try_from(now).unwrap()), at(now)).remove(0).standing
    }

    #[test]
    fn a_right_lapses_while_it_is_read_and_is_unread_while_it_is_not() {
        let mut looked = Looked::default();
        for second in 10..=16 {
            looked.take(seen(10, None), at(second));
            assert_eq!(standing(&looked, second), RightStanding::Held, "at {second} s");
        }
        looked.take(seen(10, None), at(17));
        assert_eq!(standing(&looked, 17), RightStanding::Lapsed);
        // Whoever reads nothing more does not know for long.
        assert_eq!(standing(&looked, 23), RightStanding::Lapsed);
        assert_eq!(standing(&looked, 24), RightStanding::Unread);
    }

    #[test]
    fn after_an_outage_of_the_store_a_holder_has_a_right_s_length_to_renew() {
        for is_told in [true, false] {
            let mut looked = Looked::default();
            looked.take(seen(10, None), at(10));
            looked.failed = is_told;
            // Unchanged for 30 s, of which nobody looked.
            for second in 40..=46 {
                looked.take(seen(10, None), at(second));
                assert_eq!(standing(&looked, second), RightStanding::Held, "told {is_told}, at {second} s");
            }
            looked.take(seen(10, None), at(47));
            assert_eq!(standing(&looked, 47), RightStanding::Lapsed, "told {is_told}");
        }
    }

    #[test]
    fn a_holder_that_renews_and_runs_nothing_is_paged_about() {
        let mut looked = Looked::default();
        looked.take(seen(10, Some(0)), at(10));
        assert_eq!(standing(&looked, 10), RightStanding::Held, "its database may be starting");
        looked.take(seen(14, Some(0)), at(14));
        assert_eq!(standing(&looked, 14), RightStanding::NotWriting);
        let page = attention(&looked.shown(wall(14), at(14))[0]).unwrap();
        assert_eq!((page.code.as_str(), page.severity), ("dataset_unwritten", Severity::Critical));
        assert_eq!(page.since, Some(wall(0)));
    }
}
