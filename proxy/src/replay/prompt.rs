//! Prompts as a prefix cache sees them.

use std::sync::Arc;

use plimsoll_policies::{Conversation, CountError, Tokens};

use crate::count::Counter;

/// A prompt with what it shares with others.
pub(super) struct Prompt {
    /// Its length.
    pub(super) tokens: Tokens,
    content: Content,
}

enum Content {
    /// By a model folder.
    Ids(Arc<[u32]>),
    /// Without the ids: tools and messages, each with its tokens.
    Parts(Vec<(String, Tokens)>),
}

impl Prompt {
    pub(super) fn new(counter: &Counter, conversation: &Conversation) -> Result<Self, CountError> {
        match counter {
            Counter::Exact(exact) => {
                let ids = exact.ids(conversation)?;
                Ok(Self { tokens: ids.len() as Tokens, content: Content::Ids(ids) })
            }
            Counter::Estimate(_) | Counter::Asked(_) => {
                let counter = counter.as_dyn();
                let tools = conversation.tools().map(|tools| (tools.to_owned(), counter.text(tools)));
                let messages = conversation.messages().iter();
                let weigh = |message| counter.messages(std::slice::from_ref(message));
                let messages = messages.map(|message| (message.json().to_owned(), weigh(message)));
                let parts = tools.into_iter().chain(messages).collect();
                Ok(Self { tokens: counter.prompt(conversation)?, content: Content::Parts(parts) })
            }
        }
    }

    /// Tokens at the start that are the same as the former prompt's, and whether all of the former is among them.
    pub(super) fn shared(&self, former: &Self) -> (Tokens, bool) {
        match (&self.content, &former.content) {
            (Content::Ids(ids), Content::Ids(former)) => {
                let same = ids.iter().zip(former.iter()).take_while(|(id, old)| id == old).count();
                (same as Tokens, same == former.len())
            }
            (Content::Parts(parts), Content::Parts(former)) => {
                let same = parts.iter().zip(former).take_while(|(part, old)| part == old).count();
                (parts[..same].iter().map(|(_, tokens)| tokens).sum(), same == former.len())
            }
            _ => (0, false),
        }
    }
}
