//! `plimsoll slots`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use bytesize::ByteSize;
use http::Method;
use plimsoll_proxy::slots::Target;
use serde_json::{Value, json};

use super::admin::{Admin, Question};
use super::{Files, say, table};

/// Gigabytes of keys and values are read, hashed and written within it.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show all slots and saved conversations
    List(Common),
    /// Save a slot's conversation under a name, in the folder `engine.checkpoints`
    Save {
        /// The slot's number
        slot: u32,
        /// The checkpoint's name: A-Z, a-z, 0-9, `.`, `_` and `-`
        name: String,
        /// Save only the first tokens
        #[arg(long)]
        tokens: Option<u32>,
        #[command(flatten)]
        common: Common,
    },
    /// Bring a saved conversation into an idle slot
    Restore {
        /// The checkpoint's name
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Copy a slot's conversation into an idle slot
    Branch {
        /// The slot's number
        slot: u32,
        /// Copy only the first tokens
        #[arg(long)]
        tokens: Option<u32>,
        #[command(flatten)]
        common: Common,
    },
    /// Forget a slot's conversation, or delete a saved one or an idle one that is put by
    #[command(group(clap::ArgGroup::new("what").required(true)))]
    Erase {
        /// The slot's number
        #[arg(group = "what")]
        slot: Option<u32>,
        /// The checkpoint's name
        #[arg(long, group = "what")]
        name: Option<String>,
        /// The name of an idle conversation that is put by, as `list` shows it
        #[arg(long, group = "what")]
        offloaded: Option<String>,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(clap::Args)]
struct Common {
    /// The upstream whose engine is meant; may be left out where there is one
    #[arg(long)]
    upstream: Option<String>,
    /// Print JSON, errors too
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    admin: Admin,
}

impl Command {
    /// The action's name, what it is about, and how to ask.
    fn parts(&self) -> (&'static str, Target, &Common) {
        let (action, slot, name, tokens, common) = match self {
            Self::List(common) => ("list", None, None, None, common),
            Self::Save { slot, name, tokens, common } => ("save", Some(*slot), Some(name), *tokens, common),
            Self::Restore { name, common } => ("restore", None, Some(name), None, common),
            Self::Branch { slot, tokens, common } => ("branch", Some(*slot), None, *tokens, common),
            Self::Erase { slot, name, common, .. } => ("erase", *slot, name.as_ref(), None, common),
        };
        let offloaded = if let Self::Erase { offloaded, .. } = self { offloaded.clone() } else { None };
        let upstream = common.upstream.clone();
        (action, Target { upstream, slot, name: name.cloned(), offloaded, tokens }, common)
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (action, target, common) = args.command.parts();
    let answer = ask(action, &target, common);
    if common.json {
        let failed = answer.is_err();
        let told = answer.unwrap_or_else(|error| json!({"error": {"message": format!("{error:#}")}}));
        say(serde_json::to_string_pretty(&told)?);
        let failed = failed || told.get("error").is_some();
        return Ok(if failed { ExitCode::from(2) } else { ExitCode::SUCCESS });
    }
    let answer = answer?;
    if let Some(message) = answer["error"]["message"].as_str() {
        bail!("{message}");
    }
    match action {
        "list" => print(&answer),
        _ => say(sentence(action, &answer)),
    }
    Ok(ExitCode::SUCCESS)
}

fn ask(action: &str, target: &Target, common: &Common) -> anyhow::Result<Value> {
    let list = action == "list";
    let question = Question {
        method: if list { Method::GET } else { Method::POST },
        path: if list { "/slots".to_owned() } else { format!("/slots/{action}") },
        body: if list { Value::Null } else { serde_json::to_value(target)? },
        patience: PATIENCE,
    };
    let sidecar = common.admin.sidecar(&common.files)?;
    let answer = sidecar.ask(&question)?;
    if !answer.status.is_success() && answer.body.get("error").is_none() {
        bail!("`{}` answers {}, which no admin listener does", sidecar.url, answer.status);
    }
    if list && answer.status.is_success() && !answer.body["upstreams"].is_object() {
        return Err(sidecar.foreign());
    }
    let Some(upstream) = target.upstream.as_ref().filter(|_| list) else { return Ok(answer.body) };
    match answer.body["upstreams"].get(upstream) {
        Some(one) => Ok(json!({"upstreams": {upstream: one}})),
        None => bail!("upstream `{upstream}` is no embedded engine"),
    }
}

fn sentence(action: &str, answer: &Value) -> String {
    let tokens = |what: &str| format!("{} tokens {what}", answer["tokens"]);
    let name = answer["name"].as_str().unwrap_or_default();
    match action {
        "save" => {
            let bytes = ByteSize::b(answer["bytes"].as_u64().unwrap_or_default());
            tokens(&format!("of slot {} saved as `{name}` ({bytes})", answer["slot"]))
        }
        "restore" => tokens(&format!("of `{name}` restored into slot {}", answer["slot"])),
        "branch" => tokens(&format!("of slot {} copied into slot {}", answer["from"], answer["slot"])),
        _ if answer["offloaded"].is_string() => tokens("that were put by are forgotten"),
        _ if name.is_empty() => tokens(&format!("of slot {} forgotten", answer["slot"])),
        _ => format!("checkpoint `{name}` deleted"),
    }
}

fn print(answer: &Value) {
    let (mut slots, mut saved) = (
        table(&["upstream", "slot", "tokens", "limit", "state"], &[1, 2, 3]),
        table(&["upstream", "checkpoint", "tokens", "size", "saved"], &[2, 3]),
    );
    for (upstream, engine) in answer["upstreams"].as_object().into_iter().flatten() {
        for slot in engine["slots"].as_array().into_iter().flatten() {
            let idle = Duration::from_secs(slot["idle_seconds"].as_u64().unwrap_or_default());
            let state = match (slot["busy"].as_bool(), slot["tokens"].as_u64()) {
                (Some(true), _) => "busy".to_owned(),
                (_, Some(0)) => "empty".to_owned(),
                _ => format!("idle {}", humantime::format_duration(idle)),
            };
            let number = |field: &str| slot[field].to_string();
            slots.add_row([upstream.clone(), number("id"), number("tokens"), number("limit"), state]);
        }
        for one in engine["checkpoints"].as_array().into_iter().flatten() {
            let name = one["name"].as_str().unwrap_or_default().to_owned();
            let size =
                one["bytes"].as_u64().map_or_else(|| "-".to_owned(), |bytes| ByteSize::b(bytes).to_string());
            let tokens = one["tokens"].as_u64().map_or_else(|| "-".to_owned(), |tokens| tokens.to_string());
            let state = one["error"].as_str().map_or_else(|| time(&one["saved"]), str::to_owned);
            saved.add_row([upstream.clone(), name, tokens, size, state]);
        }
    }
    say(slots);
    let put_by = put_by(answer);
    for table in [put_by, saved] {
        if !table.is_empty() {
            say(table);
        }
    }
}

/// Idle conversations that are put by.
fn put_by(answer: &Value) -> comfy_table::Table {
    let mut put_by =
        table(&["upstream", "idle conversation", "tokens", "memory", "disk", "idle"], &[2, 3, 4]);
    for (upstream, engine) in answer["upstreams"].as_object().into_iter().flatten() {
        for one in engine["offloaded"].as_array().into_iter().flatten() {
            let size = |field: &str| {
                one[field].as_u64().map_or_else(|| "-".to_owned(), |bytes| ByteSize::b(bytes).to_string())
            };
            let idle = Duration::from_secs(one["idle_seconds"].as_u64().unwrap_or_default());
            let name = one["name"].as_str().unwrap_or_default().to_owned();
            let (tokens, idle) = (one["tokens"].to_string(), humantime::format_duration(idle).to_string());
            put_by.add_row([upstream.clone(), name, tokens, size("host_bytes"), size("disk_bytes"), idle]);
        }
    }
    put_by
}

/// A Unix time, for people.
fn time(seconds: &Value) -> String {
    let since = Duration::from_secs(seconds.as_u64().unwrap_or_default());
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
}
