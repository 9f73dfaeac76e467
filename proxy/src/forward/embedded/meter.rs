//! The figures of one answer: what it takes, and how long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_engine::Tag;
use plimsoll_engine::text::Piece;

use super::choice::Choice;
use super::{End, Part, Times};
use crate::admit::Run;
use crate::live::Embedded;
use crate::stamp;
use crate::stream::Kind;
use crate::telemetry::{ChatRequest, ChatSpan, MemoryFacts, Operation, Said};

/// Keeps the figures of one answer, for its usage and its span.
pub(super) struct Meter {
    /// The request's id.
    request: String,
    span: Option<ChatSpan>,
    pub(super) engine: Arc<Embedded>,
    pub(super) prompt: u64,
    pub(super) cached: u64,
    completion: u64,
    dropped: u64,
    memory: MemoryFacts,
    /// The choices, where they are wanted for the trace.
    said: Vec<Said>,
    /// How many choices there are.
    choices: u64,
    /// When the answer was asked for, when the engine began, when the prompt was computed.
    since: [Option<Instant>; 3],
}

impl Meter {
    pub(super) fn start(run: &Run) -> Self {
        let operation = if run.kind == Kind::Chat { Operation::Chat } else { Operation::TextCompletion };
        let mut span = run.envelope.record.chat(&ChatRequest {
            operation,
            provider: "plimsoll",
            model: &run.engine.name,
            server: None,
            stream: run.options.stream,
            compacted: stamp::compacted(run.envelope.mode, run.report.as_ref()),
            settings: run.options.settings(run.max_tokens),
        });
        span.facts().predicted_tokens = Some(run.resident.into());
        let captured = run.permits.iter().filter(|_| span.captures());
        let said: Vec<_> = captured.map(|_| Said::default()).collect();
        if let Some(conversation) = run.chat.as_ref().filter(|_| !said.is_empty()) {
            span.sent(conversation.messages());
        }
        let reading = run.engine.engine.memory();
        let memory = MemoryFacts {
            before: reading.total(),
            after: reading.total(),
            peak: reading.total(),
            source: reading.source,
            process_rss: Some(reading.process_rss),
        };
        let prompt = run.prompt.len() as u64;
        let request = run.envelope.record.record().id.clone();
        Self {
            request,
            span: Some(span),
            engine: run.engine.clone(),
            prompt,
            cached: 0,
            completion: 0,
            dropped: 0,
            memory,
            said,
            choices: run.permits.len() as u64,
            since: [Some(Instant::now()), None, None],
        }
    }

    /// The call's name in the engine's batches.
    pub(super) fn tag(&self) -> Option<Tag> {
        let call = self.span.as_ref()?.reference()?;
        Some(Arc::new(call))
    }

    pub(super) fn said(&mut self, part: &Part) {
        let Some(said) = self.said.get_mut(part.choice) else { return };
        if let Some(reason) = part.finished {
            said.finish(reason);
        }
        for piece in &part.pieces {
            match piece {
                Piece::Text(text) => said.text(text),
                Piece::Thinking(thoughts) => said.thoughts(thoughts),
                Piece::CallStart { index, name } => said.call(*index, name, ""),
                Piece::CallArguments { index, json_fragment } => said.call(*index, "", json_fragment),
                Piece::CallEnd { .. } => {}
            }
        }
    }

    /// What the first choice finds and computes is what the prompt took: the others begin with it.
    pub(super) fn started(&mut self, choice: usize, (cached, restored): (u32, u32), slot: u32) {
        self.engine.slots.started(slot, &self.request, u64::from(cached), self.prompt);
        if choice > 0 {
            return;
        }
        self.cached = u64::from(cached);
        self.since[1] = Some(Instant::now());
        if let Some(span) = &mut self.span {
            let computed = self.prompt.saturating_sub(self.cached);
            span.prefill_restored(self.cached, computed, u64::from(restored));
        }
    }

    pub(super) fn prefilled(&mut self, choice: usize) {
        self.look();
        if choice == 0 {
            self.since[2] = Some(Instant::now());
        }
        if let Some(span) = self.span.as_mut().filter(|_| choice == 0) {
            span.prefilled();
        }
    }

    pub(super) fn token(&mut self) {
        self.completion += 1;
        if let Some(span) = &mut self.span {
            span.token();
            // Kept up to date, since a client may leave at any token.
            span.facts().output_tokens = Some(self.completion);
        }
    }

    pub(super) fn shifted(&mut self, dropped: u32) {
        self.dropped += u64::from(dropped);
        if let Some(kv) = self.span.as_mut().and_then(|span| span.facts().kv.as_mut()) {
            kv.dropped_tokens = self.dropped;
        }
    }

    /// Reads the memory.
    fn look(&mut self) {
        let reading = self.engine.engine.memory();
        self.memory.after = reading.total();
        self.memory.peak = self.memory.peak.max(self.memory.after);
        self.memory.process_rss = Some(reading.process_rss);
    }

    pub(super) fn end(&mut self, choices: &[Choice]) -> End {
        self.look();
        if let Some(mut span) = self.span.take() {
            span.said(&self.said);
            let facts = span.facts();
            facts.finish_reasons = choices.iter().map(|choice| choice.finish().to_owned()).collect();
            facts.response_model = Some(self.engine.name.clone());
            facts.input_tokens = Some(self.prompt);
            facts.memory = Some(self.memory);
            if let Some(kv) = &mut facts.kv {
                let tokens = self.prompt * self.choices + self.completion;
                kv.bytes =
                    tokens.saturating_sub(self.dropped) * self.engine.engine.model().kv_bytes_per_token;
            }
            span.completed();
        }
        let first = choices.first();
        let reasoning = choices.iter().filter_map(Choice::reasoning).reduce(|sum, more| sum + more);
        End {
            finish: first.map_or("stop", Choice::finish),
            stop: first.and_then(Choice::stop).map(str::to_owned),
            prompt: self.prompt,
            cached: self.cached,
            completion: self.completion,
            dropped: self.dropped,
            reasoning,
            times: self.times(),
        }
    }

    fn times(&self) -> Times {
        let between = |from: Option<Instant>, to: Option<Instant>| {
            from.zip(to).map_or(Duration::ZERO, |(from, to)| to.saturating_duration_since(from))
        };
        let [asked, begun, computed] = self.since;
        Times {
            queued: between(asked, begun),
            prefill: between(begun, computed),
            decode: between(computed, Some(Instant::now())),
        }
    }

    pub(super) fn failed(&mut self) {
        if let Some(span) = self.span.take() {
            span.failed("engine_failed");
        }
    }
}
