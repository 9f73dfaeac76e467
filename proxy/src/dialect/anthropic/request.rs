//! From a Messages request to an equivalent chat request, with where each of its messages came from.

use std::sync::Arc;

use plimsoll_policies::ParseError;
use plimsoll_policies::json::encode;
use serde_json::value::RawValue;

use crate::cut::cut;
use crate::dialect::DialectError;
use crate::dialect::raw::{Object, Raw};

/// Claude Code begins its instructions with a block that is new in every request and says nothing to a model.
pub(super) const BILLING: &str = "x-anthropic-billing-header:";

/// Members that both dialects have, with the same meaning.
const SAME: [&str; 6] = ["model", "max_tokens", "temperature", "top_p", "top_k", "stream"];

/// Where a chat message came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Origin {
    /// Index of the element of `messages`; none: it is `system`.
    pub(super) element: Option<usize>,
    /// Indexes of the blocks of its content that this message was made of; empty where the content is a string.
    pub(super) blocks: Vec<usize>,
    /// The blocks of its content parts, in order; of a tool's result the parts of that block's own content.
    pub(super) parts: Vec<usize>,
    /// The blocks of its calls, in order.
    pub(super) calls: Vec<usize>,
    /// Whether it is a tool's result.
    pub(super) result: bool,
}

/// A request read.
#[derive(Debug)]
pub(super) struct Read {
    /// The chat request.
    pub(super) json: Arc<str>,
    /// One for each of its messages.
    pub(super) origins: Vec<Origin>,
}

/// Reads a body.
///
/// # Errors
/// Bytes that are no JSON; messages, blocks or tools that are not of the dialect's form, by their place.
pub(super) fn read(body: &str) -> Result<Read, DialectError> {
    let whole: Result<&RawValue, _> = serde_json::from_str(body);
    whole.map_err(|error| ParseError::from_json(&error))?;
    let object = Raw::whole(body).object();
    let object = object.ok_or_else(|| DialectError::form("body", "must be a JSON object"))?;
    let mut messages = Messages::default();
    if let Some(system) = object.get("system") {
        messages.system(&system)?;
    }
    let list = object.get("messages").ok_or_else(|| form("messages", "Field required"))?;
    let list = list.elements().ok_or_else(|| form("messages", "must be an array of messages"))?;
    for (index, element) in list.iter().enumerate() {
        messages.element(index, element)?;
    }
    let mut members = settings(&object)?;
    members.push(format!("\"messages\":[{}]", messages.json.join(",")));
    Ok(Read { json: format!("{{{}}}", members.join(",")).into(), origins: messages.origins })
}

fn form(place: &str, message: &str) -> DialectError {
    DialectError::form(place, message)
}

/// All members but the messages.
fn settings(object: &Object<'_>) -> Result<Vec<String>, DialectError> {
    let same = SAME.iter().filter_map(|name| Some(format!("\"{name}\":{}", object.get(name)?.text)));
    let mut members: Vec<String> = same.collect();
    members.extend(object.get("stop_sequences").map(|stops| format!("\"stop\":{}", stops.text)));
    members.extend(object.get("tools").map(|tools| translated_tools(&tools)).transpose()?);
    members.extend(object.get("tool_choice").map(|choice| tool_choice(&choice)).transpose()?.flatten());
    members.extend(format_of(object));
    let thinks = object.get("thinking").and_then(|thinking| thinking.object()?.string("type"));
    let thinks = thinks.is_some_and(|kind| kind != "disabled");
    // What its templates think by themselves is asked for here.
    members.push(format!("\"chat_template_kwargs\":{{\"enable_thinking\":{thinks}}}"));
    Ok(members)
}

/// The form that an answer must have: `output_config.format`, or `output_format` as it was called.
fn format_of(object: &Object<'_>) -> Option<String> {
    let config = object.get("output_config").and_then(|config| config.object()?.get("format"));
    let schema = config.or_else(|| object.get("output_format"))?.object()?.get("schema")?;
    let schema = schema.text;
    Some(format!(r#""response_format":{{"type":"json_schema","json_schema":{{"schema":{schema}}}}}"#))
}

fn translated_tools(tools: &Raw<'_>) -> Result<String, DialectError> {
    let list = tools.elements().ok_or_else(|| form("tools", "must be an array of tools"))?;
    let mut texts = Vec::with_capacity(list.len());
    for (index, raw) in list.iter().enumerate() {
        let tool = raw.object();
        let tool = tool.ok_or_else(|| form(&format!("tools.{index}"), "must be an object"))?;
        texts.push(translated_tool(&tool));
    }
    Ok(format!("\"tools\":[{}]", texts.join(",")))
}

/// A tool of the client's becomes a function; a tool of a server's stays what it is, for that server to know.
pub(super) fn translated_tool(tool: &Object<'_>) -> String {
    let kind = tool.string("type");
    if kind.as_deref().is_some_and(|kind| kind != "custom") {
        return tool.without("cache_control");
    }
    let names = [
        ("name", "name"),
        ("description", "description"),
        ("input_schema", "parameters"),
        ("strict", "strict"),
    ];
    let members = names.iter().filter_map(|(own, name)| Some(format!("\"{name}\":{}", tool.get(own)?.text)));
    let members: Vec<String> = members.collect();
    format!(r#"{{"type":"function","function":{{{}}}}}"#, members.join(","))
}

fn tool_choice(choice: &Raw<'_>) -> Result<Option<String>, DialectError> {
    let wrong = || form("tool_choice", "must be {\"type\": \"auto\" | \"any\" | \"tool\" | \"none\"}");
    let choice = choice.object().ok_or_else(wrong)?;
    let mut text = match choice.string("type").as_deref() {
        Some("auto") => "\"tool_choice\":\"auto\"".to_owned(),
        Some("none") => "\"tool_choice\":\"none\"".to_owned(),
        Some("any") => "\"tool_choice\":\"required\"".to_owned(),
        Some("tool") => {
            let name = choice.get("name").ok_or_else(|| form("tool_choice.name", "Field required"))?.text;
            format!(r#""tool_choice":{{"type":"function","function":{{"name":{name}}}}}"#)
        }
        _ => return Err(wrong()),
    };
    if choice.get("disable_parallel_tool_use").is_some_and(|one| one.text == "true") {
        text.push_str(",\"parallel_tool_calls\":false");
    }
    Ok(Some(text))
}

/// The messages so far.
#[derive(Default)]
struct Messages {
    json: Vec<String>,
    origins: Vec<Origin>,
}

/// Content in the making: its parts as raw JSON, and whether all of them are text.
#[derive(Default)]
struct Content {
    parts: Vec<String>,
    /// The raw string of the last text.
    text: Option<String>,
}

impl Content {
    /// Adds a block; where it caches is not the conversation's business: it moves from turn to turn.
    fn add(&mut self, block: &Object<'_>) {
        let text = block.get("text").filter(|text| text.is_string() && kind(block) == "text");
        let part = match &text {
            Some(text) => format!(r#"{{"type":"text","text":{}}}"#, text.text),
            None => block.without("cache_control"),
        };
        self.text = text.map(|text| text.text.to_owned());
        self.parts.push(part);
    }

    /// The raw JSON: a single text is a string, as clients send it one way or the other.
    fn json(self) -> String {
        match (self.parts.len(), self.text) {
            (0, _) => "\"\"".to_owned(),
            (1, Some(text)) => text,
            _ => format!("[{}]", self.parts.join(",")),
        }
    }
}

fn kind(block: &Object<'_>) -> String {
    block.string("type").unwrap_or_default()
}

/// The blocks of a content that is no string.
pub(super) fn blocks<'a>(content: &Raw<'a>, place: &str) -> Result<Vec<Object<'a>>, DialectError> {
    let list = content.elements().ok_or_else(|| form(place, "must be a string or an array of blocks"))?;
    let object = |(index, block): (usize, &Raw<'a>)| {
        let typed = block.object().filter(|block| block.string("type").is_some());
        typed.ok_or_else(|| form(&format!("{place}.{index}"), "must be an object with `type`"))
    };
    list.iter().enumerate().map(object).collect()
}

impl Messages {
    fn push(&mut self, json: String, origin: Origin) {
        self.json.push(json);
        self.origins.push(origin);
    }

    fn system(&mut self, system: &Raw<'_>) -> Result<(), DialectError> {
        if system.is_string() {
            self.push(format!(r#"{{"role":"system","content":{}}}"#, system.text), Origin::default());
            return Ok(());
        }
        let (mut content, mut parts) = (Content::default(), Vec::new());
        let all = blocks(system, "system")?;
        for (index, block) in all.iter().enumerate() {
            if !block.string("text").is_some_and(|text| text.starts_with(BILLING)) {
                content.add(block);
                parts.push(index);
            }
        }
        if !parts.is_empty() {
            let json = format!(r#"{{"role":"system","content":{}}}"#, content.json());
            self.push(json, Origin { blocks: (0..all.len()).collect(), parts, ..Origin::default() });
        }
        Ok(())
    }

    fn element(&mut self, index: usize, element: &Raw<'_>) -> Result<(), DialectError> {
        let place = format!("messages.{index}");
        let message = element.object().ok_or_else(|| form(&place, "must be an object"))?;
        let role = message.string("role").unwrap_or_default();
        if !matches!(role.as_str(), "user" | "assistant" | "system") {
            let text = format!("must be `user` or `assistant`, found `{}`", cut(&role));
            return Err(form(&format!("{place}.role"), &text));
        }
        let at = format!("{place}.content");
        let content = message.get("content").ok_or_else(|| form(&at, "Field required"))?;
        let origin = Origin { element: Some(index), ..Origin::default() };
        if content.is_string() {
            self.push(format!(r#"{{"role":"{role}","content":{}}}"#, content.text), origin);
            return Ok(());
        }
        let blocks = blocks(&content, &at)?;
        match role.as_str() {
            "assistant" => self.assistant(&blocks, &at, origin),
            role => self.user(role, &blocks, &at, &origin),
        }
    }

    /// Results become messages of their own, between what is said around them.
    fn user(&mut self, role: &str, blocks: &[Object<'_>], at: &str, of: &Origin) -> Result<(), DialectError> {
        let (mut content, mut origin) = (Content::default(), of.clone());
        let said = |messages: &mut Self, content: &mut Content, origin: &mut Origin| {
            let (content, origin) = (std::mem::take(content), std::mem::replace(origin, of.clone()));
            if !origin.parts.is_empty() || blocks.is_empty() {
                messages.push(format!(r#"{{"role":"{role}","content":{}}}"#, content.json()), origin);
            }
        };
        for (index, block) in blocks.iter().enumerate() {
            if kind(block) == "tool_result" {
                said(self, &mut content, &mut origin);
                self.result(block, &format!("{at}.{index}"), Origin { blocks: vec![index], ..of.clone() })?;
            } else {
                content.add(block);
                origin.parts.push(index);
                origin.blocks.push(index);
            }
        }
        said(self, &mut content, &mut origin);
        Ok(())
    }

    fn result(&mut self, block: &Object<'_>, at: &str, of: Origin) -> Result<(), DialectError> {
        let id = block.get("tool_use_id").filter(Raw::is_string);
        let id = id.ok_or_else(|| form(&format!("{at}.tool_use_id"), "Field required"))?.text;
        let mut parts = Vec::new();
        let content = match block.get("content") {
            None => "\"\"".to_owned(),
            Some(text) if text.is_string() => text.text.to_owned(),
            Some(list) => {
                let mut content = Content::default();
                for (index, part) in blocks(&list, &format!("{at}.content"))?.iter().enumerate() {
                    content.add(part);
                    parts.push(index);
                }
                content.json()
            }
        };
        let failed = block.get("is_error").is_some_and(|error| error.text == "true");
        let failed = if failed { ",\"is_error\":true" } else { "" };
        let json = format!(r#"{{"role":"tool","tool_call_id":{id},"content":{content}{failed}}}"#);
        self.push(json, Origin { parts, result: true, ..of });
        Ok(())
    }

    fn assistant(&mut self, blocks: &[Object<'_>], at: &str, mut origin: Origin) -> Result<(), DialectError> {
        let (mut content, mut calls) = (Content::default(), Vec::new());
        let (mut thoughts, mut hidden) = (Vec::new(), Vec::new());
        for (index, block) in blocks.iter().enumerate() {
            match kind(block).as_str() {
                "thinking" => thoughts.push(block.string("thinking").unwrap_or_default()),
                "redacted_thinking" => hidden.push(block.without("cache_control")),
                "tool_use" => {
                    calls.push(call(block, &format!("{at}.{index}"))?);
                    origin.calls.push(index);
                }
                _ => {
                    content.add(block);
                    origin.parts.push(index);
                }
            }
            origin.blocks.push(index);
        }
        let said =
            if origin.parts.is_empty() && !calls.is_empty() { "null".to_owned() } else { content.json() };
        let mut json = format!(r#"{{"role":"assistant","content":{said}"#);
        if !thoughts.is_empty() {
            json.push_str(&format!(",\"reasoning_content\":{}", encode(&thoughts.join("\n"))));
        }
        if !hidden.is_empty() {
            json.push_str(&format!(",\"thinking_blocks\":[{}]", hidden.join(",")));
        }
        if !calls.is_empty() {
            json.push_str(&format!(",\"tool_calls\":[{}]", calls.join(",")));
        }
        json.push('}');
        self.push(json, origin);
        Ok(())
    }
}

fn call(block: &Object<'_>, at: &str) -> Result<String, DialectError> {
    let member = |name: &str| {
        let value = block.get(name);
        value.ok_or_else(|| form(&format!("{at}.{name}"), "Field required"))
    };
    let (id, name, input) = (member("id")?, member("name")?, member("input")?);
    let arguments = encode(input.text);
    Ok(format!(
        r#"{{"id":{},"type":"function","function":{{"name":{},"arguments":{arguments}}}}}"#,
        id.text, name.text
    ))
}
