//! The built-in extractive summary: what a conversation must not forget, in its own words.
//!
//! Deterministic, without a model, in time linear in the text: each message is cut into sentences (tool results into
//! lines), each piece is judged by its words (`cues`), a correction takes out what it corrects, and the most
//! valuable pieces that fit are quoted in their order: what users told about themselves and their world, decisions
//! and errors, the last requests, then pieces that name identifiers nothing else names. The lines of a former summary
//! come first, so that summing up in steps keeps the facts. The cues are English; text of other languages is kept by
//! its identifiers and by each message's last sentence.
//!
//! `- user: My order number is ORD-48213.` is the form that the demo model answers best from (`make demo-eval`).

mod choose;
mod cues;
mod identifiers;
mod ledger;
mod lines;
mod sentences;
mod summary;

use std::borrow::Cow;

use self::cues::Speaker;
pub use self::identifiers::{identifiers, recall};
use self::lines::Said;
use crate::{CountTokens, Message, Role, Tokens};

/// A summary of `messages` in lines `- ...`, at most `max_tokens` long as `counter` counts the text.
///
/// `previous` is the text of the summary that stands for everything before `messages`, written by this function or by a
/// model: its lines are carried over first, without those that a later correction replaces. The result is empty where
/// nothing fits or nothing is worth keeping. System and developer messages are never dropped, so they are not read.
#[must_use]
pub fn extract(
    messages: &[Message],
    previous: Option<&str>,
    max_tokens: Tokens,
    counter: &dyn CountTokens,
) -> String {
    let said: Vec<Said<'_>> = messages.iter().flat_map(said).collect();
    summary::summary(&said, previous, max_tokens, &|text| counter.text(text))
}

/// A line that names as many of these identifiers, given oldest first, as `max_tokens` holds; none where none fits.
pub(crate) fn also_named(names: &[&str], max_tokens: Tokens, counter: &dyn CountTokens) -> Option<String> {
    ledger::Ledger::new(names, max_tokens, &|text| counter.text(text)).line()
}

/// The text of a message and its tool calls, in their order on the wire.
fn said(message: &Message) -> Vec<Said<'_>> {
    let speaker = match message.role() {
        Role::User => Speaker::User,
        Role::Assistant => Speaker::Assistant,
        Role::Tool => Speaker::Tool,
        Role::System | Role::Developer | Role::Other => return Vec::new(),
    };
    let calls = message.tool_calls().iter().map(|call| {
        let text = Cow::Owned(format!("{} {}", call.name, call.arguments));
        Said { speaker: Speaker::Call, text }
    });
    let text = Said { speaker, text: Cow::Borrowed(message.text()) };
    std::iter::once(text).chain(calls).collect()
}

#[cfg(test)]
#[path = "extract_tests.rs"]
mod tests;
