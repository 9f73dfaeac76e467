//! Ends the run of a request that nobody waits for.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::session::Interrupt;

/// The request whose prompt is computed right now.
pub(crate) struct Current(Mutex<State>);

struct State {
    request: Option<u64>,
    interrupt: Arc<dyn Interrupt>,
}

impl Current {
    pub(crate) fn new(interrupt: Arc<dyn Interrupt>) -> Self {
        Self(Mutex::new(State { request: None, interrupt }))
    }

    /// Another session does the runs from now on.
    pub(super) fn replace(&self, interrupt: Arc<dyn Interrupt>) {
        *self.state() = State { request: None, interrupt };
    }

    /// A run for `request` alone begins; `cancel` may end it until [`end`](Self::end).
    pub(crate) fn begin(&self, request: u64) {
        self.state().request = Some(request);
    }

    /// The run is over; the next one is not ended by what came too late.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.request = None;
        state.interrupt.set(false);
    }

    fn cancel(&self, request: u64) {
        let state = self.state();
        if state.request == Some(request) {
            state.interrupt.set(true);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current").field("request", &self.state().request).finish_non_exhaustive()
    }
}

/// Ends the run of its request when dropped.
#[derive(Debug)]
pub(crate) struct Cancel {
    current: Arc<Current>,
    request: u64,
}

impl Cancel {
    pub(crate) fn new(current: Arc<Current>, request: u64) -> Self {
        Self { current, request }
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        self.current.cancel(self.request);
    }
}
