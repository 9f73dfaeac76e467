//! The spans of a request and of its wait.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use http::HeaderMap;
use opentelemetry::trace::{Link, Span as _, SpanBuilder, SpanContext, SpanKind};
use opentelemetry::{KeyValue, StringValue};

use super::chat::{ChatRequest, ChatSpan};
use super::names::{attr, span};
use super::policy::{FollowUp, PolicySpan};
use super::record::{Outcome, RequestRecord, RouteFacts};
use super::spans::{Live, SpanRef, fail, known};
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
    /// What wrote the summary in the prompt, where that was not this request.
    summary: OnceLock<SpanRef>,
}

impl RequestSpan {
    pub(super) fn start(shared: &Arc<Shared>, incoming: &Incoming<'_>) -> Self {
        let live = server_span(shared, incoming);
        let record = RequestRecord::new(incoming.id.clone(), incoming.method.clone(), incoming.template);
        shared.instruments.request_started(&record);
        let request = Arc::new(Request {
            shared: Arc::clone(shared),
            live,
            record: Mutex::new(record),
            summary: OnceLock::new(),
        });
        shared.running.began(&request);
        Self(request)
    }

    /// The trace that this request can be looked up by, in hex. Nothing where it is not exported.
    #[must_use]
    pub fn trace_id(&self) -> Option<String> {
        self.0.live.is_recording().then(|| self.0.live.context().trace_id().to_string())
    }

    /// Our id of the request.
    #[must_use]
    pub fn id(&self) -> String {
        self.record().id.clone()
    }

    /// The trace of this request as log lines name it: also one that others export, or nobody does.
    #[must_use]
    pub fn logged_trace_id(&self) -> Option<String> {
        self.0.live.logged_trace_id()
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
        PolicySpan::start(self, &self.0.live, policy)
    }

    /// Begins the wait for a slot.
    #[must_use]
    pub fn wait(&self) -> WaitSpan {
        self.record().waiting = true;
        WaitSpan::start(&self.0.live, Some(self.clone()))
    }

    /// Begins the call to the model whose answer the client gets.
    #[must_use]
    pub fn chat(&self, request: &ChatRequest<'_>) -> ChatSpan {
        ChatSpan::start(&self.0.shared, &self.0.live, request, Some(self))
    }

    /// The prompt holds a summary that another request had written.
    pub(super) fn uses_summary(&self, origin: SpanRef) {
        let _ = self.0.summary.set(origin);
    }

    /// What the chat of this request links to.
    pub(super) fn summary(&self) -> Option<SpanRef> {
        self.0.summary.get().cloned()
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    /// What comes after this request, in traces of its own: the request itself ends with its answer.
    #[must_use]
    pub fn follow_up(&self) -> FollowUp {
        FollowUp::new(&self.0.shared, self.0.live.context().clone())
    }

    fn end(&self, outcome: Outcome, status: http::StatusCode, code: Option<&'static str>) {
        let mut record = self.record();
        record.outcome = outcome;
        record.status = Some(status.as_u16());
        record.error = code;
    }
}

impl Request {
    pub(super) fn record(&self) -> MutexGuard<'_, RequestRecord> {
        // Each write is one assignment: a record is whole even after a panic elsewhere.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let record = self.record.get_mut().unwrap_or_else(PoisonError::into_inner);
        let took = record.started.elapsed();
        self.shared.instruments.request_finished(record, took);
        let trace = self.live.logged_trace_id();
        log::request(record, took, trace.as_deref());
        self.shared.recent.finished(record, took, trace);
        if !self.live.is_recording() {
            return;
        }
        let record = record.clone();
        self.live.later(move |span| {
            span.set_attributes(request_attributes(&record));
            if record.outcome == Outcome::Failed {
                fail(span);
            }
        });
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
    let mut live = Live::start(shared.tracing.as_ref(), builder, &parent);
    live.set(|| head_attributes(incoming));
    if shared.trust_incoming {
        live.set(|| propagation::baggage(incoming.headers, &shared.baggage));
    }
    live
}

fn head_attributes(incoming: &Incoming<'_>) -> impl Iterator<Item = KeyValue> {
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
}

fn request_attributes(record: &RequestRecord) -> impl Iterator<Item = KeyValue> {
    let route = record.route.as_ref();
    [
        Some(KeyValue::new(attr::OUTCOME, record.outcome.as_str())),
        known(attr::STATUS, record.status.map(i64::from)),
        known(attr::ERROR_TYPE, record.error),
        known(attr::DIALECT, record.dialect),
        known(attr::CALLER, record.caller.clone().map(StringValue::from)),
        known(attr::UNGOVERNED, record.ungoverned),
        known(attr::ROUTE, route.map(|facts| StringValue::from(facts.route.clone()))),
        known(attr::POLICY, route.map(|facts| StringValue::from(facts.policy.clone()))),
        known(attr::MODE, route.map(|facts| facts.mode)),
        known(attr::UPSTREAM, route.map(|facts| StringValue::from(facts.upstream.clone()))),
        known(attr::MODEL, route.map(|facts| StringValue::from(facts.model.clone()))),
    ]
    .into_iter()
    .flatten()
}

/// Methods of the standard by their name; all else is `_OTHER`, so that clients cannot make labels.
pub(super) fn method_label(method: &http::Method) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT"];
    KNOWN.into_iter().find(|known| method.as_str() == *known).unwrap_or("_OTHER")
}

/// A wait for a slot. It ends when dropped; the request's own wait is added to its record, also where it was given up.
pub struct WaitSpan {
    _live: Live,
    /// Only the request's own wait counts as its time in the queue.
    request: Option<RequestSpan>,
    since: Instant,
}

impl WaitSpan {
    pub(super) fn start(parent: &Live, request: Option<RequestSpan>) -> Self {
        Self { _live: parent.child(span::WAIT, SpanKind::Internal), request, since: Instant::now() }
    }
}

impl Drop for WaitSpan {
    fn drop(&mut self) {
        if let Some(request) = &self.request {
            let mut record = request.record();
            (record.queued, record.waiting) = (Some(self.since.elapsed()), false);
        }
    }
}
