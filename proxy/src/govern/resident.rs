//! A counter that also tells what the route's own engine holds.

use plimsoll_policies::{Conversation, CountError, CountTokens, Message, Tokens};

use crate::count::Counter;
use crate::live::Kind;

/// Counts as the counter does; on an embedded engine it knows what of a prompt is in a slot.
pub(super) struct Resident<'a> {
    counter: &'a Counter,
    upstream: &'a Kind,
}

impl<'a> Resident<'a> {
    pub(super) fn new(counter: &'a Counter, upstream: &'a Kind) -> Self {
        Self { counter, upstream }
    }
}

impl CountTokens for Resident<'_> {
    fn prompt(&self, conversation: &Conversation) -> Result<Tokens, CountError> {
        self.counter.as_dyn().prompt(conversation)
    }

    fn messages(&self, messages: &[Message]) -> Tokens {
        self.counter.as_dyn().messages(messages)
    }

    fn text(&self, text: &str) -> Tokens {
        self.counter.as_dyn().text(text)
    }

    fn name(&self) -> &str {
        self.counter.as_dyn().name()
    }

    fn estimated(&self) -> bool {
        self.counter.as_dyn().estimated()
    }

    /// The ids are remembered from counting: this compares them with each slot's.
    fn resident(&self, conversation: &Conversation) -> Option<Tokens> {
        let (Counter::Exact(exact), Kind::Engine(embedded)) = (self.counter, self.upstream) else {
            return None;
        };
        let prompt = exact.ids(conversation).ok()?;
        Some(Tokens::from(embedded.engine.resident_prefix(&prompt)))
    }
}
