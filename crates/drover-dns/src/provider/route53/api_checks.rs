//! The calls about health checks. They belong to the account, not to a zone, and share its five requests a second.

use aws_sdk_route53::error::ProvideErrorMetadata;
use aws_sdk_route53::types::{HealthCheck, HealthCheckConfig, Tag, TagResourceType};

use super::api::{Api, CallError};
use super::checks::is_of_zone;

/// Checks of a page.
const PAGE_MAX: i32 = 100;
/// The most checks of an account that drover reads: ten times what it may have unless asked for more.
const CHECKS_MAX: usize = 2_000;

/// What became of a wish for a new check.
pub(super) enum Created {
    /// It is there: new, or by an earlier request whose answer was lost.
    Is(Box<HealthCheck>),
    /// The reference was used before, for one that is gone or that is made otherwise.
    ReferenceIsTaken,
}

impl Api {
    /// All checks of drover's for this zone.
    pub(super) async fn health_checks(&self) -> Result<Vec<HealthCheck>, CallError> {
        let (mut own, mut seen, mut marker) = (Vec::new(), 0, None::<String>);
        loop {
            let request = self.client().await.list_health_checks().max_items(PAGE_MAX);
            let page = request.set_marker(marker.clone()).send().await.map_err(|e| self.failure(&e))?;
            seen += page.health_checks().len();
            let next = page.next_marker().map(str::to_owned).filter(|_| page.is_truncated());
            own.extend(page.health_checks.into_iter().filter(|c| is_of_zone(c, self.hosted_zone())));
            if seen > CHECKS_MAX {
                let detail = format!("the account has more than {CHECKS_MAX} health checks");
                return Err(CallError::NotNow { detail });
            }
            match next {
                // Where it goes on from must be further on, or nobody would ever come to an end.
                Some(next) if Some(&next) == marker.as_ref() => {
                    return Err(CallError::Lost { detail: "its list does not go on".into() });
                }
                Some(next) => marker = Some(next),
                None => return Ok(own),
            }
        }
    }

    pub(super) async fn create_check(
        &self,
        reference: &str,
        config: &HealthCheckConfig,
    ) -> Result<Created, CallError> {
        let request = self.client().await.create_health_check().caller_reference(reference);
        match request.health_check_config(config.clone()).send().await {
            Ok(made) => match made.health_check {
                Some(check) => Ok(Created::Is(Box::new(check))),
                None => Err(CallError::Lost { detail: "it does not say what the check is called".into() }),
            },
            Err(e) if e.code() == Some("HealthCheckAlreadyExists") => Ok(Created::ReferenceIsTaken),
            Err(e) => Err(self.failure(&e)),
        }
    }

    /// By what people know it in a console.
    pub(super) async fn tag_check(&self, id: &str, tags: &[(&str, &str)]) -> Result<(), CallError> {
        let tags = tags.iter().map(|(key, value)| Tag::builder().key(*key).value(*value).build()).collect();
        let request = self.client().await.change_tags_for_resource().resource_id(id);
        let tagging = request.resource_type(TagResourceType::Healthcheck).set_add_tags(Some(tags));
        tagging.send().await.map(drop).map_err(|e| self.failure(&e))
    }

    /// Has a region's check count these, unless somebody has changed it since it was read.
    pub(super) async fn recount(
        &self,
        found: &HealthCheck,
        config: &HealthCheckConfig,
    ) -> Result<(), CallError> {
        let request = self.client().await.update_health_check().health_check_id(found.id());
        let request = request.health_check_version(found.health_check_version());
        let request = request.set_health_threshold(config.health_threshold());
        let updating = request.set_child_health_checks(Some(config.child_health_checks().to_vec()));
        updating.send().await.map(drop).map_err(|e| self.failure(&e))
    }

    pub(super) async fn delete_check(&self, id: &str) -> Result<(), CallError> {
        let deleting = self.client().await.delete_health_check().health_check_id(id);
        deleting.send().await.map(drop).map_err(|e| self.failure(&e))
    }

    /// What each of Route 53's checkers has seen of a page, in their words; a new check has nothing for a while.
    pub(super) async fn reports(&self, id: &str) -> Result<Vec<String>, CallError> {
        let asked = self.client().await.get_health_check_status().health_check_id(id).send().await;
        let told = asked.map_err(|e| self.failure(&e))?.health_check_observations;
        let words = told.into_iter().filter_map(|one| one.status_report?.status);
        Ok(words.collect())
    }
}
