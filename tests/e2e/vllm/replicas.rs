//! Two replicas behind one upstream: with affinity each conversation finds its prefix where it was computed.

use std::fmt::Write as _;

use plimsoll_tests::{post, results};

use super::{Cache, WINDOW, servers, sidecar, talk};

/// Odd, so that whoever takes turns between two replicas sends each conversation to both.
const CONVERSATIONS: usize = 7;
const TURNS: usize = 60;

/// Several conversations, a turn of each after the other; what both replicas' caches say of it.
fn hold(affinity: &str) -> [Cache; 2] {
    let urls = servers();
    let sidecar = sidecar(&urls, &format!("affinity: {affinity}"));
    let before = [0, 1].map(|one| Cache::of(&urls[one..=one]));
    let mut prompts = 0;
    for turns in 1..=TURNS {
        for conversation in 0..CONVERSATIONS {
            let body = talk::after(turns, &format!("{affinity}{conversation}"));
            let answer = post(&format!("{}/v1/chat/completions", sidecar.data_url), &body).ok();
            prompts += answer["usage"]["prompt_tokens"].as_u64().unwrap();
        }
    }
    loop {
        let after = [0, 1].map(|one| Cache::of(&urls[one..=one]).since(before[one]));
        if after[0].queries + after[1].queries >= prompts {
            break after;
        }
        std::thread::yield_now();
    }
}

#[test]
#[ignore = "needs vLLM: make test-vllm"]
fn affinity_keeps_the_prefix_cache_of_replicas() {
    let (with, without) = (hold("prefix"), hold("none"));
    let mut text = format!(
        "## vLLM's prefix cache over two replicas\n\n\
         `make test-vllm`: {CONVERSATIONS} conversations of {TURNS} turns, one after the other at each turn, governed by the \
         preset `chat` (marks\n1,500 and 900), before two vLLM (CPU, demo model, window {WINDOW}) behind one upstream.\n\n\
         | `affinity` | prompt tokens of each replica | hits | computed |\n|---|---|---|---|\n"
    );
    let [with, without] = [("prefix", with), ("none", without)].map(|(name, [one, other])| {
        let sum = Cache { queries: one.queries + other.queries, hits: one.hits + other.hits };
        let (ratio, computed) = (sum.ratio(), sum.computed());
        writeln!(text, "| `{name}` | {}, {} | {ratio:.2} | {computed} |", one.queries, other.queries)
            .unwrap();
        sum
    });
    println!("{text}");
    results::write("vllm-replicas", &text);
    assert!(with.ratio() >= 0.8, "{text}");
    assert!(without.ratio() < 0.8 && without.computed() * 4 > with.computed() * 5, "{text}");
}
