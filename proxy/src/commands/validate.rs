//! `plimsoll validate`

use std::process::ExitCode;

use plimsoll_proxy::config::{Config, schema};
use serde_json::json;

use super::{FAULTS, Files, report, say};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Print the JSON schema of the configuration instead
    #[arg(long)]
    schema: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.schema {
        say(serde_json::to_string_pretty(&schema())?);
        return Ok(ExitCode::SUCCESS);
    }
    let loaded = match Config::load(&args.files.sources()?) {
        Ok(loaded) => loaded,
        Err(faults) if args.json => {
            say(serde_json::to_string_pretty(&json!({"valid": false, "faults": faults}))?);
            return Ok(ExitCode::from(FAULTS));
        }
        Err(faults) => return Ok(report(&faults)),
    };
    if args.json {
        let result = json!({"valid": true, "hash": loaded.hash, "warnings": loaded.warnings, "config": loaded.redacted});
        say(serde_json::to_string_pretty(&result)?);
        return Ok(ExitCode::SUCCESS);
    }
    for warning in &loaded.warnings {
        say(format_args!("warning: {warning}"));
    }
    let config = &loaded.config;
    say(format_args!(
        "valid: {} routes, {} upstreams, {} policies (hash {})",
        config.routes.len(),
        config.upstreams.len(),
        config.policies.len(),
        loaded.hash
    ));
    Ok(ExitCode::SUCCESS)
}
