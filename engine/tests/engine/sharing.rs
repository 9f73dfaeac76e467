//! Conversations that begin alike, in any order: each answers as it would alone.

use std::collections::BTreeMap;

use plimsoll_engine::{Engine, EngineConfig, Event, MemoryLimit};

use crate::support::{block_on, config, demo, greedy, run};

/// One request of the mix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    prompt: Vec<u32>,
    tokens: u32,
    /// Events after which the client leaves; `None`: it stays.
    leaves: Option<u32>,
}

/// Three system prompts; conversations leave them at various places and go on in various ways.
fn mix(seed: u32, count: u32) -> Vec<Asked> {
    let mut state = seed;
    let mut below = |limit: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % limit
    };
    let asked = |_| {
        let (family, common, own) = (below(3), [64, 150, 260, 300][below(4) as usize], below(60));
        let (tail, leaves) = (below(4), below(4));
        let system = (0..common).map(|i| 100 + (i * 7 + family * 131 + i * i % 13) % 1500);
        let own = (0..own).map(|i| 100 + (i * 11 + tail * 37) % 1500);
        let prompt = system.chain([50 + tail]).chain(own).collect();
        Asked { prompt, tokens: 1 + below(12), leaves: (leaves == 0).then(|| below(4)) }
    };
    (0..count).map(asked).collect()
}

async fn serve(engine: &Engine, asked: Asked) -> Option<Vec<u32>> {
    let prompt = asked.prompt.clone().into();
    let tokens = u32::try_from(asked.prompt.len()).unwrap() + asked.tokens;
    let permit = engine.reserve_for(&prompt, tokens).await.unwrap();
    let mut generation = engine.generate(greedy(&asked.prompt, asked.tokens), permit);
    let (mut made, mut events) = (Vec::new(), 0);
    while let Some(event) = generation.next().await {
        if asked.leaves == Some(events) {
            return None;
        }
        events += 1;
        if let Event::Token(token) = event.unwrap() {
            made.push(token);
        }
    }
    Some(made)
}

fn check(seeds: std::ops::Range<u32>, count: u32) {
    let alone = Engine::load(EngineConfig { slots: 1, ..config(demo("model")) }).unwrap();
    let mut known = BTreeMap::new();
    for seed in seeds {
        // Room for three of the longest, were nothing shared.
        let memory = MemoryLimit::Bytes(1300 * 4096);
        let context = plimsoll_engine::ContextLimit::Tokens(420);
        let tight = EngineConfig { slots: 5, memory, context, queue: 64, ..config(demo("model")) };
        let engine = Engine::load(tight).unwrap();
        let all = mix(seed, count);
        let answers = block_on(async {
            let mut running = tokio::task::JoinSet::new();
            for (place, asked) in all.iter().cloned().enumerate() {
                let engine = engine.clone();
                running.spawn(async move { (place, serve(&engine, asked).await) });
            }
            running.join_all().await
        });
        for (place, made) in answers {
            let Some(made) = made else { continue };
            let asked = &all[place];
            let expected = known.entry((asked.prompt.clone(), asked.tokens)).or_insert_with(|| {
                let answer = block_on(run(&alone, greedy(&asked.prompt, asked.tokens))).unwrap();
                alone.erase(0).unwrap();
                answer.tokens
            });
            assert_eq!(made, *expected, "seed {seed}, request {place}: {asked:?}");
        }
        let memory = engine.memory();
        assert_eq!((memory.kv_reserved, engine.sharing().mode), (0, "shared"));
        assert!(memory.kv_used <= memory.kv_limit && engine.sharing().segments > 0, "{memory:?}");
    }
}

#[test]
fn whoever_comes_and_goes_each_answers_as_if_alone() {
    check(0..2, 30);
}

#[test]
#[ignore = "long: 40 mixes"]
fn whoever_comes_and_goes_in_many_orders_each_answers_as_if_alone() {
    check(2..42, 40);
}
