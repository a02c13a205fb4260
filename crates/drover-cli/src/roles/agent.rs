//! `drover agent`.

use super::{Process, listening};
use crate::args::{AgentArgs, TlsArgs};
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::tls_files::Said;
use drover_agent::{AgentError, Identity};
use drover_pki::HttpError;
use serde::Serialize;

/// What the ready file says.
#[derive(Debug, Serialize)]
struct Bound {
    role: &'static str,
    pid: u32,
    /// Where it tells about itself.
    status: Option<String>,
}

/// Runs the agent until it is told to stop.
///
/// # Errors
/// When it can't start.
pub async fn run(args: &AgentArgs, tls: &TlsArgs) -> Result<ExitCode> {
    let process = Process::begin(&args.process, || tracing::info!("an agent pulls its list by itself"))?;
    let mut identity = Identity::load(&args.identity).map_err(|e| Failure::of(ExitCode::Usage, &e))?;
    identity.tls = Said::of(tls).files(identity.tls.as_ref())?;
    let (ready, said) = tokio::sync::oneshot::channel();
    let told = process.clone();
    let process_args = args.process.clone();
    let announce = tokio::spawn(async move {
        let Ok(status) = said.await else { return Ok(()) };
        let bound = Bound { role: "agent", pid: std::process::id(), status };
        told.ready(&process_args, &bound)
    });
    let stop = process.stop.clone();
    drover_agent::run_announced(identity, stop, ready).await.map_err(|e| failure(&e))?;
    announce
        .await
        .map_err(|e| Failure::because(ExitCode::Internal, "can't say that the agent is ready", &e))??;
    if process.was_told() {
        return Ok(ExitCode::Done);
    }
    Err(Failure::new(ExitCode::Internal, "a part of the agent broke; its log says which"))
}

fn failure(error: &AgentError) -> Failure {
    let failure = Failure::of(code(error), error);
    match error {
        AgentError::StatusListen { address, source } => {
            listening(failure, address, source, "`status` of the identity file")
        }
        AgentError::Client { source: HttpError::Certificates(_), .. } => failure
            .hint("drover pki issue agent AGENT --region REGION --out DIR, as its identity file has them"),
        _ => failure,
    }
}

fn code(error: &AgentError) -> ExitCode {
    match error {
        AgentError::Identity { .. }
        | AgentError::CoordinatorUrl { .. }
        | AgentError::Client { source: HttpError::Certificates(_), .. }
        | AgentError::StatusAddress(_)
        | AgentError::StatusNotLoopback(_) => ExitCode::Usage,
        _ => ExitCode::Failed,
    }
}
