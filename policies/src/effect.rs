//! What a step sees, and what it may want.

use crate::conversation::Conversation;
use crate::costed::Waits;
use crate::limits::Limits;
use crate::replay::Marks;
use crate::summaries::{Ask, Summaries};
use crate::tokens::{CountTokens, Tokens};
use crate::weights::Weights;

/// What a step sees.
pub(crate) struct Snapshot<'a> {
    pub(crate) conversation: &'a Conversation,
    /// Exact tokens of its prompt.
    pub(crate) tokens: Tokens,
    pub(crate) limits: Limits,
    /// Tokens that prompt and output may have together, after `memory_budget`: at most the window.
    pub(crate) room: Tokens,
    /// Tokens held back for what is added to the last user message in the end.
    pub(crate) trailing: Tokens,
    pub(crate) marks: Marks,
    /// Arrivals on which a cut waits until the budget is reached.
    pub(crate) waits: &'a Waits,
    /// The most tokens of the summary that a cut leaves; none where the chain does not summarise.
    pub(crate) summary: Option<Tokens>,
    pub(crate) weights: &'a Weights<'a>,
    pub(crate) counter: &'a dyn CountTokens,
    pub(crate) summaries: &'a dyn Summaries,
    /// Whether shortened tool results name their originals.
    pub(crate) originals: bool,
    /// Whether the next cut is to be made now, to prepare for it.
    pub(crate) ahead: bool,
}

/// What a step wants.
pub(crate) enum Effect {
    /// Nothing to do, and why.
    Unchanged(String),
    /// An edit.
    Changed(Change),
    /// The step could not do its work.
    Failed(String),
    /// A summary is needed first.
    Ask(Ask),
    /// A guard refuses.
    Reject(Rejection),
    /// An edit, and a text that ends the last user message of what is sent in the end.
    Trailing(Change, String),
    /// Prompt and output may have no more than this together.
    Ceiling(Tokens, String),
    /// Nothing to do, but somebody should know: the kinds of alert, and why.
    Alert(Vec<&'static str>, String),
}

/// Why a guard refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejection {
    /// Tokens that cannot be dropped.
    pub(crate) unremovable: Tokens,
    /// A ceiling of the guard's own; none where the budget is too small.
    pub(crate) ceiling: Option<Tokens>,
    pub(crate) reason: String,
}

/// An edit, not yet kept.
pub(crate) struct Change {
    pub(crate) conversation: Conversation,
    pub(crate) touched: usize,
    pub(crate) reason: String,
    /// Exact tokens after it, where the step knows them.
    pub(crate) tokens: Option<Tokens>,
    /// Whether the step is kept where it makes the prompt larger.
    pub(crate) may_grow: bool,
    pub(crate) tool: Option<String>,
}
