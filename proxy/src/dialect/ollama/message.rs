//! One message: Ollama's form to OpenAI's, and edits of the latter back into the former.
//!
//! Ollama's calls have arguments as objects and often no ids, its results name a tool, images and thinking stand beside
//! the text.

use std::collections::BTreeMap;

use plimsoll_policies::Message;
use plimsoll_policies::json::{self, Span};
use serde_json::Value;

use super::super::DialectError;
use super::object::{Object, place, wrong};

/// A message of Ollama's form over its text.
pub(super) struct Element<'b> {
    raw: &'b str,
    object: Object<'b>,
    role: String,
    images: Vec<(&'b str, Span)>,
    calls: Vec<Call<'b>>,
    thinking: Option<&'b str>,
}

struct Call<'b> {
    id: Option<String>,
    name: String,
    raw_name: &'b str,
    /// The arguments, and where they stand.
    arguments: Option<(&'b str, Span)>,
}

/// The calls that results may answer, in order: id, name, whether one did.
#[derive(Debug, Default)]
pub(super) struct Open(Vec<(String, String, bool)>);

impl Open {
    /// The id of the call that a result answers: the first of its tool's that no result answered yet.
    fn answered(&mut self, tool: Option<&str>) -> Option<String> {
        let named = |(_, name, _): &(String, String, bool)| tool.is_none_or(|tool| tool == name);
        let calls = &mut self.0;
        let place = calls
            .iter()
            .position(|call| !call.2 && named(call))
            .or_else(|| calls.iter().rposition(named))
            .or_else(|| calls.iter().position(|call| !call.2))
            .or_else(|| calls.len().checked_sub(1))?;
        calls[place].2 = true;
        Some(calls[place].0.clone())
    }
}

impl<'b> Element<'b> {
    /// Reads a message that begins at `start` of the body; `at` is its place, like `messages[2]`.
    ///
    /// # Errors
    /// It is no object, or one of its members has the wrong type.
    pub(super) fn read(raw: &'b str, start: usize, at: &str) -> Result<Self, DialectError> {
        let object =
            Object::read(raw, start).ok_or_else(|| wrong(at, "an object with `role` and `content`", raw))?;
        object.string(at, "content")?;
        let images = object.list(at, "images")?;
        if let Some(index) = images.iter().position(|(raw, _)| !raw.starts_with('"')) {
            let place = place(at, &format!("images[{index}]"));
            return Err(wrong(&place, "a string of base64", images[index].0));
        }
        let calls = object.list(at, "tool_calls")?;
        let calls = calls.into_iter().enumerate().map(|(index, (raw, span))| {
            let at = format!("{at}.tool_calls[{index}]");
            Call::read(raw, span.start)
                .ok_or_else(|| wrong(&at, "`{\"function\": {\"name\": ..., \"arguments\": {...}}}`", raw))
        });
        Ok(Self {
            raw,
            role: object.string(at, "role")?.unwrap_or_default(),
            images,
            calls: calls.collect::<Result<_, _>>()?,
            thinking: object
                .string(at, "thinking")?
                .filter(|text| !text.is_empty())
                .and(object.get("thinking")),
            object,
        })
    }

    /// Whether it shows images.
    pub(super) fn has_images(&self) -> bool {
        !self.images.is_empty()
    }

    /// The message in OpenAI's form; `index` is its place in the list.
    pub(super) fn translate(&self, index: usize, open: &mut Open) -> String {
        let told = |name| self.object.get(name).and_then(json::decode).map(|decoded| decoded.text);
        let answers = (self.role == "tool").then(|| {
            let told = told("tool_call_id").filter(|id| !id.is_empty());
            told.or_else(|| open.answered(told_name(&self.object).as_deref()))
        });
        if self.role != "tool" {
            *open = Open::default();
        }
        let plain = self.images.is_empty()
            && self.calls.is_empty()
            && self.thinking.is_none()
            && answers.is_none()
            && self.object.get("content").is_some()
            && self.object.get("tool_calls").is_none();
        if plain {
            return self.raw.to_owned();
        }
        let mut members = vec![("role", json::encode(&self.role)), ("content", self.content())];
        members.extend(self.thinking.map(|raw| ("reasoning_content", raw.to_owned())));
        if !self.calls.is_empty() {
            members.push(("tool_calls", self.translate_calls(index, open)));
        }
        members.extend(answers.flatten().map(|id| ("tool_call_id", json::encode(&id))));
        members.extend(self.object.get("tool_name").map(|raw| ("name", raw.to_owned())));
        let members: Vec<_> = members.iter().map(|(name, raw)| format!("\"{name}\":{raw}")).collect();
        format!("{{{}}}", members.join(","))
    }

    /// The text, or text and images as parts.
    fn content(&self) -> String {
        let text = self.object.get("content").unwrap_or("\"\"");
        if self.images.is_empty() {
            return text.to_owned();
        }
        let image = |(raw, _): &(&str, Span)| {
            // Between its quotes: a text may end in one of its own.
            let data = &raw[1..raw.len() - 1];
            format!(r#"{{"type":"image_url","image_url":{{"url":"data:image;base64,{data}"}}}}"#)
        };
        let images: Vec<_> = self.images.iter().map(image).collect();
        format!(r#"[{{"type":"text","text":{text}}},{}]"#, images.join(","))
    }

    fn translate_calls(&self, message: usize, open: &mut Open) -> String {
        let calls = self.calls.iter().enumerate().map(|(index, call)| {
            let id = call.id.clone().unwrap_or_else(|| format!("call_{message}_{index}"));
            let (name, arguments) = (call.raw_name, call.arguments_text());
            let translated = format!(
                r#"{{"id":{},"type":"function","function":{{"name":{name},"arguments":{}}}}}"#,
                json::encode(&id),
                json::encode(&arguments)
            );
            open.0.push((id, call.name.clone(), false));
            translated
        });
        format!("[{}]", calls.collect::<Vec<_>>().join(","))
    }

    /// The edits of this message, as places of the body and what stands there now. `after` is the edited OpenAI form.
    pub(super) fn edits(&self, after: &Message) -> Vec<(Span, String)> {
        let json: Value = serde_json::from_str(after.json()).unwrap_or_default();
        let mut edits = Vec::new();
        let before = self.object.get("content").and_then(json::decode).map(|decoded| decoded.text);
        let content = self.object.span("content");
        if let Some(span) = content.filter(|_| before.as_deref() != Some(after.text())) {
            edits.push((span, json::encode(after.text())));
        }
        edits.extend(self.images_left(&json["content"]));
        let thought = json.get("reasoning_content").is_some();
        if let Some(span) = self.object.span("thinking").filter(|_| self.thinking.is_some() && !thought) {
            edits.push((span, "\"\"".to_owned()));
        }
        for (call, after) in self.calls.iter().zip(after.tool_calls()) {
            if let Some((_, span)) = &call.arguments
                && call.arguments_text() != after.arguments
            {
                let object = serde_json::from_str::<serde_json::Map<String, Value>>(&after.arguments).is_ok();
                let raw = if object { after.arguments.clone() } else { json::encode(&after.arguments) };
                edits.push((span.clone(), raw));
            }
        }
        edits
    }

    /// The list of images without those that became a note.
    fn images_left(&self, content: &Value) -> Option<(Span, String)> {
        let span = self.object.span("images").filter(|_| self.has_images())?;
        let parts = content.as_array().map_or(&[][..], Vec::as_slice);
        // Behind the text each part stands for an image, or in place of one.
        let stays = |index: usize| parts.get(index + 1).is_some_and(|part| part["type"] == "image_url");
        let left: Vec<&str> =
            (0..self.images.len()).filter(|index| stays(*index)).map(|index| self.images[index].0).collect();
        (left.len() < self.images.len()).then(|| (span, format!("[{}]", left.join(","))))
    }
}

/// The tool that a result names.
fn told_name(object: &Object<'_>) -> Option<String> {
    let raw = object.get("tool_name").or_else(|| object.get("name"))?;
    json::decode(raw).map(|decoded| decoded.text).filter(|name| !name.is_empty())
}

impl<'b> Call<'b> {
    fn read(raw: &'b str, start: usize) -> Option<Self> {
        let call = Object::read(raw, start)?;
        let function = Object::read(call.get("function")?, call.span("function")?.start)?;
        let raw_name = function.get("name")?;
        let id =
            call.get("id").and_then(json::decode).map(|decoded| decoded.text).filter(|id| !id.is_empty());
        let arguments = function.get("arguments").zip(function.span("arguments"));
        Some(Self { id, name: json::decode(raw_name)?.text, raw_name, arguments })
    }

    /// The arguments as OpenAI has them: JSON in a text.
    fn arguments_text(&self) -> String {
        let raw = self.arguments.as_ref().map_or("{}", |(raw, _)| raw);
        json::decode(raw).map_or_else(|| raw.to_owned(), |decoded| decoded.text)
    }
}

/// A message that a policy made, in Ollama's form: text alone, which both forms spell alike, or with calls and results.
pub(super) fn made(message: &Message) -> String {
    let json: Value = serde_json::from_str(message.json()).unwrap_or_default();
    if message.tool_calls().is_empty() && message.tool_call_id().is_none() && json["content"].is_string() {
        return message.json().to_owned();
    }
    let mut made = BTreeMap::from([("role", json["role"].clone()), ("content", message.text().into())]);
    let call = |call: &plimsoll_policies::ToolCall| {
        let arguments: Value =
            serde_json::from_str(&call.arguments).unwrap_or_else(|_| call.arguments.clone().into());
        serde_json::json!({"id": call.id, "function": {"name": call.name, "arguments": arguments}})
    };
    if !message.tool_calls().is_empty() {
        made.insert("tool_calls", message.tool_calls().iter().map(call).collect());
    }
    made.extend(message.tool_call_id().map(|id| ("tool_call_id", id.into())));
    made.extend(message.name().map(|name| ("tool_name", name.into())));
    serde_json::to_string(&made).unwrap_or_default()
}
