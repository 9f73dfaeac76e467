//! Policies in files of their teams: included, reloaded, tested where they stand.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use plimsoll_tests::{Sidecar, get, plimsoll, post};
use serde_json::{Value, json};

use crate::tooling::run;

const CONFIG: &str = "
include: [policies.d/*.yaml]
listen: { data: 127.0.0.1:0, admin: 127.0.0.1:0 }
log: { level: 'off' }
upstreams: { other: { url: 'http://127.0.0.1:9', context: 8000 } }
routes: [{ name: default, upstream: other, policy: search }]
";

fn team(tokens: u32) -> String {
    format!(
        "policies:
  search:
    extends: agent
    steps: [ {{ cap_tool_output: {{ max_tokens: {tokens} }} }} ]
cases:
  - name: a long result is capped
    policy: search
    window: 8000
    given:
      - {{ role: user, content: Read it. }}
      - {{ role: assistant, content: null, tool_calls: [ {{ id: c, type: function, function: {{ name: f, arguments: '{{}}' }} }} ] }}
      - {{ role: tool, tool_call_id: c, content: '{}' }}
    want: {{ actions: {{ cap_tool_output: 1 }} }}
",
        "a row of words\\n\\n".repeat(200)
    )
}

/// Writes one version of a team's ConfigMap and swaps to it, as the kubelet does.
fn swap(mount: &Path, number: u32, text: &str) {
    let folder = mount.join(format!("..{number}"));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("search.yaml"), text).unwrap();
    symlink(format!("..{number}"), mount.join("..data_tmp")).unwrap();
    fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    if number > 1 {
        fs::remove_dir_all(mount.join(format!("..{}", number - 1))).unwrap();
    }
}

/// Asks for the state until it is as wanted; nextest ends a wait that never does.
fn wait_for(sidecar: &Sidecar, wanted: impl Fn(&Value) -> bool) -> Value {
    loop {
        let state = get(&format!("{}/state", sidecar.admin_url)).ok();
        if wanted(&state["config"]) {
            return state["config"].clone();
        }
        std::thread::yield_now();
    }
}

fn capped_at(sidecar: &Sidecar) -> Value {
    let config = get(&format!("{}/config", sidecar.admin_url)).ok();
    config["policies"]["search"]["steps"][0]["cap_tool_output"]["max_tokens"].clone()
}

#[test]
fn a_swapped_config_map_is_in_force_and_a_bad_one_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mount = folder.path().join("policies.d");
    fs::create_dir(&mount).unwrap();
    swap(&mount, 1, &team(700));
    symlink("..data/search.yaml", mount.join("search.yaml")).unwrap();
    let file = folder.path().join("config.yaml");
    fs::write(&file, CONFIG).unwrap();
    let sidecar = Sidecar::watch(&file);
    assert_eq!(capped_at(&sidecar), 700);
    let first = wait_for(&sidecar, |config| config["generation"] == 1);
    swap(&mount, 2, &team(600));
    let second = wait_for(&sidecar, |config| config["generation"] == 2);
    assert_ne!(first["hash"], second["hash"]);
    assert_eq!(capped_at(&sidecar), 600);
    swap(&mount, 3, &team(500).replace("max_tokens", "max_tokns"));
    let refused = wait_for(&sidecar, |config| !config["file"]["last_error"].is_null());
    let fault = &refused["file"]["last_error"]["faults"][0];
    assert_eq!(fault["file"], mount.join("search.yaml").display().to_string(), "{refused:#}");
    assert_eq!((&fault["line"], &refused["generation"]), (&json!(4), &json!(2)), "{refused:#}");
    assert_eq!(fault["hint"], "did you mean `max_tokens`?");
    assert_eq!((&refused["hash"], capped_at(&sidecar)), (&second["hash"], json!(600)));
    let metrics = get(&format!("{}/metrics", sidecar.admin_url)).text();
    assert!(metrics.contains("plimsoll_config_reloads"), "{metrics}");
    swap(&mount, 4, &team(400));
    let last = wait_for(&sidecar, |config| config["generation"] == 3);
    assert_eq!((&last["file"]["last_error"], capped_at(&sidecar)), (&Value::Null, json!(400)));
}

/// Valid as it stands, and still not to be had: the state says so.
#[test]
fn what_cannot_be_put_in_force_is_told_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let plain = CONFIG.replace("include: [policies.d/*.yaml]\n", "").replace("search", "chat");
    fs::write(&file, &plain).unwrap();
    let sidecar = Sidecar::watch(&file);
    let broken = folder.path().join("model");
    fs::create_dir(&broken).unwrap();
    let tokenizer = format!("context: 8000, tokenizer: '{}'", broken.display());
    // In one step: what is half written has other faults.
    fs::write(folder.path().join("new"), plain.replace("context: 8000", &tokenizer)).unwrap();
    fs::rename(folder.path().join("new"), &file).unwrap();
    let refused = wait_for(&sidecar, |config| !config["file"]["last_error"].is_null());
    assert!(refused["file"]["last_error"].to_string().contains("tokenizer.json"), "{refused:#}");
    assert_eq!(refused["generation"], 1);
}

#[test]
fn validate_tells_what_was_included() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("policies.d")).unwrap();
    fs::write(folder.path().join("policies.d/search.yaml"), team(700)).unwrap();
    let file = folder.path().join("config.yaml");
    fs::write(&file, CONFIG).unwrap();
    let validate = || {
        let mut command = plimsoll();
        command.args(["validate", "--config"]).arg(&file);
        command
    };
    let (good, printed) = run(&mut validate());
    let included = format!("included {}: search", folder.path().join("policies.d/search.yaml").display());
    assert!(good && printed.contains(&included), "{printed}");
    fs::write(folder.path().join("policies.d/ops.yaml"), "policies: { search: {} }\nroutes: []\n").unwrap();
    let output = validate().arg("--json").output().unwrap();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &result["valid"]), (Some(1), &json!(false)), "{result:#}");
    assert_eq!(result["faults"]["faults"].as_array().map(Vec::len), Some(2), "{result:#}");
}

#[test]
fn the_cases_of_a_folder_are_run_with_its_policies() {
    let folder = tempfile::tempdir().unwrap();
    let policies = folder.path().join("policies.d");
    fs::create_dir(&policies).unwrap();
    fs::write(policies.join("search.yaml"), team(300)).unwrap();
    fs::write(policies.join("base.yaml"), "policies: { quiet: { extends: search } }").unwrap();
    let case = "- { name: by another file, policy: quiet, window: 8000, given: [ { role: user, content: hi } ], want: { actions: {} } }";
    fs::write(policies.join("quiet.test.yaml"), case).unwrap();
    fs::write(policies.join("notes.yaml"), "anything: else").unwrap();
    // No configuration is needed.
    let test = || {
        let mut command = plimsoll();
        command.args(["policy", "test", "policies.d/"]).current_dir(folder.path());
        command
    };
    let (good, printed) = run(&mut test());
    assert!(good && printed.contains("2 cases: 2 passed, 0 failed"), "{printed}");
    fs::write(policies.join("search.yaml"), team(5000)).unwrap();
    let (good, printed) = run(&mut test());
    assert!(
        !good && printed.contains("FAILED") && printed.contains("-    \"cap_tool_output\": 1"),
        "{printed}"
    );
    fs::write(policies.join("search.yaml"), team(300).replace("extends: agent", "extend: agent")).unwrap();
    let (good, printed) = run(&mut test());
    assert!(
        !good && printed.contains("policies.d/search.yaml:3: policies.search.extend: unknown option"),
        "{printed}"
    );
}

/// The policy that answers is the team's.
#[test]
fn an_included_policy_governs() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("policies.d")).unwrap();
    fs::write(folder.path().join("policies.d/search.yaml"), team(300)).unwrap();
    let file = folder.path().join("config.yaml");
    fs::write(&file, CONFIG).unwrap();
    let sidecar = Sidecar::watch(&file);
    let body = json!({"messages": [{"role": "user", "content": "hi"}]});
    let explained = post(&format!("{}/explain?diff=true", sidecar.admin_url), &body).ok();
    assert_eq!(
        (&explained["report"]["policy"], &explained["diff"]),
        (&json!("search"), &json!("")),
        "{explained:#}"
    );
}
