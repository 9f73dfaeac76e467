//! Runs a call on the embedded engine: token ids in, text and tool calls out.

mod choice;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::Response;
use plimsoll_engine::text::{AnswerReader, Piece};
use plimsoll_engine::{Event, Generate, GenerateError, Sampling, Tag};
use tower::BoxError;

use crate::admit::Run;
use crate::body::Body;
use crate::live::Embedded;
use crate::stamp;
use crate::stream::openai::{Collected, Completion};
use crate::stream::{self, Kind, Likelihood, Reply};
use crate::telemetry::{ChatRequest, ChatSpan, MemoryFacts, Operation, Said};

use super::EngineFailed;
use choice::Choice;

/// Tokens that come within this time are sent together: nobody reads faster, and sending takes time from computing.
const READ_ALONG: Duration = Duration::from_millis(5);
/// The same for answers that are sent whole.
const READ_WHOLE: Duration = Duration::from_millis(50);

/// One step of an answer.
pub enum Step {
    /// The engine began to compute.
    Started {
        /// Tokens of the prompt.
        prompt: u64,
        /// Tokens of the prompt whose KV was there already.
        cached: u64,
    },
    /// Something to send.
    Part(Part),
    /// The end.
    End(End),
}

/// What one token, or the end of the text, gives to send.
#[derive(Debug, Default)]
pub struct Part {
    /// Which of the answer's choices it belongs to, from 0.
    pub choice: usize,
    /// The token ids behind it.
    pub tokens: Vec<u32>,
    /// Text and tool calls.
    pub pieces: Vec<Piece>,
    /// How likely the tokens were, where that was asked for.
    pub logprobs: Vec<Likelihood>,
    /// Why the choice ended, in its last part: `stop` or `length`.
    pub finished: Option<&'static str>,
}

/// How an answer ended, and what it took, in tokens.
#[derive(Debug, Clone)]
pub struct End {
    /// Why the first choice ended: `stop` or `length`.
    pub finish: &'static str,
    /// The stop string that ended it.
    pub stop: Option<String>,
    /// Tokens of the prompt, which all choices share.
    pub prompt: u64,
    /// Tokens of the prompt whose KV was there already.
    pub cached: u64,
    /// Tokens generated, by all choices together.
    pub completion: u64,
    /// Those of them that are thoughts, their marks included; none where the model does not think.
    pub reasoning: Option<u64>,
    /// What took how long.
    pub times: Times,
}

/// How long the parts of an answer took, as measured.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// Until the engine began: for a slot, and for the weights where they had to be loaded.
    pub queued: Duration,
    /// Until the prompt was computed.
    pub prefill: Duration,
    /// From there to the end.
    pub decode: Duration,
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

fn reply(run: &Run) -> Box<dyn Reply> {
    if let Some(original) = &run.envelope.original {
        return original.reply(run);
    }
    let prefix = if run.kind == Kind::Chat { "chatcmpl" } else { "cmpl" };
    Box::new(Completion {
        kind: run.kind,
        id: format!("{prefix}-{}", uuid::Uuid::now_v7().simple()),
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        model: run.engine.name.clone(),
        include_usage: run.options.include_usage,
        logprobs: run.options.logprobs.is_some(),
        prompt_ids: run.options.return_token_ids.then(|| run.prompt.clone()),
        choices: run.permits.iter().map(|_| Collected::default()).collect(),
    })
}

/// An answer as it is generated: one choice or several. Dropping it ends the generation and frees its memory.
pub struct Answer {
    choices: Vec<Choice>,
    /// The choice that is asked first for its next event, so that all get their turn.
    turn: usize,
    meter: Meter,
}

impl Answer {
    fn start(run: Run) -> Self {
        let meter = Meter::start(&run);
        let Run { engine, options, prompt, max_tokens, grammar, permits, tools, kind, .. } = run;
        let text = &engine.counter.text;
        let calls = text.tool_calls().filter(|_| !tools.is_empty() && options.tool_choice.calls());
        // A stop string is found here: what comes behind it until then is computed for nothing.
        let pace = if options.stream || !options.stop.is_empty() { READ_ALONG } else { READ_WHOLE };
        let reader = || match kind {
            Kind::Chat => text.reader(&prompt, calls.map(|format| format.parser_for(&tools))),
            Kind::Text => AnswerReader::plain(),
        };
        let held = permits.into_iter().enumerate().map(|(index, permit)| {
            let seed = options.sampling.seed.map(|seed| seed.wrapping_add(index as u64));
            let request = Generate {
                prompt: prompt.clone(),
                max_tokens,
                sampling: Sampling { seed, ..options.sampling.clone() },
                stop_tokens: options.stop_tokens.clone(),
                ignore_eos: options.ignore_eos,
                logprobs: options.logprobs,
                min_tokens: options.min_tokens,
                grammar: grammar.clone(),
                keep_alive: options.keep_alive,
                pace,
            };
            Choice::new(index, Box::new((request, permit)), text, options.stop.clone(), reader())
        });
        let mut choices: Vec<_> = held.collect();
        // The others wait for the prompt that the first one computes, and go on from it.
        if let Some(first) = choices.first_mut() {
            first.start(&engine.engine, meter.tag());
        }
        Self { choices, turn: 0, meter }
    }

    /// The next step; nothing may be asked after the end or an error.
    pub async fn next(&mut self) -> Result<Step, EngineFailed> {
        while let Some((index, event)) = self.event().await {
            let choice = &mut self.choices[index];
            let part = match event {
                Ok(Event::Started { cached, restored, slot, .. }) => {
                    self.meter.started(index, (cached, restored), slot);
                    if index > 0 {
                        continue;
                    }
                    return Ok(Step::Started { prompt: self.meter.prompt, cached: self.meter.cached });
                }
                Ok(Event::Prefilled) => {
                    self.meter.prefilled(index);
                    self.start_others();
                    continue;
                }
                Ok(Event::Logprobs(logprobs)) => {
                    choice.likely(logprobs);
                    continue;
                }
                Ok(Event::Token(token)) => {
                    self.meter.token();
                    choice.token(token)
                }
                Ok(Event::Done { reason, .. }) => choice.done(reason),
                Err(error) => return Err(self.failed(error)),
            };
            if part.finished.is_some() {
                self.start_others();
            }
            self.meter.said(&part);
            return Ok(Step::Part(part));
        }
        Ok(Step::End(self.meter.end(&self.choices)))
    }

    /// The next event of any choice; none where all have ended.
    async fn event(&mut self) -> Option<(usize, Result<Event, GenerateError>)> {
        poll_fn(|cx| {
            let count = self.choices.len();
            for index in (self.turn..self.turn + count).map(|place| place % count) {
                if let Poll::Ready(event) = self.choices[index].poll(cx) {
                    self.turn = index + 1;
                    return Poll::Ready(Some((index, event)));
                }
            }
            if self.choices.iter().any(Choice::is_running) { Poll::Pending } else { Poll::Ready(None) }
        })
        .await
    }

    fn start_others(&mut self) {
        for choice in self.choices.iter_mut().skip(1) {
            choice.start(&self.meter.engine.engine, self.meter.tag());
        }
    }

    fn failed(&mut self, error: GenerateError) -> EngineFailed {
        self.choices.clear();
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
    memory: MemoryFacts,
    /// The choices, where they are wanted for the trace.
    said: Vec<Said>,
    /// How many choices there are.
    choices: u64,
    /// When the answer was asked for, when the engine began, when the prompt was computed.
    since: [Option<Instant>; 3],
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
            memory,
            said,
            choices: run.permits.len() as u64,
            since: [Some(Instant::now()), None, None],
        }
    }

    /// The call's name in the engine's batches.
    fn tag(&self) -> Option<Tag> {
        let call = self.span.as_ref()?.reference()?;
        Some(Arc::new(call))
    }

    fn said(&mut self, part: &Part) {
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
    fn started(&mut self, choice: usize, (cached, restored): (u32, u32), slot: u32) {
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

    fn prefilled(&mut self, choice: usize) {
        self.look();
        if choice == 0 {
            self.since[2] = Some(Instant::now());
        }
        if let Some(span) = self.span.as_mut().filter(|_| choice == 0) {
            span.prefilled();
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

    fn end(&mut self, choices: &[Choice]) -> End {
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
                kv.bytes = tokens * self.engine.engine.model().kv_bytes_per_token;
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

    fn failed(&mut self) {
        if let Some(span) = self.span.take() {
            span.failed("engine_failed");
        }
    }
}
