//! Asking another member, which must prove that it is the one (step 4).

use super::super::coordinators::ANSWER_WITHIN;
use super::super::known::PeerAt;
use super::QUESTION_BYTES_MAX;
use super::refusals::{Refusals, Said};
use crate::client::{CONNECT_TIMEOUT, body_within, builder, quoted, with_system_roots};
use crate::error::AgentError;
use crate::identity::Identity;
use drover_model::machine::MachineIdentity;
use drover_model::write_right::{Ask, PeerAnswer};
use drover_model::{AgentId, DatasetId};
use drover_pki::{Http, HttpError, NoHandshake, TlsFiles, must_be_of};
use reqwest::{ClientBuilder, StatusCode};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// A member did not answer, or not as it should.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum NotAnswered {
    #[error(
        "{0} is beyond loopback, and without `tls:` it would be asked in plain text: give this agent its certificate \
         (drover pki issue agent AGENT --region REGION --out DIR)"
    )]
    PlainText(SocketAddr),
    #[error("no coordinator has said yet in which region it is, so that its certificate can't be judged")]
    RegionUnknown,
    #[error(transparent)]
    Client(#[from] HttpError),
    #[error("{0}")]
    Handshake(NoHandshake, #[source] reqwest::Error),
    #[error("it can't be asked")]
    Exchange(#[from] reqwest::Error),
    #[error("it answered {status}: {detail}")]
    Refused { status: StatusCode, detail: String },
    #[error("it answered with more than {QUESTION_BYTES_MAX} bytes")]
    TooLong,
    #[error("its answer can't be understood")]
    Unreadable(#[from] serde_json::Error),
}

impl NotAnswered {
    fn code(&self) -> &'static str {
        match self {
            Self::PlainText(_) => "plain_text",
            Self::RegionUnknown => "region_unknown",
            Self::Client(_) => "own_certificate",
            Self::Handshake(why, _) => why.as_str(),
            Self::Exchange(_) => "unreachable",
            Self::Refused { .. } => "refused",
            Self::TooLong | Self::Unreadable(_) => "unreadable",
        }
    }

    /// What a request failed by: of TLS, or of anything else.
    fn of(source: reqwest::Error) -> Self {
        let source = source.without_url();
        match NoHandshake::in_chain(&source) {
            Some(why) => Self::Handshake(why, source),
            None => Self::Exchange(source),
        }
    }
}

/// Asks other members.
#[derive(Debug)]
pub(in super::super) struct PeerClient {
    own: MachineIdentity,
    tls: Option<TlsFiles>,
    plain: Http,
    /// One for each member, which takes no other's certificate.
    proven: Mutex<BTreeMap<MachineIdentity, Arc<Http>>>,
    refusals: Arc<Refusals>,
}

impl PeerClient {
    pub(in super::super) fn new(identity: &Identity, refusals: Arc<Refusals>) -> Result<Self, AgentError> {
        let plain = Http::fixed(with_system_roots(impatient(), "")).map_err(|source| {
            let url = "the other members of datasets".to_owned();
            AgentError::Client { url, source }
        })?;
        let (own, tls) = (identity.machine(), identity.tls.clone());
        Ok(Self { own, tls, plain, proven: Mutex::default(), refusals })
    }

    /// One member's answer. What went wrong is told, and not again each second.
    pub(in super::super) async fn ask(
        &self,
        member: &AgentId,
        at: &PeerAt,
        dataset: &DatasetId,
        ask: &Ask,
    ) -> Option<PeerAnswer> {
        match self.answer(member, at, dataset, ask).await {
            Ok(answer) => Some(answer),
            Err(why) => {
                if self.refusals.note(Said::Here, why.code()) {
                    let error = drover_model::chain(&why);
                    tracing::warn!(%dataset, %member, error, "a member does not answer");
                }
                None
            }
        }
    }

    async fn answer(
        &self,
        member: &AgentId,
        at: &PeerAt,
        dataset: &DatasetId,
        ask: &Ask,
    ) -> Result<PeerAnswer, NotAnswered> {
        let (scheme, client) = match &self.tls {
            Some(files) => {
                let region = at.region.clone().ok_or(NotAnswered::RegionUnknown)?;
                let machine = MachineIdentity::Agent { region, agent: member.clone() };
                ("https", self.proven(files, machine)?.client())
            }
            None if at.address.ip().is_loopback() => ("http", self.plain.client()),
            None => return Err(NotAnswered::PlainText(at.address)),
        };
        let url = format!("{scheme}://{}/v1/datasets/{dataset}/ask", at.address);
        let response = client.post(url).json(ask).send().await.map_err(NotAnswered::of)?;
        let status = response.status();
        let body = body_within(response, QUESTION_BYTES_MAX).await.map_err(NotAnswered::of)?;
        let body = body.ok_or(NotAnswered::TooLong)?;
        if !status.is_success() {
            return Err(NotAnswered::Refused { status, detail: quoted(&body) });
        }
        Ok(serde_json::from_slice(&body)?)
    }

    /// As many as there are members, of whom there is a limit.
    fn proven(&self, files: &TlsFiles, machine: MachineIdentity) -> Result<Arc<Http>, HttpError> {
        let mut proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(http) = proven.get(&machine) {
            return Ok(Arc::clone(http));
        }
        let own = self.own.clone();
        let http =
            Http::of_machine(files.clone(), machine.clone(), impatient, move |files| must_be_of(files, &own));
        let http = Arc::new(http?);
        // One that moved to another region is another machine.
        proven.retain(|known, _| !is_same_agent(known, &machine));
        proven.insert(machine, Arc::clone(&http));
        Ok(http)
    }
}

fn is_same_agent(a: &MachineIdentity, b: &MachineIdentity) -> bool {
    let name = |machine: &MachineIdentity| match machine {
        MachineIdentity::Agent { agent, .. } => Some(agent.clone()),
        MachineIdentity::Coordinator { .. } | MachineIdentity::Client { .. } => None,
    };
    name(a) == name(b)
}

fn impatient() -> ClientBuilder {
    builder().connect_timeout(CONNECT_TIMEOUT.min(ANSWER_WITHIN)).timeout(ANSWER_WITHIN)
}
