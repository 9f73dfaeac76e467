//! What the memory of a KV cache can do, wherever it is.

use std::ffi::c_void;
use std::sync::Arc;

use thiserror::Error;

use super::{Extent, Segment, SegmentId};

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

    /// Exchanges two rows, each filled with no more than `tokens`. Where that fails neither can be trusted.
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

    /// Gives back the memory of a row's tokens `from..to`, where memory is taken page by page. None of them is shared.
    fn release(&mut self, row: usize, from: usize, to: usize);

    /// How rows share pages; the reason where they do not.
    fn sharing(&mut self) -> Result<&mut dyn Sharing, &'static str>;
}

/// Rows that begin alike and hold that beginning once. Nothing is ever written to a row's shared tokens.
pub(crate) trait Sharing {
    /// Tokens that fill whole pages in every strip: what is shared is a multiple of them.
    fn step(&self) -> usize;

    /// Makes a segment of a row's tokens `from..to`, whole steps, by copying them.
    fn keep(&mut self, id: SegmentId, row: usize, from: usize, to: usize) -> Result<(), StoreError>;

    /// Takes in a segment that begins with the first token.
    fn adopt(&mut self, id: SegmentId, segment: Arc<Segment>);

    /// Gives up a segment that no row shares.
    fn discard(&mut self, id: SegmentId) -> Option<Arc<Segment>>;

    /// Whether pieces of memory are left for so many rows that share along such a path.
    fn affords(&self, rows: usize, extents: usize) -> bool;

    /// From now on a row shares the tokens of `path`, from the first one on, and no others. It keeps its own tokens
    /// behind them up to `held`, of all that it holds; what lies behind that is gone. Where it fails, the row is to be
    /// emptied: by an empty path, with nothing held.
    fn share(&mut self, row: usize, path: &[Extent], held: usize) -> Result<(), StoreError>;

    /// Copies what an extent holds to a row of its own.
    fn fill(&mut self, row: usize, extent: Extent) -> Result<(), StoreError>;

    /// Pieces of memory that shared rows take in this process, and may take.
    fn maps(&self) -> (usize, usize);
}
