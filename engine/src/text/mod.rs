//! The text side of a model: tokenizer, chat template, tool calls, and text out of tokens.

mod error;
mod folder;
mod patterns;
mod tokenizer;
mod segments;
mod template;
mod wire;
mod weigh;
mod certificate;
mod stream;
mod stops;
mod tool_calls;
mod thinking;
mod answer;

use std::path::Path;

use folder::Folder;
use segments::SegmentMemo;
use tokenizer::Tokenizer;
use weigh::Scale;
use wire::Understood;

pub use answer::AnswerReader;
pub use certificate::{Certificate, Divergence, Reasoning, Shape, Stability};
pub use error::{EncodeError, TemplateError, TextError};
pub use segments::Encoded;
pub use stops::{Scanned, StopScanner};
pub use stream::TextStream;
pub use template::{Prompt, TemplateMessage, Templates};
pub use thinking::ThinkingFormat;
pub use tool_calls::{Piece, ToolCallFormat, ToolCallParser};

/// Tokenizer, chat template and tool-call format of a model folder. Shared by all requests; no method waits.
pub struct Text {
    tokenizer: Tokenizer,
    segments: SegmentMemo,
    templates: Templates,
    /// What the template understands without tools, and with them.
    understood: [Understood; 2],
    scale: Scale,
    tool_calls: Option<ToolCallFormat>,
    thinking: Option<ThinkingFormat>,
}

impl Text {
    /// Reads `tokenizer.json` and what stands beside it in `folder`, and tests how far prompts may be encoded in
    /// pieces. Takes up to a second for a large vocabulary.
    pub fn load(folder: &Path) -> Result<Self, TextError> {
        let tokenizer = Tokenizer::load(&folder.join("tokenizer.json"))?;
        let templates = Templates::compile(Folder::read(folder)?)?;
        let understood = [false, true].map(|tools| Understood::probe(&templates, tools));
        let samples = weigh::samples(&templates);
        let segments = SegmentMemo::new(tokenizer.clone(), &samples).map_err(|e| TextError::Tokenizer {
            path: folder.join("tokenizer.json"),
            reason: e.to_string(),
        })?;
        let scale = Scale::new(&templates, &understood[0], &segments);
        let tool_calls = tool_calls::detect(&templates);
        let thinking = thinking::detect(&templates);
        Ok(Self { tokenizer, segments, templates, understood, scale, tool_calls, thinking })
    }

    /// Renders a conversation of OpenAI's message shapes into the model's prompt. What the template does not
    /// understand is converted first: a call's arguments from text to an object, lists of parts to text, null to an
    /// empty text or nothing, `developer` to `system`.
    pub fn render(&self, prompt: &Prompt<'_>) -> Result<String, TemplateError> {
        let messages = prompt.messages.iter().map(|message| self.message(message, offers(prompt)));
        self.render_read(messages, prompt)
    }

    /// A message as [`Text::render`] converts it, for prompts that offer tools or for those that do not.
    pub fn message(&self, message: &serde_json::Value, tools: bool) -> TemplateMessage {
        TemplateMessage::new(&self.understood[usize::from(tools)].message(message))
    }

    /// As [`Text::render`], with messages that [`Text::message`] has read in place of the prompt's own.
    pub fn render_read(
        &self,
        messages: impl IntoIterator<Item = TemplateMessage>,
        prompt: &Prompt<'_>,
    ) -> Result<String, TemplateError> {
        let prompt = Prompt { tools: prompt.tools.filter(|_| offers(prompt)), ..*prompt };
        self.templates.render_messages(messages, &prompt)
    }

    /// The chat templates, for rendering messages without any conversion.
    pub fn templates(&self) -> &Templates {
        &self.templates
    }

    /// The chat template as it runs, for prompts with tools or for those without; none where the model has none.
    pub fn template_source(&self, tools: bool) -> Option<String> {
        self.templates.source(tools)
    }

    /// Whether the chat template asks for a variable, such as `enable_thinking`.
    pub fn asks_for(&self, variable: &str) -> bool {
        self.templates.asks_for(variable)
    }

    /// The special tokens that the template knows by a role, such as `bos_token`.
    pub fn special_token(&self, role: &str) -> Option<&str> {
        self.templates.special_token(role)
    }

    /// Ids of a rendered prompt: special tokens in it are recognised, none is added. Costs only what no earlier
    /// prompt contained, where [`segmented`](Self::segmented).
    pub fn encode(&self, rendered: &str) -> Result<Encoded, EncodeError> {
        self.segments.encode(rendered)
    }

    /// Ids of a plain text, as `tokenizer(text)` gives them in `transformers`: with the special tokens that the
    /// tokenizer puts around a text.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>, EncodeError> {
        self.tokenizer.encode_with_frame(text)
    }

    /// Number of tokens of a rendered prompt.
    pub fn count(&self, rendered: &str) -> Result<usize, EncodeError> {
        Ok(self.encode(rendered)?.tokens())
    }

    /// Tokens that `messages`, read for prompts without tools, add to a prompt, judged by themselves. Sums are close to,
    /// not always equal to, the tokens of a whole prompt; the same messages always weigh the same.
    pub fn weigh(&self, messages: &[TemplateMessage]) -> Result<usize, EncodeError> {
        weigh::weigh(self, messages)
    }

    /// Whether prompts are encoded and remembered piece by piece. Otherwise each prompt is encoded whole, because
    /// this tokenizer would give other ids for its pieces.
    pub fn segmented(&self) -> bool {
        self.segments.segmented()
    }

    /// Text of `ids`; U+FFFD stands for bytes that are no UTF-8. `skip_special` leaves special tokens out.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        self.tokenizer.decode(ids, skip_special)
    }

    /// Turns ids into text one by one. `skip_special` leaves special tokens out, save those that mark tool calls and
    /// thoughts.
    pub fn decoder(&self, skip_special: bool) -> TextStream {
        let calls = self.tool_calls.iter().flat_map(|format| format.marks());
        let thoughts = self.thinking.iter().flat_map(|format| [format.opening(), format.closing()]);
        let shown = calls.chain(thoughts).filter_map(|mark| self.tokenizer.added_token(mark)).collect();
        TextStream::new(self.tokenizer.clone(), skip_special, shown)
    }

    /// Bytes that a token stands for by itself; they need not be whole characters. `None` where this kind of
    /// vocabulary does not tell.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        self.tokenizer.word(id)
    }

    /// Id of the added token that is written `text`.
    pub(crate) fn added_token(&self, text: &str) -> Option<u32> {
        self.tokenizer.added_token(text)
    }

    /// Special tokens as they are written, with their ids.
    pub(crate) fn special_tokens(&self) -> Vec<(String, u32)> {
        let texts = self.tokenizer.special_texts().into_iter().filter(|text| !text.is_empty());
        texts.filter_map(|text| Some((text.clone(), self.tokenizer.added_token(&text)?))).collect()
    }

    /// A token as a grammar knows it: special ones are marked, and no text of an answer.
    pub(crate) fn token_word(&self, id: u32) -> Option<Vec<u8>> {
        let mut word = self.tokenizer.word(id)?;
        if self.tokenizer.is_special(id) {
            word.insert(0, llguidance::toktrie::TokTrie::SPECIAL_TOKEN_MARKER);
        }
        Some(word)
    }

    /// Finds `stops` in streamed text.
    pub fn stops(&self, stops: Vec<String>) -> StopScanner {
        StopScanner::new(stops)
    }

    /// Whether the prompts of a growing conversation keep their start; `None` where the model has no template. Renders
    /// some fifty short prompts: a few milliseconds.
    pub fn certificate(&self) -> Option<Certificate> {
        certificate::certify(self)
    }

    /// How this model writes tool calls, where its template tells.
    pub fn tool_calls(&self) -> Option<ToolCallFormat> {
        self.tool_calls
    }

    /// Between which marks this model thinks before it answers, where its template tells.
    pub fn thinking(&self) -> Option<ThinkingFormat> {
        self.thinking
    }
}

#[cfg(test)]
mod shared;
#[cfg(test)]
#[path = "truth_tests.rs"]
mod truth_tests;

/// Whether a prompt offers tools: an empty list offers none.
fn offers(prompt: &Prompt<'_>) -> bool {
    prompt.tools.is_some_and(|tools| tools.as_array().is_none_or(|tools| !tools.is_empty()))
}
