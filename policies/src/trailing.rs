//! A text that ends the last user message of what is sent: added when every cut is made.
//!
//! It stands after all that stays the same. What a history was cut by must not depend on it, for the next request has
//! it in another place: while the steps run, the budget is smaller by its room instead.

use crate::conversation::{Conversation, Message, encode};
use crate::summaries::last_user;
use crate::tokens::{CountTokens, Tokens};

/// Its room comes in steps of this many tokens, so that a word more or less moves no mark.
const STEP: Tokens = 32;

/// A text and the tokens held back for it.
#[derive(Debug)]
pub(crate) struct Trailing {
    text: String,
    room: Tokens,
}

impl Trailing {
    /// None where the conversation has no user message that can hold it, or cannot be counted with it.
    pub(crate) fn measured(
        text: String,
        conversation: &Conversation,
        counter: &dyn CountTokens,
    ) -> Option<Self> {
        let trailing = Self { text, room: 0 };
        trailing.placed(conversation)?;
        let tokens = |conversation: &Conversation| counter.prompt(conversation).ok();
        let added = tokens(&trailing.added(conversation))?.saturating_sub(tokens(conversation)?);
        Some(Self { room: (added + 1).next_multiple_of(STEP), ..trailing })
    }

    /// Whether a conversation has a user message that can hold such a text.
    pub(crate) fn has_place(conversation: &Conversation) -> bool {
        Self { text: String::new(), room: 0 }.placed(conversation).is_some()
    }

    /// Tokens held back for it.
    pub(crate) fn room(&self) -> Tokens {
        self.room
    }

    /// The conversation with it.
    pub(crate) fn added(&self, conversation: &Conversation) -> Conversation {
        match self.placed(conversation) {
            Some((index, message)) => conversation.with_messages(vec![(index, message)]),
            None => conversation.clone(),
        }
    }

    /// The last user message with the text as its last part; where its content is a string, as its last
    /// paragraph.
    fn placed(&self, conversation: &Conversation) -> Option<(usize, Message)> {
        let index = last_user(conversation.messages())?;
        let message = &conversation.messages()[index];
        // Just before the bracket or the quote that ends the content: no byte of it changes.
        let end = message.content()?.end - 1;
        let raw = message.raw_content();
        let text = if raw.starts_with('[') {
            let comma = if message.parts().is_empty() { "" } else { "," };
            format!(r#"{comma}{{"type":"text","text":{}}}"#, encode(&self.text))
        } else if raw.starts_with('"') {
            encode(&format!("\n\n{}", self.text)).trim_matches('"').to_owned()
        } else {
            return None;
        };
        Some((index, message.with_parts(&[(end..end, text)])))
    }
}
