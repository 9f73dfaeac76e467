//! What is asked of the Prometheus operator and of the autoscaler: Kubernetes' schemas do not know the first, so that the fields
//! the chart uses are described here, as the operator's definitions have them.

use serde_json::{Value, json};

use super::{documents, template};
use crate::tooling::{stdout, tool};

/// Values that turn on all that watches and bounds the pods.
const ALL: &str = "podMonitor.enabled=true,podMonitor.labels.release=prometheus,serviceMonitor.enabled=true,\
                   autoscaling.enabled=true,podDisruptionBudget.enabled=true,networkPolicy.enabled=true";

#[test]
fn monitors_are_what_the_operator_takes() {
    let Some(rendered) = rendered(ALL) else { return };
    for (kind, endpoints) in [("PodMonitor", "podMetricsEndpoints"), ("ServiceMonitor", "endpoints")] {
        let validator = jsonschema::validator_for(&monitor(kind, endpoints)).unwrap();
        let object = of_kind(&rendered, kind).expect("the monitor");
        let faults: Vec<_> = validator.iter_errors(object).map(|fault| fault.to_string()).collect();
        assert!(faults.is_empty(), "{kind}: {faults:?}");
        let mut wrong = object.clone();
        wrong["spec"][endpoints][0]["scrapeInterval"] = json!("30s");
        assert!(!validator.is_valid(&wrong), "an unknown field passed");
    }
}

/// Whatever selects pods or ports by name selects what is there.
#[test]
fn selectors_find_the_pods_and_their_ports() {
    let Some(rendered) = rendered(ALL) else { return };
    let deployment = of_kind(&rendered, "Deployment").expect("a Deployment");
    let pod = &deployment["spec"]["template"];
    let labels = pod["metadata"]["labels"].as_object().expect("labels");
    let selectors = [
        &deployment["spec"]["selector"]["matchLabels"],
        &of_kind(&rendered, "PodMonitor").expect("it")["spec"]["selector"]["matchLabels"],
        &of_kind(&rendered, "PodDisruptionBudget").expect("it")["spec"]["selector"]["matchLabels"],
        &of_kind(&rendered, "NetworkPolicy").expect("it")["spec"]["podSelector"]["matchLabels"],
    ];
    let services = rendered.iter().filter(|object| object["kind"] == "Service");
    for selector in selectors.into_iter().chain(services.clone().map(|service| &service["spec"]["selector"]))
    {
        let selector = selector.as_object().expect("a selector");
        assert!(!selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value)));
    }
    let containers =
        ["initContainers", "containers"].map(|key| pod["spec"][key].as_array().expect("containers"));
    let ports: Vec<_> = containers
        .into_iter()
        .flatten()
        .flat_map(|container| container["ports"].as_array().expect("ports"))
        .map(|port| port["name"].clone())
        .collect();
    assert_eq!(ports, ["plimsoll-admin", "http"]);
    for port in services.flat_map(|service| service["spec"]["ports"].as_array().expect("ports")) {
        assert!(ports.contains(&port["targetPort"]), "{port}");
    }
    let monitor = of_kind(&rendered, "ServiceMonitor").expect("it");
    let wanted = monitor["spec"]["selector"]["matchLabels"].as_object().expect("a selector");
    let mut watched = rendered.iter().filter(|object| {
        object["kind"] == "Service"
            && wanted.iter().all(|(key, value)| object["metadata"]["labels"].get(key) == Some(value))
    });
    let service = watched.next().expect("a Service to watch");
    assert_eq!(service["spec"]["ports"][0]["name"], monitor["spec"]["endpoints"][0]["port"]);
    assert!(watched.next().is_none(), "pods would be scraped twice");
}

#[test]
fn nothing_watches_by_default_and_the_autoscaler_owns_the_replicas() {
    let (Some(plain), Some(all)) = (rendered("app.replicas=2"), rendered(ALL)) else { return };
    let kinds: Vec<_> = plain.iter().filter_map(|object| object["kind"].as_str()).collect();
    assert_eq!(kinds, ["ServiceAccount", "Secret", "ConfigMap", "Service", "Deployment"]);
    assert_eq!(of_kind(&plain, "Deployment").expect("it")["spec"]["replicas"], 2);
    assert!(of_kind(&all, "Deployment").expect("it")["spec"].get("replicas").is_none());
    let scaler = &of_kind(&all, "HorizontalPodAutoscaler").expect("it")["spec"];
    assert_eq!(scaler["scaleTargetRef"]["name"], "plimsoll");
    assert_eq!(scaler["metrics"][0]["pods"]["metric"]["name"], "plimsoll_admission_queue_depth");
}

fn rendered(values: &str) -> Option<Vec<Value>> {
    let helm = tool(".tools/bin/helm")?;
    Some(documents(&stdout(template(&helm).args(["--set", values]))))
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Option<&'a Value> {
    objects.iter().find(|object| object["kind"] == kind)
}

/// The fields of a monitor that the chart may use.
fn monitor(kind: &str, endpoints: &str) -> Value {
    let labels = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let endpoint = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["port"],
        "properties": {
            "port": {"type": "string", "maxLength": 15, "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$"},
            "path": {"type": "string", "pattern": "^/"},
            "interval": {"type": "string", "pattern": "^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$"},
        },
    });
    let mut spec = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["selector", endpoints],
        "properties": {
            "selector": {
                "type": "object",
                "additionalProperties": false,
                "properties": {"matchLabels": labels, "matchExpressions": {"type": "array"}},
            },
        },
    });
    spec["properties"][endpoints] = json!({"type": "array", "minItems": 1, "items": endpoint});
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": "monitoring.coreos.com/v1"},
            "kind": {"const": kind},
            "metadata": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string", "minLength": 1}, "labels": labels},
            },
            "spec": spec,
        },
    })
}
