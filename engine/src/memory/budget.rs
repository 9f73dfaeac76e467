//! Reserves KV memory and a slot for each request, in the order of asking.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

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
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    reserved: u64,
    slots: u32,
    waiting: VecDeque<Waiter>,
    tickets: u64,
    closed: bool,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    tokens: u32,
    answer: oneshot::Sender<Permit>,
}

/// Leave to fill KV memory, and a slot to do it in. Frees both when dropped.
#[derive(Debug)]
pub struct Permit {
    budget: Budget,
    tokens: u32,
}

impl Permit {
    /// Tokens it is for, prompt and answer together.
    pub fn tokens(&self) -> u32 {
        self.tokens
    }

    /// Bytes of KV cache it is for.
    pub fn bytes(&self) -> u64 {
        self.budget.bytes(self.tokens)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        state.reserved -= self.bytes();
        state.slots -= 1;
        drop(state);
        self.budget.grant();
    }
}

impl Budget {
    /// `limit` bytes of KV cache at `per_token` bytes a token, for `slots` requests of at most `context` tokens at a
    /// time; `queue` more may wait.
    pub(crate) fn new(limit: u64, per_token: u64, context: u32, slots: u32, queue: usize) -> Self {
        Self(Arc::new(Inner { limit, per_token, context, slots, queue, state: Mutex::default() }))
    }

    /// Reserves memory for `tokens` now.
    pub(crate) fn try_reserve(&self, tokens: u32) -> Result<Permit, AdmitError> {
        self.check(tokens)?;
        let mut state = self.open()?;
        if state.waiting.is_empty() && self.take(&mut state, tokens) {
            return Ok(self.permit(tokens));
        }
        Err(self.busy(&state, tokens))
    }

    /// Reserves memory for `tokens`, after all who asked before. Dropping the future leaves the queue.
    pub(crate) async fn reserve(&self, tokens: u32) -> Result<Permit, AdmitError> {
        let (ticket, granted) = match self.try_reserve(tokens) {
            Err(AdmitError::QueueFull { .. }) => self.enqueue(tokens)?,
            decided => return decided,
        };
        let place = Place { budget: self, ticket };
        let permit = granted.await.map_err(|_| AdmitError::Unloaded);
        drop(place);
        permit
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

    fn check(&self, tokens: u32) -> Result<(), AdmitError> {
        let (needed, limit) = (self.bytes(tokens), self.0.limit);
        if tokens <= self.0.context && needed <= limit {
            return Ok(());
        }
        Err(AdmitError::TooLarge { tokens, needed, limit_tokens: self.0.context, limit })
    }

    fn enqueue(&self, tokens: u32) -> Result<(u64, oneshot::Receiver<Permit>), AdmitError> {
        let mut state = self.open()?;
        if state.waiting.len() >= self.0.queue {
            return Err(self.busy(&state, tokens));
        }
        let (answer, granted) = oneshot::channel();
        let ticket = state.tickets;
        state.tickets += 1;
        state.waiting.push_back(Waiter { ticket, tokens, answer });
        drop(state);
        // What was freed between the failed try and now woke nobody.
        self.grant();
        Ok((ticket, granted))
    }

    /// Gives what is free to whoever is first in the queue.
    fn grant(&self) {
        loop {
            let mut state = self.state();
            let Some(tokens) = state.waiting.front().map(|waiter| waiter.tokens) else { return };
            if !self.take(&mut state, tokens) {
                return;
            }
            let waiter = state.waiting.pop_front();
            drop(state);
            let permit = self.permit(tokens);
            // A waiter that left hands its permit back, which frees it for the next one.
            drop(waiter.map(|waiter| waiter.answer.send(permit)));
        }
    }

    fn take(&self, state: &mut State, tokens: u32) -> bool {
        let bytes = self.bytes(tokens);
        let fits = state.slots < self.0.slots && state.reserved + bytes <= self.0.limit;
        if fits {
            state.slots += 1;
            state.reserved += bytes;
        }
        fits
    }

    fn permit(&self, tokens: u32) -> Permit {
        Permit { budget: self.clone(), tokens }
    }

    fn busy(&self, state: &State, tokens: u32) -> AdmitError {
        AdmitError::QueueFull {
            needed: self.bytes(tokens),
            free: self.0.limit - state.reserved,
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
