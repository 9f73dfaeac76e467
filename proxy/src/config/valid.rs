//! The valid configuration: what the rest of the proxy works by.

mod upstream;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use globset::GlobMatcher;
use plimsoll_policies::config::Step;

use super::address::Address;
use super::choices::{
    Affinity, Dialect, GenAiNames, HttpVersions, KvDtype, LogFormat, Mode, OnUnparsable, OtlpProtocol,
};
use super::hosts::Hosts;
use super::secret::Secret;
pub use upstream::{
    Device, Ejection, EngineContext, EngineUpstream, HealthCheck, HttpUpstream, Keep, Memory, ModelPaths,
    Retries, Timeouts, Tokenizer, Upstream,
};

/// A configuration in which every reference resolves and every value is in range.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the proxy listens.
    pub listen: Listen,
    /// API keys of callers.
    pub keys: Vec<Key>,
    /// Where requests go, by name.
    pub upstreams: BTreeMap<String, Upstream>,
    /// First match wins; the last route matches everything.
    pub routes: Vec<Route>,
    /// Resolved steps of the file's policies and of the presets that a route names.
    pub policies: BTreeMap<String, Vec<Step>>,
    /// Originals of shortened tool results.
    pub artifacts: Artifacts,
    /// Saved conversations.
    pub checkpoints: Checkpoints,
    /// What is reported, and where to.
    pub telemetry: Telemetry,
    /// What a request and the process may take.
    pub limits: Limits,
    /// What is kept of requests, to be explained afterwards.
    pub explain: Explain,
    /// Native libraries.
    pub runtime: Runtime,
    /// The process's own log.
    pub log: Log,
}

/// Listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Requests of clients.
    pub data: Address,
    /// Connections that the kernel redirected on their way to an upstream; `None`: none are taken.
    pub transparent: Option<SocketAddr>,
    /// Health, metrics, state and explain; never on the data port.
    pub admin: Address,
    /// Mode bits of unix sockets' files.
    pub socket_mode: u32,
    /// Bearer token of the admin listener; always there where `admin` can be reached from other machines.
    pub admin_token: Option<Secret>,
    /// Tells callers apart who send no API key.
    pub caller_header: Option<http::HeaderName>,
    /// Names by which the data listener may be asked for.
    pub hosts: Hosts,
    /// Web pages that may ask the data listener; `None`: cross-origin rules are the upstream's own.
    pub cors: Option<Cors>,
}

/// Web pages that may ask the data listener.
#[derive(Clone, Debug)]
pub struct Cors {
    /// Whether every page may.
    pub any: bool,
    pub(super) patterns: Vec<String>,
    pub(super) origins: Vec<GlobMatcher>,
}

impl Cors {
    /// Whether the pages of an origin may ask.
    pub fn takes(&self, origin: &str) -> bool {
        self.origins.iter().any(|glob| glob.is_match(origin))
    }
}

impl PartialEq for Cors {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

impl Eq for Cors {}

/// A caller's API key: what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The caller's name.
    pub name: String,
    /// SHA-256 of the key.
    pub hash: [u8; 32],
}

/// What happens to the requests that it matches.
#[derive(Clone, Debug)]
pub struct Route {
    /// Unique; the `x-plimsoll-route` header and a metric's label.
    pub name: String,
    /// What it takes; the last route's matches everything.
    pub matches: Match,
    /// Key in [`Config::upstreams`].
    pub upstream: String,
    /// Key in [`Config::policies`].
    pub policy: String,
    /// Whether the policy's edits are sent.
    pub mode: Mode,
    /// Whether `x-plimsoll-bypass: true` is honoured.
    pub allow_bypass: bool,
    /// What happens to a body that is not JSON.
    pub on_unparsable: OnUnparsable,
    /// Whether any model id is served by an embedded engine, and not only its own.
    pub any_model: bool,
    /// Window in tokens in place of the upstream's.
    pub window: Option<u64>,
    /// Whether the model may read originals by `plimsoll_read`.
    pub read_tool: bool,
    /// Names of the keys of which a request must bear one; empty: none is asked for.
    pub keys: Vec<String>,
}

/// Originals of shortened tool results, kept for their callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifacts {
    /// Bytes of memory; 0: none is kept.
    pub memory: u64,
    /// Folder beyond memory and restarts.
    pub disk: Option<PathBuf>,
    /// Bytes in that folder.
    pub disk_limit: u64,
    /// How long one is kept after it was last sent.
    pub ttl: Duration,
}

impl Artifacts {
    /// Whether any is kept.
    pub fn kept(&self) -> bool {
        self.memory > 0
    }
}

/// Saved conversations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoints {
    /// Folder that holds them; `None`: there are none.
    pub dir: Option<PathBuf>,
    /// How many one caller may have.
    pub per_caller: usize,
}

/// What is reported, and where to.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// Collector of traces; `None`: no export.
    pub otlp: Option<Otlp>,
    /// `service.name` of the resource.
    pub service_name: String,
    /// Share of new traces that are recorded, 0 to 1; a caller's own decision wins where it is trusted.
    pub sample: f64,
    /// Whether a caller's `traceparent` is continued, and its `baggage` read.
    pub trust_incoming: bool,
    /// Where a trace can be looked at: an `http` or `https` address with `{trace_id}` in it.
    pub trace_url: Option<String>,
    /// Keys of callers' baggage that become attributes.
    pub baggage: Vec<String>,
    /// Whether spans hold what was said.
    pub capture_content: bool,
    /// Version of the `gen_ai.*` names.
    pub gen_ai: GenAiNames,
}

/// A collector.
#[derive(Clone, Debug, PartialEq)]
pub struct Otlp {
    /// Base address, without `/v1/traces`.
    pub endpoint: http::Uri,
    /// Transport.
    pub protocol: OtlpProtocol,
    /// Headers of each export.
    pub headers: BTreeMap<String, Secret>,
}

/// What a request and the process may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's body after decoding.
    pub body: u64,
    /// Bytes of a request's head.
    pub head: u64,
    /// From a connection's first byte to the end of a request's head.
    pub head_timeout: Duration,
    /// Between two pieces of a request's body.
    pub body_idle: Duration,
    /// How long a client may take nothing of its answer.
    pub answer_idle: Duration,
    /// Open connections of the data listener.
    pub connections: usize,
    /// Requests in flight.
    pub requests: usize,
    /// How long a request waits for memory.
    pub queue_wait: Duration,
    /// How long running requests may take after the signal to stop.
    pub drain: Duration,
}

/// What is kept of requests, in memory alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explain {
    /// Reports of the last requests.
    pub keep: usize,
    /// Bytes of conversations kept beside them; 0: none.
    pub capture: u64,
}

/// Native libraries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// ONNX Runtime's shared library, found at load; `None`: there was none to be found.
    pub onnxruntime: Option<PathBuf>,
}

/// The process's own log, on stderr.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Shape of a line.
    pub format: LogFormat,
    /// Level, or `tracing` directives such as `info,plimsoll_engine=debug`.
    pub level: String,
}

/// Which requests a route takes: all of its parts must match.
#[derive(Clone, Debug, Default)]
pub struct Match {
    pub(super) path: Option<GlobMatcher>,
    pub(super) headers: Vec<(http::HeaderName, GlobMatcher)>,
    pub(super) model: Option<GlobMatcher>,
}

impl Match {
    /// Whether a request with this path, these headers and this model id is taken.
    ///
    /// A header that comes several times matches where one of its values does; a request without
    /// a model id is matched only where the route asks for none.
    pub fn takes(&self, path: &str, headers: &http::HeaderMap, model: Option<&str>) -> bool {
        self.takes_head(path, headers) && self.takes_model(model)
    }

    /// Whether a request's path and headers are taken, whatever its model.
    pub fn takes_head(&self, path: &str, headers: &http::HeaderMap) -> bool {
        self.takes_path(path) && self.headers.iter().all(|(name, glob)| any_value(headers, name, glob))
    }

    /// Whether a path is taken.
    pub(super) fn takes_path(&self, path: &str) -> bool {
        self.path.as_ref().is_none_or(|glob| glob.is_match(path))
    }

    /// Whether a model id is taken.
    pub fn takes_model(&self, model: Option<&str>) -> bool {
        self.model.as_ref().is_none_or(|glob| model.is_some_and(|model| glob.is_match(model)))
    }

    /// Whether the model id decides, so that the body must be read first.
    pub fn asks_model(&self) -> bool {
        self.model.is_some()
    }
}

fn any_value(headers: &http::HeaderMap, name: &http::HeaderName, glob: &GlobMatcher) -> bool {
    headers.get_all(name).iter().any(|value| value.to_str().is_ok_and(|value| glob.is_match(value)))
}
