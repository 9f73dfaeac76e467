//! A request of the Responses API as a chat request.

use plimsoll_policies::json::{Span, elements};

use super::compaction;
use super::items::{Messages, Origin};
use super::tools;
use crate::cut::cut;
use crate::dialect::raw::Object;
use crate::parse::OptionError;

/// Members that have the same name and meaning in both forms, or are sampling options of ours that clients add.
const SAME: [&str; 16] = [
    "model",
    "stream",
    "temperature",
    "top_p",
    "parallel_tool_calls",
    "seed",
    "stop",
    "top_k",
    "min_p",
    "min_tokens",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "keep_alive",
    "chat_template_kwargs",
];

/// Fields of a request that says not all that the model is to read.
const ELSEWHERE: [&str; 3] = ["previous_response_id", "conversation", "prompt"];

/// Items that the embedded engine can run.
const SERVED: [&str; 4] = ["message", "function_call", "function_call_output", "reasoning"];

/// What a body is in chat completions' form.
pub(super) struct Read {
    /// The chat request.
    pub(super) json: String,
    /// Where each of its messages came from.
    pub(super) origins: Vec<Origin>,
    /// What the embedded engine cannot do.
    pub(super) unserved: Option<OptionError>,
    /// The field for which no policy may touch the request.
    pub(super) ungoverned: Option<&'static str>,
}

/// Reads a body, which is an object.
pub(super) fn read(body: &str, object: &Object<'_>) -> Read {
    let Messages { json: messages, origins, kinds, .. } = messages(body, object);
    let mut members = vec![format!(r#""messages":[{}]"#, messages.join(","))];
    let mut add = |name: &str, raw: &str| members.push(format!("\"{name}\":{raw}"));
    for name in SAME {
        if let Some(raw) = object.raw(name) {
            add(name, raw);
        }
    }
    if let Some(limit) = object.given("max_output_tokens") {
        add("max_completion_tokens", limit);
    }
    if let Some(raw) = object.given("tools") {
        add("tools", &tools::chat(raw).unwrap_or_else(|| raw.to_owned()));
    }
    if let Some(choice) = object.given("tool_choice") {
        add("tool_choice", &tools::choice(choice));
    }
    if let Some(format) = object.get("text").and_then(|text| text.object()?.given("format")) {
        add("response_format", &response_format(format));
    }
    let told =
        object.given("include").is_some_and(|include| include.contains("message.output_text.logprobs"));
    let top = object.given("top_logprobs");
    if told || top.is_some() {
        add("logprobs", "true");
    }
    if let Some(top) = top {
        add("top_logprobs", top);
    }
    if thinks_not(object) {
        add("chat_template_kwargs", r#"{"enable_thinking":false}"#);
    }
    let json = format!("{{{}}}", members.join(","));
    Read { json, origins, unserved: unserved(body, object, &kinds), ungoverned: ungoverned(object, &kinds) }
}

fn messages(body: &str, object: &Object<'_>) -> Messages {
    let mut messages = Messages::default();
    if let Some(span) = object.string_span("instructions") {
        let json = format!(r#"{{"role":"system","content":{}}}"#, &body[span.clone()]);
        messages.push(json, Origin::Instructions(span));
    }
    match object.span("input") {
        Some(input) if body[input.clone()].starts_with('"') => {
            let json = format!(r#"{{"role":"user","content":{}}}"#, &body[input.clone()]);
            messages.push(json, Origin::Text(input));
        }
        Some(input) => messages.read(body, &input),
        None => {}
    }
    messages
}

/// `text.format` has the schema beside its type, `response_format` below it.
fn response_format(format: &str) -> String {
    let Some(object) = Object::of(format) else { return format.to_owned() };
    if object.string("type").as_deref() != Some("json_schema") {
        return format.to_owned();
    }
    let members: Vec<String> = object
        .members()
        .filter(|(name, _)| *name != "type")
        .map(|(name, raw)| format!("\"{name}\":{raw}"))
        .collect();
    format!(r#"{{"type":"json_schema","json_schema":{{{}}}}}"#, members.join(","))
}

/// `reasoning.effort: none` asks for no thoughts.
fn thinks_not(object: &Object<'_>) -> bool {
    let effort = object.get("reasoning").and_then(|reasoning| reasoning.object()?.string("effort"));
    effort.as_deref() == Some("none") && object.given("chat_template_kwargs").is_none()
}

/// `kinds` are the types of the items.
fn ungoverned(object: &Object<'_>, kinds: &[String]) -> Option<&'static str> {
    let stored = ELSEWHERE.into_iter().find(|name| object.given(name).is_some());
    let refers = || kinds.iter().any(|kind| kind == "item_reference");
    stored.or_else(|| refers().then_some("item_reference"))
}

/// What has no meaning without a store of answers, or is not done here.
fn unserved(body: &str, object: &Object<'_>, kinds: &[String]) -> Option<OptionError> {
    let given = |name: &str| object.given(name).is_some();
    let no = |name: &str, what: &str| Some(OptionError::new(name, format!("`{name}`: {what}")));
    if given("previous_response_id") || given("conversation") {
        let name = if given("conversation") { "conversation" } else { "previous_response_id" };
        return no(name, "answers are not stored here: send the whole conversation in `input`");
    }
    if given("prompt") {
        return no("prompt", "prompt templates are not stored here: send `instructions` and `input`");
    }
    if object.raw("store") == Some("true") {
        return no("store", "answers are not stored here: leave it out or send false");
    }
    if object.raw("background") == Some("true") {
        return no("background", "answers are given at once: leave it out, and stream if they take long");
    }
    if given("context_management") {
        return no("context_management", "the route's policy keeps the context: leave it out");
    }
    if given("moderation") {
        return no("moderation", "nothing is moderated here: leave it out");
    }
    match object.raw("truncation") {
        None | Some("null" | "\"auto\"" | "\"disabled\"") => {}
        Some(other) => {
            let found = format!("must be `auto` or `disabled`, found `{}`", cut(other));
            return no("truncation", &found);
        }
    }
    tool_of_others(body, object).or_else(|| item_of_others(body, object, kinds))
}

fn tool_of_others(body: &str, object: &Object<'_>) -> Option<OptionError> {
    let tools = object.span("tools")?;
    let list = elements(&body[tools.clone()])?;
    let kind =
        |span: &Span| Object::of(&body[tools.start + span.start..tools.start + span.end])?.string("type");
    let at = list.iter().position(|span| kind(span).as_deref() != Some("function"))?;
    let found = kind(&list[at]).unwrap_or_else(|| "no type".to_owned());
    let name = format!("tools[{at}]");
    let what = "only tools of type `function` are served by the embedded engine";
    Some(OptionError::new(&name, format!("`{name}`: {what}, found `{}`", cut(&found))))
}

fn item_of_others(body: &str, object: &Object<'_>, kinds: &[String]) -> Option<OptionError> {
    let Some(input) = object.span("input").filter(|input| &body[input.clone()] != "null") else {
        return Some(OptionError::new("input", "`input` is missing: send a string or an array of items"));
    };
    if !body[input.clone()].starts_with(['"', '[']) {
        return Some(OptionError::new("input", "`input` must be a string or an array of items"));
    }
    let (at, kind) = kinds.iter().enumerate().find(|(_, kind)| !SERVED.contains(&kind.as_str()))?;
    let name = format!("input[{at}]");
    let what = match kind.as_str() {
        "item_reference" => {
            "items are not stored here: send the item itself, as clients do where `store` is false".to_owned()
        }
        compaction::KIND => "only compactions that this server made can be read here".to_owned(),
        _ => format!("items of type `{}` are not served by the embedded engine", cut(kind)),
    };
    Some(OptionError::new(&name, format!("`{name}`: {what}")))
}
