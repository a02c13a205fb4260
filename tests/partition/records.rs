//! What keepers accepted, read where they keep it: the store itself, and the DNS servers' own memory.

use crate::history::{Accepted, Failover, Written};
use crate::site::REGIONS;
use drover_model::Epoch;
use drover_model::api::RunView;
use drover_model::journal::Trigger;
use drover_model::runbook::Purpose;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Everything in the store that says under whose command it was written, by the revision at which it was.
pub fn of_store(fields: &str) -> Vec<Accepted> {
    let mut found = Vec::new();
    let (mut key, mut order) = (String::new(), 0);
    for line in fields.lines() {
        let Some((name, value)) = line.split_once(" : ") else { continue };
        match name {
            "\"Key\"" => key = serde_json::from_str(value).unwrap_or_default(),
            "\"ModRevision\"" => order = value.parse().unwrap_or_default(),
            "\"Value\"" => {
                // What is packed is no JSON, and is about no command: the worlds that decisions were made from.
                let text: Option<String> = serde_json::from_str(value).ok();
                let record: Option<Commanded> = text.and_then(|text| serde_json::from_str(&text).ok());
                found.extend(record.map(|r| Accepted { order, what: key.clone(), epoch: r.epoch }));
            }
            _ => {}
        }
    }
    found
}

/// A record with an epoch, whatever else it holds.
#[derive(Deserialize)]
struct Commanded {
    epoch: Epoch,
}

/// The batches that a DNS server remembers, by the generation that each made.
pub fn of_dns(changes: &Value) -> Vec<Accepted> {
    let batches = changes["applied"].as_array().map(Vec::as_slice).unwrap_or_default();
    let accepted = |batch: &Value| {
        let order = batch["generation"].as_u64()?;
        let epoch = serde_json::from_value(batch["epoch"].clone()).ok()?;
        Some(Accepted { order, what: format!("generation {order}"), epoch })
    };
    batches.iter().filter_map(accepted).collect()
}

/// The journals among what is in the store, each by its own sequence: keys are `runs/RUN/journal/SEQUENCE`.
pub fn of_journals(store: &[Accepted]) -> BTreeMap<String, Vec<Accepted>> {
    let mut journals: BTreeMap<String, Vec<Accepted>> = BTreeMap::new();
    for a in store {
        if let Some((run, sequence)) = a.what.split_once("/journal/")
            && let Ok(order) = sequence.parse()
        {
            journals.entry(format!("journal {run}")).or_default().push(Accepted { order, ..a.clone() });
        }
    }
    journals
}

/// What a register kept: `write GENERATION NUMBER NANOSECONDS` before it acknowledged a write, and `acknowledged …` once it had. The
/// last line of one that was killed may be cut off.
pub fn of_register(register: usize, kept: &str) -> Vec<Written> {
    let written = |line: &str| {
        let [_, generation, _, at] = line.split(' ').collect::<Vec<_>>().try_into().ok()?;
        let (generation, at_nanoseconds) = (generation.parse().ok()?, at.parse().ok()?);
        Some(Written { register, generation, at_nanoseconds })
    };
    kept.split_inclusive('\n').filter_map(|line| written(line.strip_suffix('\n')?)).collect()
}

/// When this run is a failover that nobody asked for.
pub fn failover(run: &RunView) -> Option<Failover> {
    let Trigger::Decision { first_failure_at, .. } = run.trigger else { return None };
    let region = REGIONS.iter().position(|r| *r == run.summary.region.as_str())? + 1;
    let started_at = run.summary.started_at;
    (run.summary.purpose == Purpose::Failover).then(|| Failover {
        run: run.summary.id.clone(),
        region,
        first_failure_at,
        started_at,
    })
}

#[test]
fn a_register_s_last_line_may_be_cut_off() {
    let kept = "write 1 7 100\nacknowledged 1 7 120\nwrite 2 8 15";
    let expected = [100, 120].map(|at_nanoseconds| Written { register: 3, generation: 1, at_nanoseconds });
    assert_eq!(of_register(3, kept), expected);
}

#[test]
fn epochs_are_found_in_what_etcd_prints() {
    let text = "\"ClusterID\" : 1\n\"Key\" : \"/drover/runs/000000000001/journal/000000000002\"\n\"CreateRevision\" : 3\n\"ModRevision\" : 17\n\
                \"Value\" : \"{\\\"epoch\\\":{\\\"incarnation\\\":7,\\\"counter\\\":4},\\\"entry\\\":1}\"\n\
                \"Key\" : \"/drover/worlds/1\"\n\"ModRevision\" : 18\n\"Value\" : \"\\x01\\xff\"\n";
    let found = of_store(text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].order, found[0].epoch.counter), (17, 4));
    let journals = of_journals(&found);
    assert_eq!(journals.len(), 1);
    assert_eq!(journals["journal /drover/runs/000000000001"][0].order, 2);
}
