//! `plimsoll ps`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use bytesize::ByteSize;
use http::{Method, StatusCode};
use serde_json::Value;

use super::admin::{Admin, Question};
use super::{say, table};

/// A sidecar answers at once, or something else is at its address.
const PATIENCE: Duration = Duration::from_secs(10);

const COLUMNS: [&str; 9] =
    ["upstream", "kind", "model", "device", "memory", "kv cache", "slots", "queue", "context"];

/// What stands where an upstream has no such figure.
const NOTHING: &str = "-";

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    admin: Admin,
    /// Print the whole state as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let question =
        Question { method: Method::GET, path: "/state".to_owned(), body: Value::Null, patience: PATIENCE };
    let answer = args.admin.ask(&question)?;
    if answer.status != StatusCode::OK {
        bail!("`{}` answers {}, which no admin listener does", answer.admin, answer.status);
    }
    if args.json {
        say(serde_json::to_string_pretty(&answer.body)?);
    } else {
        print(&answer.admin, &answer.body);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(admin: &str, state: &Value) {
    let config = &state["config"];
    say(format_args!(
        "plimsoll {} at {admin}, up {}, configuration {} ({})",
        text(&state["version"]),
        humantime::format_duration(Duration::from_secs(state["uptime_seconds"].as_u64().unwrap_or_default())),
        config["generation"],
        text(&config["hash"]),
    ));
    let figures: Vec<usize> = (4..COLUMNS.len()).collect();
    let mut table = table(&COLUMNS, &figures);
    for (name, upstream) in state["upstreams"].as_object().into_iter().flatten() {
        table.add_row(row(name, upstream));
    }
    say(table);
    for warning in warnings(config) {
        say(warning);
    }
}

fn row(name: &str, upstream: &Value) -> [String; COLUMNS.len()] {
    let slots = upstream["slots"].as_array().map(|slots| {
        let busy = slots.iter().filter(|slot| slot["busy"] == true).count();
        format!("{busy}/{}", slots.len())
    });
    let components = upstream["memory_bytes"].as_object();
    let memory = components.map(|sizes| Value::from(sizes.values().filter_map(Value::as_u64).sum::<u64>()));
    [
        name.to_owned(),
        text(&upstream["kind"]).to_owned(),
        text(&upstream["model"]).to_owned(),
        text(&upstream["device"]).to_owned(),
        of(&memory.unwrap_or_default(), &upstream["memory_limit_bytes"]),
        of(&upstream["kv_used_bytes"], &upstream["kv_limit_bytes"]),
        slots.unwrap_or_else(|| NOTHING.to_owned()),
        number(&upstream["queued"]),
        number(&upstream["context_tokens"]),
    ]
}

/// What an operator should know of the configuration.
fn warnings(config: &Value) -> Vec<String> {
    let waiting: Vec<_> = config["needs_restart"].as_array().into_iter().flatten().map(text).collect();
    let faults = config["file"]["last_error"]["faults"].as_array().into_iter().flatten();
    let mut warnings: Vec<_> = faults
        .map(|fault| {
            format!(
                "the changed configuration is refused: {}: {}",
                text(&fault["path"]),
                text(&fault["message"])
            )
        })
        .collect();
    if !waiting.is_empty() {
        warnings.push(format!("waiting for a restart: {}", waiting.join(", ")));
    }
    warnings
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or(NOTHING)
}

fn number(value: &Value) -> String {
    value.as_u64().map_or_else(|| NOTHING.to_owned(), |number| number.to_string())
}

/// A size and its limit.
fn of(used: &Value, limit: &Value) -> String {
    match (used.as_u64(), limit.as_u64()) {
        (Some(used), Some(limit)) => format!("{} / {}", ByteSize::b(used), ByteSize::b(limit)),
        _ => NOTHING.to_owned(),
    }
}
