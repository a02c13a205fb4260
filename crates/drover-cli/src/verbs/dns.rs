//! `dns show`, `dns drift`, `dns adopt`.

use super::{Bench, me};
use crate::args::{AdoptArgs, DnsVerb};
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::document::Versioned;
use crate::output::table;
use crate::render;
use drover_model::ServiceId;
use drover_model::api::{AdoptRequest, Done, RecordState, RecordView, ZoneView};

/// Does what was asked about the zone.
///
/// # Errors
/// When the coordinator can't be asked or refuses.
pub async fn run(bench: &Bench, verb: DnsVerb) -> Result<ExitCode> {
    match verb {
        DnsVerb::Show { services } => show(bench, &services).await,
        DnsVerb::Drift => drift(bench).await,
        DnsVerb::Adopt(args) => adopt(bench, args).await,
    }
}

async fn zone(bench: &Bench) -> Result<ZoneView> {
    bench.client.get(&["dns"], &[]).await
}

async fn show(bench: &Bench, services: &[ServiceId]) -> Result<ExitCode> {
    let mut zone = zone(bench).await?;
    for service in services {
        find(&zone, service)?;
    }
    zone.records.retain(|r| services.is_empty() || services.contains(&r.service));
    bench.out.show(&zone, |look| render::dns::render(&zone, look))?;
    Ok(ExitCode::Done)
}

async fn drift(bench: &Bench) -> Result<ExitCode> {
    let mut zone = zone(bench).await?;
    zone.records.retain(|r| r.state != RecordState::InLine);
    bench.out.show(&zone, |look| render::dns::drift(&zone, look))?;
    Ok(if zone.records.is_empty() { ExitCode::Done } else { ExitCode::Attention })
}

fn find<'z>(zone: &'z ZoneView, service: &ServiceId) -> Result<&'z RecordView> {
    zone.records.iter().find(|r| r.service == *service).ok_or_else(|| {
        let failure = Failure::usage(format!("no service `{service}` has a record set"));
        failure.hint("drover dns show")
    })
}

async fn adopt(bench: &Bench, args: AdoptArgs) -> Result<ExitCode> {
    let zone = zone(bench).await?;
    let record = find(&zone, &args.service)?;
    if !args.yes {
        if !bench.out.can_ask() {
            let failure = Failure::usage("without a terminal nobody can be asked");
            return Err(failure.hint("drover dns show, and then the same command with --yes"));
        }
        bench.out.text(&render::dns::difference(record, &bench.out.look()))?;
        let answer = bench.out.ask(&format!("Make {} what it should be? [y/N]", record.name))?;
        if !matches!(answer.as_str(), "y" | "Y" | "yes") {
            return Err(Failure::new(ExitCode::Refused, "not confirmed, nothing was done"));
        }
    }
    let seen = record.live.clone();
    let request = AdoptRequest { by: me(), reason: args.reason, service: args.service, seen };
    let done: Done = bench.client.post(&["dns", "adopt"], &request).await?;
    bench.out.show(&Versioned::of(&done), |look| table::paragraph(look, &done.sentence))?;
    Ok(ExitCode::Done)
}
