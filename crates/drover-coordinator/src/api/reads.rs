//! What can be read.

use super::paging::{Asked, Paging, bad_query, limited};
use super::problem::ApiError;
use crate::audit::{AuditRecord, number_of_key};
use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::error::CoordinatorError;
use crate::observations::Wanted;
use crate::published::WantedPublications;
use crate::source::{source, sources};
use crate::views::explain::summary;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use drover_model::api::{
    API_SCHEMA, ConfigView, DecisionSummary, ExplainView, HealthChecksView, ObservationView, Page, PlanView,
    PublicationView, ReplayView, RunSummary, RunView, Short, ZoneView,
};
use drover_model::audit::{AuditHead, AuditItem};
use drover_model::decision::StoredDecision;
use drover_model::runbook::Runbook;
use drover_model::{DecisionId, PlanId, RunId, ServiceId, Span, Timestamp};
use drover_store::JsonError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// One page of numbered records, newest first, reading no more of them than it shows and one.
async fn page_of<T: DeserializeOwned, V>(
    c: &Coordinator,
    paging: &Paging,
    prefix: &str,
    last: u64,
    show: impl Fn(T) -> V,
) -> Result<Json<Page<V>>, ApiError> {
    let found = c.db.list_below::<T>(prefix, paging.below(), last, paging.limit() + 1).await?;
    Ok(Json(paging.page(found.into_iter().map(|(n, record)| (n, show(record))).collect())))
}

pub(super) async fn metrics(State(c): State<Arc<Coordinator>>) -> Response {
    let text = crate::views::prometheus::exposition(&c.status_view());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// How the status is asked for.
#[derive(Debug, Deserialize)]
pub(super) struct StatusQuery {
    #[serde(default)]
    form: Form,
}

/// How much of a status is written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Form {
    /// Every field.
    #[default]
    Whole,
    /// What is as usual is left out.
    Short,
}

pub(super) async fn status(State(c): State<Arc<Coordinator>>, Asked(query): Asked<StatusQuery>) -> Response {
    let view = c.status_view();
    match query.form {
        Form::Whole => Json(view).into_response(),
        Form::Short => Json(Short(&view)).into_response(),
    }
}

pub(super) async fn zone(State(c): State<Arc<Coordinator>>) -> Result<Json<ZoneView>, ApiError> {
    c.zone_view().await.map(Json)
}

pub(super) async fn health_checks(
    State(c): State<Arc<Coordinator>>,
) -> Result<Json<HealthChecksView>, ApiError> {
    let loaded = c.loaded();
    let view = c.health_checks_view(&loaded.config, &c.live());
    view.map(Json).ok_or_else(|| {
        let mut error = ApiError::not_found("health check", vec![]);
        error.0.next = Some("set `health_checks:` in `dns:` of `kind: route53`, see docs/dns.md".to_owned());
        error
    })
}

pub(super) async fn explain(
    State(c): State<Arc<Coordinator>>,
    Path(subject): Path<String>,
) -> Result<Json<ExplainView>, ApiError> {
    match c.explain_numbered(&subject).await? {
        Some(view) => Ok(Json(view)),
        None => c.explain_view(&subject).await.map(Json),
    }
}

pub(super) async fn decisions(
    State(c): State<Arc<Coordinator>>,
    Asked(paging): Asked<Paging>,
) -> Result<Json<Page<DecisionSummary>>, ApiError> {
    let last = c.counters.decisions.last();
    page_of(&c, &paging, keys::DECISIONS, last, |d: StoredDecision| summary(&d)).await
}

pub(super) async fn replay(
    State(c): State<Arc<Coordinator>>,
    Path(id): Path<String>,
) -> Result<Json<ReplayView>, ApiError> {
    let missing = || ApiError::not_found(format!("decision {id}"), Vec::new());
    let id = DecisionId::new(&id).map_err(|_| missing())?;
    let decision = c.decision_and_world(&id).await?.ok_or_else(missing)?;
    let replay = drover_core::replay::replay(&decision);
    Ok(Json(ReplayView {
        schema: API_SCHEMA,
        decision,
        same: replay.same,
        stored: replay.stored,
        now: replay.now,
    }))
}

pub(super) async fn plan(
    State(c): State<Arc<Coordinator>>,
    Path(id): Path<String>,
) -> Result<Json<PlanView>, ApiError> {
    let id = PlanId::from_text(&id);
    match c.db.get::<PlanView>(&keys::plan(&id)).await? {
        Some((view, _)) => Ok(Json(view)),
        None => Err(ApiError::not_found(format!("plan {id}"), Vec::new())),
    }
}

pub(super) async fn runs(
    State(c): State<Arc<Coordinator>>,
    Asked(paging): Asked<Paging>,
) -> Result<Json<Page<RunSummary>>, ApiError> {
    let found = c.runs_below(paging.below(), paging.limit()).await?;
    Ok(Json(paging.page(found)))
}

pub(super) async fn run(
    State(c): State<Arc<Coordinator>>,
    Path(id): Path<String>,
) -> Result<Json<RunView>, ApiError> {
    let missing = || {
        let known = c.runs.summaries().iter().take(10).map(|r| r.id.to_string()).collect();
        ApiError::not_found(format!("run {id}"), known)
    };
    let id = RunId::new(&id).map_err(|_| missing())?;
    // Only the number is looked up, so that `decision-7` must not find `run-7`.
    keys::number_of(id.as_str()).filter(|n| RunId::numbered(*n) == id).ok_or_else(missing)?;
    c.run_view(&id).await?.map(Json).ok_or_else(missing)
}

pub(super) async fn config(State(c): State<Arc<Coordinator>>) -> Json<ConfigView> {
    let loaded = c.loaded();
    Json(ConfigView {
        version: loaded.version.clone(),
        yaml: drover_model::config::encode::to_yaml(&loaded.config),
        loaded_at: loaded.loaded_at,
        refused: c.live().config_refused.clone(),
    })
}

pub(super) async fn runbooks(State(c): State<Arc<Coordinator>>) -> Json<Vec<Runbook>> {
    Json(c.loaded().runbooks.values().map(|b| b.runbook.clone()).collect())
}

/// How observations are asked for.
#[derive(Debug, Deserialize)]
pub(super) struct ObservationQuery {
    endpoint: String,
    since: Option<String>,
    cursor: Option<String>,
    limit: Option<std::num::NonZeroUsize>,
}

/// How far back observations are shown when nobody says.
const OBSERVATIONS_SINCE: Span = Span::from_hours(1);

impl ObservationQuery {
    fn wanted(&self, now: Timestamp) -> Result<Wanted, ApiError> {
        let endpoint = self.endpoint.parse().map_err(|e| bad_query(format!("endpoint: {e}")))?;
        let since = match &self.since {
            None => now - OBSERVATIONS_SINCE,
            Some(text) => match (text.parse::<Span>(), text.parse::<Timestamp>()) {
                (Ok(span), _) => now - span,
                (_, Ok(at)) => at,
                (Err(e), Err(_)) => return Err(bad_query(format!("since: {e}, or an RFC 3339 time"))),
            },
        };
        let cursor = self.cursor.as_deref().map(str::parse).transpose()?;
        Ok(Wanted { endpoint, since, cursor, limit: limited(self.limit) })
    }
}

pub(super) async fn observations(
    State(c): State<Arc<Coordinator>>,
    Asked(query): Asked<ObservationQuery>,
) -> Result<Json<Page<ObservationView>>, ApiError> {
    let wanted = query.wanted(c.clock.now())?;
    let (me, asked) = (c.clone(), wanted.clone());
    let page = tokio::task::spawn_blocking(move || me.observations(&asked))
        .await
        .map_err(|e| CoordinatorError::store("read observations", e))??;
    // What is no longer configured may still be looked back on; what was never seen either is a mistake.
    let known = c.endpoints();
    if page.items.is_empty() && wanted.cursor.is_none() && !known.contains(&wanted.endpoint) {
        let known = known.iter().map(ToString::to_string).collect();
        return Err(ApiError::not_found(format!("endpoint {}", wanted.endpoint), known));
    }
    Ok(Json(page))
}

/// How publications are asked for.
#[derive(Debug, Deserialize)]
pub(super) struct PublicationQuery {
    service: Option<String>,
    cursor: Option<String>,
    limit: Option<std::num::NonZeroUsize>,
}

pub(super) async fn publications(
    State(c): State<Arc<Coordinator>>,
    Asked(query): Asked<PublicationQuery>,
) -> Result<Json<Page<PublicationView>>, ApiError> {
    let service = query.service.as_deref().map(ServiceId::new).transpose();
    let service = service.map_err(|e| bad_query(format!("service: {e}")))?;
    let cursor = query.cursor.as_deref().map(str::parse).transpose()?;
    let wanted = WantedPublications { service, cursor, limit: limited(query.limit) };
    let (me, asked) = (c.clone(), wanted.clone());
    let page = tokio::task::spawn_blocking(move || me.publications(&asked))
        .await
        .map_err(|e| CoordinatorError::store("read publications", e))??;
    // What is no longer configured may still be looked back on; what was never published either is a mistake.
    let loaded = c.loaded();
    match &wanted.service {
        Some(name) if page.items.is_empty() && cursor.is_none() && source(&loaded.config, name).is_none() => {
            let known = sources(&loaded.config).map(|known| known.name().to_string()).collect();
            Err(ApiError::not_found(format!("service or record {name}"), known))
        }
        _ => Ok(Json(page)),
    }
}

/// How the audit is asked for.
#[derive(Debug, Deserialize)]
pub(super) struct AuditQuery {
    after: Option<u64>,
    cursor: Option<u64>,
    limit: Option<std::num::NonZeroUsize>,
}

pub(super) async fn audit(
    State(c): State<Arc<Coordinator>>,
    Asked(query): Asked<AuditQuery>,
) -> Result<Json<Page<AuditItem>>, ApiError> {
    match (query.after, query.cursor) {
        (Some(_), Some(_)) => Err(bad_query("`after` and `cursor` lead in opposite directions")),
        (Some(after), None) => {
            let after = Some(keys::numbered(keys::AUDIT, after));
            let limit = limited(query.limit);
            let (items, next) = c.db.list_page_as_it_is(keys::AUDIT, after, limit).await?;
            let item = |(key, read): (String, _)| audit_item(number_of_key(&key), read);
            let items: Vec<AuditItem> = items.into_iter().map(item).collect();
            Ok(Json(Page { items, next_cursor: next.map(|key| number_of_key(&key).to_string()) }))
        }
        (None, cursor) => {
            let paging = Paging::new(cursor, query.limit);
            let (last, limit) = (c.counters.audit.last(), paging.limit() + 1);
            let found = c.db.list_below_as_it_is(keys::AUDIT, paging.below(), last, limit).await?;
            Ok(Json(paging.page(found.into_iter().map(|(n, read)| (n, audit_item(n, read))).collect())))
        }
    }
}

fn audit_item(number: u64, read: Result<AuditRecord, JsonError>) -> AuditItem {
    match read {
        Ok(record) => AuditItem::Record(record),
        Err(e) => AuditItem::Unreadable { number, unreadable: drover_model::chain(&e) },
    }
}

pub(super) async fn audit_head(State(c): State<Arc<Coordinator>>) -> Result<Json<AuditHead>, ApiError> {
    match c.db.get::<AuditHead>(keys::AUDIT_HEAD).await? {
        Some((head, _)) => Ok(Json(head)),
        None => Err(ApiError::not_found("record of the audit", Vec::new())),
    }
}
