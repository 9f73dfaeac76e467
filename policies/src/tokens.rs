//! Counting, as policies see it: somebody else's tokenizer behind a trait.

use crate::conversation::{Conversation, Message};

/// A number of tokens of the tokenizer that will run the prompt.
pub type Tokens = u64;

/// How a prompt is counted. Implementations memoise: a chain asks about the same messages at every turn.
pub trait CountTokens: Send + Sync {
    /// The whole prompt as the engine would run it: template, tools, special tokens, generation prompt.
    ///
    /// # Errors
    /// The template refuses the conversation (roles that must alternate, a message of the wrong shape).
    fn prompt(&self, conversation: &Conversation) -> Result<Tokens, CountError>;

    /// What a run of messages adds to a prompt: a pure function of their contents, additive enough to decide by.
    /// The guard verifies with [`CountTokens::prompt`].
    fn messages(&self, messages: &[Message]) -> Tokens;

    /// A plain text.
    fn text(&self, text: &str) -> Tokens;

    /// The tokenizer's name, for reports. Counters that may differ must have different names.
    fn name(&self) -> &str;

    /// Whether counts are estimates of what the engine will see.
    fn estimated(&self) -> bool;

    /// Tokens at the start of the prompt whose KV is held right now: they need not be computed. None where nobody
    /// knows.
    fn resident(&self, conversation: &Conversation) -> Option<Tokens> {
        let _ = conversation;
        None
    }
}

/// A number with its thousands set apart: `3,812`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The template refused the conversation; carries the template's reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the conversation cannot be counted: {0}")]
pub struct CountError(String);

impl CountError {
    /// Wraps the template's own reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// The template's own reason.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.0
    }
}
