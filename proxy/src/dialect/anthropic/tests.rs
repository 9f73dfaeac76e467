use std::collections::BTreeSet;

use plimsoll_policies::config::{
    CapToolOutput, ClearThinking, ClearToolUses, Dedupe, FitContext, KeepThinking, NormalizePrefix,
    OnOverflow, ReserveOutput, Speaker, Summarize, TrimTurns,
};
use plimsoll_policies::{Chain, Context, CountError, CountTokens, Limits, Message, NoSummaries, Verdict};
use proptest::prelude::*;

use super::*;

fn messages(body: &str) -> Messages {
    Messages { body: body.into(), read: request::read(body).expect("a request"), counts: false }
}

fn chat(body: &str) -> Value {
    serde_json::from_str(&messages(body).read.json).expect("a chat request")
}

fn refused(body: &str) -> String {
    match request::read(body) {
        Err(DialectError::Form { param, .. }) => param,
        other => panic!("{other:?}"),
    }
}

/// Every kind of block, with odd spaces, escapes and members that nobody knows.
const ODD: &str = r#" { "model":"claude\u002d1" , "max_tokens" : 1.0e3, "x":{"big":123456789012345678901234567890},
 "system":[ {"type":"text","text":"x-anthropic-billing-header: cc_version=1; cch=af3;"}, {"type":"text","text":"Be br\u0069ef","cache_control":{"type":"ephemeral"}} ],
 "messages" : [ {"role":"user","content":"look \ud800"} ,
  {"content":[{"type":"thinking","thinking":"hm","signature":"s=="},{"type":"redacted_thinking","data":"d"},{"type":"text","text":"I look"},
    {"type":"tool_use","id":"t1","name":"ls","input":{ "a" : 1.50 }}, {"type":"tool_use","id":"t2","name":"cat","input":{}}],"role":"assistant"},
  {"role":"user","content":[ {"type":"tool_result","tool_use_id":"t1","content":"one"},
    {"type":"tool_result","tool_use_id":"t2","content":[{"type":"text","text":"two"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA=="}}],"is_error":true,"cache_control":{"type":"ephemeral"}},
    {"type":"text","text":"and now?"} ]} ],
 "tools":[{"name":"ls","description":"l","input_schema":{"type":"object","b":1,"a":2}},{"type":"web_search_20250305","name":"web_search","cache_control":{"type":"ephemeral"}}],
 "tool_choice":{"type":"any","disable_parallel_tool_use":true}, "stop_sequences":["END"], "top_k":5, "metadata":{"user_id":"u"},
 "thinking":{"type":"enabled","budget_tokens":2048}, "stream":true } "#;

#[test]
fn every_block_has_its_place_in_a_chat() {
    let odd = ODD.replace(r"\ud800", "");
    let read = chat(&odd);
    let calls = json!([
        {"id": "t1", "type": "function", "function": {"name": "ls", "arguments": "{ \"a\" : 1.50 }"}},
        {"id": "t2", "type": "function", "function": {"name": "cat", "arguments": "{}"}},
    ]);
    let image =
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}});
    let wanted = json!([
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "look "},
        {"role": "assistant", "content": "I look", "reasoning_content": "hm",
         "thinking_blocks": [{"type": "redacted_thinking", "data": "d"}], "tool_calls": calls},
        {"role": "tool", "tool_call_id": "t1", "content": "one"},
        {"role": "tool", "tool_call_id": "t2", "content": [{"type": "text", "text": "two"}, image], "is_error": true},
        {"role": "user", "content": "and now?"},
    ]);
    assert_eq!(read["messages"], wanted);
    let tool = json!({"type": "function", "function": {"name": "ls", "description": "l", "parameters": {"type": "object", "b": 1, "a": 2}}});
    assert_eq!(read["tools"], json!([tool, {"type": "web_search_20250305", "name": "web_search"}]));
    assert_eq!((&read["tool_choice"], &read["parallel_tool_calls"]), (&json!("required"), &json!(false)));
    assert_eq!((&read["stop"], &read["top_k"], &read["stream"]), (&json!(["END"]), &json!(5), &json!(true)));
    assert_eq!(read["chat_template_kwargs"], json!({"enable_thinking": true}));
    assert!(messages(&odd).read.json.contains(r#""max_tokens":1.0e3"#));
}

#[test]
fn places_are_told_as_the_caller_has_them() {
    let odd = messages(ODD);
    for (place, own) in [
        ("messages[0].content", "system"),
        ("messages[1].content", "messages.0.content"),
        ("messages[2].tool_calls[1]", "messages.1.content.4"),
        ("messages[2].content", "messages.1.content"),
        ("messages[3].tool_call_id", "messages.2.content.0.tool_use_id"),
        ("messages[4].content[1]", "messages.2.content.1.content.1"),
        ("messages[5]", "messages.2"),
        ("tools[1]", "tools.1"),
        ("stop", "stop_sequences"),
        ("temperature", "temperature"),
        ("messages[99].content", "messages.99.content"),
    ] {
        assert_eq!(odd.place(place), own, "{place}");
    }
}

#[test]
fn what_has_not_the_form_is_told_by_its_place() {
    for (body, place) in [
        ("[]", "body"),
        ("{}", "messages"),
        (r#"{"messages":{}}"#, "messages"),
        (r#"{"messages":[7]}"#, "messages.0"),
        (r#"{"messages":[{"role":"tool","content":"x"}]}"#, "messages.0.role"),
        (r#"{"messages":[{"role":"user"}]}"#, "messages.0.content"),
        (r#"{"messages":[{"role":"user","content":[{"text":"x"}]}]}"#, "messages.0.content.0"),
        (
            r#"{"messages":[{"role":"user","content":[{"type":"tool_result"}]}]}"#,
            "messages.0.content.0.tool_use_id",
        ),
        (
            r#"{"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"b"}]}]}"#,
            "messages.0.content.0.input",
        ),
        (r#"{"messages":[],"tools":[1]}"#, "tools.0"),
        (r#"{"messages":[],"tool_choice":"auto"}"#, "tool_choice"),
        (r#"{"messages":[],"tool_choice":{"type":"tool"}}"#, "tool_choice.name"),
        (r#"{"messages":[],"system":7}"#, "system"),
    ] {
        assert_eq!(refused(body), place, "{body}");
    }
    assert!(matches!(request::read("{nope"), Err(DialectError::Json(_))));
}

#[test]
fn the_engine_is_asked_for_what_it_has() {
    let place = |members: &str| {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"q"}}]{members}}}"#);
        let messages = messages(&body);
        messages.unserved().map_or_else(|| messages.edits().len().to_string(), |unserved| unserved.param)
    };
    assert_eq!(place(""), "max_tokens");
    assert_eq!(place(r#","max_tokens":5,"mcp_servers":[],"metadata":{"user_id":"u"}"#), "0");
    assert_eq!(place(r#","max_tokens":5,"mcp_servers":[{"url":"x"}]"#), "mcp_servers");
    let edits = r#","max_tokens":5,"context_management":{"edits":[{"type":"clear_thinking_20251015"}]}"#;
    assert_eq!(place(edits), "1");
    assert_eq!(
        place(r#","max_tokens":5,"context_management":{"edits":[{}]}"#),
        "context_management.edits.0.type"
    );
}

/// A letter a token: exact, and the same for everybody.
struct Letters;

impl CountTokens for Letters {
    fn prompt(&self, conversation: &Conversation) -> Result<Tokens, CountError> {
        Ok(self.messages(conversation.messages())
            + conversation.tools().map_or(0, |tools| tools.len() as Tokens))
    }

    fn messages(&self, messages: &[Message]) -> Tokens {
        messages.iter().map(|message| message.json().len() as Tokens).sum()
    }

    fn text(&self, text: &str) -> Tokens {
        text.len() as Tokens
    }

    fn name(&self) -> &'static str {
        "letters"
    }

    fn estimated(&self) -> bool {
        false
    }
}

/// The conversation after these steps; none where it cannot be made to fit.
fn governed(conversation: &Conversation, steps: &[Step], window: Tokens) -> Option<Conversation> {
    let context = Context { limits: Limits::tokens(window), counter: &Letters, summaries: &NoSummaries };
    match Chain::build("test", steps).apply(conversation, &context) {
        Ok(Verdict::Done { conversation, .. }) => Some(conversation),
        Ok(Verdict::Ask(_)) | Err(_) => None,
    }
}

fn over(body: &str) -> (Messages, Conversation) {
    let own = messages(body);
    let conversation = Conversation::parse_chat(own.read.json.clone()).expect("a chat request");
    (own, conversation)
}

fn cap(max_tokens: Tokens) -> Step {
    Step::CapToolOutput(CapToolOutput { max_tokens: Some(max_tokens), ..CapToolOutput::default() })
}

#[test]
fn an_edit_touches_its_span_alone() {
    let long = ODD.replace("\"one\"", &format!("\"{}\"", "one line\\n".repeat(400)));
    let (own, conversation) = over(&long);
    let capped = governed(&conversation, &[cap(200)], 1 << 20).expect("it fits");
    let written = own.write(&capped);
    let (before, after) = long.split_once(&"one line\\n".repeat(400)).expect("the result");
    assert!(written.starts_with(before) && written.ends_with(after), "{written}");
    assert!(written.len() < long.len());
}

#[test]
fn sorted_tools_leave_the_end_of_the_cache_where_it_was() {
    let body = r#"{"tools":[ {"name":"b","input_schema":{"z":1,"a":2}} , {"name":"a","input_schema":{},"cache_control":{"type":"ephemeral"}} ],"messages":[{"role":"user","content":"q"}]}"#;
    let (own, conversation) = over(body);
    let sorted = governed(&conversation, &[Step::NormalizePrefix(NormalizePrefix::default())], 1 << 20);
    let written: Value = serde_json::from_str(&own.write(&sorted.expect("it fits"))).expect("JSON");
    let wanted = r#"[{"name":"a","input_schema":{}},{"name":"b","input_schema":{"a":2,"z":1},"cache_control":{"type":"ephemeral"}}]"#;
    assert_eq!(written["tools"].to_string(), wanted);
    assert_eq!(written["messages"], json!([{"role": "user", "content": "q"}]));
}

#[test]
fn a_lower_limit_takes_the_thoughts_with_it() {
    let body = format!(
        r#"{{"max_tokens": 9000,"thinking":{{"type":"enabled","budget_tokens": 8000}},"messages":[{{"role":"user","content":"{}"}}]}}"#,
        "q".repeat(2000)
    );
    let (own, conversation) = over(&body);
    let steps = [Step::ReserveOutput(ReserveOutput::default()), Step::FitContext(FitContext::default())];
    let lowered = governed(&conversation, &steps, 8000).expect("it fits");
    let limit = lowered.output_limit().expect("a limit");
    assert!(limit < 8000);
    let written: Value = serde_json::from_str(&own.write(&lowered)).expect("JSON");
    assert_eq!(written["max_tokens"], limit);
    assert_eq!(written["thinking"]["budget_tokens"], 1024.max(limit - 1));
}

#[test]
fn thoughts_go_with_their_signatures() {
    let thought = |n: usize| {
        format!(
            r#"{{"role":"user","content":"q{n}"}},{{"role":"assistant","content":[{{"type":"thinking","thinking":"t{n}","signature":"s{n}"}},{{"type":"text","text":"a{n}"}}]}}"#
        )
    };
    let turns: Vec<String> = (0..5).map(thought).collect();
    let body = format!(r#"{{"messages":[{},{{"role":"user","content":"last"}}]}}"#, turns.join(","));
    let (own, conversation) = over(&body);
    let steps = [Step::ClearThinking(ClearThinking { keep: KeepThinking::Turns(1), slack: 0 })];
    let written = own.write(&governed(&conversation, &steps, 1 << 20).expect("it fits"));
    let left: Vec<usize> = (0..5).filter(|n| written.contains(&format!("\"s{n}\""))).collect();
    assert_eq!(left, [4]);
    assert!((0..5).all(|n| written.contains(&format!(r#"{{"type":"text","text":"a{n}"}}"#))), "{written}");
}

/// What the other form cannot tell apart: a content of one text and the same as a string, no content and an empty one.
fn plain(message: &Value) -> Value {
    let mut message = message.clone();
    let content = &mut message["content"];
    if let Some([part]) = content.as_array().map(Vec::as_slice)
        && part["type"] == "text"
    {
        *content = part["text"].clone();
    }
    if *content == "" {
        *content = Value::Null;
    }
    message
}

/// Every result stands right behind the message that called for it.
fn adjacent(body: &Value) -> bool {
    let mut open: BTreeSet<&str> = BTreeSet::new();
    for message in body["messages"].as_array().expect("messages") {
        let blocks = message["content"].as_array().map(Vec::as_slice).unwrap_or_default();
        let of = |kind: &str, id: &str| -> BTreeSet<&str> {
            blocks
                .iter()
                .filter(|block| block["type"] == kind)
                .filter_map(|block| block[id].as_str())
                .collect()
        };
        let results = of("tool_result", "tool_use_id");
        if results != open {
            return false;
        }
        open = of("tool_use", "id");
    }
    open.is_empty()
}

/// An element in one of several spellings.
fn spelled(value: &Value, spelling: u8) -> String {
    match spelling % 3 {
        0 => value.to_string(),
        1 => serde_json::to_string_pretty(value).expect("JSON"),
        _ => value.to_string().replace("\":", "\" : ").replace("\u{e9}", "\\u00e9"),
    }
}

fn marked(mut block: Value, mark: bool) -> Value {
    if mark {
        block["cache_control"] = json!({"type": "ephemeral"});
    }
    block
}

/// A turn: what the user says, an answer, maybe with calls and their results.
fn turn(number: usize, shape: u32, words: usize) -> Vec<Value> {
    let says = |who: &str| format!("{who} {number} \u{e9} {}", "word ".repeat(words));
    let text = |who: &str, mark: bool| marked(json!({"type": "text", "text": says(who)}), mark);
    let user = if shape & 1 == 0 { json!(says("user")) } else { json!([text("user", shape & 2 != 0)]) };
    let mut turn = vec![json!({"role": "user", "content": user})];
    if shape & 4 != 0 {
        let mut blocks =
            vec![json!({"type": "thinking", "thinking": says("thought"), "signature": format!("s{number}")})];
        blocks.extend((shape & 8 != 0).then(|| text("before", false)));
        let count = 1 + (shape as usize >> 4) % 2;
        let ids: Vec<String> = (0..count).map(|call| format!("t{number}_{call}")).collect();
        blocks.extend(
            ids.iter().map(
                |id| json!({"type": "tool_use", "id": id, "name": "ls", "input": {"path": says("path")}}),
            ),
        );
        turn.push(json!({"role": "assistant", "content": blocks}));
        let result = |(index, id): (usize, &String)| {
            let content = if index == 0 {
                json!(says("result"))
            } else {
                json!([text("part", true), text("more", false)])
            };
            marked(json!({"type": "tool_result", "tool_use_id": id, "content": content}), shape & 32 != 0)
        };
        let mut results: Vec<Value> = ids.iter().enumerate().map(result).collect();
        results.extend((shape & 64 != 0).then(|| text("beside", false)));
        turn.push(json!({"role": "user", "content": results}));
    }
    let answer = if shape & 128 == 0 {
        json!(says("answer"))
    } else {
        json!([text("answer", false), text("again", false)])
    };
    turn.push(json!({"role": "assistant", "content": answer}));
    turn
}

prop_compose! {
    fn request_body()(
        turns in prop::collection::vec((any::<u32>(), 0_usize..60), 1..7),
        system in 0_u8..3,
        spelling in prop::collection::vec(any::<u8>(), 32),
        separator in prop::sample::select(vec![",", " ,\n ", ", "]),
    ) -> String {
        let mut elements: Vec<Value> =
            turns.iter().enumerate().flat_map(|(number, (shape, words))| turn(number, *shape, *words)).collect();
        elements.push(json!({"role": "user", "content": [marked(json!({"type": "text", "text": "last"}), true)]}));
        let elements: Vec<String> =
            elements.iter().zip(spelling.iter().cycle()).map(|(element, spelling)| spelled(element, *spelling)).collect();
        let system = match system {
            0 => String::new(),
            1 => "\"system\" : \"Be brief\" , ".to_owned(),
            _ => format!("\"system\":[{}],", spelled(&marked(json!({"type": "text", "text": "Be brief"}), true), spelling[0])),
        };
        format!("{{ {system}\"messages\" :[ {} ] ,\"max_tokens\": 64 }}", elements.join(separator))
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let clear = ClearToolUses {
        over: Some(0),
        keep: 1,
        clear_at_least: Some(1),
        clear_inputs: true,
        min_bytes: 1,
        ..ClearToolUses::default()
    };
    let all = vec![
        cap(40),
        Step::ClearToolUses(clear),
        Step::ClearThinking(ClearThinking { keep: KeepThinking::Turns(1), slack: 0 }),
        Step::Dedupe(Dedupe {
            min_tokens: 64,
            roles: vec![Speaker::Tool, Speaker::User, Speaker::Assistant],
        }),
        Step::TrimTurns(TrimTurns { keep: 2, ..TrimTurns::default() }),
        Step::Summarize(Summarize::default()),
        Step::FitContext(FitContext { on_overflow: OnOverflow::TruncateMiddle, ..FitContext::default() }),
    ];
    prop::sample::subsequence(all, 1..=7)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn unedited_it_is_what_came(body in request_body()) {
        let (own, conversation) = over(&body);
        prop_assert_eq!(own.write(&conversation), body);
    }

    #[test]
    fn what_is_written_reads_as_the_edited_conversation(body in request_body(), steps in steps(), window in 400_u64..6000) {
        let (own, conversation) = over(&body);
        let edited = governed(&conversation, &steps, window);
        let Some(edited) = edited.filter(Conversation::is_changed) else { return Err(TestCaseError::reject("unchanged")) };
        let written = own.write(&edited);
        let value: Value = serde_json::from_str(&written).expect("JSON");
        prop_assert!(adjacent(&value), "{}", written);
        let read = chat(&written);
        let now: Vec<Value> = edited.messages().iter().map(|message| plain(&serde_json::from_str(message.json()).expect("JSON"))).collect();
        let again: Vec<Value> = read["messages"].as_array().expect("messages").iter().map(plain).collect();
        prop_assert_eq!(again, now, "{}", written);
        // Messages that nobody touched are there in their own bytes.
        for message in edited.messages().iter().filter(|message| message.is_original()) {
            let origin = &own.read.origins[message.slot().expect("a slot")];
            let spans = origin.element.map(|at| bytes_of(&body, at, &origin.blocks)).unwrap_or_default();
            for span in spans {
                prop_assert!(written.contains(&span), "{} lacks {}", written, span);
            }
        }
    }
}

/// The bytes of an element's blocks, or of its content where it is a string.
fn bytes_of(body: &str, element: usize, blocks: &[usize]) -> Vec<String> {
    let object = Raw::whole(body).object().expect("an object");
    let elements = object.get("messages").and_then(|list| list.elements()).expect("messages");
    let content = elements[element].object().and_then(|element| element.get("content")).expect("content");
    match content.elements() {
        Some(list) => blocks.iter().map(|at| list[*at].text.to_owned()).collect(),
        None => vec![content.text.to_owned()],
    }
}
