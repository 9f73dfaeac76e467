//! One module a promise; each test starts what it needs on free ports and leaves nothing behind.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends where what it needs is not there")]

mod artifacts;
mod bad_input;
mod browser;
mod certificates;
mod charts;
mod checkpoints;
mod clients;
mod commands;
mod costed;
mod demo_code;
mod demo_samples;
mod explain;
mod formats;
mod ground_truth;
mod hanging_collector;
mod inquiries;
mod monitoring;
mod ollama;
mod operations;
mod policy_commands;
mod policy_files;
mod read_tool;
mod replicas;
mod readme;
mod reasoning;
mod routes;
mod scraped;
mod slots;
mod status;
mod summaries;
mod telemetry;
mod tooling;
mod traced;
mod traces;
mod upstreams;
