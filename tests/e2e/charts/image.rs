//! The Dockerfile: judged by linters, what it copies is there, what it pins is pinned alike elsewhere, and what it assembles
//! beneath the program carries it. Nothing here builds an image.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use plimsoll_tests::process::greeting;
use plimsoll_tests::{get, plimsoll, post};
use regex::Regex;
use serde_json::json;

use super::copy;
use crate::tooling::{root, run, stdout, tool};

/// As the image's own model is served, on free ports.
const CONFIG: &str = "listen: { data: 127.0.0.1:0, admin: 127.0.0.1:0 }\nupstreams: { local: { engine: { model: \
                      /models/demo, name: demo } } }\nroutes: [{ name: default, upstream: local, policy: chat }]\n";

#[test]
fn linters_find_no_fault() {
    let Some(hadolint) = tool(".tools/checkov/bin/hadolint") else { return };
    let Some(checkov) = tool(".tools/checkov/bin/checkov") else { return };
    let file = root().join("Dockerfile");
    stdout(Command::new(&hadolint).arg(&file));
    stdout(
        Command::new(checkov)
            .args(["--framework", "dockerfile", "--skip-download", "--compact", "--quiet", "--file"])
            .arg(&file),
    );
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("Dockerfile");
    fs::write(&wrong, fs::read_to_string(&file).unwrap().replace("WORKDIR /src", "WORKDIR src")).unwrap();
    let (accepted, printed) = run(Command::new(hadolint).arg(wrong));
    assert!(!accepted && printed.contains("DL3000"), "{printed}");
}

#[test]
fn what_is_copied_is_there() {
    let ignored = fs::read_to_string(root().join(".dockerignore")).unwrap();
    let ignored: Vec<_> = ignored.lines().filter(|line| !line.starts_with('#')).collect();
    let mut copied = 0;
    for line in dockerfile().lines().filter_map(|line| line.strip_prefix("COPY ")) {
        let words: Vec<_> = line.split_whitespace().collect();
        let (_, sources) = words.split_last().expect("a target");
        if sources[0].starts_with("--from=") {
            continue;
        }
        for source in sources {
            assert!(root().join(source).exists(), "`{source}` is not there");
            let first = source.split('/').next().unwrap_or_default();
            assert!(!ignored.contains(&first), "`{source}` is left out by .dockerignore");
            copied += 1;
        }
    }
    assert!(copied > 7, "{copied}");
    assert!(ignored.contains(&"target") && ignored.contains(&".*"), "builds and secrets stay outside");
    for script in ["charts/image/rootfs.sh", "tests/setup/onnxruntime.sh"] {
        stdout(Command::new("bash").arg("-n").arg(root().join(script)));
    }
}

#[test]
fn versions_are_those_of_the_repository() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let cpu = found(&read("tests/setup/onnxruntime.txt"), r"onnxruntime==(\S+)");
    let wanted = found(&read("tests/setup/onnxruntime-gpu.in"), r"onnxruntime-gpu\[cuda,cudnn\]==(\S+)");
    let locked = found(&read("tests/setup/onnxruntime-gpu.txt"), r"onnxruntime-gpu==(\S+)");
    assert_eq!((&wanted, &locked), (&cpu, &cpu));
    let manifest = read("Cargo.toml");
    assert_eq!(cpu.split('.').nth(1), Some(found(&manifest, r#"^ort = .*"api-(\d+)""#).as_str()));
    let rust = found(&manifest, r#"^rust-version = "([^"]+)""#);
    assert!(dockerfile().contains(&format!("FROM rust:{rust}-bookworm ")), "another Rust than {rust}");
    let chart = found(&read("charts/plimsoll/Chart.yaml"), "^appVersion: (.+)$");
    assert_eq!(chart, found(&manifest, r#"^version = "([^"]+)""#));
    assert!(dockerfile().contains(&format!("-t plimsoll:{chart} .")), "the command names another version");
}

/// The user, the token's and the model's places are those that the chart's pods rely on.
#[test]
fn the_image_is_what_pods_expect() {
    let file = dockerfile();
    let expected = [
        "USER 65532:65532",
        "ENTRYPOINT [\"/usr/local/bin/plimsoll\"]",
        "COPY engine/demo/model /models/demo",
        "ENV ORT_DYLIB_PATH=/opt/onnxruntime/libonnxruntime.so",
    ];
    for line in expected {
        assert!(file.contains(&format!("{line}\n")), "`{line}` is not there");
    }
    let stages: Vec<_> = file.lines().filter_map(|line| line.strip_prefix("FROM ")).collect();
    assert_eq!(stages.last(), Some(&"runtime AS cpu"), "a build without a target makes the CPU's variant");
    assert!(stages.contains(&"runtime AS cuda") && stages.contains(&"scratch AS runtime"));
}

#[test]
#[ignore = "long: fetches Debian packages"]
fn the_program_runs_on_the_images_files_alone() {
    if !run(Command::new("unshare").args(["--mount", "true"])).0 {
        eprintln!("skipped: only root may mount and change the root folder");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path();
    stdout(Command::new("bash").arg(root().join("charts/image/rootfs.sh")).arg(image));
    for place in ["usr/local/bin", "opt/onnxruntime", "models", "etc/plimsoll", "proc"] {
        fs::create_dir_all(image.join(place)).unwrap();
    }
    fs::copy(plimsoll().get_program(), image.join("usr/local/bin/plimsoll")).unwrap();
    let library = "libonnxruntime.so";
    fs::copy(root().join(".runtime").join(library), image.join("opt/onnxruntime").join(library)).unwrap();
    copy(&root().join("engine/demo/model"), &image.join("models/demo")).unwrap();
    fs::write(image.join("etc/plimsoll/config.yaml"), CONFIG).unwrap();
    assert!(!image.join("bin/sh").exists() && !image.join("usr/bin/apt").exists());

    let (mut serving, url) = serve(image);
    let asked = json!({"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4});
    assert_eq!(post(&format!("{url}/chat/completions"), &asked).status, 200);
    assert_eq!(get(&format!("{url}/models")).status, 200);
    stdout(Command::new("kill").arg(serving.id().to_string()));
    assert!(serving.wait().unwrap().success(), "the signal to stop ends it well");
}

/// The program as the image's user, in the image's files; and its base address.
fn serve(image: &Path) -> (Child, String) {
    // As a container has it: a /proc, seen by this process alone.
    let enter = r#"mount --rbind /proc "$0/proc" && exec chroot --userspec=65532:65532 "$0" "$@""#;
    let mut serving = Command::new("unshare")
        .args(["--mount", "sh", "-c", enter])
        .arg(image)
        .args(["/usr/local/bin/plimsoll", "serve", "--config", "/etc/plimsoll/config.yaml"])
        .env("ORT_DYLIB_PATH", "/opt/onnxruntime/libonnxruntime.so")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let base = found(&greeting(&mut serving), r"(http://\S+/v1)");
    (serving, base)
}

fn dockerfile() -> String {
    fs::read_to_string(root().join("Dockerfile")).unwrap()
}

/// What the pattern's group finds in the text.
fn found(text: &str, pattern: &str) -> String {
    let pattern = Regex::new(&format!("(?m){pattern}")).unwrap();
    pattern.captures(text).unwrap_or_else(|| panic!("`{pattern}` finds nothing in:\n{text}"))[1].to_owned()
}
