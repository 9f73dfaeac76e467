//! What carries traces and metrics out: batches to the OTLP exporters, and the Prometheus registry.
//!
//! Traces leave by the SDK's batch processor: a bounded queue that drops when full, and a thread of its own. A collector
//! that is down or hangs costs memory for that queue and nothing else.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanExporter};
use prometheus::{Registry, TextEncoder};

use super::delivery::{Delivery, Noted};
use super::names::SCOPE;
use super::otlp::{Exporters, OwnRuntime, exporters, start_error};
use super::outbox::Writer;
use super::sampling::Sampling;
use super::spans::Tracing;
use super::{TelemetryConfig, TelemetryError};

/// The longest that [`Exports::shutdown`] blocks.
const SHUTDOWN: Duration = Duration::from_secs(5);
/// How long a finished span waits for others. A person who looks for a trace waits no longer than that.
const SPAN_DELAY: Duration = Duration::from_secs(1);
const METRIC_INTERVAL: Duration = Duration::from_secs(15);

/// The running exporters of one proxy.
pub(super) struct Exports {
    // In an Option so that Drop can move it to a thread that may block.
    push: Option<Push>,
    meters: Option<SdkMeterProvider>,
    registry: Registry,
}

struct Push {
    traces: SdkTracerProvider,
    writer: Writer,
    /// Kept alive for the exporters.
    _runtime: Option<OwnRuntime>,
    collector: String,
    traces_delivery: Arc<Delivery>,
}

impl Exports {
    pub(super) fn start(config: &TelemetryConfig) -> Result<Self, TelemetryError> {
        let resource = resource(config);
        let registry = Registry::new();
        let prometheus = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()
            .map_err(|fault| start_error("metrics registry", &fault))?;
        let meters = SdkMeterProvider::builder().with_resource(resource.clone()).with_reader(prometheus);
        let Some(otlp) = &config.otlp else {
            return Ok(Self { push: None, meters: Some(meters.build()), registry });
        };
        let Exporters { traces, metrics, runtime, collector } = exporters(otlp)?;
        let metrics = Noted::new(metrics, &Delivery::new("metrics", collector.clone()));
        let reader = PeriodicReader::builder(metrics).with_interval(METRIC_INTERVAL).build();
        let writer = Writer::start().map_err(|fault| start_error("writer of spans", &fault))?;
        let traces_delivery = Delivery::new("traces", collector.clone());
        let traces = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(Sampling::new(config.sample_ratio))
            .with_span_processor(batches(Noted::new(traces, &traces_delivery)))
            .build();
        Ok(Self {
            push: Some(Push { traces, writer, _runtime: runtime, collector, traces_delivery }),
            meters: Some(meters.with_reader(reader).build()),
            registry,
        })
    }

    /// What makes spans, where traces are exported.
    pub(super) fn tracing(&self) -> Option<Tracing> {
        let tracing =
            |push: &Push| Tracing { tracer: push.traces.tracer(SCOPE), outbox: push.writer.outbox().clone() };
        self.push.as_ref().map(tracing)
    }

    pub(super) fn meter(&self) -> Meter {
        let meters = self.meters.as_ref().expect("meters live until drop. This is a bug.");
        meters.meter(SCOPE)
    }

    pub(super) fn prometheus(&self) -> String {
        // Fails only on a family without samples or name, which the exporter does not make.
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }

    /// Delivers what is left, for [`SHUTDOWN`] at most. The error says what was not delivered.
    pub(super) fn shutdown(&self) -> Result<(), String> {
        let deadline = Instant::now() + SHUTDOWN;
        let (Some(push), Some(meters)) = (&self.push, self.meters.clone()) else { return Ok(()) };
        push.writer.finish();
        // Side by side, each on a thread: the SDK's own time limits are per provider and not all kept.
        let metrics = detached(move || meters.shutdown());
        let traces = push.traces.clone();
        let traces = detached(move || traces.shutdown());
        let mut lost = Vec::new();
        // The SDK calls spans delivered that it gave up on.
        if !done(&traces, deadline) || push.traces_delivery.is_failing() {
            lost.push("traces");
        }
        if !done(&metrics, deadline) {
            lost.push("metrics");
        }
        if lost.is_empty() {
            return Ok(());
        }
        Err(format!("the collector at `{}` did not take all {}", push.collector, lost.join(" and ")))
    }
}

impl Drop for Exports {
    /// The SDK shuts down in its own Drop and blocks there, and a runtime must not be dropped in async code.
    fn drop(&mut self) {
        let (push, meters) = (self.push.take(), self.meters.take());
        let _ = thread::Builder::new().name("plimsoll-otlp-stop".into()).spawn(move || {
            drop(meters);
            // A span still in flight may hold the provider: its exporter stops here all the same.
            if let Some(push) = push {
                let _ = push.traces.shutdown_with_timeout(SHUTDOWN);
            }
        });
    }
}

fn detached(work: impl FnOnce() -> OTelSdkResult + Send + 'static) -> mpsc::Receiver<OTelSdkResult> {
    let (done, result) = mpsc::channel();
    let _ = thread::Builder::new().name("plimsoll-otlp-stop".into()).spawn(move || {
        let _ = done.send(work());
    });
    result
}

/// Whether `result` is a success and there by `deadline`. What was shut down before is no failure.
fn done(result: &mpsc::Receiver<OTelSdkResult>, deadline: Instant) -> bool {
    let result = result.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    matches!(result, Ok(Ok(()) | Err(OTelSdkError::AlreadyShutdown)))
}

fn resource(config: &TelemetryConfig) -> Resource {
    Resource::builder()
        .with_service_name(config.service_name.clone())
        .with_attribute(KeyValue::new("service.instance.id", config.instance_id.clone()))
        .with_attribute(KeyValue::new("service.version", config.version))
        .build()
}

fn batches(exporter: impl SpanExporter + 'static) -> BatchSpanProcessor {
    let config = BatchConfigBuilder::default().with_scheduled_delay(SPAN_DELAY).build();
    BatchSpanProcessor::builder(exporter).with_batch_config(config).build()
}
