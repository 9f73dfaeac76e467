//! What is known of one request, from which its span, its metrics and its log line are all written.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// Everything known of one request. It begins empty, each step adds what it learns, and it is written once, when the
/// request's last holder is dropped.
#[derive(Debug, Clone)]
pub struct RequestRecord {
    /// Our id of the request, as in `x-plimsoll-request-id`.
    pub id: String,
    /// HTTP method; a metric label holds only the methods of the standard.
    pub method: http::Method,
    /// The path's template (`/v1/chat/completions`), or nothing where the path is none of ours.
    pub path: Option<&'static str>,
    /// When the request's head had been read.
    pub started: Instant,
    /// Wire format: `openai`, ...
    pub dialect: Option<&'static str>,
    /// The field of its body for which its policy left it alone.
    pub ungoverned: Option<&'static str>,
    /// Name of the caller in the configuration, where it bears a key of ours.
    pub caller: Option<Arc<str>>,
    /// The choice that the configuration made for the request.
    pub route: Option<RouteFacts>,
    /// HTTP status sent to the client.
    pub status: Option<u16>,
    /// How the request ended.
    pub outcome: Outcome,
    /// Low-cardinality error code, as in the error body's `code` (`context_length_exceeded`).
    pub error: Option<&'static str>,
    /// What the policy did.
    pub context: Option<Arc<PolicyFacts>>,
    /// Time spent in the admission queue.
    pub queued: Option<Duration>,
    /// Whether it is in the admission queue now.
    pub waiting: bool,
    /// What the model did.
    pub chat: Option<Arc<ChatFacts>>,
}

impl RequestRecord {
    pub(super) fn new(id: String, method: http::Method, path: Option<&'static str>) -> Self {
        Self {
            id,
            method,
            path,
            started: Instant::now(),
            dialect: None,
            ungoverned: None,
            caller: None,
            route: None,
            status: None,
            outcome: Outcome::Disconnected,
            error: None,
            context: None,
            queued: None,
            waiting: false,
            chat: None,
        }
    }

    /// How far the counted prompt was from what the model reported: `counted / reported`.
    /// Only where both are known; 1 is exact.
    #[must_use]
    pub fn drift(&self) -> Option<f64> {
        self.compared().map(|(counted, reported)| to_f64(counted) / to_f64(reported))
    }

    /// The prompt's tokens as counted here and as the model reported them, where both are known.
    pub(super) fn compared(&self) -> Option<(u64, u64)> {
        let counted = self.context.as_deref().map(PolicyFacts::sent).filter(|&tokens| tokens > 0)?;
        let reported = self.chat.as_ref()?.input_tokens.filter(|&tokens| tokens > 0)?;
        Some((counted, reported))
    }
}

/// Token counts stay far below 2^53: the conversion is exact.
pub(super) fn to_f64(count: u64) -> f64 {
    count as f64
}

/// What the configuration chose for a request. All are configured names, so each may be a metric label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RouteFacts {
    /// The route's name.
    pub route: Arc<str>,
    /// The policy's name.
    pub policy: Arc<str>,
    /// `enforce`, `shadow` or `off`.
    pub mode: &'static str,
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// The configured model name, or the model glob that matched. Never the caller's own text.
    pub model: Arc<str>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answered to the last byte.
    Completed,
    /// Refused for what the client sent or for lack of room (4xx).
    Rejected,
    /// Failed on our side or upstream.
    Failed,
    /// The client went away before the end. No error.
    Disconnected,
}

impl Outcome {
    /// The name in spans, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Disconnected => "disconnected",
        }
    }
}

/// What a policy decided, in numbers. Never message content.
#[derive(Debug, Clone)]
pub struct PolicyFacts {
    /// The model's window in tokens.
    pub window: u64,
    /// Tokens a prompt may have.
    pub budget: u64,
    /// Tokens kept free for the answer.
    pub reserved: u64,
    /// Prompt tokens as the client sent it. 0: the prompt could not be counted, and no figure is written.
    pub tokens_before: u64,
    /// Prompt tokens after the policy (in shadow mode: what they would be).
    pub tokens_after: u64,
    /// Messages as the client sent them.
    pub messages_before: u64,
    /// Messages after the policy.
    pub messages_after: u64,
    /// Whether the counts are estimates.
    pub estimated: bool,
    /// Tokenizer name.
    pub tokenizer: String,
    /// What became of the prompt.
    pub outcome: PolicyOutcome,
    /// Error code where the policy refused or failed.
    pub error: Option<&'static str>,
    /// What each rule that fired did.
    pub actions: Vec<Action>,
    /// What somebody should look at.
    pub alerts: Vec<Alert>,
    /// Whether the result was sent (`enforce`) rather than only reported (`shadow`).
    pub enforced: bool,
    /// Time the policy took, summaries by a model included.
    pub took: Duration,
}

impl PolicyFacts {
    /// Prompt tokens that were sent on.
    #[must_use]
    pub const fn sent(&self) -> u64 {
        if self.enforced { self.tokens_after } else { self.tokens_before }
    }
}

/// What became of the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyOutcome {
    /// No rule fired.
    Unchanged,
    /// At least one rule changed the prompt.
    Modified,
    /// The prompt cannot fit.
    Rejected,
    /// The policy failed and the prompt went on as it was.
    FailedOpen,
}

impl PolicyOutcome {
    /// The name in spans and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Modified => "modified",
            Self::Rejected => "rejected",
            Self::FailedOpen => "failed_open",
        }
    }
}

/// What a rule says that somebody should look at.
#[derive(Debug, Clone)]
pub struct Alert {
    /// `growth`, `size` or `reuse`: a metric label.
    pub kind: &'static str,
    /// Why, in words of ours.
    pub reason: String,
}

/// What one rule did.
#[derive(Debug, Clone)]
pub struct Action {
    /// The rule's name in the configuration (`cap_tool_output`): a metric label.
    pub policy: String,
    /// Why, in words of ours (`over_budget`).
    pub reason: String,
    /// Tokens that left the prompt.
    pub tokens_removed: u64,
    /// Tokens that came into the prompt (a summary, a marker).
    pub tokens_added: u64,
    /// Messages touched.
    pub messages: u64,
    /// The tool whose output was touched, where there is one.
    pub tool: Option<String>,
}

/// What the model did for one call. Filled while the answer streams.
#[derive(Debug, Clone, Default)]
pub struct ChatFacts {
    /// `chat` or `text_completion`.
    pub operation: &'static str,
    /// Who serves the model (`plimsoll`, `openai`, ...).
    pub provider: &'static str,
    /// Id of the answer.
    pub response_id: Option<String>,
    /// Model named in the answer.
    pub response_model: Option<String>,
    /// Why generation ended (`stop`, `length`, `tool_calls`), one for each choice.
    pub finish_reasons: Vec<String>,
    /// Prompt tokens, cached ones included.
    pub input_tokens: Option<u64>,
    /// Tokens generated.
    pub output_tokens: Option<u64>,
    /// Prompt tokens that came from a cache.
    pub cached_tokens: Option<u64>,
    /// Prompt tokens that the cache held before the call was admitted, on the embedded engine.
    pub predicted_tokens: Option<u64>,
    /// From the request's arrival to the first token.
    pub first_token: Option<Duration>,
    /// From the first token to the last.
    pub decoding: Option<Duration>,
    /// KV cache of the call, on the embedded engine.
    pub kv: Option<KvFacts>,
    /// Memory around the call, on the embedded engine.
    pub memory: Option<MemoryFacts>,
    /// Host and port of the server that was asked last.
    pub server: Option<(String, u16)>,
    /// How often servers were asked; 0 where none was.
    pub attempts: u64,
    /// Error code where the call failed.
    pub error: Option<&'static str>,
}

/// KV cache used by one call.
#[derive(Debug, Clone, Copy)]
pub struct KvFacts {
    /// Prompt tokens whose keys and values were there already.
    pub reused_tokens: u64,
    /// Prompt tokens computed.
    pub computed_tokens: u64,
    /// Tokens that were dropped so that the answer could go on past its window.
    pub dropped_tokens: u64,
    /// Bytes of keys and values that the call held at its end.
    pub bytes: u64,
}

/// Memory around one call, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct MemoryFacts {
    /// When the call was admitted.
    pub before: u64,
    /// When it ended.
    pub after: u64,
    /// The highest reading between.
    pub peak: u64,
    /// Where the readings come from (`nvml`, `engine`: KV and weights counted by the engine itself).
    pub source: &'static str,
    /// Resident memory of this process.
    pub process_rss: Option<u64>,
}
