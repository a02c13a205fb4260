//! What a machine may ask, by the certificate that it showed.
//!
//! An agent speaks for itself alone: as the vantage that its certificate names, from the region that it names, and only
//! where agents speak. So whoever takes over an agent's machine has one vote of a quorum, and no command. Without TLS,
//! which is on loopback and on the Unix socket, who may connect is the operating system's business.

use super::problem::ApiError;
use crate::access::refusals::Refusal as Refused;
use crate::coordinator::Coordinator;
use crate::error::CoordinatorError;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use drover_model::machine::MachineIdentity;
use drover_model::traffic::Actor;
use drover_model::{AgentId, RegionId};
use drover_pki::{NotAMachine, NotAdmitted, Presented, ServerTls};
use std::sync::Arc;

/// What anybody who may connect may know: whether the coordinator lives and works.
const FOR_ALL: [&str; 2] = ["/livez", "/readyz"];

/// Who is at the other end of a connection.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) tls: Arc<ServerTls>,
    pub(crate) presented: Presented,
}

/// Why a machine was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("the certificate names no machine: {0}")]
    NotAMachine(NotAMachine),
    #[error("{0}")]
    Lapsed(NotAdmitted),
    #[error("the certificate is of agent {agent} in {claimed}, and the configuration has it in {configured}")]
    OtherRegion { agent: AgentId, claimed: RegionId, configured: RegionId },
    #[error("an agent speaks for itself alone: {agent} may use /v1/agents/{agent}/ and nothing else")]
    NotItsOwn { agent: AgentId },
    #[error("only an agent's own certificate may speak for it, and this one is of {machine}")]
    NotAnAgent { machine: MachineIdentity },
}

impl Refusal {
    fn code(&self) -> &'static str {
        match self {
            Refusal::NotAMachine(_) => "not_a_machine",
            Refusal::Lapsed(_) => "certificate_lapsed",
            Refusal::OtherRegion { .. } => "wrong_region",
            Refusal::NotItsOwn { .. } => "not_its_own",
            Refusal::NotAnAgent { .. } => "not_an_agent",
        }
    }

    /// The command that leads on, at the authority.
    fn next(&self) -> String {
        match self {
            Refusal::NotAMachine(_) => "drover pki issue --help".to_owned(),
            Refusal::Lapsed(_) => "drover pki show".to_owned(),
            Refusal::OtherRegion { agent, configured, .. } => {
                format!("drover pki issue agent {agent} --region {configured} --out DIR")
            }
            Refusal::NotItsOwn { .. } => "drover pki issue client NAME --out DIR".to_owned(),
            Refusal::NotAnAgent { .. } => "drover pki issue agent AGENT --region REGION --out DIR".to_owned(),
        }
    }
}

impl From<&Refusal> for ApiError {
    fn from(refusal: &Refusal) -> Self {
        let mut error = ApiError::new(StatusCode::FORBIDDEN, refusal.code(), refusal.to_string());
        error.0.next = Some(refusal.next());
        error
    }
}

/// May this machine ask for this path? `region_of` is where the configuration has an agent, if it knows it: one that it
/// does not know is told so by whoever answers.
fn may(
    machine: &MachineIdentity,
    path: &str,
    region_of: impl Fn(&AgentId) -> Option<RegionId>,
) -> Result<(), Refusal> {
    if FOR_ALL.contains(&path) {
        return Ok(());
    }
    let speaks_for = path.strip_prefix("/v1/agents/");
    match machine {
        MachineIdentity::Agent { region, agent } => {
            let rest = speaks_for.and_then(|rest| rest.strip_prefix(agent.as_str()));
            if !rest.is_some_and(|rest| rest.starts_with('/')) {
                return Err(Refusal::NotItsOwn { agent: agent.clone() });
            }
            match region_of(agent) {
                Some(configured) if configured != *region => {
                    Err(Refusal::OtherRegion { agent: agent.clone(), claimed: region.clone(), configured })
                }
                _ => Ok(()),
            }
        }
        MachineIdentity::Client { .. } | MachineIdentity::Coordinator { .. } => match speaks_for {
            Some(_) => Err(Refusal::NotAnAgent { machine: machine.clone() }),
            None => Ok(()),
        },
    }
}

/// Stands before every route.
#[derive(Clone)]
pub(super) struct Gate(Arc<Coordinator>);

impl Gate {
    pub(super) fn new(coordinator: Arc<Coordinator>) -> Self {
        Self(coordinator)
    }

    fn judge(&self, caller: &Caller, path: &str) -> Result<(), Refusal> {
        caller.tls.still_admits(&caller.presented).map_err(Refusal::Lapsed)?;
        let machine = caller.presented.machine.as_ref().map_err(|e| Refusal::NotAMachine(e.clone()))?;
        let loaded = self.0.loaded();
        may(&machine.identity, path, |agent| loaded.config.region_of_agent(agent).cloned())?;
        self.0.access.machines.saw(machine, drover_pki::wall_now());
        Ok(())
    }

    /// On record, once a minute for each machine: an agent that has gone wrong must not fill the audit.
    async fn record(&self, who: &str, asked: &str, refusal: &Refusal) {
        let outcome = format!("refused: {refusal}");
        let said = ["refuse", who, asked, &outcome];
        match self.0.audit_refusal_of(Refused::Machine, who, &Actor::Automatic, said).await {
            Ok(()) | Err(CoordinatorError::Fenced { .. }) => {}
            Err(e) => tracing::error!(error = %drover_model::chain(&e), "can't audit a refusal"),
        }
    }
}

/// Lets a request through, or answers it with why not.
pub(super) async fn admit(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let Some(caller) = request.extensions().get::<Arc<Caller>>().cloned() else {
        return next.run(request).await;
    };
    let Err(refusal) = gate.judge(&caller, request.uri().path()) else {
        return next.run(request).await;
    };
    let asked = format!("{} {}", request.method(), request.uri().path());
    let who = caller.presented.machine.as_ref().map_or("a stranger".to_owned(), |p| p.identity.to_string());
    gate.record(&who, &asked, &refusal).await;
    let mut answer = ApiError::from(&refusal).into_response();
    if matches!(refusal, Refusal::Lapsed(_)) {
        // Whoever has another certificate by now shows it on another connection.
        answer.headers_mut().insert("connection", axum::http::HeaderValue::from_static("close"));
    }
    answer
}

#[cfg(test)]
mod over_tls;

#[cfg(test)]
mod tests {
    use super::*;

    fn code(machine: &str, path: &str) -> Option<&'static str> {
        let region = |agent: &AgentId| match agent.as_str() {
            "eu-west-1" => Some(RegionId::new("eu-west").unwrap()),
            "moved" => Some(RegionId::new("us-east").unwrap()),
            _ => None,
        };
        may(&machine.parse().unwrap(), path, region).err().map(|refusal| {
            assert!(refusal.next().starts_with("drover pki"), "{refusal}");
            refusal.code()
        })
    }

    #[test]
    fn a_machine_may_do_what_is_its_own() {
        let (agent, moved) = ("drover://agent/eu-west/eu-west-1", "drover://agent/eu-west/moved");
        let (client, coordinator) = ("drover://client/ann", "drover://coordinator/c-1");
        for (machine, path, expected) in [
            (agent, "/v1/agents/eu-west-1/reports", None),
            (agent, "/v1/agents/eu-west-1/probes", None),
            (agent, "/livez", None),
            (agent, "/readyz", None),
            (agent, "/v1/agents/eu-west-2/reports", Some("not_its_own")),
            // A longer name is another's.
            (agent, "/v1/agents/eu-west-12/reports", Some("not_its_own")),
            (agent, "/v1/agents/eu-west-1", Some("not_its_own")),
            (agent, "/v1/agents/eu-west%2D1/reports", Some("not_its_own")),
            (agent, "//v1/agents/eu-west-1/reports", Some("not_its_own")),
            (agent, "/v1/status", Some("not_its_own")),
            (agent, "/v1/freeze", Some("not_its_own")),
            (agent, "/metrics", Some("not_its_own")),
            (agent, "/", Some("not_its_own")),
            (moved, "/v1/agents/moved/reports", Some("wrong_region")),
            ("drover://agent/eu-west/unknown", "/v1/agents/unknown/reports", None),
            (client, "/v1/status", None),
            (client, "/v1/freeze", None),
            (client, "/v1/agents/eu-west-1/reports", Some("not_an_agent")),
            (coordinator, "/v1/freeze", None),
            (coordinator, "/v1/agents/eu-west-1/sights", Some("not_an_agent")),
        ] {
            assert_eq!(code(machine, path), expected, "{machine} {path}");
        }
    }
}
