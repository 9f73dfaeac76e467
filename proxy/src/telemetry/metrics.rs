//! All instruments, and the one place where a request becomes metrics.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, UpDownCounter};

use super::names::{GenAiNames, Metric, attr, buckets, metrics};
use super::record::{ChatFacts, Outcome, PolicyFacts, PolicyOutcome, RequestRecord, to_f64};
use super::request::method_label;

/// The instruments. Labels are configured names and closed lists, never a caller's text.
pub(super) struct Instruments {
    gen_ai: &'static GenAiNames,
    http_duration: Histogram<f64>,
    http_active: UpDownCounter<i64>,
    duration: Histogram<f64>,
    first_token: Histogram<f64>,
    per_token: Histogram<f64>,
    tokens: Histogram<u64>,
    removed: Counter<u64>,
    alerts: Counter<u64>,
    policy_duration: Histogram<f64>,
    requests: Counter<u64>,
    drift: Histogram<f64>,
    predicted: Counter<u64>,
    reused: Counter<u64>,
    computed: Counter<u64>,
    queue_wait: Histogram<f64>,
    generation: Gauge<u64>,
    reloads: Counter<u64>,
}

impl Instruments {
    pub(super) fn new(meter: &Meter, gen_ai: &'static GenAiNames) -> Self {
        Self {
            gen_ai,
            http_duration: histogram(meter, metrics::HTTP_DURATION, buckets::HTTP),
            http_active: {
                let Metric { name, unit, help } = metrics::HTTP_ACTIVE;
                meter.i64_up_down_counter(name).with_unit(unit).with_description(help).build()
            },
            duration: histogram(meter, metrics::DURATION, buckets::MODEL),
            first_token: histogram(meter, metrics::FIRST_TOKEN, buckets::FIRST_TOKEN),
            per_token: histogram(meter, metrics::PER_TOKEN, buckets::PER_TOKEN),
            tokens: {
                let Metric { name, unit, help } = metrics::TOKENS;
                let tokens = meter.u64_histogram(name).with_unit(unit).with_description(help);
                tokens.with_boundaries(buckets::TOKENS.to_vec()).build()
            },
            removed: counter(meter, metrics::REMOVED),
            alerts: counter(meter, metrics::ALERTS),
            policy_duration: histogram(meter, metrics::POLICY_DURATION, buckets::POLICY),
            requests: counter(meter, metrics::REQUESTS),
            drift: histogram(meter, metrics::DRIFT, buckets::RATIO),
            predicted: counter(meter, metrics::PREDICTED),
            reused: counter(meter, metrics::REUSED),
            computed: counter(meter, metrics::COMPUTED),
            queue_wait: histogram(meter, metrics::QUEUE_WAIT, buckets::MODEL),
            generation: {
                let Metric { name, unit, help } = metrics::GENERATION;
                meter.u64_gauge(name).with_unit(unit).with_description(help).build()
            },
            reloads: counter(meter, metrics::RELOADS),
        }
    }

    pub(super) fn request_started(&self, record: &RequestRecord) {
        self.http_active.add(1, &active_labels(record));
    }

    /// Writes everything that is counted or measured about a request.
    pub(super) fn request_finished(&self, record: &RequestRecord, took: Duration) {
        self.http_active.add(-1, &active_labels(record));
        self.http_duration.record(took.as_secs_f64(), &http_labels(record));
        let labels = route_labels(record);
        if let Some(facts) = &record.context {
            self.policy_finished(facts, &labels);
        }
        if let Some(wait) = record.queued {
            self.queue_wait.record(wait.as_secs_f64(), &labels);
        }
        if let Some(ratio) = record.drift() {
            self.drift.record(ratio, &labels);
        }
        if let Some(facts) = &record.chat {
            self.prefix_finished(facts, &labels);
            self.chat_finished(facts, took, &self.chat_labels(record, facts));
        }
    }

    pub(super) fn config_loaded(&self, generation: u64) {
        self.generation.record(generation, &[]);
        self.reloads.add(1, &[KeyValue::new(attr::RELOAD_RESULT, "loaded")]);
    }

    pub(super) fn config_refused(&self) {
        self.reloads.add(1, &[KeyValue::new(attr::RELOAD_RESULT, "refused")]);
    }

    fn policy_finished(&self, facts: &PolicyFacts, labels: &[KeyValue]) {
        if facts.tokens_before > 0 {
            self.tokens.record(facts.tokens_before, &with(labels, KeyValue::new(attr::STAGE, "before")));
        }
        // A refused prompt has no size after.
        if facts.tokens_after > 0 && facts.outcome != PolicyOutcome::Rejected {
            self.tokens.record(facts.tokens_after, &with(labels, KeyValue::new(attr::STAGE, "after")));
        }
        self.policy_duration.record(facts.took.as_secs_f64(), labels);
        self.requests.add(1, &with(labels, KeyValue::new(attr::POLICY_OUTCOME, facts.outcome.as_str())));
        for action in &facts.actions {
            let kind = KeyValue::new(attr::ACTION_TYPE, action.policy.clone());
            self.removed.add(action.tokens_removed, &with(labels, kind));
        }
        for alert in &facts.alerts {
            self.alerts.add(1, &with(labels, KeyValue::new(attr::ALERT_TYPE, alert.kind)));
        }
    }

    /// Prefix reuse: what was expected of it, and what came of it.
    fn prefix_finished(&self, facts: &ChatFacts, labels: &[KeyValue]) {
        if let Some(tokens) = facts.predicted_tokens {
            self.predicted.add(tokens, labels);
        }
        let Some(cached) = facts.cached_tokens else { return };
        self.reused.add(cached, labels);
        if let Some(prompt) = facts.input_tokens {
            self.computed.add(prompt.saturating_sub(cached), labels);
        }
    }

    fn chat_finished(&self, facts: &ChatFacts, took: Duration, labels: &[KeyValue]) {
        self.duration.record(took.as_secs_f64(), labels);
        if let Some(first) = facts.first_token {
            self.first_token.record(first.as_secs_f64(), labels);
        }
        let later_tokens =
            facts.output_tokens.and_then(|tokens| tokens.checked_sub(1)).filter(|&later| later > 0);
        if let Some((decoding, later)) = facts.decoding.zip(later_tokens) {
            self.per_token.record(decoding.as_secs_f64() / to_f64(later), labels);
        }
    }

    fn chat_labels(&self, record: &RequestRecord, facts: &ChatFacts) -> Vec<KeyValue> {
        let mut labels = vec![
            KeyValue::new(self.gen_ai.operation, facts.operation),
            KeyValue::new(self.gen_ai.provider, facts.provider),
        ];
        let model = record.route.as_ref().map(|route| route.model.to_string());
        labels.extend(model.map(|model| KeyValue::new(self.gen_ai.request_model, model)));
        labels.extend(error_label(record));
        labels
    }
}

fn active_labels(record: &RequestRecord) -> [KeyValue; 2] {
    [KeyValue::new(attr::METHOD, method_label(&record.method)), KeyValue::new(attr::URL_SCHEME, "http")]
}

fn http_labels(record: &RequestRecord) -> Vec<KeyValue> {
    let mut labels = active_labels(record).to_vec();
    labels.extend(record.path.map(|path| KeyValue::new(attr::HTTP_ROUTE, path)));
    labels.extend(record.status.map(|status| KeyValue::new(attr::STATUS, i64::from(status))));
    labels.extend(error_label(record));
    labels
}

fn error_label(record: &RequestRecord) -> Option<KeyValue> {
    let failed = record.outcome == Outcome::Failed;
    record.error.filter(|_| failed).map(|code| KeyValue::new(attr::ERROR_TYPE, code))
}

fn route_labels(record: &RequestRecord) -> Vec<KeyValue> {
    let Some(route) = &record.route else { return Vec::new() };
    vec![
        KeyValue::new(attr::ROUTE, route.route.to_string()),
        KeyValue::new(attr::POLICY, route.policy.to_string()),
        KeyValue::new(attr::MODE, route.mode),
        KeyValue::new(attr::MODEL, route.model.to_string()),
    ]
}

fn with(labels: &[KeyValue], label: KeyValue) -> Vec<KeyValue> {
    labels.iter().cloned().chain([label]).collect()
}

fn histogram(meter: &Meter, metric: Metric, bounds: &[f64]) -> Histogram<f64> {
    let Metric { name, unit, help } = metric;
    meter.f64_histogram(name).with_unit(unit).with_description(help).with_boundaries(bounds.to_vec()).build()
}

fn counter(meter: &Meter, metric: Metric) -> Counter<u64> {
    let Metric { name, unit, help } = metric;
    meter.u64_counter(name).with_unit(unit).with_description(help).build()
}
