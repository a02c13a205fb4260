//! `doctor`.

use super::Bench;
use crate::exit::ExitCode;
use crate::failure::Result;
use crate::offline;
use crate::render::doctor::{Mark, certificate, diagnose, render, unreachable};

/// Checks everything that failover depends on.
///
/// # Errors
/// When the result can't be shown.
pub async fn run(bench: &Bench) -> Result<ExitCode> {
    let out = &bench.out;
    let (view, text) = match bench.client.status_with_text().await {
        Ok(read) => read,
        Err(failure) if failure.code == ExitCode::Unreachable => {
            let why: Vec<String> = std::iter::once(failure.message).chain(failure.causes).collect();
            let diagnosis = unreachable(&why.join(": "));
            out.show(&diagnosis, |look| render(&diagnosis, look))?;
            return Ok(ExitCode::Unreachable);
        }
        Err(failure) => return Err(failure),
    };
    offline::keep_snapshot(&bench.target, &text);
    let (dns, pages) = futures::join!(offline::ask_dns(&view.dns, &view.services), offline::ask_pages(&view));
    let mut diagnosis = diagnose(&view, &dns, &pages, env!("CARGO_PKG_VERSION"), &out.look());
    diagnosis
        .checks
        .extend(bench.target.tls.as_ref().map(|files| certificate(&files.certificate, &out.look())));
    out.show(&diagnosis, |look| render(&diagnosis, look))?;
    Ok(if diagnosis.worst() == Mark::Ok { ExitCode::Done } else { ExitCode::Attention })
}
