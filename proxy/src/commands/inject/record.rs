//! What was added to a pod, kept in an annotation, so that it can be taken out again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Annotation that holds the record.
pub(super) const ANNOTATION: &str = "plimsoll/injected";

/// What a key held before a list or map was needed there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Was {
    /// There was no such key.
    Absent,
    /// The key held null.
    Null,
    /// The list or map was there.
    There,
}

/// What was added, besides the sidecar and its volumes, which are known by their names.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Record {
    /// Lists and maps of the pod that were not there, by key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) was: BTreeMap<String, Was>,
    /// Application containers that got the base URL, with their `env` as it was.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) env: BTreeMap<String, Was>,
    /// Whether the pod had no grace period.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) grace_absent: bool,
    /// The pod's grace period before it was made longer, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) grace: Option<i64>,
}

impl Record {
    /// The list or map at `key`, made where there is none, and noted.
    pub(super) fn ensure<'a>(
        &mut self,
        map: &'a mut Map<String, Value>,
        key: &str,
        empty: Value,
    ) -> &'a mut Value {
        let was = was(map, key);
        if was != Was::There {
            self.was.insert(key.to_owned(), was);
        }
        there(map, key, empty)
    }

    /// Undoes [`Record::ensure`] where nothing else is in the list or map.
    pub(super) fn restore(&self, map: &mut Map<String, Value>, key: &str) {
        restore(map, key, self.was.get(key).copied().unwrap_or(Was::There));
    }
}

pub(super) fn was(map: &Map<String, Value>, key: &str) -> Was {
    match map.get(key) {
        None => Was::Absent,
        Some(Value::Null) => Was::Null,
        Some(_) => Was::There,
    }
}

/// The value at `key`, `empty` where there is none.
pub(super) fn there<'a>(map: &'a mut Map<String, Value>, key: &str, empty: Value) -> &'a mut Value {
    let value = map.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = empty;
    }
    value
}

pub(super) fn restore(map: &mut Map<String, Value>, key: &str, was: Was) {
    let empty = match map.get(key) {
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(fields)) => fields.is_empty(),
        _ => false,
    };
    match was {
        Was::Absent if empty => {
            map.shift_remove(key);
        }
        Was::Null if empty => {
            map.insert(key.to_owned(), Value::Null);
        }
        _ => {}
    }
}
