//! Coordinator: ingest, decisions, executions, API
