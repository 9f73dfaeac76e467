//! The content of messages and of tool results: parts of the Responses API to those of chat completions, and back.

use std::borrow::Cow;

use plimsoll_policies::json::{Span, elements};

use crate::dialect::raw::{Object, Raw, spliced};

/// Who a content belongs to: its parts are named after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// What the model reads.
    Input,
    /// What the model said.
    Output,
}

impl Side {
    /// A text part with this raw string.
    fn part(self, text: &str) -> String {
        match self {
            Self::Input => format!(r#"{{"type":"input_text","text":{text}}}"#),
            Self::Output => format!(r#"{{"type":"output_text","text":{text},"annotations":[]}}"#),
        }
    }
}

/// The content in chat completions' form: a string as it is, a list part by part; `""` where it is neither.
pub(super) fn chat(content: &str) -> Cow<'_, str> {
    match elements(content) {
        Some(parts) => format!("[{}]", chat_parts(content, &parts).join(",")).into(),
        None if content.starts_with('"') => content.into(),
        None => r#""""#.into(),
    }
}

/// Each part in chat completions' form; a string is one part.
pub(super) fn chat_list(content: &str) -> Vec<String> {
    match elements(content) {
        Some(parts) => chat_parts(content, &parts),
        None if content.starts_with('"') => vec![format!(r#"{{"type":"text","text":{content}}}"#)],
        None => Vec::new(),
    }
}

fn chat_parts(content: &str, parts: &[Span]) -> Vec<String> {
    parts.iter().map(|part| chat_part(&content[part.clone()])).collect()
}

/// A text becomes a text part; what is no text stays as it is.
fn chat_part(part: &str) -> String {
    match text_span(part, &(0..part.len())) {
        Some(text) => format!(r#"{{"type":"text","text":{}}}"#, &part[text]),
        None => part.to_owned(),
    }
}

/// Where the text of a part stands.
fn text_span(body: &str, part: &Span) -> Option<Span> {
    let object = Raw::at(body, part).object()?;
    match object.string("type")?.as_str() {
        "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text" => {
            object.string_span("text")
        }
        "refusal" => object.string_span("refusal"),
        _ => None,
    }
}

/// A content after an edit: `edited` is its chat form now. None where that says what it said before.
pub(super) fn back(original: &str, edited: &str, side: Side) -> Option<String> {
    if edited == chat(original) {
        return None;
    }
    let Some(new) = elements(edited) else {
        // What the model said is a list, once it was one.
        let listed = original.starts_with('[') && side == Side::Output;
        let text = edited.starts_with('"').then_some(edited)?;
        return Some(if listed { format!("[{}]", side.part(text)) } else { text.to_owned() });
    };
    let old = elements(original).unwrap_or_default();
    let new: Vec<&str> = new.into_iter().map(|span| &edited[span]).collect();
    let parts: Vec<String> =
        new.iter().enumerate().map(|(at, new)| part_back(original, old.get(at), new, side)).collect();
    if parts.len() == old.len() {
        return Some(spliced(original, 0..original.len(), old.into_iter().zip(parts).collect()));
    }
    Some(format!("[{}]", parts.join(",")))
}

/// A part after an edit; `old` is where the part in its place stands in the original.
fn part_back(original: &str, old: Option<&Span>, new: &str, side: Side) -> String {
    let before = old.map(|span| &original[span.clone()]);
    if let Some(before) = before.filter(|before| chat_part(before) == new) {
        return before.to_owned();
    }
    let text = Object::of(new).and_then(|object| {
        let text = object.string_span("text")?;
        (object.string("type")? == "text").then(|| &new[text])
    });
    match (text, old.and_then(|span| Some((span, text_span(original, span)?)))) {
        (Some(text), Some((span, place))) => spliced(original, span.clone(), vec![(place, text.to_owned())]),
        (Some(text), None) => side.part(text),
        (None, _) => new.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str =
        r#"[ {"text" : "a\u0041","type":"input_text","x":1} , {"type":"input_image","image_url":"data:"}]"#;

    #[test]
    fn texts_become_text_parts_and_the_rest_stays() {
        assert_eq!(chat(r#""a\u0041""#), r#""a\u0041""#);
        assert_eq!(
            chat(LIST),
            r#"[{"type":"text","text":"a\u0041"},{"type":"input_image","image_url":"data:"}]"#
        );
        assert_eq!(chat(r#"[{"type":"refusal","refusal":"no"}]"#), r#"[{"type":"text","text":"no"}]"#);
        for neither in ["null", "5", "{}"] {
            assert_eq!(chat(neither), r#""""#);
        }
    }

    #[test]
    fn only_what_was_edited_changes() {
        assert_eq!(back(LIST, &chat(LIST), Side::Input), None);
        let edited = r#"[{"type":"text","text":"b"},{"type":"input_image","image_url":"data:"}]"#;
        assert_eq!(
            back(LIST, edited, Side::Input).unwrap(),
            r#"[ {"text" : "b","type":"input_text","x":1} , {"type":"input_image","image_url":"data:"}]"#
        );
        let noted = r#"[{"type":"text","text":"a\u0041"},{"type":"text","text":"image removed"}]"#;
        assert_eq!(
            back(LIST, noted, Side::Input).unwrap(),
            r#"[ {"text" : "a\u0041","type":"input_text","x":1} , {"type":"input_text","text":"image removed"}]"#
        );
    }

    #[test]
    fn a_list_may_become_a_text_and_get_more_parts() {
        assert_eq!(back(LIST, r#""gone""#, Side::Input).unwrap(), r#""gone""#);
        let said = r#"[{"type":"output_text","text":"a","annotations":[]}]"#;
        assert_eq!(
            back(said, r#""b""#, Side::Output).unwrap(),
            r#"[{"type":"output_text","text":"b","annotations":[]}]"#
        );
        assert_eq!(back(r#""a""#, r#""b""#, Side::Output).unwrap(), r#""b""#);
        let more = r#"[{"type":"text","text":"a"},{"type":"text","text":"b"}]"#;
        assert_eq!(
            back(said, more, Side::Output).unwrap(),
            r#"[{"type":"output_text","text":"a","annotations":[]},{"type":"output_text","text":"b","annotations":[]}]"#
        );
    }
}
