//! `break-glass dns show`: the provider's own word, asked from here.

use super::{Glass, lag, not_asked};
use crate::args::GlassShowArgs;
use crate::exit::ExitCode;
use crate::failure::Result;
use crate::output::document::OUTPUT_SCHEMA;
use crate::output::{Out, now};
use crate::render::break_glass::{GlassRecord, GlassView, render};
use drover_coordinator::break_glass::{OWNER, version};
use drover_dns::provider::Observed;
use drover_dns::zone::RecordKey;
use drover_model::break_glass::HeldBy;
use drover_model::config::Service;

pub(super) async fn run(out: &Out, args: &GlassShowArgs) -> Result<ExitCode> {
    let glass = Glass::of(args.place.clone())?;
    let services: Vec<&Service> = match args.services.is_empty() {
        true => glass.config.services.values().collect(),
        false => args.services.iter().map(|name| glass.service(name)).collect::<Result<_>>()?,
    };
    let keyed = services.into_iter().map(|service| Ok((service, Glass::key(service)?)));
    let keyed: Vec<(&Service, RecordKey)> = keyed.collect::<Result<_>>()?;
    let keys: Vec<RecordKey> = keyed.iter().map(|(_, key)| key.clone()).collect();
    let observed = glass.observe(&keys).await?;
    let commanded_by = glass.gate.commanded_by().await.map_err(|e| not_asked(&glass.dns.zone, &e))?;
    let record = |(service, key): &(&Service, RecordKey)| {
        let found = observed.iter().find(|one| one.key == *key);
        record(service, key, found)
    };
    let view = GlassView {
        schema: OUTPUT_SCHEMA,
        at: now(),
        zone: glass.dns.zone.clone(),
        provider: glass.gate.name().to_owned(),
        has_weights: glass.gate.capabilities().has_weights,
        commanded_by,
        records: keyed.iter().map(record).collect(),
    };
    out.show(&view, |look| render(&view, look))?;
    Ok(ExitCode::Done)
}

fn record(service: &Service, key: &RecordKey, found: Option<&Observed>) -> GlassRecord {
    let live = found.and_then(|one| one.current.as_ref());
    let held_by = live.and_then(|live| HeldBy::of_owner(&live.owner));
    GlassRecord {
        service: service.name.clone(),
        name: key.name.as_str().to_owned(),
        record_type: key.rtype.to_string(),
        is_drovers: live.is_some_and(|live| live.owner == OWNER),
        held_by,
        is_changed_by_hand: found.is_some_and(|one| one.is_changed_by_hand),
        live: live.map(version),
        lagging: found.map(|one| one.lagging.iter().map(lag).collect()).unwrap_or_default(),
    }
}
