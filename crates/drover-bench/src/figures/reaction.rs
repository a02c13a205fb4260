//! `reaction`: from the report that completes a quorum to DNS no longer answering the endpoint.
//!
//! Everything in between is the product's own: report, verdict, decision, plan, check, journal with its syncs, store,
//! DNS server with its sync. Each sample is another service's endpoint in one and the same region. The vantages are
//! played; DNS is asked for the generation that it answers, and then for addresses. The peer is `fdatasync` on the same
//! file system.

use crate::disk;
use crate::error::{Attempt, BenchError, Result, unexpected};
use crate::figure::{Bar, Figure, Scale};
use crate::installation::Installation;
use crate::samples::Samples;
use crate::vantage::Vantage;
use crate::world::Shape;
use drover_dns::resolver::{QueryType, Resolver};
use drover_dns::zone::{DnsName, GENERATION_LABEL};
use drover_model::probe::REPORT_OBSERVATIONS_MAX;
use drover_model::{EndpointKey, RegionId, Span};
use std::time::{Duration, Instant};

const REGIONS: usize = 10;
const SERVICES: usize = 1_000;
/// More than one transaction moves.
const SERVICES_MIN: usize = 60;
const SAMPLES: usize = 200;
const SYNCS: usize = 500;
/// As the policy of these worlds has it.
const FAILURES: usize = 3;

const P50_MS: f64 = 5.0;
const P50_SYNCS: f64 = 20.0;
const P99_MS_MAX: f64 = 50.0;
const REGION_MS_MAX: f64 = 1_000.0;

/// Between two questions to DNS: an error that is small beside a sync.
const ASK_EVERY: Duration = Duration::from_micros(200);
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// A guard against hanging.
const GONE_WITHIN: Duration = Duration::from_secs(60);
/// Answers that must not name the endpoint once it is gone; each of ten regions is in a tenth of them before.
const DRAWS: usize = 100;
/// Before the next endpoint fails, so that the last one's run is past its moves.
const PAUSE: Duration = Duration::from_millis(100);

/// Measures it.
pub fn measure(scale: Scale) -> Result<Figure> {
    let runtime = tokio::runtime::Runtime::new().attempt("start the runtime")?;
    runtime.block_on(all(scale))
}

async fn all(scale: Scale) -> Result<Figure> {
    let mut figure = Figure::new("reaction", scale);
    let services = scale.of(SERVICES, SERVICES_MIN);
    let shape = Shape { regions: REGIONS, services, interval: Span::from_mins(5), dns: None };
    one_by_one(&mut figure, &shape, scale).await?;
    whole_region(&mut figure, &shape).await?;
    Ok(figure)
}

async fn one_by_one(figure: &mut Figure, shape: &Shape, scale: Scale) -> Result<()> {
    let mut scene = Scene::start(shape).await?;
    let before = disk::fdatasync(scene.world.directory.path(), scale.of(SYNCS, 20))?;
    let mut samples = Samples::new();
    let services: Vec<_> = scene.world.config.services.keys().take(scale.of(SAMPLES, 2)).cloned().collect();
    for service in services {
        let endpoint = EndpointKey::new(&service, &scene.region);
        let left = scene.fail(std::slice::from_ref(&endpoint)).await?;
        samples.add(scene.until_gone(&endpoint).await?.duration_since(left));
        scene.must_not_answer(&endpoint).await?;
        tokio::time::sleep(PAUSE).await;
    }
    let after = disk::fdatasync(scene.world.directory.path(), scale.of(SYNCS, 20))?;
    let sync_ms = (before.median_ms() + after.median_ms()) / 2.0;
    figure.told("peer: fdatasync, median of before and after", sync_ms, "ms");
    let what = "from the completing report to DNS without the endpoint";
    figure.bar_from(
        format!("{what}, median"),
        samples.median_ms(),
        "ms",
        Bar::AtMost(P50_MS + P50_SYNCS * sync_ms),
        format!("{P50_MS} ms + {P50_SYNCS} × fdatasync"),
    );
    figure.bar(format!("{what}, 99 %"), samples.percentile_ms(99.0), "ms", Bar::AtMost(P99_MS_MAX));
    figure.check("every endpoint left DNS", samples.len() > 0, format!("{} endpoints", samples.len()));
    Ok(())
}

async fn whole_region(figure: &mut Figure, shape: &Shape) -> Result<()> {
    let mut scene = Scene::start(shape).await?;
    let all: Vec<EndpointKey> =
        scene.world.config.services.keys().map(|s| EndpointKey::new(s, &scene.region)).collect();
    let left = scene.fail(&all).await?;
    let mut gone = left;
    for endpoint in &all {
        gone = gone.max(scene.until_gone(endpoint).await?);
    }
    let took = gone.duration_since(left).as_secs_f64() * 1e3;
    figure.bar(
        format!("a region of {} services published", all.len()),
        took,
        "ms",
        Bar::AtMost(REGION_MS_MAX),
    );
    for endpoint in all.iter().step_by(all.len().div_ceil(10)) {
        scene.must_not_answer(endpoint).await?;
    }
    figure.check("the whole region left DNS", true, format!("{} services", all.len()));
    Ok(())
}

struct Scene {
    world: Installation,
    vantages: Vec<Vantage>,
    region: RegionId,
    resolver: Resolver,
}

impl Scene {
    async fn start(shape: &Shape) -> Result<Self> {
        let world = Installation::start(shape, |_| {})?;
        let mut vantages = world.vantages()?;
        world.become_well(&mut vantages).await?;
        let region = world.config.regions.keys().next().cloned();
        let region = region.ok_or_else(|| BenchError::Unexpected("a world without regions".into()))?;
        let resolver = Resolver::connect(world.query).await.attempt("open a socket to DNS")?;
        Ok(Self { world, vantages, region, resolver })
    }

    /// Has just enough outside vantages see these endpoints of the region fail; the moment at which the last report,
    /// which completes the quorum, left.
    async fn fail(&mut self, endpoints: &[EndpointKey]) -> Result<Instant> {
        if endpoints.len() > REPORT_OBSERVATIONS_MAX {
            return unexpected("more endpoints than a report holds");
        }
        let region = self.region.clone();
        let mut outside: Vec<&mut Vantage> =
            self.vantages.iter_mut().filter(|v| v.region != region).collect();
        let need = outside.len() / 2 + 1;
        let bad = || endpoints.iter().map(|e| (e, false));
        for round in 1..=FAILURES {
            let last_round = round == FAILURES;
            let voters = if last_round { need - 1 } else { need };
            for vantage in outside.iter_mut().take(voters) {
                vantage.send(bad()).await?;
            }
        }
        let Some(last) = outside.get_mut(need - 1) else { return unexpected("too few vantages") };
        let body = serde_json::to_vec(&last.report(bad())).attempt("write a report")?;
        // The answer is waited for elsewhere: DNS may well be first.
        let (posting, left) = (last.clone(), Instant::now());
        tokio::spawn(async move { posting.post(body).await });
        Ok(left)
    }

    /// Asks DNS until it answers a later generation than the first.
    async fn until_gone(&mut self, endpoint: &EndpointKey) -> Result<Instant> {
        let name = self.name_of(endpoint)?;
        let name = format!("{GENERATION_LABEL}.{name}").parse::<DnsName>().attempt("make a DNS name")?;
        let began = Instant::now();
        while began.elapsed() < GONE_WITHIN {
            let answer =
                self.resolver.resolve(&name, QueryType::Txt, ASK_TIMEOUT).await.attempt("ask DNS")?;
            let generation = answer.values.iter().find_map(|t| t.strip_prefix("A=")?.parse::<u64>().ok());
            if generation.is_some_and(|g| g > 1) {
                return Ok(Instant::now());
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        let why = String::from_utf8(self.world.get(&format!("/v1/explain/{}", self.region)).await?);
        let why: String = why.unwrap_or_default().chars().take(2_000).collect();
        let said = self.world.coordinator.complaints(0)?.pop().unwrap_or_default();
        unexpected(format!("DNS still answers {endpoint} after {GONE_WITHIN:?}; {said}; {why}"))
    }

    fn name_of(&self, endpoint: &EndpointKey) -> Result<String> {
        let service = self.world.config.services.get(&endpoint.service);
        service.map(|s| s.dns_name.clone()).ok_or_else(|| BenchError::Unexpected(format!("no {endpoint}")))
    }

    async fn must_not_answer(&mut self, endpoint: &EndpointKey) -> Result<()> {
        let name = self.name_of(endpoint)?.parse::<DnsName>().attempt("make a DNS name")?;
        let service = self.world.config.services.get(&endpoint.service);
        let address = service.and_then(|s| s.ip(&endpoint.region));
        for _ in 0..DRAWS {
            let answer = self.resolver.resolve(&name, QueryType::A, ASK_TIMEOUT).await.attempt("ask DNS")?;
            let found = answer.addresses();
            if found.is_empty() || found.iter().any(|a| Some(*a) == address) {
                return unexpected(format!("DNS answers {found:?} for {endpoint}, which is gone"));
            }
        }
        Ok(())
    }
}
