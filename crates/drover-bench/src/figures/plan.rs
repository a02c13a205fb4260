//! `plan`: a whole region left by all of its services, planned and checked.
//!
//! Everything is done as when an operator asks for it at night: the planner looks at the world, and the checker, which
//! shares no code with it, derives the invariants again. The peer is the least that any planner must do with the same
//! plan: write it down once and read it again.

use crate::error::{Attempt, BenchError, Result};
use crate::figure::{Bar, Figure, Scale};
use crate::samples::Samples;
use crate::world::{self, Shape};
use drover_core::check::check;
use drover_core::plan::plan;
use drover_model::plan::{Intent, Plan, StepKind, World};
use drover_model::runbook::Purpose;
use drover_model::{RegionId, Span, Timestamp, Weights};

const REGIONS: usize = 50;
const SERVICES: usize = 2_000;
const ROUNDS: usize = 30;
const BAR_MS: f64 = 50.0;
/// Any moment will do: nothing here reads a clock.
const NOW: Timestamp = Timestamp::from_millis(1_750_000_000_000);

/// Measures it.
pub fn measure(scale: Scale) -> Result<Figure> {
    let mut figure = Figure::new("plan", scale);
    let shape = Shape {
        regions: REGIONS,
        services: scale.of(SERVICES, 20),
        interval: Span::from_secs(30),
        dns: Some(world::unasked_dns()),
    };
    let config = shape.config()?;
    let region = config.regions.keys().next().cloned();
    let region = region.ok_or_else(|| BenchError::Unexpected("a world without regions".into()))?;
    let world = world::world(config, Some(&region), NOW)?;
    let intent = evacuation(&region);

    let (mut both, mut planning, mut checking) = (Samples::new(), Samples::new(), Samples::new());
    let mut last = None;
    for _ in 0..scale.of(ROUNDS, 3) {
        let began = std::time::Instant::now();
        let planned = planning.time(|| plan(&world, &intent, NOW));
        let findings = planned.plan.as_ref().map(|p| checking.time(|| check(p, &world)));
        both.add(began.elapsed());
        last = Some((planned, findings));
    }
    figure.bar(
        format!("evacuation of {} services, planned and checked, median", shape.services),
        both.median_ms(),
        "ms",
        Bar::AtMost(BAR_MS),
    );
    figure.told("of that planned, median", planning.median_ms(), "ms");
    figure.told("of that checked, median", checking.median_ms(), "ms");

    let (planned, findings) = last.ok_or_else(|| BenchError::Unexpected("nothing was planned".into()))?;
    figure.check("no guard refuses", planned.refusals.is_empty(), format!("{:?}", planned.refusals.first()));
    let Some(plan) = planned.plan else {
        figure.check("there is a plan", false, "none");
        return Ok(figure);
    };
    peer(&mut figure, &plan)?;
    let findings = findings.unwrap_or_default();
    figure.check("the checker agrees", findings.is_empty(), format!("{} findings", findings.len()));
    let (left, all) = moved(&plan, &world, &region);
    figure.check(
        "every service leaves, and keeps its whole weight elsewhere",
        left == all && all == shape.services,
        format!("{left} of {} services", shape.services),
    );
    Ok(figure)
}

fn evacuation(region: &RegionId) -> Intent {
    Intent {
        purpose: Purpose::Failover,
        services: Vec::new(),
        region: region.clone(),
        to: None,
        automatic: false,
        hold_for: None,
        reason: "the region is gone".into(),
        accept: Vec::new(),
    }
}

fn peer(figure: &mut Figure, plan: &Plan) -> Result<()> {
    let mut samples = Samples::new();
    let mut bytes = 0;
    for _ in 0..3 {
        let text = samples.time(|| {
            let text = serde_json::to_vec(plan)?;
            serde_json::from_slice::<Plan>(&text).map(|_| text)
        });
        bytes = text.attempt("write the plan and read it again")?.len();
    }
    figure.told("peer: the same plan written as JSON and read again", samples.median_ms(), "ms");
    figure.told("size of that", bytes as f64 / 1024.0, "KiB");
    Ok(())
}

/// Services whose weight in `region` goes to zero with the sum unchanged, and all that the plan moves.
fn moved(plan: &Plan, world: &World, region: &RegionId) -> (usize, usize) {
    let changes = plan.steps.iter().filter_map(|s| match &s.kind {
        StepKind::ShiftTraffic { changes } => Some(changes),
        _ => None,
    });
    let (mut left, mut all) = (0, 0);
    for change in changes.flatten() {
        all += 1;
        let sum = |weights: &Weights| weights.values().map(|w| u32::from(w.0)).sum::<u32>();
        let before = world.traffic.get(&change.service).map_or(0, |t| sum(&t.weights));
        let gone = change.weights_after.of(region).0 == 0;
        if gone && before > 0 && sum(&change.weights_after) == before {
            left += 1;
        }
    }
    (left, all)
}
