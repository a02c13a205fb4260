//! The HTTP API under `/v1`. One table holds every route with its handler and its schemas: the router and the OpenAPI
//! document are both made from it, so they can't drift apart.

pub(crate) mod admission;
mod admit;
mod agents;
mod asks;
mod commands;
mod datasets;
mod follower;
pub(crate) mod once;
mod openapi;
pub mod paging;
pub mod problem;
mod reads;
mod ready;
mod tokens;

use crate::access::Needs;
use crate::coordinator::Coordinator;
use admit::{Door, admit};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get, post};
use drover_model::access::{Role, TokenRequest, TokenView};
use drover_model::audit::{AuditHead, AuditItem};
use drover_model::break_glass::{ReconcileRequest, Reconciled};
use drover_model::{api as m, probe, sight};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use std::sync::Arc;
use std::time::Duration;
use tower_http::timeout::TimeoutLayer;

/// Bytes of a request's body, at most: a full report is about 256 KiB, this is sixteen times that.
pub const API_BODY_BYTES_MAX: usize = 4 << 20;
/// Time for one request.
pub const API_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// One route.
pub(crate) struct Route {
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    request: Option<SchemaOf>,
    response: Option<SchemaOf>,
    /// What whoever calls it must be.
    needs: Needs,
    /// A command: needs an `Idempotency-Key`.
    command: bool,
    /// What may stand in the query.
    query: &'static [QueryParameter],
    handler: MethodRouter<Arc<Coordinator>>,
}

/// One parameter of a query.
#[derive(Clone, Copy)]
pub(crate) struct QueryParameter {
    name: &'static str,
    kind: &'static str,
    required: bool,
    description: &'static str,
}

const fn optional(name: &'static str, kind: &'static str, description: &'static str) -> QueryParameter {
    QueryParameter { name, kind, required: false, description }
}

const PAGED: &[QueryParameter] = &[
    optional("cursor", "string", "`next_cursor` of the page before"),
    optional(
        "limit",
        "integer",
        "Items in the page, from 1; more than 200 means 200, which is also the default",
    ),
];

const STATUS: &[QueryParameter] = &[optional(
    "form",
    "string",
    "`short` leaves out of each endpoint what is as usual: a full `share`, the `share_reason` `configured`, no \
     certificate; `whole`, the default, says all",
)];

const OBSERVATIONS: &[QueryParameter] = &[
    QueryParameter { name: "endpoint", kind: "string", required: true, description: "`SERVICE@REGION`" },
    optional("since", "string", "How far back (`1h`, the default), or an RFC 3339 time"),
    PAGED[0],
    PAGED[1],
];

const AUDIT: &[QueryParameter] =
    &[optional("after", "integer", "Oldest first instead, from after this number"), PAGED[0], PAGED[1]];

const QUESTIONS: &[QueryParameter] = &[
    optional("have", "integer", "Version of the questions that the agent has"),
    optional(
        "patience_millis",
        "integer",
        "How long to wait for others, up to 25,000; 0, the default, is not at all",
    ),
];

const PUBLICATIONS: &[QueryParameter] =
    &[optional("service", "string", "Of this service alone"), PAGED[0], PAGED[1]];

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// For viewers, which is the least that a person is.
fn read(
    path: &'static str,
    summary: &'static str,
    response: Option<SchemaOf>,
    h: MethodRouter<Arc<Coordinator>>,
) -> Route {
    let needs = Needs::Role(Role::Viewer);
    Route {
        method: "get",
        path,
        summary,
        request: None,
        response,
        needs,
        command: false,
        query: &[],
        handler: h,
    }
}

/// For whoever asks: what watches processes has no token.
fn open(path: &'static str, summary: &'static str, h: MethodRouter<Arc<Coordinator>>) -> Route {
    Route { needs: Needs::Nothing, ..read(path, summary, None, h) }
}

fn paged(
    path: &'static str,
    summary: &'static str,
    response: SchemaOf,
    h: MethodRouter<Arc<Coordinator>>,
) -> Route {
    Route { query: PAGED, ..read(path, summary, Some(response), h) }
}

fn command(
    role: Role,
    path: &'static str,
    summary: &'static str,
    request: SchemaOf,
    response: SchemaOf,
    h: MethodRouter<Arc<Coordinator>>,
) -> Route {
    Route {
        method: "post",
        path,
        summary,
        request: Some(request),
        response: Some(response),
        needs: Needs::Role(role),
        command: true,
        query: &[],
        handler: h,
    }
}

fn status() -> Route {
    let about = "Everything at a glance";
    Route { query: STATUS, ..read("/v1/status", about, Some(schema::<m::StatusView>), get(reads::status)) }
}

fn read_routes() -> Vec<Route> {
    vec![
        open("/livez", "Alive: the process answers", get(ready::livez)),
        open(
            "/readyz",
            "Ready: leads, can write and decides, or follows who does; else 503 with the reason",
            get(ready::readyz),
        ),
        read("/metrics", "Prometheus text", None, get(reads::metrics)),
        read("/v1/openapi.json", "This description", None, get(openapi::document)),
        status(),
        read(
            "/v1/explain/{subject}",
            "Why a region, service, endpoint, run or decision is as it is",
            Some(schema::<m::ExplainView>),
            get(reads::explain),
        ),
        paged(
            "/v1/decisions",
            "Stored decisions, newest first",
            schema::<m::Page<m::DecisionSummary>>,
            get(reads::decisions),
        ),
        read(
            "/v1/decisions/{id}/replay",
            "Run a stored decision again on its inputs",
            Some(schema::<m::ReplayView>),
            get(reads::replay),
        ),
        read("/v1/plans/{id}", "A plan that was made", Some(schema::<m::PlanView>), get(reads::plan)),
        paged("/v1/runs", "Runs, newest first", schema::<m::Page<m::RunSummary>>, get(reads::runs)),
        read(
            "/v1/runs/{id}",
            "One run with its steps and timeline",
            Some(schema::<m::RunView>),
            get(reads::run),
        ),
        read("/v1/config", "The configuration in force", Some(schema::<m::ConfigView>), get(reads::config)),
        read(
            "/v1/runbooks",
            "The runbooks in force",
            Some(schema::<Vec<drover_model::runbook::Runbook>>),
            get(reads::runbooks),
        ),
        Route {
            query: OBSERVATIONS,
            ..paged(
                "/v1/observations",
                "Raw observations of an endpoint, newest first, each with whether it counted",
                schema::<m::Page<m::ObservationView>>,
                get(reads::observations),
            )
        },
        Route {
            query: AUDIT,
            ..paged(
                "/v1/audit",
                "Commands, decisions and refusals, newest first",
                schema::<m::Page<AuditItem>>,
                get(reads::audit),
            )
        },
        read(
            "/v1/audit/head",
            "The audit's last record, to be kept elsewhere",
            Some(schema::<AuditHead>),
            get(reads::audit_head),
        ),
    ]
}

fn agent_routes() -> [Route; 4] {
    let told = |path, summary, request, response, handler| Route {
        method: "post",
        path,
        summary,
        request: Some(request),
        response,
        needs: Needs::Machine,
        command: false,
        query: &[],
        handler,
    };
    let asked = |path, summary, response, handler| Route {
        needs: Needs::Machine,
        ..read(path, summary, response, handler)
    };
    let about = "What an agent has to ask of the zone's servers; waits for something else than it has, and is 304 without";
    [
        asked(
            "/v1/agents/{agent}/probes",
            "What an agent has to probe",
            Some(schema::<probe::ProbeList>),
            get(agents::probes),
        ),
        told(
            "/v1/agents/{agent}/reports",
            "A batch of observations; boot and sequence make it idempotent",
            schema::<probe::Report> as SchemaOf,
            Some(schema::<probe::ReportAck> as SchemaOf),
            post(agents::report),
        ),
        Route {
            query: QUESTIONS,
            ..asked(
                "/v1/agents/{agent}/questions",
                about,
                Some(schema::<sight::QuestionList>),
                get(agents::questions),
            )
        },
        told(
            "/v1/agents/{agent}/sights",
            "What an agent saw at the zone's servers; the newest of each question counts",
            schema::<sight::SightReport>,
            None,
            post(agents::sights),
        ),
    ]
}

fn command_routes() -> Vec<Route> {
    vec![
        command(
            Role::Operator,
            "/v1/plans",
            "Make a plan and keep it",
            schema::<m::PlanRequest>,
            schema::<m::PlanView>,
            post(commands::make_plan),
        ),
        command(
            Role::Operator,
            "/v1/plans/{id}/apply",
            "Run a plan that was shown",
            schema::<m::CommandRequest>,
            schema::<m::RunSummary>,
            post(commands::apply),
        ),
        command(
            Role::Operator,
            "/v1/runs/{id}/{verb}",
            "approve, reject, pause, resume, skip or abort a run",
            schema::<m::CommandRequest>,
            schema::<m::Done>,
            post(commands::run_command),
        ),
        command(
            Role::Operator,
            "/v1/freeze",
            "Stop automatic action",
            schema::<m::FreezeRequest>,
            schema::<m::Done>,
            post(commands::freeze),
        ),
        command(
            Role::Operator,
            "/v1/unfreeze",
            "Allow automatic action again",
            schema::<m::CommandRequest>,
            schema::<m::Done>,
            post(commands::unfreeze),
        ),
        command(
            Role::Operator,
            "/v1/rearm",
            "End block periods",
            schema::<m::RearmRequest>,
            schema::<m::Done>,
            post(commands::rearm),
        ),
        command(
            Role::Admin,
            "/v1/config/reload",
            "Read the configuration directory again now",
            schema::<m::CommandRequest>,
            schema::<m::Done>,
            post(commands::reload),
        ),
    ]
}

fn token_routes() -> [Route; 3] {
    [
        Route {
            needs: Needs::Role(Role::Admin),
            ..read(
                "/v1/tokens",
                "People's tokens, without what opens anything",
                Some(schema::<Vec<TokenView>>),
                get(tokens::list),
            )
        },
        command(
            Role::Admin,
            "/v1/tokens/{name}",
            "Make a token known, by its digest",
            schema::<TokenRequest>,
            schema::<TokenView>,
            post(tokens::create),
        ),
        command(
            Role::Admin,
            "/v1/tokens/{name}/revoke",
            "End a token",
            schema::<m::CommandRequest>,
            schema::<m::Done>,
            post(tokens::revoke),
        ),
    ]
}

fn dns_routes() -> [Route; 6] {
    let about = "What DNS shows of the services beside what it should, read now";
    [
        read("/v1/dns", about, Some(schema::<m::ZoneView>), get(reads::zone)),
        read(
            "/v1/dns/checks",
            "The health checks that records of Route 53 follow, as they were read last",
            Some(schema::<m::HealthChecksView>),
            get(reads::health_checks),
        ),
        Route {
            query: PUBLICATIONS,
            ..paged(
                "/v1/dns/history",
                "What was published, newest first, with who decided it",
                schema::<m::Page<m::PublicationView>>,
                get(reads::publications),
            )
        },
        command(
            Role::Admin,
            "/v1/dns/adopt",
            "Take a record set that was changed by hand, is somebody else's, or is withheld",
            schema::<m::AdoptRequest>,
            schema::<m::Done>,
            post(commands::adopt),
        ),
        command(
            Role::Admin,
            "/v1/dns/command",
            "Have DNS obey this store, which obeyed another one that is lost for good",
            schema::<m::TakeCommandRequest>,
            schema::<m::Done>,
            post(commands::take_dns_command),
        ),
        command(
            Role::Operator,
            "/v1/break-glass/reconcile",
            "Take a break-glass record into the audit, and what it holds back to drover",
            schema::<ReconcileRequest>,
            schema::<Reconciled>,
            post(commands::reconcile_glass),
        ),
    ]
}

pub(crate) fn table() -> Vec<Route> {
    let mut all = read_routes();
    all.extend(command_routes());
    all.extend(agent_routes());
    all.extend(datasets::routes());
    all.extend(dns_routes());
    all.extend(token_routes());
    all
}

/// The whole API.
pub fn router(coordinator: Arc<Coordinator>) -> Router {
    bounded(coordinator, API_REQUEST_TIMEOUT)
}

fn bounded(coordinator: Arc<Coordinator>, timeout: Duration) -> Router {
    assembled(coordinator, table(), timeout)
}

fn assembled(coordinator: Arc<Coordinator>, routes: Vec<Route>, timeout: Duration) -> Router {
    let mut router = Router::new();
    for route in routes {
        let door = Door { c: coordinator.clone(), needs: route.needs, is_command: route.command };
        let guarded = route.handler.route_layer(axum::middleware::from_fn_with_state(door, admit));
        router = router.route(route.path, guarded);
    }
    router
        .fallback(|uri: axum::http::Uri| async move {
            problem::ApiError::new(
                StatusCode::NOT_FOUND,
                "no_such_path",
                format!("there is no {}", uri.path()),
            )
            .into_response()
        })
        .layer(axum::middleware::from_fn_with_state(coordinator.clone(), follower::guide))
        .layer(axum::middleware::from_fn_with_state(
            admission::Gate::new(coordinator.clone()),
            admission::admit,
        ))
        .layer(DefaultBodyLimit::max(API_BODY_BYTES_MAX))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, timeout))
        .layer(axum::middleware::map_response(problem::every_error_is_one))
        .with_state(coordinator)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::{Bed, code_of, get, send};
    use axum::http::Method;

    #[tokio::test]
    async fn every_error_is_a_problem() {
        let bed = Bed::new().await;
        let api = bed.serve().await;
        assert_eq!(code_of(&get(api, "/v1/nothing").await, 404), "no_such_path");
        assert_eq!(code_of(&send(Method::DELETE, api, "/v1/runs", None).await, 405), "method_not_allowed");
        assert_eq!(code_of(&get(api, "/v1/freeze").await, 405), "method_not_allowed");
        let large = vec![b' '; API_BODY_BYTES_MAX + 1];
        let large = send(Method::POST, api, "/v1/freeze", Some(large)).await;
        assert_eq!(code_of(&large, 413), "body_too_large_or_broken");
        assert_eq!(
            code_of(&send(Method::POST, api, "/v1/freeze", Some(b"{".to_vec())).await, 400),
            "malformed"
        );
        for query in ["limit=0", "limit=-1", "limit=many", "cursor=x"] {
            for list in ["runs", "decisions", "audit"] {
                assert_eq!(
                    code_of(&get(api, &format!("/v1/{list}?{query}")).await, 400),
                    "bad_query",
                    "{query}"
                );
            }
        }
        assert_eq!(
            get(api, "/v1/runs?limit=100000&cursor=7").await.0,
            200,
            "more than a page holds is no error"
        );
        assert_eq!(code_of(&get(api, "/v1/runs/%FF").await, 400), "malformed");
        assert_eq!(code_of(&get(api, "/v1/runs/run-9").await, 404), "not_found");
    }

    #[tokio::test]
    async fn a_request_that_takes_too_long_is_a_problem_too() {
        let bed = Bed::new().await;
        let _held = bed.c.admission.lock().await;
        let router = bounded(bed.c.clone(), Duration::from_millis(50));
        let api = bed.serve_router(router).await;
        let body = serde_json::json!({"by": crate::testbed::person(), "reason": "r", "service": null});
        let body = serde_json::to_vec(&body).unwrap();
        assert_eq!(code_of(&send(Method::POST, api, "/v1/rearm", Some(body)).await, 408), "timeout");
    }
}
