//! `pki invite` and `pki join`: a new machine gets its certificate without its key going anywhere.

use super::pki::{Written, failure, lasting, next_of, open, sentence};
use crate::args::{InviteArgs, InviteVerb, JoinArgs};
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::Out;
use crate::output::document::Versioned;
use drover_model::machine::MachineIdentity;
use drover_model::{Span, Timestamp};
use drover_pki::authority::Wanted;
use drover_pki::joining::{Invitation, JoinError, JoinToken, join};
use serde::Serialize;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// An invitation may stand for so long: whoever needs more makes another.
const INVITATION_MAX: Span = Span::from_hours(24);
/// Bytes of a file with a token.
const TOKEN_BYTES_MAX: u64 = 1_024;

/// What the new machine is given.
#[derive(Debug, Serialize)]
struct Invited {
    identity: MachineIdentity,
    address: SocketAddr,
    token: String,
    until: Timestamp,
}

/// `pki invite`: waits until the machine has joined.
///
/// # Errors
/// When it did not.
pub async fn invite(out: &Out, verb: InviteVerb) -> Result<ExitCode> {
    let (identity, hosts, how) = match verb {
        InviteVerb::Agent { agent, region, how } => {
            (MachineIdentity::Agent { region, agent }, Vec::new(), how)
        }
        InviteVerb::Coordinator { name, host, how } => (MachineIdentity::Coordinator { name }, host, how),
        InviteVerb::Client { name, how } => (MachineIdentity::Client { name }, Vec::new(), how),
    };
    let InviteArgs { place, listen, lasts, valid_for } = how;
    lasting(valid_for)?;
    if lasts > INVITATION_MAX || lasts == Span::ZERO {
        return Err(Failure::usage(format!("--for must be more than nothing and {INVITATION_MAX} at most"))
            .hint("--for 15m"));
    }
    // What would be wrong when the machine comes is told now.
    drop(open(&place.pki)?);
    let cannot = |e: &JoinError| told(&place.pki, &identity, e);
    let invitation = Invitation::open(listen).await.map_err(|e| cannot(&e))?;
    let invited = Invited {
        identity: identity.clone(),
        address: invitation.address,
        token: invitation.token().reveal(),
        until: drover_pki::wall_now() + lasts,
    };
    out.show(&Versioned::of(&invited), |_| format!("{}\n", invited.token))?;
    out.talk(&format!(
        "within {lasts}, on the machine of {identity}: drover pki join {} --out DIR, which asks for the token above",
        invited.address
    ));
    let (wanted, teller) = (Wanted { identity: identity.clone(), hosts, lifetime: valid_for }, out.clone());
    let tell = Arc::new(move |what: &str| teller.talk(what));
    let issued = invitation.serve(place.pki.clone(), wanted, lasts, tell).await.map_err(|e| cannot(&e))?;
    out.talk(&format!("{} joined: certificate {}, until {}", issued.identity, issued.serial, issued.until));
    Ok(ExitCode::Done)
}

/// `pki join`.
///
/// # Errors
/// When it is refused, or the files can't be written.
pub async fn join_here(out: &Out, args: &JoinArgs) -> Result<ExitCode> {
    let text = token_text(out, args.token_file.as_deref())?;
    let token: JoinToken = text.parse().map_err(|e: drover_pki::joining::NotAJoinToken| {
        Failure::usage(e.to_string()).hint("`drover pki invite` prints one, where the authority is")
    })?;
    let joined = join(&args.address, &token, &args.out).await.map_err(|e| refused(&args.out, &e))?;
    let peer = joined.peer;
    let written = Written {
        directory: args.out.clone(),
        serial: peer.serial,
        identity: peer.identity,
        hosts: peer.hosts,
        from: peer.from,
        until: peer.until,
    };
    out.show(&Versioned::of(&written), |look| sentence(&written, look))?;
    out.talk(&next_of(&written.identity, &args.out));
    Ok(ExitCode::Done)
}

/// From a file, from whoever is at the terminal, or from standard input: never from the list of processes.
fn token_text(out: &Out, file: Option<&Path>) -> Result<String> {
    let cannot = |what: String| move |e: std::io::Error| Failure::because(ExitCode::Usage, what, &e);
    let mut text = String::new();
    match file {
        Some(path) => {
            let what = format!("can't read the token in {}", path.display());
            let opened = std::fs::File::open(path).map_err(cannot(what.clone()))?;
            opened.take(TOKEN_BYTES_MAX).read_to_string(&mut text).map_err(cannot(what))?;
        }
        None if out.can_ask() => text = out.ask("the token that `drover pki invite` printed:")?,
        None => {
            let what = "can't read the token from standard input".to_owned();
            std::io::stdin().take(TOKEN_BYTES_MAX).read_to_string(&mut text).map_err(cannot(what))?;
        }
    }
    Ok(text)
}

/// On the authority's side.
fn told(pki: &Path, identity: &MachineIdentity, error: &JoinError) -> Failure {
    match error {
        JoinError::Pki(e) => failure(pki, e),
        JoinError::Unconfirmed { serial, .. } => Failure::of(ExitCode::Failed, error).hint(format!(
            "look whether it has it; else drover pki revoke {identity} --serial {serial} --reason TEXT, and invite it again"
        )),
        _ => Failure::of(ExitCode::Failed, error).hint("drover pki invite … makes another invitation"),
    }
}

/// On the machine's.
fn refused(out: &Path, error: &JoinError) -> Failure {
    let again = "where the authority is: drover pki invite … makes another invitation";
    match error {
        JoinError::Pki(e) => failure(out, e),
        JoinError::Refused { code, .. } if code == "used" => Failure::of(ExitCode::Refused, error)
            .hint(format!("where the authority is: drover pki revoke MACHINE --reason TEXT; {again}")),
        JoinError::Refused { .. } | JoinError::OtherInvitation { .. } | JoinError::OtherKey { .. } => {
            Failure::of(ExitCode::Refused, error).hint(again)
        }
        _ => Failure::of(ExitCode::Unreachable, error).hint(
            "look whether the invitation still stands and this machine reaches it; the same command goes on",
        ),
    }
}
