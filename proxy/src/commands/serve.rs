//! `plimsoll serve`

use std::process::ExitCode;

use anyhow::Context;
use plimsoll_proxy::config::{Address, Config, Loaded, LogFormat};
use plimsoll_proxy::proxy::{self, Running};
use plimsoll_proxy::telemetry::log;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::{Files, report, say};

/// Where redirected connections come in, where the flag does not say.
const TRANSPARENT: &str = "127.0.0.1:7481";

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    /// Also take plain HTTP connections that the kernel redirected here on their way to an upstream: sets
    /// `listen.transparent`
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, require_equals = true, default_missing_value = TRANSPARENT)]
    transparent: Option<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut sources = args.files.sources()?;
    sources.overrides.extend(args.transparent.iter().map(|address| format!("listen.transparent={address}")));
    let loaded = match Config::load(&sources) {
        Ok(loaded) => loaded,
        Err(faults) => return Ok(report(&faults)),
    };
    start_log(&loaded)?;
    for warning in &loaded.warnings {
        tracing::warn!(target: "plimsoll", "configuration: {warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let running = proxy::start(loaded, Some(sources)).await?;
        greet(&running);
        tokio::select! {
            _ = terminate.recv() => {}
            interrupted = tokio::signal::ctrl_c() => interrupted?,
        }
        tracing::info!(target: "plimsoll", "draining");
        running.drain().await;
        anyhow::Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

fn start_log(loaded: &Loaded) -> anyhow::Result<()> {
    let settings = &loaded.config.log;
    let format = match settings.format {
        LogFormat::Text => log::Format::Text,
        LogFormat::Json => log::Format::Json,
    };
    log::init(format, &settings.level).context("the log cannot be set up")
}

/// What a newcomer needs next.
fn greet(running: &Running) {
    let (data, admin) = (&running.data, &running.admin);
    let live = running.live();
    let model = live.served_models().into_iter().next().unwrap_or_else(|| "MODEL".to_owned());
    let version = env!("CARGO_PKG_VERSION");
    let body = json!({"model": model, "messages": [{"role": "user", "content": "What is the KV cache?"}]});
    let (clients, curl) = match data {
        Address::Tcp(_) => {
            let url = data.url();
            (format!("{url}/v1   (OPENAI_BASE_URL={url}/v1)"), format!("curl {url}"))
        }
        Address::Unix(path) => {
            (data.url(), format!("curl --unix-socket {} http://localhost", path.display()))
        }
    };
    let redirected = running.transparent.as_ref().map_or(String::new(), |address| {
        format!("  redirected {}   (plain HTTP on its way to upstreams)\n", address.url())
    });
    say(format_args!(
        "plimsoll {version} serves
  clients    {clients}
{redirected}  operators  {}/   (status page; /state /metrics /config /readyz)
try:
  {curl}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{body}'",
        admin.url()
    ));
}
