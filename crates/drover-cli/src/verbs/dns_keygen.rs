//! `dns keygen`: the key by which DNS servers know what this coordinator published. It asks no coordinator.

use crate::args::KeygenArgs;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::Out;
use crate::output::document::Versioned;
use drover_dns::publish::{SigningKey, UnusableSigningKey};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What may be told of a key.
#[derive(Debug, Serialize)]
struct Made {
    file: PathBuf,
    public_key: String,
}

/// Makes a key, or shows the public part of one.
///
/// # Errors
/// When the file exists already, can't be written or read, or is no key.
pub fn run(out: &Out, args: &KeygenArgs) -> Result<ExitCode> {
    // The command line asks for one of the two.
    let (file, key) = match (&args.out, &args.show) {
        (Some(file), _) => (file, SigningKey::create(file)),
        (None, Some(file)) => (file, SigningKey::read(file)),
        (None, None) => return Err(Failure::usage("a key needs a file").hint("drover dns keygen --out FILE")),
    };
    let key = key.map_err(|error| failure(file, &error))?;
    let made = Made { file: file.clone(), public_key: key.public().to_string() };
    // Alone, so that a script can put it where it belongs.
    out.show(&Versioned::of(&made), |_| format!("{}\n", made.public_key))?;
    if args.out.is_some() {
        out.talk(&format!(
            "{} holds the private key: give it to the coordinator as `dns.signing_key_file`, readable by nobody else. Each \
             server's file has the public key above in `trusted_keys`",
            file.display()
        ));
    }
    Ok(ExitCode::Done)
}

fn failure(file: &Path, error: &UnusableSigningKey) -> Failure {
    let failure = Failure::of(ExitCode::Failed, error);
    match error {
        UnusableSigningKey::NotWritten { .. } if file.exists() => {
            failure.hint(format!("no key is overwritten; drover dns keygen --show {}", file.display()))
        }
        _ => failure,
    }
}
