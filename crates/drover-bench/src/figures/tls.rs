//! `tls`: what mutual TLS costs an observation, as processor time of the coordinator.
//!
//! Two installations of one shape take the same reports, one in plain text and one behind TLS, turn by turn, so that what else
//! the machine does meets both alike. Each vantage keeps its connection, as an agent does, and shows a certificate of its own. What
//! is compared is the median turn of each.

use crate::error::{Attempt, Result};
use crate::figure::{Bar, Figure, Scale};
use crate::installation::Installation;
use crate::vantage::Vantage;
use crate::world::Shape;
use drover_model::probe::REPORT_OBSERVATIONS_MAX;
use drover_model::{EndpointKey, Span};
use std::time::Duration;

const REGIONS: usize = 4;
const SERVICES: usize = 1_000;
/// Of each installation.
const TURNS: usize = 15;
/// Times that every vantage sees every endpoint in one turn.
const ROUNDS: usize = 10;
/// Processor time is counted in hundredths of a second, so a turn must take many of them.
const INTERVAL: Duration = Duration::from_secs(1);
/// The overhead of mutual TLS, at most.
const OVERHEAD_MAX: f64 = 1.25;

/// Measures it.
pub fn measure(scale: Scale) -> Result<Figure> {
    let runtime = tokio::runtime::Runtime::new().attempt("start the runtime")?;
    runtime.block_on(all(scale))
}

/// One of the two.
struct Side {
    world: Installation,
    vantages: Vec<Vantage>,
    endpoints: Vec<EndpointKey>,
    /// Of each turn, in nanoseconds an observation.
    took: Vec<f64>,
    sent: u64,
    counted: u64,
}

impl Side {
    async fn start(world: Installation) -> Result<Self> {
        let mut vantages = world.vantages()?;
        world.become_well(&mut vantages).await?;
        let endpoints = world.endpoints();
        Ok(Self { world, vantages, endpoints, took: Vec::new(), sent: 0, counted: 0 })
    }

    async fn turn(&mut self, rounds: usize) -> Result<()> {
        let (before, sent) = (self.world.coordinator.processor()?, self.sent);
        for _ in 0..rounds {
            for vantage in &mut self.vantages {
                for some in self.endpoints.chunks(REPORT_OBSERVATIONS_MAX) {
                    let ack = vantage.send(some.iter().map(|e| (e, true))).await?;
                    self.sent += some.len() as u64;
                    self.counted += u64::from(ack.accepted);
                }
            }
        }
        let took = self.world.coordinator.processor()? - before;
        self.took.push(took.as_secs_f64() * 1e9 / (self.sent - sent).max(1) as f64);
        Ok(())
    }

    fn median(&mut self) -> f64 {
        self.took.sort_unstable_by(f64::total_cmp);
        self.took.get(self.took.len() / 2).copied().unwrap_or_default()
    }
}

async fn all(scale: Scale) -> Result<Figure> {
    let mut figure = Figure::new("tls", scale);
    let services = scale.of(SERVICES, 10);
    let (turns, rounds) = (scale.of(TURNS, 3), scale.of(ROUNDS, 2));
    let shape = Shape { regions: REGIONS, services, interval: Span::from_duration(INTERVAL), dns: None };
    let mut plain = Side::start(Installation::start(&shape, |_| {})?).await?;
    let mut tls = Side::start(Installation::start_with_tls(&shape)?).await?;
    for _ in 0..turns {
        plain.turn(rounds).await?;
        tls.turn(rounds).await?;
    }
    let (in_plain, behind) = (plain.median(), tls.median());
    figure.told("plain text, processor time an observation", in_plain, "ns");
    let from = "plain text × 1.25";
    let bar = Bar::AtMost(in_plain * OVERHEAD_MAX);
    figure.bar_from("mutual TLS, processor time an observation", behind, "ns", bar, from);
    for (name, side) in [("plain text", &plain), ("mutual TLS", &tls)] {
        let holds = side.sent > 0 && side.sent == side.counted;
        figure.check(
            format!("every observation counted, {name}"),
            holds,
            format!("{} of {}", side.counted, side.sent),
        );
    }
    Ok(figure)
}
