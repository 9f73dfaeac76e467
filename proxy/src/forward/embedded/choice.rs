//! One choice of an answer: token ids in, text and tool calls out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use plimsoll_engine::text::{AnswerReader, StopScanner, Text, TextStream};
use plimsoll_engine::{Engine, Event, Finish, Generate, GenerateError, Generation, Logprobs, Permit, Tag};

use super::Part;
use crate::stream::Likelihood;

/// A choice as it is generated.
pub(super) struct Choice {
    index: usize,
    work: Work,
    decoder: TextStream,
    stops: StopScanner,
    reader: AnswerReader,
    /// Tokens of thoughts, their marks included; none where the model does not think.
    reasoning: Option<u64>,
    text: Arc<Text>,
    /// Of the token that comes next.
    logprobs: Option<Logprobs>,
    finish: &'static str,
    /// The stop string that ended it.
    stop: Option<String>,
}

enum Work {
    Held(Box<(Generate, Permit)>),
    Running(Generation),
    Ended,
}

impl Choice {
    /// A choice that has its memory and is not started yet.
    pub(super) fn new(
        index: usize,
        held: Box<(Generate, Permit)>,
        text: &Arc<Text>,
        stops: Vec<String>,
        reader: AnswerReader,
    ) -> Self {
        Self {
            index,
            work: Work::Held(held),
            decoder: text.decoder(true),
            stops: text.stops(stops),
            reader,
            reasoning: None,
            text: text.clone(),
            logprobs: None,
            finish: "stop",
            stop: None,
        }
    }

    /// Starts what is held back.
    pub(super) fn start(&mut self, engine: &Engine, tag: Option<Tag>) {
        self.work = match std::mem::replace(&mut self.work, Work::Ended) {
            Work::Held(held) => {
                let (request, permit) = *held;
                Work::Running(engine.generate_tagged(request, permit, tag))
            }
            other => other,
        };
    }

    /// The next event, where it runs.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, GenerateError>> {
        match &mut self.work {
            Work::Running(generation) => {
                Pin::new(generation).poll_next(cx).map(|event| event.unwrap_or(Err(GenerateError::Gone)))
            }
            Work::Held(_) | Work::Ended => Poll::Pending,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.work, Work::Running(_))
    }

    /// Why it ended.
    pub(super) fn finish(&self) -> &'static str {
        self.finish
    }

    /// The stop string that ended it.
    pub(super) fn stop(&self) -> Option<&str> {
        self.stop.as_deref()
    }

    /// Tokens of thoughts; none where the model does not think.
    pub(super) fn reasoning(&self) -> Option<u64> {
        self.reasoning
    }

    /// How likely the next token is.
    pub(super) fn likely(&mut self, logprobs: Logprobs) {
        self.logprobs = Some(logprobs);
    }

    /// The next token.
    pub(super) fn token(&mut self, token: u32) -> Part {
        let text = self.decoder.push(token).unwrap_or_default();
        let scanned = self.stops.push(&text);
        let thought = self.reader.thinking();
        let mut pieces = self.reader.push(&scanned.text);
        self.thought(thought, self.reader.thinking());
        let mut finished = None;
        if scanned.stop.is_some() {
            self.stop = scanned.stop;
            finished = Some(self.end("stop"));
            pieces.extend(self.reader.finish());
        }
        let told = self.logprobs.take().map(|told| Likelihood::new(&told, &self.text));
        Part {
            choice: self.index,
            tokens: vec![token],
            pieces,
            logprobs: told.into_iter().collect(),
            finished,
        }
    }

    /// The model is done: what was held back goes out.
    pub(super) fn done(&mut self, reason: Finish) -> Part {
        let rest = self.decoder.finish().unwrap_or_default();
        let scanned = self.stops.push(&rest);
        let length = reason == Finish::Length && scanned.stop.is_none();
        let finished = self.end(if length { "length" } else { "stop" });
        self.stop = scanned.stop;
        let mut text = scanned.text;
        text.push_str(&self.stops.finish());
        let mut pieces = self.reader.push(&text);
        pieces.extend(self.reader.finish());
        Part { choice: self.index, pieces, finished: Some(finished), ..Part::default() }
    }

    /// Counts a token by whether the answer was inside of the thoughts before and after it.
    fn thought(&mut self, before: Option<bool>, after: Option<bool>) {
        if let (Some(before), Some(after)) = (before, after) {
            *self.reasoning.get_or_insert(0) += u64::from(before || after);
        }
    }

    /// Frees the slot before the client has read the end.
    fn end(&mut self, reason: &'static str) -> &'static str {
        self.finish = reason;
        self.work = Work::Ended;
        reason
    }
}
