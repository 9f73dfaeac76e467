//! The model in ONNX Runtime, with its KV cache bound once: past and present are the same memory, given to ONNX
//! Runtime as raw values over the rows of the store. Only this file and its parts in `onnx/` name `ort`.
#![expect(unsafe_code, reason = "binds memory that ONNX Runtime does not own, through its C interface")]

mod arena;
mod environment;
mod grow;
mod load;
mod scratch;
mod states;
mod value;

use std::ffi::CString;
use std::ops::Range;
use std::sync::Arc;

use ort::memory::MemoryInfo;
use ort::session::{IoBinding, RunOptions};
use ort::value::TensorElementType;

pub(crate) use self::load::{Loaded, Plan};

use self::arena::Hold;
use self::states::States;
use self::value::{bind_input, bind_output, borrow, element};
use super::buffers::Buffers;
use super::names::Names;
use super::shift;
use super::{Cut, Interrupt, Logits, RunError, Session, Step};
use crate::cache::{Place, Shape, Sharing, Store};
use crate::memory::Holdings;
use crate::model::{Element, Turns};

/// The arena may hold this much more for later runs than it needs, in bytes, before it is told to give it back.
const SLACK: u64 = 32 << 20;

/// A loaded model with its KV memory. Fields are dropped in this order: bindings and allocator before the session that
/// they belong to, the session before the memory that it was given.
pub(crate) struct Onnx {
    arena: Option<Hold>,
    /// What the allocator had handed out once the weights were loaded.
    loaded: u64,
    /// What the allocator kept for later runs when it was last told to give it back.
    slack: u64,
    decode: Vec<Option<View>>,
    prefill: Vec<Option<View>>,
    session: ort::session::Session,
    options: Arc<Stop>,
    /// A run with these gives the arena's free memory back.
    shrink: RunOptions,
    store: Box<dyn Store>,
    states: States,
    buffers: Buffers,
    /// The number of logits wanted of each row, for graphs that ask.
    one: Box<i64>,
    names: Names,
    kv_type: TensorElementType,
    logits_type: Element,
    vocab: usize,
    memory: MemoryInfo<'static>,
    host: MemoryInfo<'static>,
    shape: Shape,
    chunk: usize,
    /// How keys turn with their positions; empty where that cannot be undone.
    turns: Turns,
    /// Only the first part of a prompt may be computed at once.
    whole: bool,
    /// Inputs are copied to the device when they are bound: each run binds them anew.
    rebind: bool,
}

/// Rows of the KV cache, bound, and the shape that the other inputs were bound with.
struct View {
    binding: IoBinding,
    rows: Range<usize>,
    bound: Option<(usize, usize)>,
}

/// Ends the run that is in flight.
struct Stop(RunOptions);

impl Interrupt for Stop {
    fn set(&self, on: bool) {
        // Setting a flag fails only where the options are gone, and these are not.
        drop(if on { self.0.terminate() } else { self.0.unterminate() });
    }
}

impl Onnx {
    /// What it has put into memory; `graph` are the bytes of the graph's weights.
    fn holdings(&self, graph: u64) -> Holdings {
        let on_device = self.store.bytes();
        // Weights are packed anew for the CPU, or mapped from their file: the allocator has more of them, or less.
        // On a device they are what was taken there.
        let weights =
            if on_device.is_some() && self.loaded > 0 { self.loaded } else { self.loaded.max(graph) };
        Holdings {
            weights,
            // Buffers of a run are in main memory, which is not what a CUDA device is short of.
            buffers: if on_device.is_some() { 0 } else { self.buffers.bytes() + self.states.bytes() },
            kv_upfront: on_device,
            arena: self.arena.as_ref().map(Hold::share),
            arena_loaded: self.loaded,
        }
    }

    /// Binds the rows of the KV cache from `first` on, each as the past and the present of its layer.
    fn view(&self, first: usize, rows: usize) -> ort::Result<View> {
        let mut binding = self.session.create_binding()?;
        for (strip, (past, present)) in self.names.caches.iter().enumerate() {
            let part = &self.shape.strips[strip];
            let dims = [rows as i64, part.heads as i64, self.shape.capacity as i64, part.head_dim as i64];
            let bytes = rows * self.shape.row_bytes(strip);
            let address = self.store.address(strip, first);
            let value = borrow(&self.memory, (address, bytes), &dims, self.kv_type)?;
            bind_input(&mut binding, past, &value)?;
            bind_output(&mut binding, present, &value)?;
        }
        self.bind_wanted(&mut binding)?;
        let rows = first..first + rows;
        self.states.bind(&mut binding, (&self.names, &self.host), &rows)?;
        Ok(View { binding, rows, bound: None })
    }

    /// Binds how many logits of each row are wanted, and whether there is a past, where the graph asks.
    fn bind_wanted(&self, binding: &mut IoBinding) -> ort::Result<()> {
        if let Some(name) = &self.names.branch {
            let address = (&raw const *self.buffers.past).cast_mut().cast();
            let value = borrow(&self.host, (address, size_of::<bool>()), &[1], TensorElementType::Bool)?;
            bind_input(binding, name, &value)?;
        }
        if let Some((name, scalar)) = &self.names.logits_wanted {
            let address = (&raw const *self.one).cast_mut().cast();
            let dims: &[i64] = if *scalar { &[] } else { &[1] };
            let value = borrow(&self.host, (address, size_of::<i64>()), dims, TensorElementType::Int64)?;
            bind_input(binding, name, &value)?;
        }
        Ok(())
    }

    /// Binds token ids, mask and positions of so many rows and tokens.
    fn bind_inputs(
        &mut self,
        binding: &mut IoBinding,
        (rows, tokens): (usize, usize),
        width: usize,
    ) -> ort::Result<()> {
        let (names, buffers) = (&self.names, &mut self.buffers);
        let mut integers = |name: &CString, from: &mut Vec<i64>, (planes, width): (Option<usize>, usize)| {
            let dims = [planes.unwrap_or(1) as i64, rows as i64, width as i64];
            let count = planes.unwrap_or(1) * rows * width;
            debug_assert!(count <= from.len());
            let dims = if planes.is_some() { &dims[..] } else { &dims[1..] };
            let address = from.as_mut_ptr().cast();
            let value =
                borrow(&self.host, (address, count * size_of::<i64>()), dims, TensorElementType::Int64)?;
            bind_input(binding, name, &value)
        };
        integers(&names.ids, &mut buffers.ids, (None, tokens))?;
        if let Some(name) = &names.mask {
            integers(name, &mut buffers.mask, (None, width))?;
        }
        match &names.positions {
            Some((name, planes)) => integers(name, &mut buffers.positions, (*planes, tokens)),
            None => Ok(()),
        }
    }

    /// Binds what a run reads and writes besides the cache, where the shapes are other ones than last time.
    fn bind(&mut self, view: &mut View, tokens: usize, width: usize) -> ort::Result<()> {
        if view.bound == Some((tokens, width)) && !self.rebind {
            return Ok(());
        }
        view.bound = None;
        let rows = view.rows.len();
        self.bind_inputs(&mut view.binding, (rows, tokens), width)?;
        let logits = if self.names.last_only { 1 } else { tokens };
        let bytes = rows * logits * self.vocab * self.logits_type.bytes();
        let dims = [rows as i64, logits as i64, self.vocab as i64];
        let address = self.buffers.logits_address(0);
        let value = borrow(&self.host, (address, bytes), &dims, element(self.logits_type))?;
        bind_output(&mut view.binding, &self.names.logits, &value)?;
        view.bound = Some((tokens, width));
        Ok(())
    }

    /// What the arena holds for later runs, in bytes.
    fn slack(&self) -> Option<u64> {
        self.arena.as_ref().map(|arena| arena.read().slack())
    }

    fn run(&mut self, view: &mut View, tokens: usize, width: usize) -> ort::Result<()> {
        self.bind(view, tokens, width)?;
        // Outputs are bound by hand, so nothing comes back that would have to be collected.
        self.session.run_binding_with_options(&view.binding, &self.options.0)?;
        self.states.advance(&view.rows);
        Ok(())
    }
}

impl Session for Onnx {
    fn prefill(&mut self, row: usize, past: usize, tokens: &[u32]) -> Result<(), RunError> {
        if self.whole && past > 0 && tokens.len() > 1 {
            let mut each = (past..).zip(tokens);
            return each.try_for_each(|(past, token)| self.prefill(row, past, &[*token]));
        }
        let width = self.buffers.prefill(past, tokens, self.names.last_only);
        if past == 0 {
            self.states.clear(row);
        }
        let mut view = match self.prefill[row].take() {
            Some(view) => view,
            None => self.view(row, 1).map_err(|e| failed(&e))?,
        };
        let ran = self.run(&mut view, tokens.len(), width);
        self.prefill[row] = Some(view);
        ran.map_err(|e| failed(&e))
    }

    fn decode(&mut self, steps: &[Step]) -> Result<(), RunError> {
        let width = self.buffers.decode(steps);
        let mut view = match self.decode[steps.len() - 1].take() {
            Some(view) => view,
            None => self.view(0, steps.len()).map_err(|e| failed(&e))?,
        };
        let ran = self.run(&mut view, 1, width);
        self.decode[steps.len() - 1] = Some(view);
        ran.map_err(|e| failed(&e))
    }

    fn logits(&self, row: usize) -> Logits<'_> {
        self.buffers.logits(row)
    }

    fn swap(&mut self, a: usize, b: usize, tokens: usize) -> Result<(), RunError> {
        self.store.swap(a, b, tokens).map_err(|e| RunError(e.to_string()))?;
        self.states.swap(a, b);
        Ok(())
    }

    fn copy(&mut self, source: usize, target: usize, from: usize, to: usize) -> Result<(), RunError> {
        self.store.copy(source, target, from, to).map_err(|e| RunError(e.to_string()))?;
        self.states.copy(source, target);
        Ok(())
    }

    fn read(&self, place: Place, bytes: &mut [u8]) -> Result<(), RunError> {
        self.store.read(place, bytes).map_err(|e| RunError(e.to_string()))
    }

    fn write(&mut self, place: Place, bytes: &[u8]) -> Result<(), RunError> {
        self.store.write(place, 0, bytes).map_err(|e| RunError(e.to_string()))
    }

    fn sharing(&mut self) -> Result<&mut dyn Sharing, &'static str> {
        if self.states.is_empty() {
            self.store.sharing()
        } else {
            Err("this model's states cannot be shared")
        }
    }

    fn shift(&mut self, row: usize, cut: Cut) -> Result<(), RunError> {
        if self.turns.is_empty() {
            return Err(RunError("the context of this model cannot be shifted".to_owned()));
        }
        let shifted = shift::shift(&mut *self.store, &self.shape, &self.turns, row, cut);
        shifted.map_err(|e| RunError(e.to_string()))
    }

    fn release(&mut self, row: usize, from: usize, to: usize) {
        self.store.release(row, from, to);
    }

    fn settle(&mut self, row: usize, past: usize) -> Result<(), RunError> {
        // A window that a run moves on is not what it was.
        let moved = past > 0 && self.states.in_place();
        if moved || self.slack().is_none_or(|slack| slack <= self.slack + SLACK) {
            return Ok(());
        }
        let width = self.buffers.prefill(past, &[0], self.names.last_only);
        let mut view = self.view(row, 1).map_err(|e| failed(&e))?;
        self.bind(&mut view, 1, width).map_err(|e| failed(&e))?;
        self.session.run_binding_with_options(&view.binding, &self.shrink).map_err(|e| failed(&e))?;
        drop(view);
        // What stays is needed for the shortest of runs.
        self.slack = self.slack().unwrap_or(0);
        Ok(())
    }

    fn rewinds(&self) -> bool {
        self.states.is_empty()
    }

    fn survives(&self) -> bool {
        !self.states.in_place() && (!self.whole || self.states.is_empty())
    }

    fn whole(&self) -> bool {
        self.whole
    }

    fn chunk(&self) -> usize {
        self.chunk
    }

    fn interrupt(&self) -> Arc<dyn Interrupt> {
        self.options.clone()
    }
}

fn failed(error: &ort::Error) -> RunError {
    RunError(error.to_string())
}

#[cfg(test)]
#[path = "onnx_tests.rs"]
mod tests;
