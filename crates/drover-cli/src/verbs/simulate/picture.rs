//! The answer as a picture: for each service, how full each region is along the time. What is lost ends in a mark, and the
//! line at a hundred is what nobody can serve.

use super::Simulated;
use crate::failure::Result;
use crate::output::picture::{self, Area, Drawn, GRID, INK, QUIET};
use crate::output::words::{span, whole};
use drover_model::{RegionId, ServiceId, Span};
use drover_sim::what_if::{Share, Traffic};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::collections::BTreeSet;
use std::path::Path;

/// Services that are drawn, at most. A picture of more is read by nobody.
const PANELS_MAX: usize = 12;

const WIDTH: i32 = 1_200;
const LEFT: i32 = 70;
const RIGHT: i32 = 170;
const TOP: i32 = 50;
const PANEL: i32 = 220;
const GAP: i32 = 60;
/// The scale goes so far at least, in percent of what a region can serve.
const SCALE_MIN: u64 = 110;
/// Beyond this nobody needs the exact height.
const SCALE_MAX: u64 = 400;
const TICKS: u64 = 8;

const BOUND: RGBColor = RGBColor(224, 49, 49);
/// Told apart in any printout by their order beside the panel, too.
const COLOURS: [RGBColor; 6] = [
    RGBColor(28, 126, 214),
    RGBColor(240, 140, 0),
    RGBColor(47, 158, 68),
    RGBColor(174, 62, 201),
    RGBColor(12, 133, 153),
    RGBColor(130, 90, 44),
];

/// Draws it into an SVG file. `until` is the end of the time.
///
/// # Errors
/// When the file can't be written.
pub fn write(path: &Path, simulated: &Simulated, until: Span) -> Result<()> {
    picture::save(path, "--svg", draw(simulated, until))
}

/// One service's place in the picture.
struct Panel {
    top: i32,
    until: Span,
    /// In percent, at the upper edge.
    scale: u64,
}

impl Panel {
    #[allow(clippy::cast_possible_truncation)] // Within the width.
    fn x(&self, at: Span) -> i32 {
        let share = at.as_secs_f64() / self.until.as_secs_f64().max(1.0);
        LEFT + (f64::from(WIDTH - LEFT - RIGHT) * share.clamp(0.0, 1.0)).round() as i32
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // Within the panel; percent are small.
    fn y(&self, percent: u64) -> i32 {
        let share = percent.min(self.scale) as f64 / self.scale as f64;
        self.top + PANEL - (f64::from(PANEL) * share).round() as i32
    }
}

fn font(size: i32, colour: RGBColor) -> TextStyle<'static> {
    picture::font(size, colour, (WIDTH, PANEL))
}

fn draw(simulated: &Simulated, until: Span) -> Drawn<String> {
    let services: BTreeSet<&ServiceId> = simulated.traffic.iter().map(|t| &t.service).collect();
    let services: Vec<&ServiceId> = services.into_iter().take(PANELS_MAX).collect();
    let height = TOP + i32::try_from(services.len())? * (PANEL + GAP);
    let mut text = String::new();
    {
        let size = (u32::try_from(WIDTH)?, u32::try_from(height)?);
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        area.fill(&WHITE)?;
        let title = simulated.verdicts.first().map_or("what each region carries", |v| v.sentence.as_str());
        area.draw(&Text::new(title.to_owned(), (20, 14), font(20, INK)))?;
        for (n, service) in services.into_iter().enumerate() {
            let changes: Vec<&Traffic> = simulated.traffic.iter().filter(|t| t.service == *service).collect();
            let most = changes.iter().flat_map(|t| &t.regions).filter_map(|s| s.used_percent).max();
            let scale = most.unwrap_or_default().clamp(SCALE_MIN, SCALE_MAX);
            let panel = Panel { top: TOP + i32::try_from(n)? * (PANEL + GAP) + 20, until, scale };
            frame(&area, &panel, service, simulated.lost_at)?;
            curves(&area, &panel, &changes)?;
        }
        area.present()?;
    }
    Ok(text)
}

fn frame(area: &Area<'_>, panel: &Panel, service: &ServiceId, lost_at: Option<Span>) -> Drawn {
    area.draw(&Text::new(
        format!("{service}, percent of what each region can serve"),
        (LEFT, panel.top - 18),
        font(14, INK),
    ))?;
    let right = |size, colour| font(size, colour).pos(Pos::new(HPos::Right, VPos::Center));
    for percent in (0..=panel.scale).step_by(50) {
        let y = panel.y(percent);
        let colour = if percent == 100 { BOUND } else { GRID };
        area.draw(&PathElement::new(vec![(LEFT, y), (WIDTH - RIGHT, y)], colour.stroke_width(1)))?;
        area.draw(&Text::new(format!("{percent} %"), (LEFT - 8, y), right(13, QUIET)))?;
    }
    for n in 0..=TICKS {
        let at = Span::from_millis(panel.until.as_millis() * n / TICKS);
        let style = font(13, QUIET).pos(Pos::new(HPos::Center, VPos::Top));
        let words = span(whole(at)).replace('\u{a0}', " ");
        area.draw(&Text::new(words, (panel.x(at), panel.top + PANEL + 6), style))?;
    }
    if let Some(at) = lost_at {
        let x = panel.x(at);
        area.draw(&PathElement::new(vec![(x, panel.top), (x, panel.top + PANEL)], QUIET.stroke_width(1)))?;
        area.draw(&Text::new("lost", (x + 4, panel.top + 2), font(12, QUIET)))?;
    }
    Ok(())
}

/// A step for each change, and the region's name at the end of its line.
fn curves(area: &Area<'_>, panel: &Panel, changes: &[&Traffic]) -> Drawn {
    let regions: BTreeSet<&RegionId> = changes.iter().flat_map(|t| &t.regions).map(|s| &s.region).collect();
    for (n, region) in regions.into_iter().enumerate() {
        let colour = COLOURS[n % COLOURS.len()];
        let of = |t: &&Traffic| t.regions.iter().find(|s| s.region == *region).cloned();
        let mut points = vec![];
        let mut last: Option<Share> = None;
        for (at, share) in changes.iter().filter_map(|t| Some((t.at, of(t)?))) {
            points.extend(last.as_ref().map(|before| (panel.x(at), height(panel, before))));
            points.push((panel.x(at), height(panel, &share)));
            if share.lost && last.as_ref().is_some_and(|before| !before.lost) {
                picture::cross(area, (panel.x(at), height(panel, &share)), colour, 3)?;
            }
            last = Some(share);
        }
        let Some(share) = last else { continue };
        let end = (panel.x(panel.until), height(panel, &share));
        points.push(end);
        area.draw(&PathElement::new(points, colour.stroke_width(2)))?;
        let name = format!("{region} {}", share.used_percent.map_or_else(String::new, |p| format!("{p} %")));
        let y = panel.top + 10 + i32::try_from(n)? * 18;
        area.draw(&Rectangle::new(
            [(WIDTH - RIGHT + 12, y + 2), (WIDTH - RIGHT + 24, y + 12)],
            colour.filled(),
        ))?;
        area.draw(&Text::new(name, (WIDTH - RIGHT + 30, y), font(13, INK)))?;
    }
    Ok(())
}

fn height(panel: &Panel, share: &Share) -> i32 {
    // Where no load is declared, the weight is all that can be drawn.
    panel.y(share.used_percent.unwrap_or(u64::from(share.weight)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_model::RequestsPerSecond;

    fn share(region: &str, weight: u8, used: u64, lost: bool) -> Share {
        let region = region.parse().unwrap();
        let load = Some(RequestsPerSecond(u64::from(weight)));
        Share { region, weight, load, capacity: RequestsPerSecond(100), used_percent: Some(used), lost }
    }

    #[test]
    fn what_is_lost_is_marked_and_what_is_too_full_stays_inside() {
        let service: ServiceId = "checkout".parse().unwrap();
        let traffic =
            |secs, regions| Traffic { at: Span::from_secs(secs), service: service.clone(), regions };
        let simulated = Simulated {
            verdicts: vec![],
            services: vec![],
            timeline: vec![],
            traffic: vec![
                traffic(0, vec![share("eu-west", 50, 50, false), share("us-east", 50, 50, false)]),
                traffic(30, vec![share("eu-west", 50, 50, true), share("us-east", 50, 50, false)]),
                traffic(90, vec![share("eu-west", 0, 0, true), share("us-east", 100, 1_000, false)]),
            ],
            lost_at: Some(Span::from_secs(30)),
            runs: 1,
        };
        let text = draw(&simulated, Span::from_mins(10)).unwrap();
        assert!(
            text.starts_with("<svg") && text.contains("us-east 1000 %") && text.contains("eu-west 0 %"),
            "{text}"
        );
        assert!(!text.contains("NaN") && !text.contains("=\"-"), "{text}");
    }
}
