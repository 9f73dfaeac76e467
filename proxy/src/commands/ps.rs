//! `plimsoll ps`

use std::process::ExitCode;
use std::time::Duration;

use bytesize::ByteSize;
use serde_json::Value;

use super::admin::{Admin, Sidecar};
use super::{Files, say, table};

const COLUMNS: [&str; 10] =
    ["upstream", "kind", "model", "device", "leak", "memory", "kv cache", "slots", "queue", "context"];

/// What stands where an upstream has no such figure.
const NOTHING: &str = "-";

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    admin: Admin,
    /// Print the whole state as JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Args {
    pub(super) fn sidecar(&self) -> anyhow::Result<Sidecar> {
        self.admin.sidecar(&self.files)
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let sidecar = args.sidecar()?;
    let state = sidecar.state()?;
    if args.json {
        say(serde_json::to_string_pretty(&state)?);
    } else {
        print(&sidecar.url, &state);
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
    let figures: Vec<usize> = (5..COLUMNS.len()).collect();
    let mut table = table(&COLUMNS, &figures);
    let upstreams = || state["upstreams"].as_object().into_iter().flatten();
    for (name, upstream) in upstreams() {
        table.add_row(row(name, upstream));
    }
    say(table);
    for (name, upstream) in upstreams().filter(|(_, upstream)| upstream["kind"] == "engine") {
        say(format_args!("memory of {name}: {}", components(upstream)));
        if let Some(growth) = growth(upstream) {
            say(format_args!("memory of {name}: {growth}"));
        }
    }
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
        text(&upstream["leak"]["state"]).to_owned(),
        of(&memory.unwrap_or_default(), &upstream["memory_limit_bytes"]),
        of(&upstream["kv_used_bytes"], &upstream["kv_limit_bytes"]),
        slots.unwrap_or_else(|| NOTHING.to_owned()),
        number(&upstream["queued"]),
        number(&upstream["context_tokens"]),
    ]
}

/// What the memory is in use for.
fn components(upstream: &Value) -> String {
    let sizes = upstream["memory_bytes"].as_object().into_iter().flatten();
    let sizes: Vec<_> = sizes
        .map(|(name, bytes)| format!("{name} {}", ByteSize::b(bytes.as_u64().unwrap_or_default())))
        .collect();
    format!("{} (by {})", sizes.join(", "), text(&upstream["memory_source"]))
}

/// What the leak detector found, where it found something.
pub(super) fn growth(upstream: &Value) -> Option<String> {
    let leak = &upstream["leak"];
    let (state, component) = (leak["state"].as_str()?, leak["component"].as_str()?);
    let bytes = |field: &str| ByteSize::b(leak[field].as_u64().unwrap_or_default());
    Some(format!(
        "{state}: {component} has grown by {}, more than the {} that are no leak",
        bytes("growth_bytes"),
        bytes("threshold_bytes")
    ))
}

/// What an operator should know of the configuration.
pub(super) fn warnings(config: &Value) -> Vec<String> {
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

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or(NOTHING)
}

fn number(value: &Value) -> String {
    value.as_u64().map_or_else(|| NOTHING.to_owned(), |number| number.to_string())
}

/// A size and its limit.
pub(super) fn of(used: &Value, limit: &Value) -> String {
    match (used.as_u64(), limit.as_u64()) {
        (Some(used), Some(limit)) => format!("{} / {}", ByteSize::b(used), ByteSize::b(limit)),
        _ => NOTHING.to_owned(),
    }
}
