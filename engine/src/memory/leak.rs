//! Tells a leak from the ups and downs of memory: readings are taken only while nothing runs, and judged by how
//! steadily they grow.

use std::collections::VecDeque;

use super::trend;

/// Parts of an engine's memory, in the order in which they are shown.
pub const COMPONENTS: [&str; 6] = ["weights", "kv_cache", "workspace", "slack", "context", "unattributed"];

/// The one that nobody accounts for.
pub(super) const UNATTRIBUTED: &str = COMPONENTS[5];

/// Bytes of each of [`COMPONENTS`].
pub(crate) type Components = [u64; COMPONENTS.len()];

/// Readings that are not judged: first runs of a shape allocate what stays.
const WARM_UP: usize = 6;
/// Readings that the baseline is the median of.
const BASELINE: usize = 5;
/// Readings that the level is the median of: fewer than half of them may be outliers.
const LEVEL: usize = 9;
/// Readings that a trend is seen in, at least.
const FEWEST: usize = 16;
/// Readings of a window.
const WINDOW: usize = 48;
/// Growth below this, in bytes, is no leak.
const FLOOR: u64 = 64 << 20;
/// Nor is growth below this share of all that the process held at first.
const SHARE: u64 = 100;

/// How an engine's memory has been growing while nothing ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum LeakState {
    /// It stays, within the threshold.
    #[default]
    Ok,
    /// It rose past the threshold and has stayed there.
    Suspect,
    /// It grows steadily and has passed the threshold, or did not come back when the model was unloaded.
    Leak,
}

impl LeakState {
    /// The name in `/state` and in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Suspect => "suspect",
            Self::Leak => "leak",
        }
    }
}

/// What the detector found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeakReport {
    /// The worst state of any component.
    pub state: LeakState,
    /// The component that grew, one of [`COMPONENTS`]; nothing where all is well.
    pub component: Option<&'static str>,
    /// Its growth over the baseline, in bytes.
    pub growth: u64,
    /// Growth below this many bytes is no leak; 0 before there is a baseline.
    pub threshold: u64,
    /// Readings taken so far.
    pub samples: u64,
}

impl LeakReport {
    /// The state of one component.
    pub fn of(&self, component: &str) -> LeakState {
        if self.component == Some(component) { self.state } else { LeakState::Ok }
    }
}

/// Judges readings of one engine, taken while nothing ran, one after the other.
#[derive(Debug, Default)]
pub(crate) struct LeakDetector {
    series: [Series; COMPONENTS.len()],
    samples: u64,
    threshold: u64,
    /// Sums of the first readings after the warm-up.
    first: Vec<u64>,
    report: LeakReport,
}

impl LeakDetector {
    /// Takes a reading: bytes by component, the KV cache without the conversations that are kept on purpose.
    pub(crate) fn sample(&mut self, reading: &Components) -> LeakReport {
        self.samples += 1;
        self.report.samples = self.samples;
        if self.samples <= WARM_UP as u64 {
            return self.report;
        }
        for (series, &bytes) in self.series.iter_mut().zip(reading) {
            series.push(bytes);
        }
        if self.first.len() < BASELINE {
            self.first.push(reading.iter().sum());
            self.threshold = threshold(median(&self.first));
        }
        self.report = self.judge();
        self.report
    }

    /// What the last reading gave.
    pub(crate) fn report(&self) -> LeakReport {
        self.report
    }

    /// Begins anew: what was measured before is no measure any more.
    pub(crate) fn restart(&mut self) {
        *self = Self::default();
    }

    fn judge(&self) -> LeakReport {
        let judged = self.series.iter().zip(COMPONENTS).map(|(series, component)| {
            let (state, growth) = series.judge(self.threshold);
            (state, growth, component)
        });
        let worst = judged.max_by_key(|&(state, growth, _)| (state, growth));
        let (state, growth, component) = worst.unwrap_or((LeakState::Ok, 0, COMPONENTS[0]));
        let component = (state != LeakState::Ok).then_some(component);
        let growth = if component.is_some() { growth } else { 0 };
        LeakReport { state, component, growth, threshold: self.threshold, samples: self.samples }
    }
}

/// The readings of one component.
#[derive(Debug)]
struct Series {
    /// The first readings: what later ones are compared with.
    first: Vec<u64>,
    /// The last readings, all of them.
    recent: VecDeque<u64>,
    /// Readings since the beginning, thinned out as they become many, so that slow growth shows.
    whole: Vec<u64>,
    /// Every how many readings one is kept in `whole`.
    stride: u64,
    taken: u64,
}

impl Default for Series {
    fn default() -> Self {
        Self { first: Vec::new(), recent: VecDeque::new(), whole: Vec::new(), stride: 1, taken: 0 }
    }
}

impl Series {
    fn push(&mut self, bytes: u64) {
        if self.first.len() < BASELINE {
            self.first.push(bytes);
        }
        if self.recent.len() == WINDOW {
            self.recent.pop_front();
        }
        self.recent.push_back(bytes);
        if self.taken.is_multiple_of(self.stride) {
            if self.whole.len() == WINDOW {
                let mut keep = false;
                self.whole.retain(|_| {
                    keep = !keep;
                    keep
                });
                self.stride *= 2;
            }
            if self.taken.is_multiple_of(self.stride) {
                self.whole.push(bytes);
            }
        }
        self.taken += 1;
    }

    /// The state, and the growth over the baseline in bytes.
    fn judge(&self, threshold: u64) -> (LeakState, u64) {
        if self.first.len() < BASELINE {
            return (LeakState::Ok, 0);
        }
        let last: Vec<u64> = self.recent.iter().rev().take(LEVEL).copied().collect();
        let growth = median(&last).saturating_sub(median(&self.first));
        // Most engines end here: the two medians cost little, a trend costs more.
        if last.len() < LEVEL || growth < threshold {
            return (LeakState::Ok, growth);
        }
        let recent: Vec<u64> = self.recent.iter().copied().collect();
        // Where the readings are few, both are the same.
        let whole = (self.stride > 1).then(|| trend::grows(&self.whole, FEWEST, threshold));
        if whole.unwrap_or(false) || trend::grows(&recent, FEWEST, threshold) {
            return (LeakState::Leak, growth);
        }
        (LeakState::Suspect, growth)
    }
}

/// Growth that is no leak, in bytes, for a process that holds `held`.
pub(super) fn threshold(held: u64) -> u64 {
    FLOOR.max(held / SHARE)
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
#[path = "leak_tests.rs"]
mod tests;
