use std::collections::BTreeMap;

use plimsoll_policies::json::{elements, last, members};
use plimsoll_policies::{
    Chain, Context, CountError, CountTokens, Limits, Message, NoSummaries, PolicyConfig, Verdict, resolve,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A body's chat form.
fn chat(body: &str) -> Value {
    parsed(&translate(body).unwrap().json)
}

/// Four bytes a token, of all that a message has.
struct Bytes;

impl CountTokens for Bytes {
    fn prompt(&self, conversation: &Conversation) -> Result<Tokens, CountError> {
        let tools = conversation.tools().map_or(0, |tools| self.text(tools));
        Ok(3 + tools + self.messages(conversation.messages()))
    }

    fn messages(&self, messages: &[Message]) -> Tokens {
        messages.iter().map(|message| 4 + self.text(message.json())).sum()
    }

    fn text(&self, text: &str) -> Tokens {
        text.len().div_ceil(4) as Tokens
    }

    fn name(&self) -> &'static str {
        "bytes"
    }

    fn estimated(&self) -> bool {
        true
    }
}

/// What steps make of a body in a window of tokens.
fn governed(body: &str, steps: &Value, window: u64) -> (Translated, Conversation) {
    let policy: PolicyConfig = serde_json::from_value(json!({"steps": steps})).unwrap();
    let steps = resolve("own", &BTreeMap::from([("own".to_owned(), policy)])).unwrap();
    let translated = translate(body).unwrap();
    let conversation = Conversation::parse_chat(translated.json.clone()).unwrap();
    let context = Context { limits: Limits::tokens(window), counter: &Bytes, summaries: &NoSummaries };
    match Chain::build("own", &steps).apply(&conversation, &context) {
        Ok(Verdict::Done { conversation, .. }) => (translated, conversation),
        Ok(Verdict::Ask(_)) => panic!("no step asks a model"),
        // Nothing of it is written then.
        Err(_) => (translated, conversation),
    }
}

fn written(body: &str, steps: &Value, window: u64) -> String {
    let (translated, conversation) = governed(body, steps, window);
    translated.original.write(&conversation)
}

const TURN: &str = r#"{ "model":"gpt-5","instructions":"Be br\u0069ef.","input" : [ {"role":"user","content":"look \ud800"} ,
  {"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"gA\/A="},{"type":"function_call","id":"fc_1","call_id":"c1","name":"ls","arguments":"{\"path\":\"/a/rather/long/path\"}"},
  {"type":"function_call","call_id":"c2","name":"cat","arguments":"{}","n":1E2},
  {"type":"function_call_output","call_id":"c1","output":"a b"},{"type":"function_call_output","call_id":"c2","output":[{"type":"input_text","text":"x"}]},
  {"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[{"type":"output_text","text":"Done.","annotations":[]}]}
 ],"tools":[{"type":"function","name":"b","parameters":null},{"type":"function","name":"a","parameters":{"type":"object"}}],"max_output_tokens":50 }
"#;

#[test]
fn a_turn_is_one_message() {
    assert_eq!(
        chat(TURN.replace("\\ud800", "").as_str()),
        json!({
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "look "},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "ls", "arguments": "{\"path\":\"/a/rather/long/path\"}"}},
                    {"id": "c2", "type": "function", "function": {"name": "cat", "arguments": "{}"}},
                ]},
                {"role": "tool", "tool_call_id": "c1", "content": "a b"},
                {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "x"}]},
                {"role": "assistant", "content": [{"type": "text", "text": "Done."}]},
            ],
            "model": "gpt-5",
            "max_completion_tokens": 50,
            "tools": [
                {"type": "function", "function": {"name": "b"}},
                {"type": "function", "function": {"name": "a", "parameters": {"type": "object"}}},
            ],
        })
    );
}

#[test]
fn options_have_their_chat_names() {
    let schema = json!({"type": "object"});
    let got = chat(
        &json!({
            "model": "m", "input": "hi", "stream": true, "temperature": 0.5, "seed": 7, "store": false,
            "text": {"format": {"type": "json_schema", "name": "n", "schema": schema}, "verbosity": "low"},
            "tool_choice": {"type": "function", "name": "f"}, "top_logprobs": 3, "reasoning": {"effort": "none"},
            "metadata": {"a": "b"},
        })
        .to_string(),
    );
    assert_eq!(
        got,
        json!({
            "messages": [{"role": "user", "content": "hi"}], "model": "m", "stream": true, "temperature": 0.5,
            "seed": 7, "logprobs": true, "top_logprobs": 3,
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "chat_template_kwargs": {"enable_thinking": false},
        })
    );
}

#[test]
fn what_is_known_by_name_alone_is_carried_in_its_place() {
    let items = json!([
        {"type": "compaction", "encrypted_content": "x"},
        {"role": "user", "content": "go"},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "web_search_call", "id": "ws"},
        {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "*** Begin"},
        {"type": "shell_call", "call_id": "s", "action": {}},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "ok"},
        {"type": "shell_call_output", "call_id": "s", "output": [{"stdout": "x"}]},
        {"type": "brand_new", "call_id": "s"},
    ]);
    let got = chat(&json!({"input": items}).to_string());
    let call = |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    assert_eq!(
        got["messages"],
        json!([
            {"role": "system", "content": ""},
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": null, "reasoning_content": "hm",
             "tool_calls": [call("c", "patch", "*** Begin"), call("s", "shell_call", "{}")]},
            {"role": "tool", "tool_call_id": "c", "content": "ok"},
            {"role": "tool", "tool_call_id": "s", "content": ""},
            {"role": "system", "content": ""},
        ])
    );
}

#[test]
fn nothing_that_is_left_alone_changes() {
    assert_eq!(written(TURN, &json!([]), 8000), TURN);
}

#[test]
fn tools_are_sorted_in_their_own_text() {
    let tools = r#"[{"type":"function","name":"b","parameters":null},{"type":"function","name":"a","parameters":{"type":"object"}}]"#;
    let sorted = r#"[{"type":"function","name":"a","parameters":{"type":"object"}},{"type":"function","name":"b","parameters":null}]"#;
    assert_eq!(written(TURN, &json!(["normalize_prefix"]), 8000), TURN.replace(tools, sorted));
}

#[test]
fn a_limit_that_cannot_fit_is_lowered_in_its_place() {
    let body = format!(r#"{{"input":"{}","max_output_tokens" : 5000}}"#, "word ".repeat(500));
    let now = written(&body, &json!([{"reserve_output": {"clamp": true}}]), 1000);
    let limit = parsed(&now)["max_output_tokens"].as_u64().unwrap();
    assert!((1..500).contains(&limit));
    assert_eq!(now, body.replace("5000", &limit.to_string()));
}

/// A long result of an old call, and what a policy may make of it.
#[test]
fn an_old_result_is_cleared_where_it_stands() {
    let long = "word ".repeat(400);
    let exchange = |n: usize, output: &Value| {
        [
            json!({"type": "reasoning", "id": format!("rs_{n}"), "summary": [], "encrypted_content": "e"}),
            json!({"type": "function_call", "id": format!("fc_{n}"), "call_id": format!("c{n}"), "name": "read", "arguments": json!({"path": "a".repeat(200)}).to_string()}),
            json!({"type": "function_call_output", "call_id": format!("c{n}"), "output": output}),
        ]
    };
    let mut items = vec![json!({"role": "user", "content": "go"})];
    items.extend(exchange(1, &json!([{"type": "input_text", "text": long}])));
    items.extend(exchange(2, &json!(long)));
    items.extend(exchange(3, &json!("short")));
    let body = json!({"model": "m", "input": items}).to_string();
    let steps =
        json!([{"clear_tool_uses": {"trigger": 0.1, "keep": 1, "clear_at_least": 1, "clear_inputs": true}}]);
    let now = parsed(&written(&body, &steps, 2000));
    let items = now["input"].as_array().unwrap();
    assert_eq!(items.len(), 10, "{now}");
    for (at, cleared) in [(3, true), (6, true), (9, false)] {
        let output = items[at]["output"].as_str().unwrap_or_default();
        assert_eq!(output.starts_with('['), cleared, "{}", items[at]);
        assert_eq!(items[at - 2]["encrypted_content"], "e");
        assert_eq!(items[at - 1]["id"], format!("fc_{}", at / 3));
    }
}

#[test]
fn images_become_a_note_of_the_same_message() {
    let image = |n: usize| json!({"role": "user", "content": [{"type": "input_text", "text": format!("{n}")}, {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]});
    let said =
        json!({"role": "assistant", "content": [{"type": "output_text", "text": "ok", "annotations": []}]});
    let items: Vec<Value> = (0..4).flat_map(|n| [image(n), said.clone()]).collect();
    let body = json!({"input": items}).to_string();
    let now = parsed(&written(&body, &json!([{"drop_images": {"keep_last": 1, "slack": 0}}]), 8000));
    let kinds: Vec<_> = (0..8).step_by(2).map(|at| now["input"][at]["content"][1]["type"].clone()).collect();
    assert_eq!(kinds, ["input_text", "input_text", "input_text", "input_image"]);
    assert_eq!(now["input"][1], said);
}

#[test]
fn reasoning_in_plain_words_goes_as_an_item() {
    let mut items = Vec::new();
    for n in 0..4 {
        items.push(json!({"role": "user", "content": format!("{n}")}));
        items.push(json!({"type": "reasoning", "id": format!("r{n}"), "summary": [], "content": [{"type": "reasoning_text", "text": "long thoughts on it"}]}));
        items.push(json!({"role": "assistant", "content": "ok"}));
    }
    let body = json!({"input": items}).to_string();
    let now = parsed(&written(&body, &json!([{"clear_thinking": {"keep": 1, "slack": 0}}]), 8000));
    let left: Vec<_> =
        now["input"].as_array().unwrap().iter().filter_map(|item| item["id"].as_str()).collect();
    assert_eq!(left, ["r2", "r3"]);
    assert_eq!(now["input"].as_array().unwrap().len(), 10);
}

#[test]
fn a_text_stays_a_text() {
    let body = format!(r#"{{"input" : "{}","model":"m"}}"#, "word ".repeat(3000));
    let now = written(&body, &json!([{"fit_context": {"on_overflow": "truncate_middle"}}]), 1500);
    assert!(
        now.starts_with(r#"{"input" : "word"#)
            && now.ends_with(r#"","model":"m"}"#)
            && now.len() < body.len() / 2
    );
}

#[test]
fn what_is_elsewhere_is_told() {
    for (body, field) in [
        (r#"{"input":"x","previous_response_id":"r"}"#, Some("previous_response_id")),
        (r#"{"input":"x","conversation":{"id":"c"}}"#, Some("conversation")),
        (r#"{"prompt":{"id":"p"}}"#, Some("prompt")),
        (r#"{"input":[{"type":"item_reference","id":"m"}]}"#, Some("item_reference")),
        (r#"{"input":"x","previous_response_id":null,"store":true,"background":true}"#, None),
    ] {
        let translated = translate(body).unwrap();
        assert_eq!(translated.original.ungoverned(), field, "{body}");
        assert!(translated.original.unserved().is_some(), "{body}");
    }
}

#[test]
fn bodies_of_the_wrong_form_are_told_apart() {
    assert!(!translate("{nope").map(drop).unwrap_err().is_json());
    assert!(translate("[1]").map(drop).unwrap_err().is_json());
    for body in ["{}", r#"{"input":7}"#, r#"{"input":{}}"#] {
        let unserved = translate(body).unwrap().original.unserved().unwrap();
        assert_eq!(unserved.param, "input", "{body}");
    }
}

/// Items in odd spellings; `n` makes ids.
fn item(kind: u8, n: usize) -> String {
    let long = "many words of one result ".repeat(usize::from(kind) * 3);
    match kind % 10 {
        0 => format!(r#"{{"role":"user","content":"question {n} {long}"}}"#),
        1 => format!(
            r#"{{ "content":[{{"text":"q\u0041 {n}","type":"input_text"}} ], "role":"user","x":1.0}}"#
        ),
        2 => format!(
            r#"{{"type":"message","id":"m{n}","role":"assistant","content":[{{"type":"output_text","text":"said {n} {long}","annotations":[]}}]}}"#
        ),
        3 => format!(r#"{{"role":"assistant","content":"said {n}"}}"#),
        4 => format!(r#"{{"type":"reasoning","id":"r{n}","encrypted_content":"\u0041=","summary":[]}}"#),
        5 => format!(
            r#"{{"type":"reasoning","id":"r{n}","content":[{{"type":"reasoning_text","text":"hm {n}"}}],"summary":[]}}"#
        ),
        6 => format!(
            r#"{{"type":"function_call","call_id":"c{n}","name":"f","arguments":"{{\"a\":\"{long}\"}}"}}, {{"type":"function_call_output","call_id":"c{n}","output":"{n} {long}"}}"#
        ),
        7 => format!(
            r#"{{"type":"custom_tool_call","call_id":"c{n}","name":"g","input":"do"}},{{"output":[{{"type":"input_text","text":"{long}"}}],"type":"custom_tool_call_output","call_id":"c{n}"}}"#
        ),
        8 => format!(r#"{{"type":"web_search_call","id":"w{n}","status":"completed"}}"#),
        _ => format!(r#"{{"role":"developer","content":"rule {n}"}}"#),
    }
}

fn body() -> impl Strategy<Value = String> {
    let separator = prop::sample::select(vec![",", " , ", ",\n\t"]);
    let items = prop::collection::vec((0u8..40, separator), 1..30);
    (items, any::<bool>()).prop_map(|(items, instructions)| {
        let mut list = String::new();
        for (n, (kind, separator)) in items.iter().enumerate() {
            if n > 0 {
                list.push_str(separator);
            }
            list.push_str(&item(*kind, n));
        }
        let head = if instructions { r#""instructions":"be so","# } else { "" };
        format!(r#" {{"model":"m",{head}"input": [ {list} ],"y":1E2}}"#)
    })
}

fn input(body: &str) -> Vec<&str> {
    let body = body.trim();
    let fields = members(body).unwrap();
    let list = &body[last(body, &fields, "input").unwrap().value.clone()];
    elements(list).unwrap().into_iter().map(|span| &list[span]).collect()
}

/// What a chat says, whoever its parts were put together with: assistant messages in a row are one.
fn atoms(chat: &Value) -> Vec<Vec<String>> {
    let mut all: Vec<(bool, Vec<String>)> = Vec::new();
    for message in chat["messages"].as_array().unwrap() {
        let assistant = message["role"] == "assistant";
        let mut own = Vec::new();
        let thoughts = message["reasoning_content"].as_str().into_iter().flat_map(str::lines);
        own.extend(thoughts.map(|thought| format!("thought {thought}")));
        let content = &message["content"];
        own.extend(content.as_str().filter(|text| !text.is_empty() || !assistant).map(str::to_owned));
        own.extend(
            content.as_array().into_iter().flatten().map(|part| part["text"].as_str().unwrap().to_owned()),
        );
        own.extend(message["tool_calls"].as_array().into_iter().flatten().map(Value::to_string));
        own.push(if assistant {
            String::new()
        } else {
            format!("{} {}", message["role"], message["tool_call_id"])
        });
        match all.last_mut() {
            Some((true, last)) if assistant => last.extend(own),
            _ if assistant && own.iter().all(String::is_empty) => {}
            _ => all.push((assistant, own)),
        }
    }
    let sorted = |mut own: Vec<String>| {
        own.retain(|atom| !atom.is_empty());
        own.sort();
        own
    };
    all.into_iter().map(|(_, own)| sorted(own)).filter(|own| !own.is_empty()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_a_policy_made_is_what_is_written(body in body(), window in 200u64..3000, which in 0usize..4) {
        let steps = [
            json!(["normalize_prefix", "cap_tool_output", "clear_tool_uses", "clear_thinking", "dedupe"]),
            json!([{"clear_thinking": {"keep": 1, "slack": 0}}, {"cap_tool_output": {"max_tokens": 40}}]),
            json!([{"trim_turns": {"keep": 2, "slack": 0}}]),
            json!([{"summarize": {"with": "extract"}}]),
        ];
        let (translated, conversation) = governed(&body, &steps[which], window);
        let now = translated.original.write(&conversation);
        if !conversation.is_changed() {
            prop_assert_eq!(&now, &body);
        }
        prop_assert_eq!(atoms(&chat(&now)), atoms(&parsed(&conversation.to_json())));
        // Items of messages that no step touched have their bytes.
        let (before, after) = (input(&body), input(&now));
        let untouched = conversation.messages().iter().filter(|message| message.is_original()).count();
        let kept = after.iter().filter(|item| before.contains(item)).count();
        prop_assert!(kept + 1 >= untouched, "{kept} of {untouched}");
        let framed = now.ends_with("\"y\":1E2}") && now.starts_with(" {\"model\":\"m\",");
        prop_assert!(framed, "the rest of the body changed");
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,60}", items in "[\\[\\]{},:\"a-z0-9 ]{0,60}") {
        for body in [text.clone(), format!(r#"{{"input":{items}}}"#), format!(r#"{{"input":[{items}]}}"#)] {
            if let Ok(translated) = translate(&body) {
                let conversation = Conversation::parse_chat(translated.json.clone()).unwrap();
                prop_assert_eq!(translated.original.write(&conversation), body);
            }
        }
    }
}
