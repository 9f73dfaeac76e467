//! The engine in this process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_engine::{
    ContextLimit, Device, Engine, EngineConfig, Event, Generate, KeepAlive, KvDtype, MemoryLimit, ModelPaths,
    Offload, Sampling,
};
use plimsoll_tests::shared::{root, shared};

/// Tokens within this time are told together, as the sidecar has it.
const PACE: Duration = Duration::from_millis(5);

/// A model with its name in tables.
pub(crate) struct Model {
    pub(crate) name: &'static str,
    pub(crate) folder: PathBuf,
}

/// The demo model.
pub(crate) fn demo() -> Model {
    Model { name: "demo model", folder: root().join("engine/demo/model") }
}

/// The demo model, and those of the shared folder that onnxruntime-genai can load.
pub(crate) fn models() -> Vec<Model> {
    let other = |(name, path)| shared(path).map(|folder| Model { name, folder });
    let others =
        [("qwen2", "models/qwen2/genai"), ("llama", "models/llama/genai")].into_iter().filter_map(other);
    std::iter::once(demo()).chain(others).collect()
}

/// A configuration on the CPU, with the model's own window.
pub(crate) fn config(folder: &Path, slots: u32, threads: u32) -> EngineConfig {
    EngineConfig {
        model: ModelPaths { cpu: Some(folder.to_owned()), cuda: None },
        device: Device::Cpu,
        memory: MemoryLimit::Auto,
        context: ContextLimit::Auto,
        slots,
        threads: Some(threads),
        onnxruntime: root().join(".runtime/libonnxruntime.so"),
        queue: 64,
        keep_alive: KeepAlive::Always,
        offload: Offload::default(),
        kv_dtype: KvDtype::Auto,
    }
}

pub(crate) fn load(folder: &Path, slots: u32, threads: u32) -> Engine {
    Engine::load(config(folder, slots, threads)).expect("the model loads")
}

/// Token ids that look like nothing, other ones for each `salt` from the first on.
pub(crate) fn prompt(salt: u32, tokens: u32) -> Vec<u32> {
    (0..tokens).map(|i| 300 + (salt * 37 + i * 7 + i * i % 13) % 1500).collect()
}

/// How a request went.
pub(crate) struct Timed {
    /// When it was asked for.
    pub(crate) asked: Instant,
    /// When its prompt was computed.
    pub(crate) prefilled: Instant,
    /// When each token came.
    pub(crate) came: Vec<Instant>,
    /// The answer.
    pub(crate) tokens: Vec<u32>,
    /// Tokens of the prompt that were there already.
    pub(crate) cached: u32,
}

impl Timed {
    /// Seconds until the prompt was computed.
    pub(crate) fn prefill(&self) -> f64 {
        self.prefilled.duration_since(self.asked).as_secs_f64()
    }

    /// Seconds from the first token to the last.
    pub(crate) fn decode(&self) -> f64 {
        self.came[self.came.len() - 1].duration_since(self.came[0]).as_secs_f64()
    }

    /// Seconds to the first token.
    pub(crate) fn first(&self) -> f64 {
        self.came[0].duration_since(self.asked).as_secs_f64()
    }
}

/// A greedy answer of so many tokens; the end of text may not come before.
pub(crate) async fn ask(engine: &Engine, prompt: &[u32], tokens: u32) -> Timed {
    let prompt: Arc<[u32]> = prompt.into();
    let room = u32::try_from(prompt.len()).expect("short") + tokens;
    let permit = engine.reserve_for(&prompt, room).await.expect("there is room");
    let sampling = Sampling::greedy();
    let (max_tokens, min_tokens, pace) = (tokens, tokens, PACE);
    let request = Generate { prompt, max_tokens, min_tokens, sampling, pace, ..Generate::default() };
    let asked = Instant::now();
    let mut timed = Timed {
        asked,
        prefilled: asked,
        came: Vec::with_capacity(tokens as usize),
        tokens: Vec::new(),
        cached: 0,
    };
    let mut answer = engine.generate_tagged(request, permit, Some(Arc::new(())));
    while let Some(event) = answer.next().await {
        match event.expect("the model answers") {
            Event::Started { cached, .. } => timed.cached = cached,
            Event::Prefilled => timed.prefilled = Instant::now(),
            Event::Token(token) => {
                timed.came.push(Instant::now());
                timed.tokens.push(token);
            }
            Event::Logprobs(_) | Event::Shifted { .. } | Event::Done { .. } => {}
        }
    }
    timed
}

/// A runtime for those who wait for answers.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

/// Forgets all conversations.
pub(crate) fn forget(engine: &Engine) {
    for slot in engine.slots() {
        engine.erase(slot.id).expect("nothing runs");
    }
}

/// Bytes of this process in memory: pages that are mapped several times are divided between their maps.
pub(crate) fn pages() -> u64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").expect("this is Linux");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).expect("a line of them");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}

/// As [`pages`], without what runs take and leave to the runtime's allocator.
pub(crate) fn besides_runs(engine: &Engine) -> u64 {
    let memory = engine.memory();
    pages() - memory.workspace - memory.slack
}
