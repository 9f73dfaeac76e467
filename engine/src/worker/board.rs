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
    /// Those of them that it may share with other slots: they are in memory once.
    pub shared: u32,
    /// Tokens it can hold.
    pub limit: u32,
    /// Whether a request runs in it.
    pub busy: bool,
    /// Since when no request does.
    pub idle_since: Option<Instant>,
}

/// How conversations share what they begin with alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharingReading {
    /// `shared`: pages are mapped into each slot; `copied`: each slot has its own.
    pub mode: &'static str,
    /// Why prefixes are copied.
    pub reason: Option<&'static str>,
    /// Beginnings of prompts that are held for all who begin with them.
    pub segments: u32,
    /// Bytes of KV cache that these take, each once.
    pub bytes: u64,
    /// Pieces of memory that sharing takes in this process.
    pub maps: u64,
    /// Pieces that it may take: a part of what the kernel allows (`vm.max_map_count`). Beyond it prefixes are copied.
    pub maps_limit: u64,
    /// Prefixes that were copied because no pieces were left.
    pub copied: u64,
}

impl SharingReading {
    /// Before the worker has said anything.
    const NONE: Self =
        Self { mode: "copied", reason: None, segments: 0, bytes: 0, maps: 0, maps_limit: 0, copied: 0 };
}

/// The latest readings, written by the worker after each turn.
pub(crate) struct Board {
    slots: Mutex<Vec<SlotReading>>,
    sharing: Mutex<SharingReading>,
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
        let slot = |id| SlotReading { id, tokens: 0, shared: 0, limit, busy: false, idle_since };
        Self {
            slots: Mutex::new((0..slots).map(slot).collect()),
            sharing: Mutex::new(SharingReading::NONE),
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

    /// How prefixes are shared.
    pub(crate) fn sharing(&self) -> SharingReading {
        *self.sharing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn publish_sharing(&self, reading: SharingReading) {
        *self.sharing.lock().unwrap_or_else(PoisonError::into_inner) = reading;
    }

    /// Slots as they are now, and the bytes of all that is held.
    pub(super) fn publish(&self, slots: &Slots, bytes: u64) {
        let mut readings = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        for (reading, (tokens, shared, busy, idle_since)) in readings.iter_mut().zip(slots.readings()) {
            reading.tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
            reading.shared = u32::try_from(shared).unwrap_or(u32::MAX);
            reading.busy = busy;
            reading.idle_since = (!busy).then_some(idle_since);
        }
        self.kv_used.store(bytes, Ordering::Relaxed);
    }
}
