//! The provider of servers that take dynamic updates: RFC 2136, signed by TSIG (RFC 8945). BIND, Knot and PowerDNS do.
//!
//! The intuition: an update has prerequisites, which the server checks and fulfils in one step. Every update of drover's
//! requires the exact records that it was decided upon, and the exact fence of the zone, which it raises. So a
//! predecessor's late update fails, and so does one that somebody else's change has overtaken (I3).
//!
//! Such a server knows no weights: every value that has weight is answered, in equal shares. What it can't say of a set
//! stands in a TXT record beside it ([`registry`]). PowerDNS can be told weights by a program ([`lua`]); such records no question
//! shows, so there the zone is read by transfers ([`transfer`]), and its servers first prove that they run programs ([`proof`]).
//!
//! The hard case is a batch that does not fit into one message. It becomes several updates, each of which raises the
//! fence; if one fails, those before it stay. Repeating the batch finds them done.

mod apply;
mod exchange;
mod key;
mod live;
mod look;
mod lua;
mod message;
mod proof;
mod registry;
mod transfer;
mod verify;

use async_trait::async_trait;
use drover_model::Epoch;
use drover_model::config::Rfc2136Dns;
use tokio::sync::Mutex;

use self::exchange::{ExchangeError, Remote};
use self::message::BadReply;
use super::{
    Applied, Capabilities, Commands, Coverage, MissingInstance, Observed, ProviderError, RecordSets,
    Verification,
};
use crate::publish::{Batch, CHANGES_PER_BATCH_MAX};
use crate::zone::{DnsName, RecordKey, RecordSet, WEIGHT_MAX};

/// The provider. See the module.
#[derive(Debug)]
pub struct DynamicUpdates {
    zone: DnsName,
    settings: Rfc2136Dns,
    primary: Remote,
    /// The primary's name, for messages; its address where it is not asked.
    called: String,
    /// Every update replaces the zone's one fence, so that two at once could only get in each other's way.
    updating: Mutex<()>,
}

impl DynamicUpdates {
    /// A provider for one zone.
    #[must_use]
    pub fn new(zone: DnsName, settings: Rfc2136Dns) -> Self {
        let primary = Remote { server: settings.primary, timeout: settings.timeout.to_duration() };
        let asked = settings.servers.iter().find(|s| s.query == settings.primary);
        let called = asked.map_or_else(|| format!("primary {}", settings.primary), |s| s.name.clone());
        Self { zone, settings, primary, called, updating: Mutex::new(()) }
    }

    /// It will never be accepted as it is.
    fn refused(&self, code: &str, detail: &impl ToString) -> ProviderError {
        let instance = self.called.clone();
        ProviderError::Refused { instance, code: code.to_owned(), detail: detail.to_string() }
    }

    /// Nothing changed, and it may go better later.
    fn not_now(&self, detail: impl Into<String>) -> ProviderError {
        ProviderError::NotNow { instance: self.called.clone(), detail: detail.into() }
    }

    /// It may have happened or not.
    fn unclear(&self, detail: impl Into<String>) -> ProviderError {
        ProviderError::Unclear { instance: self.called.clone(), detail: detail.into() }
    }

    fn failed(&self, error: &ExchangeError) -> ProviderError {
        let told = drover_model::chain(error);
        match error {
            ExchangeError::NotReached { .. } => {
                let missing = MissingInstance { instance: self.called.clone(), reason: told };
                ProviderError::Unreachable { missing: vec![missing] }
            }
            ExchangeError::Silent { after, .. } => ProviderError::TimedOut { after: *after },
            // Unsigned or wrongly signed words may be anybody's: what happened is not known. Only where the server itself
            // does not know the key, or the time, is it clear that nothing did.
            ExchangeError::BadReply { source: BadReply::NotAuthorised(_), .. } => {
                let key = &self.settings.key;
                let file = key.secret_file.display();
                self.not_now(format!(
                    "{told}: is the key \"{}\" of {file} its key, and are the clocks right?",
                    key.name
                ))
            }
            ExchangeError::NotTransferred { .. } => {
                let key = &self.settings.key.name;
                self.not_now(format!(
                    "{told}: it must know the key \"{key}\" and let it transfer the zone (TSIG-ALLOW-AXFR)"
                ))
            }
            ExchangeError::BadReply { .. } => self.unclear(told),
            // A server that is just loading its zone says so, and answers a moment later.
            ExchangeError::NotAnswered { .. }
            | ExchangeError::ZoneTooLarge { .. }
            | ExchangeError::Garbled { .. } => self.not_now(told),
        }
    }
}

#[async_trait]
impl RecordSets for DynamicUpdates {
    fn name(&self) -> &str {
        "rfc2136"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            has_weights: self.settings.weights.is_some(),
            weight_max: WEIGHT_MAX,
            is_batch_atomic: false,
            batch_changes_max: CHANGES_PER_BATCH_MAX,
            shows_generation: true,
            // Each would be a change of a record, for which a failover may have to wait.
            shortens_ttls: false,
        }
    }

    async fn observe(&self, keys: &[RecordKey]) -> Result<Vec<Observed>, ProviderError> {
        let seen = self.look(keys).await?;
        let lagging = self.lagging(&seen).await?;
        let observed = seen.live.into_iter().zip(lagging);
        Ok(observed.map(|(live, lagging)| Observed::of(live.shown(), live.key, lagging)).collect())
    }

    async fn commands(&self) -> Result<Commands, ProviderError> {
        let epoch = self.read_fence(&self.look(&[]).await?.fence)?.map(|fence| fence.epoch);
        Ok(Commands { known: vec![(self.called.clone(), epoch)], missing: vec![] })
    }

    async fn take_command(&self, from: &[(String, Epoch)], to: Epoch) -> Result<Coverage, ProviderError> {
        self.taken_command(from, to).await
    }

    async fn apply(&self, batch: &Batch) -> Result<Applied, ProviderError> {
        self.apply_batch(batch).await
    }

    async fn verify(
        &self,
        key: &RecordKey,
        expected: Option<&RecordSet>,
    ) -> Result<Verification, ProviderError> {
        verify::verify(&self.settings, key, expected).await
    }
}
