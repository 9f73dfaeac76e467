//! What the worker shows of its slots.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use super::batch::{Batch, Sink};
use crate::cache::Slots;

/// A slot as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotReading {
    /// Its number.
    pub id: u32,
    /// Tokens whose keys and values it holds.
    pub tokens: u32,
    /// Tokens it can hold.
    pub limit: u32,
    /// Whether a request runs in it.
    pub busy: bool,
    /// Since when no request does.
    pub idle_since: Option<Instant>,
}

/// The latest readings, written by the worker after each turn.
pub(crate) struct Board {
    slots: Mutex<Vec<SlotReading>>,
    kv_used: Arc<AtomicU64>,
    /// Who is told of batches.
    sink: OnceLock<Sink>,
    /// Bits of the seconds that a token of a prompt takes; 0: not measured yet.
    per_token: AtomicU64,
}

impl Board {
    /// `kv_used` gets the bytes of all tokens held.
    pub(crate) fn new(slots: u32, limit: u32, kv_used: Arc<AtomicU64>) -> Self {
        let idle_since = Some(Instant::now());
        let slot = |id| SlotReading { id, tokens: 0, limit, busy: false, idle_since };
        Self {
            slots: Mutex::new((0..slots).map(slot).collect()),
            kv_used,
            sink: OnceLock::new(),
            per_token: AtomicU64::new(0),
        }
    }

    /// Has batches told from now on. Only the first sink counts.
    pub(crate) fn watch(&self, sink: Sink) {
        drop(self.sink.set(sink));
    }

    pub(super) fn has_sink(&self) -> bool {
        self.sink.get().is_some()
    }

    pub(super) fn tell(&self, batch: Batch) {
        if let Some(sink) = self.sink.get() {
            sink(batch);
        }
    }

    /// Notes how many tokens of prompts are computed a second.
    pub(super) fn speed(&self, speed: Option<f64>) {
        let seconds = speed.filter(|speed| *speed > 0.0).map_or(0.0, f64::recip);
        self.per_token.store(seconds.to_bits(), Ordering::Relaxed);
    }

    /// Seconds that a token of a prompt takes, as lately measured.
    pub(crate) fn seconds_per_token(&self) -> Option<f64> {
        let seconds = f64::from_bits(self.per_token.load(Ordering::Relaxed));
        (seconds > 0.0).then_some(seconds)
    }

    /// Number of slots.
    pub(super) fn slots(&self) -> usize {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Tokens that a slot can hold.
    pub(super) fn limit(&self) -> usize {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.first().map_or(0, |slot| slot.limit as usize)
    }

    pub(crate) fn read(&self) -> Vec<SlotReading> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn publish(&self, slots: &Slots, bytes_per_token: u64) {
        let mut readings = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        for (reading, (tokens, busy, idle_since)) in readings.iter_mut().zip(slots.readings()) {
            reading.tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
            reading.busy = busy;
            reading.idle_since = (!busy).then_some(idle_since);
        }
        self.kv_used.store(slots.tokens() as u64 * bytes_per_token, Ordering::Relaxed);
    }
}
