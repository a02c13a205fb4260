//! `pki`: an authority in a directory, and what it issues. It asks no coordinator: machines must be let in before there is one,
//! and put out when there is none.

use super::joining;
use crate::args::{InitArgs, IssueArgs, IssueVerb, PkiPlace, PkiVerb, RevokeArgs, RotateArgs};
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::Out;
use crate::output::document::{Items, Versioned};
use crate::output::words::{count, left};
use crate::output::{now, table};
use drover_model::machine::MachineIdentity;
use drover_model::{Span, Timestamp};
use drover_pki::PkiError;
use drover_pki::authority::{Authority, Wanted};
use drover_pki::ledger::{Issued, Standing, ends_soon};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Does what was asked.
///
/// # Errors
/// Why it was not done.
pub async fn run(out: &Out, verb: PkiVerb) -> Result<ExitCode> {
    match verb {
        PkiVerb::Init(args) => init(out, &args),
        PkiVerb::Issue(verb) => issue(out, verb),
        PkiVerb::Rotate(args) => rotate(out, &args),
        PkiVerb::Revoke(args) => revoke(out, &args),
        PkiVerb::Show(place) => show(out, &place),
        PkiVerb::Invite(verb) => joining::invite(out, verb).await,
        PkiVerb::Join(args) => joining::join_here(out, &args).await,
    }
}

/// An authority that was made.
#[derive(Debug, Serialize)]
struct MadeAuthority {
    directory: PathBuf,
    name: String,
    until: Timestamp,
}

fn init(out: &Out, args: &InitArgs) -> Result<ExitCode> {
    let directory = &args.place.pki;
    lasting(args.valid_for)?;
    let made = Authority::init(directory, &args.name, args.valid_for).map_err(|e| failure(directory, &e))?;
    let said = MadeAuthority { directory: directory.clone(), name: args.name.clone(), until: made.until() };
    out.show(&Versioned::of(&said), |look| {
        format!("{} is an authority, until {}\n", directory.display(), table_time(look, said.until))
    })?;
    out.talk(&format!(
        "{} is the secret: whoever has it is any machine. Next: drover pki issue coordinator NAME --host HOST --out DIR{}",
        directory.join("ca.key").display(),
        pki_flag(directory)
    ));
    Ok(ExitCode::Done)
}

fn table_time(look: &crate::output::Look, at: Timestamp) -> String {
    crate::output::words::local_times(look, &at.to_string())
}

/// The flag that a next command needs, where the directory is not the usual one.
fn pki_flag(directory: &Path) -> String {
    if directory == Path::new("pki") { String::new() } else { format!(" --pki {}", directory.display()) }
}

/// A certificate that was issued, and where it is.
#[derive(Debug, Serialize)]
pub(super) struct Written {
    pub(super) directory: PathBuf,
    pub(super) serial: String,
    pub(super) identity: MachineIdentity,
    pub(super) hosts: Vec<String>,
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
}

impl Written {
    fn of(issued: &Issued, directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            serial: issued.serial.clone(),
            identity: issued.identity.clone(),
            hosts: issued.hosts.clone(),
            from: issued.from,
            until: issued.until,
        }
    }
}

fn issue(out: &Out, verb: IssueVerb) -> Result<ExitCode> {
    let (identity, hosts, how) = match verb {
        IssueVerb::Agent { agent, region, how } => {
            (MachineIdentity::Agent { region, agent }, Vec::new(), how)
        }
        IssueVerb::Coordinator { name, host, how } => (MachineIdentity::Coordinator { name }, host, how),
        IssueVerb::Client { name, how } => (MachineIdentity::Client { name }, Vec::new(), how),
    };
    let IssueArgs { place, out: directory, valid_for } = how;
    lasting(valid_for)?;
    let mut authority = open(&place.pki)?;
    let wanted = Wanted { identity, hosts, lifetime: valid_for };
    let issued = authority.issue(&wanted, &directory).map_err(|e| failure(&directory, &e))?;
    let written = Written::of(&issued, &directory);
    out.show(&Versioned::of(&written), |look| sentence(&written, look))?;
    out.talk(&next_of(&issued.identity, &directory));
    Ok(ExitCode::Done)
}

pub(super) fn sentence(written: &Written, look: &crate::output::Look) -> String {
    let until = table_time(look, written.until);
    format!("{} holds the certificate of {}, until {until}\n", written.directory.display(), written.identity)
}

/// What the files are for, with the words that take them.
pub(super) fn next_of(identity: &MachineIdentity, directory: &Path) -> String {
    let d = directory.display();
    let flags = format!("--ca {d}/ca.pem --certificate {d}/certificate.pem --key {d}/key.pem");
    match identity {
        MachineIdentity::Coordinator { .. } => {
            format!("next, on its machine: drover coordinator … --listen ADDR:PORT {flags} --crl {d}/crl.pem")
        }
        MachineIdentity::Agent { .. } => {
            format!(
                "next, on its machine: `tls: {{ca: …, certificate: …, key: …}}` in its identity file, or drover agent … {flags}"
            )
        }
        MachineIdentity::Client { .. } => {
            format!("next: drover status --coordinator https://HOST:PORT {flags}, or `tls:` in a context")
        }
    }
}

fn rotate(out: &Out, args: &RotateArgs) -> Result<ExitCode> {
    lasting(args.valid_for)?;
    let mut authority = open(&args.place.pki)?;
    let (mut written, mut kept) = (Vec::new(), 0);
    for directory in &args.directories {
        let certificate = directory.join("certificate.pem");
        let before = authority.issued_in(&certificate).map_err(|e| failure(directory, &e))?;
        if args.if_ends_soon && !ends_soon(before.from, before.until, now()) {
            kept += 1;
            continue;
        }
        let issued = authority.rotate(directory, args.valid_for).map_err(|e| failure(directory, &e))?;
        written.push(Written::of(&issued, directory));
    }
    out.show(&Items::of(&written), |look| written.iter().map(|w| sentence(w, look)).collect())?;
    if kept > 0 {
        out.talk(&format!("{kept} of the certificates end later and stay as they are"));
    }
    Ok(ExitCode::Done)
}

/// What was revoked.
#[derive(Debug, Serialize)]
struct Put {
    identity: MachineIdentity,
    serials: Vec<String>,
    crl: PathBuf,
}

fn revoke(out: &Out, args: &RevokeArgs) -> Result<ExitCode> {
    let mut authority = open(&args.place.pki)?;
    let revoked = authority
        .revoke(&args.machine, args.serial.as_deref(), &args.reason)
        .map_err(|e| failure(&args.place.pki, &e))?;
    let serials: Vec<String> = revoked.into_iter().map(|issued| issued.serial).collect();
    let said = Put { identity: args.machine.clone(), serials, crl: authority.crl() };
    out.show(&Versioned::of(&said), |_| {
        format!("{} of {} revoked\n", count(said.serials.len(), "certificate"), said.identity)
    })?;
    out.talk(&format!(
        "it counts once {} is in the place of every coordinator's --crl, which is read again at once",
        said.crl.display()
    ));
    Ok(ExitCode::Done)
}

/// A line of the ledger.
#[derive(Debug, Serialize)]
struct Shown {
    serial: String,
    identity: MachineIdentity,
    hosts: Vec<String>,
    from: Timestamp,
    until: Timestamp,
    standing: Standing,
    revoked_at: Option<Timestamp>,
    reason: Option<String>,
}

fn show(out: &Out, place: &PkiPlace) -> Result<ExitCode> {
    let authority = open(&place.pki)?;
    let (ledger, at) = (authority.ledger(), now());
    let line = |issued: &Issued| Shown {
        serial: issued.serial.clone(),
        identity: issued.identity.clone(),
        hosts: issued.hosts.clone(),
        from: issued.from,
        until: issued.until,
        standing: ledger.standing(issued, at),
        revoked_at: issued.revoked.as_ref().map(|r| r.at),
        reason: issued.revoked.as_ref().map(|r| r.reason.clone()),
    };
    let shown: Vec<Shown> = ledger.certificates.iter().rev().map(line).collect();
    out.show(&Items::of(&shown), |look| {
        if shown.is_empty() {
            return "nothing was issued yet\n".to_owned();
        }
        let row = |s: &Shown| {
            let words = match s.standing {
                Standing::Valid => left(look, Some(s.until)),
                Standing::EndsSoon => format!("ends soon: {}", left(look, Some(s.until))),
                Standing::Ended => "ended".to_owned(),
                Standing::Revoked => format!("revoked: {}", s.reason.as_deref().unwrap_or_default()),
            };
            vec![s.identity.to_string(), words, s.serial.clone()]
        };
        table::table(look, &["machine", "certificate", "serial"], shown.iter().map(row).collect())
    })?;
    let soon = shown.iter().any(|s| s.standing == Standing::EndsSoon);
    if soon {
        out.talk(&format!("next: drover pki rotate --if-ends-soon DIR…{}", pki_flag(&place.pki)));
    }
    let ends = authority.ends_soon(at);
    if ends {
        let until = authority.until();
        out.talk(&format!(
            "the authority itself ends at {until}: docs/security.md says how another one follows it"
        ));
    }
    Ok(if ends || soon { ExitCode::Attention } else { ExitCode::Done })
}

pub(super) fn open(directory: &Path) -> Result<Authority> {
    Authority::open(directory).map_err(|e| failure(directory, &e))
}

/// Nothing is issued that has ended already.
pub(super) fn lasting(lifetime: Span) -> Result<()> {
    if lifetime < Span::from_mins(1) {
        return Err(Failure::usage("--valid-for must be a minute at least").hint("--valid-for 90d"));
    }
    Ok(())
}

pub(super) fn failure(place: &Path, error: &PkiError) -> Failure {
    let code = match error {
        PkiError::Exists { .. } | PkiError::NothingToRevoke { .. } | PkiError::NotOurs { .. } => {
            ExitCode::Refused
        }
        PkiError::NoAuthority { .. } | PkiError::Outlives { .. } | PkiError::Host { .. } => ExitCode::Usage,
        _ => ExitCode::Failed,
    };
    let failure = Failure::of(code, error);
    match error {
        PkiError::NoAuthority { directory } => {
            failure.hint(format!("drover pki init{}, or name its directory with --pki", pki_flag(directory)))
        }
        PkiError::Exists { path } if path.parent() == Some(place) && !place.join("ca.pem").exists() => {
            failure.hint(
                "an interrupted init left it, or it is another's: look, remove it, and drover pki init again",
            )
        }
        PkiError::Exists { path } if path.ends_with("ca.key") || path.ends_with("ca.pem") => {
            failure.hint(format!("drover pki show{}", pki_flag(place)))
        }
        PkiError::Exists { .. } => failure.hint(format!("drover pki rotate {}", place.display())),
        PkiError::Outlives { .. } => {
            failure.hint("give a shorter --valid-for, or make another authority: docs/security.md")
        }
        PkiError::NothingToRevoke { .. } | PkiError::NotOurs { .. } => failure.hint("drover pki show"),
        _ => failure,
    }
}
