//! Graphs whose caches grow by concatenation. What conversations hold lies in the store, as ever; a run is given it as
//! one block, and returns a block with the new tokens behind, of which those are put into the store. The next run over
//! the same rows takes that block as it is.
//!
//! Rows of unequal lengths share a run where their positions are an input and the padding before the shorter ones is
//! small; else each runs by itself.

use std::ops::Range;
use std::sync::Arc;

use ort::session::{IoBinding, RunOptions};

use super::scratch::Scratch;
use super::value::{bind_input, bind_output, borrow, element};
use super::{Onnx, SLACK, failed};
use crate::cache::{Place, StoreError};
use crate::memory::Holdings;
use crate::session::{Cut, Interrupt, Logits, RunError, Session, Step};

/// Tokens of a shared run for each 2 tokens that its rows hold, at most: the rest is padding.
const PADDED: usize = 3;

/// A loaded model whose caches grow. Fields are dropped in this order: the binding before the session it belongs to,
/// both before the memory that they were given.
pub(super) struct Growing {
    binding: Option<IoBinding>,
    base: Onnx,
    scratch: Scratch,
    last: Option<Last>,
}

/// What the last run returned, which may be the past of the next.
struct Last {
    side: usize,
    first: usize,
    /// Tokens of each row.
    held: Vec<usize>,
}

/// Rows of one run.
#[derive(Clone, Copy)]
struct Rows<'a> {
    first: usize,
    /// Tokens that each holds.
    pasts: &'a [usize],
    /// Tokens that come to each.
    tokens: usize,
    /// The row of logits where theirs begin.
    logits: usize,
}

impl Rows<'_> {
    fn range(&self) -> Range<usize> {
        self.first..self.first + self.pasts.len()
    }

    fn widest(&self) -> usize {
        self.pasts.iter().copied().max().unwrap_or(0)
    }
}

impl Growing {
    pub(super) fn new(base: Onnx, context: u32) -> Result<Self, StoreError> {
        let scratch = Scratch::new(&base.shape.strips, base.shape.slots, context as usize)?;
        Ok(Self { binding: None, base, scratch, last: None })
    }

    /// What is held beside `base`.
    pub(super) fn holdings(&self, base: Holdings) -> Holdings {
        let arena = self.scratch.account(base.arena, base.arena_loaded);
        Holdings { arena: Some(arena), ..base }
    }

    /// Puts what rows hold into one block, zeros before the shorter ones. Returns its side.
    fn gather(&mut self, rows: Rows<'_>) -> Result<usize, RunError> {
        let (side, width) = (0, rows.widest());
        for (number, strip) in self.base.shape.strips.iter().enumerate() {
            let buffer = self.scratch.fill(side, number, rows.pasts.len() * width);
            let mut heads = buffer.chunks_mut((width * strip.token).max(1));
            for (row, past) in rows.pasts.iter().enumerate() {
                for (head, block) in (0..strip.heads).zip(&mut heads) {
                    let place = Place { strip: number, row: rows.first + row, head };
                    let (before, held) = block.split_at_mut((width - past) * strip.token);
                    // Not to be seen, but a number all the same: not every kernel leaves out what the mask hides.
                    before.fill(0);
                    self.base.store.read(place, held).map_err(|e| RunError(e.to_string()))?;
                }
            }
        }
        Ok(side)
    }

    /// Puts the new tokens of a run into the store.
    fn scatter(&mut self, side: usize, rows: Rows<'_>) -> Result<(), RunError> {
        let width = rows.widest() + rows.tokens;
        for (number, strip) in self.base.shape.strips.iter().enumerate() {
            let mut heads = self.scratch.get(side, number).chunks(width * strip.token);
            for (row, past) in rows.pasts.iter().enumerate() {
                for (head, block) in (0..strip.heads).zip(&mut heads) {
                    let place = Place { strip: number, row: rows.first + row, head };
                    let new = &block[(width - rows.tokens) * strip.token..];
                    let written = self.base.store.write(place, past * strip.token, new);
                    written.map_err(|e| RunError(e.to_string()))?;
                }
            }
        }
        Ok(())
    }

    /// Runs what the buffers hold, over these rows.
    fn run(&mut self, rows: Rows<'_>, shrink: bool) -> Result<(), RunError> {
        let known = self.last.take().filter(|last| last.first == rows.first && last.held == rows.pasts);
        let from = match known {
            Some(last) => last.side,
            None => self.gather(rows)?,
        };
        let to = 1 - from;
        let mut binding = match self.binding.take() {
            Some(binding) => binding,
            None => self.base.session.create_binding().map_err(|e| failed(&e))?,
        };
        let ran = self.bind(&mut binding, (from, to), rows).and_then(|()| {
            let options: &RunOptions = if shrink { &self.base.shrink } else { &self.base.options.0 };
            self.base.session.run_binding_with_options(&binding, options).map(drop)
        });
        self.binding = Some(binding);
        ran.map_err(|e| failed(&e))?;
        if !shrink {
            self.base.states.advance(&rows.range());
        }
        self.scatter(to, rows)?;
        let held = rows.pasts.iter().map(|past| past + rows.tokens).collect();
        self.last = Some(Last { side: to, first: rows.first, held });
        Ok(())
    }

    /// Binds all that a run reads and writes.
    fn bind(
        &mut self,
        binding: &mut IoBinding,
        (from, to): (usize, usize),
        rows: Rows<'_>,
    ) -> ort::Result<()> {
        let (base, count, past) = (&mut self.base, rows.pasts.len(), rows.widest());
        for (number, names) in base.names.caches.iter().enumerate() {
            let strip = base.shape.strips[number];
            let mut cache = |side: usize, width: usize| {
                let address = self.scratch.address(side, number, count * width);
                let dims = [count as i64, strip.heads as i64, width as i64, strip.head_dim as i64];
                let bytes = count * width * strip.heads * strip.token;
                borrow(&base.host, (address, bytes), &dims, base.kv_type)
            };
            bind_input(binding, &names.0, &cache(from, past)?)?;
            bind_output(binding, &names.1, &cache(to, past + rows.tokens)?)?;
        }
        base.bind_inputs(binding, (count, rows.tokens), past + rows.tokens)?;
        base.bind_wanted(binding)?;
        base.states.bind(binding, (&base.names, &base.host), &rows.range())?;
        let logits = if base.names.last_only { 1 } else { rows.tokens };
        let bytes = count * logits * base.vocab * base.logits_type.bytes();
        let dims = [count as i64, logits as i64, base.vocab as i64];
        let address = base.buffers.logits_address(rows.logits);
        let value = borrow(&base.host, (address, bytes), &dims, element(base.logits_type))?;
        bind_output(binding, &base.names.logits, &value)
    }

    /// Whether rows may share a run.
    fn together(&self, pasts: &[usize]) -> bool {
        let widest = pasts.iter().copied().max().unwrap_or(0);
        let held: usize = pasts.iter().sum();
        let equal = pasts.iter().all(|past| *past == widest);
        equal || self.base.names.positions.is_some() && 2 * widest * pasts.len() <= PADDED * held
    }
}

impl Session for Growing {
    fn prefill(&mut self, row: usize, past: usize, tokens: &[u32]) -> Result<(), RunError> {
        if self.base.whole && past > 0 && tokens.len() > 1 {
            let mut each = (past..).zip(tokens);
            return each.try_for_each(|(past, token)| self.prefill(row, past, &[*token]));
        }
        if past == 0 {
            self.base.states.clear(row);
        }
        self.base.buffers.prefill(past, tokens, self.base.names.last_only);
        self.run(Rows { first: row, pasts: &[past], tokens: tokens.len(), logits: 0 }, false)
    }

    fn decode(&mut self, steps: &[Step]) -> Result<(), RunError> {
        let pasts: Vec<_> = steps.iter().map(|step| step.past).collect();
        if self.together(&pasts) {
            self.base.buffers.aligned(steps);
            return self.run(Rows { first: 0, pasts: &pasts, tokens: 1, logits: 0 }, false);
        }
        for (row, step) in steps.iter().enumerate() {
            self.base.buffers.aligned(&[*step]);
            self.run(Rows { first: row, pasts: &[step.past], tokens: 1, logits: row }, false)?;
        }
        Ok(())
    }

    fn logits(&self, row: usize) -> Logits<'_> {
        self.base.logits(row)
    }

    fn swap(&mut self, a: usize, b: usize, tokens: usize) -> Result<(), RunError> {
        self.last = None;
        self.base.swap(a, b, tokens)
    }

    fn copy(&mut self, source: usize, target: usize, from: usize, to: usize) -> Result<(), RunError> {
        self.last = None;
        self.base.copy(source, target, from, to)
    }

    fn read(&self, place: Place, bytes: &mut [u8]) -> Result<(), RunError> {
        self.base.read(place, bytes)
    }

    fn write(&mut self, place: Place, bytes: &[u8]) -> Result<(), RunError> {
        self.last = None;
        self.base.write(place, bytes)
    }

    fn shift(&mut self, row: usize, cut: Cut) -> Result<(), RunError> {
        self.last = None;
        self.base.shift(row, cut)
    }

    fn release(&mut self, row: usize, from: usize, to: usize) {
        self.last = None;
        self.base.release(row, from, to);
    }

    fn settle(&mut self, row: usize, past: usize) -> Result<(), RunError> {
        self.last = None;
        if self.base.slack().is_some_and(|slack| slack > self.base.slack + SLACK) {
            self.base.buffers.prefill(past, &[0], self.base.names.last_only);
            self.run(Rows { first: row, pasts: &[past], tokens: 1, logits: 0 }, true)?;
            self.base.slack = self.base.slack().unwrap_or(0);
            self.last = None;
        }
        self.scratch.release();
        Ok(())
    }

    fn rewinds(&self) -> bool {
        self.base.rewinds()
    }

    fn survives(&self) -> bool {
        self.base.survives()
    }

    fn whole(&self) -> bool {
        self.base.whole
    }

    fn chunk(&self) -> usize {
        self.base.chunk()
    }

    fn interrupt(&self) -> Arc<dyn Interrupt> {
        self.base.interrupt()
    }
}
