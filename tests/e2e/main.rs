//! End-to-end tests: one binary, a module a story.
