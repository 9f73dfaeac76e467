//! Label sets and the instruments that are bound to them: a request looks its sets up once, not each instrument by itself.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use opentelemetry::metrics::{BoundCounter, BoundHistogram, BoundUpDownCounter};
use opentelemetry::{KeyValue, StringValue};

use super::names::{GenAiNames, attr};
use super::record::{ChatFacts, Outcome, RequestRecord, RouteFacts};
use super::request::method_label;

/// Everything that requests were labelled with so far. Labels are configured names and closed lists: there are few.
#[derive(Default)]
pub(super) struct Bound {
    active: Memo<&'static str, ActiveMeters>,
    http: Memo<HttpKey, HttpMeters>,
    /// None: refused before a route was chosen.
    routes: Memo<Option<RouteFacts>, RouteMeters>,
    chats: Memo<ChatKey, ChatMeters>,
}

impl Bound {
    pub(super) fn active(&self, record: &RequestRecord) -> Arc<Labelled<ActiveMeters>> {
        self.active.get(method_label(&record.method), |method| method_labels(method).to_vec())
    }

    pub(super) fn http(&self, record: &RequestRecord) -> Arc<Labelled<HttpMeters>> {
        let (status, error) = (record.status, error(record));
        let key = HttpKey { method: method_label(&record.method), path: record.path, status, error };
        self.http.get(key, |key| {
            let mut labels = method_labels(key.method).to_vec();
            labels.extend(key.path.map(|path| KeyValue::new(attr::HTTP_ROUTE, path)));
            labels.extend(key.status.map(|status| KeyValue::new(attr::STATUS, i64::from(status))));
            labels.extend(error_label(key.error));
            labels
        })
    }

    pub(super) fn route(&self, record: &RequestRecord) -> Arc<Labelled<RouteMeters>> {
        self.routes.get(record.route.clone(), |route| {
            let Some(RouteFacts { route, policy, mode, model, .. }) = route else { return Vec::new() };
            vec![
                KeyValue::new(attr::ROUTE, StringValue::from(route.clone())),
                KeyValue::new(attr::POLICY, StringValue::from(policy.clone())),
                KeyValue::new(attr::MODE, *mode),
                KeyValue::new(attr::MODEL, StringValue::from(model.clone())),
            ]
        })
    }

    pub(super) fn chat(
        &self,
        names: &GenAiNames,
        record: &RequestRecord,
        facts: &ChatFacts,
    ) -> Arc<Labelled<ChatMeters>> {
        let model = record.route.as_ref().map(|route| route.model.clone());
        let (operation, provider, error) = (facts.operation, facts.provider, error(record));
        self.chats.get(ChatKey { operation, provider, model, error }, |key| {
            let mut labels = vec![
                KeyValue::new(names.operation, key.operation),
                KeyValue::new(names.provider, key.provider),
            ];
            let model = key.model.clone().map(StringValue::from);
            labels.extend(model.map(|model| KeyValue::new(names.request_model, model)));
            labels.extend(error_label(key.error));
            labels
        })
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct HttpKey {
    method: &'static str,
    path: Option<&'static str>,
    status: Option<u16>,
    error: Option<&'static str>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct ChatKey {
    operation: &'static str,
    provider: &'static str,
    model: Option<Arc<str>>,
    error: Option<&'static str>,
}

/// What the requests of one method are counted by while they run.
#[derive(Default)]
pub(super) struct ActiveMeters {
    pub(super) requests: OnceLock<BoundUpDownCounter<i64>>,
}

/// What a request as such is measured by.
#[derive(Default)]
pub(super) struct HttpMeters {
    pub(super) duration: OnceLock<BoundHistogram<f64>>,
}

/// What a route's requests are measured by.
#[derive(Default)]
pub(super) struct RouteMeters {
    pub(super) before: OnceLock<BoundHistogram<u64>>,
    pub(super) after: OnceLock<BoundHistogram<u64>>,
    /// By what became of the prompt.
    pub(super) requests: [OnceLock<BoundCounter<u64>>; 4],
    pub(super) policy_duration: OnceLock<BoundHistogram<f64>>,
    pub(super) queue_wait: OnceLock<BoundHistogram<f64>>,
    pub(super) drift: OnceLock<BoundHistogram<f64>>,
    pub(super) predicted: OnceLock<BoundCounter<u64>>,
    pub(super) reused: OnceLock<BoundCounter<u64>>,
    pub(super) computed: OnceLock<BoundCounter<u64>>,
}

/// What calls to a model are measured by.
#[derive(Default)]
pub(super) struct ChatMeters {
    pub(super) duration: OnceLock<BoundHistogram<f64>>,
    pub(super) first_token: OnceLock<BoundHistogram<f64>>,
    pub(super) per_token: OnceLock<BoundHistogram<f64>>,
}

/// A label set, and what is bound to it when it is first used: what was never measured has no series.
pub(super) struct Labelled<M> {
    pub(super) labels: Vec<KeyValue>,
    pub(super) meters: M,
}

impl<M> Labelled<M> {
    /// The labels and one more.
    pub(super) fn with(&self, label: KeyValue) -> Vec<KeyValue> {
        self.labels.iter().cloned().chain([label]).collect()
    }
}

struct Memo<K, M>(Mutex<HashMap<K, Arc<Labelled<M>>>>);

impl<K, M> Default for Memo<K, M> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash, M: Default> Memo<K, M> {
    fn get(&self, key: K, labels: impl FnOnce(&K) -> Vec<KeyValue>) -> Arc<Labelled<M>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(labelled) = known.get(&key) {
            return Arc::clone(labelled);
        }
        let labelled = Arc::new(Labelled { labels: labels(&key), meters: M::default() });
        known.insert(key, Arc::clone(&labelled));
        labelled
    }
}

fn method_labels(method: &'static str) -> [KeyValue; 2] {
    [KeyValue::new(attr::METHOD, method), KeyValue::new(attr::URL_SCHEME, "http")]
}

/// Only a failure is an error: a refusal is the client's.
fn error(record: &RequestRecord) -> Option<&'static str> {
    record.error.filter(|_| record.outcome == Outcome::Failed)
}

fn error_label(code: Option<&'static str>) -> Option<KeyValue> {
    code.map(|code| KeyValue::new(attr::ERROR_TYPE, code))
}
