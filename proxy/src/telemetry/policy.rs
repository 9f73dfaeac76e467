//! The spans of a policy at work, and of the summaries that it has written.

use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry::KeyValue;
use opentelemetry::trace::{Link, Span as _, SpanBuilder, SpanContext, SpanKind};
use opentelemetry_sdk::trace::Span;

use super::Shared;
use super::chat::{ChatRequest, ChatSpan};
use super::names::{attr, event, span};
use super::record::{Action, PolicyFacts, PolicyOutcome};
use super::request::{RequestSpan, WaitSpan};
use super::spans::{self, Live, SpanRef, count, known, strings};

/// A policy at work.
pub struct PolicySpan {
    live: Live,
    request: RequestSpan,
    /// The last summary that this request had written.
    written: Arc<Mutex<Option<SpanRef>>>,
}

/// What a prompt consists of. The unit is whatever the shares are in: bytes, say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Segments {
    /// System and developer messages.
    pub system: u64,
    /// Definitions of tools.
    pub tools: u64,
    /// Results of tool calls.
    pub tool_results: u64,
    /// The last user message.
    pub user: u64,
    /// Everything else.
    pub history: u64,
}

impl PolicySpan {
    pub(super) fn start(request: &RequestSpan, parent: &Live, policy: &str) -> Self {
        let mut live = parent.child(format!("{} {policy}", span::POLICY), SpanKind::Internal);
        live.set(|| [KeyValue::new(attr::POLICY, policy.to_owned())]);
        Self { live, request: request.clone(), written: Arc::default() }
    }

    /// Begins a summary of `messages` messages.
    #[must_use]
    pub fn summarize(&self, messages: u64) -> SummarizeSpan {
        let mut live = self.live.child(span::SUMMARIZE, SpanKind::Internal);
        live.set(|| [count(attr::SUMMARY_MESSAGES, messages)]);
        let shared = Arc::clone(self.request.shared());
        SummarizeSpan { live, shared, written: Arc::clone(&self.written) }
    }

    /// The span of the last summary that was written under this one.
    #[must_use]
    pub fn written(&self) -> Option<SpanRef> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The prompt holds a summary, written under `origin`: the call to the model will say so, where that was another
    /// request's doing.
    pub fn uses_summary(&self, origin: SpanRef) {
        if self.written().as_ref() != Some(&origin) {
            self.request.uses_summary(origin);
        }
    }

    /// What the `tokens` tokens of the prompt that is sent on consist of; `segments` is not called where nobody would
    /// read it.
    pub fn segments(&mut self, tokens: u64, segments: impl FnOnce() -> Segments) {
        self.live.set(|| segment_attributes(tokens, segments()));
    }

    /// Ends the span and adds the facts to the request's record. Dropping it instead ends it without a result.
    pub fn finish(mut self, facts: PolicyFacts) {
        let facts = Arc::new(facts);
        let mut record = self.request.record();
        let mode = record.route.as_ref().map(|route| route.mode);
        record.context = Some(Arc::clone(&facts));
        drop(record);
        self.live.later(move |span| {
            span.set_attributes(policy_attributes(&facts).chain(known(attr::MODE, mode)));
            write_events(span, &facts);
            if facts.outcome == PolicyOutcome::FailedOpen {
                spans::fail(span);
            }
        });
    }
}

fn write_events(span: &mut Span, facts: &PolicyFacts) {
    for action in &facts.actions {
        span.add_event(event::ACTION, action_attributes(action));
    }
    for alert in &facts.alerts {
        let kind = KeyValue::new(attr::ALERT_TYPE, alert.kind);
        span.add_event(event::ALERT, vec![kind, KeyValue::new(attr::ALERT_REASON, alert.reason.clone())]);
    }
}

/// Tokens by segment: shares by length, since a count of each would cost as much as counting the prompt again. They add
/// up to the prompt's tokens, but for rounding.
fn segment_attributes(tokens: u64, segments: Segments) -> [KeyValue; 5] {
    let Segments { system, tools, tool_results, user, history } = segments;
    let whole = u128::from((system + tools + tool_results + user + history).max(1));
    let share = |length: u64| {
        let share = (u128::from(tokens) * u128::from(length) + whole / 2) / whole;
        u64::try_from(share).unwrap_or(u64::MAX)
    };
    [
        (attr::TOKENS_SYSTEM, system),
        (attr::TOKENS_TOOLS, tools),
        (attr::TOKENS_TOOL_RESULTS, tool_results),
        (attr::TOKENS_USER, user),
        (attr::TOKENS_HISTORY, history),
    ]
    .map(|(key, length)| count(key, share(length)))
}

fn policy_attributes(facts: &PolicyFacts) -> impl Iterator<Item = KeyValue> {
    let counts = (facts.tokens_before > 0).then(|| count_attributes(facts));
    let rest = [
        Some(KeyValue::new(attr::POLICY_OUTCOME, facts.outcome.as_str())),
        Some(count(attr::WINDOW, facts.window)),
        Some(KeyValue::new(attr::ESTIMATED, facts.estimated)),
        Some(KeyValue::new(attr::TOKENIZER, facts.tokenizer.clone())),
        Some(strings(attr::ACTION_TYPES, facts.actions.iter().map(|action| action.policy.clone()))),
        Some(count(attr::ACTION_COUNT, facts.actions.len() as u64)),
        known(attr::ERROR_TYPE, facts.error),
    ];
    counts.into_iter().flatten().chain(rest.into_iter().flatten())
}

fn count_attributes(facts: &PolicyFacts) -> [KeyValue; 6] {
    [
        count(attr::BUDGET, facts.budget),
        count(attr::RESERVED, facts.reserved),
        count(attr::TOKENS_BEFORE, facts.tokens_before),
        count(attr::TOKENS_AFTER, facts.tokens_after),
        count(attr::MESSAGES_BEFORE, facts.messages_before),
        count(attr::MESSAGES_AFTER, facts.messages_after),
    ]
}

fn action_attributes(action: &Action) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new(attr::ACTION_TYPE, action.policy.clone()),
        KeyValue::new(attr::ACTION_REASON, action.reason.clone()),
        count(attr::ACTION_REMOVED, action.tokens_removed),
        count(attr::ACTION_ADDED, action.tokens_added),
        count(attr::ACTION_MESSAGES, action.messages),
    ];
    attributes.extend(known(attr::TOOL, action.tool.clone()));
    attributes
}

/// Work that a request leads to and does not wait for.
#[derive(Clone)]
pub struct FollowUp {
    shared: Arc<Shared>,
    request: SpanContext,
}

impl FollowUp {
    pub(super) fn new(shared: &Arc<Shared>, request: SpanContext) -> Self {
        Self { shared: Arc::clone(shared), request }
    }

    /// Begins a summary of `messages` messages: a trace of its own, with a link to the request.
    #[must_use]
    pub fn summarize(&self, messages: u64) -> SummarizeSpan {
        let builder = SpanBuilder::from_name(span::SUMMARIZE)
            .with_kind(SpanKind::Internal)
            .with_links(vec![Link::with_context(self.request.clone())]);
        let mut live = Live::start(self.shared.tracing.as_ref(), builder, &SpanContext::empty_context());
        live.set(|| [count(attr::SUMMARY_MESSAGES, messages)]);
        SummarizeSpan { live, shared: Arc::clone(&self.shared), written: Arc::default() }
    }
}

/// A summary in the making.
pub struct SummarizeSpan {
    live: Live,
    shared: Arc<Shared>,
    written: Arc<Mutex<Option<SpanRef>>>,
}

impl SummarizeSpan {
    /// Begins the summariser's wait for a slot.
    #[must_use]
    pub fn wait(&self) -> WaitSpan {
        WaitSpan::start(&self.live, None)
    }

    /// Begins the summariser's call to a model. It stays out of the request's record.
    #[must_use]
    pub fn chat(&self, request: &ChatRequest<'_>) -> ChatSpan {
        ChatSpan::start(&self.shared, &self.live, request, None)
    }

    /// This summary, for the traces of later turns; nothing where nobody could look it up.
    #[must_use]
    pub fn reference(&self) -> Option<SpanRef> {
        self.live.reference()
    }

    /// The summary is there and has `tokens` tokens, where that is known.
    pub fn completed(mut self, tokens: Option<u64>) {
        self.live.set(|| tokens.map(|tokens| count(attr::SUMMARY_TOKENS, tokens)));
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = self.live.reference();
    }

    /// There will be no summary.
    pub fn failed(mut self, code: &'static str) {
        self.live.set(|| [KeyValue::new(attr::ERROR_TYPE, code)]);
        self.live.fail();
    }
}
