//! What single messages add to a prompt.

use serde_json::json;

use crate::text::Text;
use crate::text::error::EncodeError;
use crate::text::segments::SegmentMemo;
use crate::text::template::{TemplateMessage, Templates};
use crate::text::wire::{Understood, probe_call, probe_prompt, probe_tools};

/// Tokens around a message whose template cannot render it alone: role and two or three marks.
const FRAME: usize = 5;

/// An exchange behind which messages are weighed.
pub(super) struct Scale {
    before: [TemplateMessage; 2],
    /// Tokens of it alone; none where the template refuses it.
    tokens: Option<usize>,
}

impl Scale {
    /// Renders and counts the exchange once.
    pub(super) fn new(templates: &Templates, understood: &Understood, segments: &SegmentMemo) -> Self {
        let before = [json!({"role": "user", "content": "q"}), json!({"role": "assistant", "content": "a"})];
        let before = before.map(|message| TemplateMessage::new(&understood.message(&message)));
        let alone = templates.render_messages(before.iter().cloned(), &probe_prompt(&[], None)).ok();
        let tokens = alone.and_then(|text| segments.encode(&text).ok()).map(|alone| alone.tokens());
        Self { before, tokens }
    }
}

/// Tokens that `messages` add behind an exchange that is already there.
pub(super) fn weigh(text: &Text, messages: &[TemplateMessage]) -> Result<usize, EncodeError> {
    let Scale { before, tokens } = &text.scale;
    let with = || before.iter().chain(messages).cloned();
    let rendered = tokens.and_then(|_| text.render_read(with(), &probe_prompt(&[], None)).ok());
    match (rendered, tokens) {
        (Some(with), Some(without)) => Ok(text.count(&with)?.saturating_sub(*without)),
        _ => messages.iter().map(|message| by_content(text, message)).sum(),
    }
}

/// A message by its content and its calls, where the template refuses it without its neighbours.
fn by_content(text: &Text, message: &TemplateMessage) -> Result<usize, EncodeError> {
    let fields = ["content", "tool_calls"].into_iter().filter_map(|name| message.written(name));
    Ok(FRAME + text.count(&fields.collect::<String>())?)
}

/// Prompts that the template writes, for the test of encoding in pieces.
pub(super) fn samples(templates: &Templates) -> Vec<String> {
    let talk = json!([
        {"role": "user", "content": "  Hello, wörld!  \n"},
        {"role": "assistant", "content": "I'm\n\n12345 fine. 👍🏽"},
        {"role": "user", "content": "\n今天 "}
    ]);
    let call = probe_call(&json!({"a": "b c"}));
    let tools = probe_tools();
    [(&talk, None), (&call, Some(&tools))]
        .into_iter()
        .filter_map(|(messages, tools)| {
            let messages = messages.as_array()?;
            templates.render(&probe_prompt(messages, tools)).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use serde_json::{Map, json};

    use crate::text::shared::shared;
    use crate::text::{Prompt, Text};

    #[test]
    fn weights_add_up_to_the_prompt() {
        let Some(folder) = shared("demo-model/model") else { return };
        let text = Text::load(&folder).unwrap();
        let messages = json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is the weather?"},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]},
            {"role": "tool", "tool_call_id": "a", "content": "sunny, 12 degrees"},
            {"role": "assistant", "content": "Sunny."}
        ]);
        let messages = messages.as_array().unwrap();
        let rendered = text.render(&Prompt {
            messages,
            tools: None,
            add_generation_prompt: false,
            kwargs: &Map::new(),
            now: SystemTime::UNIX_EPOCH,
        });
        let whole = text.count(&rendered.unwrap()).unwrap();
        let read: Vec<_> = messages.iter().map(|message| text.message(message, false)).collect();
        let singly: usize = read.iter().map(|one| text.weigh(std::slice::from_ref(one)).unwrap()).sum();
        assert_eq!((text.weigh(&read).unwrap(), singly), (whole, whole));
    }

    #[test]
    fn messages_that_the_template_refuses_weigh_by_their_content() {
        let Some(folder) = shared("models/tokenizers/llama3") else { return };
        let text = Text::load(&folder).unwrap();
        let call = |name: &str| json!({"type": "function", "function": {"name": name, "arguments": "{}"}});
        let message = json!({"role": "assistant", "content": "Two.", "tool_calls": [call("a"), call("b")]});
        assert!(text.weigh(&[text.message(&message, false)]).unwrap() > 20);
    }
}
