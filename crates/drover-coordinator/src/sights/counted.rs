//! What still reaches a region, as its own agents count it.

use super::Sights;
use drover_model::sight::{QUESTIONS_MAX, TrafficLevel, TrafficQuestion, TrafficSight};
use drover_model::{AgentId, RegionId};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A count that is older says nothing of now: three that should have come since.
const STALE_AFTER: Duration = Duration::from_secs(4);

#[derive(Debug)]
pub(super) struct Open {
    pub(super) question: TrafficQuestion,
    pub(super) region: RegionId,
    levels: BTreeMap<AgentId, (TrafficLevel, Instant)>,
}

/// A question about traffic that stands until this is dropped.
#[derive(Debug)]
pub(crate) struct Counted<'s> {
    board: &'s Sights,
    id: u64,
    region: RegionId,
}

impl Sights {
    /// Asks the agents of a region, unless they are asked of [`QUESTIONS_MAX`] endpoints already. The question's id is given here.
    pub(crate) fn count(&self, region: &RegionId, question: TrafficQuestion) -> Option<Counted<'_>> {
        let id = {
            let mut state = self.state();
            if state.counts.values().filter(|open| open.region == *region).count() >= QUESTIONS_MAX {
                return None;
            }
            state.next_id += 1;
            state.version += 1;
            let id = state.next_id;
            let question = TrafficQuestion { id, ..question };
            let open = Open { question, region: region.clone(), levels: BTreeMap::new() };
            state.counts.insert(id, open);
            id
        };
        self.listed.send_replace(());
        Some(Counted { board: self, id, region: region.clone() })
    }

    /// Takes in what an agent counted.
    pub(crate) fn take_counts(&self, agent: &AgentId, region: &RegionId, counted: Vec<TrafficSight>) {
        let now = Instant::now();
        let mut state = self.state();
        for sight in counted {
            // Nobody counts for another region.
            if let Some(open) = state.counts.get_mut(&sight.question).filter(|open| open.region == *region) {
                open.levels.insert(agent.clone(), (in_short(sight.level), now));
            }
        }
    }
}

fn in_short(level: TrafficLevel) -> TrafficLevel {
    match level {
        TrafficLevel::Unknown { why } => TrafficLevel::Unknown { why: super::cut(why) },
        TrafficLevel::Counted { .. } | TrafficLevel::NotHere => level,
    }
}

impl Counted<'_> {
    /// The most that any agent of the region counts now, in thousandths. Several agents may count the same. None is counted only where
    /// every agent can count that is where it is counted at all: the others may be where the traffic is.
    pub(crate) fn level(&self) -> Result<u64, String> {
        let state = self.board.state();
        let levels = state.counts.get(&self.id).into_iter().flat_map(|open| &open.levels);
        let fresh = levels.filter(|(_, (_, at))| at.elapsed() < STALE_AFTER);
        let (mut most, mut unknown, mut elsewhere) = (None, None, None);
        for (agent, (level, _)) in fresh {
            match level {
                TrafficLevel::Counted { thousandths } => most = most.max(Some(*thousandths)),
                TrafficLevel::Unknown { why } => unknown = Some(format!("{agent}: {why}")),
                TrafficLevel::NotHere => elsewhere = Some(agent),
            }
        }
        let nobody = || match elsewhere {
            Some(agent) => format!("nothing listens to its port where {agent} is"),
            None => format!("no agent of {} counts it", self.region),
        };
        most.filter(|most| *most > 0 || unknown.is_none()).ok_or_else(|| unknown.unwrap_or_else(nobody))
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.board.relist(|state| state.counts.remove(&self.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_model::sight::TrafficCount;

    #[tokio::test]
    async fn only_agents_of_the_region_are_asked_and_heard_and_the_most_counts() {
        let board = Sights::new(1);
        let (eu, us) = (RegionId::new("eu-west").unwrap(), RegionId::new("us-east").unwrap());
        let agent = |name: &str| AgentId::new(name).unwrap();
        let question =
            TrafficQuestion { id: 0, address: "192.0.2.1".into(), port: 443, how: TrafficCount::Connections };
        let counted = board.count(&eu, question).unwrap();
        assert_eq!(counted.level().unwrap_err(), "no agent of eu-west counts it");
        let here = board.questions(&agent("eu-1"), &eu, 1, Duration::ZERO).await.unwrap();
        let there = board.questions(&agent("us-1"), &us, 1, Duration::ZERO).await.unwrap();
        assert_eq!((here.traffic.len(), there.traffic.len()), (1, 0));
        let id = here.traffic[0].id;
        let sight = |level| vec![TrafficSight { question: id, level }];
        let some = |thousandths| sight(TrafficLevel::Counted { thousandths });
        board.take_counts(&agent("us-1"), &us, some(9_000));
        assert!(counted.level().is_err(), "nobody counts for another region");
        board.take_counts(&agent("eu-1"), &eu, sight(TrafficLevel::Unknown { why: "no file".into() }));
        assert_eq!(counted.level().unwrap_err(), "eu-1: no file");
        board.take_counts(&agent("eu-2"), &eu, some(3_000));
        board.take_counts(&agent("eu-3"), &eu, some(2_000));
        assert_eq!(counted.level(), Ok(3_000));
        board.take_counts(&agent("eu-3"), &eu, sight(TrafficLevel::NotHere));
        board.take_counts(&agent("eu-2"), &eu, some(0));
        assert_eq!(counted.level().unwrap_err(), "eu-1: no file", "none beside one that can't count");
        board.take_counts(&agent("eu-1"), &eu, sight(TrafficLevel::NotHere));
        assert_eq!(counted.level(), Ok(0));
        board.take_counts(&agent("eu-2"), &eu, sight(TrafficLevel::NotHere));
        assert_eq!(counted.level().unwrap_err(), "nothing listens to its port where eu-3 is");
        board.take_counts(&agent("eu-2"), &eu, sight(TrafficLevel::Unknown { why: "x".repeat(5_000) }));
        assert_eq!(counted.level().unwrap_err().len(), "eu-2: ".len() + super::super::WORDS_MAX);
    }

    #[tokio::test]
    async fn no_more_is_asked_of_a_region_than_its_agents_take() {
        let board = Sights::new(1);
        let region = |name: &str| RegionId::new(name).unwrap();
        let question =
            TrafficQuestion { id: 0, address: "192.0.2.1".into(), port: 443, how: TrafficCount::Connections };
        let ask = |name: &str| board.count(&region(name), question.clone());
        let all: Vec<_> = (0..QUESTIONS_MAX).map(|_| ask("eu-west").unwrap()).collect();
        assert!(ask("eu-west").is_none() && ask("us-east").is_some());
        drop(all);
        assert!(ask("eu-west").is_some());
    }
}
