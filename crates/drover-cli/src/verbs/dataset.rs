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
use drover_model::api::{CommandRequest, DatasetView, Done, MoveBegun, MoveRequest, RightStanding};
use drover_model::write_right::{MoveEnd, MoveRecord};
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
    let begun: MoveBegun = bench.client.post(&["datasets", dataset.as_str(), "move"], &request).await?;
    bench.out.talk(&begun.sentence);
    let began = Instant::now();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        // The coordinator may be replaced meanwhile: that it does not answer ends no move, and no watch.
        let looked = views(bench).await;
        let last = looked.as_ref().ok().and_then(|all| all.iter().find(|view| view.dataset == dataset));
        if let Some(end) = last.and_then(|view| view.last_move.as_ref()).and_then(|last| end_of(&begun, last))
        {
            return ended(bench, &dataset, end);
        }
        if began.elapsed() > WATCHED_MAX {
            let what = match looked {
                Ok(_) => format!("the move of {dataset} still goes on"),
                Err(_) => format!("how the move of {dataset} ended is not known: no coordinator says"),
            };
            let next =
                format!("drover dataset status {dataset}; or drover dataset abort {dataset} --reason WHY");
            return Err(Failure::new(ExitCode::Failed, what).hint(next));
        }
    }
}

/// How the move that was begun ended, where the last one is that and no other: a coordinator may show an older one for a while,
/// and a move that came to nothing is asked for again by the same plan.
fn end_of<'a>(begun: &MoveBegun, last: &'a MoveRecord) -> Option<&'a MoveEnd> {
    let is_this = last.plan == begun.plan && last.began_at == begun.began_at;
    last.ended.as_ref().filter(|_| is_this)
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
