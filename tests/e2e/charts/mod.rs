//! The Helm chart as a real helm renders it, judged by Kubernetes' own schemas.
//!
//! `PLIMSOLL_UPDATE_GOLDENS=1` writes what is generated anew: the examples' `rendered.yaml`, the configuration's part of
//! `values.schema.json`, the values in the chart's README.

mod examples;
mod inject;
mod kustomize;
mod monitors;
mod readme;
mod schema;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::tooling::{root, stdout, tool};

/// The version whose kubectl comes with helm.
const VERSION: &str = "1.33";

#[test]
fn helm_finds_no_fault() {
    let Some(helm) = tool(".tools/bin/helm") else { return };
    let lint = || {
        let mut lint = Command::new(&helm);
        lint.args(["lint", "--strict"]).arg(chart());
        lint
    };
    stdout(&mut lint());
    for example in examples::all() {
        stdout(lint().arg("--values").arg(examples::values(&example)));
    }
}

#[test]
fn defaults_are_valid_kubernetes() {
    let (Some(helm), Some(validator)) = (tool(".tools/bin/helm"), validator()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let rendered = folder.path().join("rendered.yaml");
    fs::write(&rendered, stdout(&mut template(&helm))).unwrap();
    validate(&validator, &rendered, VERSION);
}

#[test]
fn a_changed_configuration_restarts_the_pods() {
    let Some(helm) = tool(".tools/bin/helm") else { return };
    let checksum = |level: &str| {
        let values = format!("teams.a.log.level={level},team=a");
        let rendered = stdout(template(&helm).args(["--set", &values]));
        rendered
            .lines()
            .find(|line| line.contains("checksum/config:"))
            .map(str::to_owned)
            .expect("a checksum")
    };
    assert_eq!(checksum("info"), checksum("info"));
    assert_ne!(checksum("info"), checksum("debug"));
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
    validate(&validator, &file, VERSION);
}

pub(crate) fn chart() -> PathBuf {
    root().join("charts/plimsoll")
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

pub(crate) fn validate(validator: &Path, file: &Path, version: &str) {
    validate_all(validator, &[file.to_owned()], version);
}

fn validate_all(validator: &Path, files: &[PathBuf], version: &str) {
    assert!(!files.is_empty(), "nothing to validate");
    stdout(Command::new(validator).args(["--strict", "--quiet", "-k", version]).args(files));
}

/// Each document in a file of its own: the validator of Kubernetes' schemas knows no List.
fn apart(folder: &Path, documents: &[Value]) -> Vec<PathBuf> {
    let write = |(at, document): (usize, &Value)| {
        let file = folder.join(format!("{at}.yaml"));
        fs::write(&file, document.to_string()).unwrap();
        file
    };
    documents.iter().enumerate().map(write).collect()
}

/// The documents of a YAML text, with numbers as Kubernetes reads them.
fn documents(yaml: &str) -> Vec<Value> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let documents: Vec<Value> =
        serde_saphyr::from_multiple_with_options(yaml, options).expect("the text is YAML");
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// Compares a generated text with the committed one, or writes it.
fn matches_golden(golden: &Path, text: &str) {
    if std::env::var_os("PLIMSOLL_UPDATE_GOLDENS").is_some() {
        fs::write(golden, text).unwrap();
    }
    let committed = fs::read_to_string(golden).unwrap_or_default();
    assert!(
        text == committed,
        "{} is not what is generated, see PLIMSOLL_UPDATE_GOLDENS:\n{text}",
        golden.display()
    );
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
