//! For packagers: `completions`, `man`.

use crate::args::Args;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::Out;
use clap::CommandFactory;
use std::path::Path;

/// Completions for a shell.
///
/// # Errors
/// When they can't be written.
pub fn completions(out: &Out, shell: clap_complete::Shell) -> Result<ExitCode> {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "drover", &mut bytes);
    out.raw(&bytes)?;
    Ok(ExitCode::Done)
}

/// The manual page of `drover`, or one page a verb into a directory.
///
/// # Errors
/// When it can't be written.
pub fn man(out: &Out, dir: Option<&Path>) -> Result<ExitCode> {
    let failed = |e| Failure::because(ExitCode::Internal, "can't write the manual", &e);
    if let Some(dir) = dir {
        std::fs::create_dir_all(dir).map_err(failed)?;
        clap_mangen::generate_to(Args::command(), dir).map_err(failed)?;
        return Ok(ExitCode::Done);
    }
    let mut bytes = Vec::new();
    clap_mangen::Man::new(Args::command()).render(&mut bytes).map_err(failed)?;
    out.raw(&bytes)?;
    Ok(ExitCode::Done)
}
