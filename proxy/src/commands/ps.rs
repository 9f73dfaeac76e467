//! `plimsoll ps`

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use bytesize::ByteSize;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use plimsoll_proxy::config::{Config, Listen};
use serde_json::Value;

use super::{Files, say, table};

/// A sidecar answers at once, or something else is at its address.
const PATIENCE: Duration = Duration::from_secs(10);

/// Far more than any state is long.
const LONGEST: usize = 16 << 20;

const COLUMNS: [&str; 10] =
    ["upstream", "kind", "model", "device", "leak", "memory", "kv cache", "slots", "queue", "context"];

/// What stands where an upstream has no such figure.
const NOTHING: &str = "-";

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    /// The admin listener, like http://127.0.0.1:7490; default: the configuration's `listen.admin`
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// The admin listener's token; default: the configuration's `listen.admin_token`
    #[arg(long, env = "PLIMSOLL__LISTEN__ADMIN_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Print the whole state as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// A sidecar that is asked for its state.
pub(super) struct Sidecar {
    pub(super) admin: String,
    token: Option<String>,
    runtime: tokio::runtime::Runtime,
}

impl Sidecar {
    pub(super) fn of(args: &Args) -> anyhow::Result<Self> {
        let (admin, token) = address(args)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { admin, token, runtime })
    }

    pub(super) fn state(&self) -> anyhow::Result<Value> {
        let Self { admin, token, runtime } = self;
        runtime.block_on(async {
            let reading = state(admin, token.as_deref());
            tokio::time::timeout(PATIENCE, reading)
                .await
                .unwrap_or_else(|_| bail!("no answer from `{admin}` within {} s", PATIENCE.as_secs()))
        })
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let sidecar = Sidecar::of(args)?;
    let (admin, state) = (sidecar.admin.clone(), sidecar.state()?);
    if args.json {
        say(serde_json::to_string_pretty(&state)?);
    } else {
        print(&admin, &state);
    }
    Ok(ExitCode::SUCCESS)
}

/// Where to ask, and with what token. The configuration is read only where the arguments leave something open, and its
/// token goes to its own listener alone.
fn address(args: &Args) -> anyhow::Result<(String, Option<String>)> {
    if let Some(admin) = &args.admin {
        return Ok((admin.trim_end_matches('/').to_owned(), args.token.clone()));
    }
    let loaded = Config::load(&args.files.sources()?)
        .context("the configuration tells no address: say `--admin URL`, or name it by `--config FILE`")?;
    let Listen { admin, admin_token, .. } = loaded.config.listen;
    let token = args.token.clone().or_else(|| admin_token.map(|token| token.expose().to_owned()));
    Ok((format!("http://{}", reachable(admin)), token))
}

/// A listener on all addresses is asked on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let all = address.ip().is_unspecified();
    if all { SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()) } else { address }
}

async fn state(admin: &str, token: Option<&str>) -> anyhow::Result<Value> {
    let uri: Uri = format!("{admin}/state").parse().with_context(|| format!("`{admin}` is no URL"))?;
    if uri.scheme_str() != Some("http") {
        bail!("`{admin}` is no address of an admin listener: it starts with http://");
    }
    let mut request = Request::get(uri);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let request = request.body(Empty::new()).context("the token cannot be sent")?;
    let answer = client
        .request(request)
        .await
        .with_context(|| format!("no sidecar answers at `{admin}`: is `plimsoll serve` running there?"))?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED => {
            bail!("`{admin}` asks for its token: say `--token`, the value of `listen.admin_token`")
        }
        status => bail!("`{admin}` answers {status}, which no admin listener does"),
    }
    let body = Limited::new(answer.into_body(), LONGEST).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("`{admin}` broke off: {error}"))?;
    serde_json::from_slice(&body.to_bytes())
        .with_context(|| format!("`{admin}` does not answer with a sidecar's state"))
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
