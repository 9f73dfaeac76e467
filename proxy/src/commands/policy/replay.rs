//! `plimsoll policy replay`

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use plimsoll_engine::Model;
use plimsoll_policies::{Chain, Tokens};
use plimsoll_proxy::config::{Config, Route};
use plimsoll_proxy::explain;
use plimsoll_proxy::replay::{self, Candidate, NAIVE, Replay, Row};
use serde_json::json;

use crate::commands::route::{chosen, counter, steps, tokenizer, window};
use crate::commands::{FAULTS, Files, report, say, table, tokens};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    /// Recorded conversations: chat requests with their answers, one a line; `-` reads standard input
    file: PathBuf,
    /// A policy of the configuration, or a preset; may be repeated [default: the route's]
    #[arg(long = "policy", value_name = "NAME")]
    policies: Vec<String>,
    /// A window in tokens, like `8192` or `8k`; may be repeated [default: the route's]
    #[arg(long = "window", value_name = "TOKENS", value_parser = tokens)]
    windows: Vec<Tokens>,
    /// The route whose upstream counts [default: the last one, which takes everything]
    #[arg(long)]
    route: Option<String>,
    /// Replay only the first conversations
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Try a grid of water marks for `fit_context` and propose the best
    #[arg(long)]
    tune: bool,
    /// Fail where a policy falls below, like `reuse=0.9,recall=0.8`
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = floor)]
    fail_under: Vec<Floor>,
    /// Print all of it as JSON
    #[arg(long)]
    json: bool,
}

/// A figure and the least it may be.
#[derive(Clone, Copy)]
struct Floor {
    figure: Figure,
    least: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Figure {
    Reuse,
    Recall,
}

impl Figure {
    fn name(self) -> &'static str {
        match self {
            Self::Reuse => "reuse",
            Self::Recall => "recall",
        }
    }

    fn of(self, row: &Row) -> f64 {
        match self {
            Self::Reuse => row.reuse,
            Self::Recall => row.recall,
        }
    }
}

fn floor(text: &str) -> Result<Floor, String> {
    let expected = || "expected `reuse=SHARE` or `recall=SHARE`, shares from 0 to 1".to_owned();
    let (name, least) = text.split_once('=').ok_or_else(expected)?;
    let figure = [Figure::Reuse, Figure::Recall].into_iter().find(|figure| figure.name() == name);
    let least = least.parse().ok().filter(|least| (0.0..=1.0).contains(least));
    Ok(Floor { figure: figure.ok_or_else(expected)?, least: least.ok_or_else(expected)? })
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let loaded = match Config::load(&args.files.sources()?) {
        Ok(loaded) => loaded,
        Err(faults) => return Ok(report(&faults)),
    };
    let config = &loaded.config;
    let route = chosen(config, args.route.as_deref())?;
    let mut recordings = Recordings::open(&args.file, args.limit)?;
    let first = recordings.next().with_context(|| format!("`{}` is empty", args.file.display()))??;
    let counter = counter(config, route, explain::model(&first.1).as_deref())?;
    let candidates = candidates(args, config, route)?;
    let mut replays = Vec::new();
    for asked in windows(args) {
        replays.push(Replay::new(&counter, window(config, route, asked)?, candidates.clone()));
    }
    let mut conversations = 0;
    for recording in std::iter::once(Ok(first)).chain(recordings) {
        let (name, text) = recording?;
        let requests = replay::requests(&text).with_context(|| format!("{name} is not a chat request"))?;
        replays.iter_mut().for_each(|replay| replay.add(&name, &requests));
        conversations += 1;
        progress(conversations);
    }
    let mut rows: Vec<Row> = replays.iter().flat_map(Replay::rows).collect();
    add_kv(&mut rows, tokenizer(config, route)?);
    let counted_by = (counter.as_dyn().name(), counter.as_dyn().estimated());
    print(args, conversations, counted_by, &rows)
}

fn windows(args: &Args) -> Vec<Option<Tokens>> {
    if args.windows.is_empty() { vec![None] } else { args.windows.iter().copied().map(Some).collect() }
}

fn candidates(args: &Args, config: &Config, route: &Route) -> anyhow::Result<Vec<Candidate>> {
    let own = [route.policy.clone()];
    let names = if args.policies.is_empty() { &own[..] } else { &args.policies };
    let mut all = Vec::new();
    for name in names {
        let steps = steps(Some(config), name)?;
        all.push(Candidate { chain: Chain::build(name, &steps), marks: None });
        if args.tune {
            let tried = replay::grid(&steps).into_iter();
            all.extend(
                tried.map(|(marks, steps)| Candidate {
                    chain: Chain::build(name, &steps),
                    marks: Some(marks),
                }),
            );
        }
    }
    Ok(all)
}

/// What the longest prompts take in the KV cache, where the folder that counts is a model's.
fn add_kv(rows: &mut [Row], folder: Option<&Path>) {
    if let Some(model) = folder.and_then(|folder| Model::read(folder).ok()) {
        rows.iter_mut().for_each(|row| row.peak_kv_bytes = Some(row.peak * model.kv_bytes_per_token));
    }
}

/// Recorded conversations, each with what faults call it.
struct Recordings {
    lines: std::iter::Enumerate<std::io::Lines<Box<dyn BufRead>>>,
    file: String,
    left: usize,
}

impl Recordings {
    fn open(file: &Path, limit: Option<usize>) -> anyhow::Result<Self> {
        let name = file.display().to_string();
        let reader: Box<dyn BufRead> = if file == Path::new("-") {
            Box::new(std::io::stdin().lock())
        } else {
            Box::new(BufReader::new(File::open(file).with_context(|| format!("`{name}` cannot be read"))?))
        };
        Ok(Self { lines: reader.lines().enumerate(), file: name, left: limit.unwrap_or(usize::MAX) })
    }
}

impl Iterator for Recordings {
    type Item = anyhow::Result<(String, Arc<str>)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let blank = |line: &std::io::Result<String>| line.as_ref().is_ok_and(|text| text.trim().is_empty());
        let (index, line) = self.lines.by_ref().find(|(_, line)| !blank(line))?;
        let name = format!("line {} of `{}`", index + 1, self.file);
        Some(line.with_context(|| format!("{name} cannot be read")).map(|text| (name, text.into())))
    }
}

/// Somebody who waits sees that it goes on.
fn progress(conversations: usize) {
    if conversations.is_multiple_of(10) && std::io::stderr().is_terminal() {
        eprint!("\r{conversations} conversations\r");
    }
}

fn print(
    args: &Args,
    conversations: usize,
    counted_by: (&str, bool),
    rows: &[Row],
) -> anyhow::Result<ExitCode> {
    let own: Vec<&Row> = rows.iter().filter(|row| row.policy != NAIVE && row.marks.is_none()).collect();
    let shortfalls = shortfalls(&args.fail_under, &own);
    let tuned: Vec<&Row> = own.iter().filter_map(|row| replay::best(rows, row)).collect();
    let (tokenizer, estimated) = counted_by;
    if args.json {
        say(serde_json::to_string_pretty(&json!({
            "conversations": conversations, "tokenizer": tokenizer, "estimated": estimated,
            "rows": rows, "best": tuned, "failed": shortfalls,
        }))?);
    } else {
        let counted = if estimated { "estimated" } else { "exact" };
        say(format_args!("{conversations} conversations, tokens by {tokenizer} ({counted})"));
        print_table(rows, conversations);
        if args.tune {
            own.iter().for_each(|row| print_best(row, replay::best(rows, row)));
        }
        shortfalls.iter().for_each(say);
    }
    Ok(if shortfalls.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAULTS) })
}

/// What CI is to stop at: a figure below its floor, a broken invariant.
fn shortfalls(floors: &[Floor], rows: &[&Row]) -> Vec<String> {
    let mut all = Vec::new();
    for row in rows {
        let place = format!("`{}` at {}", row.policy, row.window);
        if row.counted == 0 && !floors.is_empty() {
            all.push(format!("failed: {place}: no conversation fits the window"));
            continue;
        }
        for Floor { figure, least } in floors {
            let is = figure.of(row);
            if is < *least {
                all.push(format!("failed: {place}: {} {is:.3} is under {least}", figure.name()));
            }
        }
        if row.faults > 0 {
            let told = row.first_faults.join("\n  ");
            all.push(format!("failed: {place}: {} broken invariants:\n  {told}", row.faults));
        }
    }
    all
}

const HEADER: [&str; 16] = [
    "policy",
    "window",
    "counted",
    "requests",
    "sent",
    "prefilled",
    "again",
    "reuse",
    "breaks",
    "cuts",
    "peak",
    "KV",
    "recall",
    "refused",
    "over",
    "faults",
];

fn print_table(rows: &[Row], conversations: usize) {
    let figures: Vec<usize> = (1..HEADER.len()).collect();
    let mut table = table(&HEADER, &figures);
    for row in rows {
        let marks = row.marks.map(|marks| format!(" {{high: {}, low: {}}}", marks.high, marks.low));
        let kv = row.peak_kv_bytes.map(|bytes| bytesize::ByteSize(bytes).to_string());
        // Shares of nothing say nothing.
        let share = |text: String| if row.counted == 0 { "-".to_owned() } else { text };
        table.add_row([
            format!("{}{}", row.policy, marks.unwrap_or_default()),
            row.window.to_string(),
            format!("{}/{conversations}", row.counted),
            row.requests.to_string(),
            row.sent.to_string(),
            row.prefilled.to_string(),
            row.again.to_string(),
            share(format!("{:.1} %", row.reuse * 100.0)),
            row.breaks.to_string(),
            row.cuts.to_string(),
            row.peak.to_string(),
            kv.unwrap_or_default(),
            share(format!("{:.3}", row.recall)),
            row.refused.to_string(),
            row.over_window.to_string(),
            row.faults.to_string(),
        ]);
    }
    say(table);
}

fn print_best(own: &Row, best: Option<&Row>) {
    let place = format!("`{}` at {}", own.policy, own.window);
    let Some((best, marks)) = best.and_then(|best| Some((best, best.marks?))) else {
        return say(format_args!("no marks are better for {place} than its own"));
    };
    say(format_args!(
        "best for {place}: fit_context: {{ high: {}, low: {} }} prefills {} tokens (now {}), recall {:.3} (now {:.3})",
        marks.high, marks.low, best.prefilled, own.prefilled, best.recall, own.recall
    ));
}
