//! `explain`.

use super::{Bench, runs};
use crate::args::ExplainArgs;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::render;
use drover_model::api::{ExplainView, ReplayView};

/// Explains a region, service, endpoint, run or decision.
///
/// # Errors
/// When there is no such thing, or the coordinator can't be asked.
pub async fn run(bench: &Bench, args: &ExplainArgs) -> Result<ExitCode> {
    if let Some(decision) = &args.replay {
        return replay(bench, decision).await;
    }
    let Some(subject) = &args.subject else {
        return Err(Failure::usage("explain what?").hint("drover explain --help"));
    };
    if is_numbered(subject, "run-") {
        return runs::show(bench, subject).await;
    }
    if is_numbered(subject, "decision-") {
        return replay(bench, subject).await;
    }
    let view: ExplainView = bench.client.get(&["explain", subject], &[]).await?;
    bench.out.show(&view, |look| render::explain::render(&view, look))?;
    Ok(ExitCode::Done)
}

fn is_numbered(subject: &str, prefix: &str) -> bool {
    subject.strip_prefix(prefix).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

async fn replay(bench: &Bench, decision: &str) -> Result<ExitCode> {
    let view: ReplayView = bench.client.get(&["decisions", decision, "replay"], &[]).await?;
    bench.out.show(&view, |look| render::explain::replay(&view, look))?;
    Ok(if view.same { ExitCode::Done } else { ExitCode::Failed })
}
