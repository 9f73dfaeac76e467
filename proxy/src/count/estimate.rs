//! Counts by tiktoken, marked as an estimate.

use plimsoll_policies::{Conversation, CountError, CountTokens, Message, Tokens};
use tiktoken_rs::CoreBPE;

use super::known::Texts;

/// Counts by a tiktoken encoding with OpenAI's published overheads.
pub struct Estimate {
    encoding: &'static CoreBPE,
    name: &'static str,
    texts: Texts,
}

/// Tokens around each message, and those that start the answer (OpenAI cookbook, "How to count tokens").
const PER_MESSAGE: Tokens = 3;
const REPLY: Tokens = 3;
/// Every role's name is one token.
const ROLE: Tokens = 1;

impl Estimate {
    /// The encoding that OpenAI uses for a model name; `o200k_base` where the name says nothing.
    pub fn encoding_for(model: Option<&str>) -> &'static str {
        use tiktoken_rs::tokenizer::{Tokenizer, get_tokenizer};
        match model.and_then(get_tokenizer) {
            Some(Tokenizer::Cl100kBase) => "cl100k_base",
            Some(Tokenizer::O200kHarmony) => "o200k_harmony",
            _ => "o200k_base",
        }
    }

    /// A counter by an encoding that [`Estimate::encoding_for`] names.
    pub fn new(name: &'static str) -> Self {
        let encoding = match name {
            "cl100k_base" => tiktoken_rs::cl100k_base_singleton(),
            "o200k_harmony" => tiktoken_rs::o200k_harmony_singleton(),
            _ => tiktoken_rs::o200k_base_singleton(),
        };
        Self { encoding, name, texts: Texts::new() }
    }

    fn weigh(&self, message: &Message) -> Tokens {
        let calls = message.tool_calls();
        let calls: Tokens =
            calls.iter().map(|call| self.text(&call.name) + self.text(&call.arguments) + 1).sum();
        PER_MESSAGE + ROLE + self.text(message.text()) + calls
    }
}

impl CountTokens for Estimate {
    fn prompt(&self, conversation: &Conversation) -> Result<Tokens, CountError> {
        let tools = conversation.tools().map_or(0, |tools| self.text(tools));
        Ok(REPLY + tools + self.messages(conversation.messages()))
    }

    fn messages(&self, messages: &[Message]) -> Tokens {
        let weigh = |message: &Message| {
            let known = self.texts.get(message.json());
            *known.weight.get_or_init(|| self.weigh(message))
        };
        messages.iter().map(weigh).sum()
    }

    fn text(&self, text: &str) -> Tokens {
        self.encoding.count_ordinary(text) as Tokens
    }

    fn name(&self) -> &str {
        self.name
    }

    fn estimated(&self) -> bool {
        true
    }
}
