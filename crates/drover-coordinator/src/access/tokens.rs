//! The tokens that were made: in the store, and in memory for every request.

use super::{Caller, NotLetIn, Peer, judge};
use crate::api::problem::ApiError;
use crate::audit::Appended;
use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::error::CoordinatorError;
use axum::http::StatusCode;
use drover_model::TokenName;
use drover_model::access::{Role, TokenDigest, TokenRecord, TokenRequest, TokenState, TokenView};
use drover_model::api::{CommandRequest, Done};
use drover_store::Expect;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Tokens, those that are over included: their names are not given twice.
pub const TOKENS_MAX: usize = 1_000;

/// All tokens.
#[derive(Debug, Clone, Default)]
pub(crate) struct TokenTable {
    by_digest: BTreeMap<TokenDigest, TokenRecord>,
    has_unreadable: bool,
}

impl TokenTable {
    pub(crate) fn new(records: impl IntoIterator<Item = TokenRecord>) -> Self {
        let by_digest = records.into_iter().map(|record| (record.digest, record)).collect();
        Self { by_digest, has_unreadable: false }
    }

    /// The one with this digest.
    pub(crate) fn of(&self, digest: TokenDigest) -> Option<&TokenRecord> {
        self.by_digest.get(&digest)
    }

    /// Whether an admin's was ever made.
    pub(crate) fn closes(&self) -> bool {
        self.has_unreadable || self.by_digest.values().any(|record| record.role == Role::Admin)
    }

    fn named(&self, name: &TokenName) -> Option<&TokenRecord> {
        self.by_digest.values().find(|record| record.name == *name)
    }

    fn with(&self, record: TokenRecord) -> Self {
        let mut table = self.clone();
        table.by_digest.insert(record.digest, record);
        table
    }
}

fn conflict(code: &str, detail: String) -> ApiError {
    let mut error = ApiError::new(StatusCode::CONFLICT, code, detail);
    error.0.next = Some("drover token list".into());
    error
}

fn taken(name: &TokenName) -> ApiError {
    let detail = format!(
        "there is, or was, a token of {name}: a name is given once, so that the audit means one person by it"
    );
    conflict("token_name_taken", detail)
}

impl Coordinator {
    /// Reads all tokens from the store.
    pub(crate) async fn recall_tokens(&self) -> Result<(), CoordinatorError> {
        let records = self.db.list_placed::<TokenRecord>(keys::TOKENS).await?;
        let mut table = TokenTable::new(records.into_iter().map(|(_, record)| record));
        // It may have been an admin's: what that closed must not open because nobody can read it.
        table.has_unreadable = !self.db.unreadable().under(keys::TOKENS).is_empty();
        self.access.tokens.store(Arc::new(table));
        Ok(())
    }

    /// Who it is that shows `token`, or none, at this moment.
    pub(crate) fn caller(&self, token: Option<&str>, peer: Peer) -> Result<Caller, NotLetIn> {
        let requires_tokens = self.loaded().config.settings.access.require_tokens;
        judge(&self.access.tokens.load(), token, peer, requires_tokens, self.clock.now())
    }

    /// How many connections one machine may have, as the configuration says now.
    pub(crate) fn connections_per_machine(&self) -> usize {
        self.loaded().config.settings.access.connections_per_machine as usize
    }

    /// All tokens by name, without what opens anything.
    pub(crate) fn token_views(&self) -> Vec<TokenView> {
        let now = self.clock.now();
        let table = self.access.tokens.load();
        let mut views: Vec<TokenView> = table.by_digest.values().map(|record| record.view(now)).collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }

    /// Makes a token known: on record in the audit if and only if it opens anything.
    pub(crate) async fn create_token(
        &self,
        name: &TokenName,
        request: &TokenRequest,
    ) -> Result<TokenView, ApiError> {
        let _one_at_a_time = self.access.changes.lock().await;
        let table = self.access.tokens.load_full();
        match table.named(name) {
            // Sent again, after its first answer was lost.
            Some(known) if known.digest == request.digest && known.role == request.role => {
                return Ok(known.view(self.clock.now()));
            }
            Some(_) => return Err(taken(name)),
            None => {}
        }
        if table.of(request.digest).is_some() {
            return Err(conflict("token_known", "this token is known already, under another name".into()));
        }
        if table.by_digest.len() >= TOKENS_MAX {
            let detail =
                format!("there are {TOKENS_MAX} tokens, those that are over included, and no more may be");
            return Err(conflict("too_many_tokens", detail));
        }
        let now = self.clock.now();
        let record = TokenRecord {
            name: name.clone(),
            role: request.role,
            digest: request.digest,
            created_at: now,
            created_by: request.by.clone(),
            expires_at: request.valid_for.map(|span| now + span),
            revoked_at: None,
        };
        let end =
            record.expires_at.map_or_else(|| "until it is revoked".to_owned(), |at| format!("until {at}"));
        let outcome = format!("{} {end}", record.role);
        let key = keys::token(name);
        let txn = self.db.put_op(self.db.fenced().expect(key.clone(), Expect::Absent), &key, &record)?;
        let said = ["token create", name.as_str(), &request.reason, &outcome];
        match self.audit_with(txn, &request.by, said).await? {
            Appended::Together => {}
            // A record of it is there after all.
            Appended::Otherwise => {
                self.recall_tokens().await?;
                return Err(taken(name));
            }
        }
        let view = record.view(now);
        self.access.tokens.store(Arc::new(table.with(record)));
        Ok(view)
    }

    /// Ends a token, from the next request on.
    pub(crate) async fn revoke_token(
        &self,
        name: &TokenName,
        request: &CommandRequest,
    ) -> Result<Done, ApiError> {
        let _one_at_a_time = self.access.changes.lock().await;
        let Some((record, at)) = self.db.get_placed::<TokenRecord>(&keys::token(name)).await? else {
            let known = self.token_views().into_iter().map(|view| view.name.to_string()).collect();
            return Err(ApiError::not_found(format!("token {name}"), known));
        };
        let now = self.clock.now();
        if record.state(now) == TokenState::Revoked {
            self.recall_tokens().await?;
            return Ok(Done { sentence: format!("the token of {name} was revoked before") });
        }
        let record = TokenRecord { revoked_at: Some(now), ..record };
        let key = keys::token(name);
        let txn = self.db.fenced().expect(key.clone(), Expect::ModRevision(at));
        let txn = self.db.put_op(txn, &key, &record)?.for_journal();
        let said = ["token revoke", name.as_str(), &request.reason, "revoked"];
        if self.audit_with(txn, &request.by, said).await? == Appended::Otherwise {
            return Err(conflict("token_changed", format!("the token of {name} was changed meanwhile")));
        }
        let table = self.access.tokens.load().with(record);
        self.access.tokens.store(Arc::new(table));
        Ok(Done { sentence: format!("the token of {name} opens nothing any more") })
    }
}
