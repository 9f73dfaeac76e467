//! The Helm chart as a real helm renders it, judged by Kubernetes' own schemas.
//!
//! `PLIMSOLL_UPDATE_GOLDENS=1` writes the examples' `rendered.yaml` anew.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use plimsoll_tests::plimsoll;

use crate::tooling::{root, run, stdout, tool};

const EXAMPLES: [&str; 2] = ["engine-cpu", "http-upstream"];

/// The oldest version that the chart supports, and the one whose kubectl comes with helm.
const VERSIONS: [&str; 2] = ["1.29", "1.33"];

/// Folders that the examples' pods mount.
const MODELS: [&str; 2] = ["/models/demo", "/models/qwen3"];

#[test]
fn helm_finds_no_fault() {
    let Some(helm) = tool(".tools/bin/helm") else { return };
    let lint = || {
        let mut lint = Command::new(&helm);
        lint.args(["lint", "--strict"]).arg(chart());
        lint
    };
    stdout(&mut lint());
    for example in EXAMPLES {
        stdout(lint().arg("--values").arg(values(example)));
    }
}

#[test]
fn examples_render_as_committed() {
    let Some(helm) = tool(".tools/bin/helm") else { return };
    for example in EXAMPLES {
        let rendered = stdout(template(&helm).arg("--values").arg(values(example)));
        let golden = golden(example);
        if std::env::var_os("PLIMSOLL_UPDATE_GOLDENS").is_some() {
            fs::write(&golden, &rendered).unwrap();
        }
        let committed = fs::read_to_string(&golden).unwrap_or_default();
        assert!(
            rendered == committed,
            "{example} renders otherwise, see PLIMSOLL_UPDATE_GOLDENS:\n{rendered}"
        );
    }
}

#[test]
fn examples_are_valid_kubernetes() {
    validate_examples(&VERSIONS);
}

#[test]
#[ignore = "long: every Kubernetes version"]
fn examples_are_valid_in_every_kubernetes() {
    validate_examples(&["1.29", "1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37"]);
}

#[test]
fn defaults_are_valid_kubernetes() {
    let (Some(helm), Some(validator)) = (tool(".tools/bin/helm"), validator()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let rendered = folder.path().join("rendered.yaml");
    fs::write(&rendered, stdout(&mut template(&helm))).unwrap();
    validate(&validator, &rendered, "1.33");
}

#[test]
fn the_validator_finds_a_misspelt_field() {
    let Some(validator) = validator() else { return };
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.yaml");
    let good = fs::read_to_string(golden(EXAMPLES[0])).unwrap();
    fs::write(&wrong, good.replace("livenessProbe", "livenesProbe")).unwrap();
    let (accepted, printed) = run(Command::new(&validator).args(["--strict", "-k", "1.33"]).arg(&wrong));
    assert!(!accepted, "the misspelt field passed:\n{printed}");
}

#[test]
fn wrong_values_are_refused_with_their_path() {
    let Some(helm) = tool(".tools/bin/helm") else { return };
    let wrong = [
        ("sidecar.dataPort=70000", "/sidecar/dataPort"),
        ("sidecar.adminPort=80", "/sidecar/adminPort"),
        ("sidecar.drain=5", "'drain' not allowed"),
        ("sidecar.models.hostPath=a,sidecar.models.emptyDir=b", "/sidecar/models"),
        ("app.image.tag=", "/app/image/tag"),
        ("service.type=External", "/service/type"),
        ("rules.enabled=maybe", "/rules/enabled"),
        ("dashboards.label=a", "'label' not allowed"),
        ("config=", "/config"),
        ("sidecar.drainSeconds=55", "terminationGracePeriodSeconds must exceed"),
    ];
    for (value, why) in wrong {
        let (accepted, printed) = run(template(&helm).args(["--set", value]));
        assert!(!accepted, "`{value}` was accepted");
        assert!(printed.contains(why), "`{value}` was refused without naming `{why}`:\n{printed}");
    }
}

#[test]
fn a_changed_configuration_restarts_the_pods() {
    let Some(helm) = tool(".tools/bin/helm") else { return };
    let checksum = |config: &str| {
        let rendered = stdout(template(&helm).args(["--set-string", &format!("config={config}")]));
        rendered
            .lines()
            .find(|line| line.contains("checksum/config:"))
            .map(str::to_owned)
            .expect("a checksum")
    };
    assert_eq!(checksum("a"), checksum("a"));
    assert_ne!(checksum("a"), checksum("b"));
}

#[test]
fn another_chart_takes_the_sidecar() {
    let (Some(helm), Some(validator)) = (tool(".tools/bin/helm"), validator()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let parent = folder.path().join("parent");
    copy(&root().join("tests/charts/parent"), &parent).unwrap();
    copy(&chart(), &parent.join("charts/plimsoll")).unwrap();

    let rendered = stdout(Command::new(&helm).args(["template", "batch"]).arg(&parent));
    assert_eq!(rendered.matches("kind: ").count(), 2, "a ConfigMap and the parent's Job:\n{rendered}");
    let sidecar = |text: &str| section(text, "initContainers:").replace("batch-plimsoll", "plimsoll");
    let token = "sidecar.adminToken.existingSecret=plimsoll-admin-token";
    let alone = stdout(template(&helm).args(["--set", token]));
    assert_eq!(sidecar(&rendered), sidecar(&alone), "the parent's sidecar differs");

    let file = folder.path().join("rendered.yaml");
    fs::write(&file, rendered).unwrap();
    validate(&validator, &file, "1.33");
}

#[test]
fn configurations_of_the_chart_are_valid() {
    let Some(helm) = tool(".tools/bin/helm") else { return };
    let defaults = stdout(&mut template(&helm));
    let rendered = EXAMPLES.map(|example| fs::read_to_string(golden(example)).unwrap());
    let folder = tempfile::tempdir().unwrap();
    for text in rendered.iter().chain([&defaults]) {
        let config = MODELS.iter().fold(section(text, "config.yaml: |"), |config, model| {
            config.replace(model, &root().join("engine/demo/model").display().to_string())
        });
        let file = folder.path().join("config.yaml");
        fs::write(&file, &config).unwrap();
        let (valid, printed) = run(plimsoll().args(["validate", "--config"]).arg(&file).envs(environment()));
        assert!(valid, "{printed}\n{config}");
    }
}

/// The environment that the chart gives its sidecar, and the library that the image has.
fn environment() -> [(&'static str, String); 5] {
    let library = root().join(".runtime/libonnxruntime.so").display().to_string();
    [
        ("PLIMSOLL__LISTEN__DATA", "127.0.0.1:7480".into()),
        ("PLIMSOLL__LISTEN__ADMIN", "0.0.0.0:7490".into()),
        ("PLIMSOLL__LISTEN__ADMIN_TOKEN", "token".into()),
        ("PLIMSOLL__LIMITS__DRAIN", "30s".into()),
        ("ORT_DYLIB_PATH", library),
    ]
}

pub(crate) fn chart() -> PathBuf {
    root().join("charts/plimsoll")
}

fn values(example: &str) -> PathBuf {
    chart().join("examples").join(example).join("values.yaml")
}

fn golden(example: &str) -> PathBuf {
    chart().join("examples").join(example).join("rendered.yaml")
}

pub(crate) fn validator() -> Option<PathBuf> {
    tool(".venv/bin/kubernetes-validate")
}

/// `helm template` of the chart, for values to be added.
pub(crate) fn template(helm: &Path) -> Command {
    let mut template = Command::new(helm);
    template.args(["template", "plimsoll"]).arg(chart());
    template
}

fn validate_examples(versions: &[&str]) {
    let Some(validator) = validator() else { return };
    for example in EXAMPLES {
        for version in versions {
            validate(&validator, &golden(example), version);
        }
    }
}

pub(crate) fn validate(validator: &Path, file: &Path, version: &str) {
    stdout(Command::new(validator).args(["--strict", "--quiet", "-k", version]).arg(file));
}

/// The lines below `key` that are indented deeper than it, without that indentation.
pub(crate) fn section(text: &str, key: &str) -> String {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut lines = text.lines().skip_while(|line| line.trim() != key);
    let indent = depth(lines.next().expect("the key is in the text"));
    let inside = lines.take_while(|line| line.is_empty() || depth(line) > indent);
    inside.map(|line| format!("{}\n", line.get(indent + 2..).unwrap_or_default())).collect()
}

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
