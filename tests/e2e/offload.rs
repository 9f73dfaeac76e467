//! Conversations that leave their slots and come back, as clients and operators see it.

use std::path::Path;

use plimsoll_tests::collector::{Span, attribute};
use plimsoll_tests::shared::one_engine;
use plimsoll_tests::{Sidecar, get, plimsoll, post};
use serde_json::{Value, json};

use crate::tooling::run;
use crate::traced::Traced;

const ROUTE: &str = "policy: 'off', mode: 'off'";

fn config(slots: u32, offload: &str) -> String {
    one_engine(
        &format!("model: engine/demo/model, name: demo, threads: 1, slots: {slots}, offload: {offload}"),
        ROUTE,
    )
}

fn on_disk(slots: u32, folder: &Path) -> String {
    config(slots, &format!("{{ disk: {{ dir: {}, limit: 1GiB }} }}", folder.display()))
}

fn prompt(seed: u32, length: u32) -> Vec<u32> {
    (0..length).map(|i| 100 + (i * 7 + seed * 131 + i * i % 13) % 1500).collect()
}

/// The token ids of an answer, and how much of the prompt was cached.
fn complete(sidecar: &Sidecar, prompt: &[u32]) -> (Vec<u64>, u64) {
    let body = json!({
        "model": "demo", "prompt": prompt, "max_tokens": 12, "temperature": 0, "ignore_eos": true,
        "return_token_ids": true,
    });
    let answer = post(&format!("{}/v1/completions", sidecar.data_url), &body).ok();
    let made = answer["choices"][0]["token_ids"].as_array().unwrap();
    let cached = &answer["usage"]["prompt_tokens_details"]["cached_tokens"];
    (made.iter().map(|id| id.as_u64().unwrap()).collect(), cached.as_u64().unwrap())
}

fn state(sidecar: &Sidecar) -> Value {
    get(&format!("{}/state", sidecar.admin_url)).ok()["upstreams"]["local"].clone()
}

/// Waits until the state is as wanted.
fn wait(sidecar: &Sidecar, wanted: impl Fn(&Value) -> bool) -> Value {
    loop {
        let offload = state(sidecar)["offload"].clone();
        if wanted(&offload) {
            return offload;
        }
        std::thread::yield_now();
    }
}

fn listed(sidecar: &Sidecar) -> Vec<Value> {
    let listed = get(&format!("{}/slots", sidecar.admin_url)).ok();
    listed["upstreams"]["local"]["offloaded"].as_array().unwrap().clone()
}

#[test]
fn a_conversation_that_lost_its_slot_goes_on_here_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let undisturbed = Sidecar::start(&config(4, "{ host: null }"));
    let sidecar = Sidecar::start(&on_disk(1, folder.path()));
    let (first, second) = (prompt(1, 200), prompt(2, 150));
    let expected = complete(&undisturbed, &first).0;
    assert_eq!(complete(&sidecar, &first), (expected.clone(), 0));
    assert_eq!(complete(&sidecar, &second).1, 0);
    let put_by = state(&sidecar)["offload"].clone();
    assert_eq!((&put_by["off"], &put_by["counts"]["put_by"]), (&Value::Null, &json!(1)));
    assert!(put_by["host_bytes"].as_u64().unwrap() >= 200 * 4096, "{put_by}");
    assert_eq!(complete(&sidecar, &first), (expected.clone(), 199));
    let offload = state(&sidecar)["offload"].clone();
    assert_eq!((&offload["counts"]["restored"], &offload["restored_tokens"]), (&json!(1), &json!(199)));
    let text = get(&format!("{}/metrics", sidecar.admin_url)).text();
    for line in [
        r#"plimsoll_kv_offload_moves_total{plimsoll_kv_offload_step="restored",plimsoll_upstream="local"} 1"#,
        r#"plimsoll_kv_offload_restored_tokens_total{plimsoll_upstream="local"} 199"#,
        r#"plimsoll_kv_offload_usage_bytes{plimsoll_kv_offload_tier="disk",plimsoll_upstream="local"}"#,
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    sidecar.drain();

    let sidecar = Sidecar::start(&on_disk(1, folder.path()));
    let found = wait(&sidecar, |offload| offload["disk_conversations"] != 0);
    assert_eq!((&found["disk_conversations"], &found["host_bytes"]), (&json!(2), &json!(0)));
    assert_eq!(complete(&sidecar, &first), (expected, 199));
    assert_eq!(state(&sidecar)["offload"]["counts"]["read"], 1);
}

#[test]
fn what_is_put_by_is_listed_and_erased() {
    let folder = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::start(&on_disk(1, folder.path()));
    for seed in 1..4 {
        complete(&sidecar, &prompt(seed, 100));
    }
    wait(&sidecar, |offload| offload["disk_conversations"] == 2);
    let all = listed(&sidecar);
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|one| one["tokens"] == 111 && one["host_bytes"].is_u64()), "{all:?}");
    let name = |one: usize| all[one]["name"].as_str().unwrap();
    let (good, table) = run(plimsoll().args(["slots", "list", "--admin", &sidecar.admin_url]));
    assert!(good && table.contains(name(0)) && table.contains("idle conversation"), "{table}");
    let erase = ["slots", "erase", "--admin", &sidecar.admin_url, "--offloaded"];
    let (good, printed) = run(plimsoll().args(erase).arg(name(0)));
    assert!(good && printed.contains("111 tokens that were put by are forgotten"), "{printed}");
    let body = json!({"offloaded": name(1)});
    assert_eq!(post(&format!("{}/slots/erase", sidecar.admin_url), &body).ok()["tokens"], 111);
    let again = post(&format!("{}/slots/erase", sidecar.admin_url), &body);
    assert_eq!((again.status, &again.json()["error"]["code"]), (404, &json!("unknown_offloaded")));
    let save = post(&format!("{}/slots/save", sidecar.admin_url), &body);
    assert_eq!((save.status, &save.json()["error"]["code"]), (400, &json!("invalid_value")));
    assert_eq!((listed(&sidecar).len(), std::fs::read_dir(folder.path()).unwrap().count()), (0, 0));
    assert_eq!(complete(&sidecar, &prompt(1, 100)).1, 0);
    // An erased slot leaves nothing of its conversation behind either.
    let held = state(&sidecar)["slots"][0]["tokens"].clone();
    assert_eq!(post(&format!("{}/slots/erase", sidecar.admin_url), &json!({"slot": 0})).ok()["tokens"], held);
    assert_eq!(complete(&sidecar, &prompt(1, 100)).1, 0);
}

#[test]
fn without_memory_for_it_nothing_is_put_by() {
    let sidecar = Sidecar::start(&config(1, "{ host: null }"));
    for seed in [1, 2, 1] {
        assert_eq!(complete(&sidecar, &prompt(seed, 100)).1, 0);
    }
    let offload = state(&sidecar)["offload"].clone();
    assert_eq!((&offload["off"], &offload["host_bytes"]), (&json!("`offload.host` is 0"), &json!(0)));
    let text = get(&format!("{}/metrics", sidecar.admin_url)).text();
    assert!(!text.contains("plimsoll_kv_offload"), "{text}");
}

#[test]
fn the_way_out_and_back_is_traced() {
    let folder = tempfile::tempdir().unwrap();
    let traced = Traced::start(&on_disk(1, folder.path()), "service_name: tested");
    for seed in [1, 2] {
        complete(&traced.sidecar, &prompt(seed, 100));
    }
    wait(&traced.sidecar, |offload| offload["counts"]["written"] == 1);
    complete(&traced.sidecar, &prompt(1, 100));
    let named = |name: &'static str, tier: &'static str| {
        move |span: &&Span| {
            span.name == name
                && attribute(&span.attributes, "plimsoll.kv.offload.tier").as_str() == Some(tier)
        }
    };
    let restored = |span: &&Span| {
        span.name == "prefill"
            && attribute(&span.attributes, "plimsoll.kv.restored_tokens").as_u64() == Some(99)
    };
    let complete = traced.collector.wait_for(|received| {
        received.spans().any(|span| named("restore_conversation demo", "host")(&span))
            && received.spans().any(|span| restored(&span))
    });
    let received = traced.runtime.block_on(complete).unwrap();
    for (name, tier, tokens) in [
        ("offload_conversation demo", "host", 111),
        ("offload_conversation demo", "disk", 111),
        ("restore_conversation demo", "host", 99),
    ] {
        let span = received.spans().find(named(name, tier)).unwrap();
        assert_eq!(
            attribute(&span.attributes, "plimsoll.kv.offload.tokens").as_u64(),
            Some(tokens),
            "{name} {tier}"
        );
        assert!(attribute(&span.attributes, "plimsoll.kv.offload.bytes").as_u64().unwrap() >= 111 * 4096);
        assert!(span.parent_span_id.is_empty());
    }
}
