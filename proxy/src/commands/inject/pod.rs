//! The sidecar into a pod, and out of it again.

use serde_json::{Map, Value, json};
use thiserror::Error;

use super::record::{ANNOTATION, Record, restore, there, was};
use super::sidecar::{BASE_URL, CLAIM, NAME, Settings, VOLUMES};

/// Why a pod cannot be rewritten.
#[derive(Debug, Error)]
pub(super) enum Refusal {
    /// A field is not of its type.
    #[error("{0}; `kubectl explain` tells what the field takes")]
    Shape(String),
    /// There is no pod.
    #[error("has no containers: a pod needs one for the sidecar to stand beside")]
    NoContainers,
    /// Something of the sidecar's name is not the sidecar.
    #[error("has a {what} `{name}` that `plimsoll inject` did not add: rename or remove it")]
    Taken { what: &'static str, name: &'static str },
    /// A port of the sidecar is another container's.
    #[error("container `{container}` listens on port {port}, as the sidecar would: say another by `{flag}`")]
    Port { container: String, port: u16, flag: &'static str },
    /// The record of a former run cannot be read.
    #[error(
        "annotation `{ANNOTATION}` is not as `plimsoll inject` wrote it ({0}): restore it, or remove the sidecar by hand"
    )]
    Record(serde_json::Error),
}

/// Adds the sidecar to a pod that has none; what should be known of it.
pub(super) fn inject(pod: &mut Value, settings: &Settings) -> Result<Vec<String>, Refusal> {
    let mut record = Record::default();
    let spec = spec(pod)?;
    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        return Ok(vec![
            "passed through: on the host's network the sidecar's ports would be the node's".to_owned(),
        ]);
    }
    refuse(spec, settings)?;
    let notes = if settings.no_env { Vec::new() } else { point_at_sidecar(spec, settings, &mut record)? };
    prepend(record.ensure(spec, "initContainers", json!([])), settings.container());
    append(record.ensure(spec, "volumes", json!([])), settings.volumes());
    if let Some(claim) = settings.claim() {
        append(record.ensure(spec, "resourceClaims", json!([])), vec![claim]);
    }
    lengthen(spec, settings, &mut record);
    let pod = pod.as_object_mut().ok_or(Refusal::NoContainers)?;
    let metadata = record.ensure(pod, "metadata", json!({}));
    if let Some(metadata) = metadata.as_object_mut() {
        record.ensure(metadata, "annotations", json!({}));
        let text = serde_json::to_string(&record).map_err(Refusal::Record)?;
        metadata["annotations"][ANNOTATION] = text.into();
    }
    Ok(notes)
}

/// Takes out what [`inject`] added; a pod without a record stays as it is.
pub(super) fn uninject(pod: &mut Value) -> Result<(), Refusal> {
    let Some(text) = pod.pointer("/metadata/annotations").and_then(|all| all.get(ANNOTATION)) else {
        return Ok(());
    };
    let record: Record = serde_json::from_str(text.as_str().unwrap_or_default()).map_err(Refusal::Record)?;
    let spec = spec(pod)?;
    let added: [(&str, &[&str]); 3] =
        [("initContainers", &[NAME]), ("volumes", &VOLUMES), ("resourceClaims", &[CLAIM])];
    for (key, names) in added {
        if let Some(Value::Array(items)) = spec.get_mut(key) {
            items.retain(|item| !names.contains(&item["name"].as_str().unwrap_or_default()));
        }
        record.restore(spec, key);
    }
    unpoint(spec, &record)?;
    if record.grace_absent {
        spec.shift_remove("terminationGracePeriodSeconds");
    } else if let Some(grace) = record.grace {
        spec.insert("terminationGracePeriodSeconds".to_owned(), grace.into());
    }
    let pod = pod.as_object_mut().ok_or(Refusal::NoContainers)?;
    if let Some(Value::Object(metadata)) = pod.get_mut("metadata") {
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            annotations.shift_remove(ANNOTATION);
        }
        record.restore(metadata, "annotations");
    }
    record.restore(pod, "metadata");
    Ok(())
}

/// Refuses a pod in which the sidecar's names or ports are taken.
fn refuse(spec: &mut Map<String, Value>, settings: &Settings) -> Result<(), Refusal> {
    let all = |key: &str| spec.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let has = |key: &str, name: &str| all(key).iter().any(|item| item["name"] == name);
    if has("containers", NAME) || has("initContainers", NAME) {
        return Err(Refusal::Taken { what: "container", name: NAME });
    }
    if let Some(name) = VOLUMES.into_iter().find(|name| has("volumes", name)) {
        return Err(Refusal::Taken { what: "volume", name });
    }
    if has("resourceClaims", CLAIM) {
        return Err(Refusal::Taken { what: "resource claim", name: CLAIM });
    }
    let flags = [("--data-port", settings.data_port), ("--admin-port", settings.admin_port)];
    for container in all("containers").iter().chain(&all("initContainers")) {
        let ports = container["ports"].as_array().into_iter().flatten();
        for port in ports.filter_map(|port| port["containerPort"].as_u64()) {
            if let Some((flag, port)) = flags.into_iter().find(|(_, own)| u64::from(*own) == port) {
                return Err(Refusal::Port { container: name(container).to_owned(), port, flag });
            }
        }
    }
    Ok(())
}

/// Gives each application container the sidecar's base URL, where it names none itself.
fn point_at_sidecar(
    spec: &mut Map<String, Value>,
    settings: &Settings,
    record: &mut Record,
) -> Result<Vec<String>, Refusal> {
    let mut notes = Vec::new();
    for container in containers(spec)? {
        let name = name(container).to_owned();
        let Some(fields) = container.as_object_mut() else { continue };
        let was = was(fields, "env");
        let env = there(fields, "env", json!([]));
        if env.as_array().into_iter().flatten().any(|variable| variable["name"] == BASE_URL) {
            notes.push(format!("container `{name}` has a {BASE_URL} of its own, which stays"));
            continue;
        }
        append(env, vec![json!({"name": BASE_URL, "value": settings.base_url()})]);
        record.env.insert(name, was);
    }
    Ok(notes)
}

fn unpoint(spec: &mut Map<String, Value>, record: &Record) -> Result<(), Refusal> {
    for container in containers(spec)? {
        let Some(was) = record.env.get(name(container)).copied() else { continue };
        let Some(fields) = container.as_object_mut() else { continue };
        if let Some(Value::Array(env)) = fields.get_mut("env") {
            env.retain(|variable| variable["name"] != BASE_URL);
        }
        restore(fields, "env", was);
    }
    Ok(())
}

/// The application, and then the sidecar with its streams and last traces, stop within one grace period.
fn lengthen(spec: &mut Map<String, Value>, settings: &Settings, record: &mut Record) {
    const KEY: &str = "terminationGracePeriodSeconds";
    // Kubernetes' own default is 30 s.
    let grace = spec.get(KEY).and_then(Value::as_i64);
    if grace.unwrap_or(30) > settings.stop_seconds() {
        return;
    }
    record.grace_absent = !spec.contains_key(KEY);
    record.grace = grace;
    spec.insert(KEY.to_owned(), settings.grace_seconds().into());
}

fn spec(pod: &mut Value) -> Result<&mut Map<String, Value>, Refusal> {
    pod.get_mut("spec").and_then(Value::as_object_mut).ok_or(Refusal::NoContainers)
}

fn containers(spec: &mut Map<String, Value>) -> Result<&mut Vec<Value>, Refusal> {
    let containers = spec.get_mut("containers").and_then(Value::as_array_mut);
    containers.filter(|containers| !containers.is_empty()).ok_or(Refusal::NoContainers)
}

fn name(container: &Value) -> &str {
    container["name"].as_str().unwrap_or_default()
}

fn append(list: &mut Value, items: Vec<Value>) {
    if let Some(list) = list.as_array_mut() {
        list.extend(items);
    }
}

/// First, so that later init containers find it serving.
fn prepend(list: &mut Value, item: Value) {
    if let Some(list) = list.as_array_mut() {
        list.insert(0, item);
    }
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
