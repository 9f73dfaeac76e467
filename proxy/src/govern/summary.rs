//! Summaries that a policy asks for: written by the embedded engine, remembered by what they are made of.

use std::sync::Arc;

use plimsoll_engine::{Event, Finish, Generate, Sampling};
use plimsoll_policies::{Ask, Message, Recorded, SUMMARY_HEADER, SpanKey, Summaries};
use quick_cache::sync::Cache;
use serde_json::json;

use crate::live::{Embedded, Kind, Route};
use crate::telemetry::{ChatRequest, Operation, PolicySpan, Settings, SummarizeSpan};

/// What the summariser is asked, in the words that the bundled demo model was trained on.
const REQUEST: &str = "Summarise the conversation so far. Keep names, numbers and paths exactly.";

/// Summaries kept: a few epochs of some thousand conversations.
const KEPT: usize = 8_192;

/// Remembers summaries by the hash of what they are made of, the same for every caller.
pub struct SummaryMemo(Cache<SpanKey, Recorded>);

impl Default for SummaryMemo {
    fn default() -> Self {
        Self(Cache::new(KEPT))
    }
}

impl SummaryMemo {
    /// Remembers what became of an [`Ask`]; `None` where no summary could be written. A text that somebody else wrote
    /// meanwhile stays: prompts with it are out already.
    pub fn remember(&self, key: SpanKey, text: Option<String>) {
        match text {
            Some(text) => self.0.insert(key, Recorded::Text(text)),
            None if self.0.get(&key).is_none() => self.0.insert(key, Recorded::Failed),
            None => {}
        }
    }
}

impl Summaries for SummaryMemo {
    fn get(&self, key: &SpanKey) -> Option<Recorded> {
        self.0.get(key)
    }

    fn record(&self, key: &SpanKey, text: &str) {
        self.remember(*key, Some(text.to_owned()));
    }
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
    let mut generation = engine.engine.generate(
        Generate { prompt, max_tokens, sampling: Sampling::greedy(), ..Generate::default() },
        permit,
    );
    let mut tokens = Vec::new();
    while let Some(event) = generation.next().await {
        match event.map_err(|_| "engine_failed")? {
            Event::Started { cached, computed, .. } => call.prefill(cached.into(), computed.into()),
            Event::Prefilled => call.prefilled(),
            // Not asked for.
            Event::Logprobs(_) => {}
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
