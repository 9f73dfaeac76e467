//! Memory by component, as it is now, and whether it grows.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::account::{Account, Accounted, Holdings};
use super::budget::Budget;
use super::device::Attribution;
use super::leak::{COMPONENTS, Components, LeakDetector, LeakReport};
use super::ledger::{Ledger, Shares};
use super::system;

/// Between two readings of the leak detector: what grows in seconds is filling up, what grows in minutes is leaking.
const EVERY: Duration = Duration::from_secs(10);

/// Memory of an engine, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryReading {
    /// The weights as they are loaded.
    pub weights: u64,
    /// Memory of the KV cache: all of it on CUDA, where it is taken in advance; else as `kv_used`.
    pub kv_cache: u64,
    /// Keys and values that are held, those of idle conversations included.
    pub kv_used: u64,
    /// Reserved for requests that run.
    pub kv_reserved: u64,
    /// All that the KV cache may take.
    pub kv_limit: u64,
    /// In use for runs: token ids, masks, logits, states of layers without keys and values, the blocks that growing
    /// caches are run as, and what the runtime has handed out.
    pub workspace: u64,
    /// Held by the runtime's allocator for later runs.
    pub slack: u64,
    /// What the process held besides when the model had been loaded: code, the driver's context. Shared by the engines
    /// on a device.
    pub context: u64,
    /// Held by the process on the device, and accounted for by nobody. Shared by the engines on a device.
    pub unattributed: u64,
    /// How the process's part of the device's memory was told apart; `None` where the device tells nothing.
    pub attribution: Option<Attribution>,
    /// The whole process in main memory, whatever it is for.
    pub process_rss: u64,
    /// In use on the CUDA device, by everybody.
    pub device_used: Option<u64>,
    /// All memory of the CUDA device.
    pub device_total: Option<u64>,
    /// Where the figures come from: the engine's own accounts, and for the rest the process's pages (`engine+rss`), the
    /// driver (`engine+nvml`) or the CUDA runtime (`engine+cuda`).
    pub source: &'static str,
    /// Whether memory grows that should not.
    pub leak: LeakReport,
}

impl MemoryReading {
    /// All memory by what it is for, in the order of [`COMPONENTS`].
    pub fn components(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let sizes =
            [self.weights, self.kv_cache, self.workspace, self.slack, self.context, self.unattributed];
        COMPONENTS.into_iter().zip(sizes)
    }

    /// The sum of the components.
    pub fn total(&self) -> u64 {
        self.components().map(|(_, bytes)| bytes).sum()
    }
}

/// Reads an engine's memory. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Meter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    budget: Budget,
    account: Arc<Account>,
    ledger: Arc<Ledger>,
    every: Duration,
    watch: Mutex<Watch>,
}

/// The leak detector, and when it took its last reading.
#[derive(Debug, Default)]
struct Watch {
    detector: LeakDetector,
    last: Option<Instant>,
    epoch: u64,
    /// Requests have run since.
    worked: bool,
}

impl Meter {
    /// For an engine that is loaded and has run once.
    pub(crate) fn new(budget: Budget, holdings: Holdings, ledger: Arc<Ledger>) -> Self {
        Self::every(EVERY, budget, holdings, ledger)
    }

    /// With at least this long between two readings of the leak detector.
    pub(crate) fn every(every: Duration, budget: Budget, holdings: Holdings, ledger: Arc<Ledger>) -> Self {
        let account = Arc::new(Account::new(holdings));
        ledger.enter(&account);
        Self(Arc::new(Inner { budget, account, ledger, every, watch: Mutex::default() }))
    }

    /// The account of the KV cache, in bytes.
    pub(crate) fn kv_used(&self) -> Arc<std::sync::atomic::AtomicU64> {
        self.0.account.kv_used.clone()
    }

    /// Requests run from now on.
    pub(crate) fn works(&self) {
        self.0.account.set_busy(true);
        self.watch().worked = true;
    }

    /// Nothing runs any more. True: it is time for a reading of the leak detector.
    pub(crate) fn rests(&self) -> bool {
        self.0.account.set_busy(false);
        let watch = self.watch();
        let due = watch.last.is_none_or(|last| last.elapsed() >= self.0.every);
        watch.worked && due && self.0.ledger.idle()
    }

    /// Takes a reading for the leak detector, after what was only held for runs has been given back.
    pub(crate) fn sample(&self) {
        let (accounted, shares) = (self.0.account.read(), self.0.ledger.read());
        let mut watch = self.watch();
        if watch.epoch != shares.epoch {
            // Another engine came or went, and took or left memory of the process.
            watch.detector.restart();
            watch.epoch = shares.epoch;
        }
        let before = watch.detector.report();
        let after = watch.detector.sample(&self.judged(accounted, &shares));
        (watch.last, watch.worked) = (Some(Instant::now()), false);
        drop(watch);
        if before.state != after.state {
            tell(&after, "memory while nothing runs");
        }
    }

    /// Weights, buffers and KV cache are gone, and must have been given back.
    pub(crate) fn unload(&self) {
        if self.0.account.unload() {
            tell(&self.0.ledger.leave(&self.0.account), "memory after the model was unloaded");
        }
    }

    /// The model is back.
    pub(crate) fn reload(&self, holdings: Holdings) {
        self.0.account.reload(holdings);
        self.0.ledger.enter(&self.0.account);
    }

    /// Whether the model is in memory.
    pub(crate) fn loaded(&self) -> bool {
        self.0.account.loaded()
    }

    pub(crate) fn read(&self) -> MemoryReading {
        let (accounted, shares) = (self.0.account.read(), self.0.ledger.read());
        let loaded = self.loaded();
        let device = shares.device;
        let own = self.watch().detector.report();
        MemoryReading {
            weights: accounted.weights,
            kv_cache: accounted.kv_cache,
            kv_used: self.0.account.kv_used(),
            kv_reserved: self.0.budget.reserved(),
            kv_limit: self.0.budget.limit(),
            workspace: accounted.workspace,
            slack: accounted.slack,
            // An engine that is gone shares nothing.
            context: if loaded { shares.context } else { 0 },
            unattributed: if loaded { shares.unattributed } else { 0 },
            attribution: device.map(|device| device.attribution),
            process_rss: system::process_rss(),
            device_used: device.and_then(|device| device.device_used),
            device_total: device.and_then(|device| device.device_total),
            source: source(device.map(|device| device.source)),
            leak: if shares.unloads.state > own.state { shares.unloads } else { own },
        }
    }

    /// What the detector compares: conversations that are kept for reuse are no leak.
    fn judged(&self, accounted: Accounted, shares: &Shares) -> Components {
        [
            accounted.weights,
            self.0.account.kv_besides(accounted.kv_cache),
            accounted.workspace,
            accounted.slack,
            shares.context,
            shares.unattributed,
        ]
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.0.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change is told once, in the log; `/state` and the metrics go on telling it.
fn tell(report: &LeakReport, what: &'static str) {
    let LeakReport { state, component, growth, threshold, samples } = *report;
    let (state, component) = (state.as_str(), component.unwrap_or("none"));
    if component == "none" {
        tracing::debug!(target: "plimsoll", what, state, samples, "memory is back to what it was");
    } else {
        tracing::warn!(
            target: "plimsoll", what, state, component, growth_bytes = growth, threshold_bytes = threshold, samples,
            "memory has grown beyond its threshold"
        );
    }
}

fn source(device: Option<&'static str>) -> &'static str {
    match device {
        Some("nvml") => "engine+nvml",
        Some("cuda") => "engine+cuda",
        Some("rss") => "engine+rss",
        _ => "engine",
    }
}

#[cfg(test)]
#[path = "reading_tests.rs"]
mod tests;
