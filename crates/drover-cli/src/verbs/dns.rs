//! `dns show`, `dns drift`, `dns history`, `dns export`, `dns checks`, `dns adopt`.

use super::{Bench, me};
use crate::args::{AdoptArgs, DnsVerb};
use crate::consent::confirm;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::document::{Items, Versioned};
use crate::output::words::count;
use crate::output::{Format, table};
use crate::render;
use drover_model::ServiceId;
use drover_model::api::{
    AdoptRequest, DNS_COMMAND_TAKEN_BY, DnsCommandView, Done, HealthChecksView, PublicationView, RecordState,
    RecordView, TakeCommandRequest, ZoneView,
};

/// Does what was asked about the zone.
///
/// # Errors
/// When the coordinator can't be asked or refuses.
pub async fn run(bench: &Bench, verb: DnsVerb) -> Result<ExitCode> {
    match verb {
        DnsVerb::Show { services } => show(bench, &services).await,
        DnsVerb::Drift => drift(bench).await,
        DnsVerb::History { service, limit } => history(bench, service.as_ref(), limit).await,
        DnsVerb::Verify(args) => super::dns_verify::run(bench, &args).await,
        DnsVerb::Export => export(bench).await,
        DnsVerb::Checks => checks(bench).await,
        DnsVerb::Adopt(args) => adopt(bench, args).await,
        DnsVerb::Keygen(args) => super::dns_keygen::run(&bench.out, &args),
    }
}

/// The zone as the coordinator reads it now.
///
/// # Errors
/// When it can't.
pub(super) async fn zone(bench: &Bench) -> Result<ZoneView> {
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
    let is_well = zone.records.is_empty() && zone.servers.iter().all(render::dns::shows_all);
    Ok(if is_well { ExitCode::Done } else { ExitCode::Attention })
}

async fn history(bench: &Bench, service: Option<&ServiceId>, limit: usize) -> Result<ExitCode> {
    let asked: Vec<(&str, String)> = service.map(|s| ("service", s.to_string())).into_iter().collect();
    let published: Vec<PublicationView> = bench.client.list_where(&["dns", "history"], &asked, limit).await?;
    bench.out.show(&Items::of(&published), |look| render::dns_history::render(&published, look))?;
    Ok(ExitCode::Done)
}

async fn checks(bench: &Bench) -> Result<ExitCode> {
    let view: HealthChecksView = bench.client.get(&["dns", "checks"], &[]).await?;
    bench.out.show(&view, |look| render::dns_checks::render(&view, look))?;
    let is_well = view.trouble.is_none() && view.regions.iter().all(|r| view.is_followed(&r.region));
    Ok(if is_well { ExitCode::Done } else { ExitCode::Attention })
}

/// A service's record set.
///
/// # Errors
/// When it has none.
pub(super) fn find<'z>(zone: &'z ZoneView, service: &ServiceId) -> Result<&'z RecordView> {
    zone.records.iter().find(|r| r.service == *service).ok_or_else(|| {
        let failure = Failure::usage(format!("no service `{service}` has a record set"));
        failure.hint("drover dns show")
    })
}

/// A zone file, also where a table was asked for: that is what it is for.
async fn export(bench: &Bench) -> Result<ExitCode> {
    let zone = zone(bench).await?;
    if bench.out.format == Format::Table {
        bench.out.text(&render::dns::zone_file(&zone))?;
    } else {
        bench.out.show(&zone, |_| String::new())?;
    }
    Ok(ExitCode::Done)
}

async fn adopt(bench: &Bench, args: AdoptArgs) -> Result<ExitCode> {
    let zone = zone(bench).await?;
    if args.command {
        return take_command(bench, args, zone.of_another_store).await;
    }
    if !zone.of_another_store.is_empty() {
        let failure = Failure::new(ExitCode::Refused, "DNS obeys another store, and would refuse it");
        return Err(failure.hint(DNS_COMMAND_TAKEN_BY));
    }
    let records = if args.all {
        // What somebody holds is his, until it is reconciled or taken by its name.
        zone.records.iter().filter(|r| r.can_be_adopted() && r.held_by().is_none()).collect()
    } else {
        args.services.iter().map(|service| find(&zone, service)).collect::<Result<Vec<_>>>()?
    };
    if records.is_empty() {
        return Err(Failure::new(
            ExitCode::Refused,
            "nothing was changed by hand, is somebody else's or is withheld",
        ));
    }
    if !args.yes {
        let look = bench.out.look();
        let difference = |record: &&RecordView| render::dns::difference(record, &look);
        let shown = || records.iter().map(difference).collect::<Vec<_>>().join("\n");
        let what = count(records.len(), "record set");
        ask(bench, "drover dns drift", shown, &format!("Take {what}, and make each what it should be"))?;
    }
    let is_table = bench.out.format == Format::Table;
    let mut done = Vec::with_capacity(records.len());
    for record in records {
        let (service, seen) = (record.service.clone(), record.live.clone());
        let request = AdoptRequest { by: me(), reason: args.reason.clone(), service, seen };
        let one: Done = bench.client.post(&["dns", "adopt"], &request).await?;
        // At once: what was done is told also when a later one fails.
        if is_table {
            bench.out.text(&table::paragraph(&bench.out.look(), &one.sentence))?;
        }
        done.push(one);
    }
    if !is_table {
        bench.out.show(&Items::of(&done), |_| String::new())?;
    }
    Ok(ExitCode::Done)
}

/// Has servers obey this store. Those that can't be asked now are told when the same is asked again.
async fn take_command(bench: &Bench, args: AdoptArgs, seen: Vec<DnsCommandView>) -> Result<ExitCode> {
    if seen.is_empty() {
        let failure =
            Failure::new(ExitCode::Refused, "every DNS server that can be asked obeys this store already");
        return Err(failure.hint("drover dns show"));
    }
    if !args.yes {
        let shown = || render::dns::of_another_store(&seen, &bench.out.look());
        let servers = count(seen.len(), "server");
        let question = format!("Is that store lost for good, and shall {servers} obey this one");
        ask(bench, "drover dns show", shown, &question)?;
    }
    let request = TakeCommandRequest { by: me(), reason: args.reason, seen };
    let done: Done = bench.client.post(&["dns", "command"], &request).await?;
    bench.out.show(&Versioned::of(&done), |look| table::paragraph(look, &done.sentence))?;
    Ok(ExitCode::Done)
}

/// Shows what it is about, and asks; whoever has no terminal is told which command shows it.
fn ask(bench: &Bench, shown_by: &str, shown: impl Fn() -> String, question: &str) -> Result<()> {
    if !bench.out.can_ask() {
        let failure = Failure::usage("without a terminal nobody can be asked");
        return Err(failure.hint(format!("{shown_by}, and then the same command with --yes")));
    }
    bench.out.text(&shown())?;
    confirm(&bench.out, question)
}
