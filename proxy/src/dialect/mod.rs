//! Dialects of the wire. All behind [`parse`](crate::parse) works on OpenAI's chat form and knows no other: a request
//! of another dialect is translated at the door, and what comes of it is written back in its caller's own.
//!
//! A dialect is a module here: it translates a body ([`Dialect::translate`]), keeps how the two forms correspond
//! ([`Original`]), and writes answers ([`Reply`]) and errors ([`Fault`](crate::respond::Fault)).

pub(crate) mod anthropic;
pub(crate) mod ollama;
mod raw;
mod responses;

use std::sync::Arc;

use plimsoll_policies::{Conversation, ParseError, Step, Tokens};
use serde_json::Value;
use thiserror::Error;

use crate::admit::Run;
use crate::config;
use crate::forward::{Seen, Usage};
use crate::identify::Api;
use crate::live::Embedded;
use crate::parse::{OptionError, Prompt};
use crate::stream::Reply;
use crate::telemetry::Said;

/// What a client speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's chat completions and completions, and every path that is no other dialect's.
    #[default]
    OpenAi,
    /// Ollama's own API.
    Ollama,
    /// Anthropic's Messages.
    Anthropic,
    /// OpenAI's Responses API.
    Responses,
}

impl Dialect {
    /// The dialect of a path in its plain spelling, of known APIs and of others beside them.
    pub fn of(path: &str) -> Self {
        let below =
            |base: &str| path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let known =
            [("/v1/messages", Self::Anthropic), ("/api", Self::Ollama), ("/v1/responses", Self::Responses)];
        known.into_iter().find(|(base, _)| below(base)).map_or(Self::OpenAi, |(_, dialect)| dialect)
    }

    /// The name in configuration, traces and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Ollama => "ollama",
            Self::Anthropic => "anthropic",
            Self::Responses => "responses",
        }
    }

    /// The dialect of the servers that have its paths.
    pub const fn server(self) -> config::Dialect {
        match self {
            Self::OpenAi | Self::Responses => config::Dialect::Openai,
            Self::Anthropic => config::Dialect::Anthropic,
            Self::Ollama => config::Dialect::Ollama,
        }
    }

    /// A member of the chat form as the dialect names it.
    pub fn renamed(self, member: &str) -> &str {
        match self {
            Self::OpenAi => member,
            Self::Anthropic => anthropic::renamed(member),
            Self::Ollama => ollama::renamed(member),
            Self::Responses => responses::renamed(member),
        }
    }

    /// Translates a body; none where the dialect is OpenAI's, whose body is the conversation itself.
    ///
    /// # Errors
    /// Bytes that are no JSON, or a request that is not of the dialect's form.
    pub fn translate(self, api: Api, body: &str) -> Result<Option<Translated>, DialectError> {
        match self {
            Self::OpenAi => Ok(None),
            Self::Anthropic => anthropic::translate(api, body).map(Some),
            Self::Ollama => ollama::translate(api, body),
            Self::Responses => responses::translate(body).map(Some),
        }
    }
}

/// A request in OpenAI's form.
pub struct Translated {
    /// The body of an equivalent chat request.
    pub json: Arc<str>,
    /// What it was.
    pub original: Arc<dyn Original>,
}

/// A request of another dialect behind its OpenAI form.
pub trait Original: Send + Sync {
    /// The body in its own dialect with the edits of a conversation: messages by their slots. Bytes that no edit touches
    /// stay.
    fn write(&self, conversation: &Conversation) -> String;

    /// The place in the caller's body of a place in the OpenAI form, such as `messages[3].content` or `stop`.
    fn place(&self, param: &str) -> String;

    /// Writes the answer of the embedded engine.
    fn reply(&self, run: &Run) -> Box<dyn Reply>;

    /// The usage in what was seen of a server's answer; none where there is none.
    fn usage(&self, seen: &Seen) -> Option<Usage>;

    /// Reads a server's answer, whole or streamed, for the trace.
    fn said(&self, body: &str, said: &mut Said);

    /// What the embedded engine cannot do of this request, though it can be told in OpenAI's form: the place in the
    /// caller's body, what is wrong and what to send instead.
    fn unserved(&self) -> Option<OptionError> {
        None
    }

    /// The field of the caller's body for which no policy may touch it: what is sent is not all that the model reads. A
    /// server gets the original bytes.
    fn ungoverned(&self) -> Option<&'static str> {
        None
    }

    /// Tokens that prompt and answer may have together, where the request says so.
    fn window(&self) -> Option<Tokens> {
        None
    }

    /// What the embedded engine does where it does not answer the conversation.
    ///
    /// # Errors
    /// The engine's model cannot do it: the place in the caller's body, what is wrong and what to send instead.
    fn instead(&self, _engine: &Embedded) -> Result<Option<Instead>, OptionError> {
        Ok(None)
    }

    /// The field by which the caller forbids that what does not fit is cut: it goes on as it came then, to be refused.
    fn forbids_cuts(&self) -> Option<&'static str> {
        None
    }

    /// Edits that the caller asks for itself, ahead of the route's policy; of the embedded engine alone.
    fn edits(&self) -> Vec<Step> {
        Vec::new()
    }

    /// What is answered where the conversation is asked for in short: what cannot be said shorter, and a summary of all
    /// else. Takes the summary, and the tokens of the conversation and of the summary; none where the dialect has no such
    /// answer.
    fn compacted(&self, _summary: &str, _tokens: Tokens, _written: Tokens) -> Option<Value> {
        None
    }

    /// What is answered where only the count is asked for: tokens as the policy would send them, and as they came.
    fn counted(&self, tokens: Tokens, before: Tokens) -> Value;
}

/// What a request asks of the embedded engine in place of an answer to its conversation.
pub enum Instead {
    /// To go on from a text or tokens as they are.
    Text(Prompt),
    /// To go on from a conversation that is tokens already.
    Continued(Vec<u32>),
    /// To have the model there, or gone, and this answer.
    Load(Value),
}

/// A body that is no request of its dialect.
#[derive(Debug, Error)]
pub enum DialectError {
    /// Bytes that are no JSON.
    #[error(transparent)]
    Json(#[from] ParseError),
    /// Something is missing or of the wrong form.
    #[error("{param}: {message}")]
    Form {
        /// The place in the caller's body, as its dialect spells places.
        param: String,
        /// What is wrong and what would be right.
        message: String,
    },
}

impl DialectError {
    /// Something of the wrong form.
    pub fn form(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Form { param: param.into(), message: message.into() }
    }

    /// Whether the bytes are JSON, only not of the right form.
    pub fn is_json(&self) -> bool {
        match self {
            Self::Json(error) => error.is_json(),
            Self::Form { .. } => true,
        }
    }
}
