//! Bodies of `/api/chat` and `/api/generate` in OpenAI's form.

use std::sync::Arc;
use std::time::SystemTime;

use plimsoll_engine::text::{Prompt, Text};
use plimsoll_policies::json;
use serde_json::{Value, json};

use super::super::DialectError;
use super::message::{Element, Open};
use super::object::{Object, wrong};
use super::options::{self, Members, Think};
use crate::cut::cut;

/// Which of the two endpoints is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// `/api/chat`
    Chat,
    /// `/api/generate`
    Generate,
}

/// What a request asks for beside a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Turn {
    /// An answer to the conversation.
    Conversation,
    /// Nothing: the model is to be there, or to go.
    Load,
    /// The prompt as it is, without a template.
    Raw(String),
    /// The conversation behind these tokens, which an earlier answer gave.
    Continued(Vec<u32>),
    /// Text between the prompt and this.
    Filled,
}

impl Turn {
    /// The member that keeps policies from acting on the request; none where they may.
    pub(super) fn ungoverned(&self) -> Option<&'static str> {
        match self {
            Self::Conversation | Self::Load => None,
            Self::Raw(_) => Some("raw"),
            Self::Continued(_) => Some("context"),
            Self::Filled => Some("suffix"),
        }
    }
}

/// A request in OpenAI's form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// The endpoint.
    pub(super) endpoint: Endpoint,
    /// The model, as the caller spells it.
    pub(super) model: String,
    /// The body of an equivalent chat request.
    pub(super) json: Arc<str>,
    /// What is asked for.
    pub(super) turn: Turn,
    /// `num_ctx`: tokens that prompt and answer may have together.
    pub(super) window: Option<u32>,
    /// Whether the model is asked to think; `None`: nothing is said.
    pub(super) think: Option<bool>,
    /// What the embedded engine cannot do, and where that is asked: place and message.
    pub(super) unserved: Option<(String, String)>,
}

/// Reads a body.
///
/// # Errors
/// It is no JSON, or not of the endpoint's form.
pub(super) fn translate(endpoint: Endpoint, text: &str) -> Result<Request, DialectError> {
    let body = Object::body(text)?;
    let read = options::read(&body)?;
    let mut draft = Draft { members: Vec::new(), unserved: read.refused };
    draft.members.extend(body.get("model").map(|raw| ("model", raw.to_owned())));
    let think = Think::read(&body)?;
    let (messages, turn) = match endpoint {
        Endpoint::Chat => chat(&body, &mut draft)?,
        Endpoint::Generate => generate(&body, &mut draft)?,
    };
    draft.members.push(("stream", body.flag("", "stream")?.unwrap_or(true).to_string()));
    draft.members.extend(read.members);
    draft.members.extend(options::format(&body)?.map(|format| ("response_format", format)));
    draft.members.extend(think.as_ref().map(|think| ("chat_template_kwargs", think.variables())));
    draft.members.extend(body.get("keep_alive").map(|raw| ("keep_alive", whole_seconds(raw))));
    for name in ["logprobs", "top_logprobs"] {
        draft.members.extend(body.get(name).map(|raw| (name, raw.to_owned())));
    }
    body.flag("", "truncate")?;
    // Said or not: what is not said is as it is configured.
    draft.members.extend(body.flag("", "shift")?.map(|shift| ("shift", shift.to_string())));
    Ok(Request {
        endpoint,
        model: body.string("", "model")?.unwrap_or_default(),
        json: draft.json(&messages).into(),
        turn,
        window: read.window,
        think: think.map(|think| think.on),
        unserved: draft.unserved,
    })
}

/// Clients send seconds as fractions, too. What is beyond all numbers stays as it is, to be judged by whoever reads it.
fn whole_seconds(raw: &str) -> String {
    let fraction =
        raw.parse().ok().filter(|seconds: &f64| seconds.is_finite() && raw.contains(['.', 'e', 'E']));
    fraction.map_or_else(
        || raw.to_owned(),
        |seconds| if seconds < 0.0 { "-1".to_owned() } else { format!("{:.0}", seconds.ceil()) },
    )
}

/// The place in the caller's body of a place in the OpenAI form.
pub(super) fn place(request: &Request, param: &str) -> String {
    if let (Endpoint::Generate, Some(rest)) = (request.endpoint, param.strip_prefix("messages")) {
        // A prompt alone is one message, or the one behind its instructions.
        let instructions =
            rest.starts_with("[0]") && request.json.starts_with(r#"{"messages":[{"role":"system""#);
        return if instructions { "system" } else { "prompt" }.to_owned();
    }
    options::place_of(param).to_owned()
}

/// What stands in for an earlier answer; no template changes it.
const ANSWER: &str = "EARLIERANSWER";

/// Tokens that go behind those of an earlier answer: its end, and the turn that a translated body holds.
///
/// # Errors
/// The model's template cannot go on from an answer.
pub(super) fn behind(json: &str, text: &Text) -> Result<Arc<[u32]>, String> {
    let body: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let before = [json!({"role": "user", "content": "."}), json!({"role": "assistant", "content": ANSWER})];
    let own = body["messages"].as_array().into_iter().flatten().cloned();
    let messages: Vec<Value> = before.into_iter().chain(own).collect();
    let kwargs = body["chat_template_kwargs"].as_object().cloned().unwrap_or_default();
    let prompt = Prompt {
        messages: &messages,
        tools: None,
        add_generation_prompt: true,
        kwargs: &kwargs,
        now: SystemTime::now(),
    };
    let rendered = text.render(&prompt).map_err(|error| error.to_string())?;
    let (_, behind) =
        rendered.split_once(ANSWER).ok_or("the model's template does not show earlier answers")?;
    text.encode(behind).map(|behind| behind.ids()).map_err(|error| error.to_string())
}

/// An OpenAI body in the making.
struct Draft {
    members: Members,
    unserved: Option<(String, String)>,
}

impl Draft {
    /// Something that only an upstream may know how to do; the first one is told.
    fn unserved(&mut self, place: &str, message: &str) {
        self.unserved.get_or_insert_with(|| (place.to_owned(), message.to_owned()));
    }

    fn json(&self, messages: &[String]) -> String {
        let mut json = format!("{{\"messages\":[{}]", messages.join(","));
        for (name, raw) in &self.members {
            json.push_str(&format!(",\"{name}\":{raw}"));
        }
        json.push('}');
        json
    }
}

const NO_IMAGES: &str = "the embedded engine reads text alone: leave `images` out";

fn chat(body: &Object<'_>, draft: &mut Draft) -> Result<(Vec<String>, Turn), DialectError> {
    let mut open = Open::default();
    let mut messages = Vec::new();
    for (index, (raw, span)) in body.list("", "messages")?.into_iter().enumerate() {
        let at = format!("messages[{index}]");
        let element = Element::read(raw, span.start, &at)?;
        if element.has_images() {
            draft.unserved(&format!("{at}.images"), NO_IMAGES);
        }
        messages.push(element.translate(index, &mut open));
    }
    if let Some(raw) = body.get("tools") {
        let tools = json::elements(raw).ok_or_else(|| wrong("tools", "an array of functions", raw))?;
        // Clients send an empty list where they have none.
        draft.members.extend((!tools.is_empty()).then(|| ("tools", raw.to_owned())));
    }
    let turn = if messages.is_empty() { Turn::Load } else { Turn::Conversation };
    Ok((messages, turn))
}

/// A prompt alone is a conversation of one message, or two with its instructions.
fn generate(body: &Object<'_>, draft: &mut Draft) -> Result<(Vec<String>, Turn), DialectError> {
    let prompt = body.string("", "prompt")?.unwrap_or_default();
    let suffix = body.string("", "suffix")?.is_some_and(|suffix| !suffix.is_empty());
    let images = !body.list("", "images")?.is_empty();
    let message = |role: &str, name: &str| {
        format!(r#"{{"role":"{role}","content":{}}}"#, body.get(name).unwrap_or("\"\""))
    };
    let system = body.string("", "system")?.is_some_and(|system| !system.is_empty());
    let template = body.string("", "template")?.is_some_and(|template| !template.is_empty());
    let raw = body.flag("", "raw")?.unwrap_or(false);
    let context = context(body)?;
    if suffix {
        draft.unserved("suffix", "the embedded engine fills nothing in: leave `suffix` out");
    }
    if images {
        draft.unserved("images", NO_IMAGES);
    }
    if template {
        draft.unserved("template", "the embedded engine uses the model's own template: leave `template` out");
    }
    if raw && (template || system || context.is_some()) {
        draft.unserved("raw", "a raw prompt takes no `template`, `system` or `context` beside it");
    }
    let mut messages: Vec<_> = system.then(|| message("system", "system")).into_iter().collect();
    messages.push(message("user", "prompt"));
    let turn = match context {
        _ if prompt.is_empty() && !suffix && !images => Turn::Load,
        _ if suffix => Turn::Filled,
        _ if raw => Turn::Raw(prompt),
        Some(tokens) => Turn::Continued(tokens),
        None => Turn::Conversation,
    };
    Ok((messages, turn))
}

/// Tokens of an earlier answer; an empty list is none.
fn context(body: &Object<'_>) -> Result<Option<Vec<u32>>, DialectError> {
    let Some(raw) = body.get("context") else { return Ok(None) };
    let tokens: Vec<u32> = serde_json::from_str(raw).map_err(|_| {
        let form = "must be the list of tokens that an earlier answer gave as its `context`";
        DialectError::form("context", format!("{form}, found `{}`", cut(raw)))
    })?;
    Ok(Some(tokens).filter(|tokens| !tokens.is_empty()))
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
