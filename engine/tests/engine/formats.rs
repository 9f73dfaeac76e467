//! Log probabilities against the truth, and answers that are bound to a format.

use plimsoll_engine::{Bounds, Engine, Event, Finish, Format, Generate, Logprobs, Sampling};
use serde_json::{Value, json};

use crate::support::{block_on, cases, config, demo, greedy, load, run};

/// All log probabilities of a request, with the tokens that followed them.
async fn logprobs(engine: &Engine, request: Generate) -> Vec<(Logprobs, u32)> {
    let tokens = u32::try_from(request.prompt.len()).unwrap() + request.max_tokens;
    let permit = engine.reserve(tokens).await.unwrap();
    let mut generation = engine.generate(request, permit);
    let (mut told, mut all) = (None, Vec::new());
    while let Some(event) = generation.next().await {
        match event.unwrap() {
            Event::Logprobs(logprobs) => told = Some(logprobs),
            Event::Token(token) => all.push((told.take().unwrap(), token)),
            _ => {}
        }
    }
    all
}

#[test]
fn margins_are_those_of_the_truth() {
    let Some(engine) = load("qwen2/genai") else { return };
    for case in cases("qwen2", "cases").unwrap() {
        let request = Generate { logprobs: Some(2), ..greedy(&case.prompt, 64) };
        let told = block_on(logprobs(&engine, request));
        assert_eq!(told.len(), 64);
        for (step, (logprobs, token)) in told.iter().enumerate() {
            let (best, second) = (logprobs.top[0], logprobs.top[1]);
            assert_eq!((logprobs.token, best.0, *token), (*token, case.greedy[step], case.greedy[step]));
            assert!(logprobs.logprob == best.1 && best.1 <= 0.0);
            let margin = f64::from(best.1 - second.1);
            assert!((margin - case.margins[step]).abs() < 1e-3, "{} {step}: {margin}", case.id);
        }
    }
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "ship": {"type": "string", "maxLength": 12},
            "tons": {"type": "integer", "minimum": 0, "maximum": 999},
            "flag": {"enum": ["red", "white", "blue"]},
            "holds": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
        },
        "required": ["ship", "tons", "flag", "holds"],
        "additionalProperties": false,
    })
}

/// A prompt that says nothing of JSON.
fn prompt(engine: &Engine) -> Vec<u32> {
    engine.text().encode_plain("Tell me of a ship.").unwrap()
}

fn format_alone(format: &Format) -> Bounds {
    Bounds { format: Some(format.clone()), ..Bounds::default() }
}

fn bound(engine: &Engine, format: &Format, sampling: Sampling) -> Generate {
    Generate {
        sampling,
        grammar: engine.grammar(&format_alone(format)).unwrap(),
        ignore_eos: false,
        ..greedy(&prompt(engine), 300)
    }
}

#[test]
fn whatever_is_drawn_fits_the_schema() {
    let engine = Engine::load(config(demo("model"))).unwrap();
    let format = Format::JsonSchema(schema());
    let validator = jsonschema::validator_for(&schema()).unwrap();
    block_on(async {
        for seed in 0..12 {
            let sampling = Sampling { temperature: 1.5, seed: Some(seed), ..Sampling::default() };
            let answer = run(&engine, bound(&engine, &format, sampling)).await.unwrap();
            let text = engine.text().decode(&answer.tokens, true);
            assert_eq!(answer.reason, Finish::Stop, "{text}");
            let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert!(validator.is_valid(&value), "{text}");
        }
    });
}

#[test]
fn an_object_is_begun_and_a_seed_repeats_beside_others() {
    let engine = Engine::load(config(demo("model"))).unwrap();
    let drawn = |seed| Sampling { temperature: 1.0, seed: Some(seed), ..Sampling::default() };
    block_on(async {
        let object = |seed| run(&engine, bound(&engine, &Format::JsonObject, drawn(seed)));
        let alone = object(3).await.unwrap();
        let text = engine.text().decode(&alone.tokens, true);
        assert!(text.trim_start().starts_with('{'), "{text}");
        if alone.reason == Finish::Stop {
            assert!(serde_json::from_str::<Value>(&text).unwrap().is_object(), "{text}");
        }
        let free = run(&engine, Generate { sampling: drawn(8), ..greedy(&[300, 301, 302], 250) });
        let (again, other, free) = tokio::join!(object(3), object(4), free);
        assert_eq!(again.unwrap().tokens, alone.tokens);
        assert_ne!(other.unwrap().tokens, alone.tokens);
        assert_eq!(free.unwrap().tokens.len(), 250);
    });
}

#[test]
fn a_schema_that_cannot_be_followed_is_refused() {
    let engine = Engine::load(config(demo("model"))).unwrap();
    for schema in [
        json!({"type": "nonsense"}),
        json!({"$ref": "https://example.com/schema.json"}),
        json!({"type": "string", "pattern": "("}),
        json!(7),
    ] {
        let error = engine.grammar(&format_alone(&Format::JsonSchema(schema.clone()))).unwrap_err();
        assert!(!error.to_string().is_empty() && error.to_string().len() <= 300, "{schema}: {error}");
    }
}
