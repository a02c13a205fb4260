//! What goes wrong in a generated history, and when: true outages, and what merely looks like one.

use drover_model::config::Config;
use drover_model::{AgentId, EndpointKey, RegionId, Span, Timestamp};
use fastrand::Rng;

/// What goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble {
    /// Every probe fails, from wherever.
    Down { endpoint: EndpointKey },
    /// This share of the probes fails, from wherever.
    Gray { endpoint: EndpointKey, share: f64 },
    /// Answers take from most of the timeout to far more.
    Slow { endpoint: EndpointKey },
    /// Nobody outside its region gets through.
    Unreachable { endpoint: EndpointKey },
    /// It fails for moments shorter than any failover, again and again.
    Flaps { endpoint: EndpointKey, every: Span, down: Span },
    /// A vantage loses this share of what leaves its region.
    Loss { vantage: AgentId, share: f64 },
    /// A vantage loses all of it, and knows.
    CutOff { vantage: AgentId },
    /// All vantages lose this share of what leaves their regions.
    LossEverywhere { share: f64 },
    /// Two vantages lose this share of what goes to one region.
    LossTowards { region: RegionId, vantages: [AgentId; 2], share: f64 },
    /// A vantage says nothing.
    Silence { vantage: AgentId },
}

impl Trouble {
    /// The endpoint that is out for its users: what a failover would be right about.
    pub fn outage(&self) -> Option<&EndpointKey> {
        match self {
            Trouble::Down { endpoint }
            | Trouble::Gray { endpoint, .. }
            | Trouble::Slow { endpoint }
            | Trouble::Unreachable { endpoint } => Some(endpoint),
            Trouble::Flaps { .. }
            | Trouble::Loss { .. }
            | Trouble::CutOff { .. }
            | Trouble::LossEverywhere { .. }
            | Trouble::LossTowards { .. }
            | Trouble::Silence { .. } => None,
        }
    }
}

/// Something that goes wrong for a while.
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    /// From here on.
    pub from: Timestamp,
    /// Until here.
    pub until: Timestamp,
    /// What.
    pub trouble: Trouble,
}

/// Makes one trouble of a kind.
type Make = fn(&mut Rng, &Places) -> Option<Trouble>;

/// A kind of incident: how often in thirty days, and for how many minutes.
struct Kind {
    in_thirty_days: f64,
    minutes: std::ops::Range<u64>,
    make: Make,
}

/// True outages: about four a month in all, most of them plain.
const OUTAGES: [Kind; 4] = [
    Kind {
        in_thirty_days: 1.5,
        minutes: 8..150,
        make: |rng, p| Some(Trouble::Down { endpoint: p.endpoint(rng)? }),
    },
    Kind {
        in_thirty_days: 1.0,
        minutes: 20..180,
        make: |rng, p| Some(Trouble::Gray { endpoint: p.endpoint(rng)?, share: between(rng, 0.45, 0.9) }),
    },
    Kind {
        in_thirty_days: 0.75,
        minutes: 15..90,
        make: |rng, p| Some(Trouble::Slow { endpoint: p.endpoint(rng)? }),
    },
    Kind {
        in_thirty_days: 0.5,
        minutes: 10..60,
        make: |rng, p| Some(Trouble::Unreachable { endpoint: p.endpoint(rng)? }),
    },
];

/// What merely looks like one.
const NOISE: [Kind; 6] = [
    Kind {
        in_thirty_days: 1.5,
        minutes: 30..90,
        make: |rng, p| {
            let (endpoint, interval) = (p.endpoint(rng)?, p.interval);
            // At most one probe of each vantage falls into a moment.
            let down = Span::from_millis(rng.u64(interval.as_millis() / 2..=interval.as_millis()));
            Some(Trouble::Flaps { endpoint, every: interval.times(rng.u64(12..30)), down })
        },
    },
    Kind {
        in_thirty_days: 3.0,
        minutes: 5..45,
        make: |rng, p| Some(Trouble::Loss { vantage: p.vantage(rng)?, share: between(rng, 0.3, 0.8) }),
    },
    Kind {
        in_thirty_days: 1.0,
        minutes: 5..60,
        make: |rng, p| Some(Trouble::CutOff { vantage: p.vantage(rng)? }),
    },
    Kind {
        in_thirty_days: 1.5,
        minutes: 10..40,
        make: |rng, _| Some(Trouble::LossEverywhere { share: between(rng, 0.05, 0.15) }),
    },
    Kind {
        in_thirty_days: 0.5,
        minutes: 10..40,
        make: |rng, p| {
            let region = p.endpoint(rng)?.region;
            let vantages = p.two_outside(rng, &region)?;
            Some(Trouble::LossTowards { region, vantages, share: between(rng, 0.25, 0.5) })
        },
    },
    Kind {
        in_thirty_days: 3.0,
        minutes: 3..120,
        make: |rng, p| Some(Trouble::Silence { vantage: p.vantage(rng)? }),
    },
];

/// Where things go wrong.
struct Places {
    endpoints: Vec<EndpointKey>,
    vantages: Vec<(AgentId, RegionId)>,
    interval: Span,
}

impl Places {
    fn endpoint(&self, rng: &mut Rng) -> Option<EndpointKey> {
        rng.choice(&self.endpoints).cloned()
    }

    fn vantage(&self, rng: &mut Rng) -> Option<AgentId> {
        rng.choice(&self.vantages).map(|(agent, _)| agent.clone())
    }

    fn two_outside(&self, rng: &mut Rng, region: &RegionId) -> Option<[AgentId; 2]> {
        let outside = self.vantages.iter().filter(|(_, home)| home != region).map(|(agent, _)| agent.clone());
        let two = rng.choose_multiple(outside, 2);
        <[AgentId; 2]>::try_from(two).ok()
    }
}

fn between(rng: &mut Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * rng.f64()
}

/// Everything that goes wrong in `days` from `from`, in the order of its beginning. Of each kind there is one at least,
/// and no two outages at a time; what merely looks like one comes when it likes.
pub fn plan(config: &Config, rng: &mut Rng, from: Timestamp, days: u32) -> Vec<Incident> {
    let services = config.services.values();
    let endpoints = services.clone().flat_map(|s| s.endpoints.keys().map(|r| EndpointKey::new(&s.name, r)));
    let places = Places {
        endpoints: endpoints.collect(),
        vantages: config.agents().into_iter().collect(),
        interval: services.map(|s| s.interval).min().unwrap_or_default(),
    };
    let mut all = spread(&OUTAGES, rng, &places, from, days);
    all.extend(spread(&NOISE, rng, &places, from, days));
    all.sort_by_key(|i| i.from);
    all
}

/// One incident in each of as many equal parts of the time as there are incidents, in a shuffled order of their kinds.
/// None takes more than a third of its part, and none begins in the last half of it.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Some thousands at most.
fn spread(kinds: &[Kind], rng: &mut Rng, places: &Places, from: Timestamp, days: u32) -> Vec<Incident> {
    let mut order: Vec<&Kind> = Vec::new();
    for kind in kinds {
        let n = (kind.in_thirty_days * f64::from(days) / 30.0).round().max(1.0) as usize;
        order.extend(std::iter::repeat_n(kind, n));
    }
    rng.shuffle(&mut order);
    let part = Span::from_hours(24 * u64::from(days)).as_millis() / order.len().max(1) as u64;
    let mut all = Vec::new();
    for (n, kind) in order.into_iter().enumerate() {
        let begin = n as u64 * part + part / 10 + rng.u64(0..=part * 4 / 10);
        let lasts = Span::from_mins(rng.u64(kind.minutes.clone())).min(Span::from_millis(part / 3));
        let from = from + Span::from_millis(begin);
        if let Some(trouble) = (kind.make)(rng, places) {
            all.push(Incident { from, until: from + lasts, trouble });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::set::tests::shipped;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn of_each_kind_there_is_one_and_no_two_outages_at_a_time() {
        for (seed, days) in [(1, 1), (2, 6), (3, 30), (4, 365)] {
            let from: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
            let all = plan(&shipped(), &mut Rng::with_seed(seed), from, days);
            let kinds: BTreeSet<_> =
                all.iter().map(|i| std::mem::discriminant(&i.trouble)).map(|d| format!("{d:?}")).collect();
            assert_eq!(kinds.len(), OUTAGES.len() + NOISE.len(), "{all:#?}");
            let end = from + Span::from_hours(24 * u64::from(days));
            assert!(all.iter().all(|i| from <= i.from && i.from < i.until && i.until <= end), "{all:#?}");
            assert!(all.windows(2).all(|w| w[0].from <= w[1].from));
            let outages: Vec<_> = all.iter().filter(|i| i.trouble.outage().is_some()).collect();
            assert!(outages.windows(2).all(|w| w[0].until < w[1].from), "{outages:#?}");
            if days == 365 {
                assert!(
                    (40..60).contains(&outages.len()) && all.len() > 150,
                    "{} of {}",
                    outages.len(),
                    all.len()
                );
            }
        }
    }
}
