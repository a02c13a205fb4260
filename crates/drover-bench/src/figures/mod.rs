//! One file a figure.

pub mod dns;
pub mod false_alarms;
pub mod ingest;
pub mod plan;
pub mod probe;
pub mod reaction;
pub mod route53;
pub mod scale;
pub mod sim;
pub mod status;
pub mod store;
pub mod takeover;
pub mod tls;
