//! Bodies of conversations in each dialect: parser, translation, policies over it, and the splicer that writes their
//! edits back. What no policy touches stays byte for byte; what one edits is a body of the dialect still.

use std::collections::BTreeMap;
use std::sync::Arc;

use plimsoll_engine::Sampling;
use plimsoll_policies::{
    Chain, Context, Conversation, CountError, CountTokens, Limits, Message, NoSummaries, PolicyConfig,
    Tokens, Verdict, resolve,
};
use plimsoll_proxy::dialect::{Dialect, Translated};
use plimsoll_proxy::identify::Api;
use plimsoll_proxy::parse::Options;

/// Every step that edits, at its greediest.
const GREEDY: &str = r#"{"steps":[
    {"normalize_prefix":{"volatile":"strip"}}, "reserve_output",
    {"cap_tool_output":{"max_tokens":60}},
    {"drop_images":{"keep_last":0,"slack":0}},
    {"clear_tool_uses":{"trigger":0.0,"keep":1,"clear_inputs":true,"min_bytes":1,"clear_at_least":1}},
    {"clear_thinking":{"keep":0,"slack":0}},
    {"dedupe":{"min_tokens":64}},
    {"summarize":{"with":"extract"}},
    {"fit_context":{"high":0.5,"low":0.3,"keep_last":1,"on_overflow":"truncate_middle"}}
]}"#;

/// Policies, and the windows that they cut to.
const GOVERNED: [(&str, u64); 3] = [("agent", 300), ("greedy", 400), ("greedy", 100_000)];

/// Four bytes a token.
struct Counter;

impl CountTokens for Counter {
    fn prompt(&self, conversation: &Conversation) -> Result<Tokens, CountError> {
        Ok(conversation.tools().map_or(0, |tools| self.text(tools)) + self.messages(conversation.messages()))
    }

    fn messages(&self, messages: &[Message]) -> Tokens {
        messages.iter().map(|message| 4 + self.text(message.json())).sum()
    }

    fn text(&self, text: &str) -> Tokens {
        text.len().div_ceil(4) as Tokens
    }

    fn name(&self) -> &'static str {
        "four-bytes"
    }

    fn estimated(&self) -> bool {
        true
    }
}

/// What each of the policies makes of a conversation; what is refused is never written.
fn governed(read: &Conversation) -> impl Iterator<Item = Conversation> {
    let greedy: PolicyConfig = serde_json::from_str(GREEDY).expect("a policy");
    let policies = BTreeMap::from([("greedy".to_owned(), greedy)]);
    GOVERNED.into_iter().filter_map(move |(name, window)| {
        let chain = Chain::build(name, &resolve(name, &policies).expect("a policy"));
        let limits = Limits::tokens(window);
        match chain.apply(read, &Context { limits, counter: &Counter, summaries: &NoSummaries }) {
            Ok(Verdict::Done { conversation, .. }) => Some(conversation),
            Ok(Verdict::Ask(_)) | Err(_) => None,
        }
    })
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// Parser and splicer of OpenAI's form, and the options in it.
pub(super) fn chat(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(read) = Conversation::parse_chat(Arc::from(text)) else { return };
    assert_eq!(&*read.to_json(), text, "untouched");
    let _ = Options::read(read.fields(), &Sampling::default());
    let tool = r#"{"type":"function","function":{"name":"t"}}"#;
    for edited in governed(&read).chain([read.clone()]) {
        let extended = edited.extended(
            &[r#"{"role":"system","content":"s"}"#],
            &[r#"{"role":"user","content":"u"}"#],
            None,
        );
        let all = [edited.asking_usage(), edited.with_tool(tool), extended.ok(), Some(edited)];
        for edited in all.into_iter().flatten() {
            let json = edited.to_json();
            assert!(is_json(&json), "{json}");
        }
    }
}

/// Anthropic's Messages.
pub(super) fn anthropic(data: &[u8]) {
    translated(Dialect::Anthropic, Api::Messages, data);
}

/// Ollama's `/api/chat`.
pub(super) fn ollama_chat(data: &[u8]) {
    translated(Dialect::Ollama, Api::OllamaChat, data);
}

/// Ollama's `/api/generate`.
pub(super) fn ollama_generate(data: &[u8]) {
    translated(Dialect::Ollama, Api::OllamaGenerate, data);
}

/// OpenAI's Responses.
pub(super) fn responses(data: &[u8]) {
    translated(Dialect::Responses, Api::Responses, data);
}

fn translated(dialect: Dialect, api: Api, data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(Some(Translated { json, original })) = dialect.translate(api, text) else { return };
    let read = Conversation::parse_chat(json.clone());
    let read = read.unwrap_or_else(|error| panic!("no chat was made of `{text}`: {error}: {json}"));
    assert_eq!(original.write(&read), text, "untouched");
    let _ = Options::read(read.fields(), &Sampling::default());
    let (_, _, _) = (original.unserved(), original.edits(), original.window());
    for place in ["messages[0].content", "messages[1].tool_calls[0]", "messages[99]", "tools[1]", "stop"] {
        original.place(place);
    }
    if original.ungoverned().is_some() {
        return;
    }
    for edited in governed(&read) {
        let written = original.write(&edited);
        assert!(is_json(&written), "of `{text}`: `{written}`");
        if let Err(error) = dialect.translate(api, &written) {
            panic!("of `{text}`: {error}: `{written}`");
        }
    }
}

fn seeds(bodies: &[&str]) -> Vec<Vec<u8>> {
    let long = "word ".repeat(300);
    bodies.iter().map(|body| body.replace("LONG", &long).into_bytes()).collect()
}

pub(super) fn chats() -> Vec<Vec<u8>> {
    seeds(&[
        r#"{"model":"m","stream":true,"tools":[{"type":"function","function":{"name":"f"}}],"messages":[{"role":"system","content":"s"},{"role":"user","content":"LONG"},{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},{"role":"tool","tool_call_id":"c","content":"LONG"},{"role":"user","content":[{"type":"text","text":"hi"}]}]}"#,
        r#"{ "messages" : [ {"content":"h\u00e9 \ud800","role":"user","n":1E3} ] ,"dup":1,"dup":2}"#,
        r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","reasoning_content":"hm"},{"role":"user","content":"c"}],"max_tokens":5,"max_completion_tokens":9999,"stop":["x"],"temperature":0.5,"logit_bias":{"5":-100},"response_format":{"type":"json_object"},"tool_choice":"auto","logprobs":true,"n":2,"stream_options":{"include_usage":false}}"#,
        "{}",
        "[1]",
    ])
}

pub(super) fn messages() -> Vec<Vec<u8>> {
    seeds(&[
        r#" { "model":"claude\u002d1" , "max_tokens" : 900, "system":[ {"type":"text","text":"x-anthropic-billing-header: cch=af3;"}, {"type":"text","text":"Be br\u0069ef","cache_control":{"type":"ephemeral"}} ],
 "messages" : [ {"role":"user","content":"look \ud800"} ,
  {"content":[{"type":"thinking","thinking":"hm","signature":"s=="},{"type":"redacted_thinking","data":"d"},{"type":"text","text":"I look"}, {"type":"tool_use","id":"t1","name":"ls","input":{ "a" : 1.50 }}, {"type":"tool_use","id":"t2","name":"cat","input":{}}],"role":"assistant"},
  {"role":"user","content":[ {"type":"tool_result","tool_use_id":"t1","content":"LONG"}, {"type":"tool_result","tool_use_id":"t2","content":[{"type":"text","text":"two"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA=="}}],"is_error":true}, {"type":"text","text":"and now?"} ]} ],
 "tools":[{"name":"ls","input_schema":{"type":"object","b":1,"a":2}},{"type":"web_search_20250305","name":"web_search"}],
 "tool_choice":{"type":"any","disable_parallel_tool_use":true}, "stop_sequences":["END"], "top_k":5, "thinking":{"type":"enabled","budget_tokens":2048},
 "context_management":{"edits":[{"type":"clear_tool_uses_20250919","keep":{"type":"tool_uses","value":1}}]} } "#,
        r#"{"model":"m","max_tokens":5,"system":"s","messages":[{"role":"user","content":"LONG"},{"role":"assistant","content":"LONG"},{"role":"user","content":"q"}]}"#,
        r#"{"max_tokens":1,"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b","cache_control":{"type":"ephemeral"}}]}]}"#,
    ])
}

pub(super) fn ollama_chats() -> Vec<Vec<u8>> {
    seeds(&[
        r#"{ "model":"m","messages" : [ {"role":"system","content":"s"},{"role":"user","content":"br\u0069ef","images":["AAAA"]} , {"role":"assistant","thinking":"hm","content":"","tool_calls":[{"function":{"name":"sh","arguments":{ "a":1.0 }}}],"x":[1E2]},{"role":"tool","tool_name":"sh","content":"LONG"} , {"content":"and now?","role":"user"}], "options" : {"top_k": 4.0,"num_ctx":512,"num_predict":50,"stop":["x"]}, "keep_alive":"5m","think":"low","format":{"type":"object"} }"#,
        r#"{"model":"m","messages":[],"keep_alive":0}"#,
        r#"{"messages":[{"role":"user","content":"LONG"},{"role":"assistant","content":"LONG"},{"role":"user","content":"q"}],"tools":[{"type":"function","function":{"name":"b","parameters":{"z":1,"a":2}}},{"type":"function","function":{"name":"a"}}],"stream":false,"truncate":false}"#,
    ])
}

pub(super) fn ollama_prompts() -> Vec<Vec<u8>> {
    seeds(&[
        r#"{ "model" : "m","system":"s\u0041","prompt" : "LONG" , "options":null,"think":false,"images":["AAAA"],"format":"json"}"#,
        r#"{"model":"m","prompt":"p","context":[1,2,3],"options":{"num_predict":-1,"seed":7}}"#,
        r#"{"model":"m","prompt":"p","raw":true,"template":"{{ .Prompt }}","suffix":"s"}"#,
        r#"{"model":"m","keep_alive":-1}"#,
    ])
}

pub(super) fn responses_bodies() -> Vec<Vec<u8>> {
    seeds(&[
        r#"{ "model":"gpt-5","instructions":"Be br\u0069ef.","input" : [ {"role":"user","content":"look \ud800"} ,
  {"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"gA\/A="},{"type":"function_call","id":"fc_1","call_id":"c1","name":"ls","arguments":"{\"path\":\"/a/rather/long/path\"}"},
  {"type":"function_call","call_id":"c2","name":"cat","arguments":"{}","n":1E2},
  {"type":"function_call_output","call_id":"c1","output":"LONG"},{"type":"function_call_output","call_id":"c2","output":[{"type":"input_text","text":"x"}]},
  {"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[{"type":"output_text","text":"Done.","annotations":[]}]}, {"role":"user","content":[{"type":"input_text","text":"q"},{"type":"input_image","image_url":"data:,"}]}
 ],"tools":[{"type":"function","name":"b","parameters":null},{"type":"function","name":"a","parameters":{"type":"object"}},{"type":"web_search"}],"max_output_tokens":50,"text":{"format":{"type":"json_object"}},"reasoning":{"effort":"low"},"tool_choice":{"type":"function","name":"a"} }
"#,
        r#"{"model":"m","input":"LONG","store":true,"previous_response_id":"resp_1"}"#,
        r#"{"model":"m","input":[{"role":"user","content":"LONG"},{"role":"assistant","content":"LONG"},{"type":"item_reference","id":"x"},{"role":"user","content":"q"}]}"#,
    ])
}
