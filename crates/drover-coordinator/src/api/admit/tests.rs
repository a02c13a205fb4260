mod approvals;

use super::super::{API_REQUEST_TIMEOUT, Route, assembled, table};
use super::*;
use crate::access::{FAILED_LOGINS_PER_ADDRESS, REFUSALS_WRITTEN_MAX};
use crate::audit::AuditRecord;
use crate::db::keys;
use crate::testbed::{Bed, person};
use drover_model::TokenName;
use drover_model::access::{TokenDigest, TokenRequest};
use drover_model::api::CommandRequest;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;

/// What must be of each route. One that is not here is for viewers, and reads.
const NEEDS: &[(&str, Needs)] = &[
    ("/livez", Needs::Nothing),
    ("/readyz", Needs::Nothing),
    ("/v1/agents/{agent}/probes", Needs::Machine),
    ("/v1/agents/{agent}/reports", Needs::Machine),
    ("/v1/agents/{agent}/questions", Needs::Machine),
    ("/v1/agents/{agent}/sights", Needs::Machine),
    ("/v1/agents/{agent}/datasets", Needs::Machine),
    ("/v1/agents/{agent}/datasets/{dataset}/renew", Needs::Machine),
    ("/v1/agents/{agent}/datasets/{dataset}/sealed", Needs::Machine),
    ("/v1/datasets/{dataset}/move", Needs::Role(Role::Operator)),
    ("/v1/datasets/{dataset}/abort", Needs::Role(Role::Operator)),
    ("/v1/plans", Needs::Role(Role::Operator)),
    ("/v1/plans/{id}/apply", Needs::Role(Role::Operator)),
    ("/v1/runs/{id}/{verb}", Needs::Role(Role::Operator)),
    ("/v1/freeze", Needs::Role(Role::Operator)),
    ("/v1/unfreeze", Needs::Role(Role::Operator)),
    ("/v1/rearm", Needs::Role(Role::Operator)),
    ("/v1/config/reload", Needs::Role(Role::Admin)),
    ("/v1/dns/adopt", Needs::Role(Role::Admin)),
    ("/v1/dns/command", Needs::Role(Role::Admin)),
    ("/v1/break-glass/reconcile", Needs::Role(Role::Operator)),
    ("/v1/tokens", Needs::Role(Role::Admin)),
    ("/v1/tokens/{name}", Needs::Role(Role::Admin)),
    ("/v1/tokens/{name}/revoke", Needs::Role(Role::Admin)),
    ("/metrics", Needs::Role(Role::Viewer)),
];

/// Answers on loopback and on the socket.
struct Api {
    tcp: SocketAddr,
    http: reqwest::Client,
    local: reqwest::Client,
}

impl Api {
    fn new(tcp: SocketAddr, socket: &Path) -> Self {
        let client = || reqwest::Client::builder().no_proxy();
        Self { tcp, http: client().build().unwrap(), local: client().unix_socket(socket).build().unwrap() }
    }

    async fn ask(
        &self,
        client: &reqwest::Client,
        method: &str,
        path: &str,
        token: &str,
        body: &Value,
    ) -> Answer {
        let method = reqwest::Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let mut request = client.request(method, format!("http://{}{path}", self.tcp)).json(body);
        request = request.header("idempotency-key", key(path, token, body));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after").map(|v| v.to_str().unwrap().to_owned());
        let text = response.text().await.unwrap();
        let problem: Value = serde_json::from_str(&text).unwrap_or_default();
        let word = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
        Answer { status, code: word("code"), next: word("next"), retry_after, text }
    }

    async fn tcp(&self, method: &str, path: &str, token: &str, body: &Value) -> Answer {
        self.ask(&self.http, method, path, token, body).await
    }

    async fn socket(&self, method: &str, path: &str, token: &str, body: &Value) -> Answer {
        self.ask(&self.local, method, path, token, body).await
    }
}

fn key(path: &str, token: &str, body: &Value) -> String {
    drover_model::config::version_of(&(path, token, body))
}

#[derive(Debug)]
struct Answer {
    status: u16,
    code: String,
    next: String,
    retry_after: Option<String>,
    text: String,
}

impl Answer {
    #[track_caller]
    fn is(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code.as_str()), (status, code), "{self:?}");
    }
}

async fn serve(bed: &Bed) -> Api {
    Api::new(bed.serve().await, &bed.dir.path().join("drover.sock"))
}

async fn make(c: &Coordinator, name: &str, role: Role, valid_for: Option<Span>) -> String {
    let token = format!("drover_{name}");
    let digest = TokenDigest::of(&token);
    let request = TokenRequest { by: person(), reason: String::new(), role, digest, valid_for };
    c.create_token(&TokenName::new(name).unwrap(), &request).await.unwrap();
    token
}

async fn revoke(c: &Coordinator, name: &str) {
    let request =
        CommandRequest { by: person(), reason: "lost".into(), plan: None, roll_back: false, alone: false };
    c.revoke_token(&TokenName::new(name).unwrap(), &request).await.unwrap();
}

async fn audit(c: &Coordinator) -> Vec<AuditRecord> {
    c.db.list::<AuditRecord>(keys::AUDIT).await.unwrap().into_iter().map(|(_, r)| r).collect()
}

fn freeze() -> Value {
    json!({"by": person(), "reason": "test", "expires_after": "1h"})
}

#[test]
fn every_route_says_what_it_needs_and_nothing_that_changes_anything_is_for_viewers() {
    for route in table() {
        let told = NEEDS.iter().find(|(path, _)| *path == route.path).map(|(_, needs)| *needs);
        assert_eq!(route.needs, told.unwrap_or(Needs::Role(Role::Viewer)), "{}", route.path);
        let reads = matches!(route.needs, Needs::Nothing | Needs::Role(Role::Viewer));
        assert!(route.method == "get" || !reads, "{}", route.path);
        assert!(!route.command || matches!(route.needs, Needs::Role(Role::Operator | Role::Admin)));
    }
    let paths: Vec<&str> = table().iter().map(|route| route.path).collect();
    assert!(NEEDS.iter().all(|(path, _)| paths.contains(path)), "{paths:?}");
}

#[tokio::test]
async fn every_route_lets_in_whom_it_should_and_nobody_else() {
    let bed = Bed::new().await;
    let c = &bed.c;
    let mut tokens = Vec::new();
    for role in Role::ALL {
        tokens.push((Some(role), make(c, role.as_str(), role, None).await));
    }
    tokens.push((None, make(c, "late", Role::Admin, Some(Span::ZERO)).await));
    tokens.push((None, make(c, "gone", Role::Admin, None).await));
    revoke(c, "gone").await;
    tokens.push((None, "drover_unknown".into()));
    tokens.push((None, String::new()));

    // What stands behind the doors is not what is looked at.
    let routes = table().into_iter();
    let behind = |method| {
        let at_all = axum::routing::MethodFilter::try_from(method).unwrap();
        axum::routing::on(at_all, || async { "in" })
    };
    let method = |r: &Route| if r.method == "get" { Method::GET } else { Method::POST };
    let routes = routes.map(|r| Route { handler: behind(method(&r)), ..r }).collect();
    let tcp = bed.serve_router(assembled(c.clone(), routes, API_REQUEST_TIMEOUT)).await;
    let api = Api::new(tcp, &bed.dir.path().join("drover.sock"));
    for route in table() {
        let path = route.path.replace(['{', '}'], "");
        for (role, token) in &tokens {
            let answer = api.tcp(route.method, &path, token, &json!({})).await;
            let about = format!("{} {path} as {role:?} {token}: {answer:?}", route.method);
            match (route.needs, role) {
                (Needs::Role(needed), Some(role)) if role < &needed => {
                    assert_eq!(answer.status, 403, "{about}");
                    assert!(answer.text.contains(&format!("needs the role {needed}")), "{about}");
                    assert!(answer.next.contains(needed.as_str()), "{about}");
                }
                (Needs::Role(_), None) => {
                    assert!(matches!(answer.status, 401 | 429) && !answer.next.is_empty(), "{about}");
                }
                _ => assert_eq!((answer.status, answer.text.as_str()), (200, "in"), "{about}"),
            }
        }
        let local = api.socket(route.method, &path, "", &json!({})).await;
        assert_eq!(local.status, 200, "{path}: who is at the socket may do all");
    }
}

#[tokio::test]
async fn the_first_admin_closes_the_port_for_good_and_the_socket_is_the_way_back() {
    let bed = Bed::new().await;
    let api = serve(&bed).await;
    assert_eq!(
        api.tcp("POST", "/v1/freeze", "", &freeze()).await.status,
        200,
        "as on a machine of one's own"
    );
    let viewer = make(&bed.c, "vi", Role::Viewer, None).await;
    assert_eq!(
        api.tcp("GET", "/v1/runs", "", &json!({})).await.status,
        200,
        "a viewer's token closes nothing"
    );
    api.tcp("POST", "/v1/freeze", &viewer, &freeze()).await.is(403, "role_too_small");
    api.tcp("GET", "/v1/runs", "drover_wrong", &json!({})).await.is(401, "token_unknown");

    let admin = make(&bed.c, "ad", Role::Admin, None).await;
    api.tcp("GET", "/v1/runs", "", &json!({})).await.is(401, "token_missing");
    revoke(&bed.c, "ad").await;
    api.tcp("GET", "/v1/runs", &admin, &json!({})).await.is(401, "token_revoked");
    api.tcp("GET", "/v1/runs", "", &json!({})).await.is(401, "token_missing");
    assert_eq!(api.socket("GET", "/v1/tokens", "", &json!({})).await.status, 200);

    // The same after a restart: what is known is in the store.
    let bed = bed.reopened().await;
    let api = serve(&bed).await;
    api.tcp("GET", "/v1/runs", "", &json!({})).await.is(401, "token_missing");
    assert_eq!(api.tcp("GET", "/v1/runs", &viewer, &json!({})).await.status, 200);
    let stored = bed.c.store.list("", None, 10_000).await.unwrap();
    let secrets = [viewer.as_bytes(), admin.as_bytes()];
    let holds = |value: &[u8]| secrets.iter().any(|s| value.windows(s.len()).any(|w| w == *s));
    assert!(!stored.items.iter().any(|item| holds(&item.versioned.value)), "a token is in the store");
}

#[tokio::test]
async fn the_setting_closes_the_port_without_any_token() {
    let bed = Bed::with(|c| c.settings.access.require_tokens = true).await;
    let api = serve(&bed).await;
    api.tcp("GET", "/v1/runs", "", &json!({})).await.is(401, "token_missing");
    assert_eq!(api.tcp("GET", "/livez", "", &json!({})).await.status, 200);
    bed.rewrite(|c| c.settings.access.require_tokens = false);
    bed.c.reload_now().await.unwrap();
    assert_eq!(api.tcp("GET", "/v1/runs", "", &json!({})).await.status, 200);
}

#[tokio::test]
async fn who_acts_is_whose_token_it_is_whatever_the_body_says() {
    let bed = Bed::new().await;
    let api = serve(&bed).await;
    let token = make(&bed.c, "op", Role::Operator, None).await;
    assert_eq!(api.tcp("POST", "/v1/freeze", &token, &freeze()).await.status, 200);
    let by = audit(&bed.c).await.last().unwrap().by.clone();
    assert_eq!(by, Actor::Person { name: "op".into(), host: "ann@here".into() });
    assert_eq!(bed.c.live().freeze.as_ref().unwrap().by, by);
    // Another one's command under the same key is not answered as the first one's was.
    let other = make(&bed.c, "other", Role::Operator, None).await;
    let request = api.http.post(format!("http://{}/v1/freeze", api.tcp)).bearer_auth(other).json(&freeze());
    let answer =
        request.header("idempotency-key", key("/v1/freeze", &token, &freeze())).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 422);
}

#[tokio::test]
async fn what_is_refused_is_on_record_once_with_who_and_why() {
    let bed = Bed::new().await;
    let api = serve(&bed).await;
    let viewer = make(&bed.c, "vi", Role::Viewer, None).await;
    let before = audit(&bed.c).await.len();
    api.tcp("POST", "/v1/plans/plan-0123456789ab/apply", &viewer, &json!({})).await.is(403, "role_too_small");
    api.tcp("POST", "/v1/freeze", "drover_wrong", &freeze()).await.is(401, "token_unknown");
    api.tcp("POST", "/v1/freeze", "", &json!({"by": person()})).await.is(422, "malformed");
    let unreasoned = json!({"by": person(), "reason": "", "expires_after": null});
    api.tcp("POST", "/v1/freeze", "", &unreasoned).await.is(422, "reason_missing");
    api.tcp("POST", "/v1/freeze", "", &unreasoned).await.is(422, "reason_missing");
    let approval = json!({"by": person(), "reason": "ok", "plan": "plan-0123456789ab"});
    api.tcp("POST", "/v1/runs/run-7/approve", "", &approval).await.is(404, "not_found");
    let told: Vec<(String, String, String)> = audit(&bed.c).await[before..]
        .iter()
        .inspect(|record| assert!(record.outcome.starts_with("refused: "), "{record:?}"))
        .map(|record| (record.by.to_string(), record.verb.clone(), record.subject.clone()))
        .collect();
    let expected = [
        ("vi", "access", "POST /v1/plans/plan-0123456789ab/apply"),
        ("not known", "login", "POST /v1/freeze"),
        ("not known", "command", "POST /v1/freeze"),
        ("ann", "freeze", "automatic action"),
        ("ann", "approve", "run-7"),
    ];
    assert_eq!(told, expected.map(|(by, verb, subject)| (by.into(), verb.into(), subject.into())));
}

#[tokio::test]
async fn a_flood_of_wrong_tokens_is_answered_by_429_and_neither_fills_the_audit_nor_locks_out_others() {
    let bed = Bed::new().await;
    let api = serve(&bed).await;
    let viewer = make(&bed.c, "vi", Role::Viewer, None).await;
    let before = audit(&bed.c).await.len();
    for _ in 0..FAILED_LOGINS_PER_ADDRESS {
        api.tcp("GET", "/v1/runs", "drover_wrong", &json!({})).await.is(401, "token_unknown");
    }
    for _ in 0..2 * REFUSALS_WRITTEN_MAX {
        let answer = api.tcp("GET", "/v1/runs", "drover_wrong", &json!({})).await;
        answer.is(429, "too_many_failed_logins");
        let seconds: u64 = answer.retry_after.unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
    }
    assert_eq!(audit(&bed.c).await.len() - before, usize::try_from(FAILED_LOGINS_PER_ADDRESS).unwrap());
    bed.c.tell_refusals().await.unwrap();
    let told = audit(&bed.c).await.last().unwrap().subject.clone();
    assert_eq!(told, format!("{} logins", 2 * REFUSALS_WRITTEN_MAX), "their number is on record");
    assert_eq!(api.tcp("GET", "/v1/runs", &viewer, &json!({})).await.status, 200, "beside the flood");
    assert_eq!(api.socket("GET", "/v1/runs", "", &json!({})).await.status, 200);
}
