//! What all pictures have in common: how they are saved, and their ink.

use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;

/// What is written and what is meant.
pub const INK: RGBColor = RGBColor(33, 37, 41);
/// Numbers at an axis.
pub const QUIET: RGBColor = RGBColor(134, 142, 150);
/// Lines behind all.
pub const GRID: RGBColor = RGBColor(222, 226, 230);

/// Where a picture is drawn.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// What became of drawing something.
pub type Drawn<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Saves what was drawn.
///
/// # Errors
/// When it could not be drawn, or the file can't be written; `option` is how another one is named.
pub fn save(path: &Path, option: &str, drawn: Drawn<String>) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| {
        let mut failure = Failure::new(ExitCode::Failed, format!("can't write {}", path.display()));
        failure.causes.push(e.to_string());
        failure.hint(format!("name another file: {option} FILE.svg"))
    };
    let text = drawn.map_err(|e| failed(&e))?;
    std::fs::write(path, text).map_err(|e| failed(&e))
}

/// The words of a picture, in a place of this size.
pub fn font(size: i32, colour: RGBColor, place: (i32, i32)) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&colour).into_text_style(&(place.0 as u32, place.1 as u32))
}

/// What is lost, or wrong.
///
/// # Errors
/// When it can't be drawn.
pub fn cross(area: &Area<'_>, (x, y): (i32, i32), colour: RGBColor, width: u32) -> Drawn {
    for end in [6, -6] {
        let line = vec![(x - 6, y - end), (x + 6, y + end)];
        area.draw(&PathElement::new(line, colour.stroke_width(width)))?;
    }
    Ok(())
}
