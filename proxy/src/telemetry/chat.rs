//! The span of one call to a model, with the phases of the embedded engine under it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use opentelemetry::KeyValue;
use opentelemetry::trace::{Span as _, SpanKind};
use plimsoll_policies::Message;

use super::Shared;
use super::content::{self, Said};
use super::names::{GenAiNames, attr, span};
use super::propagation;
use super::record::{ChatFacts, KvFacts, MemoryFacts, Outcome};
use super::request::RequestSpan;
use super::spans::{Live, SpanRef, count, fail, known, strings};

/// What a model is asked for, as its span shows it. Never message content.
#[derive(Debug, Clone)]
pub struct ChatRequest<'a> {
    /// Chat or plain completion.
    pub operation: Operation,
    /// Who serves the model: `plimsoll` for the embedded engine, else the kind of upstream (`openai`).
    pub provider: &'static str,
    /// The model as the upstream knows it.
    pub model: &'a str,
    /// Host and port of an HTTP upstream. Nothing for the embedded engine.
    pub server: Option<(&'a str, u16)>,
    /// Whether the answer streams.
    pub stream: bool,
    /// Whether a policy removed or rewrote content before this call.
    pub compacted: bool,
    /// Generation settings of the request.
    pub settings: Settings,
}

/// The kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Messages in, a message out.
    Chat,
    /// A prompt in, its continuation out.
    TextCompletion,
}

impl Operation {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::TextCompletion => "text_completion",
        }
    }
}

/// Generation settings, where the request has them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// Most tokens to generate.
    pub max_tokens: Option<u64>,
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// Nucleus sampling.
    pub top_p: Option<f64>,
    /// Top-k sampling.
    pub top_k: Option<u64>,
    /// Random seed.
    pub seed: Option<i64>,
    /// Presence penalty.
    pub presence_penalty: Option<f64>,
    /// Frequency penalty.
    pub frequency_penalty: Option<f64>,
}

/// A call to a model in progress. Dropped before it is called completed or failed, it was cancelled: that is no error,
/// and what is known by then is written.
pub struct ChatSpan {
    // Declared first: a phase ends before its call, a call before its request.
    phase: Option<Live>,
    live: Live,
    /// The request whose answer this is; none where the client does not get it.
    request: Option<RequestSpan>,
    shared: Arc<Shared>,
    facts: ChatFacts,
    names: &'static GenAiNames,
    outcome: Outcome,
    streams: bool,
    started: Instant,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl ChatSpan {
    pub(super) fn start(
        shared: &Arc<Shared>,
        parent: &Live,
        call: &ChatRequest<'_>,
        request: Option<&RequestSpan>,
    ) -> Self {
        let names = shared.gen_ai;
        let kind = if call.server.is_some() { SpanKind::Client } else { SpanKind::Internal };
        let operation = call.operation.as_str();
        let mut live = parent.child(format!("{operation} {}", call.model), kind);
        live.set(|| call_attributes(names, call));
        if let Some(origin) = request.and_then(RequestSpan::summary) {
            live.link(origin);
        }
        let server = call.server.map(|(host, port)| (host.to_owned(), port));
        let facts = ChatFacts { operation, provider: call.provider, server, ..ChatFacts::default() };
        Self {
            phase: None,
            live,
            request: request.cloned(),
            shared: Arc::clone(shared),
            facts,
            names,
            outcome: Outcome::Disconnected,
            streams: call.stream,
            started: Instant::now(),
            first: None,
            last: None,
        }
    }

    /// Names this call as the caller in the headers of an upstream request.
    pub fn inject(&self, headers: &mut HeaderMap) {
        propagation::inject(self.live.context(), headers);
    }

    /// This call, to be named by the batches that it has a part in; nothing where nobody could look it up.
    #[must_use]
    pub fn reference(&self) -> Option<SpanRef> {
        self.live.reference()
    }

    /// Whether the messages of the call and its answer are wanted.
    #[must_use]
    pub fn captures(&self) -> bool {
        self.shared.capture_content && self.names.input_messages.is_some() && self.live.is_recording()
    }

    /// The messages that are sent, where they are wanted.
    pub fn sent(&mut self, messages: &[Message]) {
        if let Some(key) = self.names.input_messages.filter(|_| self.captures()) {
            self.live.set(|| known(key, content::bounded(content::input(messages))));
        }
    }

    /// The answer's choices, where they are wanted.
    pub fn said(&mut self, choices: &[Said]) {
        if let Some(key) = self.names.output_messages.filter(|_| self.captures()) {
            self.live.set(|| known(key, content::bounded(content::output(choices))));
        }
    }

    /// A server is asked. Told again, another attempt is made.
    pub fn attempt(&mut self, host: &str, port: u16) {
        self.facts.server = Some((host.to_owned(), port));
        self.facts.attempts += 1;
    }

    /// What is known of the answer so far. Times are kept by the span itself.
    pub fn facts(&mut self) -> &mut ChatFacts {
        &mut self.facts
    }

    /// The engine began: of the prompt's tokens `reused` are in its KV cache, `computed` are being computed.
    pub fn prefill(&mut self, reused: u64, computed: u64) {
        self.prefill_restored(reused, computed, 0);
    }

    /// As [`ChatSpan::prefill`]; `restored` of the tokens that are in the cache were brought back for this call.
    pub fn prefill_restored(&mut self, reused: u64, computed: u64, restored: u64) {
        self.facts.cached_tokens = Some(reused);
        self.facts.kv =
            Some(KvFacts { reused_tokens: reused, computed_tokens: computed, dropped_tokens: 0, bytes: 0 });
        let mut phase = self.live.child(span::PREFILL, SpanKind::Internal);
        phase.set(|| [count(attr::KV_REUSED, reused), count(attr::KV_COMPUTED, computed)]);
        if restored > 0 {
            self.live.set(|| [count(attr::KV_RESTORED, restored)]);
            phase.set(|| [count(attr::KV_RESTORED, restored)]);
        }
        self.phase = Some(phase);
    }

    /// The engine has computed the prompt and generates.
    pub fn prefilled(&mut self) {
        self.phase = None;
        self.phase = Some(self.live.child(span::DECODE, SpanKind::Internal));
    }

    /// A token, or a chunk of an upstream's stream, arrived.
    pub fn token(&mut self) {
        let now = Instant::now();
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    /// The answer is whole.
    pub fn completed(mut self) {
        self.outcome = Outcome::Completed;
    }

    /// The call failed; `code` names the error, in few words of ours.
    pub fn failed(mut self, code: &'static str) {
        self.outcome = Outcome::Failed;
        self.facts.error = Some(code);
    }

    fn time_to_first_chunk(&self) -> Option<Duration> {
        let first = self.first.filter(|_| self.streams)?;
        Some(first.duration_since(self.started))
    }
}

impl Drop for ChatSpan {
    fn drop(&mut self) {
        self.phase = None;
        let first_chunk = self.time_to_first_chunk();
        self.facts.decoding = self.first.zip(self.last).map(|(first, last)| last.duration_since(first));
        let mut facts = std::mem::take(&mut self.facts);
        let mut record = self.request.as_ref().map(RequestSpan::record);
        if let Some(record) = &record {
            facts.first_token = self.first.map(|first| first.duration_since(record.started));
        }
        let (names, facts, outcome) = (self.names, Arc::new(facts), self.outcome);
        if let Some(record) = &mut record {
            record.chat = Some(Arc::clone(&facts));
        }
        drop(record);
        self.live.later(move |span| {
            let key = names.time_to_first_chunk;
            let first_chunk = key.and_then(|key| known(key, first_chunk.map(|time| time.as_secs_f64())));
            let outcome_told = KeyValue::new(attr::OUTCOME, outcome.as_str());
            span.set_attributes(answer_attributes(names, &facts).chain([outcome_told]).chain(first_chunk));
            if outcome == Outcome::Failed {
                fail(span);
            }
        });
    }
}

fn call_attributes(names: &GenAiNames, call: &ChatRequest<'_>) -> impl Iterator<Item = KeyValue> {
    let settings = &call.settings;
    let signed = |value: Option<u64>| value.and_then(|value| i64::try_from(value).ok());
    [
        Some(KeyValue::new(names.operation, call.operation.as_str())),
        Some(KeyValue::new(names.provider, call.provider)),
        Some(KeyValue::new(names.request_model, call.model.to_owned())),
        // The conventions want both only where they are true.
        names.stream.filter(|_| call.stream).map(|key| KeyValue::new(key, true)),
        names.compacted.filter(|_| call.compacted).map(|key| KeyValue::new(key, true)),
        known(names.max_tokens, signed(settings.max_tokens)),
        known(names.temperature, settings.temperature),
        known(names.top_p, settings.top_p),
        known(names.top_k, signed(settings.top_k)),
        known(names.seed, settings.seed),
        known(names.presence_penalty, settings.presence_penalty),
        known(names.frequency_penalty, settings.frequency_penalty),
    ]
    .into_iter()
    .flatten()
}

fn answer_attributes(names: &GenAiNames, facts: &ChatFacts) -> impl Iterator<Item = KeyValue> {
    let reasons = Some(&facts.finish_reasons).filter(|reasons| !reasons.is_empty());
    [
        known(names.response_id, facts.response_id.clone()),
        known(names.response_model, facts.response_model.clone()),
        reasons.map(|reasons| strings(names.finish_reasons, reasons.iter().cloned())),
        facts.input_tokens.map(|tokens| count(names.input_tokens, tokens)),
        facts.output_tokens.map(|tokens| count(names.output_tokens, tokens)),
        names.cached_tokens.zip(facts.cached_tokens).map(|(key, tokens)| count(key, tokens)),
        known(attr::ERROR_TYPE, facts.error),
        facts.predicted_tokens.map(|tokens| count(attr::KV_PREDICTED, tokens)),
        known(attr::SERVER_ADDRESS, facts.server.as_ref().map(|(host, _)| host.clone())),
        known(attr::SERVER_PORT, facts.server.as_ref().map(|(_, port)| i64::from(*port))),
        Some(facts.attempts).filter(|&attempts| attempts > 0).map(|attempts| count(attr::ATTEMPTS, attempts)),
    ]
    .into_iter()
    .flatten()
    .chain(facts.kv.iter().flat_map(kv_attributes))
    .chain(facts.memory.iter().flat_map(memory_attributes))
}

fn kv_attributes(kv: &KvFacts) -> impl Iterator<Item = KeyValue> + use<> {
    let dropped = Some(kv.dropped_tokens).filter(|tokens| *tokens > 0);
    [
        count(attr::KV_REUSED, kv.reused_tokens),
        count(attr::KV_COMPUTED, kv.computed_tokens),
        count(attr::KV_BYTES, kv.bytes),
    ]
    .into_iter()
    .chain(dropped.map(|tokens| count(attr::KV_DROPPED, tokens)))
}

fn memory_attributes(memory: &MemoryFacts) -> impl Iterator<Item = KeyValue> {
    let rss = memory.process_rss.map(|bytes| count(attr::PROCESS_RSS, bytes));
    [
        count(attr::VRAM_BEFORE, memory.before),
        count(attr::VRAM_AFTER, memory.after),
        count(attr::VRAM_PEAK, memory.peak),
        KeyValue::new(attr::VRAM_SOURCE, memory.source),
    ]
    .into_iter()
    .chain(rss)
}
