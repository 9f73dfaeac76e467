//! `config.yaml` as it is written: every option with its default; comments become the JSON schema.
//!
//! Unknown keys are refused everywhere. What must be there is said by `required`; serde itself takes
//! whatever is left out, so that the checks of meaning can run beside those of shape.

mod engine;
mod kept;
mod http;
mod listen;
mod offload;
mod shift;

use std::collections::BTreeMap;

use plimsoll_policies::config::PolicyConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::choices::{
    Affinity, Dialect, GenAiNames, HttpVersions, KvDtype, LogFormat, Mode, OnUnparsable, OtlpProtocol,
};
use super::scalar::{Lifetime, Size, SizeOrShare, Time, TokensOrAuto};
use super::secret::Secret;
pub(super) use engine::{Engine, Model, ModelByDevice};
pub(super) use http::{Ejection, HealthCheck, Retries, Timeouts};
pub(super) use kept::{Artifacts, Checkpoints};
pub(super) use listen::{Cors, Listen};
pub(super) use offload::Offload;
pub(super) use shift::ContextShift;

/// Plimsoll's configuration: listeners, upstreams, routes and policies.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "Plimsoll configuration", extend("required" = ["upstreams", "routes"]))]
pub(super) struct Raw {
    /// Files of policies, such as `policies.d/*.yaml`, one a team: each holds `policies`, and `cases` that test them.
    /// Relative paths start at this file. Default none.
    #[schemars(example = &["policies.d/*.yaml"])]
    pub(super) include: Vec<String>,
    /// Listeners.
    pub(super) listen: Listen,
    /// API keys that callers may have, by the name of the caller: `sha256:` and the hash that `plimsoll key new` prints.
    /// A route says by `keys` which of them it asks for. Default none.
    #[schemars(example = &serde_json::json!({"ci": "${CI_KEY_HASH}"}))]
    pub(super) keys: BTreeMap<String, Secret>,
    /// Where requests go, by name: each has either `engine`, or `url` or `urls`.
    #[schemars(extend("minProperties" = 1))]
    pub(super) upstreams: BTreeMap<String, Upstream>,
    /// First match wins; the last route has no `match`.
    #[schemars(length(min = 1))]
    pub(super) routes: Vec<Route>,
    /// Policies by name: lists of steps, applied in order, that may extend a preset (`chat`, `agent`,
    /// `rag`, `strict`, `off`).
    #[schemars(with = "BTreeMap<String, PolicyConfig>")]
    pub(super) policies: BTreeMap<String, Value>,
    /// Originals of shortened tool results, kept for their callers.
    pub(super) artifacts: Artifacts,
    /// Saved conversations.
    pub(super) checkpoints: Checkpoints,
    /// What is reported, and where to.
    pub(super) telemetry: Telemetry,
    /// What a request and the process may take.
    pub(super) limits: Limits,
    /// What is kept of requests, to be explained afterwards.
    pub(super) explain: Explain,
    /// Native libraries.
    pub(super) runtime: Runtime,
    /// The process's own log, on stderr.
    pub(super) log: Log,
}

/// Where requests go: the embedded engine, or a server over HTTP.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Upstream {
    /// A model that runs in this process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) engine: Option<Engine>,
    /// Base address of a server, `http` or `https`; the path of a request is appended to its path.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"http://vllm:8000")]
    pub(super) url: Option<String>,
    /// Base addresses of the replicas of one server, in place of `url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1), example = &["http://vllm-0.vllm:8000", "http://vllm-1.vllm:8000"])]
    pub(super) urls: Option<Vec<String>>,
    /// Which replica of `urls` a conversation goes to: always the same one (`prefix`), so that its cache keeps what it has
    /// computed, or whichever has least to do (`none`). Default `prefix`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) affinity: Option<Affinity>,
    /// With affinity, the load beyond which a replica's conversations go to another one: this many times the mean number
    /// of requests in flight. Default none: they stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), example = 1.5)]
    pub(super) max_load: Option<f64>,
    /// HTTP version: `auto` (HTTP/2 where TLS agrees on it, else HTTP/1.1), `http1`, or `http2` (also without TLS, as h2c).
    /// Default `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) http: Option<HttpVersions>,
    /// When a request is sent once more. Default: up to two times, where no server could be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retries: Option<Retries>,
    /// When a replica that fails is left out for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ejection: Option<Ejection>,
    /// Asks each server whether it is well. Default none: the requests themselves tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) health: Option<HealthCheck>,
    /// Dialect of the server at `url`: `openai` (chat completions and responses), `anthropic` (messages) or `ollama` (its
    /// own API). Policies act on requests of this dialect and refuse those of others; `mode: off` passes all. Default
    /// `openai`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dialect: Option<Dialect>,
    /// Sent to `url` as `Authorization: Bearer`, or as `x-api-key` where its dialect is `anthropic`, in place of the
    /// caller's. Default: the caller's is passed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) api_key: Option<Secret>,
    /// What counts exactly for `url`: a model folder (tokenizer, chat template), or `upstream`: the server itself (vLLM's
    /// `/tokenize`, llama.cpp's `/apply-template` and `/tokenize`; counts that it does not give are estimates, and so are
    /// those of commands that run no server). A folder of that name is `./upstream`. Default: counts are estimates.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"models/qwen3", example = &"upstream")]
    pub(super) tokenizer: Option<String>,
    /// Window of the model at `url`, in tokens, or `auto`: as the server itself says (vLLM, SGLang, llama.cpp, Ollama).
    /// Routes with a policy need it, here or as their `window`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) context: Option<TokensOrAuto>,
    /// With `context: auto`, the window in tokens as long as the server does not tell. Default none: nothing is fitted then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 256), example = 8192)]
    pub(super) context_fallback: Option<u32>,
    /// Patience with the server at `url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timeouts: Option<Timeouts>,
    /// Whether a streamed request that a policy edited also asks `url` for its usage, which the client does not see
    /// unless it asked. Default true; false for servers that refuse `stream_options`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ask_usage: Option<bool>,
    /// How often a stream of a governed chat that has not begun gets a comment (`: keepalive`), so that nobody takes the
    /// silence of a long prompt for a broken connection. From the first one on the status is 200: an error that comes
    /// later stands in the stream, and headers of the server are lost. Not where `read_tool` is on. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) keepalive: Option<Time>,
    /// Whether callers' `baggage` headers are passed on to `url`. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) forward_baggage: Option<bool>,
    /// PEM file of certificates trusted for `url` besides the system's. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"/etc/ssl/internal-ca.pem")]
    pub(super) ca_file: Option<String>,
}

impl Upstream {
    /// Whether it is a server over HTTP.
    pub(super) fn is_server(&self) -> bool {
        self.url.is_some() || self.urls.is_some()
    }
}

/// What happens to the requests that it matches.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name", "upstream"]))]
pub(super) struct Route {
    /// Unique name; the `x-plimsoll-route` header and a label of metrics.
    #[schemars(example = &"default")]
    pub(super) name: String,
    /// Which requests it takes; all parts must match. Left out at the last route, and only there.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub(super) matches: Option<Match>,
    /// Name of an upstream.
    #[schemars(example = &"local")]
    pub(super) upstream: String,
    /// Name of a policy of this file, or of a preset. Default `off`.
    #[schemars(example = &"chat")]
    pub(super) policy: String,
    /// Whether the policy's edits are sent: `enforce`, `shadow` (reported only) or `off`. Default `enforce`.
    pub(super) mode: Mode,
    /// Whether a caller may skip the policy by `x-plimsoll-bypass: true`. Default false.
    pub(super) allow_bypass: bool,
    /// A body that is not JSON, or of a content coding that is not known or does not decode: `reject` (400, 415), or
    /// `pass` it on to an HTTP upstream. Default `reject`.
    pub(super) on_unparsable: OnUnparsable,
    /// Whether an embedded engine answers whatever model id is asked for. Default false: 404.
    pub(super) any_model: bool,
    /// Window in tokens in place of the upstream's. Default none.
    #[schemars(range(min = 256))]
    pub(super) window: Option<u32>,
    /// Whether the model may read the originals of shortened tool results: chats with tools get the tool
    /// `plimsoll_read`, whose calls are answered here. Default false.
    pub(super) read_tool: bool,
    /// Names of the `keys` of which a request must bear one, as `Authorization: Bearer`, `x-api-key` or `api-key`; `"*"`:
    /// any of them. The key is not passed on. Default none: no key is asked for.
    #[schemars(example = &["ci", "alice"])]
    pub(super) keys: Vec<String>,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            name: String::new(),
            matches: None,
            upstream: String::new(),
            policy: "off".to_owned(),
            mode: Mode::default(),
            allow_bypass: false,
            on_unparsable: OnUnparsable::default(),
            any_model: false,
            window: None,
            read_tool: false,
            keys: Vec::new(),
        }
    }
}

/// Which requests a route takes. In patterns `*` stands for any text, `?` for one character.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("minProperties" = 1))]
pub(super) struct Match {
    /// Pattern of the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"/v1/chat/*")]
    pub(super) path: Option<String>,
    /// Patterns of headers, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) header: BTreeMap<String, String>,
    /// Pattern of the model id in the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"qwen2.5*")]
    pub(super) model: Option<String>,
}

/// What is reported, and where to.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Telemetry {
    /// Collector of traces and metrics. Default null: none are sent; metrics are on the admin listener in any case.
    pub(super) otlp: Option<Otlp>,
    /// `service.name` of the resource. Default `plimsoll`.
    #[schemars(length(min = 1))]
    pub(super) service_name: String,
    /// Share of new traces that are recorded, 0 to 1. Default 1.
    #[schemars(range(min = 0, max = 1))]
    pub(super) sample: f64,
    /// Whether a caller's `traceparent` is continued, and its `baggage` read. Default true.
    pub(super) trust_incoming: bool,
    /// Where a trace can be looked at, with `{trace_id}` in it: the status page links there. Default null: no links.
    #[schemars(regex(pattern = r"^https?://.*\{trace_id\}"), example = &"http://127.0.0.1:16686/trace/{trace_id}")]
    pub(super) trace_url: Option<String>,
    /// Keys of callers' W3C baggage that become attributes of the request's span. Default none.
    #[schemars(example = &["session.id"])]
    pub(super) baggage: Vec<String>,
    /// Whether spans hold what was said: the messages sent to the model and its answer. Default false.
    pub(super) capture_content: bool,
    /// Version of the `gen_ai.*` names: `latest`, or `v1.36` for backends that have not moved on. Default `latest`.
    pub(super) gen_ai: GenAiNames,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            otlp: None,
            service_name: "plimsoll".to_owned(),
            sample: 1.0,
            trust_incoming: true,
            trace_url: None,
            baggage: Vec::new(),
            capture_content: false,
            gen_ai: GenAiNames::default(),
        }
    }
}

/// A collector.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["endpoint"]))]
pub(super) struct Otlp {
    /// Base address, without `/v1/traces`.
    #[schemars(example = &"http://127.0.0.1:4318")]
    pub(super) endpoint: String,
    /// Transport: `http` (protobuf) or `grpc`. Default `http`.
    pub(super) protocol: OtlpProtocol,
    /// Headers of each export, by name; their values are secrets. Default none.
    pub(super) headers: BTreeMap<String, Secret>,
}

/// What a request and the process may take.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Limits {
    /// Bytes of a request's body after decoding. Default `32MiB`.
    pub(super) body: Size,
    /// Bytes of a request's head. Default `64KiB`.
    pub(super) head: Size,
    /// Time for a client to send a request's head. Default `30s`.
    pub(super) head_timeout: Time,
    /// Time between two pieces of a request's body. Default `30s`.
    pub(super) body_idle: Time,
    /// Time that a client may take nothing of its answer. Default `300s`.
    pub(super) answer_idle: Time,
    /// Open connections of the data listener; further ones wait. Default 4096.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) connections: u32,
    /// Requests in flight. Default 1024.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) requests: u32,
    /// Time that a request may wait for memory. Default `30s`.
    pub(super) queue_wait: Time,
    /// Time that running requests have to finish after the signal to stop. Default `30s`.
    pub(super) drain: Time,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: Size("32MiB".into()),
            head: Size("64KiB".into()),
            head_timeout: time("30s"),
            body_idle: time("30s"),
            answer_idle: time("300s"),
            connections: 4096,
            requests: 1024,
            queue_wait: time("30s"),
            drain: time("30s"),
        }
    }
}

/// What is kept of requests in memory, for `plimsoll explain --request ID`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Explain {
    /// Reports of the last requests: figures and reasons, no text of a message. Default 256.
    #[schemars(range(max = 100_000))]
    pub(super) keep: u32,
    /// Bytes of conversations kept beside them, so that a diff can be shown: the text of messages is then readable on
    /// the admin listener. Default null: none.
    pub(super) capture: Option<Size>,
}

impl Default for Explain {
    fn default() -> Self {
        Self { keep: 256, capture: None }
    }
}

/// Native libraries.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Runtime {
    /// ONNX Runtime's shared library. Default: `ORT_DYLIB_PATH`, else what is found under `.runtime/`.
    #[schemars(example = &".runtime/libonnxruntime.so")]
    pub(super) onnxruntime: Option<String>,
}

/// The process's own log.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Log {
    /// `text` for people, `json` for machines. Default `text`.
    pub(super) format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace` or `off`, also by module: `info,hyper=debug`. Default `info`.
    #[schemars(example = &"info")]
    pub(super) level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::default(), level: "info".to_owned() }
    }
}

fn time(text: &str) -> Time {
    Time(text.to_owned())
}
