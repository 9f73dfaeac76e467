//! Summaries that a policy asks for: written by the embedded engine, remembered by what they are made of.

use std::sync::{Arc, Mutex, PoisonError};

use plimsoll_engine::{Event, Finish, Generate, Sampling, Tag};
use plimsoll_policies::{Ask, Conversation, Message, Recorded, SUMMARY_HEADER, SpanKey, Summaries};
use quick_cache::sync::Cache;
use serde_json::json;

use crate::live::{Embedded, Kind, Route};
use crate::telemetry::{ChatRequest, Operation, PolicySpan, Settings, SpanRef, SummarizeSpan};

/// What the summariser is asked, in the words that the bundled demo model was trained on.
const REQUEST: &str = "Summarise the conversation so far. Keep names, numbers and paths exactly.";

/// Summaries kept: a few epochs of some thousand conversations.
const KEPT: usize = 8_192;

/// Remembers summaries by the hash of what they are made of, the same for every caller.
pub struct SummaryMemo {
    summaries: Cache<SpanKey, Recorded>,
    /// The spans that they were written under, for the traces of later turns.
    origins: Cache<SpanKey, SpanRef>,
}

impl Default for SummaryMemo {
    fn default() -> Self {
        Self { summaries: Cache::new(KEPT), origins: Cache::new(KEPT) }
    }
}

impl SummaryMemo {
    /// Remembers what became of an [`Ask`]; `None` where no summary could be written. A text that somebody else wrote
    /// meanwhile stays: prompts with it are out already.
    pub fn remember(&self, key: SpanKey, text: Option<String>) {
        match text {
            Some(text) => self.summaries.insert(key, Recorded::Text(text)),
            None if self.summaries.get(&key).is_none() => self.summaries.insert(key, Recorded::Failed),
            None => {}
        }
    }

    /// Remembers the span that a summary was written under, where it is exported.
    pub fn written_under(&self, key: SpanKey, origin: Option<SpanRef>) {
        if let Some(origin) = origin {
            self.origins.insert(key, origin);
        }
    }
}

impl Summaries for SummaryMemo {
    fn get(&self, key: &SpanKey) -> Option<Recorded> {
        self.summaries.get(key)
    }

    fn record(&self, key: &SpanKey, text: &str) {
        self.remember(*key, Some(text.to_owned()));
    }
}

/// A memo that notes which summary it gave last: the one that stands in the prompt.
pub(super) struct Given<'a> {
    memo: &'a SummaryMemo,
    last: Mutex<Option<SpanKey>>,
}

impl<'a> Given<'a> {
    pub(super) fn of(memo: &'a SummaryMemo) -> Self {
        Self { memo, last: Mutex::new(None) }
    }

    /// The span that the last summary was written under.
    pub(super) fn origin(&self) -> Option<SpanRef> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        self.memo.origins.get(&last?)
    }
}

impl Summaries for Given<'_> {
    fn get(&self, key: &SpanKey) -> Option<Recorded> {
        let found = self.memo.get(key);
        if matches!(found, Some(Recorded::Text(_))) {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(*key);
        }
        found
    }

    fn record(&self, key: &SpanKey, text: &str) {
        self.memo.record(key, text);
    }
}

/// Whether a summary stands in a conversation: the guard may have dropped it again.
pub(super) fn is_in(conversation: &Conversation) -> bool {
    conversation.messages().iter().any(|message| message.json().contains(SUMMARY_HEADER))
}

/// Has a summary written; `None` where that fails or takes too long: the policy says what happens then.
pub(super) async fn write(route: &Route, ask: &Ask, span: &PolicySpan) -> Option<String> {
    let Kind::Engine(engine) = &route.upstream.kind else { return None };
    let span = span.summarize(ask.span.len() as u64);
    let written = tokio::time::timeout(ask.timeout, generate(engine, ask, &span)).await;
    match written {
        Ok(Ok((text, tokens))) => {
            span.completed(tokens);
            Some(text)
        }
        Ok(Err(reason)) => {
            span.failed(reason);
            None
        }
        Err(_) => {
            span.failed("timeout");
            None
        }
    }
}

async fn generate(
    engine: &Arc<Embedded>,
    ask: &Ask,
    span: &SummarizeSpan,
) -> Result<(String, u64), &'static str> {
    let prompt = prompt(engine, ask).ok_or("template")?;
    let max_tokens = u32::try_from(ask.max_tokens).unwrap_or(u32::MAX);
    let needed = u32::try_from(prompt.len()).unwrap_or(u32::MAX).saturating_add(max_tokens);
    if needed > engine.engine.context() {
        return Err("span_too_long");
    }
    let waiting = span.wait();
    // A permit of its own, taken before the call's: two requests cannot wait for each other.
    let permit = engine.engine.reserve(needed).await.map_err(|_| "no_memory")?;
    drop(waiting);
    let mut call = span.chat(&ChatRequest {
        operation: Operation::Chat,
        provider: "plimsoll",
        model: &engine.name,
        server: None,
        stream: false,
        compacted: false,
        settings: Settings { max_tokens: Some(ask.max_tokens), ..Settings::default() },
    });
    call.facts().input_tokens = Some(prompt.len() as u64);
    let mut generation = engine.engine.generate_tagged(
        Generate {
            prompt,
            max_tokens,
            sampling: Sampling::greedy(),
            stop_tokens: Vec::new(),
            ignore_eos: false,
        },
        permit,
        call.reference().map(|call| Arc::new(call) as Tag),
    );
    let mut tokens = Vec::new();
    while let Some(event) = generation.next().await {
        match event.map_err(|_| "engine_failed")? {
            Event::Started { cached, computed, .. } => call.prefill(cached.into(), computed.into()),
            Event::Prefilled => call.prefilled(),
            Event::Token(token) => {
                call.token();
                tokens.push(token);
            }
            Event::Done { reason: Finish::Length, .. } => return Err("too_long"),
            Event::Done { .. } => break,
        }
    }
    call.facts().output_tokens = Some(tokens.len() as u64);
    call.completed();
    let text = engine.counter.text.decode(&tokens, true);
    let text = text.trim();
    if text.is_empty() { Err("empty") } else { Ok((text.to_owned(), tokens.len() as u64)) }
}

/// The span as a conversation of its own, with the request behind it: what is cached of it stays cached.
fn prompt(engine: &Embedded, ask: &Ask) -> Option<Arc<[u32]>> {
    let previous = ask.previous.iter().map(|text| Message::user(&format!("{SUMMARY_HEADER}\n{text}")));
    let request = Message::from_json(json!({"role": "user", "content": REQUEST}).to_string());
    let messages: Vec<_> = previous.chain(ask.span.iter().cloned()).chain([request]).collect();
    engine.counter.ids_of(&messages).ok()
}
