//! `token list`.

use crate::output::paint::{Tone, paint};
use crate::output::words::clock;
use crate::output::{Look, table};
use drover_model::access::{TokenState, TokenView};

/// One line a token, by name.
pub fn render(tokens: &[TokenView], look: &Look) -> String {
    if tokens.is_empty() {
        return "there are no tokens: whoever reaches the coordinator on this machine may do all\n"
            .to_owned();
    }
    let row = |t: &TokenView| {
        let tone = if t.state == TokenState::Valid { Tone::Good } else { Tone::Quiet };
        let end = match (t.revoked_at, t.expires_at) {
            (Some(at), _) => format!("revoked {}", clock(look, at)),
            (None, Some(at)) => clock(look, at),
            (None, None) => "until it is revoked".to_owned(),
        };
        let by = format!("{} by {}", clock(look, t.created_at), t.created_by);
        vec![t.name.to_string(), t.role.to_string(), paint(tone, t.state.as_str()), end, by]
    };
    table::table(look, &["whose", "role", "", "ends", "made"], tokens.iter().map(row).collect())
}
