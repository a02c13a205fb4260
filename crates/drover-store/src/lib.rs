//! Embedded transactional store with verification at start
