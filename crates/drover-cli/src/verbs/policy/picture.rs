//! The report as a picture: a band for each endpoint in which anything happened. In it the true outages, and below them what
//! each policy did: one sees at a glance which marks have no outage above them, and which outages have no mark below.

use super::{Report, Tested};
use crate::failure::Result;
use crate::output::picture::{self, Area, Drawn, GRID, INK, QUIET};
use crate::output::words::{span, whole};
use drover_core::backtest::{Event, EventKind, OutageEnd, Rightness};
use drover_model::{EndpointKey, Span, Timestamp};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::collections::BTreeMap;
use std::path::Path;

/// Endpoints that are drawn, at most: those with the most outages and moves. A picture of more is read by nobody.
const BANDS_MAX: usize = 24;

const WIDTH: i32 = 1_400;
const LEFT: i32 = 250;
const RIGHT: i32 = 30;
const LANE: i32 = 24;
const BAND_GAP: i32 = 14;
const AXIS: i32 = 40;
/// Of the title and the legend; a line a policy comes to it.
const TOP: i32 = 92;
const LINE: i32 = 24;
/// The narrowest bar: an hour of a year is a sixth of a pixel.
const BAR_MIN: i32 = 3;

const BAND: RGBColor = RGBColor(248, 249, 250);
const OUTAGE: RGBColor = RGBColor(73, 80, 87);
const TRUE: RGBColor = RGBColor(47, 158, 68);
const FALSE: RGBColor = RGBColor(224, 49, 49);
const LATE: RGBColor = RGBColor(240, 140, 0);
const ASKED: RGBColor = RGBColor(28, 126, 214);
const MISSED: RGBColor = RGBColor(174, 62, 201);

/// A kind of mark, told apart by its form as well as by its colour.
#[derive(Clone, Copy, PartialEq)]
enum Mark {
    True,
    False,
    Late,
    Unlabelled,
    Question,
    Missed,
}

impl Mark {
    const ALL: [(Mark, &'static str); 6] = [
        (Mark::True, "true failover"),
        (Mark::False, "FALSE failover"),
        (Mark::Late, "late failover"),
        (Mark::Unlabelled, "failover, nobody knows"),
        (Mark::Question, "question"),
        (Mark::Missed, "missed outage"),
    ];

    fn of(event: &Event) -> Self {
        match (event.kind, event.rightness) {
            (EventKind::Question, _) => Mark::Question,
            (EventKind::Failover, Rightness::Right { .. }) => Mark::True,
            (EventKind::Failover, Rightness::Wrong) => Mark::False,
            (EventKind::Failover, Rightness::Late) => Mark::Late,
            (EventKind::Failover, Rightness::Unlabelled) => Mark::Unlabelled,
        }
    }

    fn draw(self, area: &Area<'_>, (x, y): (i32, i32)) -> Drawn {
        match self {
            Mark::True => area.draw(&Circle::new((x, y), 6, TRUE.filled()))?,
            Mark::Unlabelled => area.draw(&Circle::new((x, y), 6, QUIET.filled()))?,
            Mark::False => picture::cross(area, (x, y), FALSE, 4)?,
            Mark::Late => {
                area.draw(&Polygon::new(vec![(x - 7, y + 6), (x + 7, y + 6), (x, y - 7)], LATE.filled()))?
            }
            Mark::Question => {
                area.draw(&Rectangle::new([(x - 5, y - 5), (x + 5, y + 5)], ASKED.filled()))?;
            }
            Mark::Missed => {
                let diamond = vec![(x - 7, y), (x, y - 7), (x + 7, y), (x, y + 7), (x - 7, y)];
                area.draw(&PathElement::new(diamond, MISSED.stroke_width(3)))?;
            }
        }
        Ok(())
    }
}

/// Where times lie.
struct Axis {
    from: Timestamp,
    length: Span,
}

impl Axis {
    #[allow(clippy::cast_possible_truncation)] // Within the width.
    fn x(&self, at: Timestamp) -> i32 {
        let share = at.since(self.from).as_secs_f64() / self.length.as_secs_f64().max(1.0);
        LEFT + (f64::from(WIDTH - LEFT - RIGHT) * share.clamp(0.0, 1.0)).round() as i32
    }
}

/// Draws the report into an SVG file.
///
/// # Errors
/// When the file can't be written.
pub fn write(path: &Path, report: &Report) -> Result<()> {
    picture::save(path, "--picture", draw(report))
}

fn draw(report: &Report) -> Drawn<String> {
    let bands = bands(report);
    let lanes = i32::try_from(report.policies.len())? + 1;
    let band = lanes * LANE + BAND_GAP;
    let top = TOP + i32::try_from(report.policies.len())? * LINE;
    let height = top + i32::try_from(bands.len().max(1))? * band + AXIS;
    let axis = axis(report);
    let mut text = String::new();
    {
        let size = (u32::try_from(WIDTH)?, u32::try_from(height)?);
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        area.fill(&WHITE)?;
        head(&area, report, &axis)?;
        for n in 0..bands.len() {
            let y = top + i32::try_from(n)? * band;
            let ground = Rectangle::new([(LEFT, y), (WIDTH - RIGHT, y + lanes * LANE)], BAND.filled());
            area.draw(&ground)?;
        }
        ticks(&area, &axis, top, height - AXIS)?;
        if bands.is_empty() {
            area.draw(&Text::new(
                "no outage, no failover, no question",
                (LEFT + 20, top + LANE),
                font(15, INK),
            ))?;
        }
        for (n, endpoint) in bands.iter().enumerate() {
            draw_band(&area, report, endpoint, &axis, top + i32::try_from(n)? * band)?;
        }
        area.present()?;
    }
    Ok(text)
}

fn axis(report: &Report) -> Axis {
    let from = report.policies.iter().filter_map(|p| p.findings.from).min().unwrap_or_default();
    let to = report.policies.iter().filter_map(|p| p.findings.to).max().unwrap_or(from);
    Axis { from, length: to.since(from) }
}

fn font(size: i32, colour: RGBColor) -> TextStyle<'static> {
    picture::font(size, colour, (WIDTH, LINE))
}

fn right_aligned(size: i32, colour: RGBColor) -> TextStyle<'static> {
    font(size, colour).pos(Pos::new(HPos::Right, VPos::Center))
}

/// The endpoints with anything to show, those with the most first to be kept, in the order of their names.
fn bands(report: &Report) -> Vec<EndpointKey> {
    let mut busy: BTreeMap<EndpointKey, usize> = BTreeMap::new();
    for findings in report.policies.iter().map(|p| &p.findings) {
        for outage in &findings.outages {
            *busy.entry(outage.endpoint.clone()).or_default() += 1;
        }
        for event in &findings.events {
            for service in &event.services {
                *busy.entry(EndpointKey::new(service, &event.region)).or_default() += 1;
            }
        }
    }
    let mut all: Vec<(usize, EndpointKey)> = busy.into_iter().map(|(endpoint, n)| (n, endpoint)).collect();
    all.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
    let mut kept: Vec<EndpointKey> = all.into_iter().take(BANDS_MAX).map(|(_, endpoint)| endpoint).collect();
    kept.sort();
    kept
}

fn day(at: Timestamp) -> String {
    at.to_string().chars().take(10).collect()
}

fn head(area: &Area<'_>, report: &Report, axis: &Axis) -> Drawn {
    let end = axis.from + axis.length;
    let title = format!("What would have failed over, {} to {}", day(axis.from), day(end));
    area.draw(&Text::new(title, (20, 14), font(22, INK)))?;
    let mut x = 26;
    let drawn: Vec<Mark> = report.policies.iter().flat_map(marks).map(|(_, mark)| mark).collect();
    area.draw(&Rectangle::new([(x - 4, 50), (x + 14, 64)], OUTAGE.filled()))?;
    area.draw(&Text::new("outage", (x + 22, 50), font(14, INK)))?;
    x += 110;
    for (mark, name) in Mark::ALL.into_iter().filter(|(mark, _)| drawn.contains(mark)) {
        mark.draw(area, (x, 57))?;
        area.draw(&Text::new(name, (x + 16, 50), font(14, INK)))?;
        x += 50 + 8 * i32::try_from(name.len())?;
    }
    for (n, tested) in report.policies.iter().enumerate() {
        let y = 76 + i32::try_from(n)? * LINE;
        area.draw(&Text::new(format!("{}: {}", letter(n), in_words(tested)), (20, y), font(15, INK)))?;
    }
    Ok(())
}

/// Names of policies may be long; the lanes have letters.
fn letter(n: usize) -> char {
    char::from(b'A' + u8::try_from(n).unwrap_or(25).min(25))
}

fn in_words(tested: &Tested) -> String {
    let (t, f) = (&tested.findings.totals, &tested.findings);
    let moves = format!("{}: {} failovers, {} questions", tested.policy, t.failovers, t.questions);
    if !f.labelled {
        return moves;
    }
    let delay = tested
        .delays
        .map_or_else(String::new, |d| format!(", {} to a failover (median)", span(whole(d.median))));
    format!(
        "{}: {} true failovers, {} FALSE, {} late, {} questions; {} of {} outages missed{delay}",
        tested.policy,
        t.failovers_right,
        t.failovers_wrong,
        t.failovers_late,
        t.questions,
        t.outages_missed,
        t.outages
    )
    .replace('\u{a0}', " ")
}

/// What is marked of a policy: its moves, and the outages that it missed.
fn marks(tested: &Tested) -> impl Iterator<Item = (Timestamp, Mark)> + '_ {
    let events = tested.findings.events.iter().map(|e| (e.at, Mark::of(e)));
    let missed = tested.findings.outages.iter().filter(|o| o.end == OutageEnd::Missed);
    events.chain(missed.map(|o| (o.began_at, Mark::Missed)))
}

fn draw_band(area: &Area<'_>, report: &Report, endpoint: &EndpointKey, axis: &Axis, top: i32) -> Drawn {
    let middle = |lane: i32| top + lane * LANE + LANE / 2;
    area.draw(&Text::new(endpoint.to_string(), (LEFT - 74, middle(0)), right_aligned(15, INK)))?;
    area.draw(&Text::new("outages", (LEFT - 10, middle(0)), right_aligned(13, QUIET)))?;
    let end = axis.from + axis.length;
    let outages = report.policies.first().into_iter().flat_map(|p| &p.findings.outages);
    for outage in outages.filter(|o| o.endpoint == *endpoint) {
        let (from, to) = (axis.x(outage.began_at), axis.x(outage.ended_at.unwrap_or(end)));
        let bar = [(from, middle(0) - 8), (to.max(from + BAR_MIN), middle(0) + 8)];
        area.draw(&Rectangle::new(bar, OUTAGE.filled()))?;
    }
    for (n, tested) in report.policies.iter().enumerate() {
        let y = middle(i32::try_from(n)? + 1);
        area.draw(&Text::new(letter(n).to_string(), (LEFT - 10, y), right_aligned(14, INK)))?;
        let of_endpoint = |e: &&Event| e.region == endpoint.region && e.services.contains(&endpoint.service);
        let events: Vec<&Event> = tested.findings.events.iter().filter(of_endpoint).collect();
        for event in events.iter().filter(|e| e.kind == EventKind::Failover) {
            let (from, to) = (axis.x(event.at), axis.x(event.back_at.unwrap_or(end)));
            area.draw(&Rectangle::new([(from, y - 2), (to.max(from + BAR_MIN), y + 2)], QUIET.filled()))?;
        }
        let missed = tested.findings.outages.iter().filter(|o| o.end == OutageEnd::Missed);
        for outage in missed.filter(|o| o.endpoint == *endpoint) {
            Mark::Missed.draw(area, (axis.x(outage.began_at), y))?;
        }
        // What is wrong is drawn last, over what is right.
        let (wrong, right): (Vec<&Event>, Vec<&Event>) =
            events.into_iter().partition(|e| Mark::of(e) == Mark::False);
        for event in right.into_iter().chain(wrong) {
            Mark::of(event).draw(area, (axis.x(event.at), y))?;
        }
    }
    Ok(())
}

/// Lines at the begin of months, days or hours, as they fit.
fn ticks(area: &Area<'_>, axis: &Axis, top: i32, bottom: i32) -> Drawn {
    for (at, name) in tick_times(axis) {
        let x = axis.x(at);
        area.draw(&PathElement::new(vec![(x, top - 4), (x, bottom)], GRID.stroke_width(1)))?;
        let style = font(13, QUIET).pos(Pos::new(HPos::Center, VPos::Top));
        area.draw(&Text::new(name, (x, bottom + 4), style))?;
    }
    Ok(())
}

fn tick_times(axis: &Axis) -> Vec<(Timestamp, String)> {
    const DAY: u64 = 86_400_000;
    const HOUR: u64 = 3_600_000;
    /// More do not fit beside each other.
    const TICKS_MAX: u64 = 16;
    let length = axis.length.as_millis();
    let begin = u64::try_from(axis.from.as_millis()).unwrap_or(0);
    let steps = [HOUR / 12, HOUR / 4, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY];
    let step = steps.into_iter().find(|step| length / step <= TICKS_MAX);
    let at = |millis: u64| Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX));
    let Some(step) = step else { return months(axis, TICKS_MAX) };
    let first = begin.div_ceil(step) * step;
    let times = (0..=TICKS_MAX + 1).map(|n| first + n * step).take_while(|t| *t <= begin + length);
    // Day and month, or hour and minute, of an RFC 3339 time.
    let part = if step < DAY { 11..16 } else { 5..10 };
    times.map(|t| (at(t), at(t).to_string().get(part.clone()).unwrap_or_default().to_owned())).collect()
}

fn months(axis: &Axis, most: u64) -> Vec<(Timestamp, String)> {
    let days = axis.length.as_millis() / 86_400_000;
    let every = usize::try_from((days / 30).div_ceil(most).max(1)).unwrap_or(usize::MAX);
    let firsts = (0..=days).map(|n| axis.from + Span::from_hours(24 * n)).filter_map(|at| {
        let day = day(at);
        (day.ends_with("-01"))
            .then(|| (format!("{day}T00:00:00Z").parse().unwrap_or(at), day[..7].to_owned()))
    });
    firsts.step_by(every).filter(|(at, _)| *at >= axis.from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(days: u64) -> Axis {
        Axis { from: "2026-01-01T00:10:00Z".parse().unwrap(), length: Span::from_hours(24 * days) }
    }

    #[test]
    fn the_axis_has_as_many_times_as_can_be_read() {
        for days in [1, 2, 9, 30, 100, 365, 3_660] {
            let ticks = tick_times(&axis(days));
            assert!((3..=18).contains(&ticks.len()), "{days} days: {ticks:?}");
            assert!(ticks.windows(2).all(|w| w[0].0 < w[1].0), "{ticks:?}");
        }
        assert_eq!(tick_times(&axis(365))[0].1, "2026-02");
        assert_eq!(tick_times(&axis(9))[0].1, "01-02");
        assert_eq!(tick_times(&axis(1))[0].1, "03:00");
    }

    #[test]
    fn an_empty_report_is_a_picture_too() {
        let text = draw(&Report { policies: vec![] }).unwrap();
        assert!(text.starts_with("<svg") && text.contains("no outage, no failover, no question"), "{text}");
    }
}
