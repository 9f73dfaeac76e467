//! All engines of this process on one device: they share its memory, so that only together they tell what nobody
//! accounts for, and whether an unloaded model has given everything back.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use super::account::Account;
use super::device::{DeviceMemory, DeviceReading, RSS, Resident};
use super::leak::{self, LeakDetector, LeakReport, LeakState};
use super::nvml::{self, Gpu};
use crate::cache::device;

/// Main memory, which every process has.
static HOST: LazyLock<Arc<Ledger>> = LazyLock::new(|| Arc::new(Ledger::new(Arc::new(Resident))));
/// CUDA devices, by their place on the bus.
static CUDA: Mutex<BTreeMap<String, Arc<Ledger>>> = Mutex::new(BTreeMap::new());

/// The engines on one device.
#[derive(Debug)]
pub(crate) struct Ledger {
    memory: Arc<dyn DeviceMemory>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    accounts: Vec<Weak<Account>>,
    /// Bytes that the process held besides when an engine was loaded last: its code, the driver's context.
    context: u64,
    /// Counts loads and unloads.
    epoch: u64,
    /// Readings of the times when no engine was left.
    empty: LeakDetector,
    /// What did not come back when an engine was unloaded last.
    unreturned: LeakReport,
}

/// A device's memory as its engines share it, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shares {
    pub(crate) device: Option<DeviceReading>,
    pub(crate) context: u64,
    pub(crate) unattributed: u64,
    /// Loads and unloads so far: readings of different epochs do not compare.
    pub(crate) epoch: u64,
    /// What unloading has shown.
    pub(crate) unloads: LeakReport,
}

/// Of a device that tells nothing.
impl Default for Ledger {
    fn default() -> Self {
        Self::new(Arc::new(Untold))
    }
}

/// Nobody tells.
#[derive(Debug)]
struct Untold;

impl DeviceMemory for Untold {
    fn read(&self, _: u64) -> Option<DeviceReading> {
        None
    }
}

impl Ledger {
    pub(crate) fn new(memory: Arc<dyn DeviceMemory>) -> Self {
        Self { memory, state: Mutex::default() }
    }

    /// The ledger of main memory, or of a CUDA device. Best asked before the device is used; `known` bytes of it are
    /// in use by this process already. `None`: the CUDA runtime is not loaded yet, or knows no such device.
    pub(crate) fn of(cuda: Option<u32>, known: u64) -> Option<Arc<Self>> {
        let Some(ordinal) = cuda else { return Some(HOST.clone()) };
        let bus_id = device::bus_id(ordinal)?;
        let mut devices = CUDA.lock().unwrap_or_else(PoisonError::into_inner);
        let open = || {
            let usage = move || device::usage(ordinal);
            let gpu = Gpu::new(nvml::card(&bus_id), std::process::id(), known, usage);
            Arc::new(Self::new(Arc::new(gpu)))
        };
        Some(devices.entry(bus_id.clone()).or_insert_with(open).clone())
    }

    /// An engine has been loaded, and has run once.
    pub(crate) fn enter(&self, account: &Arc<Account>) {
        self.state().accounts.push(Arc::downgrade(account));
        let beyond = self.beyond();
        let mut state = self.state();
        state.epoch += 1;
        state.context = beyond.map_or(0, |(_, beyond)| beyond);
    }

    /// An engine has been unloaded. What it held must be there again.
    pub(crate) fn leave(&self, account: &Arc<Account>) -> LeakReport {
        let gone = Arc::as_ptr(account);
        self.state().accounts.retain(|other| other.strong_count() > 0 && other.as_ptr() != gone);
        self.memory.settle();
        let told = self.beyond();
        let mut state = self.state();
        state.epoch += 1;
        let Some((device, beyond)) = told else { return LeakReport::default() };
        let found = unreturned(device.used, beyond.saturating_sub(state.context));
        state.unreturned = if device.source == RSS { found.confirmed_by(&state.unreturned) } else { found };
        if state.accounts.is_empty() {
            // Each load begins with a context of its own: growth from load to load shows here alone.
            state.empty.sample(&[0, 0, 0, 0, 0, beyond]);
        }
        state.unloads()
    }

    /// The memory as it is now.
    pub(crate) fn read(&self) -> Shares {
        let told = self.beyond();
        let state = self.state();
        Shares {
            device: told.map(|(device, _)| device),
            context: told.map_or(0, |(_, beyond)| beyond.min(state.context)),
            unattributed: told.map_or(0, |(_, beyond)| beyond.saturating_sub(state.context)),
            epoch: state.epoch,
            unloads: state.unloads(),
        }
    }

    /// Whether no engine on the device runs anything.
    pub(crate) fn idle(&self) -> bool {
        self.state().accounts.iter().filter_map(Weak::upgrade).all(|account| !account.busy())
    }

    /// The device's reading, and what the process holds beyond all accounts. The system is asked without the lock,
    /// which workers wait for.
    fn beyond(&self) -> Option<(DeviceReading, u64)> {
        let accounts: Vec<_> = self.state().accounts.iter().filter_map(Weak::upgrade).collect();
        let known: u64 = accounts.iter().map(|account| account.read().sum()).sum();
        let device = self.memory.read(known)?;
        Some((device, device.used.saturating_sub(known)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to say of `growth` bytes that are left of an unloaded model, in a process that holds `held`.
fn unreturned(held: u64, growth: u64) -> LeakReport {
    let threshold = leak::threshold(held);
    if growth <= threshold {
        return LeakReport::default();
    }
    let component = Some(leak::UNATTRIBUTED);
    LeakReport { state: LeakState::Leak, component, growth, threshold, samples: 1 }
}

impl LeakReport {
    /// A leak where the unload `before` has shown one too, else no more than a suspicion: a process holds memory for
    /// other things than its engines, requests that run elsewhere among them.
    fn confirmed_by(self, before: &Self) -> Self {
        let samples = before.samples + self.samples;
        match (self.state, before.state) {
            (LeakState::Leak, LeakState::Ok) => Self { state: LeakState::Suspect, ..self },
            (LeakState::Leak, _) => Self { samples, ..self },
            _ => self,
        }
    }
}

impl State {
    fn unloads(&self) -> LeakReport {
        let empty = self.empty.report();
        if self.unreturned.state >= empty.state { self.unreturned } else { empty }
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
