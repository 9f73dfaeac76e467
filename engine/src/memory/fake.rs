//! A device and an allocator whose figures a test sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::account::{ArenaReading, ArenaStats};
use super::device::{Attribution, DeviceMemory, DeviceReading};

/// Bytes that somebody reads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figure(Arc<AtomicU64>);

impl Figure {
    pub(crate) fn of(bytes: u64) -> Self {
        Self(Arc::new(AtomicU64::new(bytes)))
    }

    pub(crate) fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::SeqCst);
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::SeqCst);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A device on which this process holds so many bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct FakeDevice(pub(crate) Figure);

impl DeviceMemory for FakeDevice {
    fn read(&self, _: u64) -> Option<DeviceReading> {
        Some(DeviceReading {
            used: self.0.get(),
            attribution: Attribution::Process,
            device_used: Some(self.0.get()),
            device_total: Some(80 << 30),
            source: "nvml",
        })
    }
}

/// Main memory of a process that holds so many bytes, and besides what its heap keeps until it is trimmed.
#[derive(Debug, Clone, Default)]
pub(crate) struct FakeHost {
    pub(crate) used: Figure,
    pub(crate) heap: Figure,
}

impl DeviceMemory for FakeHost {
    fn read(&self, _: u64) -> Option<DeviceReading> {
        let used = self.used.get() + self.heap.get();
        let attribution = Attribution::Process;
        Some(DeviceReading { used, attribution, device_used: None, device_total: None, source: "rss" })
    }

    fn settle(&self) {
        self.heap.set(0);
    }
}

/// An allocator that has handed out so many bytes, and holds so many.
#[derive(Debug, Clone, Default)]
pub(crate) struct FakeArena {
    pub(crate) in_use: Figure,
    pub(crate) held: Figure,
}

impl ArenaStats for FakeArena {
    fn read(&self) -> Option<ArenaReading> {
        Some(ArenaReading { in_use: self.in_use.get(), held: self.held.get() })
    }
}
