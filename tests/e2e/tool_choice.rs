//! Calls that are held to their functions' schemas, and what else holds beside them.

use plimsoll_tests::shared::one_engine;
use plimsoll_tests::{Reply, Sidecar, post, post_with};
use serde_json::{Value, json};

fn sidecar() -> Sidecar {
    let engine = "model: engine/demo/model, name: demo, slots: 4, threads: 1, context: 1024";
    Sidecar::start(&one_engine(engine, "policy: 'off', mode: 'off'"))
}

fn tools() -> Value {
    json!([
        {"type": "function", "function": {
            "name": "load_ship", "description": "Load a ship.",
            "parameters": {
                "type": "object", "additionalProperties": false, "required": ["tons", "line"],
                "properties": {"tons": {"type": "integer", "minimum": 1, "maximum": 99}, "line": {"enum": ["summer", "winter"]}},
            },
        }},
        {"type": "function", "function": {"name": "now", "description": "The time."}},
    ])
}

fn chat(sidecar: &Sidecar, more: &Value) -> Reply {
    let mut body = json!({
        "model": "demo", "messages": [{"role": "user", "content": "What is the KV cache?"}], "tools": tools(),
        "max_tokens": 200, "temperature": 1.4,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    post(&format!("{}/v1/chat/completions", sidecar.data_url), &body)
}

fn call(choice: &Value) -> (String, Value) {
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    assert_eq!(calls.len(), 1, "{choice}");
    let function = &calls[0]["function"];
    let arguments = serde_json::from_str(function["arguments"].as_str().unwrap()).unwrap();
    (function["name"].as_str().unwrap().to_owned(), arguments)
}

#[test]
fn a_required_call_fits_its_schema_whole_and_streamed() {
    let sidecar = sidecar();
    let schema = jsonschema::validator_for(&tools()[0]["function"]["parameters"]).unwrap();
    let mut names = Vec::new();
    for seed in 0..6 {
        let mut more = json!({
            "tool_choice": "required", "parallel_tool_calls": false, "seed": seed, "logprobs": true, "top_logprobs": 2,
        });
        let answer = chat(&sidecar, &more).ok();
        let choice = &answer["choices"][0];
        let (name, arguments) = call(choice);
        assert!(
            choice["message"]["content"].is_null() && choice["finish_reason"] == "tool_calls",
            "{choice}"
        );
        assert!(if name == "now" { arguments == json!({}) } else { schema.is_valid(&arguments) }, "{choice}");
        // Every token that was made is told and counted, those of the call's marks too.
        let told = choice["logprobs"]["content"].as_array().unwrap();
        assert_eq!(answer["usage"]["completion_tokens"], told.len());
        let text: String = told.iter().map(|one| one["token"].as_str().unwrap()).collect();
        assert!(text.starts_with("<tool_call>") && text.ends_with("</tool_call>"), "{text}");
        more["stream"] = true.into();
        let events = chat(&sidecar, &more).events();
        let deltas = events.iter().map(|event| &event["choices"][0]["delta"]["tool_calls"][0]["function"]);
        let streamed: String = deltas.filter_map(|function| function["arguments"].as_str()).collect();
        assert_eq!(serde_json::from_str::<Value>(&streamed).unwrap(), arguments);
        names.push(name);
    }
    assert!(names.contains(&"now".to_owned()) || names.contains(&"load_ship".to_owned()));
}

#[test]
fn a_named_function_is_called_and_no_other() {
    let sidecar = sidecar();
    for name in ["now", "load_ship"] {
        let choice = json!({"type": "function", "function": {"name": name}});
        for seed in 0..3 {
            let answer = chat(&sidecar, &json!({"tool_choice": choice, "seed": seed})).ok();
            assert_eq!(call(&answer["choices"][0]).0, name, "{answer}");
        }
    }
    let allowed = json!({"type": "allowed_tools", "allowed_tools": {
        "mode": "required", "tools": [{"type": "function", "function": {"name": "now"}}],
    }});
    let more = json!({"tool_choice": allowed, "parallel_tool_calls": false});
    assert_eq!(call(&chat(&sidecar, &more).ok()["choices"][0]).0, "now");
}

#[test]
fn a_format_beside_tools_holds_the_text_alone() {
    let sidecar = sidecar();
    let schema = json!({"type": "object", "additionalProperties": false, "required": ["ok"], "properties": {"ok": {"type": "boolean"}}});
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut strict = tools();
    for tool in strict.as_array_mut().unwrap() {
        tool["function"]["strict"] = true.into();
    }
    let more = |choice: &str, seed: u64| {
        json!({
            "response_format": format, "tools": strict, "tool_choice": choice, "parallel_tool_calls": false, "seed": seed,
        })
    };
    for seed in 0..4 {
        let answer = chat(&sidecar, &more("auto", seed)).ok();
        let choice = &answer["choices"][0];
        if choice["message"].get("tool_calls").is_some() {
            call(choice);
        } else {
            let text = choice["message"]["content"].as_str().unwrap();
            assert!(validator.is_valid(&serde_json::from_str(text).unwrap()), "{choice}");
        }
        let text = chat(&sidecar, &more("none", seed)).ok()["choices"][0]["message"].clone();
        assert!(
            validator.is_valid(&serde_json::from_str(text["content"].as_str().unwrap()).unwrap()),
            "{text}"
        );
        call(&chat(&sidecar, &more("required", seed)).ok()["choices"][0]);
    }
}

#[test]
fn a_stop_string_or_the_limit_cuts_a_call_off() {
    let sidecar = sidecar();
    let named = json!({"type": "function", "function": {"name": "load_ship"}});
    for (more, finish) in [(json!({"stop": "\"line\""}), "stop"), (json!({"max_tokens": 16}), "length")] {
        let mut more = more;
        more["tool_choice"] = named.clone();
        let choice = chat(&sidecar, &more).ok()["choices"][0].clone();
        assert_eq!(choice["finish_reason"], finish, "{choice}");
        let calls = choice["message"]["tool_calls"].as_array().cloned().unwrap_or_default();
        for call in calls {
            let arguments = call["function"]["arguments"].as_str().unwrap();
            assert!(serde_json::from_str::<Value>(arguments).is_err(), "{choice}");
        }
    }
}

#[test]
fn what_cannot_be_held_is_told_with_its_place() {
    let sidecar = sidecar();
    let with = |parameters: Value| json!([{"type": "function", "function": {"name": "f", "strict": true, "parameters": parameters}}]);
    for (more, param, part) in [
        (json!({"tools": with(json!({"type": "nonsense"}))}), "tools", "function `f`: `parameters"),
        (
            json!({"tools": with(json!({"type": "object", "properties": {"a": {"$ref": "https://example.com/x"}}}))}),
            "tools",
            "function `f`",
        ),
        (
            json!({"tool_choice": {"type": "function", "function": {"name": "sink"}}}),
            "tool_choice",
            "`sink` is not one",
        ),
        (json!({"tool_choice": "required", "tools": []}), "tool_choice", "needs `tools`"),
        (json!({"tool_choice": "required", "min_tokens": 3}), "min_tokens", "no place"),
    ] {
        let reply = chat(&sidecar, &more);
        let error = reply.json()["error"].clone();
        assert_eq!((reply.status, &error["param"]), (400, &json!(param)), "{error}");
        assert!(error["message"].as_str().unwrap().contains(part), "{error}");
    }
}

#[test]
fn tools_whose_schemas_are_kept_have_a_longest_length() {
    let sidecar = sidecar();
    let long = |strict: bool| {
        let tool = json!({"type": "function", "function": {"name": "f", "strict": strict}});
        let body = format!(
            r#"{{"model":"demo","messages":[{{"role":"user","content":"Hello"}}],"max_tokens":4,"tools":[{tool}{}]}}"#,
            " ".repeat(262_144)
        );
        post_with(&format!("{}/v1/chat/completions", sidecar.data_url), body.into_bytes(), &[])
    };
    let error = long(true).json()["error"].clone();
    assert_eq!(error["param"], "tools", "{error}");
    assert!(error["message"].as_str().unwrap().contains("at most 262144"), "{error}");
    long(false).ok();
}
