//! Rules over a conversation: pure functions from messages, limits and a counter to edits.
//!
//! No IO, no clock, no runtime, no randomness: the same history gives the same bytes on any replica, at any
//! time, after any restart. A [`Chain`] applies its steps in order to a snapshot, measures each in exact tokens,
//! keeps or undoes it, and writes a [`Report`].
#![forbid(unsafe_code)]

mod artifact;
mod conversation;
mod costed;
mod effect;
mod groups;
mod limits;
mod replay;
mod summaries;
mod tokens;
mod trailing;
mod weights;

mod cap_tool_output;
mod clear_thinking;
mod clear_tool_uses;
mod dedupe;
mod drop_images;
mod error_output;
pub mod extract;
mod fit_context;
mod growth_alert;
mod memory_budget;
mod normalize_prefix;
mod rag_budget;
mod reject_over;
mod reserve_output;
mod schema_order;
mod summarize;
mod trim_turns;
mod truncate_middle;
mod volatile;

mod chain;
pub mod config;
mod presets;
mod report;

/// Pieces of a JSON text as byte ranges of it, for readers and writers of other dialects.
pub mod json {
    pub use crate::conversation::scan::{
        Decoded, Field, Span, decode, elements, encode, key_is, last, members,
    };
}

pub use artifact::{Original, READ_TOOL, artifact_id};
pub use chain::{Chain, Context, ContextLength, Refusal, Verdict};
pub use config::{PolicyConfig, PolicyFault, Step, resolve};
pub use conversation::{Conversation, Dropped, Message, ParseError, Role, ToolCall};
pub use limits::Limits;
pub use presets::presets;
pub use report::{Outcome, Report, Row};
pub use summaries::{
    Ask, NoSummaries, Recorded, SUMMARY_HEADER, SpanKey, Summaries, Summariser, body_of, with_header,
};
pub use tokens::{CountError, CountTokens, Tokens};

#[cfg(test)]
extern crate self as plimsoll_policies;
#[cfg(test)]
#[path = "../tests/support.rs"]
mod support;
