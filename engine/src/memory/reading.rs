//! Memory by component, as it is now.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::budget::Budget;
use super::system::{self, Gpu};

/// Memory of an engine, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryReading {
    /// The weights, by the graph's tensor shapes.
    pub weights: u64,
    /// Keys and values that are held, those of idle conversations included.
    pub kv_used: u64,
    /// Reserved for requests that run.
    pub kv_reserved: u64,
    /// All that the KV cache may take.
    pub kv_limit: u64,
    /// Buffers for one step: token ids, masks, logits.
    pub workspace: u64,
    /// The whole process in main memory, whatever it is for.
    pub process_rss: u64,
    /// In use on the CUDA device, by everybody.
    pub device_used: Option<u64>,
    /// All memory of the CUDA device.
    pub device_total: Option<u64>,
    /// Where the figures come from: `engine` (its own accounts) or `engine+nvml` (and the driver's, for the device).
    pub source: &'static str,
}

impl MemoryReading {
    /// What the engine has put into memory, by name.
    pub fn components(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [("weights", self.weights), ("kv_cache", self.kv_used), ("workspace", self.workspace)].into_iter()
    }

    /// The sum of the components.
    pub fn total(&self) -> u64 {
        self.components().map(|(_, bytes)| bytes).sum()
    }
}

/// Reads an engine's memory.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) budget: Budget,
    pub(crate) weights: u64,
    pub(crate) workspace: u64,
    pub(crate) kv_used: Arc<AtomicU64>,
    gpu: Option<Gpu>,
    /// Set while weights, buffers and KV cache are gone.
    pub(crate) unloaded: Arc<AtomicBool>,
}

impl Meter {
    /// `bus_id` is the CUDA device's where the engine runs on one.
    pub(crate) fn new(budget: Budget, weights: u64, workspace: u64, bus_id: Option<String>) -> Self {
        Self {
            budget,
            weights,
            workspace,
            kv_used: Arc::default(),
            gpu: bus_id.and_then(Gpu::open),
            unloaded: Arc::default(),
        }
    }

    /// Whether the model is in memory.
    pub(crate) fn loaded(&self) -> bool {
        !self.unloaded.load(Ordering::Acquire)
    }

    /// Weights, buffers and KV cache are gone.
    pub(crate) fn unload(&self) {
        self.unloaded.store(true, Ordering::Relaxed);
        self.kv_used.store(0, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> MemoryReading {
        let device = self.gpu.as_ref().and_then(Gpu::usage);
        let held = |bytes| if self.loaded() { bytes } else { 0 };
        MemoryReading {
            weights: held(self.weights),
            kv_used: self.kv_used.load(Ordering::Relaxed),
            kv_reserved: self.budget.reserved(),
            kv_limit: self.budget.limit(),
            workspace: held(self.workspace),
            process_rss: system::process_rss(),
            device_used: device.map(|(used, _)| used),
            device_total: device.map(|(_, total)| total),
            source: if device.is_some() { "engine+nvml" } else { "engine" },
        }
    }
}
