//! What the API shows, made from what is known at this moment.

pub mod explain;
pub mod prometheus;
pub mod status;
