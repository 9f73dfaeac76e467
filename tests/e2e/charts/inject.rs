//! `plimsoll inject`: what it writes is valid Kubernetes, the same sidecar as the chart's, and can be taken out again.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use plimsoll_tests::plimsoll;
use serde_json::Value;

use super::examples::golden;
use super::{VERSION, apart, documents, matches_golden, template, validate_all, validator};
use crate::tooling::{root, run, stdout, tool};

#[test]
fn manifests_are_rewritten_as_committed() {
    matches_golden(&folder().join("injected.yaml"), &injected());
}

#[test]
fn what_is_written_is_valid_kubernetes() {
    validated(&[VERSION]);
}

#[test]
#[ignore = "long: every Kubernetes version"]
fn what_is_written_is_valid_in_every_kubernetes() {
    validated(&["1.29", "1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37"]);
}

#[test]
fn a_second_run_changes_nothing() {
    let once = injected();
    assert_eq!(inject(&["-f", "-"], &once), once);
    let larger = inject(&["-f", "-", "--memory", "4Gi", "--no-env"], &once);
    assert_eq!(larger, inject(&["-f", &shop(), "--memory", "4Gi", "--no-env"], ""));
    assert!(larger.contains("memory: \"4Gi\"") && !larger.contains("value: http://127.0.0.1:7480/v1"));
}

#[test]
fn the_original_comes_back() {
    let original = fs::read_to_string(shop()).unwrap();
    let back = inject(&["-f", "-", "--uninject"], &injected());
    assert_eq!(documents(&back), documents(&original));
    assert_eq!(inject(&["-f", "-", "--uninject"], &original), original, "there was nothing to take out");
    // In the form that `inject` writes, byte for byte.
    let again = inject(&["-f", "-"], &back);
    assert_eq!(inject(&["-f", "-", "--uninject"], &again), back);
}

#[test]
fn other_documents_pass_byte_for_byte() {
    let original = fs::read_to_string(shop()).unwrap();
    let written = injected();
    for (at, untouched) in original.split("---\n").enumerate().filter(|(at, _)| [0, 3, 6].contains(at)) {
        assert!(written.contains(untouched), "document {at} is not as it was:\n{written}");
    }
    assert!(written.contains("---\n# The assistant itself.\n\napiVersion: apps/v1\n"), "{written}");
    let only = "# nothing\n---\n\n---\nkind: Other\n# end\n";
    assert_eq!(inject(&["-f", "-"], only), only);
}

/// Kubernetes' own reader takes the text for what was meant.
#[test]
fn kubectl_reads_what_is_written() {
    let Some(kubectl) = tool(".tools/bin/kubectl") else { return };
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("injected.yaml"), injected()).unwrap();
    fs::write(folder.path().join("kustomization.yaml"), "resources: [injected.yaml]\n").unwrap();
    let read = documents(&stdout(Command::new(kubectl).arg("kustomize").arg(folder.path())));
    let mut written = Vec::new();
    for mut document in documents(&injected()) {
        match document.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => written.extend(items),
            _ => written.push(document),
        }
    }
    assert_eq!(read.len(), written.len());
    for document in written {
        assert!(read.contains(&document), "kubectl reads otherwise: {document}\n{read:?}");
    }
}

#[test]
fn the_sidecar_is_the_charts() {
    let Some(helm) = tool(".tools/bin/helm") else { return };
    let same = [
        (
            vec!["--config-map", "plimsoll", "--admin-secret", "plimsoll-admin"],
            "sidecar.adminToken.existingSecret=plimsoll-admin",
        ),
        (
            vec![
                "--gpus=1",
                "--gpu-resource=nvidia.com/mig-1g.10gb",
                "--models-claim=models",
                "--memory=8Gi",
                "--cpu=2",
                "--image=other:7",
                "--pull-policy=Always",
                "--data-port=8001",
                "--admin-port=8002",
                "--startup-seconds=9",
                "--drain-seconds=20",
                "--env=A=b",
                "--admin-secret-key=admin",
            ],
            "sidecar.gpu.count=1,sidecar.gpu.resource=nvidia.com/mig-1g.10gb,\
             sidecar.models.persistentVolumeClaim.claimName=models,sidecar.models.persistentVolumeClaim.readOnly=true,\
             sidecar.resources.requests.memory=8Gi,sidecar.resources.limits.memory=8Gi,sidecar.resources.requests.cpu='2',\
             sidecar.image.repository=other,sidecar.image.pullPolicy=Always,sidecar.dataPort=8001,sidecar.adminPort=8002,\
             sidecar.startupSeconds=9,sidecar.drainSeconds=20,sidecar.env[0].name=A,sidecar.env[0].value=b,\
             sidecar.adminToken.key=admin",
        ),
        (vec!["--gpu-claim-template=plimsoll-gpu"], "sidecar.gpu.count=1,sidecar.gpu.by=dra"),
    ];
    for (flags, values) in same {
        let mut command = template(&helm);
        command.args([
            "--set",
            &values.replace('\'', ""),
            "--set-string",
            "sidecar.resources.requests.cpu=2",
        ]);
        if flags.iter().any(|flag| flag.starts_with("--image")) {
            command.args(["--set-string", "sidecar.image.tag=7"]);
        } else {
            command.args(["--set-string", "sidecar.resources.requests.cpu=1"]);
        }
        let rendered = documents(&stdout(&mut command));
        let chart = rendered.iter().find(|object| object["kind"] == "Deployment").expect("a Deployment");
        let app = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: app}]}\n";
        let ours = documents(&inject(&[&["-f", "-"], &flags[..]].concat(), app)).remove(0);
        let theirs = &chart["spec"]["template"]["spec"];
        for key in ["initContainers", "volumes", "resourceClaims"] {
            assert_eq!(ours["spec"].get(key), theirs.get(key), "{key} differs for {flags:?}");
        }
        let env = &theirs["containers"][0]["env"][0];
        assert_eq!(&ours["spec"]["containers"][0]["env"][0], env);
    }
}

#[test]
fn faults_are_named_all_at_once_and_nothing_is_written() {
    let wrong = "kind: Pod\napiVersion: v1\nmetadata: {name: one}\nspec: {containers: [{name: a, ports: web}]}\n---\n\
                 kind: Job\napiVersion: batch/v1\nmetadata: {name: two}\nspec: {template: {spec: {containers: []}}}\n---\n\
                 kind: Pod\napiVersion: v1\nmetadata: {name: three}\nspec: {containers: [{name: plimsoll}]}\n---\na: [\n";
    let output = piped(&["-f", "-"], wrong);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let said = String::from_utf8_lossy(&output.stderr);
    for part in [
        "document 1, Pod `one`: `spec.containers[0].ports`: invalid type: string \"web\"",
        "document 2, Job `two`: has no containers",
        "document 3, Pod `three`: has a container `plimsoll` that `plimsoll inject` did not add",
        "document 4: is no YAML that Kubernetes reads",
    ] {
        assert!(said.contains(part), "`{part}` is not said:\n{said}");
    }
    let output = piped(&["-f", "/nowhere/deploy.yaml"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("`/nowhere/deploy.yaml` cannot be read"));
    let (accepted, printed) = run(plimsoll().args(["inject", "-f", "-", "--env", "A"]));
    assert!(!accepted && printed.contains("write NAME=VALUE"), "{printed}");
}

#[test]
fn what_was_done_and_what_is_needed_is_said() {
    let output = piped(&["-f", &shop(), "--config-map", "team-search"], "");
    let said = String::from_utf8_lossy(&output.stderr);
    for part in [
        "document 2, Deployment `assistant`: container `proxied` has a OPENAI_BASE_URL of its own",
        "document 4, DaemonSet `node`: passed through: on the host's network",
        "document 7: passed through: a Deployment is rewritten as `apps/v1`, not as `example.com/v1`",
        "with the sidecar: Deployment `assistant`, StatefulSet `memory`, CronJob `nightly`, Job `once`, Pod `single`",
        "needs ConfigMap `team-search` with `config.yaml` and Secret `plimsoll-admin` with `token`",
    ] {
        assert!(said.contains(part), "`{part}` is not said:\n{said}");
    }
    let rendered = fs::read_to_string(golden("engine-cpu")).unwrap();
    let said = String::from_utf8_lossy(&piped(&["-f", "-"], &rendered).stderr).into_owned();
    assert!(said.contains("did not add"), "the chart's own sidecar is not replaced:\n{said}");
}

fn folder() -> PathBuf {
    root().join("tests/charts/inject")
}

fn shop() -> String {
    folder().join("shop.yaml").display().to_string()
}

fn injected() -> String {
    inject(&["-f", &shop()], "")
}

fn validated(versions: &[&str]) {
    let Some(validator) = validator() else { return };
    let known: Vec<_> = documents(&injected())
        .into_iter()
        .flat_map(|document| document["items"].as_array().cloned().unwrap_or(vec![document]))
        .filter(|document| document["apiVersion"] != "example.com/v1")
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let files = apart(folder.path(), &known);
    for version in versions {
        validate_all(&validator, &files, version);
    }
}

/// What `plimsoll inject` prints for manifests on its standard input; fails the test where it fails.
pub(super) fn inject(args: &[&str], input: &str) -> String {
    let output = piped(args, input);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn piped(args: &[&str], input: &str) -> std::process::Output {
    let mut command = plimsoll();
    command.arg("inject").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A program that reads files leaves its standard input alone.
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()).ok());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}
