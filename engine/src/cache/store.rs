//! What the memory of a KV cache can do, wherever it is.

use std::ffi::c_void;

use thiserror::Error;

/// Memory was refused, or a copy failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what} failed: {reason}")]
pub(crate) struct StoreError {
    pub(crate) what: &'static str,
    pub(crate) reason: String,
}

/// One head of a row of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) strip: usize,
    pub(crate) row: usize,
    pub(crate) head: usize,
}

/// One buffer for each layer and side. Addresses stay the same for as long as it lives.
pub(crate) trait Store {
    /// Where a row of a buffer begins.
    fn address(&self, strip: usize, row: usize) -> *mut c_void;

    /// Exchanges two rows, each filled with no more than `tokens`.
    fn swap(&mut self, a: usize, b: usize, tokens: usize) -> Result<(), StoreError>;

    /// Copies tokens `from..to` of one row to another.
    fn copy(&mut self, source: usize, target: usize, from: usize, to: usize) -> Result<(), StoreError>;

    /// Reads the first bytes of one head of a row.
    fn read(&self, place: Place, bytes: &mut [u8]) -> Result<(), StoreError>;

    /// Writes bytes of one head of a row, from the byte `at` on.
    fn write(&mut self, place: Place, at: usize, bytes: &[u8]) -> Result<(), StoreError>;

    /// Bytes that were taken in advance; `None` where memory is taken as it is written to.
    fn bytes(&self) -> Option<u64> {
        None
    }

    /// Gives back the memory of a row's tokens `from..to`, where memory is taken page by page.
    fn release(&mut self, row: usize, from: usize, to: usize);
}
