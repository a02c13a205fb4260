//! Orders without a plan: `freeze`, `unfreeze`, `rearm`; and `log`, which remembers them.

use super::{Bench, me};
use crate::args::{FreezeArgs, LogArgs, RearmArgs, ReasonArgs};
use crate::exit::ExitCode;
use crate::failure::Result;
use crate::output::document::{Items, Versioned};
use crate::output::table;
use crate::render;
use drover_model::api::{CommandRequest, Done, FreezeRequest, ObservationView, RearmRequest};
use drover_model::audit::AuditItem;

fn said(bench: &Bench, done: &Done) -> Result<ExitCode> {
    bench.out.show(&Versioned::of(done), |look| table::paragraph(look, &done.sentence))?;
    Ok(ExitCode::Done)
}

/// `freeze`.
///
/// # Errors
/// When the coordinator can't be asked or refuses.
pub async fn freeze(bench: &Bench, args: FreezeArgs) -> Result<ExitCode> {
    let request = FreezeRequest { by: me(), reason: args.reason, expires_after: args.how_long.span };
    said(bench, &bench.client.post(&["freeze"], &request).await?)
}

/// `unfreeze`.
///
/// # Errors
/// When the coordinator can't be asked or refuses.
pub async fn unfreeze(bench: &Bench, args: ReasonArgs) -> Result<ExitCode> {
    let request =
        CommandRequest { by: me(), reason: args.reason, plan: None, roll_back: false, alone: false };
    said(bench, &bench.client.post(&["unfreeze"], &request).await?)
}

/// `rearm`.
///
/// # Errors
/// When the coordinator can't be asked or refuses.
pub async fn rearm(bench: &Bench, args: RearmArgs) -> Result<ExitCode> {
    let request = RearmRequest { by: me(), reason: args.reason, service: args.service };
    said(bench, &bench.client.post(&["rearm"], &request).await?)
}

/// `log`.
///
/// # Errors
/// When the coordinator can't be asked.
pub async fn log(bench: &Bench, args: &LogArgs) -> Result<ExitCode> {
    if let Some(endpoint) = &args.observations {
        let asked = [("endpoint", endpoint.to_string()), ("since", args.since.to_string())];
        let seen: Vec<ObservationView> =
            bench.client.list_where(&["observations"], &asked, args.limit).await?;
        bench.out.show(&Items::of(&seen), |look| render::observations::render(&seen, look))?;
        return Ok(ExitCode::Done);
    }
    let records: Vec<AuditItem> = bench.client.list(&["audit"], args.limit).await?;
    bench.out.show(&Items::of(&records), |look| render::audit::render(&records, look))?;
    Ok(ExitCode::Done)
}
