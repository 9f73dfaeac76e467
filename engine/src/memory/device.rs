//! How much memory of its device this process holds, by whoever knows.

use std::fmt::Debug;

use super::system;

/// Whose memory a reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribution {
    /// This process's, found by its id.
    Process,
    /// The only process's on the device, which must be this one: in a container the driver knows other ids.
    OnlyProcess,
    /// What the whole device holds beyond what it held before this process used it.
    Device,
}

impl Attribution {
    /// The name in `/state`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::OnlyProcess => "only_process",
            Self::Device => "device",
        }
    }
}

/// A device's memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceReading {
    /// Held by this process.
    pub(crate) used: u64,
    /// How sure that is.
    pub(crate) attribution: Attribution,
    /// Held by everybody; `None` where that is not told.
    pub(crate) device_used: Option<u64>,
    /// All there is; `None` where that is not told.
    pub(crate) device_total: Option<u64>,
    /// Who says so: `nvml`, `cuda` or `rss`.
    pub(crate) source: &'static str,
}

/// Reads a device's memory.
pub(crate) trait DeviceMemory: Debug + Send + Sync {
    /// The memory as it is now; `None` where nobody tells. `known` bytes are held for certain: whoever holds less is
    /// somebody else.
    fn read(&self, known: u64) -> Option<DeviceReading>;

    /// Has memory that is free already counted as free, where a reading would count it.
    fn settle(&self) {}
}

/// Source of readings of the whole process.
pub(super) const RSS: &str = "rss";

/// Main memory: the process's resident pages.
#[derive(Debug)]
pub(crate) struct Resident;

impl DeviceMemory for Resident {
    fn read(&self, _: u64) -> Option<DeviceReading> {
        // What is put by has a limit of its own and is told apart.
        let used = system::process_rss().saturating_sub(crate::cache::put_by());
        (used > 0).then_some(DeviceReading {
            used,
            attribution: Attribution::Process,
            device_used: None,
            device_total: None,
            source: RSS,
        })
    }

    fn settle(&self) {
        system::trim();
    }
}
