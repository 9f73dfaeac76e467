//! Counts a conversation's tokens: exactly by the model's own template and tokenizer, or by tiktoken, marked as an estimate.

mod lossy;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::SystemTime;

use plimsoll_engine::text::{self, TemplateMessage, Text};
use plimsoll_policies::{Conversation, CountError, CountTokens, Message, SpanKey, Tokens};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde_json::{Map, Value};
use tiktoken_rs::CoreBPE;

use crate::parse::{Call, Prompt};

/// Whole prompts kept: one for each conversation that is likely to come back.
const PROMPTS: usize = 256;
/// Weights of messages kept, a few bytes each.
const WEIGHTS: usize = 65_536;
/// Bytes of messages kept as templates take them, and about as many of their text.
const MESSAGES: u64 = 32 << 20;
/// A guess of a message's length, for the memo's first allocation.
const TYPICAL_MESSAGE: u64 = 1024;

/// A call with the counter that its upstream is counted by.
pub struct Counted {
    /// The call.
    pub call: Call,
    /// How it is counted; `None` where there is no conversation.
    pub counter: Option<Counter>,
}

/// Chooses the counter of a call. The chain does the counting itself, before and after, through the counter's memo.
pub fn count(call: Call) -> Counted {
    let upstream = &call.envelope.route.upstream;
    let counter = call.work.chat().map(|chat| upstream.counter(chat.model.as_deref()));
    Counted { call, counter }
}

/// How one upstream's tokens are counted.
#[derive(Clone)]
pub enum Counter {
    /// By the model folder.
    Exact(Arc<Exact>),
    /// By the nearest public encoding.
    Estimate(Arc<Estimate>),
}

impl Counter {
    /// The counter as policies see it.
    pub fn as_dyn(&self) -> &dyn CountTokens {
        match self {
            Self::Exact(exact) => exact.as_ref(),
            Self::Estimate(estimate) => estimate.as_ref(),
        }
    }
}

/// Counts as the engine will: the template renders, the tokenizer encodes, memos remember both.
pub struct Exact {
    /// Tokenizer and template of the folder.
    pub text: Arc<Text>,
    name: String,
    prompts: Cache<SpanKey, Arc<[u32]>>,
    weights: Cache<SpanKey, Tokens>,
    /// By their JSON, for prompts without tools and for those with.
    messages: [Cache<Box<str>, TemplateMessage, ByLength>; 2],
    read: Read,
}

#[derive(Clone)]
struct ByLength;

impl Weighter<Box<str>, TemplateMessage> for ByLength {
    fn weight(&self, json: &Box<str>, _: &TemplateMessage) -> u64 {
        json.len().max(1) as u64
    }
}

/// Reads JSON text.
type Read = fn(&str) -> Result<Value, CountError>;

impl Exact {
    /// A counter over a model folder's text side; `name` is what reports call it. It refuses what is no Unicode text.
    pub fn new(text: Arc<Text>, name: impl Into<String>) -> Self {
        let items = usize::try_from(MESSAGES / TYPICAL_MESSAGE).unwrap_or(usize::MAX);
        let messages = [(); 2].map(|()| Cache::with_weighter(items, MESSAGES / 2, ByLength));
        let (prompts, weights) = (Cache::new(PROMPTS), Cache::new(WEIGHTS));
        Self { text, name: name.into(), prompts, weights, messages, read: parse }
    }

    /// A counter of what somebody else judges: half a surrogate pair counts as U+FFFD.
    #[must_use]
    pub fn lossy(self) -> Self {
        Self { read: lossy::parse, ..self }
    }

    /// The prompt of a conversation as the engine runs it.
    pub fn ids(&self, conversation: &Conversation) -> Result<Arc<[u32]>, CountError> {
        let kwargs = conversation.field("chat_template_kwargs");
        let key = key([conversation.tools(), kwargs], conversation.messages());
        self.prompts.get_or_insert_with(&key, || {
            let tools = conversation.tools().map(self.read).transpose()?.filter(|tools| !is_empty(tools));
            let kwargs = kwargs.map(self.read).transpose()?.and_then(object).unwrap_or_default();
            let rendered = self.render(conversation.messages(), tools.as_ref(), &kwargs)?;
            self.encode(&rendered)
        })
    }

    /// The prompt of messages that are no request of a client, with the raw JSON of a request's tools.
    pub fn ids_with(&self, messages: &[Message], tools: Option<&str>) -> Result<Arc<[u32]>, CountError> {
        let tools = tools.map(self.read).transpose()?.filter(|tools| !is_empty(tools));
        let rendered = self.render(messages, tools.as_ref(), &Map::new())?;
        self.encode(&rendered)
    }

    /// The prompt of a legacy completion.
    pub fn plain(&self, prompt: &Prompt) -> Result<Arc<[u32]>, CountError> {
        match prompt {
            Prompt::Tokens(ids) => Ok(ids.as_slice().into()),
            Prompt::Text(text) => {
                let ids = self.text.encode_plain(text);
                ids.map(Into::into).map_err(|error| CountError::new(error.to_string()))
            }
        }
    }

    fn values(&self, messages: &[Message]) -> Result<Vec<Value>, CountError> {
        messages.iter().map(|message| (self.read)(message.json())).collect()
    }

    fn render(
        &self,
        messages: &[Message],
        tools: Option<&Value>,
        kwargs: &Map<String, Value>,
    ) -> Result<String, CountError> {
        let read: Result<Vec<_>, _> =
            messages.iter().map(|message| self.message(message.json(), tools.is_some())).collect();
        let now = SystemTime::now();
        let prompt = text::Prompt { messages: &[], tools, add_generation_prompt: true, kwargs, now };
        self.text.render_read(read?, &prompt).map_err(|error| CountError::new(error.to_string()))
    }

    /// A message as the template takes it; a conversation brings all but its last ones again.
    fn message(&self, json: &str, tools: bool) -> Result<TemplateMessage, CountError> {
        let known = &self.messages[usize::from(tools)];
        if let Some(message) = known.get(json) {
            return Ok(message);
        }
        let message = self.text.message(&(self.read)(json)?, tools);
        known.insert(json.into(), message.clone());
        Ok(message)
    }

    fn encode(&self, rendered: &str) -> Result<Arc<[u32]>, CountError> {
        self.text.encode(rendered).map_err(|error| CountError::new(error.to_string()))
    }

    /// A template that refuses messages on their own (roles must alternate, say) still has their text in it.
    fn weigh(&self, messages: &[Message]) -> Tokens {
        let weight = self.values(messages).ok().and_then(|values| self.text.weigh(&values).ok());
        weight.map_or_else(|| messages.iter().map(|m| self.text(m.json())).sum(), |weight| weight as Tokens)
    }
}

impl CountTokens for Exact {
    fn prompt(&self, conversation: &Conversation) -> Result<Tokens, CountError> {
        self.ids(conversation).map(|ids| ids.len() as Tokens)
    }

    fn messages(&self, messages: &[Message]) -> Tokens {
        let key = key([None, None], messages);
        let Ok(weight) = self.weights.get_or_insert_with(&key, || Ok::<_, Infallible>(self.weigh(messages)));
        weight
    }

    fn text(&self, text: &str) -> Tokens {
        self.text.count(text).map_or(0, |count| count as Tokens)
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn estimated(&self) -> bool {
        false
    }
}

/// Counts by a tiktoken encoding with OpenAI's published overheads.
pub struct Estimate {
    encoding: &'static CoreBPE,
    name: &'static str,
    weights: Cache<SpanKey, Tokens>,
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
        Self { encoding, name, weights: Cache::new(WEIGHTS) }
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
        let weigh = |message| {
            let key = key([None, None], std::slice::from_ref(message));
            let Ok(weight) =
                self.weights.get_or_insert_with(&key, || Ok::<_, Infallible>(self.weigh(message)));
            weight
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

/// A key by content.
fn key(extras: [Option<&str>; 2], messages: &[Message]) -> SpanKey {
    let texts = extras.into_iter().map(Option::unwrap_or_default).chain(messages.iter().map(Message::json));
    SpanKey::of(texts.map(str::as_bytes))
}

fn parse(json: &str) -> Result<Value, CountError> {
    serde_json::from_str(json).map_err(|error| CountError::new(format!("cannot be read: {error}")))
}

fn object(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

fn is_empty(tools: &Value) -> bool {
    tools.is_null() || tools.as_array().is_some_and(Vec::is_empty)
}
