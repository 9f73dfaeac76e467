//! The Kustomize component, as a real kubectl applies it.

use std::fs;
use std::process::Command;

use plimsoll_tests::plimsoll;
use serde_json::Value;

use super::inject::inject;
use super::{VERSION, apart, documents, validate_all, validator};
use crate::tooling::{root, run, stdout, tool};

/// A workload with nothing of its own to be told apart from what is added.
const BARE: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: any}\nspec: {selector: {}, template: {spec: \
                    {containers: [{name: app}]}}}\n";

#[test]
fn the_patch_is_what_inject_adds() {
    let injected = documents(&inject(&["-f", "-", "--no-env"], BARE)).remove(0);
    let spec = injected["spec"]["template"]["spec"].as_object().expect("a pod");
    let path = root().join("charts/kustomize/component/sidecar.yaml");
    let patch = documents(&fs::read_to_string(path).unwrap()).remove(0);
    let patch = patch["spec"]["template"]["spec"].as_object().expect("a pod");
    for (key, value) in spec.iter().filter(|(key, _)| *key != "containers") {
        assert_eq!(patch.get(key), Some(value), "{key} differs");
    }
    assert_eq!(patch.len(), spec.len() - 1);
}

#[test]
fn labelled_workloads_get_the_sidecar() {
    let Some(built) = built() else { return };
    let pod = |name: &str| {
        let found =
            built.iter().find(|object| object["kind"] == "Deployment" && object["metadata"]["name"] == name);
        &found.unwrap_or_else(|| panic!("no {name} in {built:?}"))["spec"]["template"]["spec"]
    };
    let job = built.iter().find(|object| object["kind"] == "Job").expect("a Job");
    assert_eq!(job["spec"]["template"]["spec"]["initContainers"][0]["name"], "plimsoll");
    assert!(pod("front").get("initContainers").is_none());
    let assistant = pod("assistant");
    let init = assistant["initContainers"].as_array().expect("init containers");
    let names: Vec<_> = init.iter().map(|container| &container["name"]).collect();
    assert_eq!(names, ["plimsoll", "migrate"], "the sidecar serves before the others start");
    let wanted = documents(&inject(&["-f", "-", "--memory", "2Gi"], BARE)).remove(0);
    let wanted = &wanted["spec"]["template"]["spec"];
    assert_eq!(init[0], wanted["initContainers"][0]);
    assert_eq!(assistant["containers"][0]["env"], wanted["containers"][0]["env"]);
    let map = built.iter().find(|object| object["kind"] == "ConfigMap").expect("a ConfigMap");
    assert_eq!(
        assistant["volumes"][0]["configMap"]["name"], map["metadata"]["name"],
        "kustomize renames both"
    );
    assert_eq!(assistant["volumes"][1], wanted["volumes"][1]);
    assert_eq!(assistant["terminationGracePeriodSeconds"], 60);
}

#[test]
fn what_is_built_is_valid_for_kubernetes_and_plimsoll() {
    let (Some(built), Some(validator)) = (built(), validator()) else { return };
    let folder = tempfile::tempdir().unwrap();
    validate_all(&validator, &apart(folder.path(), &built), VERSION);
    for object in &built {
        if let Some(config) = object["data"]["config.yaml"].as_str() {
            let file = folder.path().join("config.yaml");
            fs::write(&file, config).unwrap();
            let (valid, printed) = run(plimsoll().args(["validate", "--config"]).arg(&file));
            assert!(valid, "{printed}");
        }
    }
    assert_eq!(built.len(), 4);
}

fn built() -> Option<Vec<Value>> {
    let kubectl = tool(".tools/bin/kubectl")?;
    let example = root().join("charts/kustomize/example");
    Some(documents(&stdout(Command::new(kubectl).arg("kustomize").arg(example))))
}
