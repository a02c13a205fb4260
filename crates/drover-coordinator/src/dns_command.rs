//! Whom DNS obeys. After a store was lost and replaced, the servers and zones still obey the one before: they refuse every change. That is no
//! newer leader, before whom this one would have to end: it is told, nothing is moved or written meanwhile, and a person who knows
//! that the other store is lost for good takes the command.

use crate::api::problem::ApiError;
use crate::coordinator::Coordinator;
use crate::operator::need_reason;
use crate::zone::not_read;
use axum::http::StatusCode;
use drover_dns::provider::{Gate, ProviderError};
use drover_model::Epoch;
use drover_model::api::{DnsCommandView, Done, TakeCommandRequest};
use std::time::{Duration, Instant};

/// Between two looks whom DNS obeys, where that was this store: a request to Route 53. Whoever takes the command meanwhile is found out by the
/// next change.
const LOOK_EVERY: Duration = Duration::from_secs(60);

impl Coordinator {
    /// Does DNS obey this store, as far as it can be asked? Looks anew when that was long ago, or it did not.
    pub(crate) async fn is_dns_ours(&self, gate: &Gate) -> Result<bool, ProviderError> {
        let is_due = {
            let live = self.live();
            let is_old = live.dns_command_seen.is_none_or(|at| at.elapsed() >= LOOK_EVERY);
            is_old || !live.dns_of_another_store.is_empty()
        };
        if is_due {
            self.look_at_dns_command(gate).await?;
        }
        Ok(self.live().dns_of_another_store.is_empty())
    }

    /// The servers that obey another store.
    pub(crate) async fn look_at_dns_command(
        &self,
        gate: &Gate,
    ) -> Result<Vec<DnsCommandView>, ProviderError> {
        let others = gate.commands().await?.of_others(self.db.epoch());
        self.live().dns_command_seen = Some(Instant::now());
        Ok(self.note_dns_command(others))
    }

    /// Notes it, and says so in the log when that is new.
    pub(crate) fn note_dns_command(&self, others: Vec<(String, Epoch)>) -> Vec<DnsCommandView> {
        let others: Vec<_> =
            others.into_iter().map(|(server, epoch)| DnsCommandView { server, epoch }).collect();
        let before = std::mem::replace(&mut self.live().dns_of_another_store, others.clone());
        if before == others {
            return others;
        }
        for DnsCommandView { server, epoch } in others.iter().filter(|one| !before.contains(one)) {
            tracing::error!(server, %epoch, "DNS obeys another store and refuses this one; nothing is moved");
        }
        if others.is_empty() {
            tracing::info!("DNS obeys this store");
        }
        self.decide_wake.notify_one();
        others
    }

    /// Has DNS obey this store.
    ///
    /// # Errors
    /// When it does already, obeys somebody else than was shown, or can't be told.
    pub(crate) async fn take_dns_command(&self, request: &TakeCommandRequest) -> Result<Done, ApiError> {
        need_reason(&request.reason)?;
        let outcome = self.taken_dns_command(&request.seen).await;
        let text = match &outcome {
            Ok(done) => done.sentence.clone(),
            Err(e) => format!("refused: {}", e.0.detail),
        };
        self.noted(&request.by, "dns adopt", "command", &request.reason, &text).await?;
        outcome.map_err(ApiError::on_record)
    }

    async fn taken_dns_command(&self, seen: &[DnsCommandView]) -> Result<Done, ApiError> {
        let (gate, _) = self.zone()?;
        let _one_at_a_time = self.shifting.lock().await;
        let conflict = |code: &str, detail: String| ApiError::new(StatusCode::CONFLICT, code, detail);
        let others = self.look_at_dns_command(&gate).await.map_err(|e| not_read(&e))?;
        if others.is_empty() {
            return Err(conflict("nothing_to_adopt", "DNS obeys this store already".to_owned()));
        }
        if others != seen {
            let mut error =
                conflict("changed", "DNS does not obey any more whom it obeyed when it was shown".to_owned());
            error.0.next = Some("drover dns show".to_owned());
            return Err(error);
        }
        let from: Vec<_> = others.into_iter().map(|one| (one.server, one.epoch)).collect();
        let taken = gate.take_command(&from, self.db.epoch()).await.map_err(|e| not_read(&e))?;
        self.look_at_dns_command(&gate).await.map_err(|e| not_read(&e))?;
        self.reconcile_wake.notify_one();
        let left: Vec<_> =
            taken.missing.iter().map(|one| format!("{}: {}", one.instance, one.reason)).collect();
        if !left.is_empty() {
            return Err(conflict(
                "not_taken",
                format!("these obey another store still: {}", left.join("; ")),
            ));
        }
        let sentence = format!("{} obeys this store, by {}", taken.instances.join(", "), self.db.epoch());
        Ok(Done { sentence })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::{Bed, get, send};
    use crate::zone::tests::{of, published, reconcile};
    use axum::http::Method;
    use drover_model::traffic::Actor;

    const LOST: Epoch = Epoch { incarnation: 7, counter: 41 };

    fn asked(seen: Vec<DnsCommandView>) -> TakeCommandRequest {
        TakeCommandRequest { by: Actor::Automatic, reason: "the store was lost".into(), seen }
    }

    #[tokio::test]
    async fn dns_of_another_store_is_told_left_alone_planned_around_and_taken_by_a_person() {
        let (bed, dns) = published().await;
        dns.obey(LOST);
        bed.rewrite(|c| c.services.values_mut().for_each(|s| s.ttl = s.ttl.times(2)));
        bed.c.reload_now().await.unwrap();
        let before = of(&dns, "checkout");
        reconcile(&bed).await;
        reconcile(&bed).await;
        assert!(!bed.c.stop.is_cancelled(), "it is no newer leader");
        assert_eq!(of(&dns, "checkout"), before, "nothing is written");
        let seen = vec![DnsCommandView { server: "played".into(), epoch: LOST }];
        let status = bed.c.status_view();
        assert_eq!(status.dns_of_another_store, seen);
        let told: Vec<_> = status.attention.iter().filter(|a| a.code == "dns_of_another_store").collect();
        assert_eq!(told.len(), 1, "{:?}", status.attention);
        assert_eq!(told[0].next.as_deref(), Some(drover_model::api::DNS_COMMAND_TAKEN_BY));

        bed.all_is_well();
        let now = bed.c.clock.now();
        let refused = drover_core::plan::plan(&bed.c.world(now), &Bed::intent(), now);
        assert_eq!(refused.refusals[0].code(), "dns_of_another_store");

        let api = bed.serve().await;
        assert!(get(api, "/v1/dns").await.2.contains("of_another_store"));
        let other = vec![DnsCommandView { server: "played".into(), epoch: Epoch { counter: 40, ..LOST } }];
        let body = Some(serde_json::to_vec(&asked(seen.clone())).unwrap());
        let overtaken = bed.c.take_dns_command(&asked(other)).await.unwrap_err();
        assert_eq!(overtaken.0.code, "changed");
        let (code, _, said) = send(Method::POST, api, "/v1/dns/command", body).await;
        assert_eq!(code, 200, "{said}");
        reconcile(&bed).await;
        assert_ne!(of(&dns, "checkout"), before, "what was configured meanwhile is written");
        assert!(bed.c.status_view().dns_of_another_store.is_empty());
        let again = bed.c.take_dns_command(&asked(seen)).await.unwrap_err();
        assert_eq!(again.0.code, "nothing_to_adopt");
    }
}
