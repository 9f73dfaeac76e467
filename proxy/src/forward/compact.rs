//! A conversation in short: what users said stays as it is, and the built-in summariser, which needs no model and cannot
//! fail, says the rest.

use http::Response;
use plimsoll_policies::extract::extract;
use plimsoll_policies::{Conversation, CountTokens, Message, Role, Tokens, body_of};
use serde_json::Value;
use tower::BoxError;

use crate::admit::{AdmitFault, Compacting};
use crate::body::Body;
use crate::parse::CallError;
use crate::respond;
use crate::stamp;

/// Tokens that the summary may have, at most an eighth of the window, as `summarize` has it.
const MAX_TOKENS: Tokens = 1024;

/// What is said where nothing but users' messages is there, or nothing of the rest fits.
const NOTHING: &str = "- nothing else that must be kept";

/// Answers beside the other requests: long conversations take a while.
pub(super) async fn answer(compacting: Compacting) -> Result<Response<Body>, BoxError> {
    tokio::task::spawn_blocking(move || compacted(&compacting)).await?
}

fn compacted(compacting: &Compacting) -> Result<Response<Body>, BoxError> {
    let Compacting { engine, envelope, conversation } = compacting;
    let counter = &*engine.counter;
    let tokens =
        counter.prompt(conversation).map_err(|error| AdmitFault { param: "messages", why: error.into() })?;
    let summary = summary(conversation, MAX_TOKENS.min(Tokens::from(engine.engine.context()) / 8), counter);
    let answer: Option<Value> = envelope
        .original
        .as_ref()
        .and_then(|original| original.compacted(&summary, tokens, counter.text(&summary)));
    let answer = answer.ok_or_else(|| CallError::UnknownUrl {
        method: envelope.head.method.to_string(),
        path: envelope.head.uri.path().to_owned(),
    })?;
    let mut response = respond::json(&answer);
    response.headers_mut().extend(stamp::stamp(envelope, None));
    Ok(response)
}

/// What was said but by users, with the summaries that stand for what was before.
fn summary(conversation: &Conversation, most: Tokens, counter: &dyn CountTokens) -> String {
    let messages = conversation.messages();
    let others: Vec<Message> = messages
        .iter()
        .filter(|message| matches!(message.role(), Role::Assistant | Role::Tool))
        .cloned()
        .collect();
    let before: Vec<&str> = messages.iter().filter_map(|message| body_of(message.text())).collect();
    let before = (!before.is_empty()).then(|| before.join("\n"));
    let summary = extract(&others, before.as_deref(), most, counter);
    if summary.is_empty() { NOTHING.to_owned() } else { summary }
}
