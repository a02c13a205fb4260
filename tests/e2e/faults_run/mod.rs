//! Faults of runs, of the network and of people. Those of the store, of processes and of the machine are in `faults`.
//!
//! What can be told as a story of decisions is in `tests/scenarios`; here are only those that need the real program:
//! its processes, its sockets, its command line.

mod dropped;
mod flapping;
mod operators;
mod page;
mod second_failure;
mod slow;

use crate::world::World;
use drover_model::EndpointKey;
use drover_model::api::{ObservationView, StatusView};
use drover_model::decision::VerdictInputs;
use drover_model::probe::FailureKind;
use std::net::SocketAddr;

/// Where an endpoint of the sample world answers.
fn address(w: &World, endpoint: &str) -> SocketAddr {
    let key: EndpointKey = endpoint.parse().unwrap();
    let e = &w.config.services[&key.service].endpoints[&key.region];
    SocketAddr::new(e.address.parse().unwrap(), e.port)
}

/// What is seen of an endpoint, and by whom.
fn seen(w: &World, endpoint: &str) -> VerdictInputs {
    w.explain(endpoint).endpoints.remove(0).inputs
}

/// How the last failed probe of each outside vantage failed that can speak.
fn kinds(inputs: &VerdictInputs) -> Vec<Option<FailureKind>> {
    let outside = inputs.outside.iter().filter(|o| o.vantage_state.counts());
    outside.map(|o| o.last_failure).collect()
}

/// The newest observations of an endpoint, as they came.
fn observations(w: &World, endpoint: &str) -> Vec<ObservationView> {
    #[derive(serde::Deserialize)]
    struct Items {
        items: Vec<ObservationView>,
    }
    let words = ["log", "--observations", endpoint, "--limit", "1000", "-o", "json"];
    w.drover(&words).expect_code(0).json::<Items>().items
}

/// Published generation of a service: how often its weights were changed.
fn generation(status: &StatusView, service: &str) -> u64 {
    status.services.iter().find(|s| s.name.as_str() == service).unwrap().generation.0
}
