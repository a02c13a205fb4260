//! `dataset status`, `dataset move`, `dataset abort`.

use super::{Bench, me};
use crate::args::{DatasetMoveArgs, DatasetVerb};
use crate::consent;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::document::{Items, Versioned};
use crate::output::table;
use crate::render;
use drover_model::DatasetId;
use drover_model::api::{CommandRequest, DatasetView, Done, MoveRequest, RightStanding};
use drover_model::write_right::MoveEnd;
use std::time::{Duration, Instant};

/// Between two looks at a move.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// A move takes some seconds; whose target does not answer it waits for. Longer than this nobody watches it.
const WATCHED_MAX: Duration = Duration::from_secs(120);

/// Does what was asked.
///
/// # Errors
/// When the coordinator can't be asked or refuses.
pub async fn run(bench: &Bench, verb: DatasetVerb) -> Result<ExitCode> {
    match verb {
        DatasetVerb::Status { dataset } => status(bench, dataset.as_ref()).await,
        DatasetVerb::Move(args) => move_to(bench, args).await,
        DatasetVerb::Abort { dataset, reason } => {
            let request = CommandRequest { by: me(), reason, plan: None, roll_back: false, alone: false };
            let done: Done = bench.client.post(&["datasets", dataset.as_str(), "abort"], &request).await?;
            bench.out.show(&Versioned::of(&done), |look| table::paragraph(look, &done.sentence))?;
            Ok(ExitCode::Done)
        }
    }
}

async fn views(bench: &Bench) -> Result<Vec<DatasetView>> {
    bench.client.get(&["datasets"], &[]).await
}

/// The one of this name.
fn find(views: Vec<DatasetView>, dataset: &DatasetId) -> Result<DatasetView> {
    views.into_iter().find(|view| view.dataset == *dataset).ok_or_else(|| {
        Failure::new(ExitCode::Refused, format!("there is no dataset {dataset}"))
            .hint("drover dataset status")
    })
}

async fn status(bench: &Bench, dataset: Option<&DatasetId>) -> Result<ExitCode> {
    let all = views(bench).await?;
    let shown = match dataset {
        Some(dataset) => vec![find(all, dataset)?],
        None => all,
    };
    bench.out.show(&Items::of(&shown), |look| render::dataset::render(&shown, look))?;
    let is_written = |view: &DatasetView| view.standing == RightStanding::Held;
    Ok(if shown.iter().all(is_written) { ExitCode::Done } else { ExitCode::Attention })
}

/// Begins it, and tells how it ended.
async fn move_to(bench: &Bench, args: DatasetMoveArgs) -> Result<ExitCode> {
    let DatasetMoveArgs { dataset, to, reason, yes } = args;
    if !yes {
        let before = find(views(bench).await?, &dataset)?;
        if !bench.out.can_ask() {
            let failure = Failure::usage("without a terminal nobody can be asked");
            return Err(failure
                .hint(format!("drover dataset status {dataset}, and then the same command with --yes")));
        }
        let what = format!("stop {} writing {dataset}, and let {to} write", before.holder);
        consent::confirm(&bench.out, &what)?;
    }
    let request = MoveRequest { by: me(), reason, to };
    let done: Done = bench.client.post(&["datasets", dataset.as_str(), "move"], &request).await?;
    bench.out.talk(&done.sentence);
    let began = Instant::now();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let view = find(views(bench).await?, &dataset)?;
        if let Some(end) = view.last_move.as_ref().and_then(|last| last.ended.as_ref()) {
            return ended(bench, &dataset, end);
        }
        if began.elapsed() > WATCHED_MAX {
            let failure = Failure::new(ExitCode::Failed, format!("the move of {dataset} still goes on"));
            let next =
                format!("drover dataset status {dataset}; or drover dataset abort {dataset} --reason WHY");
            return Err(failure.hint(next));
        }
    }
}

fn ended(bench: &Bench, dataset: &DatasetId, end: &MoveEnd) -> Result<ExitCode> {
    if !end.granted {
        let failure = Failure::new(ExitCode::Refused, format!("{dataset}: {}", end.sentence));
        return Err(failure.hint(format!("drover dataset status {dataset}")));
    }
    let done = Done { sentence: format!("{dataset}: {}", end.sentence) };
    bench.out.show(&Versioned::of(&done), |look| table::paragraph(look, &done.sentence))?;
    Ok(ExitCode::Done)
}
