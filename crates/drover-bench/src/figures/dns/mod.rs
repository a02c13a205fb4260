//! What drover's own DNS server costs, and how soon it answers otherwise, beside the best of others in the same run.

mod failover;
mod health;
mod load;
mod origin;
mod publish;
mod qps;
mod servers;
mod watch;

pub use failover::measure as failover;
pub use origin::run as serve_origin;
pub use publish::measure as publish;
pub use qps::measure as qps;
