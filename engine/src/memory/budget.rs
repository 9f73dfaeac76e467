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
    want: Want,
    answer: oneshot::Sender<Vec<Permit>>,
}

/// So many permits for so many tokens each.
#[derive(Debug, Clone, Copy)]
struct Want {
    tokens: u32,
    count: u32,
}

impl Want {
    fn one(tokens: u32) -> Self {
        Self { tokens, count: 1 }
    }
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
        self.try_take(Want::one(tokens))?;
        Ok(self.permit(tokens))
    }

    /// Reserves memory for `tokens`, after all who asked before. Dropping the future leaves the queue.
    pub(crate) async fn reserve(&self, tokens: u32) -> Result<Permit, AdmitError> {
        let mut permits = self.reserve_all(tokens, 1).await?;
        permits.pop().ok_or(AdmitError::Unloaded)
    }

    /// As [`reserve`](Self::reserve), `count` times at once: all of them or none.
    pub(crate) async fn reserve_all(&self, tokens: u32, count: u32) -> Result<Vec<Permit>, AdmitError> {
        let want = Want { tokens, count };
        let (ticket, granted) = match self.try_take(want) {
            Ok(()) => return Ok(self.permits(want)),
            Err(AdmitError::QueueFull { .. }) => self.enqueue(want)?,
            Err(refused) => return Err(refused),
        };
        let place = Place { budget: self, ticket };
        let permits = granted.await.map_err(|_| AdmitError::Unloaded);
        drop(place);
        permits
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

    fn needed(&self, want: Want) -> u64 {
        self.bytes(want.tokens) * u64::from(want.count)
    }

    fn check(&self, want: Want) -> Result<(), AdmitError> {
        let Want { tokens, count } = want;
        if count > self.0.slots {
            return Err(AdmitError::TooMany { count, slots: self.0.slots });
        }
        let (needed, limit) = (self.needed(want), self.0.limit);
        if tokens <= self.0.context && needed <= limit {
            return Ok(());
        }
        Err(AdmitError::TooLarge { tokens, needed, limit_tokens: self.0.context, limit })
    }

    /// Takes what is free now, if nobody waits for it.
    fn try_take(&self, want: Want) -> Result<(), AdmitError> {
        self.check(want)?;
        let mut state = self.open()?;
        if state.waiting.is_empty() && self.take(&mut state, want) {
            return Ok(());
        }
        Err(self.busy(&state, want))
    }

    fn enqueue(&self, want: Want) -> Result<(u64, oneshot::Receiver<Vec<Permit>>), AdmitError> {
        let mut state = self.open()?;
        if state.waiting.len() >= self.0.queue {
            return Err(self.busy(&state, want));
        }
        let (answer, granted) = oneshot::channel();
        let ticket = state.tickets;
        state.tickets += 1;
        state.waiting.push_back(Waiter { ticket, want, answer });
        drop(state);
        // What was freed between the failed try and now woke nobody.
        self.grant();
        Ok((ticket, granted))
    }

    /// Gives what is free to whoever is first in the queue.
    fn grant(&self) {
        loop {
            let mut state = self.state();
            let Some(want) = state.waiting.front().map(|waiter| waiter.want) else { return };
            if !self.take(&mut state, want) {
                return;
            }
            let waiter = state.waiting.pop_front();
            drop(state);
            let permits = self.permits(want);
            // A waiter that left hands its permits back, which frees them for the next one.
            drop(waiter.map(|waiter| waiter.answer.send(permits)));
        }
    }

    fn take(&self, state: &mut State, want: Want) -> bool {
        let bytes = self.needed(want);
        let fits = state.slots + want.count <= self.0.slots && state.reserved + bytes <= self.0.limit;
        if fits {
            state.slots += want.count;
            state.reserved += bytes;
        }
        fits
    }

    fn permit(&self, tokens: u32) -> Permit {
        Permit { budget: self.clone(), tokens }
    }

    fn permits(&self, want: Want) -> Vec<Permit> {
        (0..want.count).map(|_| self.permit(want.tokens)).collect()
    }

    fn busy(&self, state: &State, want: Want) -> AdmitError {
        AdmitError::QueueFull {
            needed: self.needed(want),
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
