//! From a graph to a session: weights first, then KV memory, then a trial run.

use std::path::Path;
use std::sync::Arc;

use ort::ep::{self, ArenaExtendStrategy};
use ort::session::RunOptions;
use ort::session::builder::SessionBuilder;

use super::arena::Hold;
use super::environment::{builder, environment};
use super::grow::Growing;
use super::states::States;
use super::value::{element, memory_info};
use super::{Onnx, Stop};
use crate::cache::{Device, Host, Shape, Store, StoreError};
use crate::error::LoadError;
use crate::memory::Holdings;
use crate::model::{Layout, Model};
use crate::session::buffers::{self, Buffers};
use crate::session::names::Names;
use crate::session::{RunError, Session, Step};

/// Where weights are that a graph in memory has beside it (`kOrtSessionOptionsModelExternalInitializersFileFolderPath`).
const WEIGHTS_FOLDER: &str = "session.model_external_initializers_file_folder_path";

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
        let session = match plan.model.changed_graph()? {
            None => builder.commit_from_file(path).map_err(|e| refused(&e))?,
            Some(graph) => in_memory(builder, path, &graph).map_err(|e| refused(&e))?,
        };
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
            Layout::SharedBuffer | Layout::Hybrid => (Box::new(base), holdings),
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

    pub(super) fn with_memory(self, model: &Model, slots: u32, context: u32) -> Result<Onnx, LoadError> {
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
            states: States::new(model, slots).map_err(|e| refused(e.to_string()))?,
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
            turns: model.turns.clone().unwrap_or_default(),
            whole: model.wiring.whole,
            rebind: self.cuda.is_some(),
        })
    }
}

/// A graph that is no file, with weights beside the file that it was made of.
fn in_memory(builder: SessionBuilder, path: &Path, graph: &[u8]) -> ort::Result<ort::session::Session> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut builder = builder.with_config_entry(WEIGHTS_FOLDER, folder.to_string_lossy())?;
    builder.commit_from_memory(graph)
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
