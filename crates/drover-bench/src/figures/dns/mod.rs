//! What drover's own DNS server costs, beside the best of others in the same run.

mod load;
mod qps;
mod servers;

pub use qps::measure;
