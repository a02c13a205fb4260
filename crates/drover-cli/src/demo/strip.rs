//! The live strip: one line a second, what the clients got from each region, and the weights that sent them there.

use super::crowd::{Counts, Group, Ledger};
use super::report::percent;
use super::screen::{Screen, clock};
use super::watch::Seen;
use crate::output::paint::{Tone, paint};
use drover_model::api::StatusView;
use drover_model::{RegionId, ServiceId, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Between two lines.
const EVERY: Duration = Duration::from_secs(1);
/// Cells of a bar.
const CELLS: u64 = 8;
/// Requests a second that fill a bar: two regions that carry everything stay below.
const FULL: u64 = 280;

/// Draws until it is dropped.
#[derive(Debug)]
pub struct Strip {
    task: JoinHandle<()>,
}

/// What a strip is drawn from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The serving regions, in the order of their columns.
    pub regions: Vec<RegionId>,
    /// The service whose weights are shown.
    pub service: ServiceId,
    /// What the clients got.
    pub ledger: Arc<Ledger>,
    /// What the coordinator says.
    pub seen: watch::Receiver<Seen>,
    /// When the trouble began, or will have begun.
    pub zero: watch::Receiver<Timestamp>,
}

impl Strip {
    /// Begins with a heading, and a line each second after that.
    pub fn start(source: Source, screen: Screen) -> Self {
        screen.line(&paint(Tone::Quiet, heading(&source.regions)));
        let task = tokio::spawn(async move {
            let mut seen = source.ledger.seen();
            let mut tick = tokio::time::interval(EVERY);
            tick.tick().await;
            loop {
                tick.tick().await;
                let followers = source.ledger.by_region(seen, Group::Follower);
                let controls = source.ledger.by_region(seen, Group::Control);
                seen = source.ledger.seen();
                let after = crate::output::now().as_millis() - source.zero.borrow().as_millis();
                let weights = weights(&source, source.seen.borrow().status.as_ref());
                screen.line(&line(after, &source.regions, &followers, &controls, &weights));
            }
        });
        Self { task }
    }
}

impl Drop for Strip {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn weights(source: &Source, status: Option<&StatusView>) -> String {
    let service = status.and_then(|s| s.services.iter().find(|s| s.name == source.service));
    let Some(service) = service else { return "?".to_owned() };
    let weight = |r: &RegionId| service.endpoints.iter().find(|e| e.region == *r).map_or(0, |e| e.weight.0);
    source.regions.iter().map(|r| weight(r).to_string()).collect::<Vec<_>>().join("/")
}

fn heading(regions: &[RegionId]) -> String {
    let columns: String = regions.iter().map(|r| format!("{:<15}", r.as_str())).collect();
    format!("{:>8}  {columns}{:>6}  {:<8}{:>9}", "", "failed", "weights", "no action")
}

type ByRegion = BTreeMap<RegionId, Counts>;

fn line(
    after: i64,
    regions: &[RegionId],
    followers: &ByRegion,
    controls: &ByRegion,
    weights: &str,
) -> String {
    let columns: String =
        regions.iter().map(|r| cell(followers.get(r).copied().unwrap_or_default())).collect();
    let failed: u64 = followers.values().map(|c| c.failed).sum();
    let shown = format!("{failed:>6}");
    let shown = if failed > 0 { paint(Tone::Bad, shown) } else { paint(Tone::Quiet, shown) };
    let (bad, all) = controls.values().fold((0, 0), |(bad, all), c| (bad + c.failed, all + c.total()));
    let nobody = if all > 0 { format!("{} bad", percent(bad, all)) } else { String::new() };
    let nobody = format!("{nobody:>9}");
    let nobody = if bad > 0 { paint(Tone::Bad, nobody) } else { paint(Tone::Quiet, nobody) };
    format!("{}  {columns}{shown}  {weights:<8}{nobody}", paint(Tone::Quiet, format!("{:>8}", clock(after))))
}

/// A bar and a number, 15 columns: answered, then failed.
fn cell(counts: Counts) -> String {
    let cells = |n: u64| (n * CELLS + FULL / 2) / FULL;
    // What failed is seen, however little it is.
    let failed = cells(counts.failed).max(u64::from(counts.failed > 0)).min(CELLS);
    let ok = cells(counts.ok).max(u64::from(counts.ok > 0)).min(CELLS - failed);
    let width = |n: u64| usize::try_from(n).unwrap_or(0);
    let bar = [(Tone::Good, "█", ok), (Tone::Bad, "x", failed)]
        .into_iter()
        .filter(|(_, _, n)| *n > 0)
        .map(|(tone, mark, n)| paint(tone, mark.repeat(width(n))))
        .collect::<String>();
    format!("{bar}{} {:>4}  ", " ".repeat(width(CELLS - ok - failed)), counts.total())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::paint::finish;

    #[test]
    fn a_strip_fits_and_needs_no_colour() {
        let regions: Vec<RegionId> = ["ap-south", "eu-west", "us-east"].map(|r| r.parse().unwrap()).into();
        let counts = [(170, 0), (0, 160), (181, 1)].map(|(ok, failed)| Counts { ok, failed });
        let followers: ByRegion = regions.iter().cloned().zip(counts).collect();
        let controls: ByRegion = [(regions[1].clone(), Counts { ok: 0, failed: 20 })].into();
        let drawn = finish(&line(4_100, &regions, &followers, &controls, "34/33/33"), false);
        assert_eq!(drawn, "   +4.1s  █████     170  xxxxx     160  █████x    182     161  34/33/33 100% bad");
        assert!(drawn.chars().count() <= 80, "{}", drawn.chars().count());
        assert!(finish(&heading(&regions), false).chars().count() <= 80);
    }
}
