//! Opinions, verdicts, weights, guards, planner and plan checker: pure decisions
