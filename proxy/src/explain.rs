//! What a policy would do with a conversation: the chain is run, nothing is forwarded, no model writes a summary.

mod diff;
mod ring;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use plimsoll_policies::{
    Chain, Context, Conversation, CountTokens, Limits, Message, NoSummaries, ParseError, Recorded, Refusal,
    Report, SpanKey, Summaries, Verdict,
};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::task::JoinError;

use crate::live::Live;

pub use diff::diff;
pub use ring::{Entry, Ring};

/// The chain, and what it needs to be run.
pub struct Explain<'a> {
    /// The route's name.
    pub route: &'a str,
    /// The chain.
    pub chain: &'a Chain,
    /// The window, and what is known of the KV cache.
    pub limits: Limits,
    /// How the conversation is counted.
    pub counter: &'a dyn CountTokens,
    /// Summaries that were written before.
    pub summaries: &'a dyn Summaries,
}

/// What would be done.
pub struct Explained {
    /// The route's name.
    pub route: String,
    /// The conversation as it came.
    pub before: Conversation,
    /// The conversation as it would run, with the chain's report; or the refusal.
    pub outcome: Result<(Conversation, Report), Refusal>,
}

/// A conversation cannot be explained.
#[derive(Debug, Error)]
pub enum ExplainError {
    /// No chat request.
    #[error("not a chat request: {0}")]
    Parse(#[from] ParseError),
    /// The query or the path cannot be read.
    #[error("{0}")]
    Query(String),
    /// The body cannot be read.
    #[error("{message}")]
    Body {
        /// Whether it is too long, else it is no text.
        long: bool,
        /// What is wrong.
        message: String,
    },
    /// No route of this name.
    #[error("no route `{name}`: there are {known}")]
    UnknownRoute {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The request's report is not there.
    #[error(
        "no report of request `{id}`: the last {keep} that a policy saw are kept (`explain.keep`), in the process that \
         served them"
    )]
    NotKept {
        /// The id asked for.
        id: String,
        /// Reports that are kept.
        keep: usize,
    },
    /// The policy panicked.
    #[error("the policy failed: {0}")]
    Crashed(JoinError),
}

impl Explain<'_> {
    /// Runs the chain over a chat request.
    pub fn run(&self, body: Arc<str>) -> Result<Explained, ParseError> {
        let before = Conversation::parse_chat(body)?;
        let context = Context { limits: self.limits, counter: self.counter, summaries: self.summaries };
        let outcome = apply(self.chain, &before, &context);
        Ok(Explained { route: self.route.to_owned(), before, outcome })
    }
}

/// Applies a chain without a model: a summary that was not written before counts as failed.
///
/// # Errors
/// The chain refuses the conversation.
pub fn apply(
    chain: &Chain,
    before: &Conversation,
    context: &Context,
) -> Result<(Conversation, Report), Refusal> {
    let summaries = Unwritten { written: context.summaries, asked: Mutex::default() };
    let context = Context { summaries: &summaries, ..*context };
    loop {
        match chain.apply(before, &context)? {
            Verdict::Done { conversation, report } => return Ok((conversation, report)),
            Verdict::Ask(ask) => summaries.asked().insert(ask.key),
        };
    }
}

/// Explains by the configuration in force; by the last route, which takes everything, where none is named.
pub fn live(live: &Live, route: Option<&str>, body: Arc<str>) -> Result<Explained, ExplainError> {
    let chosen = match route {
        Some(name) => live.routes.iter().find(|route| &*route.name == name),
        None => live.routes.last(),
    };
    let chosen = chosen.ok_or_else(|| ExplainError::UnknownRoute {
        name: route.unwrap_or_default().to_owned(),
        known: live.routes.iter().map(|route| format!("`{}`", route.name)).collect::<Vec<_>>().join(", "),
    })?;
    let counter = chosen.upstream.counter(model(&body).as_deref());
    let explain = Explain {
        route: &chosen.name,
        chain: &chosen.chain,
        limits: chosen.limits(),
        counter: counter.as_dyn(),
        summaries: live.summaries.as_ref(),
    };
    Ok(explain.run(body)?)
}

/// The model that a body names; only estimates depend on it.
pub fn model(body: &Arc<str>) -> Option<String> {
    let conversation = Conversation::parse_chat(body.clone()).ok()?;
    serde_json::from_str(conversation.field("model")?).ok()
}

/// What of a conversation is shown beside its report.
#[derive(Debug, Clone, Copy, Default)]
pub struct Show {
    /// The messages as they would run.
    pub messages: bool,
    /// What differs from the messages as they came.
    pub diff: bool,
}

impl Explained {
    /// The report, and what else is to be shown.
    pub fn to_json(&self, show: Show) -> Value {
        match &self.outcome {
            Ok((conversation, report)) => {
                let mut value = reported(&self.route, report, conversation.is_changed());
                add_content(&mut value, &self.before, conversation, show);
                value
            }
            Err(refusal) => refused(&self.route, refusal),
        }
    }
}

fn reported(route: &str, report: &Report, changed: bool) -> Value {
    json!({"route": route, "changed": changed, "actions": crate::stamp::actions(report), "report": report})
}

fn refused(route: &str, refusal: &Refusal) -> Value {
    json!({"route": route, "refused": refusal.to_string(), "figures": figures(refusal)})
}

fn add_content(value: &mut Value, before: &Conversation, after: &Conversation, show: Show) {
    if show.messages {
        value["messages"] = messages(after);
    }
    if show.diff {
        value["diff"] = diff(before, after).into();
    }
}

/// The messages of a conversation as JSON, as they would be sent.
pub fn messages(conversation: &Conversation) -> Value {
    let read = |message: &Message| serde_json::from_str::<Value>(message.json()).unwrap_or_default();
    conversation.messages().iter().map(read).collect()
}

fn figures(refusal: &Refusal) -> Value {
    match refusal {
        Refusal::ContextLength(figures) => json!(figures),
        Refusal::Count(_) => Value::Null,
    }
}

/// Summaries that were written before; any other counts as failed, so that the policy's `on_failure` shows.
struct Unwritten<'a> {
    written: &'a dyn Summaries,
    asked: Mutex<HashSet<SpanKey>>,
}

impl Unwritten<'_> {
    fn asked(&self) -> std::sync::MutexGuard<'_, HashSet<SpanKey>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Summaries for Unwritten<'_> {
    fn get(&self, key: &SpanKey) -> Option<Recorded> {
        let failed = || self.asked().contains(key).then_some(Recorded::Failed { passing: false });
        let written = self.written.get(key).filter(|written| matches!(written, Recorded::Text(_)));
        written.or_else(failed).or_else(|| self.written.get(key))
    }
}

/// No summary was ever written.
pub const NONE: NoSummaries = NoSummaries;
