//! Edits of a conversation back into a body of Ollama's form: bytes that no edit touches stay.

use plimsoll_policies::Conversation;
use plimsoll_policies::json::{self, Span};

use super::super::raw::spliced;
use super::message::{Element, made};
use super::object::Object;
use super::request::Endpoint;

/// Places of the body and what stands there now.
type Edits = Vec<(Span, String)>;

/// The body with the edits of a conversation that was translated from it; messages are known by their slots.
pub(super) fn write(endpoint: Endpoint, body: &str, conversation: &Conversation) -> String {
    if !conversation.is_changed() {
        return body.to_owned();
    }
    // It was read before.
    let Ok(object) = Object::body(body) else { return body.to_owned() };
    let mut edits = match endpoint {
        Endpoint::Chat => messages(body, &object, conversation).into_iter().collect(),
        Endpoint::Generate => prompts(&object, conversation),
    };
    edits.extend(tools(&object, conversation));
    edits.extend(output_limit(&object, conversation));
    spliced(body, 0..body.len(), edits)
}

/// The list of messages: those that stay keep their bytes, and what stood between them.
fn messages(body: &str, object: &Object<'_>, conversation: &Conversation) -> Option<(Span, String)> {
    let elements = object.list("", "messages").ok().filter(|elements| !elements.is_empty())?;
    let mut text = String::new();
    for (index, message) in conversation.messages().iter().enumerate() {
        let slot = message.slot().filter(|slot| *slot < elements.len());
        if index > 0 {
            let before = slot.filter(|slot| *slot > 0).map(|slot| elements[slot - 1].1.end);
            text.push_str(before.zip(slot).map_or(",", |(end, slot)| &body[end..elements[slot].1.start]));
        }
        let Some(slot) = slot else {
            text.push_str(&made(message));
            continue;
        };
        let (raw, span) = &elements[slot];
        match Element::read(raw, span.start, "") {
            Ok(element) if !message.is_original() => {
                text.push_str(&spliced(body, span.clone(), element.edits(message)));
            }
            _ => text.push_str(raw),
        }
    }
    Some((elements[0].1.start..elements[elements.len() - 1].1.end, text))
}

/// Instructions and prompt; what a policy put before the prompt becomes its beginning.
fn prompts(object: &Object<'_>, conversation: &Conversation) -> Edits {
    let mut edits = Edits::new();
    let mut before = String::new();
    for message in conversation.messages() {
        if message.slot().is_none() {
            before.push_str(message.text());
            before.push_str("\n\n");
            continue;
        }
        let instructs = message.role().is_system();
        let (name, before) = if instructs { ("system", "") } else { ("prompt", before.as_str()) };
        if let Some(span) = object.span(name).filter(|_| !message.is_original() || !before.is_empty()) {
            edits.push((span, json::encode(&format!("{before}{}", message.text()))));
        }
    }
    edits
}

fn tools(object: &Object<'_>, conversation: &Conversation) -> Option<(Span, String)> {
    let (raw, span) = (object.get("tools")?, object.span("tools")?);
    let now = conversation.tools()?;
    (now != raw).then(|| (span, now.to_owned()))
}

/// `options.num_predict` holds the limit on the answer.
fn output_limit(object: &Object<'_>, conversation: &Conversation) -> Option<(Span, String)> {
    let limit = conversation.output_limit()?;
    if conversation.field("max_tokens").and_then(|raw| raw.parse().ok()) == Some(limit) {
        return None;
    }
    let member = format!("\"num_predict\":{limit}");
    let options = object.get("options").zip(object.span("options"));
    let Some(options) = options.and_then(|(raw, span)| Object::read(raw, span.start)) else {
        return Some(match object.span("options") {
            Some(null) => (null, format!("{{{member}}}")),
            None => first(object, &format!("\"options\":{{{member}}}")),
        });
    };
    Some(match options.span("num_predict") {
        Some(span) => (span, limit.to_string()),
        None => first(&options, &member),
    })
}

/// A member put before all others.
fn first(object: &Object<'_>, member: &str) -> (Span, String) {
    let (open, followed) = object.open();
    (open..open, if followed { format!("{member},") } else { member.to_owned() })
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
