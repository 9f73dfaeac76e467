use plimsoll_policies::{
    Chain, Context, Conversation, CountError, CountTokens, Limits, Message, NoSummaries, Role, Tokens,
    Verdict, resolve,
};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;

use super::super::request::translate;
use super::*;

/// Four bytes of JSON a token, thoughts included.
struct ByLength;

impl CountTokens for ByLength {
    fn prompt(&self, conversation: &Conversation) -> Result<Tokens, CountError> {
        Ok(self.messages(conversation.messages()) + conversation.tools().map_or(0, |tools| self.text(tools)))
    }

    fn messages(&self, messages: &[Message]) -> Tokens {
        messages.iter().map(|message| self.text(message.json())).sum()
    }

    fn text(&self, text: &str) -> Tokens {
        text.len().div_ceil(4) as Tokens
    }

    fn name(&self) -> &'static str {
        "by length"
    }

    fn estimated(&self) -> bool {
        true
    }
}

/// Translates and governs.
fn governed(endpoint: Endpoint, body: &str, steps: &str, window: u64) -> Conversation {
    let json = translate(endpoint, body).unwrap().json;
    let policies = [("p".to_owned(), serde_json::from_str(steps).unwrap())].into();
    let chain = Chain::build("p", &resolve("p", &policies).unwrap());
    let context = Context { limits: Limits::tokens(window), counter: &ByLength, summaries: &NoSummaries };
    let conversation = Conversation::parse_chat(json).unwrap();
    match chain.apply(&conversation, &context) {
        Ok(Verdict::Done { conversation, .. }) => conversation,
        // What cannot fit is refused before it is written.
        _ => conversation,
    }
}

fn edited(endpoint: Endpoint, body: &str, steps: &str, window: u64) -> String {
    let governed = governed(endpoint, body, steps, window);
    assert!(governed.is_changed(), "{body}");
    write(endpoint, body, &governed)
}

/// Every step that edits, at its greediest.
const GREEDY: &str = r#"{"steps":[
    {"cap_tool_output":{"max_tokens":60}},
    {"drop_images":{"keep_last":0,"slack":0}},
    {"clear_tool_uses":{"trigger":0.0,"keep":1,"clear_inputs":true,"min_bytes":1,"clear_at_least":1}},
    {"clear_thinking":{"keep":0,"slack":0}},
    {"summarize":{"with":"extract"}},
    {"fit_context":{"high":0.5,"low":0.3,"keep_last":1}}
]}"#;

#[test]
fn only_what_a_policy_names_changes() {
    let long = "amber lamp ".repeat(300);
    let before = r#"{ "model":"m","messages" : [ {"role":"user","content":"br\u0069ef"} ,
      {"role":"assistant","content":"","tool_calls":[{"function":{"name":"sh","arguments":{ "a":1.0 }}}],"x":[1E2]},"#;
    let after =
        r#" , {"content":"and now?","role":"user"}], "options" : {"top_k": 4.0}, "keep_alive":"5m" }"#;
    let body = format!(r#"{before}{{"role":"tool","tool_name":"sh","content":"{long}"}}{after}"#);
    let written =
        edited(Endpoint::Chat, &body, r#"{"steps":[{"cap_tool_output":{"max_tokens":100}}]}"#, 8000);
    let result = written.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)).unwrap();
    let result: Value = serde_json::from_str(result).unwrap();
    assert!(result["content"].as_str().unwrap().contains("tokens omitted"), "{result}");
    assert_eq!(result["tool_name"], "sh");
}

#[test]
fn thoughts_images_and_inputs_go_in_their_own_form() {
    let call = |command: &str| {
        format!(
            r#"{{"role":"assistant","thinking":"hm","content":"","tool_calls":[{{"function":{{"name":"sh","arguments":{{"command":"{command}"}}}}}}]}}"#
        )
    };
    let result =
        format!(r#"{{"role":"tool","tool_name":"sh","content":"{}"}}"#, "some lines that go ".repeat(8));
    let image = r#"{"role":"user","content":"see","images":["AAAA","BBBB"]}"#;
    let body = format!(
        r#"{{"messages":[{image},{},{result},{},{result},{{"role":"user","content":"next"}}]}}"#,
        call("ls -la /a/long/path"),
        call("ls -la /another/path")
    );
    let written: Value = serde_json::from_str(&edited(Endpoint::Chat, &body, GREEDY, 100_000)).unwrap();
    let messages = &written["messages"];
    assert_eq!(messages[0]["images"], serde_json::json!([]));
    assert_eq!(
        messages[0]["content"],
        "see\n[plimsoll: image removed, 3 bytes]\n[plimsoll: image removed, 3 bytes]"
    );
    assert_eq!(messages[1]["thinking"], "");
    assert_eq!(messages[1]["tool_calls"][0]["function"]["arguments"], serde_json::json!({}));
    assert_ne!(messages[2]["content"], messages[4]["content"]);
    assert_eq!(messages[3]["tool_calls"][0]["function"]["arguments"]["command"], "ls -la /another/path");
}

#[test]
fn tools_and_the_output_limit_have_their_places() {
    let tools =
        r#"[{"type":"function","function":{"name":"b"}},{"type":"function","function":{"name":"a"}}]"#;
    let sorted =
        r#"[{"type":"function","function":{"name":"a"}},{"type":"function","function":{"name":"b"}}]"#;
    let body = format!(r#"{{"messages":[{{"role":"user","content":"q"}}],"tools": {tools}}}"#);
    let written = edited(Endpoint::Chat, &body, r#"{"steps":[{"normalize_prefix":{}}]}"#, 8000);
    assert_eq!(written, body.replace(tools, sorted));
    let clamp = r#"{"steps":[{"reserve_output":{"clamp":true}}]}"#;
    for (options, lowered) in [
        (r#""options":{"num_predict":5000,"seed":1}"#, r#""options":{"num_predict":LIMIT,"seed":1}"#),
        (
            r#""options": { "seed":1,"num_predict" : 5E3 }"#,
            r#""options": { "seed":1,"num_predict" : LIMIT }"#,
        ),
    ] {
        let body = format!(r#"{{{options},"messages":[{{"role":"user","content":"q"}}]}}"#);
        let governed = governed(Endpoint::Chat, &body, clamp, 1000);
        let limit = governed.output_limit().unwrap();
        assert!(limit < 1000, "{limit}");
        assert_eq!(
            write(Endpoint::Chat, &body, &governed),
            body.replace(options, &lowered.replace("LIMIT", &limit.to_string()))
        );
    }
}

#[test]
fn a_prompt_is_cut_where_it_stands() {
    let long = "amber lamp ".repeat(500);
    let body =
        format!(r#"{{ "model":"m", "system":"Be br\u0069ef.", "prompt" : "{long}", "options":{{}} }}"#);
    let steps = r#"{"steps":[{"fit_context":{"on_overflow":"truncate_middle"}}]}"#;
    let written = edited(Endpoint::Generate, &body, steps, 400);
    let head = r#"{ "model":"m", "system":"Be br\u0069ef.", "prompt" : "amber lamp "#;
    assert!(written.starts_with(head) && written.ends_with(r#"amber lamp ", "options":{} }"#), "{written}");
    assert!(written.len() < body.len() / 2);
}

/// A message of Ollama's form, as some client may spell it.
fn message() -> impl Strategy<Value = String> {
    let text =
        select(vec!["", "hello", r"br\u0069ef \/ \n", r"half \ud800", "a longer text of some words ", "é😀"]);
    let image = select(vec![r#""AAAA""#, r#""QUJDRA==""#]);
    let call = r#"{"function":{"name":"sh","arguments":{"command": "ls -la", "n":1.50}}}"#;
    let with_id = r#"{"id":"x1","function" : {"arguments":{},"name":"get"}}"#;
    prop_oneof![
        text.clone().prop_map(|text| format!(r#"{{"role":"user","content":"{text}"}}"#)),
        text.clone().prop_map(|text| format!(r#"{{ "content" : "{text}" ,"role":"system"}}"#)),
        (text.clone(), prop::collection::vec(image, 1..3)).prop_map(|(text, images)| {
            format!(r#"{{"role":"user","content":"{text}","images":[ {} ]}}"#, images.join(" , "))
        }),
        text.clone()
            .prop_map(|text| format!(r#"{{"role":"assistant","content":"{text}","thinking":"hm","z":1E2}}"#)),
        text.clone().prop_map(move |text| format!(
            r#"{{"role":"assistant","content":"{text}","tool_calls":[{call},{with_id}]}}"#
        )),
        (text.clone(), 1_usize..200).prop_map(|(text, times)| {
            format!(r#"{{"role":"tool","tool_name":"sh","content":"{}"}}"#, text.repeat(times))
        }),
        text.prop_map(|text| format!(r#"{{"role":"tool","content":"{text}","tool_call_id":"x1"}}"#)),
    ]
}

fn body() -> impl Strategy<Value = String> {
    let gap = select(vec!["", " ", "\n  "]);
    let rest = select(vec![
        "",
        r#","stream":false"#,
        r#", "options" : {"num_predict":64,"x":[1.0]}"#,
        r#","dup":1,"dup":2"#,
    ]);
    (prop::collection::vec((message(), gap.clone()), 1..14), rest, gap).prop_map(|(messages, rest, gap)| {
        let messages: Vec<_> = messages.into_iter().map(|(message, gap)| format!("{message}{gap}")).collect();
        format!(r#"{gap}{{{gap}"model":"m",{gap}"messages":{gap}[{gap}{}]{rest}{gap}}}"#, messages.join(","))
    })
}

/// What a message says, without ids, which are numbered anew where messages went.
fn gist(message: &Message) -> (Role, String, Vec<(String, Value)>, usize, bool) {
    let json: Value = serde_json::from_str(message.json()).unwrap_or_default();
    let images = json["content"].as_array().into_iter().flatten().filter(|part| part["type"] == "image_url");
    let calls = message.tool_calls().iter();
    let calls =
        calls.map(|call| (call.name.clone(), serde_json::from_str(&call.arguments).unwrap_or_default()));
    let thinks = json.get("reasoning_content").is_some();
    (message.role(), message.text().to_owned(), calls.collect(), images.count(), thinks)
}

proptest! {
    #[test]
    fn what_nobody_edits_keeps_its_bytes(body in body()) {
        let json = translate(Endpoint::Chat, &body).unwrap().json;
        let conversation = Conversation::parse_chat(json).unwrap();
        prop_assert_eq!(write(Endpoint::Chat, &body, &conversation), body);
    }

    #[test]
    fn an_edited_body_says_what_the_policy_left(body in body(), window in 40_u64..4000) {
        let governed = governed(Endpoint::Chat, &body, GREEDY, window);
        let written = write(Endpoint::Chat, &body, &governed);
        let again = Conversation::parse_chat(translate(Endpoint::Chat, &written).unwrap().json).unwrap();
        let gists = |conversation: &Conversation| conversation.messages().iter().map(gist).collect::<Vec<_>>();
        prop_assert_eq!(gists(&again), gists(&governed));
        let object = Object::body(&body).unwrap();
        let (before, after) = (object.list("", "messages").unwrap(), Object::body(&written).unwrap());
        let after_elements = after.list("", "messages").unwrap();
        for (message, (raw, _)) in governed.messages().iter().zip(after_elements) {
            if let Some(slot) = message.slot().filter(|_| message.is_original()) {
                prop_assert_eq!(raw, before[slot].0);
            }
        }
        prop_assert_eq!(after.get("dup"), object.get("dup"));
        prop_assert_eq!(after.get("options"), object.get("options"));
    }

    #[test]
    fn no_bytes_break_the_reader(mut bytes in body().prop_map(String::into_bytes), at: Index, byte: u8, cut: Index) {
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(cut.index(bytes.len() + 1).max(at));
        let text = String::from_utf8_lossy(&bytes);
        for endpoint in [Endpoint::Chat, Endpoint::Generate] {
            if let Ok(read) = translate(endpoint, &text) {
                prop_assert!(Conversation::parse_chat(read.json).is_ok());
            }
        }
    }
}
