//! Answers bound to a format, and log probabilities, in OpenAI's shapes.

use plimsoll_tests::shared::{json as file, one_engine, shared};
use plimsoll_tests::{Reply, Sidecar, post};
use serde_json::{Value, json};

fn sidecar() -> Sidecar {
    let engine = "model: engine/demo/model, name: demo, slots: 4, threads: 1, context: 1024";
    Sidecar::start(&one_engine(engine, "policy: 'off', mode: 'off'"))
}

fn chat(sidecar: &Sidecar, more: &Value) -> Reply {
    let mut body = json!({
        "model": "demo", "messages": [{"role": "user", "content": "What is the KV cache?"}], "max_tokens": 200,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    post(&format!("{}/v1/chat/completions", sidecar.data_url), &body)
}

#[test]
fn an_answer_fits_its_schema_whole_and_streamed() {
    let sidecar = sidecar();
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["kind", "tons"],
        "properties": {"kind": {"enum": ["ship", "line"]}, "tons": {"type": "integer", "minimum": 1, "maximum": 99}},
    });
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema}});
    let validator = jsonschema::validator_for(&schema).unwrap();
    for seed in 0..4 {
        let more = json!({"response_format": format, "temperature": 1.3, "seed": seed});
        let choice = chat(&sidecar, &more).ok()["choices"][0].clone();
        let text = choice["message"]["content"].as_str().unwrap();
        let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(validator.is_valid(&value) && choice["finish_reason"] == "stop", "{choice}");
        let mut more = more;
        more["stream"] = true.into();
        let streamed: String = chat(&sidecar, &more)
            .events()
            .iter()
            .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
            .collect();
        assert_eq!(streamed, text);
    }
}

#[test]
fn a_format_that_cannot_be_kept_is_refused() {
    let sidecar = sidecar();
    let with = |schema: Value| json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    for (more, part) in [
        (json!({"response_format": with(json!({"type": "nonsense"}))}), "response_format"),
        (json!({"response_format": with(json!({"$ref": "https://example.com/x"}))}), "response_format"),
        (json!({"response_format": with(json!({"$ref": "#"}))}), "response_format"),
        (json!({"response_format": with(json!({"description": "x".repeat(300_000)}))}), "at most 262144"),
    ] {
        let reply = chat(&sidecar, &more);
        let error = reply.json()["error"].clone();
        assert_eq!((reply.status, &error["param"]), (400, &json!("response_format")), "{error}");
        assert!(error["message"].as_str().unwrap().contains(part), "{error}");
    }
}

#[test]
fn chat_tells_how_likely_each_token_was() {
    let sidecar = sidecar();
    let more = json!({"logprobs": true, "top_logprobs": 3, "temperature": 0, "max_tokens": 12});
    let answer = chat(&sidecar, &more).ok();
    let choice = &answer["choices"][0];
    let content = choice["logprobs"]["content"].as_array().unwrap();
    assert_eq!(answer["usage"]["completion_tokens"], content.len());
    let text: String = content.iter().map(|one| one["token"].as_str().unwrap()).collect();
    assert_eq!(choice["message"]["content"], text);
    for one in content {
        let top = one["top_logprobs"].as_array().unwrap();
        assert_eq!((top.len(), &top[0]["token"], &top[0]["logprob"]), (3, &one["token"], &one["logprob"]));
        let bytes: Vec<u8> = serde_json::from_value(one["bytes"].clone()).unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), one["token"].as_str().unwrap());
        let sum: f64 = top.iter().map(|likely| likely["logprob"].as_f64().unwrap().exp()).sum();
        assert!(sum > 0.0 && sum <= 1.000_01, "{one}");
    }
    let mut more = more;
    more["stream"] = true.into();
    let events = chat(&sidecar, &more).events();
    let streamed: Vec<_> = events
        .iter()
        .filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array().cloned())
        .flatten()
        .collect();
    // What is reused was computed in other pieces: the figures may differ in their last digits.
    let tokens = |list: &[Value]| list.iter().map(|one| one["token"].clone()).collect::<Vec<_>>();
    assert_eq!(tokens(&streamed), tokens(content));
    assert!(chat(&sidecar, &json!({"max_tokens": 3})).ok()["choices"][0]["logprobs"].is_null());
}

#[test]
fn completions_tell_the_margins_of_the_truth() {
    let Some(models) = shared("models") else { return };
    let truth = file(&models.join("truth/qwen2.json"));
    let case = &truth["cases"][1];
    let engine = format!("model: {}, name: demo, threads: 1", models.join("qwen2/genai").display());
    let sidecar = Sidecar::start(&one_engine(&engine, "policy: 'off', mode: 'off'"));
    let body = json!({
        "model": "demo", "prompt": case["ids"], "max_tokens": 64, "temperature": 0, "ignore_eos": true, "logprobs": 5,
    });
    let choice = post(&format!("{}/v1/completions", sidecar.data_url), &body).ok()["choices"][0].clone();
    let told = &choice["logprobs"];
    let mut offset = 0;
    for step in 0..64 {
        assert_eq!(told["text_offset"][step], offset);
        offset += told["tokens"][step].as_str().unwrap().chars().count();
        // Tokens that are no whole characters may read alike.
        let mut top: Vec<_> =
            told["top_logprobs"][step].as_object().unwrap().values().map(|l| l.as_f64().unwrap()).collect();
        top.sort_unstable_by(|a, b| b.total_cmp(a));
        assert_eq!(told["token_logprobs"][step], top[0]);
        if top.len() == 5 {
            let margin = case["margins"][step].as_f64().unwrap();
            assert!((top[0] - top[1] - margin).abs() < 1e-3, "{step}: {top:?} {margin}");
        }
    }
}
