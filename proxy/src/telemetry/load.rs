//! The trace of loading a model.

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanBuilder, SpanContext, SpanKind};

use super::names::{attr, span};
use super::spans::{Live, Tracing, count};

/// A model being loaded.
pub struct LoadSpan(Live);

/// What was loaded.
#[derive(Debug, Clone)]
pub struct LoadFacts {
    /// Where it runs (`cpu`, `NVIDIA H200`).
    pub device: String,
    /// The provider that runs it (`CPUExecutionProvider`).
    pub provider: String,
    /// Bytes of its weights.
    pub weights_bytes: u64,
    /// Bytes of keys and values that one token needs.
    pub kv_bytes_per_token: u64,
    /// Its window in tokens.
    pub window: u64,
}

impl LoadSpan {
    pub(super) fn start(tracing: Option<&Tracing>, model: &str) -> Self {
        let builder = SpanBuilder::from_name(format!("{} {model}", span::LOAD)).with_kind(SpanKind::Internal);
        let mut live = Live::start(tracing, builder, &SpanContext::empty_context());
        live.set(|| vec![KeyValue::new(attr::MODEL, model.to_owned())]);
        Self(live)
    }

    /// The model is ready.
    pub fn completed(mut self, facts: &LoadFacts) {
        self.0.set(|| {
            vec![
                KeyValue::new(attr::DEVICE, facts.device.clone()),
                KeyValue::new(attr::PROVIDER, facts.provider.clone()),
                count(attr::WEIGHTS, facts.weights_bytes),
                count(attr::KV_PER_TOKEN, facts.kv_bytes_per_token),
                count(attr::WINDOW, facts.window),
            ]
        });
    }

    /// The model cannot be used; `code` names the error, in few words of ours.
    pub fn failed(mut self, code: &'static str) {
        self.0.set(|| vec![KeyValue::new(attr::ERROR_TYPE, code)]);
        self.0.fail();
    }
}
