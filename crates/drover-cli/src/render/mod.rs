//! From the API's objects to text for people. Pure: the same view and look give the same text.

pub mod audit;
pub mod backtest;
pub mod break_glass;
pub mod config;
pub mod dataset;
pub mod dns;
pub mod dns_checks;
pub mod dns_history;
pub mod dns_verify;
pub mod doctor;
mod doctor_checks;
pub mod explain;
pub mod markdown;
pub mod observations;
pub mod offline;
pub mod plan;
pub mod run;
pub mod simulate;
pub mod status;
pub mod token;
pub mod tones;

#[cfg(test)]
pub mod fixture;
#[cfg(test)]
mod tests;
