//! What a policy is worth to vLLM's own prefix cache, as its metrics tell.

use std::fmt::Write as _;
use std::sync::Arc;

use plimsoll_policies::{Conversation, CountTokens, Tokens};
use plimsoll_proxy::assemble;
use plimsoll_proxy::count::Exact;
use plimsoll_tests::shared::root;
use plimsoll_tests::{post, results};
use serde_json::Value;

use super::talk::{self, ANSWER};
use super::{Cache, WINDOW, servers, sidecar};

const TURNS: usize = 100;
/// Tokens above which `marks` cuts.
const HIGH: Tokens = 1500;

/// How a conversation was held, turn by turn.
struct Held {
    cache: Cache,
    /// Tokens of the prompts, and of the longest of them.
    prompts: u64,
    longest: u64,
}

/// Asks every turn of a conversation; `prepared` makes of the history what is sent.
fn hold(url: &str, server: &str, name: &str, prepared: impl Fn(Value) -> Value) -> Held {
    let servers = [server.to_owned()];
    let before = Cache::of(&servers);
    let used: Vec<u64> = (1..=TURNS)
        .map(|turns| {
            let body = prepared(talk::after(turns, name));
            let answer = post(&format!("{url}/v1/chat/completions"), &body).ok();
            answer["usage"]["prompt_tokens"].as_u64().unwrap()
        })
        .collect();
    let (prompts, longest) = (used.iter().sum(), used.iter().copied().max().unwrap());
    let cache = loop {
        // The last answer may be here before its figures are there.
        let cache = Cache::of(&servers).since(before);
        if cache.queries >= prompts {
            break cache;
        }
        std::thread::yield_now();
    };
    assert_eq!(cache.queries, prompts, "{name}: every token of a prompt is asked for once");
    Held { cache, prompts, longest }
}

/// Drops the oldest messages behind the system's until the prompt has at most so many tokens.
fn just_enough(counter: &Exact, most: Tokens, mut body: Value) -> Value {
    loop {
        let read = Conversation::parse_chat(Arc::from(body.to_string())).unwrap();
        if counter.prompt(&read).unwrap() <= most {
            return body;
        }
        body["messages"].as_array_mut().unwrap().remove(1);
    }
}

#[test]
#[ignore = "needs vLLM: make test-vllm"]
fn the_prefix_cache_holds_what_the_policy_leaves() {
    let [server, _] = servers();
    let sidecar = sidecar(std::slice::from_ref(&server), "");
    let counter = assemble::exact("demo", &root().join("engine/demo/model")).unwrap();
    let governed = hold(&sidecar.data_url, &server, "governed", |body| body);
    let trimmed = hold(&server, &server, "trimmed1", |body| just_enough(&counter, HIGH, body));
    let filled = hold(&server, &server, "trimmed2", |body| just_enough(&counter, WINDOW - ANSWER, body));
    let rows = [
        ("preset `chat`, marks 1,500 and 900", &governed),
        ("trimmed just enough, to the same 1,500 tokens", &trimmed),
        ("trimmed just enough, to the whole window", &filled),
    ];
    let text = table(&rows);
    println!("{text}");
    results::write("vllm-cache", &text);
    assert!(governed.longest <= HIGH && trimmed.longest <= HIGH, "{text}");
    assert!(governed.cache.ratio() >= 0.8, "{text}");
    assert!(governed.cache.computed() * 5 <= trimmed.cache.computed(), "{text}");
}

fn table(rows: &[(&str, &Held)]) -> String {
    let mut text = format!(
        "## vLLM's prefix cache over {TURNS} turns\n\n\
         `make test-vllm`: a conversation of {TURNS} turns before a vLLM (CPU, demo model, window {WINDOW}), the whole \
         history sent\nat each turn. Figures are vLLM's own (`vllm:prefix_cache_queries`, `_hits`).\n\n\
         | the history is | prompt tokens | longest prompt | hits | computed | against the first row |\n\
         |---|---|---|---|---|---|\n"
    );
    let least = rows[0].1.cache.computed();
    for (name, held) in rows {
        let (ratio, computed) = (held.cache.ratio(), held.cache.computed());
        let (prompts, longest) = (held.prompts, held.longest);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52 tokens")]
        let times = computed as f64 / least as f64;
        writeln!(text, "| {name} | {prompts} | {longest} | {ratio:.2} | {computed} | {times:.1} x |")
            .unwrap();
    }
    text
}
