//! Which form a model's calls have, from its chat template.

use serde_json::{Value, json};

use super::{Piece, ToolCallFormat};
use crate::text::template::Templates;
use crate::text::wire::{probe_call, probe_prompt, probe_tools};

/// The format in which the template writes calls of earlier turns: the model was trained to write the same. Where the
/// template shows tools and writes calls in no known form, answers that are a call in JSON are taken.
pub(in crate::text) fn detect(templates: &Templates) -> Option<ToolCallFormat> {
    // Some templates join the arguments to a text, others need them as an object; a number needs no quotes.
    let written: Vec<String> = [json!("{\"k\": 1}"), json!({"k": 1})]
        .iter()
        .filter_map(|arguments| written(templates, arguments))
        .collect();
    let formats = ToolCallFormat::ALL.into_iter();
    let found = formats.clone().find(|format| written.iter().any(|text| writes(*format, text)));
    found.or_else(|| {
        let shown = shown_tools(templates)?;
        // LFM2's template shows tools between marks and leaves calls to the client.
        let marked = shown.contains("<|tool_list_start|>");
        Some(if marked { ToolCallFormat::Lfm2 } else { ToolCallFormat::Json })
    })
}

/// What the template adds to a conversation for an answer that is a call.
fn written(templates: &Templates, arguments: &Value) -> Option<String> {
    let conversation = probe_call(arguments);
    let messages = conversation.as_array()?;
    let tools = probe_tools();
    let render = |messages: &[Value], answer: bool| {
        let prompt = probe_prompt(messages, Some(&tools));
        templates.render(&super::super::Prompt { add_generation_prompt: answer, ..prompt })
    };
    let whole = render(&messages[..2], false).or_else(|_| render(messages, false)).ok()?;
    let asked = render(&messages[..1], true).ok();
    match asked.and_then(|asked| whole.strip_prefix(&asked).map(str::to_owned)) {
        Some(answer) => Some(answer),
        // The generation prompt is no part of the turn: from behind the tools on.
        None => Some(whole),
    }
}

/// Whether the text has the probe's call in this form.
fn writes(format: ToolCallFormat, text: &str) -> bool {
    let form = format.form();
    let called = |text: &str| {
        let mut parser = format.parser_for(&["probe_tool".to_owned()].into());
        let mut pieces = parser.push(text);
        pieces.extend(parser.finish());
        let named = |piece: &Piece| matches!(piece, Piece::CallStart { name, .. } if name == "probe_tool");
        pieces.iter().any(named) && pieces.iter().any(|piece| matches!(piece, Piece::CallEnd { .. }))
    };
    let marked = form.opening.iter().any(|mark| text.contains(mark)) && called(text);
    let bare = || {
        // A call without a mark begins the answer, wherever the template begins that.
        text.char_indices().any(|(at, c)| form.bare.contains(&c) && called(&text[at..]))
    };
    (marked || bare()) && told_apart(format, text)
}

/// Two forms that one parser reads are told apart by what the template writes.
fn told_apart(format: ToolCallFormat, text: &str) -> bool {
    let behind = |mark: &str| text.rsplit_once(mark).map_or("", |(_, behind)| behind.trim_start());
    match format {
        ToolCallFormat::MistralNamed => behind("[TOOL_CALLS]").starts_with("probe_tool"),
        ToolCallFormat::DeepSeekPlain => behind("<｜tool▁call▁begin｜>").starts_with("probe_tool"),
        ToolCallFormat::Llama => text.contains("\"parameters\""),
        _ => true,
    }
}

/// A prompt that shows the tools that are offered.
fn shown_tools(templates: &Templates) -> Option<String> {
    let (tools, messages) = (probe_tools(), [json!({"role": "user", "content": "q"})]);
    templates.render(&probe_prompt(&messages, Some(&tools))).ok().filter(|text| text.contains("probe_tool"))
}
