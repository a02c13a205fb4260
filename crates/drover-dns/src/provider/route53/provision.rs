//! Makes the health checks, keeps them as they should be, and has the records follow them.
//!
//! Whatever is done is done again without harm: a check is made under a reference that says what it is, so that a repeat finds it; a
//! region's check is changed only at the version that was read; and records are rewritten as they stand, under the fence, with nothing
//! but the check added. What a hand has changed of a check is shown and left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Instant;

use aws_sdk_route53::types::{HealthCheck, HealthCheckConfig, RrType};
use drover_model::api::{CheckFound, CheckState};
use drover_model::{Epoch, RegionId};

use super::HostedZone;
use super::api::CallError;
use super::api_checks::Created;
use super::apply::Wrote;
use super::checks::{PageCheck, REFERENCES_MAX, REGION_DIGEST, Role, changed_region, counts, region_check};
use super::live::{Follow, Live};
use crate::provider::ProviderError;
use crate::provider::health_checks::{WantedChecks, WantedPage, WantedRegion};
use crate::zone::RecordKey;

/// How the words of a checker begin that has found what it looked for.
const SUCCESS: &str = "Success";

/// The check of a page, as far as it is one that counts.
struct PageFound {
    id: Option<String>,
    shown: CheckFound,
}

/// So many checkers must have reported of a check before it counts: the first of Route 53's sixteen or so may be the one that sees what
/// the others don't. Few enough that a part of them may be gone.
const REPORTS_MIN: usize = 3;

/// What was read, and what is wanted.
struct Pass<'a> {
    wanted: &'a WantedChecks,
    found: Vec<HealthCheck>,
    declared: &'a BTreeSet<RegionId>,
}

impl HostedZone {
    pub(super) async fn provisioned(
        &self,
        epoch: Epoch,
        keys: &[RecordKey],
        declared: &BTreeSet<RegionId>,
    ) -> Result<Vec<CheckFound>, ProviderError> {
        let Some(wanted) = &self.checks else {
            self.set_follow(BTreeMap::new(), declared.iter());
            self.rewrite_followers(epoch, keys).await?;
            return Ok(vec![]);
        };
        // Who may not write the zone may not make its checks either (I3).
        let zone = self.look().await?;
        self.commanded(&zone, epoch)?;
        let found = self.api.health_checks().await.map_err(Self::not_read)?;
        let pass = Pass { wanted, found, declared };
        let (mut shown, mut follow, mut not_now) = (Vec::new(), BTreeMap::new(), Vec::new());
        for region in &wanted.regions {
            let mut pages = Vec::with_capacity(region.pages.len());
            for page in &region.pages {
                pages.push(self.page_check(&pass, region, page).await?);
            }
            let of_region = self.region_check(&pass, region, &pages).await?;
            match of_region.id.clone() {
                Some(id) => drop(follow.insert(region.region.to_string(), id)),
                None => not_now.push(&region.region),
            }
            shown.push(of_region);
            shown.extend(pages.into_iter().map(|page| page.shown));
        }
        self.set_follow(follow, declared.iter().chain(not_now));
        // What is changed now has to reach all servers first.
        if !self.rewrite_followers(epoch, keys).await? {
            self.delete_left(&pass, &shown).await?;
        }
        Ok(shown)
    }

    /// The check of one page; made, where there is none.
    async fn page_check(
        &self,
        pass: &Pass<'_>,
        region: &WantedRegion,
        page: &WantedPage,
    ) -> Result<PageFound, ProviderError> {
        let show = |id: Option<&str>, state, sentence: Option<String>| PageFound {
            id: id.map(str::to_owned).filter(|_| state != CheckState::Refused),
            shown: CheckFound {
                region: region.region.to_string(),
                page: Some(page.url.clone()),
                id: id.map(str::to_owned),
                state,
                sentence,
            },
        };
        let check = match PageCheck::of(pass.wanted, region, page) {
            Ok(check) => check,
            Err(why) => return Ok(show(None, CheckState::Refused, Some(why))),
        };
        let role = Role::of_page(&self.settings.hosted_zone, &region.region, page);
        if let Some(found) = pass.found.iter().find(|found| role.has_now(found, &check.digest)) {
            return Ok(match check.changed(found) {
                None => show(Some(found.id()), CheckState::InLine, None),
                Some(why) => show(Some(found.id()), CheckState::ChangedByHand, Some(why)),
            });
        }
        let name = format!("drover: {} by {}", region.region, page.agent);
        match self.create(&role, &check.digest, &check.config, &name).await {
            Ok(made) => Ok(show(Some(made.id()), CheckState::Waiting, Some("it was just made".into()))),
            Err(CallError::Refused { detail, .. }) => Ok(show(None, CheckState::Refused, Some(detail))),
            Err(e) => Err(Self::not_changed(e)),
        }
    }

    /// The check that a region's records follow. It counts a page once Route 53's checkers have reported of it.
    async fn region_check(
        &self,
        pass: &Pass<'_>,
        region: &WantedRegion,
        pages: &[PageFound],
    ) -> Result<CheckFound, ProviderError> {
        let show = |id: Option<&str>, state, sentence: Option<String>| CheckFound {
            region: region.region.to_string(),
            page: None,
            id: id.map(str::to_owned),
            state,
            sentence,
        };
        let role = Role::of_region(&self.settings.hosted_zone, &region.region);
        let found = pass.found.iter().find(|found| role.has(found));
        if let Some((found, why)) = found.and_then(|found| Some((found, changed_region(found)?))) {
            return Ok(show(Some(found.id()), CheckState::ChangedByHand, Some(why)));
        }
        let ids: Vec<String> = pages.iter().filter_map(|page| page.id.clone()).collect();
        let standing = found.map(HealthCheck::id);
        if ids.len() < pages.len() {
            return Ok(show(
                standing,
                CheckState::Waiting,
                Some("for a page's check that can't be made".into()),
            ));
        }
        if let Some(found) = found.filter(|found| counts(found, &ids)) {
            return Ok(show(Some(found.id()), CheckState::InLine, None));
        }
        let counted = found.and_then(HealthCheck::health_check_config);
        let counted = counted.map_or(&[][..], HealthCheckConfig::child_health_checks);
        for id in ids.iter().filter(|id| !counted.contains(id)) {
            if let Some(why) = self.not_reported(pass, region, id).await? {
                return Ok(show(standing, CheckState::Waiting, Some(why)));
            }
        }
        let config = region_check(&ids).map_err(|e| Self::refused("inexpressible", &e))?;
        if let Some(found) = found {
            self.api.recount(found, &config).await.map_err(Self::not_changed)?;
            return Ok(show(Some(found.id()), CheckState::Waiting, Some("it counts other pages now".into())));
        }
        let name = format!("drover: {}", region.region);
        let made = self.create(&role, REGION_DIGEST, &config, &name).await.map_err(Self::not_changed)?;
        Ok(show(Some(made.id()), CheckState::Waiting, Some("it was just made".into())))
    }

    /// Why a check does not count yet: its checkers have not reported, or say what would leave the region.
    async fn not_reported(
        &self,
        pass: &Pass<'_>,
        region: &WantedRegion,
        id: &str,
    ) -> Result<Option<String>, ProviderError> {
        if pass.declared.contains(&region.region) {
            return Ok(Some(format!("until {} is not declared out of service", region.region)));
        }
        let reports = self.api.reports(id).await.map_err(Self::not_read)?;
        if reports.iter().any(|report| report.starts_with(SUCCESS)) {
            return Ok(Some(format!(
                "{id} finds {} declared out of service, and drover does not",
                region.region
            )));
        }
        let found = reports.len();
        Ok((found < REPORTS_MIN)
            .then(|| format!("for {REPORTS_MIN} of Route 53's checkers to report of {id}; {found} did")))
    }

    /// Makes a check under the first of its references that is free.
    async fn create(
        &self,
        role: &Role,
        digest: &str,
        config: &HealthCheckConfig,
        name: &str,
    ) -> Result<HealthCheck, CallError> {
        for number in 1..=REFERENCES_MAX {
            match self.api.create_check(&role.reference(digest, number), config).await? {
                Created::Is(made) => {
                    let tags = [("Name", name), ("drover-zone", self.zone.as_str())];
                    self.api.tag_check(made.id(), &tags).await?;
                    return Ok(*made);
                }
                Created::ReferenceIsTaken => {}
            }
        }
        let detail = format!(
            "{REFERENCES_MAX} checks like \"{name}\" were deleted within a few days, and Route 53 knows their references still"
        );
        Err(CallError::NotNow { detail })
    }

    /// What is of no use any more, because pages, regions or settings changed: once all that is wanted is there, and no record follows it.
    async fn delete_left(&self, pass: &Pass<'_>, shown: &[CheckFound]) -> Result<(), ProviderError> {
        if !pass.declared.is_empty() || shown.iter().any(|check| check.state != CheckState::InLine) {
            return Ok(());
        }
        let zone = self.look().await?;
        let is_wanted = |one: &HealthCheck| shown.iter().any(|check| check.id.as_deref() == Some(one.id()));
        for left in pass.found.iter().filter(|one| !is_wanted(one) && !zone.follows(one.id())) {
            self.api.delete_check(left.id()).await.map_err(Self::not_changed)?;
        }
        Ok(())
    }

    pub(super) fn follow(&self) -> Follow {
        self.follow.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_follow<'r>(&self, checks: BTreeMap<String, String>, but: impl Iterator<Item = &'r RegionId>) {
        let but = but.map(ToString::to_string).collect();
        *self.follow.lock().unwrap_or_else(PoisonError::into_inner) = Follow::These { checks, but };
    }

    /// Writes the record sets that follow other checks than they should once more, as they stand. Says whether there were any.
    async fn rewrite_followers(&self, epoch: Epoch, keys: &[RecordKey]) -> Result<bool, ProviderError> {
        let _one_at_a_time = self.updating.lock().await;
        let (zone, follow) = (self.look().await?, self.follow());
        let pieces = keys.iter().filter_map(|key| Live::of(&zone, key).ok()?.rewritten(&follow).transpose());
        let pieces = pieces.collect::<Result<Vec<_>, _>>();
        let pieces = pieces.map_err(|e| Self::refused("inexpressible", &e))?;
        let fence = self.commanded(&zone, epoch)?;
        if pieces.is_empty() || fence.is_none() {
            return Ok(false);
        }
        let standing = zone.at(&self.fence_name()?, RrType::Txt.as_str()).to_vec();
        let wrote = self.write(epoch, standing, fence, pieces, None).await?;
        // The next reading shows what became of it.
        self.read_everything_from(Instant::now());
        match wrote {
            Wrote::All => Ok(true),
            Wrote::Rejected { detail, .. } => Err(Self::not_now(format!(
                "the zone was not as it was read, so no record follows another check: {detail}"
            ))),
        }
    }
}
