//! `plimsoll plan`

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::ensure;
use bytesize::ByteSize;
use plimsoll_engine::{Forecast, KvDtype, Layout, Model};
use serde_json::{Value, json};

use super::{say, table};

/// Rows of the table.
const CONVERSATIONS: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Columns of the table, at most, where none are asked for.
const COLUMNS: u32 = 6;
/// Tokens of a column at least, where none are asked for.
const SHORTEST: u32 = 256;
/// What stands where something does not fit.
const NOT: &str = "-";

/// Conversations and tokens that fit into memory with a model, by the rules of the engine's admission.
///
/// The model is not loaded: what a token takes is read from its graph.
#[derive(clap::Args)]
#[command(after_help = "Example: plimsoll plan models/qwen3 --memory 24GiB --prefix 800 --sessions 50")]
pub(crate) struct Args {
    /// The model's folder
    model: PathBuf,
    /// Memory for weights, KV cache and workspace together, such as 24GiB; default: what is free here now
    #[arg(long, value_parser = ByteSize::from_str)]
    memory: Option<ByteSize>,
    /// For a CUDA device, where the caches of all slots are taken in advance; needs --memory
    #[arg(long, requires = "memory")]
    cuda: bool,
    /// Numbers of the KV cache: auto, fp32 or fp16
    #[arg(long, default_value = "auto", value_parser = kv_dtype)]
    kv_dtype: KvDtype,
    /// Tokens of a conversation, prompt and answer, instead of the usual columns; may be repeated
    #[arg(long, value_name = "TOKENS", value_delimiter = ',')]
    context: Vec<u32>,
    /// Tokens that all sessions begin with, such as a system prompt
    #[arg(long, value_name = "TOKENS", requires = "sessions")]
    prefix: Option<u32>,
    /// Sessions that begin with the prefix
    #[arg(long, value_name = "COUNT", requires = "prefix", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    sessions: Option<u32>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let model = Model::read(&args.model)?.with_kv(args.kv_dtype)?;
    let contexts = contexts(args, model.context_length)?;
    let forecast = Forecast::new(model, args.memory.map(|size| size.as_u64()), args.cuda);
    let sharing = args.prefix.zip(args.sessions);
    if args.json {
        say(serde_json::to_string_pretty(&to_json(&forecast, &contexts, sharing))?);
        return Ok(ExitCode::SUCCESS);
    }
    say(facts(&forecast));
    say(memory(&forecast, args.memory.is_none()));
    say(conversations(&forecast, &contexts));
    if let Some((prefix, sessions)) = sharing {
        say(format_args!("{sessions} sessions that begin with the same {prefix} tokens, KV cache:"));
        say(prefixes(&forecast, &contexts, (prefix, sessions)));
        if let Some(reason) = forecast.no_sharing() {
            say(format_args!("the prefix is not held once: {reason}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn kv_dtype(text: &str) -> Result<KvDtype, &'static str> {
    match text {
        "auto" => Ok(KvDtype::Auto),
        "fp32" => Ok(KvDtype::F32),
        "fp16" => Ok(KvDtype::F16),
        _ => Err("must be `auto`, `fp32` or `fp16`"),
    }
}

/// The lengths of conversations that are shown: halves of the model's own limit, where none are asked for.
fn contexts(args: &Args, limit: u32) -> anyhow::Result<Vec<u32>> {
    if args.context.is_empty() {
        let halves = (0..COLUMNS).rev().map(|half| limit >> half);
        return Ok(halves.filter(|tokens| *tokens >= SHORTEST.min(limit)).collect());
    }
    for &tokens in &args.context {
        ensure!((1..=limit).contains(&tokens), "--context {tokens}: this model takes 1 to {limit} tokens");
    }
    Ok(args.context.clone())
}

fn facts(forecast: &Forecast) -> String {
    let model = forecast.model();
    let kept = match model.layout {
        Layout::SharedBuffer => "in place",
        Layout::Concatenated => "grown by each run",
        Layout::Hybrid => "in place, with states or windows of constant size",
    };
    let constant = match model.bytes_per_conversation {
        0 => String::new(),
        bytes => format!(" and {} a conversation", size(bytes)),
    };
    format!(
        "{}: {} layers with a KV cache in {}, kept {kept}: {} a token{constant}; window {} tokens",
        model.folder.display(),
        model.kv_layers,
        model.kv_type,
        size(model.kv_bytes_per_token),
        model.context_length,
    )
}

fn memory(forecast: &Forecast, free_now: bool) -> String {
    format!(
        "memory {}{} = weights {} + KV cache up to {} + the rest for workspace and others",
        size(forecast.memory()),
        if free_now { " (free now)" } else { "" },
        size(forecast.model().weights_bytes),
        size(forecast.kv_limit()),
    )
}

/// What is needed beside the weights, by conversations and tokens.
fn conversations(forecast: &Forecast, contexts: &[u32]) -> comfy_table::Table {
    let mut header = vec!["conversations".to_owned()];
    header.extend(contexts.iter().map(|tokens| format!("{tokens} tokens")));
    let names: Vec<_> = header.iter().map(String::as_str).collect();
    let mut shown = table(&names, &(0..names.len()).collect::<Vec<_>>());
    for count in CONVERSATIONS {
        let cell = |tokens: &u32| {
            let demand = forecast.at(count, *tokens);
            if demand.fits { size(demand.kv + demand.constant) } else { NOT.to_owned() }
        };
        shown.add_row(std::iter::once(count.to_string()).chain(contexts.iter().map(cell)));
    }
    let most = contexts.iter().map(|tokens| format!("{} fit", forecast.most(*tokens)));
    shown.add_row(std::iter::once("at most".to_owned()).chain(most));
    shown
}

fn prefixes(forecast: &Forecast, contexts: &[u32], (prefix, sessions): (u32, u32)) -> comfy_table::Table {
    let mut shown = table(&["tokens each", "a copy in each", "the prefix held once"], &[0, 1, 2]);
    for &tokens in contexts.iter().filter(|tokens| **tokens >= prefix) {
        let bytes = forecast.shared_prefix(prefix, sessions, tokens);
        let limit = forecast.kv_limit();
        let cell = |bytes: u64| format!("{}{}", size(bytes), if bytes > limit { " (too much)" } else { "" });
        let shared = bytes.shared.map_or_else(|| NOT.to_owned(), cell);
        shown.add_row([tokens.to_string(), cell(bytes.copied), shared]);
    }
    shown
}

fn to_json(forecast: &Forecast, contexts: &[u32], sharing: Option<(u32, u32)>) -> Value {
    let model = forecast.model();
    let cell = |conversations: u32, context: u32| {
        let demand = forecast.at(conversations, context);
        json!({
            "conversations": conversations, "context": context, "kv_bytes": demand.kv,
            "constant_bytes": demand.constant, "buffer_bytes": demand.buffers, "fits": demand.fits,
        })
    };
    let table: Vec<_> =
        CONVERSATIONS.iter().flat_map(|count| contexts.iter().map(|tokens| cell(*count, *tokens))).collect();
    let most: Vec<_> = contexts
        .iter()
        .map(|tokens| json!({"context": tokens, "conversations": forecast.most(*tokens)}))
        .collect();
    let shared = sharing.map(|(prefix, sessions)| {
        let row = |context: &u32| {
            let bytes = forecast.shared_prefix(prefix, sessions, *context);
            json!({"context": context, "copied_bytes": bytes.copied, "shared_bytes": bytes.shared})
        };
        let rows: Vec<_> = contexts.iter().filter(|tokens| **tokens >= prefix).map(row).collect();
        json!({
            "prefix": prefix, "sessions": sessions, "contexts": rows, "not_shared": forecast.no_sharing(),
        })
    });
    json!({
        "model": model.folder, "context_length": model.context_length, "kv_layers": model.kv_layers,
        "kv_type": model.kv_type.to_string(), "kv_bytes_per_token": model.kv_bytes_per_token,
        "bytes_per_conversation": model.bytes_per_conversation, "weights_bytes": model.weights_bytes,
        "memory_bytes": forecast.memory(), "kv_limit_bytes": forecast.kv_limit(),
        "table": table, "at_most": most, "shared_prefix": shared,
    })
}

fn size(bytes: u64) -> String {
    ByteSize::b(bytes).to_string()
}
