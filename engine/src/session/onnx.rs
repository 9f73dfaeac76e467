//! The model in ONNX Runtime, with its KV cache bound once: past and present are the same memory, given to ONNX
//! Runtime as raw values over the rows of the store. Only this file and its parts in `onnx/` name `ort`.
#![expect(unsafe_code, reason = "binds memory that ONNX Runtime does not own, through its C interface")]

mod arena;
mod environment;
mod grow;
mod scratch;
mod value;

use std::ffi::CString;
use std::path::Path;
use std::sync::Arc;

use ort::ep::{self, ArenaExtendStrategy};
use ort::memory::MemoryInfo;
use ort::session::{IoBinding, RunOptions};
use ort::value::TensorElementType;

use self::arena::Hold;
use self::environment::{builder, environment};
use self::grow::Growing;
use self::value::{bind_input, bind_output, borrow, element, memory_info};
use super::buffers::{self, Buffers};
use super::names::Names;
use super::{Interrupt, Logits, RunError, Session, Step};
use crate::cache::{Device, Host, Place, Shape, Store, StoreError};
use crate::error::LoadError;
use crate::memory::Holdings;
use crate::model::{Element, Layout, Model};

/// The arena may hold this much more for later runs than it needs, in bytes, before it is told to give it back.
const SLACK: u64 = 32 << 20;

/// What to load, and how large.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) runtime: &'a Path,
    pub(crate) model: &'a Model,
    pub(crate) threads: Option<u32>,
    /// The ordinal of a CUDA device; `None`: the CPU.
    pub(crate) cuda: Option<u32>,
}

/// A model whose weights are loaded, still without KV memory.
pub(crate) struct Loaded {
    arena: Option<Hold>,
    session: ort::session::Session,
    cuda: Option<u32>,
}

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
    /// Inputs are copied to the device when they are bound: each run binds them anew.
    rebind: bool,
}

/// Rows of the KV cache, bound, and the shape that the other inputs were bound with.
struct View {
    binding: IoBinding,
    rows: usize,
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

impl Loaded {
    /// Loads the weights.
    pub(crate) fn load(plan: &Plan<'_>) -> Result<Self, LoadError> {
        let environment = environment(plan.runtime)?;
        let path = &plan.model.file;
        let refused =
            |e: &dyn std::fmt::Display| LoadError::Session { path: path.clone(), reason: e.to_string() };
        let mut builder = builder(&environment, plan.threads).map_err(|e| refused(&e))?;
        if let Some(ordinal) = plan.cuda {
            let provider = ep::CUDA::default()
                .with_device_id(i32::try_from(ordinal).unwrap_or(i32::MAX))
                .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested)
                .build()
                .error_on_failure();
            builder = builder.with_execution_providers([provider]).map_err(|e| LoadError::Device {
                device: format!("cuda:{ordinal}"),
                reason: format!(
                    "{}; it takes onnxruntime-gpu, a CUDA 13 driver and CUDA's cudart, cublas and curand",
                    e.to_string().trim_end_matches('.')
                ),
            })?;
        }
        let session = builder.commit_from_file(path).map_err(|e| refused(&e))?;
        let arena = memory_info(plan.cuda).ok().and_then(|memory| Hold::new(&session, memory));
        Ok(Self { arena, session, cuda: plan.cuda })
    }

    /// Takes KV memory and tries the model once, so that a graph which does not do what it says is found now. Tells
    /// what is in memory then.
    pub(crate) fn session(
        self,
        model: &Model,
        slots: u32,
        context: u32,
    ) -> Result<(Box<dyn Session>, Holdings), LoadError> {
        let base = self.with_memory(model, slots, context)?;
        let holdings = base.holdings(model.weights_bytes);
        let (mut session, holdings): (Box<dyn Session>, _) = match model.layout {
            Layout::SharedBuffer => (Box::new(base), holdings),
            Layout::Concatenated => {
                let growing = Growing::new(base, context)
                    .map_err(|e| LoadError::Session { path: model.file.clone(), reason: e.to_string() })?;
                let holdings = growing.holdings(holdings);
                (Box::new(growing), holdings)
            }
        };
        let tried = warm_up(&mut *session, context as usize);
        tried.map_err(|e| LoadError::Session { path: model.file.clone(), reason: e.to_string() })?;
        Ok((session, holdings))
    }

    fn with_memory(self, model: &Model, slots: u32, context: u32) -> Result<Onnx, LoadError> {
        let (slots, context) = (slots as usize, context as usize);
        let refused = |reason: String| LoadError::Session { path: model.file.clone(), reason };
        let shape = Shape::new(model, slots, context);
        let device = || self.cuda.map_or_else(|| "cpu".to_owned(), |ordinal| format!("cuda:{ordinal}"));
        let store = store(shape.clone(), self.cuda)
            .map_err(|e| LoadError::Device { device: device(), reason: e.to_string() })?;
        let names = Names::new(&model.wiring).map_err(|e| refused(e.to_string()))?;
        let options = RunOptions::new().map_err(|e| refused(e.to_string()))?;
        Ok(Onnx {
            loaded: self.arena.as_ref().map_or(0, |arena| arena.read().in_use),
            arena: self.arena,
            slack: 0,
            shrink: shrink(self.cuda).map_err(|e| refused(e.to_string()))?,
            decode: (0..slots).map(|_| None).collect(),
            prefill: (0..slots).map(|_| None).collect(),
            session: self.session,
            options: Arc::new(Stop(options)),
            store,
            buffers: Buffers::new(model, slots, context),
            one: Box::new(1),
            names,
            kv_type: element(model.kv_type),
            logits_type: model.logits_type,
            vocab: model.vocab as usize,
            memory: memory_info(self.cuda).map_err(|e| refused(e.to_string()))?,
            host: memory_info(None).map_err(|e| refused(e.to_string()))?,
            shape,
            chunk: buffers::chunk(model, context),
            rebind: self.cuda.is_some(),
        })
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
            buffers: if on_device.is_some() { 0 } else { self.buffers.bytes() },
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
        Ok(View { binding, rows, bound: None })
    }

    /// Binds how many logits of each row are wanted, where the graph asks.
    fn bind_wanted(&self, binding: &mut IoBinding) -> ort::Result<()> {
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
        let mut integers = |name: &CString, from: &mut Vec<i64>, width: usize| {
            let bytes = rows * width * size_of::<i64>();
            debug_assert!(rows * width <= from.len());
            let dims = [rows as i64, width as i64];
            let value =
                borrow(&self.host, (from.as_mut_ptr().cast(), bytes), &dims, TensorElementType::Int64)?;
            bind_input(binding, name, &value)
        };
        integers(&names.ids, &mut buffers.ids, tokens)?;
        integers(&names.mask, &mut buffers.mask, width)?;
        match &names.positions {
            Some(name) => integers(name, &mut buffers.positions, tokens),
            None => Ok(()),
        }
    }

    /// Binds what a run reads and writes besides the cache, where the shapes are other ones than last time.
    fn bind(&mut self, view: &mut View, tokens: usize, width: usize) -> ort::Result<()> {
        if view.bound == Some((tokens, width)) && !self.rebind {
            return Ok(());
        }
        view.bound = None;
        let rows = view.rows;
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
        Ok(())
    }
}

impl Session for Onnx {
    fn prefill(&mut self, row: usize, past: usize, tokens: &[u32]) -> Result<(), RunError> {
        let width = self.buffers.prefill(past, tokens, self.names.last_only);
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
        self.store.swap(a, b, tokens).map_err(|e| RunError(e.to_string()))
    }

    fn copy(&mut self, source: usize, target: usize, from: usize, to: usize) -> Result<(), RunError> {
        self.store.copy(source, target, from, to).map_err(|e| RunError(e.to_string()))
    }

    fn read(&self, place: Place, bytes: &mut [u8]) -> Result<(), RunError> {
        self.store.read(place, bytes).map_err(|e| RunError(e.to_string()))
    }

    fn write(&mut self, place: Place, bytes: &[u8]) -> Result<(), RunError> {
        self.store.write(place, 0, bytes).map_err(|e| RunError(e.to_string()))
    }

    fn release(&mut self, row: usize, from: usize, to: usize) {
        self.store.release(row, from, to);
    }

    fn settle(&mut self, row: usize, past: usize) -> Result<(), RunError> {
        if self.slack().is_none_or(|slack| slack <= self.slack + SLACK) {
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

    fn chunk(&self) -> usize {
        self.chunk
    }

    fn interrupt(&self) -> Arc<dyn Interrupt> {
        self.options.clone()
    }
}

fn warm_up(session: &mut dyn Session, context: usize) -> Result<(), RunError> {
    session.prefill(0, 0, &[0])?;
    if context > 1 {
        session.decode(&[Step { token: 0, past: 1 }])?;
    }
    session.release(0, 0, context);
    Ok(())
}

fn shrink(cuda: Option<u32>) -> ort::Result<RunOptions> {
    let mut options = RunOptions::new()?;
    let arena = cuda.map_or_else(|| "cpu:0".to_owned(), |ordinal| format!("gpu:{ordinal}"));
    options.set("memory.enable_memory_arena_shrinkage", arena)?;
    Ok(options)
}

fn store(shape: Shape, cuda: Option<u32>) -> Result<Box<dyn Store>, StoreError> {
    Ok(match cuda {
        None => Box::new(Host::new(shape)?),
        Some(ordinal) => Box::new(Device::new(shape, ordinal)?),
    })
}

fn failed(error: &ort::Error) -> RunError {
    RunError(error.to_string())
}

#[cfg(test)]
#[path = "onnx_tests.rs"]
mod tests;
