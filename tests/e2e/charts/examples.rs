//! The chart's examples: each renders as committed, and Kubernetes, checkov and Plimsoll itself accept what it renders.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use plimsoll_tests::plimsoll;
use serde_json::Value;

use super::{VERSION, chart, documents, matches_golden, template, validate_all, validator};
use crate::tooling::{root, run, stdout, tool};

/// Folders that the examples' pods mount.
const MODELS: [&str; 2] = ["/models/demo", "/models/qwen3"];

/// The version from which on Kubernetes gives out devices by claims.
const CLAIMS: &str = "1.34";

#[test]
fn examples_render_as_committed() {
    let Some(helm) = tool(".tools/bin/helm") else { return };
    for example in all() {
        let rendered = stdout(template(&helm).arg("--values").arg(values(&example)));
        matches_golden(&golden(&example), &rendered);
    }
}

#[test]
fn examples_are_valid_kubernetes() {
    validate(&[VERSION, CLAIMS]);
}

#[test]
#[ignore = "long: every Kubernetes version"]
fn examples_are_valid_in_every_kubernetes() {
    validate(&["1.29", "1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37"]);
}

#[test]
fn the_validator_finds_a_misspelt_field() {
    let Some(validator) = validator() else { return };
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.yaml");
    let good = fs::read_to_string(golden("engine-cpu")).unwrap();
    fs::write(&wrong, good.replace("livenessProbe", "livenesProbe")).unwrap();
    let (accepted, printed) = run(Command::new(&validator).args(["--strict", "-k", VERSION]).arg(&wrong));
    assert!(!accepted, "the misspelt field passed:\n{printed}");
}

/// Enumerations are no part of Kubernetes' schemas: what is one of few words is looked at here.
#[test]
fn words_of_the_examples_are_kubernetes_own() {
    let known = [
        ("restartPolicy", &["Always", "OnFailure", "Never"][..]),
        ("imagePullPolicy", &["Always", "IfNotPresent", "Never"]),
        ("terminationMessagePolicy", &["File", "FallbackToLogsOnError"]),
        ("whenUnsatisfiable", &["DoNotSchedule", "ScheduleAnyway"]),
        ("allocationMode", &["ExactCount", "All"]),
        ("effect", &["NoSchedule", "PreferNoSchedule", "NoExecute"]),
        ("protocol", &["TCP", "UDP", "SCTP"]),
    ];
    let mut seen = 0;
    for example in all() {
        for document in documents(&fs::read_to_string(golden(&example)).unwrap()) {
            each_pair(&document, &mut |key, value| {
                let Some((_, words)) = known.iter().find(|(name, _)| *name == key) else { return };
                let word = value.as_str().unwrap_or_default();
                assert!(words.contains(&word), "{example}: `{key}: {word}` is none of {words:?}");
                seen += 1;
            });
        }
    }
    assert!(seen > 20, "only {seen} words were looked at");
}

#[test]
fn checkov_finds_no_fault() {
    let Some(checkov) = tool(".tools/checkov/bin/checkov") else { return };
    // Not `tempdir`: checkov looks into no hidden folder.
    let folder = tempfile::Builder::new().prefix("examples").tempdir().unwrap();
    let write = |edit: fn(String) -> String| {
        for example in all() {
            let text = fs::read_to_string(golden(&example)).unwrap();
            fs::write(folder.path().join(example).with_extension("yaml"), edit(text)).unwrap();
        }
    };
    let check = || {
        let mut check = Command::new(&checkov);
        check.args(["--framework", "kubernetes", "--skip-download", "--compact", "--quiet", "--config-file"]);
        check.arg(root().join("tests/charts/checkov.yaml")).arg("--directory").arg(folder.path());
        check
    };
    write(|text| text);
    stdout(&mut check());
    write(|text| text.replace("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false"));
    let (accepted, printed) = run(&mut check());
    assert!(!accepted && printed.contains("CKV_K8S_22"), "a writable root passed:\n{printed}");
}

#[test]
fn configurations_of_the_chart_are_valid() {
    let Some(helm) = tool(".tools/bin/helm") else { return };
    let defaults = stdout(&mut template(&helm));
    let rendered: Vec<_> = all().iter().map(|example| fs::read_to_string(golden(example)).unwrap()).collect();
    let folder = tempfile::tempdir().unwrap();
    let mut checked = 0;
    for document in rendered.iter().chain([&defaults]).flat_map(|text| documents(text)) {
        let Some(config) = document["data"]["config.yaml"].as_str() else { continue };
        let config = MODELS.iter().fold(config.to_owned(), |config, model| {
            config.replace(model, &root().join("engine/demo/model").display().to_string())
        });
        let file = folder.path().join("config.yaml");
        fs::write(&file, &config).unwrap();
        let (valid, printed) = run(plimsoll().args(["validate", "--config"]).arg(&file).envs(environment()));
        assert!(valid, "{printed}\n{config}");
        checked += 1;
    }
    assert_eq!(checked, all().len() + 3, "one an example, one a team, the defaults");
}

/// The names of the examples.
pub(super) fn all() -> Vec<String> {
    let folders = fs::read_dir(chart().join("examples")).unwrap();
    let mut names: Vec<_> =
        folders.map(|folder| folder.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

pub(super) fn values(example: &str) -> PathBuf {
    chart().join("examples").join(example).join("values.yaml")
}

pub(super) fn golden(example: &str) -> PathBuf {
    chart().join("examples").join(example).join("rendered.yaml")
}

/// The environment that the chart gives its sidecar, and the library that the image has.
fn environment() -> [(&'static str, String); 7] {
    let library = root().join(".runtime/libonnxruntime.so").display().to_string();
    [
        ("PLIMSOLL__LISTEN__DATA", "127.0.0.1:7480".into()),
        ("PLIMSOLL__LISTEN__ADMIN", "0.0.0.0:7490".into()),
        ("PLIMSOLL__LISTEN__ADMIN_TOKEN", "token".into()),
        ("PLIMSOLL__LIMITS__DRAIN", "30s".into()),
        ("ORT_DYLIB_PATH", library),
        ("VLLM_API_KEY", "key".into()),
        ("OTLP_TOKEN", "token".into()),
    ]
}

/// Asks Kubernetes' schemas of the versions; claims of devices are asked of those that have them.
fn validate(versions: &[&str]) {
    let Some(validator) = validator() else { return };
    for version in versions {
        let old = *version < CLAIMS;
        let examples = all().into_iter().filter(|example| !(old && example.ends_with("-dra")));
        let files: Vec<_> = examples.map(|example| golden(&example)).collect();
        assert!(files.len() > 5, "{files:?}");
        validate_all(&validator, &files, version);
    }
}

/// Calls `look` with every key and value of the tree.
fn each_pair(node: &Value, look: &mut impl FnMut(&str, &Value)) {
    match node {
        Value::Array(items) => items.iter().for_each(|item| each_pair(item, look)),
        Value::Object(map) => {
            for (key, value) in map {
                look(key, value);
                each_pair(value, look);
            }
        }
        _ => {}
    }
}
