//! Anthropic's Messages: `/v1/messages` and `/v1/messages/count_tokens`.

pub(crate) mod answer;
mod content;
mod edits;
pub(crate) mod error;
pub(crate) mod render;
mod reply;
mod request;
pub(crate) mod tools;
mod write;

use std::sync::Arc;

use plimsoll_policies::{Conversation, Step, Tokens};
use serde_json::{Value, json};

use self::reply::MessageReply;
use self::request::{Origin, Read};
use super::raw::{Object, Raw};
use super::{DialectError, Original, Translated};
use crate::admit::Run;
use crate::forward::{Seen, Usage};
use crate::identify::Api;
use crate::stream::Reply;
use crate::telemetry::Said;

/// Members that ask an Anthropic server for something that the embedded engine has not; empty ones ask for nothing.
const UNSERVED: [(&str, &str); 3] = [
    ("mcp_servers", "MCP servers are not served by the embedded engine: leave `mcp_servers` out"),
    ("container", "containers are not served by the embedded engine: leave `container` out"),
    ("compaction", "compaction is not served by the embedded engine: leave `compaction` out"),
];

/// A Messages request behind its OpenAI form.
struct Messages {
    body: Arc<str>,
    read: Read,
    counts: bool,
}

/// Reads a request of the dialect.
pub(super) fn translate(api: Api, body: &str) -> Result<Translated, DialectError> {
    let read = request::read(body)?;
    let json = read.json.clone();
    let original = Messages { body: body.into(), read, counts: api.counts() };
    Ok(Translated { json, original: Arc::new(original) })
}

impl Messages {
    fn object(&self) -> Option<Object<'_>> {
        Raw::whole(&self.body).object()
    }
}

impl Original for Messages {
    fn check(&self) -> Result<Vec<Step>, DialectError> {
        let Some(object) = self.object() else { return Ok(Vec::new()) };
        if !self.counts && object.get("max_tokens").is_none() {
            return Err(DialectError::form("max_tokens", "Field required"));
        }
        let asks = |name: &&(&str, &str)| object.get(name.0).is_some_and(|value| value.text != "[]");
        if let Some((name, message)) = UNSERVED.iter().find(asks) {
            return Err(DialectError::form(*name, *message));
        }
        let Some(management) = object.get("context_management") else { return Ok(Vec::new()) };
        let management = serde_json::from_str(management.text);
        edits::steps(
            &management.map_err(|error| DialectError::form("context_management", error.to_string()))?,
        )
    }

    fn write(&self, conversation: &Conversation) -> String {
        write::write(&self.body, &self.read, conversation)
    }

    fn place(&self, param: &str) -> String {
        match param {
            "stop" => "stop_sequences".to_owned(),
            "parallel_tool_calls" => "tool_choice.disable_parallel_tool_use".to_owned(),
            "response_format" => "output_config.format".to_owned(),
            "chat_template_kwargs" => "thinking".to_owned(),
            _ => message_place(&self.read.origins, param).unwrap_or_else(|| dotted(param)),
        }
    }

    fn reply(&self, run: &Run) -> Box<dyn Reply> {
        Box::new(MessageReply::new(run))
    }

    fn usage(&self, seen: &Seen) -> Option<Usage> {
        answer::usage(seen)
    }

    fn said(&self, body: &str, said: &mut Said) {
        answer::said(body, said);
    }

    fn counted(&self, tokens: Tokens, before: Tokens) -> Value {
        json!({"input_tokens": tokens, "context_management": {"original_input_tokens": before}})
    }
}

/// `tools[2].name` as `tools.2.name`.
fn dotted(place: &str) -> String {
    place.replace('[', ".").replace(']', "")
}

/// The place of `messages[3].content[1]` in the caller's body.
fn message_place(origins: &[Origin], param: &str) -> Option<String> {
    let (index, rest) = param.strip_prefix("messages[")?.split_once(']')?;
    let origin = origins.get(index.parse::<usize>().ok()?)?;
    let base = origin.element.map_or_else(|| "system".to_owned(), |at| format!("messages.{at}"));
    let content = if origin.element.is_some() { format!("{base}.content") } else { base.clone() };
    let block = |at: usize| format!("{content}.{at}");
    let numbered = |name: &str| rest.strip_prefix(name)?.split_once(']')?.0.parse::<usize>().ok();
    let own = if origin.result { origin.blocks.first().map(|at| block(*at)) } else { None };
    if let Some(part) = numbered(".content[") {
        let at = origin.parts.get(part).copied()?;
        return Some(own.map_or_else(|| block(at), |own| format!("{own}.content.{at}")));
    }
    if let Some(call) = numbered(".tool_calls[") {
        return origin.calls.get(call).map(|at| block(*at));
    }
    let place = own.unwrap_or(if rest.is_empty() { base } else { content });
    Some(match rest {
        ".tool_call_id" => format!("{place}.tool_use_id"),
        _ => place,
    })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
