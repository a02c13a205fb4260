//! `policy history`: a labelled history of probes to try policies on, from a seed.
//!
//! Probes come as agents make them: each vantage probes each endpoint every interval, at a time of its own. Beside what
//! goes wrong by plan, one probe in a thousand is lost. The label says what was true of the endpoint, whatever was seen.

use super::incidents::{self, Incident, Trouble};
use crate::args::HistoryArgs;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::words::count;
use crate::output::{Format, Out};
use drover_model::config::Config;
use drover_model::{AgentId, EndpointKey, RegionId, Span, Timestamp};
use fastrand::Rng;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// The columns that are written.
const HEADER: [&str; 8] =
    ["time", "vantage", "service", "region", "outcome", "latency_ms", "self_check", "label"];
/// Lost for no reason at all.
const BASE_LOSS: f64 = 0.001;
/// Written at once.
const CHUNK_BYTES: usize = 64 << 10;

/// One vantage's probes of one endpoint.
struct Pair {
    vantage: AgentId,
    home: RegionId,
    endpoint: EndpointKey,
    interval: Span,
    timeout: Span,
    /// Of an answer when all is well, in milliseconds.
    latency: f64,
}

/// How a probe ended.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Probe {
    outcome: &'static str,
    latency_millis: f64,
    blind: bool,
    outage: bool,
}

/// A history as it is made.
struct Generator {
    rng: Rng,
    pairs: Vec<Pair>,
    due: BinaryHeap<Reverse<(Timestamp, usize)>>,
    until: Timestamp,
    to_come: VecDeque<Incident>,
    now: Vec<Incident>,
}

/// `policy history`.
///
/// # Errors
/// When the configuration is wrong or has nothing to probe, or the reader went away.
pub fn run(out: &Out, args: &HistoryArgs) -> Result<ExitCode> {
    if out.format != Format::Table {
        return Err(Failure::usage("a history is CSV, whatever is asked for").hint("leave -o out"));
    }
    let (_, config) = super::load(args.config.clone())?;
    let mut generator = Generator::new(&config, args);
    if generator.pairs.is_empty() {
        return Err(Failure::usage("the configuration has no agent that could probe an endpoint")
            .hint("drover config validate"));
    }
    let incidents = generator.to_come.len();
    let outages = generator.to_come.iter().filter(|i| i.trouble.outage().is_some()).count();
    let mut writer = csv::Writer::from_writer(Vec::with_capacity(2 * CHUNK_BYTES));
    let failed = |e: &csv::Error| Failure::because(ExitCode::Internal, "can't write the history", e);
    writer.write_record(HEADER).map_err(|e| failed(&e))?;
    let mut rows: u64 = 0;
    while let Some((at, pair, probe)) = generator.next() {
        let latency = format!("{:.1}", probe.latency_millis);
        let (time, endpoint) = (at.to_string(), &pair.endpoint);
        let row = [
            time.as_str(),
            pair.vantage.as_str(),
            endpoint.service.as_str(),
            endpoint.region.as_str(),
            probe.outcome,
            &latency,
            if probe.blind { "blind" } else { "ok" },
            if probe.outage { "outage" } else { "fine" },
        ];
        writer.write_record(row).map_err(|e| failed(&e))?;
        rows += 1;
        if writer.get_ref().len() >= CHUNK_BYTES {
            let full =
                std::mem::replace(&mut writer, csv::Writer::from_writer(Vec::with_capacity(2 * CHUNK_BYTES)));
            out.raw(&bytes_of(full)?)?;
        }
    }
    out.raw(&bytes_of(writer)?)?;
    let disturbances = count(incidents - outages, "disturbance");
    out.talk(&format!("{rows} probes, {}, {disturbances} that are none", count(outages, "outage")));
    Ok(ExitCode::Done)
}

fn bytes_of(writer: csv::Writer<Vec<u8>>) -> Result<Vec<u8>> {
    writer
        .into_inner()
        .map_err(|e| Failure::because(ExitCode::Internal, "can't write the history", e.error()))
}

impl Generator {
    fn new(config: &Config, args: &HistoryArgs) -> Self {
        let mut rng = Rng::with_seed(args.seed);
        let to_come = incidents::plan(config, &mut rng, args.from, args.days).into();
        let mut pairs = Vec::new();
        for (vantage, home) in config.agents() {
            for service in config.services.values() {
                for region in service.endpoints.keys() {
                    let near = *region == home;
                    pairs.push(Pair {
                        vantage: vantage.clone(),
                        home: home.clone(),
                        endpoint: EndpointKey::new(&service.name, region),
                        interval: service.interval,
                        timeout: service.timeout,
                        latency: if near { 2.0 } else { 60.0 + 120.0 * rng.f64() },
                    });
                }
            }
        }
        let first = |p: &Pair, rng: &mut Rng| {
            args.from + Span::from_millis(rng.u64(0..p.interval.as_millis().max(1)))
        };
        let due = pairs.iter().enumerate().map(|(n, pair)| Reverse((first(pair, &mut rng), n))).collect();
        let until = args.from + Span::from_hours(24 * u64::from(args.days));
        Self { rng, pairs, due, until, to_come, now: Vec::new() }
    }

    fn next(&mut self) -> Option<(Timestamp, &Pair, Probe)> {
        loop {
            let Reverse((at, n)) = self.due.pop()?;
            if at >= self.until {
                return None;
            }
            while let Some(incident) = self.to_come.pop_front_if(|i| i.from <= at) {
                self.now.push(incident);
            }
            self.now.retain(|i| at < i.until);
            let pair = &self.pairs[n];
            self.due.push(Reverse((at + pair.interval, n)));
            let silent =
                |i: &Incident| matches!(&i.trouble, Trouble::Silence { vantage } if *vantage == pair.vantage);
            if !self.now.iter().any(silent) {
                let probe = probe(&mut self.rng, pair, at, &self.now);
                return Some((at, &self.pairs[n], probe));
            }
        }
    }
}

/// How a probe ends while all of this goes on: as the first of it that has its way with it.
fn probe(rng: &mut Rng, pair: &Pair, at: Timestamp, incidents: &[Incident]) -> Probe {
    let timeout = pair.timeout.as_secs_f64() * 1_000.0;
    let well = Probe {
        outcome: "good",
        latency_millis: pair.latency * (0.9 + 0.4 * rng.f64()),
        blind: incidents
            .iter()
            .any(|i| matches!(&i.trouble, Trouble::CutOff { vantage } if *vantage == pair.vantage)),
        outage: incidents.iter().any(|i| i.trouble.outage() == Some(&pair.endpoint)),
    };
    let lost = Probe { outcome: "timed_out", latency_millis: timeout, ..well };
    for incident in incidents {
        let ended = match effect(rng, pair, at, incident) {
            Effect::None => continue,
            Effect::Lost => lost,
            Effect::Refused => Probe { outcome: "refused", ..well },
            Effect::Status => Probe { outcome: "status", ..well },
            Effect::Takes(millis) if millis < timeout => Probe { latency_millis: millis, ..well },
            Effect::Takes(_) => lost,
        };
        return ended;
    }
    if rng.f64() < BASE_LOSS { lost } else { well }
}

/// What an incident does to one probe.
enum Effect {
    None,
    Lost,
    Refused,
    Status,
    /// It is answered after so many milliseconds.
    Takes(f64),
}

fn effect(rng: &mut Rng, pair: &Pair, at: Timestamp, incident: &Incident) -> Effect {
    let outside = pair.home != pair.endpoint.region;
    let lost = |it: bool| if it { Effect::Lost } else { Effect::None };
    match &incident.trouble {
        Trouble::Down { endpoint } if *endpoint == pair.endpoint => Effect::Refused,
        Trouble::Gray { endpoint, share } if *endpoint == pair.endpoint && rng.f64() < *share => {
            Effect::Status
        }
        Trouble::Slow { endpoint } if *endpoint == pair.endpoint => {
            Effect::Takes(pair.timeout.as_secs_f64() * 1_000.0 * (0.7 + 2.0 * rng.f64()))
        }
        Trouble::Unreachable { endpoint } => lost(*endpoint == pair.endpoint && outside),
        Trouble::Flaps { endpoint, every, down } if *endpoint == pair.endpoint => {
            let into = at.since(incident.from).as_millis() % every.as_millis().max(1);
            if into < down.as_millis() { Effect::Refused } else { Effect::None }
        }
        Trouble::Loss { vantage, share } => lost(*vantage == pair.vantage && outside && rng.f64() < *share),
        Trouble::CutOff { vantage } => lost(*vantage == pair.vantage && outside),
        Trouble::LossEverywhere { share } => lost(outside && rng.f64() < *share),
        Trouble::LossTowards { region, vantages, share } => {
            let there = *region == pair.endpoint.region && vantages.contains(&pair.vantage);
            lost(there && rng.f64() < *share)
        }
        Trouble::Down { .. }
        | Trouble::Gray { .. }
        | Trouble::Slow { .. }
        | Trouble::Flaps { .. }
        | Trouble::Silence { .. } => Effect::None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::set::tests::shipped;
    use super::*;

    fn generator(seed: u64) -> Generator {
        let from = "2026-01-01T00:00:00Z".parse().unwrap();
        Generator::new(&shipped(), &HistoryArgs { seed, days: 1, from, config: None })
    }

    fn all(mut generator: Generator) -> Vec<(Timestamp, AgentId, EndpointKey, Probe)> {
        let mut probes = Vec::new();
        while let Some((at, pair, probe)) = generator.next() {
            probes.push((at, pair.vantage.clone(), pair.endpoint.clone(), probe));
        }
        probes
    }

    #[test]
    fn a_seed_is_a_history() {
        let one = all(generator(5));
        assert_eq!(one, all(generator(5)));
        assert_ne!(one, all(generator(6)));
        assert!(one.windows(2).all(|w| w[0].0 <= w[1].0), "in the order of its times");
        // Four vantages, two services, three regions, every 30 s, less what silent agents did not send.
        let most = 4 * 2 * 3 * 2_880;
        assert!((most * 9 / 10..most).contains(&one.len()), "{} of {most}", one.len());
    }

    #[test]
    fn labels_say_what_is_true_and_not_what_was_seen() {
        let incidents: Vec<Incident> = generator(5).to_come.into();
        let (mut failed_and_fine, mut good_and_out, mut blind) = (0, 0, 0);
        for (at, vantage, endpoint, probe) in all(generator(5)) {
            let going_on = || incidents.iter().filter(|i| i.from <= at && at < i.until);
            assert_eq!(
                probe.outage,
                going_on().any(|i| i.trouble.outage() == Some(&endpoint)),
                "{at} {endpoint}"
            );
            let silent = Trouble::Silence { vantage: vantage.clone() };
            assert!(!going_on().any(|i| i.trouble == silent), "{vantage} is silent at {at}");
            let cut_off = Trouble::CutOff { vantage };
            assert_eq!(probe.blind, going_on().any(|i| i.trouble == cut_off));
            failed_and_fine += u32::from(probe.outcome != "good" && !probe.outage);
            good_and_out += u32::from(probe.outcome == "good" && probe.outage);
            blind += u32::from(probe.blind);
        }
        assert!(
            failed_and_fine > 50 && good_and_out > 10 && blind > 10,
            "{failed_and_fine} {good_and_out} {blind}"
        );
    }
}
