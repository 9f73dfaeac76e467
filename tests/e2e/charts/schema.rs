//! The schema of the chart's values: its part on `config` is made from the configuration's own types.

use std::fs;

use plimsoll_proxy::config;
use serde_json::{Map, Value, json};

use super::{chart, matches_golden, template};
use crate::tooling::{run, stdout, tool};

/// What the names of generated definitions begin with.
const PREFIX: &str = "config.";

#[test]
fn the_configuration_in_the_schema_is_that_of_the_types() {
    let path = chart().join("values.schema.json");
    let mut schema: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let definitions = schema["definitions"].as_object_mut().expect("definitions");
    definitions.retain(|name, _| !name.starts_with(PREFIX));
    definitions.extend(of_configuration(config::schema()));
    matches_golden(&path, &format!("{}\n", serde_json::to_string_pretty(&schema).unwrap()));
}

#[test]
fn wrong_values_are_refused_with_their_path() {
    let Some(helm) = tool(".tools/bin/helm") else { return };
    let wrong = [
        ("sidecar.dataPort=70000", "/sidecar/dataPort"),
        ("sidecar.adminPort=80", "/sidecar/adminPort"),
        ("sidecar.drain=5", "'drain' not allowed"),
        ("sidecar.models.hostPath=a,sidecar.models.emptyDir=b", "/sidecar/models"),
        ("sidecar.gpu.count=-1", "/sidecar/gpu/count"),
        ("sidecar.gpu.by=mps", "/sidecar/gpu/by"),
        ("app.image.tag=", "/app/image/tag"),
        ("service.type=External", "/service/type"),
        ("rules.enabled=maybe", "/rules/enabled"),
        ("dashboards.label=a", "'label' not allowed"),
        ("config=text", "/config"),
        ("config.upstreams.a.url=http://a", "missing property 'routes'"),
        ("config.listener.data=a", "'listener' not allowed"),
        ("teams.search.limits.requests=many", "/teams/search/limits/requests"),
        ("teams.search.policies.p.extends=5", "/teams/search/policies/p"),
        ("teams.Search.log.level=info", "Search"),
        ("team=search", "`teams` does not have"),
        ("autoscaling.averageValue=few", "/autoscaling/averageValue"),
        ("podDisruptionBudget.maxUnavailable=0", "/podDisruptionBudget/maxUnavailable"),
        ("podMonitor.interval=often", "/podMonitor/interval"),
        ("sidecar.drainSeconds=55", "terminationGracePeriodSeconds must exceed 60"),
        ("standalone.enabled=true", "exclude each other"),
        (
            "standalone.enabled=true,app.enabled=false,standalone.preStopSeconds=30",
            "terminationGracePeriodSeconds must exceed 65",
        ),
    ];
    for (value, why) in wrong {
        let (accepted, printed) = run(template(&helm).args(["--set", value]));
        assert!(!accepted, "`{value}` was accepted");
        assert!(printed.contains(why), "`{value}` was refused without naming `{why}`:\n{printed}");
    }
}

#[test]
fn gpu_claims_need_a_kubernetes_that_has_them() {
    let Some(helm) = tool(".tools/bin/helm") else { return };
    let dra = |version: &str| {
        let mut command = template(&helm);
        command.args(["--set", "sidecar.gpu.count=1,sidecar.gpu.by=dra", "--kube-version", version]);
        command
    };
    let (accepted, printed) = run(&mut dra("1.33"));
    assert!(!accepted && printed.contains("needs Kubernetes 1.34"), "{printed}");
    assert!(stdout(&mut dra("1.34")).contains("kind: ResourceClaimTemplate"));
}

/// The definitions that a schema of draft 2020-12 is, for one of draft 7: helm before 3.18 knows no later.
fn of_configuration(mut schema: Value) -> Map<String, Value> {
    refer(&mut schema);
    let mut root = schema.as_object().expect("an object").clone();
    root.remove("$schema");
    let Some(Value::Object(kinds)) = root.remove("$defs") else { panic!("no definitions") };
    // A team's part needs nothing that `config` has.
    let mut part = root.clone();
    part.remove("required");
    part.insert("description".to_owned(), json!("What a team has in place of `config`'s, or besides."));
    let mut definitions = Map::new();
    definitions.insert(format!("{PREFIX}Root"), Value::Object(root));
    definitions.insert(format!("{PREFIX}Part"), Value::Object(part));
    definitions.extend(kinds.into_iter().map(|(name, kind)| (format!("{PREFIX}{name}"), kind)));
    definitions
}

/// Points references at the new names. Beside a reference draft 7 heeds nothing, so what stands there is joined to it.
fn refer(node: &mut Value) {
    match node {
        Value::Array(items) => items.iter_mut().for_each(refer),
        Value::Object(map) => {
            map.values_mut().for_each(refer);
            let name = map.get("$ref").and_then(|to| to.as_str()?.strip_prefix("#/$defs/"));
            if let Some(to) = name.map(|name| format!("#/definitions/{PREFIX}{name}")) {
                map.shift_remove("$ref");
                let key = if map.is_empty() { "$ref" } else { "allOf" };
                let value = if map.is_empty() { json!(to) } else { json!([{ "$ref": to }]) };
                assert!(map.insert(key.to_owned(), value).is_none(), "`allOf` beside a reference");
            }
        }
        _ => {}
    }
}
