//! What leaves this process about its work: traces (OTLP), metrics (`/metrics`, and OTLP) and one log line a request.
//!
//! ```text
//! POST /v1/chat/completions            SERVER     RequestSpan   ends with the last byte or the disconnect
//! ├ apply_context_policy {policy}      INTERNAL   PolicySpan    one event plimsoll.context.action per rule that fired
//! │ └ summarize_context                INTERNAL   SummarizeSpan
//! │   ├ wait_for_slot                  INTERNAL   WaitSpan
//! │   └ chat {model}                   INTERNAL   ChatSpan
//! ├ wait_for_slot                      INTERNAL   WaitSpan
//! └ chat {model}                       INTERNAL (engine) or CLIENT (HTTP upstream)   ChatSpan
//!   ├ prefill, decode                  INTERNAL   engine only
//! summarize_context                    INTERNAL   FollowUp      for the next cut, after an answer: a trace of its own
//! load_model {model}                   INTERNAL   LoadSpan, a trace of its own
//! offload_conversation, restore_conversation {model}   INTERNAL   a trace of its own each step of a conversation's way
//! decode_batch {model}                 INTERNAL   BatchFacts, a trace of its own, links to the `chat` spans in it
//! ```
//!
//! A `chat` whose prompt holds a summary that an earlier request had made links to that request's `summarize_context`.
//!
//! Nothing here is global but the log: each [`Telemetry`] has its own providers and registry, so that proxies in one
//! process do not mix. Message content is in no span, metric or log line, unless `capture_content` puts it on the `chat`
//! spans.

mod batch;
mod bound;
mod chat;
mod content;
mod delivery;
mod endpoints;
mod export;
mod load;
pub mod log;
mod metrics;
mod names;
mod otlp;
mod outbox;
mod policy;
mod propagation;
mod readings;
mod recent;
mod record;
mod request;
mod running;
mod sampling;
mod spans;
mod offload;
mod store;

use std::sync::Arc;

pub use batch::BatchFacts;
pub use chat::{ChatRequest, ChatSpan, Operation, Settings};
pub use content::Said;
pub use endpoints::EndpointReading;
pub use load::{LoadFacts, LoadSpan};
pub use names::GenAi;
pub use offload::counted;
pub use otlp::{Otlp, Protocol};
pub use policy::{FollowUp, PolicySpan, Segments, SummarizeSpan};
pub use readings::{Component, EngineReadings, TemplateReading};
pub use recent::{ActionSummary, Drift, RequestSummary, Totals};
pub use record::{
    Action, Alert, ChatFacts, KvFacts, MemoryFacts, Outcome, PolicyFacts, PolicyOutcome, RequestRecord,
    RouteFacts,
};
pub use request::{Incoming, RequestSpan, WaitSpan};
pub use running::RunningSummary;
pub use spans::SpanRef;
pub use store::StoreReadings;

use export::Exports;
use metrics::Instruments;
use names::GenAiNames;
use readings::Source;
use recent::Recent;
use running::Running;
use spans::Tracing;

/// What telemetry needs to know to start.
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// `service.name`.
    pub service_name: String,
    /// `service.instance.id`: different for each process, or stores merge them.
    pub instance_id: String,
    /// `service.version`.
    pub version: &'static str,
    /// Where traces and metrics are pushed. Nothing: no traces, metrics only at `/metrics`.
    pub otlp: Option<Otlp>,
    /// Share of the traces begun here that is exported, from 0 to 1. Traces begun by a trusted caller follow the
    /// caller's choice.
    pub sample_ratio: f64,
    /// Whether a request continues its caller's trace. Otherwise it begins its own, with a link to the caller's.
    pub trust_incoming: bool,
    /// Keys of a trusted caller's baggage that become attributes of the request's span.
    pub baggage: Vec<String>,
    /// Whether spans hold what was sent to models and what they answered.
    pub capture_content: bool,
    /// Version of the `gen_ai.*` names.
    pub gen_ai: GenAi,
}

/// Telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The endpoint is no URL that can be exported to.
    #[error("telemetry endpoint `{endpoint}` cannot be used: {reason}")]
    Endpoint {
        /// As configured.
        endpoint: String,
        /// What is wrong and what would do.
        reason: String,
    },
    /// A header is no valid HTTP header.
    #[error(
        "telemetry header `{0}` is not a valid HTTP header: names are ASCII words, values are visible ASCII"
    )]
    Header(String),
    /// A part of the exporter did not start.
    #[error("telemetry cannot start its {part}: {reason}")]
    Start {
        /// Which part.
        part: &'static str,
        /// Why.
        reason: String,
    },
}

/// Not all of the telemetry reached the collector before the time was up.
#[derive(Debug, thiserror::Error)]
#[error("some telemetry was not delivered: {0}")]
pub struct Undelivered(String);

/// The telemetry of one proxy. Clones share it.
#[derive(Clone)]
pub struct Telemetry(Arc<Shared>);

struct Shared {
    tracing: Option<Tracing>,
    gen_ai: &'static GenAiNames,
    trust_incoming: bool,
    baggage: Vec<String>,
    capture_content: bool,
    instruments: Instruments,
    recent: Recent,
    running: Running,
    source: Arc<Source<EngineReadings>>,
    templates: Arc<Source<TemplateReading>>,
    endpoints: Arc<Source<EndpointReading>>,
    exports: Exports,
}

impl Telemetry {
    /// Starts the exporters. No connection is made here: a collector may come later, or never.
    ///
    /// # Errors
    /// The endpoint or a header is not usable, or a thread cannot be started.
    pub fn start(config: &TelemetryConfig) -> Result<Self, TelemetryError> {
        let exports = Exports::start(config)?;
        let (source, templates) = (Arc::new(Source::default()), Arc::new(Source::default()));
        let meter = exports.meter();
        readings::register(&meter, &source);
        readings::register_templates(&meter, Arc::clone(&templates));
        let endpoints = Arc::new(Source::default());
        endpoints::register(&meter, &endpoints);
        offload::register(&meter, &source);
        Ok(Self(Arc::new(Shared {
            tracing: exports.tracing(),
            gen_ai: config.gen_ai.names(),
            trust_incoming: config.trust_incoming,
            baggage: config.baggage.clone(),
            capture_content: config.capture_content,
            instruments: Instruments::new(&meter, config.gen_ai.names()),
            recent: Recent::default(),
            running: Running::default(),
            source,
            templates,
            endpoints,
            exports,
        })))
    }

    /// Begins the span and the record of a request.
    #[must_use]
    pub fn request(&self, incoming: &Incoming<'_>) -> RequestSpan {
        RequestSpan::start(&self.0, incoming)
    }

    /// Begins the trace of loading `model`.
    #[must_use]
    pub fn model_load(&self, model: &str) -> LoadSpan {
        LoadSpan::start(self.0.tracing.as_ref(), model)
    }

    /// Writes the trace of a batch, where traces are exported.
    pub fn batch(&self, facts: BatchFacts<'_>) {
        if let Some(tracing) = &self.0.tracing {
            batch::record(&tracing.tracer, facts);
        }
    }

    /// Writes the trace of a conversation of `model` that left its slot or came back, where traces are exported.
    pub fn offloaded(&self, model: &str, step: &plimsoll_engine::OffloadMove) {
        if let Some(tracing) = &self.0.tracing {
            offload::record(&tracing.tracer, model, step);
        }
    }

    /// Whether traces are exported at all.
    #[must_use]
    pub fn traces(&self) -> bool {
        self.0.tracing.is_some()
    }

    /// Where the gauges of the engines are read from, at each scrape. Only the first call counts. `read` must be quick
    /// and must not own this telemetry, or neither is ever dropped.
    pub fn observe(&self, read: impl Fn() -> Vec<EngineReadings> + Send + Sync + 'static) {
        self.0.source.set(Box::new(read));
    }

    /// Where the gauge of the chat templates is read from; as [`Telemetry::observe`].
    pub fn observe_templates(&self, read: impl Fn() -> Vec<TemplateReading> + Send + Sync + 'static) {
        self.0.templates.set(Box::new(read));
    }

    /// Where the metrics of upstreams' servers are read from; as [`Telemetry::observe`].
    pub fn observe_endpoints(&self, read: impl Fn() -> Vec<EndpointReading> + Send + Sync + 'static) {
        self.0.endpoints.set(Box::new(read));
    }

    /// Where the metrics of the store of originals are read from. As with [`Telemetry::observe`], `read` must be quick
    /// and must not own this telemetry.
    pub fn observe_store(&self, read: impl Fn() -> Option<StoreReadings> + Send + Sync + 'static) {
        store::register(&self.0.exports.meter(), read);
    }

    /// Configuration number `generation` is in use.
    pub fn config_loaded(&self, generation: u64) {
        self.0.instruments.config_loaded(generation);
    }

    /// A new configuration was refused; the old one stays.
    pub fn config_refused(&self) {
        self.0.instruments.config_refused();
    }

    /// The last finished requests, newest first, and the sums over all since the start.
    #[must_use]
    pub fn recent(&self) -> (Vec<RequestSummary>, Totals) {
        self.0.recent.read()
    }

    /// The requests in progress, the oldest first.
    #[must_use]
    pub fn running(&self) -> Vec<RunningSummary> {
        self.0.running.read()
    }

    /// All metrics in Prometheus' text format, for `/metrics`. Its content type is `text/plain; version=0.0.4`.
    #[must_use]
    pub fn prometheus(&self) -> String {
        self.0.exports.prometheus()
    }

    /// Delivers what is left and stops. Blocks for 5 s at most: from async code, call it by `spawn_blocking`, after the
    /// last request. Without it, what was not yet delivered may be lost.
    ///
    /// # Errors
    /// The collector did not take everything in time.
    pub fn shutdown(&self) -> Result<(), Undelivered> {
        self.0.exports.shutdown().map_err(Undelivered)
    }
}

#[cfg(test)]
mod tests;
