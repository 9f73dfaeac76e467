//! Summaries: what a policy asks its caller to make, and how the caller gives it back.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::conversation::{Conversation, Message, Role};
use crate::tokens::Tokens;

/// The first line of a summary message.
pub const SUMMARY_HEADER: &str = "Summary of the earlier conversation:";

/// Names a derived text by everything it is made of: the span, the summary before it, the parameters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanKey([u8; 32]);

impl SpanKey {
    /// A key over these parts, in order; no two lists of parts share one.
    #[must_use]
    pub fn of<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Self {
        // One long input hashes several times as fast as many short ones.
        let mut text = Vec::with_capacity(16 * 1024);
        for part in parts {
            text.extend_from_slice(&(part.len() as u64).to_le_bytes());
            text.extend_from_slice(part);
        }
        Self(*blake3::hash(&text).as_bytes())
    }

    /// The 32 bytes of the hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for SpanKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SpanKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpanKey({self})")
    }
}

/// What became of an [`Ask`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// The text.
    Text(String),
    /// It was tried and failed: the policy's `on_failure` decides.
    ///
    /// A stand-in that went out stays for its epoch, since another text would move the prompt's prefix in between two
    /// cuts. At the next cut the prefix moves anyway: what failed for a passing reason is then asked for once more,
    /// before the summary that is built on it. So an outage costs at most one more try an epoch, and heals by itself.
    Failed {
        /// Whether the reason may pass: a timeout, no memory, a server that was down or busy.
        passing: bool,
    },
}

/// The caller's memory of derived texts.
pub trait Summaries: Send + Sync {
    /// What is recorded under this key.
    fn get(&self, key: &SpanKey) -> Option<Recorded>;

    /// Remembers a text that a policy worked out itself, so that the next turn need not. Forgetting it costs time
    /// and changes no result.
    fn record(&self, key: &SpanKey, text: &str) {
        let _ = (key, text);
    }
}

/// Remembers nothing: every derived text is worked out again, and a model's summary is always asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSummaries;

impl Summaries for NoSummaries {
    fn get(&self, _: &SpanKey) -> Option<Recorded> {
        None
    }
}

/// Who writes a summary.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Summariser {
    /// The built-in extractive summariser: deterministic, no model.
    #[default]
    Extract,
    /// The model of the embedded engine that the route leads to.
    Engine,
    /// The upstream of this name: a server over HTTP, or an embedded engine.
    Upstream(String),
}

impl Summariser {
    /// Whether a model writes, which takes time and may fail.
    #[must_use]
    pub fn is_model(&self) -> bool {
        *self != Self::Extract
    }
}

/// A summary the caller is to make: run it, record it under `key`, apply the chain again.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Where the result is recorded.
    pub key: SpanKey,
    /// Who is to write it.
    pub with: Summariser,
    /// The model that an upstream is asked for; none: the one that the request names.
    pub model: Option<String>,
    /// What stands before the span in the prompts so far, the summary before it included: asked behind the same
    /// words, most of the prompt is in a prefix cache.
    pub head: Vec<Message>,
    /// The raw JSON of the tools that the prompts so far begin with.
    pub tools: Option<String>,
    /// The messages to summarise, oldest first.
    pub span: Vec<Message>,
    /// Whether roles must alternate, so that a request behind a user message becomes a part of it.
    pub alternate: bool,
    /// The summary of everything before the span; the new one replaces it.
    pub previous: Option<String>,
    /// The most tokens the answer may have.
    pub max_tokens: Tokens,
    /// How long it may take.
    pub timeout: Duration,
    /// Whether it failed before, for a reason that may have passed.
    pub again: bool,
}

impl Ask {
    /// The prompt: what stood there, the span, and the request for a summary as the last user message.
    #[must_use]
    pub fn messages(&self, request: &str) -> Vec<Message> {
        let mut messages: Vec<Message> = self.head.iter().chain(&self.span).cloned().collect();
        match messages.pop_if(|last| self.alternate && last.role() == Role::User) {
            Some(last) => messages.push(Message::user(&format!("{}\n\n{request}", last.text()))),
            None => messages.push(Message::user(request)),
        }
        messages
    }
}

/// Whether a message is a summary that stands on its own.
pub(crate) fn is_summary(message: &Message) -> bool {
    message.role() == Role::User
        && message.raw_content().trim_start_matches('"').starts_with(SUMMARY_HEADER)
        && body_of(message.text()).is_some()
}

/// What a summary message says below its first line; none where the text is no summary.
#[must_use]
pub fn body_of(text: &str) -> Option<&str> {
    text.strip_prefix(SUMMARY_HEADER)?.strip_prefix('\n')
}

/// The text of a summary message.
#[must_use]
pub fn with_header(body: &str) -> String {
    format!("{SUMMARY_HEADER}\n{body}")
}

/// Index of the message that speaks last for the user, summaries left out.
pub(crate) fn last_user(messages: &[Message]) -> Option<usize> {
    messages.iter().rposition(|message| message.role() == Role::User && !is_summary(message))
}

/// Index of the first user message that is still there and was the client's first, summaries left out.
pub(crate) fn pinned_user(conversation: &Conversation) -> Option<usize> {
    let is_first = |message: &Message| message.role() == Role::User && !is_summary(message);
    let index = conversation.messages().iter().position(is_first)?;
    let slot = conversation.messages()[index].slot();
    let earlier =
        conversation.dropped().iter().any(|gone| is_first(&gone.message) && gone.message.slot() < slot);
    (!earlier).then_some(index)
}
