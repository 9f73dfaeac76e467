//! Valid upstreams: the embedded engine's settings, and servers over HTTP.

use std::path::PathBuf;
use std::time::Duration;

use plimsoll_engine::{KeepAlive, Offload};

use super::{Affinity, Dialect, HttpVersions, KvDtype, Secret};

/// Where a request goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Upstream {
    /// A model that runs in this process.
    Engine(Box<EngineUpstream>),
    /// A server that speaks HTTP.
    Http(Box<HttpUpstream>),
}

/// The embedded engine's settings; mirrors what the engine crate takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineUpstream {
    /// The model's folder or folders.
    pub model: ModelPaths,
    /// Model id that clients ask for and that answers carry: `name:`, else the upstream's key.
    pub name: String,
    /// Device that runs the model.
    pub device: Device,
    /// Memory that the KV cache may take.
    pub memory: Memory,
    /// Window of one conversation.
    pub context: EngineContext,
    /// Type of the KV cache's numbers.
    pub kv_dtype: KvDtype,
    /// Conversations whose KV is kept at once.
    pub slots: u32,
    /// Intra-op threads of the CPU provider; `None`: one a physical core.
    pub threads: Option<u32>,
    /// Requests that may wait for memory.
    pub queue: usize,
    /// How long an idle model stays loaded.
    pub keep_alive: KeepAlive,
    /// Folder of saved conversations; `None`: none are saved.
    pub checkpoints: Option<PathBuf>,
    /// Where idle conversations go.
    pub offload: Offload,
    /// What stays when an answer goes on past its window; `None`: it ends there.
    pub context_shift: Option<Keep>,
}

/// What stays of a conversation when its window is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Tokens from the first one on.
    Tokens(u32),
    /// The prompt, as far as the window allows.
    Prompt,
}

impl Keep {
    /// From a number of tokens, -1 being the whole prompt; `None`: it is neither.
    pub fn read(number: i64) -> Option<Self> {
        match number {
            -1 => Some(Self::Prompt),
            tokens => u32::try_from(tokens).ok().map(Self::Tokens),
        }
    }
}

impl Default for Keep {
    /// As many as Ollama keeps.
    fn default() -> Self {
        Self::Tokens(4)
    }
}

/// Folders of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelPaths {
    /// One folder for whatever device is taken.
    One(PathBuf),
    /// A folder a device; at least one is there.
    ByDevice {
        /// For the CPU provider.
        cpu: Option<PathBuf>,
        /// For the CUDA provider.
        cuda: Option<PathBuf>,
    },
}

/// Device that runs a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// CUDA where the model's graph can run there, else the CPU.
    Auto,
    /// The CPU provider.
    Cpu,
    /// The CUDA provider on the device of this ordinal.
    Cuda(u32),
}

/// Memory for the KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// The engine decides from what is free.
    Auto,
    /// Bytes.
    Bytes(u64),
    /// Share of the memory that is free after the weights, 1 to 100.
    Percent(u8),
}

/// Window of the embedded engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineContext {
    /// From the model's own limit and the memory there is.
    Auto,
    /// Tokens.
    Tokens(u32),
}

/// An upstream over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpUpstream {
    /// Base addresses of its replicas, `http` or `https`, at least one, each once; the path of a request is appended to
    /// the path of one.
    pub urls: Vec<http::Uri>,
    /// Which replica a conversation goes to.
    pub affinity: Affinity,
    /// Multiple of the mean load beyond which a replica's conversations go elsewhere.
    pub max_load: Option<f64>,
    /// Versions of HTTP.
    pub http: HttpVersions,
    /// When a request is sent once more.
    pub retries: Retries,
    /// When a replica is left out.
    pub ejection: Ejection,
    /// What asks the replicas whether they are well.
    pub health: Option<HealthCheck>,
    /// Dialect that the server speaks.
    pub dialect: Dialect,
    /// Sent as `Authorization: Bearer` in place of the caller's; `None`: the caller's is passed on.
    pub api_key: Option<Secret>,
    /// What counts exactly; `None`: counted by an estimate.
    pub tokenizer: Option<Tokenizer>,
    /// Whether the server is asked for its window.
    pub ask_context: bool,
    /// Window in tokens; where the server is asked, as long as it does not tell. `None` only where no route needs it, or
    /// the server is asked.
    pub context: Option<u64>,
    /// Patience.
    pub timeouts: Timeouts,
    /// Whether streamed requests that a policy edited ask for usage.
    pub ask_usage: bool,
    /// How often a stream that has not begun gets a comment.
    pub keepalive: Option<Duration>,
    /// Whether callers' `baggage` is passed on.
    pub forward_baggage: bool,
    /// PEM file of certificates that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
}

/// What counts an HTTP upstream's tokens exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tokenizer {
    /// Template and tokenizer of a model folder.
    Folder(PathBuf),
    /// The server itself.
    Upstream,
}

/// Patience with an HTTP upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect, TLS included.
    pub connect: Duration,
    /// From the request's last byte to the response's head.
    pub first_byte: Duration,
    /// Between two pieces of the response's body.
    pub idle: Duration,
    /// From the request's arrival to the response's last byte.
    pub total: Option<Duration>,
}

/// When a request is sent once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retries {
    /// How often, after the first attempt.
    pub attempts: u32,
    /// Statuses that are no answer.
    pub statuses: Vec<http::StatusCode>,
    /// The first pause before the same server is asked again.
    pub pause: Duration,
    /// The longest one.
    pub longest_pause: Duration,
}

/// When a replica is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Failures in a row.
    pub failures: u32,
    /// For how long at first.
    pub time: Duration,
    /// For how long at most.
    pub longest_time: Duration,
}

/// What asks replicas whether they are well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked for.
    pub path: http::uri::PathAndQuery,
    /// How often.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
}
