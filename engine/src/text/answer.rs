//! An answer taken apart as it comes: thoughts, text, tool calls.

use super::Text;
use super::thinking::{Parted, ThinkingParser};
use super::tool_calls::{Piece, ToolCallParser};

/// Tokens at the end of a prompt in which the template may have opened the thoughts.
const TAIL: usize = 32;

/// Reads one answer of a chat. However it is cut into chunks, the pieces are the same up to where texts are divided.
#[derive(Debug)]
pub struct AnswerReader {
    thinking: Option<ThinkingParser>,
    calls: Option<ToolCallParser>,
}

impl AnswerReader {
    /// A reader that takes everything as text.
    pub fn plain() -> Self {
        Self { thinking: None, calls: None }
    }

    /// Whether the answer so far ends inside of the thoughts; none where the model does not think.
    pub fn thinking(&self) -> Option<bool> {
        self.thinking.as_ref().map(ThinkingParser::thinking)
    }

    /// Adds a chunk of the answer; returns what is certain by now.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        match &mut self.thinking {
            Some(thinking) => {
                let parted = thinking.push(text);
                self.parted(parted)
            }
            None => self.answer(text),
        }
    }

    /// Ends the answer; returns what was held back.
    pub fn finish(&mut self) -> Vec<Piece> {
        let parted = self.thinking.as_mut().map(ThinkingParser::finish).unwrap_or_default();
        let mut pieces = self.parted(parted);
        pieces.extend(self.calls.as_mut().map(ToolCallParser::finish).unwrap_or_default());
        pieces
    }

    fn parted(&mut self, Parted { thoughts, answer }: Parted) -> Vec<Piece> {
        let mut pieces = Vec::new();
        if !thoughts.is_empty() {
            pieces.push(Piece::Thinking(thoughts));
        }
        pieces.extend(self.answer(&answer));
        pieces
    }

    fn answer(&mut self, text: &str) -> Vec<Piece> {
        match &mut self.calls {
            _ if text.is_empty() => Vec::new(),
            Some(calls) => calls.push(text),
            None => vec![Piece::Text(text.to_owned())],
        }
    }
}

impl Text {
    /// A reader for the answer to `prompt`, of a chat; `calls` finds the calls behind the thoughts.
    pub fn reader(&self, prompt: &[u32], calls: Option<ToolCallParser>) -> AnswerReader {
        let thinking = self.thinking().map(|format| format.parser(self.opens_thoughts(prompt)));
        AnswerReader { thinking, calls }
    }

    /// Whether the answer to `prompt` begins inside of the thoughts.
    pub fn opens_thoughts(&self, prompt: &[u32]) -> bool {
        let tail = &prompt[prompt.len().saturating_sub(TAIL)..];
        self.thinking().is_some_and(|format| format.opened_by(&self.decode(tail, false)))
    }
}
