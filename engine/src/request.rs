//! What is asked of an engine, and what it answers.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::config::KeepAlive;
use crate::error::GenerateError;
use crate::grammar::Grammar;
use crate::logprobs::Logprobs;
use crate::worker::Cancel;

/// A prompt to go on from. By default it is empty, and so is the answer.
#[derive(Debug, Clone, Default)]
pub struct Generate {
    /// Token ids of the prompt.
    pub prompt: Arc<[u32]>,
    /// Tokens to make at most; less where the permit is for less.
    pub max_tokens: u32,
    /// How each token is chosen.
    pub sampling: Sampling,
    /// Ids that end the answer, besides the model's own.
    pub stop_tokens: Vec<u32>,
    /// Go on past the model's own end of text.
    pub ignore_eos: bool,
    /// Tell how likely each token was, with so many of the likeliest in its place, as [`Event::Logprobs`].
    pub logprobs: Option<u32>,
    /// Tokens before which no stop token and no end of text may come.
    pub min_tokens: u32,
    /// What the answer must be; see [`Engine::grammar`](crate::Engine::grammar).
    pub grammar: Option<Grammar>,
    /// How long the model stays loaded after this request; `None`: as the engine is configured.
    pub keep_alive: Option<KeepAlive>,
    /// How long a token may wait to be told with those that follow, but for the first one: a reader that wakes for each
    /// takes time from those who compute them. Where tokens come slower each is told at once.
    pub pace: Duration,
    /// Goes on where the permit's tokens are used up, and `max_tokens` are not; `None`: the answer ends there. See
    /// [`Engine::shifts`](crate::Engine::shifts).
    pub shift: Option<Shift>,
}

/// How an answer goes on when its window is full: half of the tokens behind the first `keep` are dropped, and the others
/// move up. That is not what the model would have computed without the dropped tokens: what stays was computed with
/// them in view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shift {
    /// Tokens from the first one on that stay; all but a few of the window at most.
    pub keep: u32,
}

/// How a token is chosen from the logits. Applied in this order: repetition, frequency and presence penalty, bias,
/// temperature, `top_k`, `top_p`, `min_p`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0: the likeliest token, whatever else is set below it.
    pub temperature: f32,
    /// Keeps the likeliest tokens that together have this probability; 1: all.
    pub top_p: f32,
    /// Keeps this many of the likeliest tokens; 0: all.
    pub top_k: u32,
    /// Keeps tokens at least this likely, relative to the likeliest; 0: all.
    pub min_p: f32,
    /// Makes the choice reproducible, alone and beside other requests; `None`: a new seed each time.
    pub seed: Option<u64>,
    /// Subtracted from the logit of each token that the answer contains.
    pub presence_penalty: f32,
    /// Subtracted once for each time that the answer contains the token.
    pub frequency_penalty: f32,
    /// Divides positive and multiplies negative logits of tokens in prompt and answer; 1: off.
    pub repetition_penalty: f32,
    /// Added to the logit of each token named.
    pub logit_bias: Vec<(u32, f32)>,
}

impl Default for Sampling {
    /// The model's own distribution, unchanged.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            seed: None,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_penalty: 1.0,
            logit_bias: Vec::new(),
        }
    }
}

impl Sampling {
    /// Always the likeliest token.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }
}

/// What happens to a request, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It has a slot.
    Started {
        /// Tokens of the prompt whose keys and values were there already.
        cached: u32,
        /// Those of them that had left their slot and were brought back.
        restored: u32,
        /// Tokens of the prompt that must be computed.
        computed: u32,
        /// The slot.
        slot: u32,
        /// How long the request waited since [`Engine::generate`](crate::Engine::generate).
        queued: Duration,
    },
    /// The prompt is computed.
    Prefilled,
    /// How likely the next token was, where that was asked for. The token follows.
    Logprobs(Logprobs),
    /// The next token of the answer. A token that ends the answer is not told.
    Token(u32),
    /// The window was full: so many of the tokens held so far are gone.
    Shifted {
        /// Tokens.
        dropped: u32,
    },
    /// The end; nothing follows.
    Done {
        /// Why.
        reason: Finish,
        /// What it took.
        usage: Usage,
    },
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it, or a stop token did.
    Stop,
    /// `max_tokens` or the permit is used up.
    Length,
    /// The engine was shut down with the answer half made.
    Cancelled,
}

/// Tokens and memory of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Tokens of the prompt that were not computed again.
    pub cached: u32,
    /// Tokens told as [`Event::Token`].
    pub completion: u32,
    /// Bytes of KV cache that prompt and answer take.
    pub kv_bytes: u64,
}

/// The events of one request. Dropping it ends the work and frees the slot.
#[derive(Debug)]
pub struct Generation {
    pub(crate) events: UnboundedReceiver<Result<Event, GenerateError>>,
    pub(crate) ended: bool,
    /// Ends a run in flight when this is dropped.
    pub(crate) _cancel: Cancel,
}

impl Generation {
    /// The next event; `None` after the last one.
    pub async fn next(&mut self) -> Option<Result<Event, GenerateError>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Generation {
    type Item = Result<Event, GenerateError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let event = std::task::ready!(self.events.poll_recv(cx)).unwrap_or(Err(GenerateError::Gone));
        self.ended = matches!(event, Err(_) | Ok(Event::Done { .. }));
        Poll::Ready(Some(event))
    }
}
