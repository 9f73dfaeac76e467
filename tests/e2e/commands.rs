//! The commands, run as users run them: output, messages and exit codes.

use plimsoll_tests::mock::{Answer, Mock};
use plimsoll_tests::plimsoll;
use serde_json::Value;

use crate::tooling::run;

#[test]
fn the_shipped_configurations_are_valid() {
    let (good, printed) = run(plimsoll().arg("validate"));
    assert!(good, "{printed}");
    assert!(printed.contains("valid: 1 routes, 1 upstreams"), "{printed}");
    assert!(!printed.contains("warning"), "{printed}");
    let (good, printed) = run(plimsoll().args(["validate", "--config", "engine/demo/eval/config.yaml"]));
    assert!(good && !printed.contains("warning"), "{printed}");
}

#[test]
fn five_faults_are_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.yaml");
    std::fs::write(
        &file,
        "
listen: { data: 127.0.0.1:0, admin: 127.0.0.1:0, dta: 1 }
upstreams:
  local: { engine: { model: no/such/folder, slots: many } }
routes:
  - { name: default, upstream: locl, policy: chatt }
",
    )
    .unwrap();
    let output = plimsoll().args(["validate", "--json", "--config"]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    let faults = result["faults"].to_string();
    for part in [
        "listen.dta",
        "upstreams.local.engine.model",
        "upstreams.local.engine.slots",
        "routes[0].upstream",
        "routes[0].policy",
    ] {
        assert!(faults.contains(part), "{part} is not in {faults}");
    }
    // As text: every path again, and what was probably meant.
    let (good, printed) = run(plimsoll().args(["validate", "--config"]).arg(&file));
    assert!(!good && printed.contains("`local`") && printed.contains("`chat`"), "{printed}");
    // A sidecar does not start on it.
    let served = plimsoll().args(["serve", "--config"]).arg(&file).output().unwrap();
    assert_eq!(served.status.code(), Some(1));
}

#[test]
fn what_cannot_run_ends_with_two() {
    for (arguments, part) in [
        (vec!["explain", "no-such-file.json"], "no-such-file.json"),
        (vec!["explain", "Makefile"], "not a chat request"),
        (vec!["validate", "--config", "no-such-file.yaml"], "no-such-file.yaml: cannot be read"),
        (vec!["serve", "--config", "no-such-file.yaml"], "no-such-file.yaml: cannot be read"),
        (vec!["validate", "--config", "/"], "/: cannot be read"),
        (vec!["nonsense"], "unrecognized subcommand"),
    ] {
        let output = plimsoll().args(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(part), "{output:?}");
    }
}

#[test]
fn a_stranger_is_no_sidecar() {
    let stranger = Mock::start(vec![Answer::json(r#"{"status": "ok", "version": "3"}"#)]);
    let admin = ["--admin", &stranger.url];
    for command in [&["ps"][..], &["ps", "--json"], &["top", "--once"], &["slots", "list"]] {
        let output = plimsoll().args(command).args(admin).output().unwrap();
        let told = format!("{output:?}");
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains("is no plimsoll"), "{command:?}: {told}");
    }
}

#[test]
fn a_model_folder_with_a_missing_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    std::fs::create_dir(&model).unwrap();
    let demo = plimsoll_tests::shared::root().join("engine/demo/model");
    for file in demo.read_dir().unwrap().flatten().filter(|file| file.file_name() != "tokenizer.json") {
        std::fs::copy(file.path(), model.join(file.file_name())).unwrap();
    }
    let set = format!("upstreams.local.engine.model={}", model.display());
    let ports = ["--set", "listen.data=127.0.0.1:0", "--set", "listen.admin=127.0.0.1:0"];
    let (good, printed) = run(plimsoll().args(["serve", "--set", &set]).args(ports));
    assert!(!good && printed.contains("tokenizer.json"), "{printed}");
}

#[test]
fn help_tells_of_every_command() {
    let (good, printed) = run(plimsoll().arg("--help"));
    assert!(
        good && ["serve", "validate", "explain", "ps"].iter().all(|command| printed.contains(command)),
        "{printed}"
    );
}
