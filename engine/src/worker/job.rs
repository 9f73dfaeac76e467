//! A request in its slot.

use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;

use super::follow::Follow;
use super::{Facts, Order, Tag};
use crate::cache::SlotId;
use crate::error::GenerateError;
use crate::memory::Permit;
use crate::request::{Event, Generate, Shift, Usage};
use crate::sample::{Choice, Sampler};

/// A request that runs.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) request: Generate,
    pub(super) slot: SlotId,
    /// The token to decode next; `None`: its prompt is not done.
    pub(super) next: Option<u32>,
    pub(super) sampler: Sampler,
    /// Tokens to make at most.
    pub(super) limit: u32,
    /// How it goes on where its window is full; none where it ends before.
    pub(super) shift: Option<Shift>,
    /// Tokens made.
    made: u32,
    cached: u32,
    /// When it was asked for.
    asked: Instant,
    /// Whose prompt it waits for.
    pub(super) follows: Option<Follow>,
    stops: Vec<u32>,
    events: UnboundedSender<Result<Event, GenerateError>>,
    pub(super) permit: Permit,
    /// Its name in batches.
    pub(super) tag: Option<Tag>,
    /// Nobody waits for it.
    pub(super) ahead: bool,
    /// What it leaves in its slot is not needed again.
    pub(super) once: bool,
}

/// What a token means for its request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It goes on.
    More,
    /// The answer is ended: by the token, or because its format allows no other.
    Stop,
    /// It was the last one allowed.
    Full,
    /// Nobody listens.
    Left,
}

impl Job {
    /// A request in its slot, which holds the first `cached` tokens of its prompt.
    pub(super) fn new(order: Order, (slot, cached): (SlotId, usize), facts: &Facts, seed: u64) -> Self {
        let Order { id, request, permit, events, tag, ahead, asked } = order;
        let room = permit.tokens().saturating_sub(count(request.prompt.len()));
        let shift = request.shift.filter(|_| request.max_tokens > room);
        let mut stops = request.stop_tokens.clone();
        if !request.ignore_eos {
            stops.extend(&facts.eos);
        }
        Self {
            id,
            slot,
            next: None,
            sampler: Sampler::new(&request, &stops, seed),
            limit: if shift.is_some() { request.max_tokens } else { request.max_tokens.min(room) },
            shift,
            made: 0,
            cached: count(cached),
            asked,
            follows: None,
            stops,
            events,
            permit,
            tag,
            ahead: ahead.is_some(),
            once: ahead.is_some_and(|ahead| ahead.replaces.is_none()),
            request,
        }
    }

    /// Tells that it has its slot, which holds so many tokens of the prompt.
    pub(super) fn started(&mut self, cached: usize) {
        self.cached = count(cached);
        let computed = count(self.request.prompt.len()) - self.cached;
        let (slot, queued) = (count(self.slot), self.asked.elapsed());
        self.tell(Event::Started { cached: self.cached, computed, slot, queued });
    }

    /// Tells something. What nobody hears is found by [`left`](Self::left).
    pub(super) fn tell(&self, event: Event) {
        drop(self.events.send(Ok(event)));
    }

    pub(super) fn fail(self, error: GenerateError) {
        let Self { events, permit, .. } = self;
        drop(permit);
        drop(events.send(Err(error)));
    }

    /// The memory is free before the end is told, so that who hears of it finds it free.
    pub(super) fn done(self, event: Event) {
        let Self { events, permit, .. } = self;
        drop(permit);
        drop(events.send(Ok(event)));
    }

    /// Whether nobody listens any more.
    pub(super) fn left(&self) -> bool {
        self.events.is_closed()
    }

    /// Takes a token that was chosen.
    pub(super) fn take(&mut self, choice: Choice) -> Told {
        let Choice { token, logprobs, last } = choice;
        if self.stops.contains(&token) {
            return Told::Stop;
        }
        self.made += 1;
        self.next = Some(token);
        if let Some(logprobs) = logprobs {
            self.tell(Event::Logprobs(logprobs));
        }
        if self.events.send(Ok(Event::Token(token))).is_err() {
            return Told::Left;
        }
        if last {
            return Told::Stop;
        }
        if self.made >= self.limit { Told::Full } else { Told::More }
    }

    pub(super) fn usage(&self, kv_bytes: u64) -> Usage {
        Usage {
            prompt: count(self.request.prompt.len()),
            cached: self.cached,
            completion: self.made,
            kv_bytes,
        }
    }
}

/// Prompts are checked to be shorter than a window before they get here.
fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}
