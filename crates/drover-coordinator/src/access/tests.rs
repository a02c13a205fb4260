use super::*;
use crate::audit::AuditRecord;
use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::testbed::{Bed, Meddling, person};
use drover_model::Span;
use drover_model::access::{TokenRecord, TokenRequest};
use drover_model::api::CommandRequest;
use drover_store::TxnError;
use futures::FutureExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn name(text: &str) -> TokenName {
    TokenName::new(text).unwrap()
}

fn asks(role: Role, token: &str) -> TokenRequest {
    let digest = TokenDigest::of(token);
    TokenRequest { by: person(), reason: "new".into(), role, digest, valid_for: Some(Span::from_hours(1)) }
}

async fn verbs(c: &Coordinator) -> Vec<String> {
    c.db.list::<AuditRecord>(keys::AUDIT).await.unwrap().into_iter().map(|(_, r)| r.verb).collect()
}

#[tokio::test]
async fn a_name_is_given_once_and_a_token_is_one_persons() {
    let bed = Bed::new().await;
    let made = bed.c.create_token(&name("ann"), &asks(Role::Operator, "a")).await.unwrap();
    let again = bed.c.create_token(&name("ann"), &asks(Role::Operator, "a")).await.unwrap();
    assert_eq!(made, again, "as when the first answer was lost");
    let refused = async |who: &str, role, token| {
        bed.c.create_token(&name(who), &asks(role, token)).await.unwrap_err().0.code
    };
    assert_eq!(refused("ann", Role::Operator, "b").await, "token_name_taken");
    assert_eq!(refused("ann", Role::Admin, "a").await, "token_name_taken");
    assert_eq!(refused("bob", Role::Operator, "a").await, "token_known");
    let order =
        CommandRequest { by: person(), reason: String::new(), plan: None, roll_back: false, alone: false };
    bed.c.revoke_token(&name("ann"), &order).await.unwrap();
    bed.c.revoke_token(&name("ann"), &order).await.unwrap();
    assert_eq!(refused("ann", Role::Operator, "b").await, "token_name_taken", "nor after its end");
    assert_eq!(bed.c.revoke_token(&name("bob"), &order).await.unwrap_err().0.code, "not_found");
    assert_eq!(verbs(&bed.c).await, ["token create", "token revoke"]);
}

#[tokio::test]
async fn a_token_whose_record_could_not_be_written_opens_nothing() {
    let mut bed = Bed::new().await;
    let broken = Arc::new(AtomicBool::new(true));
    let switch = broken.clone();
    bed.meddle(move |txn| {
        let hit =
            switch.load(Ordering::Relaxed) && txn.ops.iter().any(|op| op.key().starts_with(keys::TOKENS));
        let error = TxnError::Uncertain { reason: "cut off".into() };
        futures::future::ready(if hit { Meddling::Refuse(error) } else { Meddling::None }).boxed()
    });
    let request = asks(Role::Admin, "a");
    bed.c.create_token(&name("ann"), &request).await.unwrap_err();
    let far = Peer::Tcp(([10, 0, 0, 1], 1).into());
    assert!(bed.c.caller(None, far).is_ok());
    assert_eq!(verbs(&bed.c).await, Vec::<String>::new(), "what did not happen is not on record");
    broken.store(false, Ordering::Relaxed);
    bed.c.create_token(&name("ann"), &request).await.unwrap();
    assert!(bed.c.caller(None, far).is_err());
}

#[test]
fn a_token_is_judged_at_the_time_it_is_shown_and_a_wrong_one_nowhere_passed_over() {
    let at = crate::testbed::at_secs;
    let record = TokenRecord {
        name: name("ann"),
        role: Role::Viewer,
        digest: TokenDigest::of("t"),
        created_at: at(0),
        created_by: person(),
        expires_at: Some(at(10)),
        revoked_at: None,
    };
    let table = TokenTable::new([record]);
    let far = Peer::Tcp(([10, 0, 0, 1], 1).into());
    assert_eq!(judge(&table, Some("t"), far, true, at(9)).unwrap().role, Role::Viewer);
    let late = judge(&table, Some("t"), far, true, at(10)).unwrap_err();
    assert_eq!(late, NotLetIn::Expired { name: name("ann"), at: at(10) });
    for peer in [far, Peer::Socket] {
        assert_eq!(judge(&table, Some("u"), peer, false, at(0)).unwrap_err(), NotLetIn::Unknown);
        let shown = judge(&table, Some("t"), peer, false, at(0)).unwrap();
        assert_eq!(shown.role, Role::Viewer, "who shows a token has its role, at the socket as well");
    }
    assert_eq!(judge(&table, None, far, true, at(0)).unwrap_err(), NotLetIn::NoToken);
    assert_eq!(judge(&table, None, Peer::Socket, true, at(0)).unwrap().role, Role::Admin);
}
