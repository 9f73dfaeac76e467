//! A request in its slot.

use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;

use super::follow::Follow;
use super::{Facts, Order, Tag};
use crate::cache::SlotId;
use crate::error::GenerateError;
use crate::memory::Permit;
use crate::request::{Event, Generate, Usage};
use crate::sample::{Choice, Sampler};

/// Events that are held back at most.
const HELD: usize = 64;

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
    /// Tokens made.
    made: u32,
    cached: u32,
    /// When it was asked for.
    asked: Instant,
    /// Whose prompt it waits for.
    pub(super) follows: Option<Follow>,
    stops: Vec<u32>,
    events: UnboundedSender<Result<Event, GenerateError>>,
    /// What is to be told soon.
    held: Vec<Event>,
    /// When something of the answer was last told.
    told: Instant,
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
        let mut stops = request.stop_tokens.clone();
        if !request.ignore_eos {
            stops.extend(&facts.eos);
        }
        Self {
            id,
            slot,
            next: None,
            sampler: Sampler::new(&request, &stops, seed),
            limit: request.max_tokens.min(room),
            made: 0,
            cached: count(cached),
            asked,
            follows: None,
            stops,
            events,
            held: Vec::with_capacity(HELD),
            told: asked,
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

    /// Tells what was held back. False: nobody listens.
    pub(super) fn flush(&mut self) -> bool {
        if self.held.is_empty() {
            return true;
        }
        if !self.request.pace.is_zero() {
            self.told = Instant::now();
        }
        let mut heard = true;
        for event in self.held.drain(..) {
            heard &= self.events.send(Ok(event)).is_ok();
        }
        heard
    }

    pub(super) fn fail(mut self, error: GenerateError) {
        self.flush();
        let Self { events, permit, .. } = self;
        drop(permit);
        drop(events.send(Err(error)));
    }

    /// The memory is free before the end is told, so that who hears of it finds it free.
    pub(super) fn done(mut self, event: Event) {
        self.flush();
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
        self.held.extend(logprobs.map(Event::Logprobs));
        self.held.push(Event::Token(token));
        let due = self.made == 1 || self.held.len() >= HELD - 1 || self.told.elapsed() >= self.request.pace;
        if due && !self.flush() {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::{Bench, hear, prompt, request};
    use super::HELD;
    use crate::request::Generate;
    use crate::session::mock::answer;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn the_first_token_is_told_at_once_and_others_with_those_that_follow() {
        let mut bench = Bench::new(2);
        let asked = prompt(1, 20);
        let made = answer(&asked, 8);
        let mut events = bench.order(Generate { pace: HOUR, ..request(&asked, 8) }, 28);
        // Its slot, its prompt and three steps.
        bench.turns(5);
        assert_eq!(hear(&mut events).tokens, made[..1]);
        // Somebody else's prompt would hold up what is not told yet.
        let _other = bench.ask(&prompt(2, 20), 2);
        bench.turns(1);
        assert_eq!(hear(&mut events).tokens, made[1..4]);
        bench.work();
        let heard = hear(&mut events);
        assert_eq!((&heard.tokens[..], heard.done.unwrap().1.completion), (&made[4..], 8));
    }

    #[test]
    fn no_more_is_held_back_than_there_is_room_for() {
        let mut bench = Bench::new(1);
        let asked = prompt(1, 20);
        let mut events = bench.order(Generate { pace: HOUR, ..request(&asked, 200) }, 220);
        bench.turns(2 + HELD);
        assert_eq!(hear(&mut events).tokens, answer(&asked, HELD));
        bench.work();
        assert_eq!(hear(&mut events).tokens, answer(&asked, 200)[HELD..]);
    }

    #[test]
    fn without_a_pace_each_token_is_told_at_once() {
        let mut bench = Bench::new(1);
        let asked = prompt(1, 20);
        let mut events = bench.ask(&asked, 8);
        bench.turns(2);
        for token in answer(&asked, 8) {
            assert_eq!(hear(&mut events).tokens, [token]);
            bench.turns(1);
        }
    }
}
