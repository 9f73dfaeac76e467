//! Conversations that had to leave their slots: kept in main memory and in files, each under a limit of its own, and
//! brought back where that is measured to be cheaper than computing them again.
//!
//! The worker copies a conversation out of its row into a sealed memory file, and maps that back later; all that
//! touches a disk is done by threads of their own.

mod tier;
mod costs;
mod store;
mod files;
mod threads;
mod api;

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

pub(crate) use api::Kept;
pub(crate) use store::Store;
pub(crate) use threads::Threads;

/// Where idle conversations go when their slot or memory is needed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offload {
    /// Bytes of main memory for them, beside the KV cache; 0: they are forgotten.
    pub host: u64,
    /// Files that hold them too, beyond memory and restarts; needs `host`.
    pub disk: Option<OffloadDisk>,
}

/// A folder of conversations that were put by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffloadDisk {
    /// The folder; it is made when it is missing.
    pub dir: PathBuf,
    /// Bytes of all files in it; the longest unused go first.
    pub limit: u64,
}

/// What is put by, and what became of it since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct OffloadReading {
    /// Why nothing is put by; `None` where conversations are.
    pub off: Option<&'static str>,
    /// Bytes in main memory.
    pub host_bytes: u64,
    /// Bytes of main memory that may be taken: no more than half of what was free beside the KV cache.
    pub host_limit: u64,
    /// Conversations in main memory.
    pub host_conversations: u64,
    /// Bytes on disk; `None` without a folder.
    pub disk_bytes: Option<u64>,
    /// Bytes on disk that may be taken.
    pub disk_limit: u64,
    /// Conversations on disk.
    pub disk_conversations: u64,
    /// How often each of [`OffloadCounts`] has happened.
    pub counts: OffloadCounts,
    /// Seconds a byte that copying out takes, as lately measured.
    pub seconds_per_byte_out: Option<f64>,
    /// Seconds a byte that bringing back from main memory takes.
    pub seconds_per_byte_back: Option<f64>,
    /// Seconds a byte that reading and verifying a file takes.
    pub seconds_per_byte_read: Option<f64>,
}

/// Events since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OffloadCounts {
    /// Conversations put by.
    pub put_by: u64,
    /// Conversations brought back into a slot.
    pub restored: u64,
    /// Tokens that were not computed again for it.
    pub restored_tokens: u64,
    /// Files written.
    pub written: u64,
    /// Files read back.
    pub read: u64,
    /// Conversations that were computed anew or let go since that is measured to be cheaper.
    pub declined: u64,
    /// Conversations that left main memory for want of room.
    pub evicted: u64,
    /// Files that were deleted for want of room.
    pub deleted: u64,
    /// Files that were refused, and copies that failed.
    pub failed: u64,
}

/// A conversation that is put by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffloadedReading {
    /// Its name: a hash of its tokens.
    pub name: String,
    /// Tokens that it holds.
    pub tokens: u32,
    /// Bytes in main memory; `None`: it is not there.
    pub host_bytes: Option<u64>,
    /// Bytes of its file; `None`: there is none.
    pub disk_bytes: Option<u64>,
    /// Since when nobody has asked for it.
    pub idle_since: Instant,
}

/// What was done to a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffloadStep {
    /// Copied out of its slot into main memory.
    PutBy,
    /// Written to a file.
    Written,
    /// Read back from its file.
    Read,
    /// Brought back into a slot.
    Restored,
}

/// A step of a conversation's way out of its slot or back, for traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffloadMove {
    /// What was done.
    pub step: OffloadStep,
    /// Tokens of the conversation, or those that were brought back.
    pub tokens: u32,
    /// Bytes that they take.
    pub bytes: u64,
    /// When it began.
    pub started: SystemTime,
    /// How long it took.
    pub took: Duration,
}
