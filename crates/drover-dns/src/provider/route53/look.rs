//! What a zone shows: from memory, while a glance at the fence says that no other drover has changed it, and read anew once a
//! minute, because a hand's work leaves the fence alone.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_route53::types::{Change, ResourceRecordSet, RrType};
use drover_model::config::ZoneServer;
use futures::future::join_all;

use super::HostedZone;
use super::api::Cursor;
use super::zone::{Fence, Zone, fence};
use crate::provider::marks::{ZoneFence, fence_name, registry_name};
use crate::provider::{Lagging, LaggingState, ProviderError};
use crate::resolver::{QueryType, Rcode, resolve};
use crate::zone::{DnsName, RecordKey};

/// A zone in memory is trusted for so long.
const READ_EVERY: Duration = Duration::from_secs(60);
/// Between two readings lies at least so many times what the last one took.
const READINGS_APART: u32 = 10;
/// A glance at the fence serves all who ask within so long.
const GLANCE_EVERY: Duration = Duration::from_secs(1);
/// So many sets are read one by one; for more, the whole zone is.
pub(super) const ONE_BY_ONE_MAX: usize = 4;
/// The most record sets that drover reads: ten times what Route 53 lets a zone have unless asked for more.
const RECORD_SETS_MAX: usize = 100_000;
/// How often a zone is read anew that changes while it is read.
const READINGS_MAX: u32 = 3;
/// A move does not wait longer for a name server that is gone, before it is made.
const LAG_LOOK: Duration = Duration::from_secs(1);
/// Record sets of a page while looking for few.
const FEW: i32 = 100;

/// The zone as it was seen last.
#[derive(Debug, Default)]
pub(super) struct Memory {
    zone: Option<Arc<Zone>>,
    /// When the reading began: since then a hand may have changed it without our knowing.
    read_at: Option<Instant>,
    /// How long the reading took.
    took: Duration,
    glanced_at: Option<Instant>,
    /// When the API was found not to answer, and how that was.
    unreachable: Option<(Instant, ProviderError)>,
}

/// What a reading must have begun after, to be used.
#[derive(Debug, Default)]
pub(super) struct Stale {
    everything: Option<Instant>,
    these: BTreeMap<RecordKey, Instant>,
}

impl Stale {
    fn add(&mut self, from: Instant, keys: &[RecordKey]) {
        if self.these.len() + keys.len() > ONE_BY_ONE_MAX {
            self.everything = self.everything.max(Some(from));
            return;
        }
        for key in keys {
            let standing = self.these.entry(key.clone()).or_insert(from);
            *standing = from.max(*standing);
        }
    }

    /// A whole reading began then.
    fn read(&mut self, began: Instant) {
        self.everything = self.everything.filter(|from| *from > began);
        self.these.retain(|_, from| *from > began);
    }
}

impl Memory {
    /// What a call that was accepted makes of it. Somebody may have read the zone in between, with that change or without:
    /// only what it was decided upon can be carried on.
    pub(super) fn apply(&mut self, before: Fence, fence_name: &DnsName, changes: &[Change]) {
        match &mut self.zone {
            Some(zone) if zone.fence(fence_name) == before => Arc::make_mut(zone).apply(changes),
            _ => self.zone = None,
        }
        self.glanced_at = Some(Instant::now());
    }

    fn is_trusted(&self) -> bool {
        // A large zone takes a while to read, and must not be read all the time.
        let lasts = READ_EVERY.max(self.took * READINGS_APART);
        self.read_at.is_some_and(|at| at.elapsed() <= lasts)
    }
}

impl HostedZone {
    /// From now on only what is read after `from` counts for these.
    pub(super) fn read_from(&self, from: Instant, keys: &[RecordKey]) {
        self.stale().add(from, keys);
    }

    pub(super) fn read_everything_from(&self, from: Instant) {
        let mut stale = self.stale();
        stale.everything = stale.everything.max(Some(from));
    }

    fn stale(&self) -> MutexGuard<'_, Stale> {
        self.stale.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The zone. Nobody else reads or changes what is remembered meanwhile. Who waited for one that found nobody there is told the same:
    /// an API that hangs must not cost each of a hundred a time of its own.
    pub(super) async fn look(&self) -> Result<Arc<Zone>, ProviderError> {
        let asked_at = Instant::now();
        let mut memory = self.memory.lock().await;
        if let Some((_, error)) = memory.unreachable.as_ref().filter(|(found_at, _)| *found_at >= asked_at) {
            return Err(error.clone());
        }
        let looked = self.look_again(&mut memory).await;
        memory.unreachable = match &looked {
            Err(error @ ProviderError::Unreachable { .. }) => Some((Instant::now(), error.clone())),
            _ => None,
        };
        looked
    }

    async fn look_again(&self, memory: &mut Memory) -> Result<Arc<Zone>, ProviderError> {
        let (everything, these) = {
            let stale = self.stale();
            (stale.everything, stale.these.clone())
        };
        let zone = memory.zone.clone().filter(|_| memory.is_trusted() && memory.read_at >= everything);
        let Some(zone) = zone else { return self.read_all(memory).await };
        let is_fresh = memory.glanced_at.is_some_and(|at| at.elapsed() <= GLANCE_EVERY);
        if these.is_empty() && is_fresh {
            return Ok(zone);
        }
        if self.glance().await? != zone.fence(&self.fence_name()?) {
            return self.read_all(memory).await;
        }
        memory.glanced_at = Some(Instant::now());
        if these.is_empty() {
            return Ok(zone);
        }
        let (mut zone, began) = (Zone::clone(&zone), Instant::now());
        for key in these.keys() {
            self.read_one(&mut zone, key).await?;
        }
        let zone = Arc::new(zone);
        memory.zone = Some(Arc::clone(&zone));
        self.stale().these.retain(|key, from| *from > began || !these.contains_key(key));
        Ok(zone)
    }

    pub(super) fn fence_name(&self) -> Result<DnsName, ProviderError> {
        fence_name(&self.zone).map_err(|e| Self::refused("invalid", &e))
    }

    /// The fence alone: one request.
    pub(super) async fn glance(&self) -> Result<Fence, ProviderError> {
        Ok(fence(&self.read_txt(&self.fence_name()?).await?))
    }

    /// The TXT records of one name: one request.
    async fn read_txt(&self, name: &DnsName) -> Result<Vec<ResourceRecordSet>, ProviderError> {
        let from = Cursor { name: format!("{name}."), rtype: Some(RrType::Txt), identifier: None };
        let page = self.api.list(Some(&from), 1).await.map_err(Self::not_read)?;
        let is_it = |set: &ResourceRecordSet| {
            set.r#type() == &RrType::Txt && DnsName::parse(set.name()).is_ok_and(|found| found == *name)
        };
        Ok(page.sets.into_iter().filter(is_it).collect())
    }

    async fn read_all(&self, memory: &mut Memory) -> Result<Arc<Zone>, ProviderError> {
        for _ in 0..READINGS_MAX {
            let (began, before) = (Instant::now(), self.glance().await?);
            let (zone, pages) = self.read_once().await?;
            // Pages of before and after a change make no zone.
            let fence = zone.fence(&self.fence_name()?);
            if pages > 1 && (fence != before || self.glance().await? != before) {
                continue;
            }
            let zone = Arc::new(zone);
            *memory = Memory {
                zone: Some(Arc::clone(&zone)),
                read_at: Some(began),
                took: began.elapsed(),
                glanced_at: Some(Instant::now()),
                unreachable: None,
            };
            self.stale().read(began);
            return Ok(zone);
        }
        Err(Self::not_now(format!("the zone changed {READINGS_MAX} times while it was read")))
    }

    async fn read_once(&self) -> Result<(Zone, usize), ProviderError> {
        let (mut zone, mut cursor) = (Zone::default(), None);
        let (mut pages, mut sets) = (0, 0);
        loop {
            let page = self.api.page(cursor.as_ref()).await.map_err(Self::not_read)?;
            pages += 1;
            sets += page.sets.len();
            if sets > RECORD_SETS_MAX {
                let detail = format!(
                    "the zone has more than {RECORD_SETS_MAX} record sets, the most that drover reads"
                );
                return Err(Self::not_now(detail));
            }
            page.sets.into_iter().for_each(|set| zone.add(set));
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        match zone.apex() {
            Some(apex) if self.zone.is_at_or_below(apex) => Ok((zone, pages)),
            apex => {
                let (id, found) = (&self.settings.hosted_zone, apex.map_or("no domain", DnsName::as_str));
                Err(Self::not_now(format!("the hosted zone {id} is of {found}, not of {}", self.zone)))
            }
        }
    }

    /// Reads what stands at one key's name, and its registry, anew.
    async fn read_one(&self, zone: &mut Zone, key: &RecordKey) -> Result<(), ProviderError> {
        let Ok(registry) = registry_name(key) else { return Ok(()) };
        zone.clear(&key.name);
        zone.clear(&registry);
        let mut cursor = Cursor { name: format!("{}.", key.name), rtype: None, identifier: None };
        let mut has_passed = false;
        loop {
            let page = self.api.list(Some(&cursor), FEW).await.map_err(Self::not_read)?;
            for set in page.sets {
                let name = DnsName::parse(set.name());
                // The zone's order has all that is below a name right after it.
                has_passed |= name.as_ref().is_ok_and(|name| !name.is_at_or_below(&key.name));
                if name.is_ok_and(|name| name == key.name || name == registry) {
                    zone.add(set);
                }
            }
            match page.next {
                Some(next) if !has_passed && is_at(&next, &key.name) => cursor = next,
                // Many other names stand below it.
                Some(_) if !has_passed => {
                    let sets = self.read_txt(&registry).await?;
                    zone.clear(&registry);
                    sets.into_iter().for_each(|set| zone.add(set));
                    return Ok(());
                }
                _ => return Ok(()),
            }
        }
    }

    /// The name servers that do not show the zone as it was read.
    pub(super) async fn lagging(&self, zone: &Zone) -> Result<Vec<Lagging>, ProviderError> {
        let name = self.fence_name()?;
        let Some(fence) = zone.fence(&name).held() else { return Ok(vec![]) };
        let found = join_all(self.settings.servers.iter().map(async |server| {
            let patience = LAG_LOOK.min(self.settings.timeout.to_duration());
            let state = match self.shows(server, &name, fence, patience).await {
                Ok(true) => return None,
                Ok(false) => LaggingState::Earlier,
                Err(reason) => LaggingState::NotReached { reason },
            };
            Some(Lagging { instance: server.name.clone(), state })
        }));
        Ok(found.await.into_iter().flatten().collect())
    }

    /// Does a name server show what this fence was written with? All changes of one call come to it together.
    pub(super) async fn shows(
        &self,
        server: &ZoneServer,
        name: &DnsName,
        fence: ZoneFence,
        timeout: Duration,
    ) -> Result<bool, String> {
        let answer = resolve(server.query, name, QueryType::Txt, timeout).await;
        let answer = answer.map_err(|e| drover_model::chain(&e))?;
        if !matches!(answer.rcode, Rcode::NOERROR | Rcode::NXDOMAIN) || !answer.is_authoritative {
            return Err(format!("it answers {} for {name}, or without authority", answer.rcode));
        }
        let shown = ZoneFence::read(&answer.values);
        Ok(shown
            .is_some_and(|s| s.epoch.incarnation == fence.epoch.incarnation && s.updates >= fence.updates))
    }
}

fn is_at(cursor: &Cursor, name: &DnsName) -> bool {
    DnsName::parse(&cursor.name).is_ok_and(|at| at == *name)
}
