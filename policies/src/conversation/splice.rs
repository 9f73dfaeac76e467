//! Writing an edited conversation: the original text with only the touched spans replaced.

use super::{Conversation, Message, OUTPUT_LIMITS, Source, Span, last};

/// The edited request.
pub(super) fn splice(conversation: &Conversation) -> String {
    let Source { body, .. } = &*conversation.source;
    let mut edits = Vec::new();
    if conversation.edited {
        edits.push(messages(conversation));
    }
    if let Some(tools) = &conversation.tools {
        edits.extend(value_of(conversation, "tools").map(|span| (span, tools.to_string())));
    }
    edits.extend(output_limit(conversation));
    edits.extend(stream_options(conversation));
    edits.sort_by_key(|(span, _)| span.start);
    let mut json = String::with_capacity(body.len());
    let mut done = 0;
    for (span, text) in edits {
        json.push_str(&body[done..span.start]);
        json.push_str(&text);
        done = span.end;
    }
    json.push_str(&body[done..]);
    json
}

fn value_of(conversation: &Conversation, name: &str) -> Option<Span> {
    let Source { body, outline } = &*conversation.source;
    last(body, &outline.fields, name).map(|field| field.value.clone())
}

fn output_limit(conversation: &Conversation) -> Vec<(Span, String)> {
    let Some(limit) = conversation.output_limit else { return Vec::new() };
    let present: Vec<Span> = OUTPUT_LIMITS.iter().filter_map(|name| value_of(conversation, name)).collect();
    if present.is_empty() {
        let end = conversation.source.body.rfind('}').unwrap_or_default();
        return vec![(end..end, format!(r#","max_tokens":{limit}"#))];
    }
    present.into_iter().map(|span| (span, limit.to_string())).collect()
}

fn stream_options(conversation: &Conversation) -> Option<(Span, String)> {
    let options = conversation.stream_options.as_ref()?;
    if let Some(span) = value_of(conversation, "stream_options") {
        return Some((span, options.to_string()));
    }
    let end = conversation.source.body.rfind('}').unwrap_or_default();
    Some((end..end, format!(r#","stream_options":{options}"#)))
}

/// The elements of the messages array: kept separators stay as they were.
fn messages(conversation: &Conversation) -> (Span, String) {
    let Source { body, outline } = &*conversation.source;
    let first = outline.elements.first().map_or(outline.open, |span| span.start);
    let end = outline.elements.last().map_or(outline.open, |span| span.end);
    let mut text = String::with_capacity(end - first);
    for (index, message) in conversation.messages.iter().enumerate() {
        if index > 0 {
            text.push_str(separator(body, &outline.elements, message));
        }
        text.push_str(message.json());
    }
    (first..end, text)
}

/// What stood between a message and the one before it.
fn separator<'a>(body: &'a str, elements: &[Span], message: &Message) -> &'a str {
    match message.slot() {
        Some(slot) if slot > 0 => &body[elements[slot - 1].end..elements[slot].start],
        _ => ",",
    }
}
