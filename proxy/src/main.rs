//! The `plimsoll` command.
#![forbid(unsafe_code)]

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use commands::{explain, inject, key, plan, policy, ps, serve, slots, top, validate};

/// A sidecar that keeps LLM conversations inside the memory they have.
///
/// Exit codes: 0 good, 1 faults were found, 2 it could not run.
#[derive(Parser)]
#[command(name = "plimsoll", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve: the data listener for clients, the admin listener for operators
    Serve(serve::Args),
    /// Check the configuration: every fault at once, each with its path and a hint
    Validate(validate::Args),
    /// Show what a route's policy would do with a conversation, without running a model
    Explain(explain::Args),
    /// Test policies against cases, or replay recorded conversations through them
    #[command(subcommand)]
    Policy(policy::Command),
    /// Show how many conversations of which length fit into memory with a model
    Plan(plan::Args),
    /// Show a running sidecar's engines: model, device, memory, slots, queue
    Ps(ps::Args),
    /// Watch a running sidecar: memory, slots, requests, what was cut; `q` ends it
    Top(top::Args),
    /// Add the sidecar to Kubernetes manifests, or take it out again
    Inject(inject::Args),
    /// Make an API key for a caller, or hash one
    #[command(subcommand)]
    Key(key::Command),
    /// List, save, restore, branch or erase the conversations that a running sidecar's engines hold
    Slots(slots::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Validate(args) => validate::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Policy(command) => policy::run(&command),
        Command::Plan(args) => plan::run(&args),
        Command::Ps(args) => ps::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Inject(args) => inject::run(&args),
        Command::Key(command) => key::run(&command),
        Command::Slots(args) => slots::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("plimsoll: {error:#}");
        ExitCode::from(commands::NOT_RUN)
    })
}
