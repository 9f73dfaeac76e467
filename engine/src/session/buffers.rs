//! Host buffers of one run: token ids, mask, positions and logits. Their addresses stay, their contents change.

use std::ffi::c_void;

use half::f16;

use crate::model::{Element, Model};

use super::{Logits, Step};

/// Logits of one prefill take at most this many bytes.
const LOGITS_BYTES: usize = 64 << 20;
/// The same, where only the first part of a prompt is computed at once.
const WHOLE_BYTES: usize = 256 << 20;
/// Attention scores of one prefill take at most this many bytes.
const SCORES_BYTES: usize = 512 << 20;
/// Tokens of one prefill, at most.
const CHUNK: usize = 512;
/// The narrowest mask of a decoding run, in tokens.
const NARROW: usize = 256;

/// The buffers of a model's runs.
#[derive(Debug)]
pub(crate) struct Buffers {
    pub(crate) ids: Vec<i64>,
    pub(crate) positions: Vec<i64>,
    pub(crate) mask: Vec<i64>,
    /// Whether the last run's rows hold something before it, for graphs that ask.
    pub(crate) past: Box<bool>,
    /// Copies of the positions.
    planes: usize,
    logits: Numbers,
    vocab: usize,
    /// Rows, width and ones in each row of the mask as it stands.
    mask_rows: usize,
    mask_width: usize,
    mask_ones: Vec<usize>,
    context: usize,
    /// Where the last run's first row of logits begins, in rows.
    first: usize,
}

impl Buffers {
    pub(crate) fn new(model: &Model, slots: usize, context: usize) -> Self {
        let chunk = chunk(model, context);
        let (vocab, planes) = (model.vocab as usize, planes(model));
        let rows = if model.wiring.last_only { slots } else { slots.max(chunk) };
        let logits = match model.logits_type {
            Element::F16 => Numbers::F16(vec![f16::ZERO; rows * vocab]),
            _ => Numbers::F32(vec![0.0; rows * vocab]),
        };
        Self {
            ids: vec![0; slots.max(chunk)],
            positions: vec![0; planes * slots.max(chunk)],
            mask: vec![0; slots * context],
            past: Box::new(false),
            planes,
            logits,
            vocab,
            mask_rows: 0,
            mask_width: 0,
            mask_ones: vec![0; slots],
            context,
            first: 0,
        }
    }

    /// Fills in one conversation's tokens. Returns the width of the mask.
    pub(crate) fn prefill(&mut self, past: usize, tokens: &[u32], last_only: bool) -> usize {
        for (i, &token) in tokens.iter().enumerate() {
            self.ids[i] = i64::from(token);
            self.place(i, tokens.len(), past + i);
        }
        *self.past = past > 0;
        let width = past + tokens.len();
        self.mask[..width].fill(1);
        self.mask_rows = 0;
        self.first = if last_only { 0 } else { tokens.len() - 1 };
        width
    }

    /// Fills in one token for each row. Returns the width of the mask.
    pub(crate) fn decode(&mut self, steps: &[Step]) -> usize {
        let longest = steps.iter().map(|step| step.past + 1).max().unwrap_or(1);
        let width = longest.next_power_of_two().max(NARROW).min(self.context);
        if (self.mask_rows, self.mask_width) != (steps.len(), width) {
            (self.mask_rows, self.mask_width) = (steps.len(), width);
            self.mask[..steps.len() * width].fill(0);
            self.mask_ones[..steps.len()].fill(0);
        }
        for (row, step) in steps.iter().enumerate() {
            self.ids[row] = i64::from(step.token);
            self.place(row, steps.len(), step.past);
            let (had, needs) = (self.mask_ones[row], step.past + 1);
            let mask = &mut self.mask[row * width..][..width];
            mask[had.min(needs)..had.max(needs)].fill(i64::from(needs > had));
            self.mask_ones[row] = needs;
        }
        *self.past = true;
        self.first = 0;
        width
    }

    /// Fills in one token for each row, where what the rows hold ends together and the shorter ones begin later.
    /// Returns the width of the mask.
    pub(crate) fn aligned(&mut self, steps: &[Step]) -> usize {
        let width = steps.iter().map(|step| step.past + 1).max().unwrap_or(1);
        for (row, step) in steps.iter().enumerate() {
            self.ids[row] = i64::from(step.token);
            self.place(row, steps.len(), step.past);
            let (before, held) = self.mask[row * width..][..width].split_at_mut(width - step.past - 1);
            before.fill(0);
            held.fill(1);
        }
        *self.past = true;
        self.mask_rows = 0;
        self.first = 0;
        width
    }

    /// Notes a token's position, the same in all planes of `count` tokens.
    fn place(&mut self, token: usize, count: usize, position: usize) {
        for plane in 0..self.planes {
            self.positions[plane * count + token] = position as i64;
        }
    }

    /// Logits of a row of the last run.
    pub(crate) fn logits(&self, row: usize) -> Logits<'_> {
        let range = (self.first + row) * self.vocab..(self.first + row + 1) * self.vocab;
        match &self.logits {
            Numbers::F32(numbers) => Logits::F32(&numbers[range]),
            Numbers::F16(numbers) => Logits::F16(&numbers[range]),
        }
    }

    /// Where a run writes its logits, from this row on.
    pub(crate) fn logits_address(&mut self, row: usize) -> *mut c_void {
        match &mut self.logits {
            Numbers::F32(numbers) => numbers[row * self.vocab..].as_mut_ptr().cast(),
            Numbers::F16(numbers) => numbers[row * self.vocab..].as_mut_ptr().cast(),
        }
    }

    /// Bytes of all buffers.
    pub(crate) fn bytes(&self) -> u64 {
        let integers = self.ids.len() + self.positions.len() + self.mask.len();
        let logits = match &self.logits {
            Numbers::F32(numbers) => size_of_val(numbers.as_slice()),
            Numbers::F16(numbers) => size_of_val(numbers.as_slice()),
        };
        (integers * size_of::<i64>() + logits) as u64
    }
}

/// Logits of one run.
#[derive(Debug)]
enum Numbers {
    F32(Vec<f32>),
    F16(Vec<f16>),
}

/// Bytes of the buffers of so many slots, as [`Buffers::bytes`] tells once they are there.
pub(crate) fn bytes(model: &Model, slots: usize, context: usize) -> u64 {
    let chunk = chunk(model, context);
    let rows = if model.wiring.last_only { slots } else { slots.max(chunk) };
    let integers = (1 + planes(model)) * slots.max(chunk) + slots * context;
    let logits = rows * model.vocab as usize * model.logits_type.bytes();
    (integers * size_of::<i64>() + logits) as u64
}

/// Tokens of one prefill: as many as the memory for logits and attention scores allows.
pub(crate) fn chunk(model: &Model, context: usize) -> usize {
    let logits = model.vocab as usize * model.logits_type.bytes();
    // What does not fit into the first part goes token by token: it may be larger then.
    let (most, room) = if model.wiring.whole { (context, WHOLE_BYTES) } else { (CHUNK, LOGITS_BYTES) };
    let by_logits = if model.wiring.last_only { most } else { room / logits.max(1) };
    let by_scores = SCORES_BYTES / (model.query_heads as usize * context * size_of::<f32>()).max(1);
    by_logits.min(by_scores).clamp(16, most.max(16)).min(context)
}

fn planes(model: &Model) -> usize {
    model.wiring.positions.as_ref().and_then(|positions| positions.planes).unwrap_or(1)
}

#[cfg(test)]
#[path = "buffers_tests.rs"]
mod tests;
