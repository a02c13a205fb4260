//! Predicates: the live facts of a plan, evaluated when a step starts and not when the plan was made (I9). The answer
//! always has numbers, whether it is yes or no.

use crate::{capacity, verdict};
use drover_model::decision::VerdictState;
use drover_model::ids::EndpointKey;
use drover_model::plan::{Predicate, World};
use drover_model::reason::Reason;
use drover_model::units::{Percent, RequestsPerSecond};
use drover_model::{RegionId, ServiceId};

/// Does `predicate` hold in `world`? The text says what was seen.
///
/// # Errors
/// [`Reason::PredicateFailed`] with what was seen instead, or [`Reason::LoadUnknown`].
pub fn evaluate(predicate: &Predicate, world: &World) -> Result<String, Reason> {
    match predicate {
        Predicate::EndpointHealthy { endpoint } => {
            let (state, seen) = seen(world, endpoint);
            holds(predicate, state == VerdictState::Healthy, seen)
        }
        Predicate::EndpointStillBad { endpoint } => {
            let (state, seen) = seen(world, endpoint);
            // Where no quorum can ever say `down`, a person was asked, and said yes to just this.
            let asked = world.verdicts.get(endpoint).is_some_and(|s| verdict::is_beyond_quorum(&s.verdict));
            holds(predicate, state.moves_traffic() || asked, seen)
        }
        Predicate::Fits { service, region, share, usable } => {
            fits(predicate, world, (service, region), *share, *usable)
        }
        Predicate::TrafficAt { service, generation } => {
            let now = world.traffic.get(service).map(|t| t.generation);
            let seen = now.map_or_else(|| "nothing is published".to_owned(), |g| format!("generation {g}"));
            holds(predicate, now == Some(*generation), seen)
        }
    }
}

/// The predicate as a sentence.
#[must_use]
pub fn describe(predicate: &Predicate) -> String {
    match predicate {
        Predicate::EndpointHealthy { endpoint } => format!("{endpoint} is healthy"),
        Predicate::EndpointStillBad { endpoint } => format!("{endpoint} still is down or unreachable"),
        Predicate::Fits { service, region, share, usable } => {
            format!("{share} of {service} fits into {usable} in {region}")
        }
        Predicate::TrafficAt { service, generation } => {
            format!("traffic of {service} is at generation {generation}")
        }
    }
}

fn seen(world: &World, endpoint: &EndpointKey) -> (VerdictState, String) {
    match world.verdicts.get(endpoint) {
        Some(standing) => {
            let state = standing.verdict.state;
            (state, format!("{state} since {}: {}", standing.since, standing.verdict.reason))
        }
        None => (VerdictState::Unknown, "unknown: nobody has judged it yet".to_owned()),
    }
}

fn holds(predicate: &Predicate, yes: bool, observed: String) -> Result<String, Reason> {
    if yes {
        return Ok(observed);
    }
    cov_mark::hit!(i9_predicate_failed);
    Err(Reason::PredicateFailed { predicate: describe(predicate), observed })
}

fn fits(
    predicate: &Predicate,
    world: &World,
    (name, region): (&ServiceId, &RegionId),
    share: Percent,
    usable: RequestsPerSecond,
) -> Result<String, Reason> {
    let Some(service) = world.config.services.get(name) else {
        return holds(predicate, false, format!("{name} is not configured"));
    };
    let Some(load) = capacity::load_of(world, service).rate() else {
        return Err(Reason::LoadUnknown { service: name.clone() });
    };
    let points = u128::from(load.0) * u128::from(share.basis_points());
    let asked = RequestsPerSecond(u64::try_from(points.div_ceil(10_000)).unwrap_or(u64::MAX));
    holds(predicate, asked <= usable, format!("{asked} of {usable} in {region}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testworld::{config, judge, key, region, service_id, world};
    use drover_model::Generation;

    fn reason(predicate: &Predicate, world: &World) -> String {
        evaluate(predicate, world).unwrap_err().to_string()
    }

    #[test]
    fn a_verdict_is_told_with_its_numbers() {
        let mut world = world();
        let healthy = Predicate::EndpointHealthy { endpoint: key("checkout", "eu-west") };
        let still_bad = Predicate::EndpointStillBad { endpoint: key("checkout", "eu-west") };
        let expected = "healthy since 2023-11-14T22:13:20.000Z: 3 of 3 outside vantages see it healthy";
        assert_eq!(evaluate(&healthy, &world).unwrap(), expected);
        assert_eq!(
            reason(&still_bad, &world),
            format!("checkout@eu-west still is down or unreachable, but {expected}")
        );
        judge(&mut world, "eu-west", VerdictState::Down);
        assert!(evaluate(&still_bad, &world).is_ok());
        cov_mark::check!(i9_predicate_failed);
        assert!(evaluate(&healthy, &world).is_err());
    }

    #[test]
    fn unknown_is_neither_healthy_nor_bad() {
        let mut world = world();
        world.verdicts.clear();
        let endpoint = key("checkout", "eu-west");
        assert!(evaluate(&Predicate::EndpointHealthy { endpoint: endpoint.clone() }, &world).is_err());
        assert!(evaluate(&Predicate::EndpointStillBad { endpoint }, &world).is_err());
    }

    #[test]
    fn what_no_quorum_can_condemn_is_still_bad_when_all_that_is_seen_fails() {
        let mut world = world();
        judge(&mut world, "eu-west", VerdictState::Unknown);
        let endpoint = key("checkout", "eu-west");
        let still_bad = Predicate::EndpointStillBad { endpoint: endpoint.clone() };
        let standing = world.verdicts.get_mut(&endpoint).unwrap();
        (standing.verdict.failing, standing.verdict.configured, standing.verdict.need) = (1, 1, 2);
        assert!(evaluate(&still_bad, &world).is_ok());
        let standing = world.verdicts.get_mut(&endpoint).unwrap();
        (standing.verdict.configured, standing.verdict.need) = (3, 2);
        assert!(evaluate(&still_bad, &world).is_err(), "a minority of three is none");
    }

    #[test]
    fn fit_is_judged_by_the_load_of_now() {
        let mut world = world();
        let fits = |usable| Predicate::Fits {
            service: service_id("checkout"),
            region: region("us-east"),
            share: Percent::whole(50),
            usable: RequestsPerSecond(usable),
        };
        assert_eq!(evaluate(&fits(450), &world).unwrap(), "450rps of 450rps in us-east");
        assert_eq!(
            reason(&fits(449), &world),
            "50% of checkout fits into 449rps in us-east, but 450rps of 449rps in us-east"
        );
        world.loads.clear();
        config(&mut world).services.get_mut(&service_id("checkout")).unwrap().peak_load = None;
        assert_eq!(evaluate(&fits(450), &world).unwrap_err().code(), "load_unknown");
    }

    #[test]
    fn a_generation_that_moved_on_is_told() {
        let at = |g| Predicate::TrafficAt { service: service_id("checkout"), generation: Generation(g) };
        assert!(evaluate(&at(1), &world()).is_ok());
        assert_eq!(reason(&at(2), &world()), "traffic of checkout is at generation 2, but generation 1");
    }
}
