//! What the API shows, made from what is known at this moment.

pub(crate) mod budget;
pub mod explain;
mod numbered;
pub mod prometheus;
pub mod status;
