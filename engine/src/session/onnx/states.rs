//! What layers carry from token to token in a constant size: of each row, what holds after its last token. Of states a
//! run writes those after it elsewhere, so that one which fails or is ended leaves them as they were; windows of keys
//! and values it changes in place.

use std::ops::Range;

use memmap2::MmapMut;
use ort::memory::MemoryInfo;
use ort::session::IoBinding;

use super::value::{bind_input, bind_output, borrow, element};
use crate::cache::{StoreError, reserve};
use crate::model::{Element, Model, State};
use crate::session::names::Names;

/// The states of all rows.
pub(super) struct States {
    layers: Vec<Layer>,
}

/// One layer's, `[rows, dims..]`.
struct Layer {
    dims: Vec<usize>,
    element: Element,
    /// Bytes of a row.
    row: usize,
    now: MmapMut,
    /// What the last run wrote; none where it wrote in place.
    after: Option<MmapMut>,
}

impl Layer {
    fn range(&self, rows: &Range<usize>) -> Range<usize> {
        rows.start * self.row..rows.end * self.row
    }
}

impl States {
    pub(super) fn new(model: &Model, rows: usize) -> Result<Self, StoreError> {
        let layer = |state: &State| {
            let row = state.bytes();
            let after = if state.in_place { None } else { Some(reserve(rows * row)?) };
            let (dims, element) = (state.dims.clone(), state.element);
            Ok(Layer { dims, element, row, now: reserve(rows * row)?, after })
        };
        Ok(Self { layers: model.wiring.states.iter().map(layer).collect::<Result<_, _>>()? })
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Whether a run changes some of them in place.
    pub(super) fn in_place(&self) -> bool {
        self.layers.iter().any(|layer| layer.after.is_none())
    }

    /// Bytes of all states.
    pub(super) fn bytes(&self) -> u64 {
        let after = |layer: &Layer| layer.after.as_ref().map_or(0, |after| after.len());
        self.layers.iter().map(|layer| (layer.now.len() + after(layer)) as u64).sum()
    }

    /// Binds these rows.
    pub(super) fn bind(
        &self,
        binding: &mut IoBinding,
        (names, memory): (&Names, &MemoryInfo<'_>),
        rows: &Range<usize>,
    ) -> ort::Result<()> {
        for (layer, (past, present)) in self.layers.iter().zip(&names.states) {
            let sizes = layer.dims.iter().map(|dim| *dim as i64);
            let dims: Vec<_> = std::iter::once(rows.len() as i64).chain(sizes).collect();
            let value = |from: &MmapMut| {
                let address = from[layer.range(rows)].as_ptr().cast_mut().cast();
                borrow(memory, (address, rows.len() * layer.row), &dims, element(layer.element))
            };
            bind_input(binding, past, &value(&layer.now)?)?;
            bind_output(binding, present, &value(layer.after.as_ref().unwrap_or(&layer.now))?)?;
        }
        Ok(())
    }

    /// A run over these rows has succeeded.
    pub(super) fn advance(&mut self, rows: &Range<usize>) {
        for layer in &mut self.layers {
            let range = layer.range(rows);
            if let Some(after) = &layer.after {
                layer.now[range.clone()].copy_from_slice(&after[range]);
            }
        }
    }

    /// A row begins anew. What a window held is not read again.
    pub(super) fn clear(&mut self, row: usize) {
        for layer in self.layers.iter_mut().filter(|layer| layer.after.is_some()) {
            let range = layer.range(&(row..row + 1));
            layer.now[range].fill(0);
        }
    }

    /// Copies a row's states to another.
    pub(super) fn copy(&mut self, source: usize, target: usize) {
        for layer in &mut self.layers {
            let range = layer.range(&(source..source + 1));
            layer.now.copy_within(range, target * layer.row);
        }
    }

    /// Exchanges the states of two rows.
    pub(super) fn swap(&mut self, a: usize, b: usize) {
        for layer in &mut self.layers {
            let (front, back) = layer.now.split_at_mut(a.max(b) * layer.row);
            front[a.min(b) * layer.row..][..layer.row].swap_with_slice(&mut back[..layer.row]);
        }
    }
}
