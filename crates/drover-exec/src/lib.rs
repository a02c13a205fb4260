//! Execution state machine, journal records and the driver
