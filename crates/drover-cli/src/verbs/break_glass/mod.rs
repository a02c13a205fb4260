//! `break-glass`: what a person does when every coordinator is gone, with the configuration and the provider's credentials alone.

mod reconcile;
mod set;
mod show;

pub use reconcile::run as reconcile;

use super::config::{directory, read_directory, refused};
use crate::args::{BreakGlassDns, GlassPlace};
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::Out;
use drover_dns::provider::{Gate, Lagging, LaggingState, Observed, ProviderError};
use drover_dns::zone::RecordKey;
use drover_model::ServiceId;
use drover_model::config::{Config, DnsSettings, Service, decode};
use std::sync::Arc;

/// Does what was asked.
///
/// # Errors
/// When the configuration can't be read, or the provider can't be asked or refuses.
pub async fn run(out: &Out, verb: BreakGlassDns) -> Result<ExitCode> {
    match verb {
        BreakGlassDns::Show(args) => show::run(out, &args).await,
        BreakGlassDns::Set(args) => set::run(out, args).await,
    }
}

/// The provider, as a configuration says.
struct Glass {
    config: Config,
    dns: DnsSettings,
    gate: Arc<Gate>,
}

impl Glass {
    fn of(place: GlassPlace) -> Result<Self> {
        let directory = directory(place.config);
        let files = read_directory(&directory).map_err(|failure| {
            let hint = "the coordinator's directory, or a copy of it: --config DIR";
            if failure.hint.is_some() { failure } else { failure.hint(hint) }
        })?;
        let loaded =
            decode::load(&files).map_err(|found| refused(&directory.display().to_string(), found))?;
        let none = || {
            let failure = Failure::usage(format!("{} has no `dns:`", directory.display()));
            failure.hint("drover config validate")
        };
        let dns = loaded.config.settings.dns.clone().ok_or_else(none)?;
        let gate = drover_coordinator::break_glass::gate(&dns).ok_or_else(none)?;
        Ok(Self { config: loaded.config, dns, gate })
    }

    fn service(&self, name: &ServiceId) -> Result<&Service> {
        self.config.services.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.config.services.keys().map(ServiceId::as_str).collect();
            Failure::usage(format!("no service `{name}` is configured"))
                .hint(format!("one of {}", known.join(", ")))
        })
    }

    fn key(service: &Service) -> Result<RecordKey> {
        let no_name = || Failure::usage(format!("{} has no name in DNS", service.name));
        drover_coordinator::break_glass::record_key(service).ok_or_else(no_name)
    }

    async fn observe(&self, keys: &[RecordKey]) -> Result<Vec<Observed>> {
        self.gate.observe(keys).await.map_err(|e| not_asked(&self.dns.zone, &e))
    }
}

/// A provider that can't be asked: nothing is known, and nothing was done.
fn not_asked(zone: &str, error: &ProviderError) -> Failure {
    let failure = Failure::because(ExitCode::Failed, format!("can't read {zone} at its provider"), error);
    failure.hint("are the addresses and the credentials of `dns:` those of this machine? docs/break-glass.md")
}

/// Why a server does not show what the newest shows.
fn lag(lagging: &Lagging) -> String {
    let why = match &lagging.state {
        LaggingState::Behind { generation: Some(generation) } => format!("shows generation {generation}"),
        LaggingState::Behind { generation: None } => "shows nothing".to_owned(),
        LaggingState::Earlier => "shows an earlier state of the zone".to_owned(),
        LaggingState::Unsigned => "has it unsigned".to_owned(),
        LaggingState::NotReached { reason } => format!("was not reached: {reason}"),
    };
    format!("{} {why}", lagging.instance)
}
