//! `plimsoll explain`

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use plimsoll_policies::{Chain, Limits, Tokens};
use plimsoll_proxy::config::{Config, Faults};
use plimsoll_proxy::explain::{self, Explain, Show};
use serde_json::Value;

use super::admin::Admin;
use super::route::{chosen, counter, window};
use super::{FAULTS, Files, report, say, table, tokens};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    /// A chat request as JSON, or lines of them; `-` reads standard input
    #[arg(required_unless_present = "request")]
    file: Option<PathBuf>,
    /// Tell what a running sidecar did with a request, by the `x-plimsoll-request-id` of its answer
    #[arg(long, value_name = "ID", conflicts_with_all = ["file", "route", "line", "window"])]
    request: Option<String>,
    #[command(flatten)]
    admin: Admin,
    /// The route whose policy is explained [default: the last one, which takes everything]
    #[arg(long)]
    route: Option<String>,
    /// Which line, where the file has several conversations
    #[arg(long, default_value_t = 1, value_name = "N")]
    line: usize,
    /// The window in tokens, like `8192` or `8k`, in place of the route's
    #[arg(long, value_name = "TOKENS", value_parser = tokens)]
    window: Option<Tokens>,
    /// Show what the policy changed, as a diff
    #[arg(long)]
    diff: bool,
    /// Print all of it as JSON, the messages as they would run included
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let explained = match (&args.request, &args.file) {
        (Some(id), _) => of_request(args, id)?,
        (None, Some(file)) => match of_file(args, file)? {
            Ok(explained) => explained,
            Err(faults) => return Ok(report(&faults)),
        },
        (None, None) => bail!("say which conversation: a file, `-`, or `--request ID`"),
    };
    if args.json {
        say(serde_json::to_string_pretty(&explained)?);
    } else {
        print(&explained, args.diff);
    }
    Ok(if explained["refused"].is_null() { ExitCode::SUCCESS } else { ExitCode::from(FAULTS) })
}

/// What a running sidecar did.
fn of_request(args: &Args, id: &str) -> anyhow::Result<Value> {
    let id = utf8_percent_encode(id, NON_ALPHANUMERIC);
    let path = format!("/explain/{id}?messages={}&diff={}", args.json, args.diff);
    args.admin.sidecar(&args.files)?.get(&path)
}

/// What the configuration would do.
fn of_file(args: &Args, file: &Path) -> anyhow::Result<Result<Value, Faults>> {
    let loaded = match Config::load(&args.files.sources()?) {
        Ok(loaded) => loaded,
        Err(faults) => return Ok(Err(faults)),
    };
    let config = &loaded.config;
    let body = read(file, args.line)?;
    let route = chosen(config, args.route.as_deref())?;
    let counter = counter(config, route, explain::model(&body).as_deref())?;
    let explained = Explain {
        route: &route.name,
        limits: Limits::tokens(window(config, route, args.window)?),
        chain: &Chain::build(&route.policy, config.policies.get(&route.policy).map_or(&[], Vec::as_slice))
            .naming_originals(config.artifacts.kept()),
        counter: counter.as_dyn(),
        summaries: &explain::NONE,
    }
    .run(body)
    .with_context(|| format!("`{}` is not a chat request", file.display()))?;
    Ok(Ok(explained.to_json(Show { messages: args.json, diff: args.diff })))
}

fn read(file: &Path, line: usize) -> anyhow::Result<Arc<str>> {
    let name = file.display();
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
    } else {
        text = std::fs::read_to_string(file).with_context(|| format!("`{name}` cannot be read"))?;
    }
    let one = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
    if one && line == 1 {
        return Ok(text.into());
    }
    match text.lines().filter(|line| !line.trim().is_empty()).nth(line.saturating_sub(1)) {
        Some(found) => Ok(found.into()),
        None => bail!("`{name}` has no line {line}"),
    }
}

fn print(explained: &Value, with_diff: bool) {
    let route = text(&explained["route"]);
    let refused = explained["refused"].as_str();
    let report = if refused.is_some() { &explained["figures"]["report"] } else { &explained["report"] };
    if report.is_object() {
        print_report(route, report);
    }
    if let Some(refusal) = refused {
        return say(format_args!("refused: {refusal}"));
    }
    say(format_args!(
        "prompt: {} -> {} tokens, {} -> {} messages; x-plimsoll-actions: {}",
        report["tokens_before"],
        report["tokens_after"],
        report["messages_before"],
        report["messages_after"],
        text(&explained["actions"])
    ));
    match (explained["diff"].as_str(), explained["content"].as_str()) {
        (Some(""), _) => say("nothing differs"),
        (Some(diff), _) => say(diff.trim_end()),
        (None, Some(why)) if with_diff => say(format_args!("no diff: the content was {why}")),
        _ => {}
    }
}

fn print_report(route: &str, report: &Value) {
    let counted = if report["estimated"] == true { "estimated" } else { "exact" };
    let (policy, tokenizer) = (text(&report["policy"]), text(&report["tokenizer"]));
    say(format_args!("route {route}, policy {policy}, tokens by {tokenizer} ({counted})"));
    say(format_args!(
        "window {} = budget {} + {} reserved for the answer",
        report["window"], report["budget"], report["reserved"]
    ));
    let mut table = table(&["policy", "before", "after", "what", "touched", "why"], &[1, 2, 4]);
    for row in report["rows"].as_array().into_iter().flatten() {
        table.add_row([
            text(&row["policy"]).to_owned(),
            row["tokens_before"].to_string(),
            row["tokens_after"].to_string(),
            format!("{} ({})", text(&row["action"]), text(&row["outcome"])),
            row["messages"].to_string(),
            text(&row["reason"]).to_owned(),
        ]);
    }
    say(table);
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}
