//! What an engine is loaded with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::offload::Offload;

/// What [`Engine::load`](crate::Engine::load) needs to know.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The model's folder or folders.
    pub model: ModelPaths,
    /// Where it runs.
    pub device: Device,
    /// How much memory the KV cache may take.
    pub memory: MemoryLimit,
    /// The window of one conversation.
    pub context: ContextLimit,
    /// Conversations that may run at the same time, at least 1.
    pub slots: u32,
    /// Threads of one operator on the CPU; `None`: one per core.
    pub threads: Option<u32>,
    /// The shared library of ONNX Runtime. All engines of a process share the first one's.
    pub onnxruntime: PathBuf,
    /// Requests that may wait for memory; 0: none waits.
    pub queue: usize,
    /// How long the model stays loaded while nobody needs it.
    pub keep_alive: KeepAlive,
    /// Where idle conversations go when their slot or memory is needed.
    pub offload: Offload,
    /// Type of the KV cache's numbers.
    pub kv_dtype: KvDtype,
}

/// Type of the KV cache's numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KvDtype {
    /// As the graph has them.
    #[default]
    Auto,
    /// 32 bits.
    F32,
    /// 16 bits: half the memory of 32. A graph that has 32 is changed when it is loaded, where its attention can be: it
    /// runs in 16 bits then, and everything else as before.
    F16,
}

/// How long an idle model stays loaded. Unloaded, it holds no weights and no conversations; the next request loads it
/// again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    /// For ever.
    Always,
    /// For so long after the last request; zero: not at all.
    For(Duration),
}

/// A model's folder for each kind of device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPaths {
    /// The folder that runs on the CPU.
    pub cpu: Option<PathBuf>,
    /// The folder that runs on CUDA.
    pub cuda: Option<PathBuf>,
}

impl ModelPaths {
    /// One folder for every device.
    pub fn one(folder: &Path) -> Self {
        Self { cpu: Some(folder.to_owned()), cuda: Some(folder.to_owned()) }
    }
}

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// CUDA where it loads and the graph can run there, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this ordinal, or an error.
    Cuda(u32),
}

/// Memory for the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryLimit {
    /// A share of what is free once the weights are loaded, never more than all slots can use.
    Auto,
    /// Bytes.
    Bytes(u64),
    /// Percent of what is free once the weights are loaded, 1 to 100.
    Percent(u8),
}

/// The window of a conversation, prompt and answer together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextLimit {
    /// The model's own limit, or what the memory allows.
    Auto,
    /// Tokens.
    Tokens(u32),
}

/// The device that an engine runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Name for people, such as `cpu` or `cuda:0`.
    pub name: String,
    /// ONNX Runtime's name of the provider: `CPUExecutionProvider` or `CUDAExecutionProvider`.
    pub provider: &'static str,
    /// Why this device was taken.
    pub reason: String,
}
