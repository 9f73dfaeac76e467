//! The model reads what was shortened, inside the client's request: the client sees one answer and no call of ours.

use plimsoll_tests::mock::{Answer, Mock};
use plimsoll_tests::{Reply, Sidecar, post};
use serde_json::{Value, json};

use crate::artifacts::{body, config, id, long};

const ROUTE: &str = "policy: agent, read_tool: true";

fn chat(sidecar: &Sidecar, body: &Value) -> Reply {
    post(&format!("{}/v1/chat/completions", sidecar.data_url), body)
}

/// What the mock was sent, in order.
fn sent(mock: &Mock) -> Vec<Value> {
    mock.seen().iter().map(|seen| serde_json::from_slice(&seen.body).unwrap()).collect()
}

fn call(id: &str, name: &str, arguments: &Value) -> Value {
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments.to_string()}})
}

fn answer(content: &Value, calls: &[Value], finish: &str, tokens: u64) -> String {
    let mut message = json!({"role": "assistant", "content": content});
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    let usage = json!({"prompt_tokens": tokens, "completion_tokens": 1, "total_tokens": tokens + 1});
    json!({"id": format!("a{tokens}"), "created": tokens, "choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": usage}).to_string()
}

/// The id of [`long`], as every sidecar names it.
fn long_id() -> String {
    let mock = Mock::start(Vec::new());
    chat(&Sidecar::start(&config(&mock, ROUTE, "")), &body(&long()));
    id(&mock)
}

fn read(n: usize, offset: usize) -> Value {
    call(&format!("r{n}"), "plimsoll_read", &json!({"id": long_id(), "offset": offset, "limit": 100}))
}

#[test]
fn reads_are_answered_and_the_client_sees_one_answer() {
    let mock = Mock::start(vec![
        Answer::json(&answer(&json!("Let me look."), &[read(1, 0), read(2, 1000)], "tool_calls", 100)),
        Answer::json(&answer(&json!("It is zeile 1."), &[], "stop", 200)),
    ]);
    let sidecar = Sidecar::start(&config(&mock, ROUTE, ""));
    let reply = chat(&sidecar, &body(&long())).ok();
    let choice = &reply["choices"][0];
    assert_eq!(choice["message"], json!({"role": "assistant", "content": "Let me look.\n\nIt is zeile 1."}));
    assert_eq!(choice["finish_reason"], "stop");
    assert_eq!(reply["usage"], json!({"prompt_tokens": 300, "completion_tokens": 2, "total_tokens": 302}));
    let [first, second] = &sent(&mock)[..] else { panic!("two rounds") };
    // The first round is the beginning of the second: a prefix cache holds it.
    let (first, second) = (&first["messages"], second["messages"].as_array().unwrap());
    assert_eq!(first.as_array().unwrap()[..], second[..3]);
    assert_eq!(second[3]["tool_calls"].as_array().unwrap().len(), 2);
    let result = second[4]["content"].as_str().unwrap();
    assert!(result.starts_with("zeile 0 über\nzeile 1 über\n"), "{result}");
    assert!(
        result.ends_with(&format!("\n[plimsoll: bytes 0 to 100 of {}; read on at offset 100]", long().len())),
        "{result}"
    );
    assert_eq!((&second[4]["tool_call_id"], &second[5]["tool_call_id"]), (&json!("r1"), &json!("r2")));
}

#[test]
fn the_tool_stands_last_whether_or_not_something_was_shortened() {
    let mock = Mock::start(Vec::new());
    // A policy that puts tools in order puts this one in order too.
    let policy = "policies: { p: { steps: [cap_tool_output: { max_tokens: 400 }] } }";
    let sidecar = Sidecar::start(&config(&mock, "policy: p, read_tool: true", policy));
    chat(&sidecar, &body("short"));
    chat(&sidecar, &body(&long()));
    let tools: Vec<Value> = sent(&mock).iter().map(|sent| sent["tools"].clone()).collect();
    assert_eq!(tools[0], tools[1]);
    assert_eq!(tools[0][1]["function"]["name"], "plimsoll_read");
    // Chats without tools have nothing to read, and a client's own tool of that name is the client's.
    mock.forget();
    let own = json!([{"type": "function", "function": {"name": "plimsoll_read"}}]);
    for mut request in [json!({"messages": [{"role": "user", "content": "hi"}]}), body("short")] {
        if request.get("tools").is_some() {
            request["tools"] = own.clone();
        }
        chat(&sidecar, &request);
        assert_eq!(sent(&mock).pop().unwrap(), request);
    }
}

#[test]
fn answers_that_do_not_read_keep_their_bytes() {
    let odd = r#"{ "choices":[{"message":{"content":"\u00e9"} , "finish_reason":"stop"}],"x":1.50 }"#;
    let mock = Mock::start(vec![Answer::json(odd), Answer::json("{}").status(503)]);
    let sidecar = Sidecar::start(&config(&mock, ROUTE, ""));
    assert_eq!(chat(&sidecar, &body(&long())).text(), odd);
    assert_eq!(chat(&sidecar, &body(&long())).status, 503);
}

#[test]
fn the_clients_own_calls_end_the_rounds() {
    let own = call("c9", "sh", &json!({"a": 1}));
    let mock =
        Mock::start(vec![Answer::json(&answer(&Value::Null, &[read(1, 0), own.clone()], "tool_calls", 9))]);
    let sidecar = Sidecar::start(&config(&mock, ROUTE, ""));
    let reply = chat(&sidecar, &body(&long())).ok();
    assert_eq!(reply["choices"][0]["message"]["tool_calls"], json!([own]));
    assert_eq!(reply["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(mock.seen().len(), 1);
}

#[test]
fn a_model_that_only_reads_is_stopped() {
    let reading = || Answer::json(&answer(&Value::Null, &[read(1, 0)], "tool_calls", 10));
    let mock = Mock::start((0..9).map(|_| reading()).collect());
    let sidecar = Sidecar::start(&config(&mock, ROUTE, ""));
    let reply = chat(&sidecar, &body(&long())).ok();
    assert_eq!(reply["choices"][0]["message"], json!({"role": "assistant", "content": ""}));
    assert_eq!(
        (&reply["choices"][0]["finish_reason"], &reply["usage"]["prompt_tokens"]),
        (&json!("stop"), &json!(50))
    );
    assert_eq!(mock.seen().len(), 5);
}

#[test]
fn what_cannot_be_read_is_told_to_the_model() {
    let other = call("r1", "plimsoll_read", &json!({"id": "ctx_0123456789abcdef"}));
    let broken =
        json!({"id": "r2", "type": "function", "function": {"name": "plimsoll_read", "arguments": "{"}});
    let mock = Mock::start(vec![
        Answer::json(&answer(&Value::Null, &[other, broken], "tool_calls", 1)),
        Answer::json(&answer(&json!("ok"), &[], "stop", 1)),
    ]);
    let sidecar = Sidecar::start(&config(&mock, ROUTE, ""));
    assert_eq!(chat(&sidecar, &body(&long())).ok()["choices"][0]["message"]["content"], "ok");
    let messages = sent(&mock).pop().unwrap()["messages"].clone();
    for (index, begins) in [(4, "Error: no output with this id"), (5, "Error: the arguments cannot be read")]
    {
        assert!(messages[index]["content"].as_str().unwrap().starts_with(begins), "{messages}");
    }
}

/// A chunk of a stream.
fn chunk(id: &str, delta: &Value, finish: Option<&str>) -> String {
    json!({"id": id, "created": 1, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        .to_string()
}

fn usage(id: &str, tokens: u64) -> String {
    json!({"id": id, "created": 1, "choices": [], "usage": {"prompt_tokens": tokens, "completion_tokens": 2}})
        .to_string()
}

fn stream(chunks: &[String]) -> Answer {
    Answer::events(&chunks.iter().map(String::as_str).collect::<Vec<_>>())
}

fn pieces(call: &Value, index: usize, id: &str) -> Vec<String> {
    let arguments = call["function"]["arguments"].as_str().unwrap();
    let (one, other) = arguments.split_at(arguments.len() / 2);
    let head = json!({"index": index, "id": call["id"], "type": "function", "function": {"name": call["function"]["name"], "arguments": one}});
    vec![
        chunk(id, &json!({"tool_calls": [head]}), None),
        chunk(id, &json!({"tool_calls": [{"index": index, "function": {"arguments": other}}]}), None),
    ]
}

fn said(events: &[Value]) -> String {
    events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect()
}

#[test]
fn streams_are_joined_and_show_no_read() {
    let mut first = vec![
        chunk("one", &json!({"role": "assistant", "content": ""}), None),
        chunk("one", &json!({"content": "Let me "}), None),
        chunk("one", &json!({"content": "look."}), None),
    ];
    first.extend(pieces(&read(1, 0), 0, "one"));
    first.extend([chunk("one", &json!({}), Some("tool_calls")), usage("one", 100)]);
    let second = [
        chunk("two", &json!({"role": "assistant", "content": ""}), None),
        chunk("two", &json!({"content": "It is "}), None),
        chunk("two", &json!({"content": "zeile 1."}), None),
        chunk("two", &json!({}), Some("stop")),
        usage("two", 200),
    ];
    let mock = Mock::start(vec![stream(&first), stream(&second)]);
    let sidecar = Sidecar::start(&config(&mock, ROUTE, ""));
    let mut request = body(&long());
    request["stream"] = true.into();
    request["stream_options"] = json!({"include_usage": true});
    let reply = chat(&sidecar, &request);
    let events = reply.events();
    assert_eq!(said(&events), "Let me look.\n\nIt is zeile 1.");
    assert!(
        !reply.text().contains("plimsoll_read") && !reply.text().contains("tool_calls"),
        "{}",
        reply.text()
    );
    assert!(events.iter().all(|event| event["id"] == "one"), "{events:?}");
    let finishes: Vec<&str> =
        events.iter().filter_map(|event| event["choices"][0]["finish_reason"].as_str()).collect();
    assert_eq!(finishes, ["stop"]);
    let usages: Vec<&Value> =
        events.iter().filter(|event| event["usage"].is_object()).map(|event| &event["usage"]).collect();
    assert_eq!(usages, [&json!({"prompt_tokens": 300, "completion_tokens": 4})]);
    let second = &sent(&mock)[1]["messages"];
    assert_eq!(second[3]["content"], "Let me look.");
    assert_eq!(second[3]["tool_calls"], json!([read(1, 0)]));
    assert!(second[4]["content"].as_str().unwrap().starts_with("zeile 0 über\n"));
}

#[test]
fn a_streamed_call_of_the_client_is_numbered_anew() {
    let own = call("c9", "sh", &json!({"a": 1}));
    let mut chunks = vec![chunk("one", &json!({"role": "assistant", "content": null}), None)];
    chunks.extend(pieces(&read(1, 0), 0, "one"));
    chunks.extend(pieces(&own, 1, "one"));
    chunks.push(chunk("one", &json!({}), Some("tool_calls")));
    let mock = Mock::start(vec![stream(&chunks)]);
    let sidecar = Sidecar::start(&config(&mock, ROUTE, ""));
    let mut request = body(&long());
    request["stream"] = true.into();
    let events = chat(&sidecar, &request).events();
    let calls: Vec<&Value> = events
        .iter()
        .map(|event| &event["choices"][0]["delta"]["tool_calls"][0])
        .filter(|call| !call.is_null())
        .collect();
    assert_eq!(calls.len(), 2);
    assert!(calls.iter().all(|call| call["index"] == 0) && calls[0]["function"]["name"] == "sh");
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(mock.seen().len(), 1);
}

#[test]
fn a_stream_that_just_ends_is_read_to_its_end() {
    let mut chunks = pieces(&read(1, 0), 0, "one");
    chunks.push(chunk("one", &json!({}), Some("tool_calls")));
    let last = [chunk("two", &json!({"content": "done"}), Some("stop")), usage("two", 7)];
    let open = |chunks: &[String]| {
        Answer::text("text/event-stream", &format!("data: {}\n", chunks.join("\n\ndata: ")))
    };
    let mock = Mock::start(vec![open(&chunks), open(&last)]);
    let sidecar = Sidecar::start(&config(&mock, ROUTE, ""));
    let mut request = body(&long());
    request["stream"] = true.into();
    request["stream_options"] = json!({"include_usage": true});
    let text = chat(&sidecar, &request).text();
    assert!(text.contains(r#""content":"done""#) && text.contains(r#""prompt_tokens":7"#), "{text}");
    assert!(!text.contains("plimsoll_read"), "{text}");
}

#[test]
fn an_error_in_a_later_round_ends_the_stream() {
    let mut chunks = pieces(&read(1, 0), 0, "one");
    chunks.push(chunk("one", &json!({}), Some("tool_calls")));
    let fault = r#"{"error":{"message":"no","type":"server_error"}}"#;
    let mock = Mock::start(vec![stream(&chunks), Answer::json(fault).status(500)]);
    let sidecar = Sidecar::start(&config(&mock, ROUTE, ""));
    let mut request = body(&long());
    request["stream"] = true.into();
    assert_eq!(chat(&sidecar, &request).text(), format!("data: {fault}\n\n"));
}

#[test]
fn the_engine_answers_as_ever_where_nothing_is_read() {
    let engine = "model: engine/demo/model, name: demo, slots: 4, context: 1024";
    let start = |route: &str| Sidecar::start(&plimsoll_tests::shared::one_engine(engine, route));
    let sidecar = start("policy: agent, any_model: true, read_tool: true");
    let tool = json!({"type": "function", "function": {"name": "get_order_status", "description": "Look up the status of an order.", "parameters": {"type": "object", "properties": {"order_id": {"type": "string", "description": "The order number"}}, "required": ["order_id"]}}});
    let mut request = json!({"model": "demo", "tools": [tool], "messages": [{"role": "user", "content": "What is the status of order ORD-90412?"}]});
    let whole = chat(&sidecar, &request).ok();
    let call = &whole["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call["name"], "get_order_status");
    request["stream"] = true.into();
    let events = chat(&sidecar, &request).events();
    let arguments: String = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str())
        .collect();
    assert_eq!(call["arguments"], arguments);
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
    // The tool is part of the prompt that runs.
    let plain = chat(&start("policy: agent, any_model: true"), &{
        request["stream"] = false.into();
        request
    })
    .ok();
    let tokens = |answer: &Value| answer["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(tokens(&whole) > tokens(&plain) + 50);
}

/// The client's calls of a stream: name and arguments by the index it sees.
fn calls(events: &[Value]) -> Vec<(String, String)> {
    let mut calls: Vec<(String, String)> = Vec::new();
    for piece in
        events.iter().filter_map(|event| event["choices"][0]["delta"]["tool_calls"].as_array()).flatten()
    {
        let index = usize::try_from(piece["index"].as_u64().unwrap()).unwrap();
        calls.resize(calls.len().max(index + 1), (String::new(), String::new()));
        calls[index].0.push_str(piece["function"]["name"].as_str().unwrap_or_default());
        calls[index].1.push_str(piece["function"]["arguments"].as_str().unwrap_or_default());
    }
    calls
}

#[test]
fn parallel_calls_without_an_index_or_all_with_the_same_are_told_apart() {
    let own = |id: &str, n: usize| call(id, "sh", &json!({"a": n}));
    let want = |n: usize| ("sh".to_owned(), json!({"a": n}).to_string());
    // Of pieces with the id on the first one, of whole calls without ids, and with another id on every piece.
    for (index, ids) in
        [("zero", "first"), ("none", "first"), ("zero", "none"), ("none", "none"), ("right", "each")]
    {
        let mut chunks = Vec::new();
        for (n, call) in [read(1, 0), own("c8", 8), own("c9", 9)].iter().enumerate() {
            match ids {
                "none" => chunks.push(chunk("one", &json!({"tool_calls": [call]}), None)),
                _ => chunks.extend(pieces(call, n, "one")),
            }
        }
        chunks.push(chunk("one", &json!({}), Some("tool_calls")));
        let altered = chunks.iter().enumerate().map(|(n, chunk)| {
            let mut chunk: Value = serde_json::from_str(chunk).unwrap();
            if let Some(Value::Object(piece)) = chunk.pointer_mut("/choices/0/delta/tool_calls/0") {
                match index {
                    "zero" => drop(piece.insert("index".to_owned(), 0.into())),
                    "none" => drop(piece.shift_remove("index")),
                    _ => {}
                }
                match ids {
                    "none" => drop(piece.shift_remove("id")),
                    "each" => drop(piece.insert("id".to_owned(), format!("p{n}").into())),
                    _ => {}
                }
            }
            chunk.to_string()
        });
        let mock = Mock::start(vec![stream(&altered.collect::<Vec<_>>())]);
        let sidecar = Sidecar::start(&config(&mock, ROUTE, ""));
        let mut request = body(&long());
        request["stream"] = true.into();
        let events = chat(&sidecar, &request).events();
        assert_eq!(calls(&events), [want(8), want(9)], "{index} {ids} {events:?}");
        assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(mock.seen().len(), 1);
    }
}

#[test]
fn joined_chunks_get_no_member_that_the_upstream_never_sent() {
    let bare = |delta: Option<&Value>, finish: Option<&str>| {
        let mut choice = json!({"index": 0});
        delta.into_iter().for_each(|delta| choice["delta"] = delta.clone());
        finish.into_iter().for_each(|finish| choice["finish_reason"] = finish.into());
        json!({"id": "x", "choices": [choice]}).to_string()
    };
    let reads = bare(Some(&json!({"tool_calls": [read(1, 0)]})), None);
    let first = [reads, bare(None, Some("tool_calls"))];
    let second = [bare(Some(&json!({"content": "done"})), None), bare(None, Some("stop"))];
    let mock = Mock::start(vec![stream(&first), stream(&second)]);
    let sidecar = Sidecar::start(&config(&mock, ROUTE, ""));
    let mut request = body(&long());
    request["stream"] = true.into();
    let text = chat(&sidecar, &request).text();
    assert_eq!(text, format!("data: {}\n\ndata: {}\n\ndata: [DONE]\n\n", second[0], second[1]));
}
