//! Counts as the engine will: the template renders, the tokenizer encodes, memos remember both.

use std::convert::Infallible;
use std::slice;
use std::sync::Arc;
use std::time::SystemTime;

use plimsoll_engine::text::{self, Encoded, TemplateMessage, Text};
use plimsoll_policies::{Conversation, CountError, CountTokens, Message, Tokens};
use quick_cache::sync::Cache;
use serde_json::{Map, Value};

use super::known::{Known, Texts};
use super::lossy;
use crate::parse::Prompt;

/// Whole prompts kept: one for each conversation that is likely to come back.
const PROMPTS: usize = 256;
/// Weights of runs of messages kept, a few bytes each.
const WEIGHTS: usize = 65_536;

/// Counts by a model folder.
pub struct Exact {
    /// Tokenizer and template of the folder.
    pub text: Arc<Text>,
    name: String,
    texts: Texts,
    /// By the texts that make them: tools, template variables, messages.
    prompts: Cache<Vec<u64>, Arc<Encoded>>,
    weights: Cache<Vec<u64>, Tokens>,
    read: Read,
}

/// Reads JSON text.
type Read = fn(&str) -> Result<Value, CountError>;

impl Exact {
    /// A counter over a model folder's text side; `name` is what reports call it. It refuses what is no Unicode text.
    pub fn new(text: Arc<Text>, name: impl Into<String>) -> Self {
        let (texts, prompts, weights) = (Texts::new(), Cache::new(PROMPTS), Cache::new(WEIGHTS));
        Self { text, name: name.into(), texts, prompts, weights, read: parse }
    }

    /// A counter of what somebody else judges: half a surrogate pair counts as U+FFFD.
    #[must_use]
    pub fn lossy(self) -> Self {
        Self { read: lossy::parse, ..self }
    }

    /// The prompt of a conversation as the engine runs it.
    pub fn ids(&self, conversation: &Conversation) -> Result<Arc<[u32]>, CountError> {
        self.encoded(conversation).map(|prompt| prompt.ids())
    }

    /// The prompt of messages that are no request of a client, with the raw JSON of a request's tools.
    pub fn ids_with(&self, messages: &[Message], tools: Option<&str>) -> Result<Arc<[u32]>, CountError> {
        let known = self.texts.all(messages);
        let rendered = self.render(messages, &known, tools, None)?;
        Ok(self.encode(&rendered)?.ids())
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

    fn encoded(&self, conversation: &Conversation) -> Result<Arc<Encoded>, CountError> {
        let (tools, kwargs) = (conversation.tools(), conversation.field("chat_template_kwargs"));
        let known = self.texts.all(conversation.messages());
        let extras = [tools, kwargs].map(|extra| extra.map_or(0, |text| self.texts.get(text).id));
        let key: Vec<u64> = extras.into_iter().chain(ids(&known)).collect();
        self.prompts.get_or_insert_with(&key, || {
            let rendered = self.render(conversation.messages(), &known, tools, kwargs)?;
            self.encode(&rendered).map(Arc::new)
        })
    }

    fn render(
        &self,
        messages: &[Message],
        known: &[Arc<Known>],
        tools: Option<&str>,
        kwargs: Option<&str>,
    ) -> Result<String, CountError> {
        let tools = tools.map(self.read).transpose()?.filter(|tools| !is_empty(tools));
        let kwargs = kwargs.map(self.read).transpose()?.and_then(object).unwrap_or_default();
        let read = self.read(messages, known, tools.is_some())?;
        let (tools, kwargs, now) = (tools.as_ref(), &kwargs, SystemTime::now());
        let prompt = text::Prompt { messages: &[], tools, add_generation_prompt: true, kwargs, now };
        self.text.render_read(read, &prompt).map_err(|error| CountError::new(error.to_string()))
    }

    /// The messages as the template takes them.
    fn read(
        &self,
        messages: &[Message],
        known: &[Arc<Known>],
        tools: bool,
    ) -> Result<Vec<TemplateMessage>, CountError> {
        let one = |(message, known): (&Message, &Arc<Known>)| {
            let slot = &known.read[usize::from(tools)];
            if let Some(read) = slot.get() {
                return Ok(read.clone());
            }
            let read = self.text.message(&(self.read)(message.json())?, tools);
            Ok(slot.get_or_init(|| read).clone())
        };
        messages.iter().zip(known).map(one).collect()
    }

    fn encode(&self, rendered: &str) -> Result<Encoded, CountError> {
        self.text.encode(rendered).map_err(|error| CountError::new(error.to_string()))
    }

    /// A template that refuses messages on their own (roles must alternate, say) still has their text in it.
    fn weigh(&self, messages: &[Message], known: &[Arc<Known>]) -> Tokens {
        let weight = self.read(messages, known, false).ok().and_then(|read| self.text.weigh(&read).ok());
        weight.map_or_else(|| messages.iter().map(|m| self.text(m.json())).sum(), |weight| weight as Tokens)
    }
}

impl CountTokens for Exact {
    fn prompt(&self, conversation: &Conversation) -> Result<Tokens, CountError> {
        self.encoded(conversation).map(|prompt| prompt.tokens() as Tokens)
    }

    fn messages(&self, messages: &[Message]) -> Tokens {
        let known = self.texts.all(messages);
        if let [one] = known.as_slice() {
            return *one.weight.get_or_init(|| self.weigh(messages, slice::from_ref(one)));
        }
        let key: Vec<u64> = ids(&known).collect();
        let weigh = || Ok::<_, Infallible>(self.weigh(messages, &known));
        let Ok(weight) = self.weights.get_or_insert_with(&key, weigh);
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

fn ids(known: &[Arc<Known>]) -> impl Iterator<Item = u64> {
    known.iter().map(|known| known.id)
}

pub(super) fn parse(json: &str) -> Result<Value, CountError> {
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
