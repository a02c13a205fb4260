//! `token create`, `token list`, `token revoke`.

use super::{Bench, me};
use crate::args::{TokenCreateArgs, TokenVerb};
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::document::{Items, Versioned};
use crate::output::{Format, table};
use crate::render;
use drover_model::TokenName;
use drover_model::access::{TOKEN_PREFIX, TOKEN_RANDOM_BYTES, TokenDigest, TokenRequest, TokenView};
use drover_model::api::{CommandRequest, Done};

/// Does what was asked.
///
/// # Errors
/// When the coordinator can't be asked or refuses.
pub async fn run(bench: &Bench, verb: TokenVerb) -> Result<ExitCode> {
    match verb {
        TokenVerb::Create(args) => create(bench, args).await,
        TokenVerb::List => list(bench).await,
        TokenVerb::Revoke { name, reason } => revoke(bench, &name, reason).await,
    }
}

/// The token is made here, and only its digest is sent: the coordinator sees the token itself when it is first shown.
async fn create(bench: &Bench, args: TokenCreateArgs) -> Result<ExitCode> {
    let token = new_token()?;
    let TokenCreateArgs { name, role, valid_for, reason } = args;
    let request = TokenRequest { by: me(), reason, role, digest: TokenDigest::of(&token), valid_for };
    let made: TokenView = bench.client.post(&["tokens", name.as_str()], &request).await?;
    if bench.out.format == Format::Table {
        bench.out.text(&format!("{token}\n"))?;
    } else {
        let object = serde_json::json!({
            "token": token, "name": made.name, "role": made.role, "expires_at": made.expires_at,
        });
        bench.out.show(&Versioned::of(&object), |_| String::new())?;
    }
    let end = made.expires_at.map_or_else(|| "until it is revoked".to_owned(), |at| format!("until {at}"));
    bench.out.talk(&format!(
        "The token of {name} ({role}) is valid {end}. It is shown this once: keep it in a file that only {name} can read, \
         and name that by DROVER_TOKEN_FILE."
    ));
    Ok(ExitCode::Done)
}

fn new_token() -> Result<String> {
    let mut bytes = [0; TOKEN_RANDOM_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|e| Failure::because(ExitCode::Internal, "can't get random bytes for a token", &e))?;
    Ok(bytes.iter().fold(TOKEN_PREFIX.to_owned(), |text, byte| format!("{text}{byte:02x}")))
}

async fn list(bench: &Bench) -> Result<ExitCode> {
    let tokens: Vec<TokenView> = bench.client.get(&["tokens"], &[]).await?;
    bench.out.show(&Items::of(&tokens), |look| render::token::render(&tokens, look))?;
    Ok(ExitCode::Done)
}

async fn revoke(bench: &Bench, name: &TokenName, reason: String) -> Result<ExitCode> {
    let request = CommandRequest { by: me(), reason, plan: None, roll_back: false, alone: false };
    let done: Done = bench.client.post(&["tokens", name.as_str(), "revoke"], &request).await?;
    bench.out.show(&Versioned::of(&done), |look| table::paragraph(look, &done.sentence))?;
    Ok(ExitCode::Done)
}
