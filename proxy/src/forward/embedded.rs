//! Runs a call on the embedded engine: token ids in, text and tool calls out.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::Response;
use plimsoll_engine::text::{AnswerReader, Piece, StopScanner, Text, TextStream, ToolCallFormat};
use plimsoll_engine::{Event, Finish, Generate, GenerateError, Generation, Logprobs, Tag};
use tower::BoxError;

use crate::admit::Run;
use crate::body::Body;
use crate::live::Embedded;
use crate::stamp;
use crate::stream::{self, Collected, Kind, Likelihood, Reply};
use crate::telemetry::{ChatRequest, ChatSpan, MemoryFacts, Operation, Said};

use super::EngineFailed;

/// One step of an answer.
pub enum Step {
    /// Something to send.
    Part(Part),
    /// The end.
    End(End),
}

/// What one token, or the end of the text, gives to send.
#[derive(Debug, Default)]
pub struct Part {
    /// The token ids behind it.
    pub tokens: Vec<u32>,
    /// Text and tool calls.
    pub pieces: Vec<Piece>,
    /// How likely the tokens were, where that was asked for.
    pub logprobs: Vec<Likelihood>,
}

/// How an answer ended, and what it took, in tokens.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// `stop` or `length`.
    pub finish: &'static str,
    /// Tokens of the prompt.
    pub prompt: u64,
    /// Tokens of the prompt whose KV was there already.
    pub cached: u64,
    /// Tokens generated.
    pub completion: u64,
    /// Those of them that are thoughts, their marks included; none where the model does not think.
    pub reasoning: Option<u64>,
}

/// Starts the generation and answers in the form that was asked for.
pub(super) async fn forward(run: Run) -> Result<Response<Body>, BoxError> {
    let stamps = stamp::stamp(&run.envelope, run.report.as_ref());
    let (reply, stream) = (reply(&run), run.options.stream);
    let answer = Answer::start(run);
    let mut response =
        if stream { stream::events(answer, reply) } else { stream::whole(answer, reply).await? };
    response.headers_mut().extend(stamps);
    Ok(response)
}

fn reply(run: &Run) -> Reply {
    let prefix = if run.kind == Kind::Chat { "chatcmpl" } else { "cmpl" };
    Reply {
        kind: run.kind,
        id: format!("{prefix}-{}", uuid::Uuid::now_v7().simple()),
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        model: run.engine.name.clone(),
        include_usage: run.options.include_usage,
        logprobs: run.options.logprobs.is_some(),
        prompt_ids: run.options.return_token_ids.then(|| run.prompt.clone()),
        collected: Collected::default(),
    }
}

/// An answer as it is generated. Dropping it ends the generation and frees its memory.
pub struct Answer {
    generation: Option<Generation>,
    decoder: TextStream,
    stops: StopScanner,
    reader: AnswerReader,
    meter: Meter,
    text: Arc<Text>,
    /// Of the token that comes next.
    logprobs: Option<Logprobs>,
    /// Why the answer ended; nothing is generated any more.
    finish: Option<&'static str>,
}

impl Answer {
    fn start(run: Run) -> Self {
        let meter = Meter::start(&run);
        let text = run.engine.counter.text.clone();
        let options = run.options;
        let calls = text.tool_calls().filter(|_| run.tools && options.tool_calls);
        let reader = match run.kind {
            Kind::Chat => text.reader(&run.prompt, calls.map(ToolCallFormat::parser)),
            Kind::Text => AnswerReader::plain(),
        };
        let request = Generate {
            prompt: run.prompt,
            max_tokens: run.max_tokens,
            sampling: options.sampling,
            stop_tokens: options.stop_tokens,
            ignore_eos: options.ignore_eos,
            logprobs: options.logprobs,
            min_tokens: options.min_tokens,
            grammar: run.grammar,
            keep_alive: options.keep_alive,
        };
        Self {
            generation: Some(run.engine.engine.generate_tagged(request, run.permit, meter.tag())),
            decoder: text.decoder(true),
            stops: text.stops(options.stop),
            reader,
            meter,
            text,
            logprobs: None,
            finish: None,
        }
    }

    /// The next step; nothing may be asked after the end or an error.
    pub async fn next(&mut self) -> Result<Step, EngineFailed> {
        while let Some(generation) = &mut self.generation {
            match generation.next().await.transpose() {
                Ok(Some(Event::Started { cached, slot, .. })) => self.meter.started(cached, slot),
                Ok(Some(Event::Prefilled)) => self.meter.prefilled(),
                Ok(Some(Event::Logprobs(logprobs))) => self.logprobs = Some(logprobs),
                Ok(Some(Event::Token(token))) => return Ok(Step::Part(self.token(token))),
                Ok(Some(Event::Done { reason, .. })) => return Ok(Step::Part(self.done(reason))),
                Ok(None) => return Err(self.failed(GenerateError::Gone)),
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(Step::End(self.meter.end(self.finish.unwrap_or("stop"))))
    }

    fn token(&mut self, token: u32) -> Part {
        self.meter.token();
        let text = self.decoder.push(token).unwrap_or_default();
        let scanned = self.stops.push(&text);
        let thought = self.reader.thinking();
        let mut pieces = self.reader.push(&scanned.text);
        self.meter.thought(thought, self.reader.thinking());
        if scanned.stop.is_some() {
            self.finish("stop");
            pieces.extend(self.reader.finish());
        }
        self.meter.said(&pieces);
        let told = self.logprobs.take().map(|told| Likelihood::new(&told, &self.text));
        Part { tokens: vec![token], pieces, logprobs: told.into_iter().collect() }
    }

    /// The model is done: what was held back goes out.
    fn done(&mut self, reason: Finish) -> Part {
        self.finish(if reason == Finish::Length { "length" } else { "stop" });
        let rest = self.decoder.finish().unwrap_or_default();
        let mut text = self.stops.push(&rest).text;
        text.push_str(&self.stops.finish());
        let mut pieces = self.reader.push(&text);
        pieces.extend(self.reader.finish());
        self.meter.said(&pieces);
        Part { pieces, ..Part::default() }
    }

    /// Frees the slot before the client has read the end.
    fn finish(&mut self, reason: &'static str) {
        self.finish = Some(reason);
        self.generation = None;
    }

    fn failed(&mut self, error: GenerateError) -> EngineFailed {
        self.generation = None;
        self.meter.failed();
        error.into()
    }
}

/// Keeps the figures of one answer, for its usage and its span.
struct Meter {
    /// The request's id.
    request: String,
    span: Option<ChatSpan>,
    engine: Arc<Embedded>,
    prompt: u64,
    cached: u64,
    completion: u64,
    reasoning: Option<u64>,
    memory: MemoryFacts,
    /// The answer, where it is wanted for the trace.
    said: Option<Said>,
}

impl Meter {
    fn start(run: &Run) -> Self {
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
        let said = span.captures().then(Said::default);
        if let Some(conversation) = run.chat.as_ref().filter(|_| said.is_some()) {
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
            reasoning: None,
            memory,
            said,
        }
    }

    /// The call's name in the engine's batches.
    fn tag(&self) -> Option<Tag> {
        let call = self.span.as_ref()?.reference()?;
        Some(Arc::new(call))
    }

    fn said(&mut self, pieces: &[Piece]) {
        let Some(said) = &mut self.said else { return };
        for piece in pieces {
            match piece {
                Piece::Text(text) => said.text(text),
                Piece::Thinking(thoughts) => said.thoughts(thoughts),
                Piece::CallStart { index, name } => said.call(*index, name, ""),
                Piece::CallArguments { index, json_fragment } => said.call(*index, "", json_fragment),
                Piece::CallEnd { .. } => {}
            }
        }
    }

    fn started(&mut self, cached: u32, slot: u32) {
        self.cached = u64::from(cached);
        self.engine.slots.started(slot, &self.request, self.cached, self.prompt);
        if let Some(span) = &mut self.span {
            span.prefill(self.cached, self.prompt.saturating_sub(self.cached));
        }
    }

    fn prefilled(&mut self) {
        self.look();
        if let Some(span) = &mut self.span {
            span.prefilled();
        }
    }

    /// Counts a token by whether the answer was inside of the thoughts before and after it.
    fn thought(&mut self, before: Option<bool>, after: Option<bool>) {
        if let (Some(before), Some(after)) = (before, after) {
            *self.reasoning.get_or_insert(0) += u64::from(before || after);
        }
    }

    fn token(&mut self) {
        self.completion += 1;
        if let Some(span) = &mut self.span {
            span.token();
            // Kept up to date, since a client may leave at any token.
            span.facts().output_tokens = Some(self.completion);
        }
    }

    /// Reads the memory.
    fn look(&mut self) {
        let reading = self.engine.engine.memory();
        self.memory.after = reading.total();
        self.memory.peak = self.memory.peak.max(self.memory.after);
        self.memory.process_rss = Some(reading.process_rss);
    }

    fn end(&mut self, finish: &'static str) -> End {
        self.look();
        if let Some(mut span) = self.span.take() {
            if let Some(said) = &mut self.said {
                said.finish(finish);
                span.said(said);
            }
            let facts = span.facts();
            facts.finish_reasons = vec![finish.to_owned()];
            facts.response_model = Some(self.engine.name.clone());
            facts.input_tokens = Some(self.prompt);
            facts.memory = Some(self.memory);
            if let Some(kv) = &mut facts.kv {
                kv.bytes = (self.prompt + self.completion) * self.engine.engine.model().kv_bytes_per_token;
            }
            span.completed();
        }
        End {
            finish,
            prompt: self.prompt,
            cached: self.cached,
            completion: self.completion,
            reasoning: self.reasoning,
        }
    }

    fn failed(&mut self) {
        if let Some(span) = self.span.take() {
            span.failed("engine_failed");
        }
    }
}
