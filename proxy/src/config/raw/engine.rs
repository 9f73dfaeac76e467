//! The embedded engine of an upstream.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ContextShift, KvDtype, Lifetime, Offload, SizeOrShare, TokensOrAuto};

/// The embedded engine.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["model"]))]
pub(in crate::config) struct Engine {
    /// Model folder (`*.onnx`, tokenizer, chat template, config), or one a device: `{cpu: .., cuda: ..}`.
    pub(in crate::config) model: Model,
    /// Model id that clients ask for. Default: the upstream's key.
    #[schemars(length(min = 1), example = &"demo")]
    pub(in crate::config) name: Option<String>,
    /// `auto` (CUDA where the model can run there, else the CPU), `cpu`, `cuda` or `cuda:N`. Default `auto`.
    #[schemars(example = &"auto", example = &"cuda:0")]
    pub(in crate::config) device: String,
    /// Memory for the KV cache: `auto` (80% of what is free), bytes (`6GiB`), or a share of what is free (`50%`). Default
    /// `auto`.
    pub(in crate::config) memory: SizeOrShare,
    /// Window in tokens, or `auto`: the model's own limit as far as memory allows. Default `auto`.
    pub(in crate::config) context: TokensOrAuto,
    /// Numbers of the KV cache: `auto` (as the model's graph has them), `fp32` or `fp16`, which takes half the memory. A
    /// graph with 32 bits is changed in memory: its attention runs in 16, more slowly on a CPU, the rest as before. Where it
    /// cannot be, the model is refused with the reason. Default `auto`.
    pub(in crate::config) kv_dtype: KvDtype,
    /// Conversations whose KV is kept at once. Default 8.
    #[schemars(range(min = 1, max = 1024))]
    pub(in crate::config) slots: u32,
    /// Threads of one operator on the CPU. Default: one a physical core.
    #[schemars(range(min = 1, max = 1024))]
    pub(in crate::config) threads: Option<u32>,
    /// Requests that may wait for memory before the next is refused. Default 256.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) queue: u32,
    /// How long an idle model stays loaded: `5m`, 0 (not at all) or -1 (for ever). Default `5m`. Unloaded, it holds no
    /// weights and no conversations; the next request loads it again.
    pub(in crate::config) keep_alive: Lifetime,
    /// Folder of saved conversations, made when the first is saved. Default null: none can be saved.
    #[schemars(example = &"checkpoints")]
    pub(in crate::config) checkpoints: Option<String>,
    /// Where conversations go whose slot or memory another request needs.
    pub(in crate::config) offload: Offload,
    /// Lets answers go on when their window is full. What stays was computed with the dropped tokens in view: the answer
    /// is another one than the model would give without them. A model whose keys cannot be turned to other positions is
    /// refused with the reason. Requests may ask for it or not by themselves, as Ollama's (`shift`, `options.num_keep`) and
    /// llama.cpp's (`n_keep`) do. Default null: an answer ends there with `length`.
    pub(in crate::config) context_shift: Option<ContextShift>,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            model: Model::default(),
            name: None,
            device: "auto".to_owned(),
            memory: SizeOrShare("auto".into()),
            context: TokensOrAuto("auto".into()),
            kv_dtype: KvDtype::Auto,
            slots: 8,
            threads: None,
            queue: 256,
            keep_alive: "5m".into(),
            checkpoints: None,
            offload: Offload::default(),
            context_shift: None,
        }
    }
}

/// A model's folder, or a folder a device.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::config) enum Model {
    /// One folder for whatever device is taken.
    One(#[schemars(example = &"engine/demo/model")] String),
    /// A folder a device.
    ByDevice(ModelByDevice),
}

impl Default for Model {
    fn default() -> Self {
        Self::One(String::new())
    }
}

/// A model's folder a device.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct ModelByDevice {
    /// Folder for the CPU.
    pub(in crate::config) cpu: Option<String>,
    /// Folder for CUDA.
    pub(in crate::config) cuda: Option<String>,
}
