//! `plimsoll plan`: what fits, beside what a sidecar on the same model says of itself.

use plimsoll_tests::shared::one_engine;
use plimsoll_tests::{Sidecar, get, plimsoll, post};
use serde_json::{Value, json};

use crate::tooling::{run, stdout};

const MODEL: &str = "engine/demo/model";

fn planned(arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout(plimsoll().args(["plan", MODEL, "--json"]).args(arguments))).unwrap()
}

#[test]
fn its_figures_are_those_of_a_running_engine() {
    let plan = planned(&["--memory", "1GiB", "--context", "1000"]);
    let cell = plan["table"].as_array().unwrap().iter().find(|cell| cell["conversations"] == 4).unwrap();
    assert_eq!((&cell["context"], &cell["fits"]), (&1000.into(), &true.into()));
    let memory = &cell["kv_bytes"];
    let engine = format!("model: {MODEL}, slots: 4, context: 1000, memory: {memory}");
    let sidecar = Sidecar::start(&one_engine(&engine, "mode: 'off'"));
    let state = get(&format!("{}/state", sidecar.admin_url)).ok();
    let running = state["upstreams"].as_object().unwrap().values().next().unwrap();
    assert_eq!(running["kv_limit_bytes"], *memory);
    assert_eq!(running["kv_bytes_per_token"], plan["kv_bytes_per_token"]);
    assert_eq!(running["context_tokens"], 1000);
}

#[test]
fn a_table_says_what_fits() {
    let printed = stdout(plimsoll().args(["plan", MODEL, "--memory", "64MiB"]).args([
        "--prefix",
        "800",
        "--sessions",
        "50",
    ]));
    for part in ["4.0 KiB a token", "64.0 MiB = weights 13.", "1024 tokens", "at most |", "-", "50 sessions"]
    {
        assert!(printed.contains(part), "{part} is not in {printed}");
    }
    // 39 MiB of KV cache hold two conversations of 4,096 tokens, not four.
    let row = |name: &str| printed.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(row("|             2").ends_with("32.0 MiB |"), "{printed}");
    assert!(row("|             4").ends_with(" - |"), "{printed}");
    let (good, help) = run(plimsoll().args(["plan", "--help"]));
    assert!(good && help.contains("Example: plimsoll plan"), "{help}");
}

#[test]
fn what_cannot_be_planned_is_told() {
    for (arguments, part) in [
        (&["no/such/folder"][..], "`no/such/folder` is missing"),
        (&[MODEL, "--context", "5000"], "--context 5000: this model takes 1 to 4096 tokens"),
        (&[MODEL, "--prefix", "800"], "--sessions"),
        (&[MODEL, "--cuda"], "--memory"),
        (&[MODEL, "--memory", "much"], "much"),
    ] {
        let output = plimsoll().arg("plan").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(part), "{output:?}");
    }
}

/// Half the memory a token, in the plan and in a running engine.
#[test]
fn a_cache_of_16_bits_is_planned_as_it_is_loaded() {
    let engine = "model: engine/demo/model, name: demo, context: 1024, slots: 2, kv_dtype: fp16";
    let sidecar = Sidecar::start(&one_engine(engine, "policy: 'off'"));
    let body = json!({"model": "demo", "prompt": "One two", "max_tokens": 5, "temperature": 0});
    assert_eq!(post(&format!("{}/v1/completions", sidecar.data_url), &body).status, 200);
    let state = get(&format!("{}/state", sidecar.admin_url)).ok();
    let running = &state["upstreams"]["local"];
    assert_eq!((&running["kv_type"], &running["kv_bytes_per_token"]), (&json!("fp16"), &json!(2048)));
    let plan = |dtype: &str| {
        let mut command = plimsoll();
        command.args(["plan", "engine/demo/model", "--memory", "1GiB", "--json", "--kv-dtype", dtype]);
        command.output().unwrap()
    };
    let told: Value = serde_json::from_slice(&plan("fp16").stdout).unwrap();
    assert_eq!(
        (&told["kv_type"], &told["kv_bytes_per_token"]),
        (&running["kv_type"], &running["kv_bytes_per_token"])
    );
    let wrong = plan("fp8");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("must be `auto`, `fp32` or `fp16`"));
}
