//! Runs a call on the embedded engine: token ids in, text and tool calls out.

mod choice;
mod meter;

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Response;
use plimsoll_engine::text::{AnswerReader, Piece};
use plimsoll_engine::{Event, Generate, GenerateError, Sampling};
use tower::BoxError;

use crate::admit::Run;
use crate::body::Body;
use crate::stamp;
use crate::stream::openai::{Collected, Completion};
use crate::stream::{self, Kind, Likelihood, Reply};

use super::EngineFailed;
use choice::Choice;
use meter::Meter;

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
    /// Tokens that were dropped so that the answer could go on past its window, of all choices together.
    pub dropped: u64,
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
    let (reply, stream, may_shift) = (reply(&run), run.options.stream, run.shift.is_some());
    let answer = Answer::start(run);
    let (mut response, shifted) = if stream {
        // It begins before anybody knows.
        (stream::events(answer, reply), may_shift.then_some(stamp::Shifted::Perhaps))
    } else {
        let (response, end) = stream::whole(answer, reply).await?;
        (response, (end.dropped > 0).then_some(stamp::Shifted::Dropped(end.dropped)))
    };
    response.headers_mut().extend(stamps);
    response.headers_mut().extend(shifted.map(stamp::shifted));
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
        let Run { engine, options, prompt, max_tokens, shift, grammar, permits, tools, kind, .. } = run;
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
                shift,
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
                Ok(Event::Shifted { dropped }) => {
                    self.meter.shifted(dropped);
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
