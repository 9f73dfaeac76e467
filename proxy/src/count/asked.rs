//! Counts as the upstream's own server does, by asking it: whole prompts as they would run, messages by their text.
//!
//! What was told once is remembered, by a hash of what was asked. Where the server does not tell, the rest of the
//! request is counted by an estimate, and marked so.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};

use futures_util::future::join_all;
use plimsoll_policies::{Conversation, CountError, CountTokens, Message, Tokens};
use quick_cache::sync::Cache;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::estimate::Estimate;
use crate::forward::tokens::Asker;
use crate::forward::upstream::HttpUpstream;

/// Counts kept, some forty bytes each.
const COUNTS: usize = 65_536;
/// Questions to one upstream at a time.
const AT_ONCE: usize = 16;
/// Tokens that templates write around a message: ChatML's `<|im_start|>`, role, newline, `<|im_end|>`, newline.
const FRAME: Tokens = 5;

/// A server that counts for all requests of its upstream.
pub struct Server {
    upstream: Arc<HttpUpstream>,
    name: String,
    told: Cache<blake3::Hash, Tokens>,
    permits: Semaphore,
    /// Whether it did not tell when it was asked last.
    silent: AtomicBool,
}

impl Server {
    /// A server that nobody has asked yet; `name` is its upstream's.
    pub fn new(name: &str, upstream: Arc<HttpUpstream>) -> Self {
        Self {
            upstream,
            name: format!("the server of `{name}`"),
            told: Cache::new(COUNTS),
            permits: Semaphore::new(AT_ONCE),
            silent: AtomicBool::new(false),
        }
    }

    async fn prompt(&self, asker: &Asker, conversation: &Conversation) -> Option<Tokens> {
        let extras = [conversation.tools(), conversation.field("chat_template_kwargs")];
        let extras = extras.into_iter().map(Option::unwrap_or_default);
        let parts = extras.chain(conversation.messages().iter().map(Message::json));
        let key = key("prompt", asker, parts);
        self.remembered(key, self.upstream.count_prompt(asker, conversation)).await
    }

    async fn text(&self, asker: &Asker, text: &str) -> Option<Tokens> {
        let key = key("text", asker, std::iter::once(text));
        self.remembered(key, self.upstream.count_text(asker, text)).await
    }

    async fn message(&self, asker: &Asker, message: &Message) -> Option<Tokens> {
        let calls = message.tool_calls().iter().flat_map(|call| [call.name.as_str(), &call.arguments]);
        let parts: Vec<&str> = std::iter::once(message.text()).chain(calls).collect();
        Some(FRAME + self.text(asker, &parts.join("\n")).await?)
    }

    async fn remembered(
        &self,
        key: blake3::Hash,
        ask: impl Future<Output = Option<Tokens>>,
    ) -> Option<Tokens> {
        if let Some(tokens) = self.told.get(&key) {
            return Some(tokens);
        }
        let _permit = self.permits.acquire().await.ok()?;
        let told = ask.await;
        self.notice(told.is_none());
        let tokens = told?;
        self.told.insert(key, tokens);
        Some(tokens)
    }

    /// Tells the log when the server falls silent, and when it speaks again.
    fn notice(&self, silent: bool) {
        if self.silent.swap(silent, Ordering::Relaxed) == silent {
            return;
        }
        let server = &self.name;
        if silent {
            tracing::warn!(target: "plimsoll", "{server} does not count tokens: they are estimated");
        } else {
            tracing::info!(target: "plimsoll", "{server} counts tokens");
        }
    }
}

/// What a question is known by.
fn key<'a>(kind: &'a str, asker: &'a Asker, parts: impl Iterator<Item = &'a str>) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for part in [kind, asker.model.as_deref().unwrap_or_default()].into_iter().chain(parts) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize()
}

/// The counter of one request. Its methods wait for the server: threads that serve other requests must not call them.
pub struct Asked {
    server: Arc<Server>,
    asker: Asker,
    /// Messages of the request, asked for together as soon as one of them is weighed.
    messages: Vec<Message>,
    weighed: Once,
    /// Stands in from the first question on that has no answer.
    instead: Estimate,
    silent: AtomicBool,
    runtime: Handle,
}

impl Asked {
    /// A counter of a request that comes with these messages. It is made within the runtime that asks.
    pub(crate) fn new(server: Arc<Server>, asker: Asker, messages: Vec<Message>) -> Self {
        let instead = Estimate::new(Estimate::encoding_for(asker.model.as_deref()));
        let (silent, runtime) = (AtomicBool::new(false), Handle::current());
        Self { server, asker, messages, weighed: Once::new(), instead, silent, runtime }
    }

    /// Asks for the whole prompt, so that nobody waits for it afterwards.
    pub(crate) async fn begin(self, conversation: &Conversation) -> Self {
        let told = self.server.prompt(&self.asker, conversation).await;
        self.heard(told);
        self
    }

    /// Whether a question had no answer.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    fn heard<T>(&self, told: Option<T>) -> Option<T> {
        if told.is_none() {
            self.silent.store(true, Ordering::Relaxed);
        }
        told
    }

    fn ask<T>(&self, question: impl Future<Output = Option<T>>) -> Option<T> {
        if self.is_silent() {
            return None;
        }
        self.heard(self.runtime.block_on(question))
    }

    async fn weigh(&self, messages: &[Message]) -> Option<Tokens> {
        let each = messages.iter().map(|message| self.server.message(&self.asker, message));
        join_all(each).await.into_iter().sum()
    }
}

impl CountTokens for Asked {
    fn prompt(&self, conversation: &Conversation) -> Result<Tokens, CountError> {
        let told = self.ask(self.server.prompt(&self.asker, conversation));
        told.map_or_else(|| self.instead.prompt(conversation), Ok)
    }

    fn messages(&self, messages: &[Message]) -> Tokens {
        self.weighed.call_once(|| {
            self.ask(self.weigh(&self.messages));
        });
        self.ask(self.weigh(messages)).unwrap_or_else(|| self.instead.messages(messages))
    }

    fn text(&self, text: &str) -> Tokens {
        self.ask(self.server.text(&self.asker, text)).unwrap_or_else(|| self.instead.text(text))
    }

    fn name(&self) -> &str {
        if self.is_silent() { self.instead.name() } else { &self.server.name }
    }

    fn estimated(&self) -> bool {
        self.is_silent()
    }
}
