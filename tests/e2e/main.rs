//! One module a promise; each test starts what it needs on free ports and leaves nothing behind.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends where what it needs is not there")]

mod bad_input;
mod charts;
mod clients;
mod commands;
mod demo_code;
mod demo_samples;
mod explain;
mod formats;
mod ground_truth;
mod monitoring;
mod operations;
mod policy_commands;
mod routes;
mod slots;
mod status;
mod summaries;
mod telemetry;
mod tooling;
mod traces;
mod upstreams;
