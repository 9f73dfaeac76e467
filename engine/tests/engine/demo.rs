//! The demo model gives the answers that stand in its samples, token for token.

use std::time::SystemTime;

use plimsoll_engine::text::Prompt;
use plimsoll_engine::{Engine, Finish, Generate};
use serde_json::{Map, Value};

use crate::support::{block_on, config, demo, greedy, run};

#[test]
fn samples_are_answered_as_recorded() {
    let engine = Engine::load(config(demo("model"))).unwrap();
    let mut samples: Vec<_> =
        std::fs::read_dir(demo("samples")).unwrap().map(|e| e.unwrap().path()).collect();
    samples.sort();
    assert_eq!(samples.len(), 12);
    for path in samples {
        let sample: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let rendered = engine.text().render(&Prompt {
            messages: sample["messages"].as_array().unwrap(),
            tools: Some(&sample["tools"]),
            add_generation_prompt: true,
            kwargs: &Map::new(),
            now: SystemTime::UNIX_EPOCH,
        });
        let prompt = engine.text().encode(&rendered.unwrap()).unwrap().ids();
        assert_eq!(prompt.len() as u64, sample["prompt_tokens"].as_u64().unwrap(), "{}", path.display());
        let request = Generate { ignore_eos: false, ..greedy(&prompt, 200) };
        let answer = block_on(run(&engine, request)).unwrap();
        let expected: Vec<u32> = serde_json::from_value(sample["expected_tokens"].clone()).unwrap();
        assert_eq!((answer.tokens, answer.reason), (expected, Finish::Stop), "{}", path.display());
    }
}
