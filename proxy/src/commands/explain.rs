//! `plimsoll explain`

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use plimsoll_policies::{Chain, Limits, Refusal, Report, Tokens};
use plimsoll_proxy::config::Config;
use plimsoll_proxy::explain::{self, Explain, Explained};

use super::route::{chosen, counter, window};
use super::{FAULTS, Files, report, say, table};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    /// A chat request as JSON, or lines of them; `-` reads standard input
    file: PathBuf,
    /// The route whose policy is explained [default: the last one, which takes everything]
    #[arg(long)]
    route: Option<String>,
    /// Which line, where the file has several conversations
    #[arg(long, default_value_t = 1, value_name = "N")]
    line: usize,
    /// The window in tokens, in place of the route's
    #[arg(long, value_name = "TOKENS")]
    window: Option<Tokens>,
    /// Print all of it as JSON, the messages as they would run included
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let loaded = match Config::load(&args.files.sources()?) {
        Ok(loaded) => loaded,
        Err(faults) => return Ok(report(&faults)),
    };
    let config = &loaded.config;
    let body = read(&args.file, args.line)?;
    let route = chosen(config, args.route.as_deref())?;
    let counter = counter(config, route, explain::model(&body).as_deref())?;
    let explained = Explain {
        route: &route.name,
        chain: &Chain::build(&route.policy, config.policies.get(&route.policy).map_or(&[], Vec::as_slice)),
        limits: Limits::tokens(window(config, route, args.window)?),
        counter: counter.as_dyn(),
        summaries: &explain::NONE,
    }
    .run(body)
    .with_context(|| format!("`{}` is not a chat request", args.file.display()))?;
    if args.json {
        say(serde_json::to_string_pretty(&explained.to_json(true))?);
    } else {
        print(&explained);
    }
    Ok(if explained.outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(FAULTS) })
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

fn print(explained: &Explained) {
    match &explained.outcome {
        Ok((_, report)) => print_report(&explained.route, report),
        Err(refusal) => {
            if let Refusal::ContextLength(figures) = refusal {
                print_report(&explained.route, &figures.report);
            }
            say(format_args!("refused: {refusal}"));
        }
    }
}

fn print_report(route: &str, report: &Report) {
    let counted = if report.estimated { "estimated" } else { "exact" };
    say(format_args!("route {route}, policy {}, tokens by {} ({counted})", report.policy, report.tokenizer));
    say(format_args!(
        "window {} = budget {} + {} reserved for the answer",
        report.window, report.budget, report.reserved
    ));
    let mut table = table(&["policy", "before", "after", "what", "touched", "why"], &[1, 2, 4]);
    for row in &report.rows {
        let outcome = format!("{:?}", row.outcome).to_lowercase();
        table.add_row([
            row.policy.to_owned(),
            row.tokens_before.to_string(),
            row.tokens_after.to_string(),
            format!("{} ({outcome})", row.action),
            row.messages.to_string(),
            row.reason.clone(),
        ]);
    }
    say(table);
    say(format_args!(
        "prompt: {} -> {} tokens, {} -> {} messages; x-plimsoll-actions: {}",
        report.tokens_before,
        report.tokens_after,
        report.messages_before,
        report.messages_after,
        plimsoll_proxy::stamp::actions(report)
    ));
}
