//! A loaded model as the worker sees it: rows of KV memory, tokens in, logits out.

mod absent;
mod buffers;
mod names;
mod onnx;
mod shift;
#[cfg(test)]
pub(crate) mod mock;

use std::sync::Arc;

use half::f16;
use thiserror::Error;

use crate::cache::{Place, Sharing};

pub(crate) use absent::Absent;
pub(crate) use buffers::bytes as buffer_bytes;
pub(crate) use onnx::{Loaded, Plan};
pub(crate) use shift::{Cut, proven};

/// A run failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub(crate) struct RunError(pub(crate) String);

/// One row of a decoding run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// The token that goes in.
    pub(crate) token: u32,
    /// Tokens that the row holds before it.
    pub(crate) past: usize,
}

/// The logits of one row, one number for each token of the vocabulary.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Logits<'a> {
    /// As 32-bit numbers.
    F32(&'a [f32]),
    /// As 16-bit numbers.
    F16(&'a [f16]),
}

/// Ends a run in flight, from any thread.
pub(crate) trait Interrupt: Send + Sync {
    /// Runs end as soon as they can, until it is unset.
    fn set(&self, on: bool);
}

/// A loaded model with its KV memory. Lives on one thread.
pub(crate) trait Session {
    /// Computes tokens of one conversation into `row`, after the `past` tokens it holds.
    fn prefill(&mut self, row: usize, past: usize, tokens: &[u32]) -> Result<(), RunError>;

    /// Computes one token in each of the rows `0..steps.len()`.
    fn decode(&mut self, steps: &[Step]) -> Result<(), RunError>;

    /// Logits of the last run: of the last token of a prefill (row 0), or of a row of a decoding run.
    fn logits(&self, row: usize) -> Logits<'_>;

    /// Exchanges two rows, each filled with no more than `tokens`.
    fn swap(&mut self, a: usize, b: usize, tokens: usize) -> Result<(), RunError>;

    /// Copies tokens `from..to` of one row to another.
    fn copy(&mut self, source: usize, target: usize, from: usize, to: usize) -> Result<(), RunError>;

    /// The first bytes of one head of a row.
    fn read(&self, place: Place, bytes: &mut [u8]) -> Result<(), RunError>;

    /// Fills the first bytes of one head of a row.
    fn write(&mut self, place: Place, bytes: &[u8]) -> Result<(), RunError>;

    /// How rows share the memory of what they begin with alike; the reason where they do not.
    fn sharing(&mut self) -> Result<&mut dyn Sharing, &'static str> {
        Err("this model's layers do not all keep their cache in place")
    }

    /// Takes tokens out of a row: those behind them move up, as if they had been computed there. None of those behind the
    /// first `keep` is shared.
    fn shift(&mut self, _row: usize, _cut: Cut) -> Result<(), RunError> {
        Err(RunError("the context of this model cannot be shifted".to_owned()))
    }

    /// Gives back the memory of a row's tokens `from..to`.
    fn release(&mut self, row: usize, from: usize, to: usize);

    /// Nothing runs: gives back what is held for later runs, where it is much. May compute one token into `row`, after
    /// the `past` tokens it holds.
    fn settle(&mut self, _row: usize, _past: usize) -> Result<(), RunError> {
        Ok(())
    }

    /// Whether a row can be taken back to fewer tokens than it holds, or copied in part. Where not, `past` and the end of
    /// a copy are always all that the row holds, or nothing.
    fn rewinds(&self) -> bool {
        true
    }

    /// Whether a row holds what it held, after a run over it that failed or was ended. Where not, it holds nothing.
    fn survives(&self) -> bool {
        true
    }

    /// Whether only the first part of a prompt is computed at once, and what follows token by token.
    fn whole(&self) -> bool {
        false
    }

    /// Tokens that one prefill takes at most.
    fn chunk(&self) -> usize;

    /// A handle that ends runs in flight.
    fn interrupt(&self) -> Arc<dyn Interrupt>;
}

#[cfg(test)]
mod layout_tests;
