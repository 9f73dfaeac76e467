//! A seed gives the same tokens, alone and beside other conversations.

use plimsoll_engine::{Engine, Generate, Sampling};

use crate::support::{Answer, block_on, config, demo, greedy, load, run};

fn sampled(prompt: &[u32], seed: u64) -> Generate {
    let sampling =
        Sampling { temperature: 0.9, top_p: 0.95, top_k: 50, seed: Some(seed), ..Sampling::default() };
    Generate { sampling, ..greedy(prompt, 40) }
}

async fn tokens(engine: &Engine, request: Generate) -> Vec<u32> {
    let Answer { tokens, .. } = run(engine, request).await.unwrap();
    tokens
}

#[test]
fn a_seed_decides_alone_and_in_a_batch() {
    let Some(engine) = load("qwen2/genai") else { return };
    let prompts: Vec<Vec<u32>> =
        (0..4).map(|i| (0..20 + 30 * i).map(|j| 300 + 17 * i + 5 * j).collect()).collect();
    block_on(async {
        let mut alone = Vec::new();
        for (seed, prompt) in (1..).zip(&prompts) {
            alone.push(tokens(&engine, sampled(prompt, seed)).await);
        }
        let all = |i: usize| tokens(&engine, sampled(&prompts[i], i as u64 + 1));
        let together = tokio::join!(all(0), all(1), all(2), all(3));
        assert_eq!(alone, [together.0, together.1, together.2, together.3]);
        let other = tokens(&engine, sampled(&prompts[0], 99)).await;
        assert_ne!(alone[0], other);
    });
}

#[test]
fn penalties_change_the_answer() {
    let engine = Engine::load(config(demo("model"))).unwrap();
    block_on(async {
        let prompt = [5, 6, 7, 8, 9, 10];
        let plain = tokens(&engine, greedy(&prompt, 30)).await;
        let banned = Sampling { logit_bias: vec![(plain[0], -100.0)], ..Sampling::greedy() };
        let other = tokens(&engine, Generate { sampling: banned, ..greedy(&prompt, 30) }).await;
        assert!(!other.contains(&plain[0]));
    });
}
