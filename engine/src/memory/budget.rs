//! Reserves KV memory and a slot for each request, in the order of asking.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::cache::{Base, Segments};
use crate::error::AdmitError;

/// All KV memory and slots of an engine. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: u64,
    per_token: u64,
    context: u32,
    slots: u32,
    queue: usize,
    segments: Segments,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Of what requests hold for themselves, and of the segments that they count on.
    reserved: u64,
    slots: u32,
    waiting: VecDeque<Waiter>,
    tickets: u64,
    closed: bool,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    ask: Ask,
    answer: oneshot::Sender<Vec<Permit>>,
}

/// What is asked for: tokens of prompt and answer together, so many times, and the prompt where it is known.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    tokens: u32,
    count: u32,
    prompt: Arc<[u32]>,
}

impl From<u32> for Ask {
    fn from(tokens: u32) -> Self {
        Self::new(tokens, Arc::default())
    }
}

impl Ask {
    pub(crate) fn new(tokens: u32, prompt: Arc<[u32]>) -> Self {
        Self { tokens, count: 1, prompt }
    }

    /// So many at once.
    pub(crate) fn times(self, count: u32) -> Self {
        Self { count, ..self }
    }

    /// The part of the prompt that may be there already: its last token is always computed.
    fn usable(&self) -> &[u32] {
        &self.prompt[..self.prompt.len().saturating_sub(1)]
    }
}

/// Leave to fill KV memory, and a slot to do it in. Frees both when dropped.
#[derive(Debug)]
pub struct Permit {
    budget: Budget,
    tokens: u32,
    /// What it shares with others and needs no memory for.
    base: Option<Base>,
}

impl Permit {
    /// Tokens it is for, prompt and answer together.
    pub fn tokens(&self) -> u32 {
        self.tokens
    }

    /// Bytes of KV cache that are reserved for it alone; what it shares with others is reserved once for all.
    pub fn bytes(&self) -> u64 {
        self.budget.bytes(own(self.tokens, self.base))
    }

    /// What it shares.
    pub(crate) fn base(&self) -> Option<Base> {
        self.base
    }

    /// Has it share this from now on. False: all stays as it was, since more than there is would be reserved. `forced`
    /// takes it all the same.
    pub(crate) fn rest_on(&mut self, base: Option<Base>, forced: bool) -> bool {
        if self.base == base {
            return true;
        }
        let budget = self.budget.clone();
        let mut state = budget.state();
        let (before, segments) = (state.reserved, &budget.0.segments);
        let pinned = budget.segment_bytes(segments.pin(base));
        let unpinned = budget.segment_bytes(segments.unpin(self.base));
        let after = before + budget.bytes(own(self.tokens, base)) + pinned - self.bytes() - unpinned;
        if after > before.max(budget.0.limit) && !forced {
            segments.pin(self.base);
            segments.unpin(base);
            return false;
        }
        state.reserved = after;
        self.base = base;
        drop(state);
        // What one counts on costs the next one less.
        budget.grant();
        true
    }
}

impl Permit {
    /// Has it share no more than this part of what it shares. Where memory for the rest is not free, it is for so many
    /// tokens less.
    pub(crate) fn part(&mut self, base: Option<Base>) {
        if self.rest_on(base, false) {
            return;
        }
        let tokens = |base: Option<Base>| base.map_or(0, |base| base.tokens);
        let less = u32::try_from(tokens(self.base).saturating_sub(tokens(base))).unwrap_or(u32::MAX);
        let budget = self.budget.clone();
        let before = self.bytes();
        self.tokens = self.tokens.saturating_sub(less);
        let mut state = budget.state();
        state.reserved -= before - self.bytes();
        drop(state);
        // As much as before, and no more: what it gives up here it takes there.
        self.rest_on(base, true);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        let left = self.budget.0.segments.unpin(self.base);
        state.reserved -= self.bytes() + self.budget.segment_bytes(left);
        state.slots -= 1;
        drop(state);
        self.budget.grant();
    }
}

/// The permit of one.
fn only(mut permits: Vec<Permit>) -> Result<Permit, AdmitError> {
    permits.pop().ok_or(AdmitError::Unloaded)
}

/// Tokens that a request holds for itself.
fn own(tokens: u32, base: Option<Base>) -> u32 {
    let shared = base.map_or(0, |base| u32::try_from(base.tokens).unwrap_or(u32::MAX));
    tokens.saturating_sub(shared)
}

impl Budget {
    /// `limit` bytes of KV cache at `per_token` bytes a token, for `slots` requests of at most `context` tokens at a
    /// time; `queue` more may wait.
    pub(crate) fn new(limit: u64, per_token: u64, context: u32, slots: u32, queue: usize) -> Self {
        let segments = Segments::default();
        Self(Arc::new(Inner { limit, per_token, context, slots, queue, segments, state: Mutex::default() }))
    }

    /// What prompts may begin with and need no memory for.
    pub(crate) fn segments(&self) -> Segments {
        self.0.segments.clone()
    }

    /// The model is unloaded, and its segments with it.
    pub(crate) fn clear_segments(&self) {
        let mut state = self.state();
        state.reserved -= self.segment_bytes(self.0.segments.clear());
    }

    /// Reserves memory now, for one.
    pub(crate) fn try_reserve(&self, ask: impl Into<Ask>) -> Result<Permit, AdmitError> {
        only(self.try_reserve_all(&ask.into())?)
    }

    /// Reserves memory for one, after all who asked before. Dropping the future leaves the queue.
    pub(crate) async fn reserve(&self, ask: impl Into<Ask>) -> Result<Permit, AdmitError> {
        only(self.reserve_all(ask.into()).await?)
    }

    /// As [`reserve`](Self::reserve), as many times as it is asked for: all at once or none.
    pub(crate) async fn reserve_all(&self, ask: Ask) -> Result<Vec<Permit>, AdmitError> {
        let (ticket, granted) = match self.try_reserve_all(&ask) {
            Err(AdmitError::QueueFull { .. }) => self.enqueue(ask)?,
            decided => return decided,
        };
        let place = Place { budget: self, ticket };
        let permits = granted.await.map_err(|_| AdmitError::Unloaded);
        drop(place);
        permits
    }

    fn try_reserve_all(&self, ask: &Ask) -> Result<Vec<Permit>, AdmitError> {
        self.check(ask)?;
        let mut state = self.open()?;
        let permits = if state.waiting.is_empty() { self.take(&mut state, ask) } else { None };
        permits.ok_or_else(|| self.busy(&state, ask))
    }

    /// Bytes reserved.
    pub(crate) fn reserved(&self) -> u64 {
        self.state().reserved
    }

    /// All bytes there are.
    pub(crate) fn limit(&self) -> u64 {
        self.0.limit
    }

    /// Tokens of a conversation at most.
    pub(crate) fn context(&self) -> u32 {
        self.0.context
    }

    /// Requests that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    /// Refuses everything from now on, who waits included.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
    }

    fn bytes(&self, tokens: u32) -> u64 {
        self.0.per_token * u64::from(tokens)
    }

    fn segment_bytes(&self, tokens: usize) -> u64 {
        self.0.per_token * tokens as u64
    }

    /// Whether it can ever be had. What it may share then is not known yet.
    fn check(&self, ask: &Ask) -> Result<(), AdmitError> {
        let Ask { tokens, count, .. } = *ask;
        if count > self.0.slots {
            return Err(AdmitError::TooMany { count, slots: self.0.slots });
        }
        let (needed, limit) = (self.bytes(tokens) * u64::from(count), self.0.limit);
        if tokens <= self.0.context && needed <= limit {
            return Ok(());
        }
        Err(AdmitError::TooLarge { tokens, needed, limit_tokens: self.0.context, limit })
    }

    fn enqueue(&self, ask: Ask) -> Result<(u64, oneshot::Receiver<Vec<Permit>>), AdmitError> {
        let mut state = self.open()?;
        if state.waiting.len() >= self.0.queue {
            return Err(self.busy(&state, &ask));
        }
        let (answer, granted) = oneshot::channel();
        let ticket = state.tickets;
        state.tickets += 1;
        state.waiting.push_back(Waiter { ticket, ask, answer });
        drop(state);
        // What was freed between the failed try and now woke nobody.
        self.grant();
        Ok((ticket, granted))
    }

    /// Gives what is free to whoever is first in the queue.
    fn grant(&self) {
        loop {
            let mut state = self.state();
            let Some(ask) = state.waiting.front().map(|waiter| waiter.ask.clone()) else { return };
            let Some(permits) = self.take(&mut state, &ask) else { return };
            let waiter = state.waiting.pop_front();
            drop(state);
            // A waiter that left hands its permits back, which frees them for the next one.
            drop(waiter.map(|waiter| waiter.answer.send(permits)));
        }
    }

    fn take(&self, state: &mut State, ask: &Ask) -> Option<Vec<Permit>> {
        let costs = self.costs(ask);
        let bytes: u64 = costs.iter().map(|(_, bytes)| bytes).sum();
        let fits = state.slots + ask.count <= self.0.slots && state.reserved + bytes <= self.0.limit;
        if !fits {
            self.uncount(&costs);
            return None;
        }
        state.slots += ask.count;
        state.reserved += bytes;
        let permit = |(base, _)| Permit { budget: self.clone(), tokens: ask.tokens, base };
        Some(costs.into_iter().map(permit).collect())
    }

    /// What each of those asked for costs: the second needs no more for what the first shares.
    fn costs(&self, ask: &Ask) -> Vec<(Option<Base>, u64)> {
        (0..ask.count).map(|_| self.cost(ask)).collect()
    }

    /// Nothing of it is counted on after all.
    fn uncount(&self, costs: &[(Option<Base>, u64)]) {
        for (base, _) in costs {
            self.0.segments.unpin(*base);
        }
    }

    /// What a request can share, counted on from now on, and the bytes that are to be reserved for it.
    fn cost(&self, ask: &Ask) -> (Option<Base>, u64) {
        let segments = &self.0.segments;
        let (whole, base) = (self.bytes(ask.tokens), segments.pin_base(ask.usable()));
        let Some((base, fresh)) = base else { return (None, whole) };
        let shared = self.bytes(own(ask.tokens, Some(base))) + self.segment_bytes(fresh);
        if shared <= whole {
            return (Some(base), shared);
        }
        // A long segment for the sake of a short beginning.
        segments.unpin(Some(base));
        (None, whole)
    }

    fn busy(&self, state: &State, ask: &Ask) -> AdmitError {
        let costs = self.costs(ask);
        self.uncount(&costs);
        AdmitError::QueueFull {
            needed: costs.iter().map(|(_, bytes)| bytes).sum(),
            free: self.0.limit.saturating_sub(state.reserved),
            limit: self.0.limit,
            slots_free: self.0.slots - state.slots,
            slots: self.0.slots,
            waiting: state.waiting.len(),
        }
    }

    fn open(&self) -> Result<MutexGuard<'_, State>, AdmitError> {
        let state = self.state();
        if state.closed { Err(AdmitError::Unloaded) } else { Ok(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue, left when dropped.
struct Place<'a> {
    budget: &'a Budget,
    ticket: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        let before = state.waiting.len();
        state.waiting.retain(|waiter| waiter.ticket != self.ticket);
        let left = state.waiting.len() < before;
        drop(state);
        if left {
            self.budget.grant();
        }
    }
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
