//! What `-o json` and `-o yaml` write: always one object with `schema`, so that a script can tell what it reads. A type
//! that has no `schema` can't be shown; lists and objects without one get it here. `docs/output.md` tells the keys.

use crate::offline::OfflineView;
use crate::render::break_glass::{GlassBack, GlassDone, GlassView};
use crate::render::doctor::Diagnosis;
use drover_model::api::{ExplainView, HealthChecksView, PlanView, ReplayView, RunView, StatusView, ZoneView};
use serde::Serialize;

/// Version of lists, and of objects that carry none themselves.
pub const OUTPUT_SCHEMA: u16 = 1;

/// A whole output: an object with `schema`.
pub trait Document: Serialize {}

impl Document for StatusView {}
impl Document for HealthChecksView {}
impl Document for OfflineView {}
impl Document for ExplainView {}
impl Document for ReplayView {}
impl Document for PlanView {}
impl Document for RunView {}
impl Document for ZoneView {}
impl Document for Diagnosis {}
impl Document for GlassView {}
impl Document for GlassDone {}
impl Document for GlassBack {}

/// A list.
#[derive(Debug, Serialize)]
pub struct Items<'a, T> {
    schema: u16,
    items: &'a [T],
}

impl<'a, T> Items<'a, T> {
    /// Of these.
    pub fn of(items: &'a [T]) -> Self {
        Self { schema: OUTPUT_SCHEMA, items }
    }
}

impl<T: Serialize> Document for Items<'_, T> {}

/// An object that has no `schema` of its own.
#[derive(Debug, Serialize)]
pub struct Versioned<'a, T> {
    schema: u16,
    #[serde(flatten)]
    object: &'a T,
}

impl<'a, T> Versioned<'a, T> {
    /// Of this one.
    pub fn of(object: &'a T) -> Self {
        Self { schema: OUTPUT_SCHEMA, object }
    }
}

impl<T: Serialize> Document for Versioned<'_, T> {}
