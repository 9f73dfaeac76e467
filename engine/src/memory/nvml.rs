//! A CUDA device's memory by the driver's library, which counts processes by ids that a container does not know, knows
//! slices of a device (MIG) only by handles of their own, and at times gives no figure at all.

use std::fmt;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nvml_wrapper::Nvml;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;

use super::device::{Attribution, DeviceMemory, DeviceReading};

/// The library, loaded once for the process.
static NVML: LazyLock<Option<Nvml>> = LazyLock::new(|| match Nvml::init() {
    Ok(nvml) => Some(nvml),
    Err(error) => {
        // Without a driver this is a failure to load; in a container without `utility` among its driver capabilities
        // the library is missing.
        tracing::debug!(%error, "NVML is not available");
        None
    }
});

/// Asking the driver takes up to a millisecond, and several requests may ask at once: a reading stays good this long.
const FRESH: Duration = Duration::from_millis(20);

/// What the driver answers of one device or slice. The seam for tests.
pub(super) trait Card: Send + Sync {
    /// Bytes in use by everybody, and all bytes.
    fn memory(&self) -> Option<(u64, u64)>;
    /// Processes that compute: id, and bytes where the driver tells.
    fn processes(&self) -> Option<Vec<(u32, Option<u64>)>>;
    /// Whether it is cut into slices.
    fn sliced(&self) -> bool;
    /// Those of its slices that this process may ask.
    fn slices(&self) -> Vec<Box<dyn Card>>;
}

/// A CUDA device as the driver sees it.
pub(super) struct Gpu {
    card: Box<dyn Card>,
    /// Where the driver gives no memory, the CUDA runtime does: bytes in use by everybody, and all bytes.
    runtime: Box<dyn Fn() -> Option<(u64, u64)> + Send + Sync>,
    pid: u32,
    /// In use by others before this process used it.
    before: u64,
    latest: Mutex<Option<(Instant, DeviceReading)>>,
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gpu").field("pid", &self.pid).field("before", &self.before).finish_non_exhaustive()
    }
}

impl Gpu {
    /// To be made before this process uses the device; `known` bytes are its own already, where it does. Of several
    /// slices, the one of the size that the CUDA runtime sees is meant.
    pub(super) fn new(
        card: Box<dyn Card>,
        pid: u32,
        known: u64,
        runtime: impl Fn() -> Option<(u64, u64)> + Send + Sync + 'static,
    ) -> Self {
        let total = runtime().map(|(_, total)| total);
        let card = if card.sliced() { slice(card.slices(), total, pid) } else { card };
        let before = card.memory().or_else(&runtime).map_or(0, |(used, _)| used.saturating_sub(known));
        Self { card, runtime: Box::new(runtime), pid, before, latest: Mutex::default() }
    }

    fn ask(&self, known: u64) -> Option<DeviceReading> {
        let told = self.card.memory();
        let source = if told.is_some() { "nvml" } else { "cuda" };
        let (everybody, total) = told.or_else(|| (self.runtime)())?;
        let processes = self.card.processes().unwrap_or_default();
        // An id of ours may be another process's outside this container: that one holds too little, or too much.
        let plausible = |bytes: u64| bytes >= known && bytes <= everybody;
        let own = processes.iter().find(|&&(pid, _)| pid == self.pid);
        let own = own.and_then(|&(_, bytes)| bytes).filter(|&bytes| plausible(bytes));
        let only = match processes.as_slice() {
            [(_, bytes)] => bytes.filter(|&bytes| plausible(bytes)),
            _ => None,
        };
        let (used, attribution) = match (own, only) {
            (Some(bytes), _) => (bytes, Attribution::Process),
            (None, Some(bytes)) => (bytes, Attribution::OnlyProcess),
            (None, None) => (everybody.saturating_sub(self.before), Attribution::Device),
        };
        Some(DeviceReading {
            used,
            attribution,
            device_used: Some(everybody),
            device_total: Some(total),
            source,
        })
    }
}

impl DeviceMemory for Gpu {
    fn read(&self, known: u64) -> Option<DeviceReading> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = latest.filter(|(taken, _)| taken.elapsed() < FRESH);
        if let Some((_, reading)) = fresh {
            return Some(reading);
        }
        let reading = self.ask(known)?;
        *latest = Some((Instant::now(), reading));
        Some(reading)
    }
}

/// The slice that this process runs on: the only one it may ask, the one that knows its id, or the only one of the
/// size that CUDA sees. Else none, and the CUDA runtime is asked alone: the whole device's figures are not ours.
fn slice(slices: Vec<Box<dyn Card>>, total: Option<u64>, pid: u32) -> Box<dyn Card> {
    let knows = |card: &dyn Card| card.processes().unwrap_or_default().iter().any(|&(id, _)| id == pid);
    // The two libraries differ by what the driver keeps for itself.
    let fits = |card: &dyn Card| {
        let near = |(_, all): (u64, u64), total: u64| all.abs_diff(total) <= total / 20;
        card.memory().zip(total).is_some_and(|(memory, total)| near(memory, total))
    };
    let one = |wanted: &dyn Fn(&dyn Card) -> bool| {
        let mut places = slices.iter().enumerate().filter(|(_, card)| wanted(card.as_ref()));
        let place = places.next().map(|(place, _)| place);
        place.filter(|_| places.next().is_none())
    };
    let place = one(&|_| true).or_else(|| one(&knows)).or_else(|| one(&fits));
    match place.and_then(|place| slices.into_iter().nth(place)) {
        Some(card) => card,
        None => Box::new(Silent),
    }
}

/// A device that the driver does not speak of.
pub(super) struct Silent;

impl Card for Silent {
    fn memory(&self) -> Option<(u64, u64)> {
        None
    }

    fn processes(&self) -> Option<Vec<(u32, Option<u64>)>> {
        None
    }

    fn sliced(&self) -> bool {
        false
    }

    fn slices(&self) -> Vec<Box<dyn Card>> {
        Vec::new()
    }
}

/// The driver's own card at a place on the bus; CUDA and the driver number devices differently.
pub(super) fn card(bus_id: &str) -> Box<dyn Card> {
    let device = NVML.as_ref().and_then(|nvml| told(nvml.device_by_pci_bus_id(bus_id), "the device"));
    device.map_or_else(|| Box::new(Silent) as Box<dyn Card>, |device| Box::new(Device(device)))
}

struct Device(nvml_wrapper::Device<'static>);

impl Card for Device {
    fn memory(&self) -> Option<(u64, u64)> {
        // Drivers before 510 lack this version of the call.
        told(self.0.memory_info(), "memory").map(|memory| (memory.used, memory.total))
    }

    fn processes(&self) -> Option<Vec<(u32, Option<u64>)>> {
        let processes = match self.0.running_compute_processes() {
            Err(NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound) => {
                self.0.running_compute_processes_v2()
            }
            // More processes started while the driver was asked: once more.
            Err(NvmlError::InsufficientSize(_)) => self.0.running_compute_processes(),
            answer => answer,
        };
        told(processes, "processes").map(|processes| processes.iter().map(process).collect())
    }

    fn sliced(&self) -> bool {
        // Devices that cannot be cut do not support the question.
        self.0.mig_mode().is_ok_and(|mode| mode.current == 1)
    }

    fn slices(&self) -> Vec<Box<dyn Card>> {
        let count = told(self.0.mig_device_count(), "slices").unwrap_or(0);
        // A slice that is not there, or not given to this container, is refused.
        let slices = (0..count).filter_map(|index| self.0.mig_device_by_index(index).ok());
        slices.map(|slice| Box::new(Self(slice)) as Box<dyn Card>).collect()
    }
}

/// Some drivers say `u64::MAX` for every process, which the wrapper calls unavailable.
fn process(info: &ProcessInfo) -> (u32, Option<u64>) {
    let bytes = match info.used_gpu_memory {
        UsedGpuMemory::Used(bytes) => Some(bytes),
        UsedGpuMemory::Unavailable => None,
    };
    (info.pid, bytes)
}

/// What the driver refuses is a figure less, and no failure: it may not support it, permit it, or know the call.
fn told<T>(answer: Result<T, NvmlError>, what: &'static str) -> Option<T> {
    answer.inspect_err(|error| tracing::debug!(%error, what, "NVML does not tell")).ok()
}

#[cfg(test)]
#[path = "nvml_tests.rs"]
mod tests;
