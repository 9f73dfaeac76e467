//! What one engine has put into memory, by its own account.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The runtime's allocator of one session, read from any thread.
pub(crate) trait ArenaStats: Debug + Send + Sync {
    /// `None` once the session is gone.
    fn read(&self) -> Option<ArenaReading>;
}

/// What an allocator holds, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ArenaReading {
    /// Handed out.
    pub(crate) in_use: u64,
    /// Taken from the device, handed out or not.
    pub(crate) held: u64,
}

impl ArenaReading {
    /// Held for later, in bytes.
    pub(crate) fn slack(self) -> u64 {
        self.held.saturating_sub(self.in_use)
    }
}

/// What a session has put into memory.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    /// Bytes of the weights.
    pub(crate) weights: u64,
    /// Bytes of the buffers of a run, where they lie in the device's memory.
    pub(crate) buffers: u64,
    /// Bytes of KV cache that were taken in advance; `None` where it is taken token by token.
    pub(crate) kv_upfront: Option<u64>,
    /// The runtime's allocator, where it keeps statistics.
    pub(crate) arena: Option<Arc<dyn ArenaStats>>,
    /// Bytes that the allocator had handed out once the weights were loaded.
    pub(crate) arena_loaded: u64,
}

impl Holdings {
    /// Bytes that are held for certain.
    pub(crate) fn known(&self) -> u64 {
        self.weights + self.buffers + self.kv_upfront.unwrap_or(0)
    }
}

/// Bytes by what they are for; 0 where nothing is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Accounted {
    pub(crate) weights: u64,
    pub(crate) kv_cache: u64,
    pub(crate) workspace: u64,
    pub(crate) slack: u64,
}

impl Accounted {
    pub(crate) fn sum(self) -> u64 {
        self.weights + self.kv_cache + self.workspace + self.slack
    }
}

/// One engine's account.
#[derive(Debug, Default)]
pub(crate) struct Account {
    holdings: Mutex<Holdings>,
    /// Bytes of keys and values that are held, those of idle conversations included.
    pub(crate) kv_used: Arc<AtomicU64>,
    /// Whether a request runs.
    busy: AtomicBool,
    unloaded: AtomicBool,
}

impl Account {
    pub(crate) fn new(holdings: Holdings) -> Self {
        Self { holdings: Mutex::new(holdings), ..Self::default() }
    }

    pub(crate) fn read(&self) -> Accounted {
        if !self.loaded() {
            return Accounted::default();
        }
        let holdings = self.holdings();
        let arena = holdings.arena.as_ref().and_then(|arena| arena.read()).unwrap_or_default();
        Accounted {
            weights: holdings.weights,
            kv_cache: holdings.kv_upfront.unwrap_or_else(|| self.kv_used()),
            workspace: holdings.buffers + arena.in_use.saturating_sub(holdings.arena_loaded),
            slack: arena.slack(),
        }
    }

    pub(crate) fn kv_used(&self) -> u64 {
        self.kv_used.load(Ordering::Relaxed)
    }

    /// Bytes of the KV cache that are not there for the sake of a conversation.
    pub(crate) fn kv_besides(&self, kv_cache: u64) -> u64 {
        if self.holdings().kv_upfront.is_some() { kv_cache } else { kv_cache.saturating_sub(self.kv_used()) }
    }

    pub(crate) fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Relaxed);
    }

    pub(crate) fn busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// Weights, buffers and KV cache are gone. False: they were already.
    pub(crate) fn unload(&self) -> bool {
        self.kv_used.store(0, Ordering::Relaxed);
        !self.unloaded.swap(true, Ordering::AcqRel)
    }

    /// The model is back, and holds this.
    pub(crate) fn reload(&self, holdings: Holdings) {
        *self.holdings() = holdings;
        self.unloaded.store(false, Ordering::Release);
    }

    pub(crate) fn loaded(&self) -> bool {
        !self.unloaded.load(Ordering::Acquire)
    }

    fn holdings(&self) -> MutexGuard<'_, Holdings> {
        self.holdings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
