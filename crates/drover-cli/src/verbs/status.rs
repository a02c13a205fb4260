//! `status`.

use super::Bench;
use crate::args::StatusArgs;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::offline;
use crate::output::{Format, Out};
use crate::render;
use drover_model::api::{Severity, StatusView};
use std::time::Duration;

/// Between two looks of `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(2);

/// Shows what is not normal, from the coordinator or without it.
///
/// # Errors
/// When neither can be had or shown.
pub async fn run(bench: &Bench, args: &StatusArgs) -> Result<ExitCode> {
    if !args.watch {
        return once(bench, args, Out::text).await;
    }
    if bench.out.format != Format::Table {
        return Err(Failure::usage("`--watch` draws tables").hint("leave out -o, or call status in a loop"));
    }
    loop {
        once(bench, args, Out::redraw).await?;
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

async fn once(bench: &Bench, args: &StatusArgs, write: fn(&Out, &str) -> Result<()>) -> Result<ExitCode> {
    let (out, context) = (&bench.out, bench.target.name.as_str());
    let as_table = out.format == Format::Table;
    match bench.client.status_with_text().await {
        Ok((view, text)) => {
            // Beside the work for the screen.
            let target = bench.target.clone();
            let kept = tokio::task::spawn_blocking(move || offline::keep_snapshot(&target, &text));
            if as_table {
                write(out, &render::status::render(&view, context, args.all, &out.look()))?;
            } else {
                out.show(&view, |_| String::new())?;
            }
            // That it could not be kept is no failure, whatever the reason.
            kept.await.unwrap_or_else(|e| tracing::debug!(error = %e, "can't keep the snapshot"));
            Ok(code(&view, args.exit_code))
        }
        Err(failure) if failure.code == ExitCode::Unreachable => {
            let why = std::iter::once(&failure.message).chain(&failure.causes).cloned().collect::<Vec<_>>();
            let view = offline::look(&bench.target, why.join(": ")).await;
            if as_table {
                write(out, &render::offline::render(&view, context, args.all, &out.look()))?;
            } else {
                out.show(&view, |_| String::new())?;
            }
            Ok(ExitCode::Unreachable)
        }
        Err(failure) => Err(failure),
    }
}

fn code(view: &StatusView, wanted: bool) -> ExitCode {
    if wanted && render::status::worst(view) >= Some(Severity::Warning) {
        ExitCode::Attention
    } else {
        ExitCode::Done
    }
}
