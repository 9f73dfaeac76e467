//! One OpenTelemetry span, made and written only where traces are exported.
//!
//! The tracer API is used directly: `tracing` spans are lost under per-layer filters (tokio-rs/tracing#2519), cannot
//! carry string arrays, and would put a level between a request and its trace.

use std::time::SystemTime;

use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer as _,
};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SdkTracer, Span};

use super::outbox::{Ended, Outbox};

/// Attributes that most spans have at most. glibc tidies its heap up at each request of 1 KiB or more; these are below.
const TYPICAL: usize = 16;

/// A span, to be linked to from elsewhere. Opaque: nobody else can make one.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanRef(pub(super) SpanContext);

/// A span in progress. It ends when it is dropped. Without a tracer it only hands the caller's context on.
pub(super) struct Live {
    on: Option<(Tracing, Ended)>,
    context: SpanContext,
}

/// What makes spans, and where they go when they have ended.
#[derive(Clone)]
pub(super) struct Tracing {
    pub(super) tracer: SdkTracer,
    pub(super) outbox: Outbox,
}

impl Live {
    /// A span under `parent`, which may be the caller's, invalid (a new trace), or one of ours.
    pub(super) fn start(tracing: Option<&Tracing>, mut builder: SpanBuilder, parent: &SpanContext) -> Self {
        let Some(tracing) = tracing else {
            return Self { on: None, context: parent.clone() };
        };
        builder.attributes.get_or_insert_with(|| Vec::with_capacity(TYPICAL));
        // An invalid parent would count as one that was not sampled: a new trace has none.
        let mut outer = Context::new();
        if parent.is_valid() {
            outer = outer.with_remote_span_context(parent.clone());
        }
        let span = tracing.tracer.build_with_context(builder, &outer);
        let context = span.span_context().clone();
        Self { on: Some((tracing.clone(), Ended::new(span))), context }
    }

    /// A span under this one.
    pub(super) fn child(&self, name: impl Into<SpanName>, kind: SpanKind) -> Self {
        let tracing = self.on.as_ref().map(|(tracing, _)| tracing);
        let builder = SpanBuilder::from_name(name.into().0).with_kind(kind);
        Self::start(tracing, builder, &self.context)
    }

    /// What a callee sees as its caller: this span, or the caller's own where traces are not exported.
    pub(super) const fn context(&self) -> &SpanContext {
        &self.context
    }

    /// This span, where somebody may look it up.
    pub(super) fn reference(&self) -> Option<SpanRef> {
        self.is_recording().then(|| SpanRef(self.context.clone()))
    }

    /// Says that this span has to do with another one, of whatever trace.
    pub(super) fn link(&mut self, to: SpanRef) {
        if let Some(span) = self.recording() {
            span.add_link(to.0, Vec::new());
        }
    }

    /// The trace for a log line: one that others export, or nobody does, ties the line to theirs.
    pub(super) fn logged_trace_id(&self) -> Option<String> {
        self.context.is_valid().then(|| const_hex::encode(self.context.trace_id().to_bytes()))
    }

    /// Whether this is a span of ours, which somebody may look up.
    pub(super) fn is_recording(&self) -> bool {
        self.on.as_ref().is_some_and(|(_, span)| span.is_recording())
    }

    /// Writes attributes; `attributes` is not called where nobody would read them.
    pub(super) fn set<A: IntoIterator<Item = KeyValue>>(&mut self, attributes: impl FnOnce() -> A) {
        if let Some(span) = self.recording() {
            attributes().into_iter().for_each(|attribute| span.set_attribute(attribute));
        }
    }

    /// Has `write` called once the span has ended, and nobody waits any more.
    pub(super) fn later(&mut self, write: impl FnOnce(&mut Span) + Send + Sync + 'static) {
        if let Some((_, ended)) = self.on.as_mut().filter(|(_, span)| span.is_recording()) {
            ended.later(write);
        }
    }

    /// Marks the span as failed.
    pub(super) fn fail(&mut self) {
        if let Some(span) = self.recording() {
            fail(span);
        }
    }

    fn recording(&mut self) -> Option<&mut Span> {
        self.on.as_mut().map(|(_, span)| &mut **span).filter(|span| span.is_recording())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some((tracing, mut ended)) = self.on.take().filter(|(_, span)| span.is_recording()) {
            ended.at(SystemTime::now());
            tracing.outbox.put(ended);
        }
    }
}

/// Marks a span as failed. The description stays empty: it would repeat the error type or leak content.
pub(super) fn fail(span: &mut Span) {
    span.set_status(Status::error(""));
}

/// A span's name: fixed, or fixed words and a configured name.
pub(super) struct SpanName(std::borrow::Cow<'static, str>);

impl From<&'static str> for SpanName {
    fn from(name: &'static str) -> Self {
        Self(name.into())
    }
}

impl From<String> for SpanName {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

/// An attribute that is left out where its value is unknown.
pub(super) fn known<V: Into<Value>>(key: &'static str, value: Option<V>) -> Option<KeyValue> {
    value.map(|value| KeyValue::new(key, value))
}

/// An attribute holding a count. OpenTelemetry's integers are signed.
pub(super) fn count(key: &'static str, value: u64) -> KeyValue {
    KeyValue::new(key, i64::try_from(value).unwrap_or(i64::MAX))
}

/// An attribute holding strings.
pub(super) fn strings(key: &'static str, values: impl IntoIterator<Item = String>) -> KeyValue {
    let values = values.into_iter().map(StringValue::from).collect();
    KeyValue::new(key, Value::Array(Array::String(values)))
}
