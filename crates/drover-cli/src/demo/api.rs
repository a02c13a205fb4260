//! What the demo asks of the coordinator and of the DNS instance, over the same HTTP as everybody.

use super::exchange::{Ask, ask};
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use drover_dns::publish::AppliedBatch;
use drover_model::api::{
    CommandRequest, DecisionSummary, Done, ExplainView, Page, PlanRequest, PlanView, Problem, RunSummary,
    RunView, StatusView,
};
use drover_model::plan::Intent;
use drover_model::traffic::Actor;
use drover_model::{PlanId, RegionId, RunId};
use hyper::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::time::Duration;

/// A local answer takes milliseconds.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The world's two HTTP interfaces.
#[derive(Debug, Clone, Copy)]
pub struct Api {
    /// The coordinator's.
    pub coordinator: SocketAddr,
    /// The DNS instance's control.
    pub dns: SocketAddr,
}

#[derive(Deserialize)]
struct Changes {
    applied: Vec<AppliedBatch>,
}

/// Who the demo is when it commands.
fn person() -> Actor {
    Actor::Person { name: "demo".into(), host: "localhost".into() }
}

impl Api {
    /// Everything at a glance.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub async fn status(&self) -> Result<StatusView> {
        self.get(self.coordinator, "/v1/status").await
    }

    /// Why a region is as it is.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub async fn explain(&self, region: &RegionId) -> Result<ExplainView> {
        self.get(self.coordinator, &format!("/v1/explain/{region}")).await
    }

    /// The decisions that were stored last: more than a scene makes.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub async fn decisions(&self) -> Result<Vec<DecisionSummary>> {
        let page: Page<DecisionSummary> = self.get(self.coordinator, "/v1/decisions").await?;
        Ok(page.items)
    }

    /// A run in full.
    ///
    /// # Errors
    /// When the coordinator does not answer or does not know it.
    pub async fn run(&self, run: &RunId) -> Result<RunView> {
        self.get(self.coordinator, &format!("/v1/runs/{run}")).await
    }

    /// Says yes to exactly this plan, in a person's name.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn approve(&self, run: &RunId, plan: &PlanId, reason: &str) -> Result<Done> {
        let request = CommandRequest {
            by: person(),
            reason: reason.into(),
            plan: Some(plan.clone()),
            roll_back: false,
            alone: false,
        };
        let body = serde_json::to_string(&request)
            .map_err(|e| Failure::because(ExitCode::Internal, "can't write the approval", &e))?;
        let (path, key) = (format!("/v1/runs/{run}/approve"), format!("demo-approve-{run}"));
        self.send(self.coordinator, &Method::POST, &path, &body, Some(&key)).await
    }

    /// Asks for a plan in a person's name; a refusal is an answer, too.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub async fn plan(&self, intent: Intent, key: &str) -> Result<PlanView> {
        let request = PlanRequest { by: person(), intent };
        let body = serde_json::to_string(&request)
            .map_err(|e| Failure::because(ExitCode::Internal, "can't write the wish", &e))?;
        self.send(self.coordinator, &Method::POST, "/v1/plans", &body, Some(key)).await
    }

    /// Runs exactly this plan, in a person's name.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn apply(&self, plan: &PlanId, reason: &str) -> Result<RunSummary> {
        let request = CommandRequest {
            by: person(),
            reason: reason.into(),
            plan: Some(plan.clone()),
            roll_back: false,
            alone: false,
        };
        let body = serde_json::to_string(&request)
            .map_err(|e| Failure::because(ExitCode::Internal, "can't write the command", &e))?;
        let (path, key) = (format!("/v1/plans/{plan}/apply"), format!("demo-apply-{plan}"));
        self.send(self.coordinator, &Method::POST, &path, &body, Some(&key)).await
    }

    /// Every change that the DNS instance has applied, oldest first.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn dns_changes(&self) -> Result<Vec<AppliedBatch>> {
        let changes: Changes = self.get(self.dns, "/v1/changes").await?;
        Ok(changes.applied)
    }

    async fn get<T: DeserializeOwned>(&self, address: SocketAddr, path: &str) -> Result<T> {
        self.send(address, &Method::GET, path, "", None).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        address: SocketAddr,
        method: &Method,
        path: &str,
        body: &str,
        key: Option<&str>,
    ) -> Result<T> {
        let what = || format!("can't {method} {path} at {address}");
        let host = address.to_string();
        let asked = Ask { address, host: &host, method, path, body, key, timeout: TIMEOUT };
        let (status, answer) =
            ask(asked).await.map_err(|e| Failure::because(ExitCode::Unreachable, what(), &e))?;
        if !status.is_success() {
            let detail =
                serde_json::from_slice::<Problem>(&answer).map_or_else(|_| status.to_string(), |p| p.detail);
            return Err(Failure::new(ExitCode::Refused, format!("{}: {detail}", what())));
        }
        serde_json::from_slice(&answer).map_err(|e| Failure::because(ExitCode::Internal, what(), &e))
    }
}
