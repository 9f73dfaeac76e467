//! Bytes of an engine: who has reserved how many of the KV cache and who waits for them, what all memory is in use
//! for, and whether it grows when it should not.

mod account;
mod budget;
mod device;
#[cfg(test)]
pub(crate) mod fake;
mod leak;
mod ledger;
mod limits;
mod nvml;
mod reading;
mod system;
mod trend;

pub(crate) use account::{ArenaReading, ArenaStats, Holdings};
pub use budget::Permit;
pub(crate) use budget::{Ask, Budget};
pub use device::Attribution;
pub use leak::{COMPONENTS, LeakReport, LeakState};
pub(crate) use ledger::Ledger;
pub(crate) use limits::{Limits, Wish};
pub use reading::MemoryReading;
pub(crate) use reading::Meter;
pub(crate) use system::{available, settle, trim};
