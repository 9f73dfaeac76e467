//! Which traces are exported.

use opentelemetry::trace::{Link, SpanKind, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, ShouldSample};

use super::names::span;

/// As a trusted caller chose, else a share of the traces begun here. A batch is told only where a call in it is
/// exported, and then always: chosen anew, hardly a link would find its batch.
#[derive(Debug, Clone)]
pub(super) struct Sampling(Sampler);

impl Sampling {
    pub(super) fn new(ratio: f64) -> Self {
        Self(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
    }
}

impl ShouldSample for Sampling {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        if *kind == SpanKind::Internal && name.starts_with(span::BATCH) {
            return SamplingResult {
                decision: SamplingDecision::RecordAndSample,
                attributes: Vec::new(),
                trace_state: TraceState::NONE,
            };
        }
        self.0.should_sample(parent, trace_id, name, kind, attributes, links)
    }
}
