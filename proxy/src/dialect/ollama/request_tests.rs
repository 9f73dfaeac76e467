use serde_json::{Value, json};

use super::*;

fn chat(body: &Value) -> Value {
    let read = translate(Endpoint::Chat, &body.to_string()).unwrap();
    serde_json::from_str(&read.json).unwrap()
}

fn refused(endpoint: Endpoint, body: &Value) -> String {
    match translate(endpoint, &body.to_string()) {
        Err(DialectError::Form { param, .. }) => param,
        other => panic!("{body}: {other:?}"),
    }
}

#[test]
fn a_chat_in_openais_form() {
    let read = chat(&json!({
        "model": "m", "keep_alive": "5m", "logprobs": true, "top_logprobs": 2, "think": "high",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}],
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "format": {"type": "object"},
        "options": {
            "num_ctx": 512, "num_predict": 7, "temperature": 0, "top_k": -1, "top_p": 0.5, "min_p": 0.1, "seed": 3.0,
            "stop": ["a"], "repeat_penalty": 1.1, "presence_penalty": 0.2, "frequency_penalty": 0.3, "typical_p": 1.0,
            "num_keep": 4, "num_gpu": 1, "use_mmap": true, "no_such_option": {},
        },
    }));
    assert_eq!(
        read,
        json!({
            "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}],
            "model": "m", "tools": [{"type": "function", "function": {"name": "f"}}], "stream": true,
            "max_tokens": 7, "temperature": 0, "top_k": 0, "top_p": 0.5, "min_p": 0.1, "seed": 3, "stop": ["a"],
            "repetition_penalty": 1.1, "presence_penalty": 0.2, "frequency_penalty": 0.3, "n_keep": 4,
            "response_format": {"type": "json_schema", "json_schema": {"name": "format", "schema": {"type": "object"}}},
            "chat_template_kwargs": {"enable_thinking": true, "thinking": true, "reasoning_effort": "high"},
            "keep_alive": "5m", "logprobs": true, "top_logprobs": 2,
        })
    );
}

#[test]
fn what_says_nothing_is_left_out() {
    let read = chat(&json!({
        "model": "m", "messages": [{"role": "user", "content": "q"}], "stream": false, "format": "", "tools": null,
        "options": {"num_predict": -1, "seed": -1, "stop": [], "temperature": null}, "think": null,
    }));
    assert_eq!(read, json!({"messages": [{"role": "user", "content": "q"}], "model": "m", "stream": false}));
    assert_eq!(chat(&json!({"messages": [], "format": "json"}))["response_format"]["type"], "json_object");
    assert_eq!(chat(&json!({"messages": [], "shift": true}))["shift"], true);
    assert_eq!(chat(&json!({"messages": [], "keep_alive": 0.0}))["keep_alive"], 0);
    assert_eq!(chat(&json!({"messages": [], "keep_alive": -1.5}))["keep_alive"], -1);
    assert_eq!(chat(&json!({"messages": [], "keep_alive": 1.5}))["keep_alive"], 2);
    let beyond = translate(Endpoint::Chat, r#"{"messages":[],"keep_alive":1e999}"#).unwrap();
    assert!(beyond.json.ends_with(r#""keep_alive":1e999}"#), "{}", beyond.json);
}

#[test]
fn an_image_is_a_text_of_whatever_characters() {
    let read = chat(&json!({"messages": [{"role": "user", "content": "q", "images": ["AA\"", "\"\\"]}]}));
    let urls: Vec<_> = (1..3).map(|part| &read["messages"][0]["content"][part]["image_url"]["url"]).collect();
    assert_eq!(urls, ["data:image;base64,AA\"", "data:image;base64,\"\\"]);
    for (image, place) in [(json!(5), "messages[0].images[1]"), (json!({"a": "b"}), "messages[0].images[1]")]
    {
        let body = json!({"messages": [{"role": "user", "content": "q", "images": ["AAAA", image]}]});
        assert_eq!(refused(Endpoint::Chat, &body), place);
    }
}

#[test]
fn calls_and_results_find_each_other() {
    let call = |name: &str| json!({"function": {"name": name, "arguments": {"n": 1}}});
    let read = chat(&json!({"messages": [
        {"role": "user", "content": "q"},
        {"role": "assistant", "thinking": "hm", "tool_calls": [call("f"), call("g"), call("f"), {"id": "own", "function": {"name": "h", "arguments": {}}}]},
        {"role": "tool", "tool_name": "g", "content": "1"},
        {"role": "tool", "tool_name": "f", "content": "2"},
        {"role": "tool", "tool_name": "f", "content": "3"},
        {"role": "tool", "tool_call_id": "own", "content": "4"},
        {"role": "user", "content": "r"},
        {"role": "tool", "tool_name": "f", "content": "nobody asked"},
    ]}));
    let messages = &read["messages"];
    assert_eq!(messages[1]["reasoning_content"], "hm");
    assert_eq!(messages[1]["content"], "");
    assert_eq!(
        messages[1]["tool_calls"][0],
        json!({
            "id": "call_1_0", "type": "function", "function": {"name": "f", "arguments": r#"{"n":1}"#},
        })
    );
    let answered: Vec<&Value> = (2..6).map(|index| &messages[index]["tool_call_id"]).collect();
    assert_eq!(answered, ["call_1_1", "call_1_0", "call_1_2", "own"]);
    assert_eq!(messages[2]["name"], "g");
    assert_eq!(messages[7].get("tool_call_id"), None);
}

#[test]
fn images_stand_beside_the_text() {
    let body = json!({"messages": [{"role": "user", "content": "see", "images": ["QUJD"]}]});
    let read = translate(Endpoint::Chat, &body.to_string()).unwrap();
    let json: Value = serde_json::from_str(&read.json).unwrap();
    assert_eq!(
        json["messages"][0]["content"],
        json!([
            {"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "data:image;base64,QUJD"}},
        ])
    );
    assert_eq!(read.unserved.unwrap().0, "messages[0].images");
}

#[test]
fn a_prompt_is_a_conversation() {
    let read = |body: Value| translate(Endpoint::Generate, &body.to_string()).unwrap();
    let plain = read(json!({"model": "m", "prompt": "q", "system": "s", "options": {"num_ctx": 64}}));
    assert_eq!((plain.turn.clone(), plain.window), (Turn::Conversation, Some(64)));
    assert!(
        plain
            .json
            .starts_with(r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"q"}]"#)
    );
    assert_eq!(place(&plain, "messages[1].content"), "prompt");
    assert_eq!(place(&plain, "messages[0].content"), "system");
    for (body, turn) in [
        (json!({"model": "m"}), Turn::Load),
        (json!({"prompt": "", "context": [1]}), Turn::Load),
        (json!({"prompt": "q", "raw": true}), Turn::Raw("q".to_owned())),
        (json!({"prompt": "q", "context": [1, 2]}), Turn::Continued(vec![1, 2])),
        (json!({"prompt": "q", "context": []}), Turn::Conversation),
        (json!({"prompt": "", "suffix": "s"}), Turn::Filled),
    ] {
        assert_eq!(read(body.clone()).turn, turn, "{body}");
    }
    for (body, place) in [
        (json!({"prompt": "q", "suffix": "s"}), "suffix"),
        (json!({"prompt": "q", "template": "{{ .Prompt }}"}), "template"),
        (json!({"prompt": "q", "images": ["QUJD"]}), "images"),
        (json!({"prompt": "q", "raw": true, "system": "s"}), "raw"),
        (json!({"prompt": "q", "options": {"typical_p": 0.5}}), "options.typical_p"),
        (json!({"prompt": "q", "options": {"temperature": "hot"}}), "options.temperature"),
        (json!({"prompt": "q", "options": {"stop": "a"}}), "options.stop"),
        (json!({"prompt": "q", "options": {"num_ctx": 0}}), "options.num_ctx"),
    ] {
        assert_eq!(read(body.clone()).unserved.unwrap().0, place, "{body}");
    }
}

#[test]
fn a_body_of_another_form_is_told_by_its_place() {
    for (body, place) in [
        (json!([]), "body"),
        (json!({"messages": {}}), "messages"),
        (json!({"messages": [5]}), "messages[0]"),
        (json!({"messages": [{"role": "user", "content": ["a"]}]}), "messages[0].content"),
        (json!({"messages": [{"role": "user", "content": "a", "images": "b"}]}), "messages[0].images"),
        (
            json!({"messages": [{"role": "assistant", "tool_calls": [{"name": "f"}]}]}),
            "messages[0].tool_calls[0]",
        ),
        (json!({"messages": [], "stream": "yes"}), "stream"),
        (json!({"messages": [], "options": []}), "options"),
        (json!({"messages": [], "format": "xml"}), "format"),
        (json!({"messages": [], "think": "hard"}), "think"),
        (json!({"messages": [], "tools": {}}), "tools"),
        (json!({"messages": [], "truncate": 1}), "truncate"),
    ] {
        assert_eq!(refused(Endpoint::Chat, &body), place, "{body}");
    }
    assert_eq!(refused(Endpoint::Generate, &json!({"prompt": 5})), "prompt");
    assert_eq!(refused(Endpoint::Generate, &json!({"prompt": "q", "context": ["a"]})), "context");
    assert!(matches!(translate(Endpoint::Chat, "{nope"), Err(DialectError::Json(_))));
}

#[test]
fn options_are_told_by_ollamas_names() {
    let read = translate(Endpoint::Chat, r#"{"messages":[]}"#).unwrap();
    for (param, name) in [
        ("max_tokens", "options.num_predict"),
        ("repetition_penalty", "options.repeat_penalty"),
        ("temperature", "options.temperature"),
        ("response_format", "format"),
        ("chat_template_kwargs", "think"),
        ("keep_alive", "keep_alive"),
        ("messages[3].content", "messages[3].content"),
    ] {
        assert_eq!(place(&read, param), name);
    }
}
