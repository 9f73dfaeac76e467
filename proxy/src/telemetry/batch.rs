//! Batches of an engine: each a trace of its own that links to the calls in it, since no one call is its parent.

use std::time::SystemTime;

use opentelemetry::KeyValue;
use opentelemetry::trace::{Link, Span as _, SpanBuilder, SpanKind, Tracer as _};
use opentelemetry_sdk::trace::SdkTracer;

use super::names::{attr, span};
use super::spans::{SpanRef, count};

/// Decoding steps that the same calls shared.
#[derive(Debug)]
pub struct BatchFacts<'a> {
    /// The model that runs it.
    pub model: &'a str,
    /// The calls in it that are traced.
    pub calls: Vec<SpanRef>,
    /// Calls in each step.
    pub rows: u64,
    /// Steps.
    pub steps: u64,
    /// When the first step began.
    pub started: SystemTime,
    /// When the last step had ended.
    pub ended: SystemTime,
}

/// Writes the span of a batch that is over.
pub(super) fn record(tracer: &SdkTracer, facts: BatchFacts<'_>) {
    let links = facts.calls.into_iter().map(|call| Link::with_context(call.0)).collect();
    let attributes = vec![
        KeyValue::new(attr::MODEL, facts.model.to_owned()),
        count(attr::BATCH_ROWS, facts.rows),
        count(attr::BATCH_STEPS, facts.steps),
        count(attr::BATCH_TOKENS, facts.rows.saturating_mul(facts.steps)),
    ];
    let builder = SpanBuilder::from_name(format!("{} {}", span::BATCH, facts.model))
        .with_kind(SpanKind::Internal)
        .with_start_time(facts.started)
        .with_links(links)
        .with_attributes(attributes);
    let mut batch = tracer.build_with_context(builder, &opentelemetry::Context::new());
    batch.end_with_timestamp(facts.ended);
}
