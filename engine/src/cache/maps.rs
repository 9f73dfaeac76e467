//! How many pieces of memory may be mapped. The kernel bounds them for each process (`vm.max_map_count`), and whatever
//! maps memory when they are used up fails: sharing keeps to a part of them.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Pieces that the shared rows of all engines of this process take.
static USED: AtomicUsize = AtomicUsize::new(0);

/// Three quarters of what was left when the first engine asked. The rest is for everybody else.
static LIMIT: LazyLock<usize> = LazyLock::new(|| {
    let most = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok();
    let most = most.and_then(|text| text.trim().parse::<usize>().ok()).unwrap_or(0);
    let mapped = std::fs::read_to_string("/proc/self/maps").map_or(most, |text| text.lines().count());
    most.saturating_sub(mapped) / 4 * 3
});

/// What one engine's rows have taken; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Maps {
    taken: usize,
    limit: usize,
}

impl Maps {
    pub(super) fn new() -> Self {
        Self { taken: 0, limit: *LIMIT }
    }

    /// With room for so many pieces in the whole process.
    #[cfg(test)]
    pub(super) fn of(limit: usize) -> Self {
        Self { taken: 0, limit }
    }

    /// Whether `more` pieces fit in the place of `fewer`.
    pub(super) fn fit(&self, fewer: usize, more: usize) -> bool {
        more <= fewer || USED.load(Ordering::Relaxed) + more - fewer <= self.limit
    }

    /// Takes `more` pieces and gives `fewer` back, whether or not they fit.
    pub(super) fn exchange(&mut self, fewer: usize, more: usize) {
        self.taken = self.taken + more - fewer;
        USED.fetch_add(more, Ordering::Relaxed);
        USED.fetch_sub(fewer, Ordering::Relaxed);
    }

    /// Pieces that all engines of this process have taken, and may take.
    pub(super) fn count(&self) -> (usize, usize) {
        (USED.load(Ordering::Relaxed), self.limit)
    }
}

impl Drop for Maps {
    fn drop(&mut self) {
        USED.fetch_sub(self.taken, Ordering::Relaxed);
    }
}
