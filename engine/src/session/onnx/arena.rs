//! What ONNX Runtime's own allocator holds, by its statistics.

use std::ffi::{CStr, CString};
use std::ptr::null_mut;
use std::sync::{Arc, Mutex, PoisonError};

use ort::memory::{Allocator, MemoryInfo};
use ort::{AsPointer, sys};

use crate::memory::{ArenaReading, ArenaStats};

/// A session's allocator, read from any thread until the session ends.
pub(super) struct Arena(Mutex<Option<Allocator>>);

/// The session's own hold on it. Dropped before the session, whose allocator must not outlive it.
pub(super) struct Hold(Arc<Arena>);

impl Hold {
    /// `None` where the allocator keeps no statistics.
    pub(super) fn new(session: &ort::session::Session, memory: MemoryInfo<'_>) -> Option<Self> {
        let allocator = Allocator::new(session, memory).ok()?;
        read(&allocator)?;
        Some(Self(Arc::new(Arena(Mutex::new(Some(allocator))))))
    }

    pub(super) fn share(&self) -> Arc<dyn ArenaStats> {
        self.0.clone()
    }

    pub(super) fn read(&self) -> ArenaReading {
        self.0.read().unwrap_or_default()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        drop(self.0.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl std::fmt::Debug for Arena {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Arena").field(&self.read()).finish()
    }
}

impl ArenaStats for Arena {
    fn read(&self) -> Option<ArenaReading> {
        // The lock keeps readers apart; the arena itself locks against the session's runs.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(read)
    }
}

fn read(allocator: &Allocator) -> Option<ArenaReading> {
    let mut pairs = null_mut();
    // SAFETY: the allocator is alive; the pairs are written only where the call succeeds, and released below.
    let status = unsafe { (ort::api().AllocatorGetStats)(allocator.ptr(), &raw mut pairs) };
    // SAFETY: the status is the call's own.
    unsafe { ort::Error::result_from_status(status) }.ok()?;
    let pairs = Pairs(pairs);
    Some(ArenaReading { in_use: pairs.bytes(c"InUse")?, held: pairs.bytes(c"TotalAllocated")? })
}

/// Statistics as ONNX Runtime gives them: texts by name.
struct Pairs(*mut sys::OrtKeyValuePairs);

impl Pairs {
    fn bytes(&self, key: &CStr) -> Option<u64> {
        // SAFETY: both are alive; the text belongs to the pairs.
        let value = unsafe { (ort::api().GetKeyValue)(self.0, key.as_ptr()) };
        if value.is_null() {
            return None;
        }
        // SAFETY: not null, ended by a zero, copied before the pairs go.
        let text: CString = unsafe { CStr::from_ptr(value) }.to_owned();
        text.to_str().ok()?.parse().ok()
    }
}

impl Drop for Pairs {
    fn drop(&mut self) {
        // SAFETY: made by the call above, released once; null is allowed.
        unsafe { (ort::api().ReleaseKeyValuePairs)(self.0) };
    }
}
