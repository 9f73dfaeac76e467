//! All instruments, and the one place where a request becomes metrics.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, UpDownCounter};

use super::bound::{Bound, ChatMeters, Labelled, RouteMeters};
use super::names::{GenAiNames, Metric, attr, buckets, metrics};
use super::record::{ChatFacts, PolicyFacts, PolicyOutcome, RequestRecord, to_f64};

/// The instruments. Labels are configured names and closed lists, never a caller's text.
pub(super) struct Instruments {
    bound: Bound,
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
            bound: Bound::default(),
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
        self.active(record, 1);
    }

    fn active(&self, record: &RequestRecord, change: i64) {
        let active = self.bound.active(record);
        active.meters.requests.get_or_init(|| self.http_active.bind(&active.labels)).add(change);
    }

    /// Writes everything that is counted or measured about a request.
    pub(super) fn request_finished(&self, record: &RequestRecord, took: Duration) {
        self.active(record, -1);
        let http = self.bound.http(record);
        let duration = http.meters.duration.get_or_init(|| self.http_duration.bind(&http.labels));
        duration.record(took.as_secs_f64());
        let route = self.bound.route(record);
        if let Some(facts) = &record.context {
            self.policy_finished(facts, &route);
        }
        if let Some(wait) = record.queued {
            let queue_wait = route.meters.queue_wait.get_or_init(|| self.queue_wait.bind(&route.labels));
            queue_wait.record(wait.as_secs_f64());
        }
        if let Some(ratio) = record.drift() {
            route.meters.drift.get_or_init(|| self.drift.bind(&route.labels)).record(ratio);
        }
        if let Some(facts) = &record.chat {
            self.prefix_finished(facts, &route);
            self.chat_finished(facts, took, &self.bound.chat(self.gen_ai, record, facts));
        }
    }

    pub(super) fn config_loaded(&self, generation: u64) {
        self.generation.record(generation, &[]);
        self.reloads.add(1, &[KeyValue::new(attr::RELOAD_RESULT, "loaded")]);
    }

    pub(super) fn config_refused(&self) {
        self.reloads.add(1, &[KeyValue::new(attr::RELOAD_RESULT, "refused")]);
    }

    fn policy_finished(&self, facts: &PolicyFacts, route: &Labelled<RouteMeters>) {
        let stage = |name| route.with(KeyValue::new(attr::STAGE, name));
        let meters = &route.meters;
        if facts.tokens_before > 0 {
            let before = meters.before.get_or_init(|| self.tokens.bind(&stage("before")));
            before.record(facts.tokens_before);
        }
        // A refused prompt has no size after.
        if facts.tokens_after > 0 && facts.outcome != PolicyOutcome::Rejected {
            meters.after.get_or_init(|| self.tokens.bind(&stage("after"))).record(facts.tokens_after);
        }
        let duration = meters.policy_duration.get_or_init(|| self.policy_duration.bind(&route.labels));
        duration.record(facts.took.as_secs_f64());
        let requests = meters.requests[facts.outcome as usize].get_or_init(|| {
            self.requests.bind(&route.with(KeyValue::new(attr::POLICY_OUTCOME, facts.outcome.as_str())))
        });
        requests.add(1);
        for action in &facts.actions {
            let kind = KeyValue::new(attr::ACTION_TYPE, action.policy.clone());
            self.removed.add(action.tokens_removed, &route.with(kind));
        }
        for alert in &facts.alerts {
            self.alerts.add(1, &route.with(KeyValue::new(attr::ALERT_TYPE, alert.kind)));
        }
    }

    /// Prefix reuse: what was expected of it, and what came of it.
    fn prefix_finished(&self, facts: &ChatFacts, route: &Labelled<RouteMeters>) {
        let (meters, labels) = (&route.meters, &route.labels);
        if let Some(tokens) = facts.predicted_tokens {
            meters.predicted.get_or_init(|| self.predicted.bind(labels)).add(tokens);
        }
        let Some(cached) = facts.cached_tokens else { return };
        meters.reused.get_or_init(|| self.reused.bind(labels)).add(cached);
        if let Some(prompt) = facts.input_tokens {
            let computed = meters.computed.get_or_init(|| self.computed.bind(labels));
            computed.add(prompt.saturating_sub(cached));
        }
    }

    fn chat_finished(&self, facts: &ChatFacts, took: Duration, chat: &Labelled<ChatMeters>) {
        let (meters, labels) = (&chat.meters, &chat.labels);
        meters.duration.get_or_init(|| self.duration.bind(labels)).record(took.as_secs_f64());
        if let Some(first) = facts.first_token {
            meters.first_token.get_or_init(|| self.first_token.bind(labels)).record(first.as_secs_f64());
        }
        let later_tokens =
            facts.output_tokens.and_then(|tokens| tokens.checked_sub(1)).filter(|&later| later > 0);
        if let Some((decoding, later)) = facts.decoding.zip(later_tokens) {
            let per_token = meters.per_token.get_or_init(|| self.per_token.bind(labels));
            per_token.record(decoding.as_secs_f64() / to_f64(later));
        }
    }
}

fn histogram(meter: &Meter, metric: Metric, bounds: &[f64]) -> Histogram<f64> {
    let Metric { name, unit, help } = metric;
    meter.f64_histogram(name).with_unit(unit).with_description(help).with_boundaries(bounds.to_vec()).build()
}

fn counter(meter: &Meter, metric: Metric) -> Counter<u64> {
    let Metric { name, unit, help } = metric;
    meter.u64_counter(name).with_unit(unit).with_description(help).build()
}
