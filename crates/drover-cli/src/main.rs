//! The `drover` command: reads arguments, picks implementations, and says how it ended.
//!
//! A verb is a client of the coordinator's API; a hidden role is one of the processes. `verbs` and `roles` do,
//! `render` turns objects into text, and `output` alone writes to the terminal.

mod args;
mod client;
mod consent;
mod context;
mod demo;
mod dispatch;
mod exit;
mod failure;
mod offline;
mod output;
mod render;
mod roles;
mod tls_files;
mod verbs;

use args::Args;
use clap::Parser;
use drover_coordinator::allocator::Jemalloc;
use exit::ExitCode;
use failure::{Failure, Result};
use output::Out;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> std::process::ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(e) => {
            // Help and version are answers; everything else is wrong usage. clap chooses the stream.
            let _ = e.print();
            let code = if e.use_stderr() { ExitCode::Usage } else { ExitCode::Done };
            return code.into();
        }
    };
    let out = Out::new(args.global.output);
    let code = run(args, &out).unwrap_or_else(|failure| {
        out.failure(&failure);
        failure.code
    });
    code.into()
}

fn run(args: Args, out: &Out) -> Result<ExitCode> {
    // Fails only when a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::because(ExitCode::Internal, "can't start the runtime", &e))?;
    let code = runtime.block_on(dispatch::dispatch(args, out));
    // Whatever still blocks a thread must not keep a command from ending.
    runtime.shutdown_background();
    code
}
