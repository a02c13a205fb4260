//! Each policy as a point: to the right slower to detect, upwards more false alarms.

use super::{BAR_A_YEAR, Tried};
use crate::error::{Attempt, BenchError, Result};
use plotters::prelude::*;
use std::path::PathBuf;

const SIZE: (u32, u32) = (900, 600);
const INK: RGBColor = RGBColor(33, 37, 41);
const POINT: RGBColor = RGBColor(28, 126, 214);
const BAR: RGBColor = RGBColor(224, 49, 49);
/// Of failovers a region-year, powers of ten.
const RATES: std::ops::Range<f64> = 0.001..1_000.0;

/// Writes it beside this program; where, comes back.
pub fn write(all: &[Tried]) -> Result<PathBuf> {
    let program = std::env::current_exe().attempt("find this program")?;
    let path = program.with_file_name("false-alarms.svg");
    let text = draw(all).map_err(|e| BenchError::Unexpected(format!("can't draw: {e}")))?;
    std::fs::write(&path, text).attempt(format!("write {}", path.display()))?;
    Ok(path)
}

fn draw(all: &[Tried]) -> std::result::Result<String, Box<dyn std::error::Error>> {
    let longest = all.iter().map(|t| t.detection_mean.as_secs_f64()).fold(0.0, f64::max);
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption("False failovers against time to detect", ("sans-serif", 20))
            .margin(20)
            .x_label_area_size(45)
            .y_label_area_size(70)
            .build_cartesian_2d(0.0..longest * 1.4, RATES.log_scale())?;
        chart
            .configure_mesh()
            .x_desc("time to detect an outage, mean, in seconds")
            .y_desc("failovers from loss alone a region-year, upper end of 95 %")
            .draw()?;
        let bound = [(0.0, BAR_A_YEAR), (longest * 1.4, BAR_A_YEAR)];
        chart.draw_series([PathElement::new(bound.to_vec(), BAR.stroke_width(2))])?;
        for tried in all {
            let at = (tried.detection_mean.as_secs_f64(), tried.upper.clamp(RATES.start, RATES.end));
            chart.draw_series([Circle::new(at, 5, POINT.filled())])?;
            let name = format!("{} ({} seen)", tried.name, tried.alarms);
            chart.draw_series([Text::new(
                name,
                (at.0 + longest * 0.015, at.1),
                ("sans-serif", 14).into_font().color(&INK),
            )])?;
        }
        area.present()?;
    }
    Ok(text)
}
