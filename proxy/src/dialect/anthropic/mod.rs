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
use crate::parse::OptionError;
use crate::stream::Reply;
use crate::telemetry::Said;

/// Members that ask an Anthropic server for something that the embedded engine has not; empty ones ask for nothing.
const UNSERVED: [&str; 3] = ["mcp_servers", "container", "compaction"];

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

    /// The edits that the caller asks for.
    fn steps(&self) -> Result<Vec<Step>, DialectError> {
        let management = self.object().and_then(|object| object.get("context_management"));
        let Some(management) = management else { return Ok(Vec::new()) };
        let management = serde_json::from_str(management.text);
        edits::steps(
            &management.map_err(|error| DialectError::form("context_management", error.to_string()))?,
        )
    }
}

impl Original for Messages {
    fn unserved(&self) -> Option<OptionError> {
        let object = self.object()?;
        if !self.counts && object.get("max_tokens").is_none() {
            return Some(OptionError::new("max_tokens", "max_tokens: Field required"));
        }
        let asks = |name: &&&str| object.get(name).is_some_and(|value| value.text != "[]");
        if let Some(name) = UNSERVED.iter().find(asks) {
            let message = format!("{name}: not served by the embedded engine: leave it out");
            return Some(OptionError::new(name, message));
        }
        match self.steps().err()? {
            DialectError::Form { param, message } => {
                Some(OptionError::new(&param, format!("{param}: {message}")))
            }
            DialectError::Json(error) => Some(OptionError::new("body", error.to_string())),
        }
    }

    fn edits(&self) -> Vec<Step> {
        self.steps().unwrap_or_default()
    }

    fn write(&self, conversation: &Conversation) -> String {
        write::write(&self.body, &self.read, conversation)
    }

    fn place(&self, param: &str) -> String {
        message_place(&self.read.origins, param).unwrap_or_else(|| dotted(renamed(param)))
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

/// A member of the chat form as this dialect names it.
pub(super) fn renamed(member: &str) -> &str {
    match member {
        "stop" => "stop_sequences",
        "parallel_tool_calls" => "tool_choice.disable_parallel_tool_use",
        "response_format" => "output_config.format",
        "chat_template_kwargs" => "thinking",
        other => other,
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
