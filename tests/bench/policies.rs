//! What the `agent` policy costs by itself: the whole chain over conversations of agents, counted as the demo model counts.
//!
//! Warm: the conversation has come before and grows by one message. Cold: no message was ever seen. The last two rows
//! differ by the number of messages alone: cost that grows with the history must grow no faster than it.

use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use plimsoll_engine::text::Text;
use plimsoll_policies::{Chain, Context, Conversation, Limits, Verdict, resolve};
use plimsoll_proxy::count::Exact;
use plimsoll_proxy::govern::SummaryMemo;
use plimsoll_tests::agent::run_of_an_agent;
use plimsoll_tests::shared::root;
use serde_json::{Value, json};

fn parsed(body: &Value) -> Conversation {
    Conversation::parse_chat(body.to_string().into()).expect("a chat")
}

/// The conversation with one message more.
fn grown(body: &Value, turn: usize) -> Conversation {
    let mut body = body.clone();
    let messages = body["messages"].as_array_mut().expect("messages");
    messages.push(json!({"role": "user", "content": format!("And what of case {turn}?")}));
    parsed(&body)
}

/// A chain with the memory that a sidecar has.
struct Bench {
    chain: Chain,
    counter: Exact,
    memo: SummaryMemo,
}

impl Bench {
    fn new(text: &Arc<Text>) -> Self {
        let steps = resolve("agent", &Default::default()).expect("a preset");
        let (counter, memo) = (Exact::new(text.clone(), "demo"), SummaryMemo::default());
        Self { chain: Chain::build("agent", &steps), counter, memo }
    }

    fn apply(&self, conversation: &Conversation, window: u64) {
        let limits = Limits::tokens(window);
        let context = Context { limits, counter: &self.counter, summaries: &self.memo };
        let verdict = self.chain.apply(conversation, &context).expect("it can be made to fit");
        assert!(matches!(verdict, Verdict::Done { .. }), "the built-in summariser asks nobody");
    }
}

/// Windows in tokens that hold the conversation, and that hold a tenth of it.
const WINDOWS: [(&str, u64); 2] = [("fits", 2_000_000), ("is cut to 16k tokens", 16_384)];

fn benches(criterion: &mut Criterion) {
    let text = Text::load(&root().join("engine/demo/model")).expect("the bundled model's folder");
    let text = Arc::new(text);
    let mut group = criterion.benchmark_group("agent policy");
    group.sample_size(30);
    let mut salt = 0;
    for (name, window) in WINDOWS {
        let bench = Bench::new(&text);
        let body = run_of_an_agent(200, 256 << 10, 0);
        bench.apply(&parsed(&body), window);
        let mut turn = 0;
        group.bench_function(format!("256 KB, 200 messages, warm, {name}"), |run| {
            let next = || {
                turn += 1;
                grown(&body, turn)
            };
            run.iter_batched(
                next,
                |conversation| bench.apply(&conversation, window),
                BatchSize::PerIteration,
            );
        });
        for (size, bytes, messages) in [("256 KB, 200", 256 << 10, 200), ("1 MB, 800", 1 << 20, 800)] {
            group.bench_function(format!("{size} messages, cold, {name}"), |run| {
                let next = || {
                    salt += 1;
                    (Bench::new(&text), parsed(&run_of_an_agent(messages, bytes, salt)))
                };
                run.iter_batched(next, |(bench, one)| bench.apply(&one, window), BatchSize::PerIteration);
            });
        }
    }
    for messages in [1_000, 4_000] {
        group.bench_function(
            format!("{messages} messages of 500 bytes, cold, is cut to 16k tokens"),
            |run| {
                let next = || {
                    salt += 1;
                    (Bench::new(&text), parsed(&run_of_an_agent(messages, messages * 500, salt)))
                };
                run.iter_batched(next, |(bench, one)| bench.apply(&one, 16_384), BatchSize::PerIteration);
            },
        );
    }
    group.finish();
}

criterion_group!(policies, benches);
criterion_main!(policies);
