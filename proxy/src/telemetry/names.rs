//! Every name that leaves this process as telemetry: spans, attributes, events, metrics, units and buckets.
//!
//! `gen_ai.*` names are still moving, so [`GenAi`] picks a version of them; names of our own are under `plimsoll.`.

/// Instrumentation scope of spans and metrics.
pub(super) const SCOPE: &str = "plimsoll";

/// Span names. Where a name has a variable part, it follows after a space.
pub(super) mod span {
    pub(crate) const POLICY: &str = "apply_context_policy";
    pub(crate) const SUMMARIZE: &str = "summarize_context";
    pub(crate) const WAIT: &str = "wait_for_slot";
    pub(crate) const PREFILL: &str = "prefill";
    pub(crate) const DECODE: &str = "decode";
    pub(crate) const LOAD: &str = "load_model";
    pub(crate) const BATCH: &str = "decode_batch";
    pub(crate) const OFFLOAD: &str = "offload_conversation";
    pub(crate) const RESTORE: &str = "restore_conversation";
}

/// Event names.
pub(super) mod event {
    pub(crate) const ACTION: &str = "plimsoll.context.action";
    pub(crate) const ALERT: &str = "plimsoll.context.alert";
}

/// Span attributes and metric labels.
pub(super) mod attr {
    // HTTP, stable.
    pub(crate) const METHOD: &str = "http.request.method";
    pub(crate) const HTTP_ROUTE: &str = "http.route";
    pub(crate) const STATUS: &str = "http.response.status_code";
    pub(crate) const URL_PATH: &str = "url.path";
    pub(crate) const URL_SCHEME: &str = "url.scheme";
    pub(crate) const CLIENT_ADDRESS: &str = "client.address";
    pub(crate) const USER_AGENT: &str = "user_agent.original";
    pub(crate) const SERVER_ADDRESS: &str = "server.address";
    pub(crate) const SERVER_PORT: &str = "server.port";
    pub(crate) const ERROR_TYPE: &str = "error.type";

    // The request.
    pub(crate) const REQUEST_ID: &str = "plimsoll.request.id";
    pub(crate) const CALLER: &str = "plimsoll.request.caller";
    pub(crate) const OUTCOME: &str = "plimsoll.request.outcome";
    pub(crate) const DIALECT: &str = "plimsoll.request.dialect";
    pub(crate) const UNGOVERNED: &str = "plimsoll.request.ungoverned";
    pub(crate) const ROUTE: &str = "plimsoll.route";
    pub(crate) const UPSTREAM: &str = "plimsoll.upstream";
    pub(crate) const MODEL: &str = "plimsoll.model";
    pub(crate) const DEVICE: &str = "plimsoll.device.name";
    pub(crate) const PROVIDER: &str = "plimsoll.device.provider";
    pub(crate) const WEIGHTS: &str = "plimsoll.vram.weights";
    pub(crate) const KV_PER_TOKEN: &str = "plimsoll.kv.bytes_per_token";
    pub(crate) const TEMPLATE_SHAPE: &str = "plimsoll.template.shape";
    pub(crate) const RELOAD_RESULT: &str = "plimsoll.config.result";

    // The servers of an upstream.
    pub(crate) const ATTEMPTS: &str = "plimsoll.upstream.attempts";
    pub(crate) const ENDPOINT: &str = "plimsoll.upstream.endpoint";
    pub(crate) const ATTEMPT_RESULT: &str = "plimsoll.upstream.attempt.result";

    // What is kept for callers.
    pub(crate) const STORE_TIER: &str = "plimsoll.artifact.tier";
    pub(crate) const LOOKUP_RESULT: &str = "plimsoll.artifact.result";

    // The policy.
    pub(crate) const POLICY: &str = "plimsoll.context.policy.name";
    pub(crate) const MODE: &str = "plimsoll.context.policy.mode";
    pub(crate) const POLICY_OUTCOME: &str = "plimsoll.context.policy.outcome";
    pub(crate) const WINDOW: &str = "plimsoll.context.window.limit";
    pub(crate) const BUDGET: &str = "plimsoll.context.budget.input";
    pub(crate) const RESERVED: &str = "plimsoll.context.budget.output_reserved";
    pub(crate) const TOKENS_BEFORE: &str = "plimsoll.context.tokens.before";
    pub(crate) const TOKENS_AFTER: &str = "plimsoll.context.tokens.after";
    pub(crate) const ESTIMATED: &str = "plimsoll.context.tokens.estimated";
    pub(crate) const TOKENIZER: &str = "plimsoll.context.tokenizer";
    pub(crate) const MESSAGES_BEFORE: &str = "plimsoll.context.messages.before";
    pub(crate) const MESSAGES_AFTER: &str = "plimsoll.context.messages.after";
    pub(crate) const ACTION_TYPES: &str = "plimsoll.context.action.types";
    pub(crate) const ACTION_COUNT: &str = "plimsoll.context.action.count";
    pub(crate) const STAGE: &str = "plimsoll.context.stage";
    pub(crate) const SUMMARY_TOKENS: &str = "plimsoll.context.summary.tokens";
    pub(crate) const SUMMARY_MESSAGES: &str = "plimsoll.context.summary.messages";

    // One action of it.
    pub(crate) const ACTION_TYPE: &str = "plimsoll.context.action.type";
    pub(crate) const ACTION_REASON: &str = "plimsoll.context.action.reason";
    pub(crate) const ACTION_REMOVED: &str = "plimsoll.context.action.tokens.removed";
    pub(crate) const ACTION_ADDED: &str = "plimsoll.context.action.tokens.added";
    pub(crate) const ACTION_MESSAGES: &str = "plimsoll.context.action.messages.affected";
    pub(crate) const TOOL: &str = "gen_ai.tool.name";

    // What the prompt that was sent on consists of: shares of its tokens by length.
    pub(crate) const TOKENS_SYSTEM: &str = "plimsoll.context.tokens.system";
    pub(crate) const TOKENS_TOOLS: &str = "plimsoll.context.tokens.tools";
    pub(crate) const TOKENS_HISTORY: &str = "plimsoll.context.tokens.history";
    pub(crate) const TOKENS_TOOL_RESULTS: &str = "plimsoll.context.tokens.tool_results";
    pub(crate) const TOKENS_USER: &str = "plimsoll.context.tokens.user";

    // A batch of an engine.
    pub(crate) const BATCH_ROWS: &str = "plimsoll.batch.rows";
    pub(crate) const BATCH_STEPS: &str = "plimsoll.batch.steps";
    pub(crate) const BATCH_TOKENS: &str = "plimsoll.batch.tokens";
    // One alert of it.
    pub(crate) const ALERT_TYPE: &str = "plimsoll.context.alert.type";
    pub(crate) const ALERT_REASON: &str = "plimsoll.context.alert.reason";

    // A conversation that leaves its slot or comes back.
    pub(crate) const OFFLOAD_TIER: &str = "plimsoll.kv.offload.tier";
    pub(crate) const OFFLOAD_STEP: &str = "plimsoll.kv.offload.step";
    pub(crate) const OFFLOAD_TOKENS: &str = "plimsoll.kv.offload.tokens";
    pub(crate) const OFFLOAD_BYTES: &str = "plimsoll.kv.offload.bytes";

    // Memory.
    pub(crate) const KV_PREDICTED: &str = "plimsoll.kv.predicted_tokens";
    pub(crate) const KV_REUSED: &str = "plimsoll.kv.reused_tokens";
    pub(crate) const KV_RESTORED: &str = "plimsoll.kv.restored_tokens";
    pub(crate) const KV_COMPUTED: &str = "plimsoll.kv.computed_tokens";
    pub(crate) const KV_DROPPED: &str = "plimsoll.kv.dropped_tokens";
    pub(crate) const KV_BYTES: &str = "plimsoll.kv.bytes";
    pub(crate) const VRAM_BEFORE: &str = "plimsoll.vram.before";
    pub(crate) const VRAM_AFTER: &str = "plimsoll.vram.after";
    pub(crate) const VRAM_PEAK: &str = "plimsoll.vram.peak";
    pub(crate) const VRAM_SOURCE: &str = "plimsoll.vram.source";
    pub(crate) const VRAM_COMPONENT: &str = "plimsoll.vram.component";
    pub(crate) const PROCESS_RSS: &str = "plimsoll.process.rss";
}

/// A version of the `gen_ai.*` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GenAi {
    /// The newest names.
    #[default]
    Latest,
    /// Semantic conventions 1.36, which backends that have not moved on still read: `gen_ai.system` for the provider,
    /// no cache, no first-chunk time, no compaction, no content.
    V1_36,
}

/// The `gen_ai.*` attributes of one version. Nothing where the version has no such attribute.
#[derive(Debug)]
pub(super) struct GenAiNames {
    pub(super) operation: &'static str,
    pub(super) provider: &'static str,
    pub(super) request_model: &'static str,
    pub(super) stream: Option<&'static str>,
    pub(super) max_tokens: &'static str,
    pub(super) temperature: &'static str,
    pub(super) top_p: &'static str,
    pub(super) top_k: &'static str,
    pub(super) seed: &'static str,
    pub(super) presence_penalty: &'static str,
    pub(super) frequency_penalty: &'static str,
    pub(super) response_id: &'static str,
    pub(super) response_model: &'static str,
    pub(super) finish_reasons: &'static str,
    pub(super) time_to_first_chunk: Option<&'static str>,
    pub(super) input_tokens: &'static str,
    pub(super) output_tokens: &'static str,
    pub(super) cached_tokens: Option<&'static str>,
    pub(super) compacted: Option<&'static str>,
    pub(super) input_messages: Option<&'static str>,
    pub(super) output_messages: Option<&'static str>,
}

const LATEST: GenAiNames = GenAiNames {
    operation: "gen_ai.operation.name",
    provider: "gen_ai.provider.name",
    request_model: "gen_ai.request.model",
    stream: Some("gen_ai.request.stream"),
    max_tokens: "gen_ai.request.max_tokens",
    temperature: "gen_ai.request.temperature",
    top_p: "gen_ai.request.top_p",
    top_k: "gen_ai.request.top_k",
    seed: "gen_ai.request.seed",
    presence_penalty: "gen_ai.request.presence_penalty",
    frequency_penalty: "gen_ai.request.frequency_penalty",
    response_id: "gen_ai.response.id",
    response_model: "gen_ai.response.model",
    finish_reasons: "gen_ai.response.finish_reasons",
    time_to_first_chunk: Some("gen_ai.response.time_to_first_chunk"),
    input_tokens: "gen_ai.usage.input_tokens",
    output_tokens: "gen_ai.usage.output_tokens",
    cached_tokens: Some("gen_ai.usage.cache_read.input_tokens"),
    compacted: Some("gen_ai.conversation.compacted"),
    input_messages: Some("gen_ai.input.messages"),
    output_messages: Some("gen_ai.output.messages"),
};

const V1_36: GenAiNames = GenAiNames {
    provider: "gen_ai.system",
    stream: None,
    time_to_first_chunk: None,
    cached_tokens: None,
    compacted: None,
    input_messages: None,
    output_messages: None,
    ..LATEST
};

impl GenAi {
    pub(super) const fn names(self) -> &'static GenAiNames {
        match self {
            Self::Latest => &LATEST,
            Self::V1_36 => &V1_36,
        }
    }
}

/// A metric: name, unit in UCUM, what it says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) help: &'static str,
}

const fn metric(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric { name, unit, help }
}

/// The metrics.
pub(super) mod metrics {
    use super::{Metric, metric};

    pub(crate) const HTTP_DURATION: Metric = metric(
        "http.server.request.duration",
        "s",
        "Duration of HTTP requests, to the last byte of the answer",
    );
    pub(crate) const HTTP_ACTIVE: Metric =
        metric("http.server.active_requests", "{request}", "HTTP requests in flight");
    pub(crate) const DURATION: Metric =
        metric("gen_ai.server.request.duration", "s", "Duration of requests to a model");
    pub(crate) const FIRST_TOKEN: Metric =
        metric("gen_ai.server.time_to_first_token", "s", "Time from a request's arrival to its first token");
    pub(crate) const PER_TOKEN: Metric =
        metric("gen_ai.server.time_per_output_token", "s", "Time for each output token after the first");

    pub(crate) const TOKENS: Metric =
        metric("plimsoll.context.tokens", "{token}", "Prompt tokens before and after the policy");
    pub(crate) const REMOVED: Metric =
        metric("plimsoll.context.tokens.removed", "{token}", "Prompt tokens removed by a rule");
    pub(crate) const ALERTS: Metric = metric(
        "plimsoll.context.alerts",
        "{alert}",
        "Prompts that grew fast, passed a size or lost their prefix",
    );
    pub(crate) const POLICY_DURATION: Metric =
        metric("plimsoll.context.policy.duration", "s", "Time the policy took");
    pub(crate) const REQUESTS: Metric =
        metric("plimsoll.context.requests", "{request}", "Requests by what the policy made of them");
    pub(crate) const DRIFT: Metric = metric(
        "plimsoll.context.tokens.drift",
        "1",
        "Counted prompt tokens divided by those the model reported",
    );

    pub(crate) const PREDICTED: Metric = metric(
        "plimsoll.kv.predicted_tokens",
        "{token}",
        "Prompt tokens that the KV cache held when their request was about to be admitted",
    );
    pub(crate) const REUSED: Metric =
        metric("plimsoll.kv.reused_tokens", "{token}", "Prompt tokens that came from a KV cache");
    pub(crate) const COMPUTED: Metric =
        metric("plimsoll.kv.computed_tokens", "{token}", "Prompt tokens that were computed");

    pub(crate) const QUEUE_DEPTH: Metric =
        metric("plimsoll.admission.queue.depth", "{request}", "Requests waiting for memory");
    pub(crate) const QUEUE_WAIT: Metric =
        metric("plimsoll.admission.wait", "s", "Time a request waited for memory");
    pub(crate) const KV_USAGE: Metric = metric("plimsoll.kv.usage", "1", "Used share of the KV cache");
    pub(crate) const VRAM_USAGE: Metric = metric("plimsoll.vram.usage", "By", "Model memory by component");
    pub(crate) const LEAK_STATE: Metric = metric(
        "plimsoll.vram.leak.state",
        "{state}",
        "Whether a component grows that should not: 0 ok, 1 suspect, 2 leak",
    );

    pub(crate) const OFFLOAD_USAGE: Metric = metric(
        "plimsoll.kv.offload.usage",
        "By",
        "Idle conversations that are put by, in memory and on disk",
    );
    pub(crate) const OFFLOAD_MOVES: Metric = metric(
        "plimsoll.kv.offload.moves",
        "{conversation}",
        "Idle conversations by what was done with them: put by, written, read, restored, let go",
    );
    pub(crate) const OFFLOAD_RESTORED: Metric = metric(
        "plimsoll.kv.offload.restored_tokens",
        "{token}",
        "Prompt tokens that were brought back of idle conversations and not computed",
    );

    pub(crate) const TEMPLATE_STABLE: Metric = metric(
        "plimsoll.template.stable",
        "1",
        "Whether a model's chat template keeps the start of a growing prompt, by shape of conversation: 1 or 0",
    );

    pub(crate) const ARTIFACT_USAGE: Metric =
        metric("plimsoll.artifact.usage", "By", "Originals of shortened tool results that are kept");
    pub(crate) const ARTIFACT_LOOKUPS: Metric =
        metric("plimsoll.artifact.lookups", "{lookup}", "Originals asked for, by whether they were there");
    pub(crate) const ARTIFACT_EVICTIONS: Metric =
        metric("plimsoll.artifact.evictions", "{artifact}", "Originals that gave way to others in memory");

    pub(crate) const ENDPOINT_UP: Metric = metric(
        "plimsoll.upstream.endpoint.up",
        "{state}",
        "Whether a server of an upstream is asked: 1, or 0 while it is left out",
    );
    pub(crate) const ENDPOINT_ACTIVE: Metric = metric(
        "plimsoll.upstream.endpoint.active_requests",
        "{request}",
        "Requests under way at a server of an upstream",
    );
    pub(crate) const ENDPOINT_ATTEMPTS: Metric = metric(
        "plimsoll.upstream.endpoint.attempts",
        "{attempt}",
        "Attempts at a server of an upstream, by how they ended",
    );
    pub(crate) const ENDPOINT_EJECTIONS: Metric = metric(
        "plimsoll.upstream.endpoint.ejections",
        "{ejection}",
        "Times that a server of an upstream was left out for its failures",
    );

    pub(crate) const GENERATION: Metric =
        metric("plimsoll.config.generation", "{generation}", "Number of the configuration in use");
    pub(crate) const RELOADS: Metric =
        metric("plimsoll.config.reloads", "{reload}", "Attempts to load a configuration, by result");
}

/// Histogram buckets.
pub(super) mod buckets {
    /// HTTP semantic conventions.
    pub(crate) const HTTP: &[f64] =
        &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
    /// `GenAI` semantic conventions, request duration.
    pub(crate) const MODEL: &[f64] =
        &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
    /// `GenAI` semantic conventions, first token.
    pub(crate) const FIRST_TOKEN: &[f64] =
        &[0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
    /// `GenAI` semantic conventions, each further token.
    pub(crate) const PER_TOKEN: &[f64] =
        &[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];
    /// Tokens of a prompt, up to the largest windows.
    pub(crate) const TOKENS: &[f64] = &[
        128.0,
        256.0,
        512.0,
        1024.0,
        2048.0,
        4096.0,
        8192.0,
        16384.0,
        32768.0,
        65536.0,
        131_072.0,
        262_144.0,
        524_288.0,
        1_048_576.0,
    ];
    /// A policy without a model takes microseconds, one with a summary seconds.
    pub(crate) const POLICY: &[f64] =
        &[0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 20.0];
    /// Estimates err by a few percent; exact counts give 1.
    pub(crate) const RATIO: &[f64] =
        &[0.5, 0.75, 0.9, 0.95, 0.98, 0.999, 1.001, 1.02, 1.05, 1.1, 1.25, 1.5, 2.0];
}
