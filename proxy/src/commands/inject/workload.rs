//! The kinds that run pods, each with its type and the place of its pod.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A kind of workload.
pub(super) struct Kind {
    pub(super) name: &'static str,
    version: &'static str,
    /// Keys that lead to the pod.
    place: &'static [&'static str],
    /// Says what in the document is not of the kind's type.
    pub(super) check: fn(&Value) -> Result<(), String>,
}

const TEMPLATE: &[&str] = &["spec", "template"];

static KINDS: [Kind; 8] = [
    Kind { name: "Deployment", version: "apps/v1", place: TEMPLATE, check: check::<Deployment> },
    Kind { name: "StatefulSet", version: "apps/v1", place: TEMPLATE, check: check::<StatefulSet> },
    Kind { name: "DaemonSet", version: "apps/v1", place: TEMPLATE, check: check::<DaemonSet> },
    Kind { name: "ReplicaSet", version: "apps/v1", place: TEMPLATE, check: check::<ReplicaSet> },
    Kind { name: "Job", version: "batch/v1", place: TEMPLATE, check: check::<Job> },
    Kind {
        name: "CronJob",
        version: "batch/v1",
        place: &["spec", "jobTemplate", "spec", "template"],
        check: check::<CronJob>,
    },
    Kind { name: "Pod", version: "v1", place: &[], check: check::<Pod> },
    Kind {
        name: "ReplicationController",
        version: "v1",
        place: TEMPLATE,
        check: check::<ReplicationController>,
    },
];

impl Kind {
    /// The pod, or its template: `metadata` and `spec`.
    pub(super) fn template<'a>(&self, document: &'a mut Value) -> Option<&'a mut Value> {
        self.place.iter().try_fold(document, |node, key| node.get_mut(key)).filter(|node| node.is_object())
    }
}

/// The document's kind, where it is one that runs pods. `note` hears of one that is told apart only by its version.
pub(super) fn kind(document: &Value, note: &mut dyn FnMut(String)) -> Option<&'static Kind> {
    let kind = KINDS.iter().find(|kind| document["kind"] == kind.name)?;
    if document["apiVersion"] == kind.version {
        return Some(kind);
    }
    let version = document["apiVersion"].as_str().unwrap_or("no apiVersion");
    note(format!("passed through: a {} is rewritten as `{}`, not as `{version}`", kind.name, kind.version));
    None
}

/// The name that messages say.
pub(super) fn name(document: &Value) -> String {
    let metadata = &document["metadata"];
    let name = metadata["name"].as_str().or_else(|| metadata["generateName"].as_str());
    name.unwrap_or("(no name)").chars().take(80).collect()
}

fn check<T: DeserializeOwned>(document: &Value) -> Result<(), String> {
    match serde_path_to_error::deserialize::<_, T>(document) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("`{}`: {}", error.path(), error.inner())),
    }
}
