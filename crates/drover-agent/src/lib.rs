//! Probes, self-check and reporting from one vantage point
