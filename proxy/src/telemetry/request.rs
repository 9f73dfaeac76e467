//! The spans of a request: the request itself, its policy, its wait, and the summaries in between.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use http::HeaderMap;
use opentelemetry::KeyValue;
use opentelemetry::trace::{Link, SpanBuilder, SpanContext, SpanKind};

use super::chat::{ChatRequest, ChatSpan};
use super::names::{attr, event, span};
use super::record::{Action, Outcome, PolicyFacts, PolicyOutcome, RequestRecord, RouteFacts};
use super::spans::{Live, count, known, strings};
use super::{Shared, log, propagation};

/// The head of a request, as its span needs it.
#[derive(Debug, Clone)]
pub struct Incoming<'a> {
    /// Our id of the request.
    pub id: String,
    /// HTTP method.
    pub method: &'a http::Method,
    /// The path as it came, without its query.
    pub path: &'a str,
    /// The path's template, where the path is one of ours.
    pub template: Option<&'static str>,
    /// All headers: only those of W3C trace context and `user-agent` are read.
    pub headers: &'a HeaderMap,
    /// The client's address.
    pub client: Option<SocketAddr>,
}

/// A request in progress. Clones are handles of the same request, and each child span holds one: the request ends,
/// and is written to its span, the metrics and the log, when the last of them is dropped. Put one into the answer's
/// body. A request that nobody called completed, rejected or failed by then was left by its client.
#[derive(Clone)]
pub struct RequestSpan(Arc<Request>);

pub(super) struct Request {
    shared: Arc<Shared>,
    live: Live,
    record: Mutex<RequestRecord>,
}

impl RequestSpan {
    pub(super) fn start(shared: &Arc<Shared>, incoming: &Incoming<'_>) -> Self {
        let live = server_span(shared, incoming);
        let record = RequestRecord::new(incoming.id.clone(), incoming.method.clone(), incoming.template);
        shared.instruments.request_started(&record);
        Self(Arc::new(Request { shared: Arc::clone(shared), live, record: Mutex::new(record) }))
    }

    /// The trace that this request can be looked up by, in hex. Nothing where it is not exported.
    #[must_use]
    pub fn trace_id(&self) -> Option<String> {
        self.0.live.is_recording().then(|| self.0.live.context().trace_id().to_string())
    }

    /// The record, to add what a step learned. Do not hold it across an await.
    pub fn record(&self) -> MutexGuard<'_, RequestRecord> {
        self.0.record()
    }

    /// Which route, policy, upstream and model the configuration chose.
    pub fn routed(&self, facts: RouteFacts) {
        self.record().route = Some(facts);
    }

    /// The answer's head was sent with `status`; its body may still fail, or its client leave.
    pub fn answering(&self, status: http::StatusCode) {
        self.record().status = Some(status.as_u16());
    }

    /// The request was answered with `status`, to the last byte.
    pub fn completed(&self, status: http::StatusCode) {
        self.end(Outcome::Completed, status, None);
    }

    /// The request was refused with `status`; `code` is the error body's code.
    pub fn rejected(&self, status: http::StatusCode, code: &'static str) {
        self.end(Outcome::Rejected, status, Some(code));
    }

    /// The request failed with `status`, or in mid-stream after `status` had been sent.
    pub fn failed(&self, status: http::StatusCode, code: &'static str) {
        self.end(Outcome::Failed, status, Some(code));
    }

    /// Names this request as the caller in the headers of an upstream call that has no chat span.
    pub fn inject(&self, headers: &mut HeaderMap) {
        propagation::inject(self.0.live.context(), headers);
    }

    /// Begins the policy's span.
    #[must_use]
    pub fn policy(&self, policy: &str) -> PolicySpan {
        let mut live = self.0.live.child(format!("{} {policy}", span::POLICY), SpanKind::Internal);
        live.set(|| vec![KeyValue::new(attr::POLICY, policy.to_owned())]);
        PolicySpan { live, request: self.clone() }
    }

    /// Begins the wait for a slot.
    #[must_use]
    pub fn wait(&self) -> WaitSpan {
        WaitSpan {
            _live: self.0.live.child(span::WAIT, SpanKind::Internal),
            request: Some(self.clone()),
            since: Instant::now(),
        }
    }

    /// Begins the call to the model whose answer the client gets.
    #[must_use]
    pub fn chat(&self, request: &ChatRequest<'_>) -> ChatSpan {
        ChatSpan::start(self, &self.0.live, request, true)
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    fn end(&self, outcome: Outcome, status: http::StatusCode, code: Option<&'static str>) {
        let mut record = self.record();
        record.outcome = outcome;
        record.status = Some(status.as_u16());
        record.error = code;
    }
}

impl Request {
    fn record(&self) -> MutexGuard<'_, RequestRecord> {
        // Each write is one assignment: a record is whole even after a panic elsewhere.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let record = self.record.get_mut().unwrap_or_else(PoisonError::into_inner);
        let took = record.started.elapsed();
        self.live.set(|| request_attributes(record));
        if record.outcome == Outcome::Failed {
            self.live.fail();
        }
        self.shared.instruments.request_finished(record, took);
        // Also a trace that others export, or nobody does, ties this line to theirs.
        let context = self.live.context();
        let trace = context.is_valid().then(|| context.trace_id().to_string());
        log::request(record, took, trace.as_deref());
        self.shared.recent.finished(record, took, trace);
    }
}

fn server_span(shared: &Shared, incoming: &Incoming<'_>) -> Live {
    let caller = propagation::extract(incoming.headers);
    let (parent, links) = if shared.trust_incoming {
        (caller, Vec::new())
    } else {
        (SpanContext::empty_context(), vec![Link::with_context(caller)])
    };
    let name = incoming.template.map_or_else(
        || method_label(incoming.method).to_owned(),
        |template| format!("{} {template}", method_label(incoming.method)),
    );
    let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Server).with_links(links);
    let mut live = Live::start(shared.tracer.as_ref(), builder, &parent);
    live.set(|| head_attributes(incoming));
    live
}

fn head_attributes(incoming: &Incoming<'_>) -> Vec<KeyValue> {
    let agent = incoming.headers.get(http::header::USER_AGENT).and_then(|value| value.to_str().ok());
    [
        Some(KeyValue::new(attr::REQUEST_ID, incoming.id.clone())),
        Some(KeyValue::new(attr::METHOD, method_label(incoming.method))),
        Some(KeyValue::new(attr::URL_PATH, incoming.path.to_owned())),
        Some(KeyValue::new(attr::URL_SCHEME, "http")),
        known(attr::HTTP_ROUTE, incoming.template),
        known(attr::CLIENT_ADDRESS, incoming.client.map(|client| client.ip().to_string())),
        known(attr::USER_AGENT, agent.map(str::to_owned)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn request_attributes(record: &RequestRecord) -> Vec<KeyValue> {
    let route = record.route.as_ref();
    [
        Some(KeyValue::new(attr::OUTCOME, record.outcome.as_str())),
        known(attr::STATUS, record.status.map(i64::from)),
        known(attr::ERROR_TYPE, record.error),
        known(attr::DIALECT, record.dialect),
        known(attr::ROUTE, route.map(|facts| facts.route.to_string())),
        known(attr::POLICY, route.map(|facts| facts.policy.to_string())),
        known(attr::MODE, route.map(|facts| facts.mode)),
        known(attr::UPSTREAM, route.map(|facts| facts.upstream.to_string())),
        known(attr::MODEL, route.map(|facts| facts.model.to_string())),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Methods of the standard by their name; all else is `_OTHER`, so that clients cannot make labels.
pub(super) fn method_label(method: &http::Method) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT"];
    KNOWN.into_iter().find(|known| method.as_str() == *known).unwrap_or("_OTHER")
}

/// A policy at work.
pub struct PolicySpan {
    live: Live,
    request: RequestSpan,
}

impl PolicySpan {
    /// Begins a summary of `messages` messages.
    #[must_use]
    pub fn summarize(&self, messages: u64) -> SummarizeSpan {
        let mut live = self.live.child(span::SUMMARIZE, SpanKind::Internal);
        live.set(|| vec![count(attr::SUMMARY_MESSAGES, messages)]);
        SummarizeSpan { live, request: self.request.clone() }
    }

    /// Ends the span and adds the facts to the request's record. Dropping it instead ends it without a result.
    pub fn finish(mut self, facts: PolicyFacts) {
        let mut record = self.request.record();
        let mode = record.route.as_ref().map(|route| route.mode);
        self.live.set(|| policy_attributes(&facts).chain(known(attr::MODE, mode)).collect());
        for action in &facts.actions {
            self.live.event(event::ACTION, || action_attributes(action));
        }
        for alert in &facts.alerts {
            let kind = KeyValue::new(attr::ALERT_TYPE, alert.kind);
            self.live
                .event(event::ALERT, || vec![kind, KeyValue::new(attr::ALERT_REASON, alert.reason.clone())]);
        }
        if facts.outcome == PolicyOutcome::FailedOpen {
            self.live.fail();
        }
        record.context = Some(facts);
    }
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

/// A wait for a slot. It ends when dropped; the request's own wait is added to its record, also where it was given up.
pub struct WaitSpan {
    _live: Live,
    /// Only the request's own wait counts as its time in the queue.
    request: Option<RequestSpan>,
    since: Instant,
}

impl Drop for WaitSpan {
    fn drop(&mut self) {
        if let Some(request) = &self.request {
            request.record().queued = Some(self.since.elapsed());
        }
    }
}

/// A summary in the making.
pub struct SummarizeSpan {
    live: Live,
    request: RequestSpan,
}

impl SummarizeSpan {
    /// Begins the summariser's wait for a slot.
    #[must_use]
    pub fn wait(&self) -> WaitSpan {
        WaitSpan {
            _live: self.live.child(span::WAIT, SpanKind::Internal),
            request: None,
            since: Instant::now(),
        }
    }

    /// Begins the summariser's call to a model. It stays out of the request's record.
    #[must_use]
    pub fn chat(&self, request: &ChatRequest<'_>) -> ChatSpan {
        ChatSpan::start(&self.request, &self.live, request, false)
    }

    /// The summary is there and has `tokens` tokens.
    pub fn completed(mut self, tokens: u64) {
        self.live.set(|| vec![count(attr::SUMMARY_TOKENS, tokens)]);
    }

    /// There will be no summary.
    pub fn failed(mut self, code: &'static str) {
        self.live.set(|| vec![KeyValue::new(attr::ERROR_TYPE, code)]);
        self.live.fail();
    }
}
