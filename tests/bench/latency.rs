//! What the sidecar adds to a request of 256 KB before an upstream that answers at once: compare the rows of one run.
//!
//! `direct` is the client and the upstream alone; every other row passes the sidecar.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use plimsoll_tests::mock::Mock;
use plimsoll_tests::{Sidecar, post_with};
use serde_json::{Value, json};

/// About 256 KB: 300 exchanges of a kind that agents have.
fn conversation(salt: u64, turns: u64) -> Vec<u8> {
    let text =
        "The build of the payments service failed in its third stage, see the log of the runner. ".repeat(4);
    let messages: Vec<Value> = (0..turns)
        .flat_map(|turn| {
            let user = json!({"role": "user", "content": format!("{salt}.{turn}: {text}")});
            let assistant =
                json!({"role": "assistant", "content": format!("{turn}: {text} I will look at it.")});
            [user, assistant]
        })
        .chain([json!({"role": "user", "content": "And now?"})])
        .collect();
    json!({"model": "demo", "messages": messages}).to_string().into_bytes()
}

fn sidecar(mock: &Mock) -> Sidecar {
    Sidecar::start(&format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: error }}
upstreams:
  other: {{ url: '{}', dialect: openai, context: 200000, tokenizer: engine/demo/model }}
  estimated: {{ url: '{}', dialect: openai, context: 200000 }}
routes:
  - {{ name: off, match: {{ header: {{ x-bench: 'off' }} }}, upstream: other, policy: agent, mode: 'off' }}
  - {{ name: estimated, match: {{ header: {{ x-bench: estimated }} }}, upstream: estimated, policy: agent }}
  - {{ name: default, upstream: other, policy: agent }}
",
        mock.url, mock.url
    ))
}

fn benches(criterion: &mut Criterion) {
    let mock = Mock::start(Vec::new());
    let sidecar = sidecar(&mock);
    let mut group = criterion.benchmark_group("256 KB request");
    let send = |base: &str, body: Vec<u8>, route: &'static str| {
        let reply = post_with(&format!("{base}/v1/chat/completions"), body, &[("x-bench", route)]);
        assert_eq!(reply.status, 200, "{}", reply.text());
        mock.forget();
    };
    // Warm: a conversation that grows by its last message, as chats do.
    let mut turns = 0;
    let mut warm = || {
        turns += 1;
        conversation(0, 300 + turns % 3)
    };
    for (row, base, route) in [
        ("direct", &mock.url, "off"),
        ("passed through (mode off)", &sidecar.data_url, "off"),
        ("governed, warm, exact counts", &sidecar.data_url, "exact"),
        ("governed, warm, tiktoken", &sidecar.data_url, "estimated"),
    ] {
        group.bench_function(row, |bench| {
            bench.iter_batched(&mut warm, |body| send(base, body, route), BatchSize::PerIteration);
        });
    }
    // Cold: no message was ever seen.
    let mut salt = 0;
    let mut cold = || {
        salt += 1;
        conversation(salt, 300)
    };
    for (row, route) in [("governed, cold, exact counts", "exact"), ("governed, cold, tiktoken", "estimated")]
    {
        group.bench_function(row, |bench| {
            bench.iter_batched(
                &mut cold,
                |body| send(&sidecar.data_url, body, route),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(latency, benches);
criterion_main!(latency);
