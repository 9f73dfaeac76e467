//! Tool calls in a model's answer.
//!
//! Hermes and Qwen models write `<tool_call>`, a JSON object with `name` and `arguments`, `</tool_call>`. The parser
//! follows such an answer as it comes: text stays text, a call is announced as soon as its name is known, and its
//! arguments are passed on while they are written. What looks like a call and is none comes back as text.

mod call;
mod json;
mod unescape;

use call::Call;
use serde_json::json;

use crate::text::template::Templates;
use crate::text::wire::{probe_call, probe_prompt, probe_tools};

const OPENING: &str = "<tool_call>";
const CLOSING: &str = "</tool_call>";

/// How a model writes tool calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ToolCallFormat {
    /// JSON objects between `<tool_call>` and `</tool_call>`.
    Hermes,
}

impl ToolCallFormat {
    /// A parser for one answer. Use it only where the request offers tools.
    pub fn parser(self) -> ToolCallParser {
        ToolCallParser::default()
    }

    /// The marks that must stay visible when tokens become text.
    pub(super) fn marks(self) -> [&'static str; 2] {
        [OPENING, CLOSING]
    }
}

/// The format in which the template writes calls of earlier turns: the model was trained to write the same.
pub(super) fn detect(templates: &Templates) -> Option<ToolCallFormat> {
    let conversation = probe_call(&json!({"k": "v"}));
    let tools = probe_tools();
    let prompt = probe_prompt(conversation.as_array()?, Some(&tools));
    let mut parser = ToolCallFormat::Hermes.parser();
    let mut pieces = parser.push(&templates.render(&prompt).ok()?);
    pieces.extend(parser.finish());
    let called = pieces.iter().any(|piece| matches!(piece, Piece::CallEnd { .. }));
    called.then_some(ToolCallFormat::Hermes)
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text for the reader.
    Text(String),
    /// What the model thought before its answer.
    Thinking(String),
    /// A call begins. Calls of one answer are numbered from 0.
    CallStart {
        /// Number of the call.
        index: usize,
        /// The function to call.
        name: String,
    },
    /// More of a call's arguments.
    CallArguments {
        /// Number of the call.
        index: usize,
        /// To be joined with the other fragments of this call: together they are the JSON text of the arguments.
        json_fragment: String,
    },
    /// The call is complete: its arguments are valid JSON (or the text that the model gave as a JSON string).
    /// A call without an end was cut off or went wrong in its arguments.
    CallEnd {
        /// Number of the call.
        index: usize,
    },
}

/// Finds tool calls in an answer that comes in chunks.
///
/// However the answer is cut, the pieces are the same up to where texts and fragments are divided. Line breaks and
/// spaces that only separate calls are layout and not returned; everything else in the answer is in the pieces, save
/// members of a call besides `name` and `arguments`.
#[derive(Debug)]
pub struct ToolCallParser {
    state: State,
    calls: usize,
    /// Nothing but layout since the beginning or since the last call.
    quiet: bool,
    out: Vec<Piece>,
}

#[derive(Debug)]
enum State {
    /// Text; `held` is white space and what may be the beginning of `<tool_call>`.
    Text { held: String },
    /// Behind `<tool_call>`; `before` is the white space in front of it.
    Call { before: String, call: Box<Call> },
    /// Behind the object of a call; `held` may be the beginning of `</tool_call>`.
    Closing { held: String },
}

impl Default for State {
    fn default() -> Self {
        Self::Text { held: String::new() }
    }
}

impl Default for ToolCallParser {
    fn default() -> Self {
        Self { state: State::default(), calls: 0, quiet: true, out: Vec::new() }
    }
}

impl ToolCallParser {
    /// Adds a chunk of the answer; returns what is certain by now.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        self.feed(text.to_owned());
        std::mem::take(&mut self.out)
    }

    /// Ends the answer; returns what was held back.
    pub fn finish(&mut self) -> Vec<Piece> {
        loop {
            match std::mem::take(&mut self.state) {
                State::Call { before, call } if !call.started() => {
                    let again = self.no_call(&before, *call);
                    self.feed(again);
                }
                State::Call { .. } => break,
                State::Text { held } | State::Closing { held } => {
                    let layout = self.calls > 0 && self.quiet && held.trim_start().is_empty();
                    if !layout {
                        self.text(&held);
                    }
                    break;
                }
            }
        }
        std::mem::take(&mut self.out)
    }

    /// Follows `text`; what turns out to be no call is read again from behind its `<tool_call>`.
    fn feed(&mut self, text: String) {
        let mut unread = vec![text];
        while let Some(text) = unread.pop() {
            for (at, c) in text.char_indices() {
                if let Some(again) = self.step(c) {
                    unread.push(text[at + c.len_utf8()..].to_owned());
                    unread.push(again);
                    break;
                }
            }
        }
    }

    /// Takes one character; returns text that must be read again.
    fn step(&mut self, c: char) -> Option<String> {
        match std::mem::take(&mut self.state) {
            State::Text { held } => self.in_text(held, c),
            State::Call { before, call } => self.in_call(before, call, c),
            State::Closing { held } => self.in_closing(held, c),
        }
    }

    fn in_text(&mut self, mut held: String, c: char) -> Option<String> {
        if held.is_empty() && c != '<' && !c.is_whitespace() {
            self.text(c.encode_utf8(&mut [0; 4]));
            self.state = State::Text { held };
            return None;
        }
        held.push(c);
        let mark = held.trim_start();
        if mark == OPENING {
            held.truncate(held.len() - OPENING.len());
            self.state = State::Call { before: held, call: Box::new(Call::new(self.calls)) };
            return None;
        }
        if OPENING.starts_with(mark) {
            self.state = State::Text { held };
            return None;
        }
        // The mark holds `<` and white space nowhere but at its beginning: only `c` itself may begin anew.
        held.pop();
        self.text(&held);
        held.clear();
        self.in_text(held, c)
    }

    fn in_call(&mut self, before: String, mut call: Box<Call>, c: char) -> Option<String> {
        let (was_started, mut pieces) = (call.started(), Vec::new());
        let pushed = call.push(c, &mut pieces);
        if call.started() && !was_started {
            self.calls += 1;
            // One line break belongs to the call: templates write it in front of `<tool_call>`.
            let text = if self.quiet { "" } else { before.strip_suffix('\n').unwrap_or(&before) };
            self.text(text);
        }
        for piece in pieces {
            self.piece(piece);
        }
        match pushed {
            Ok(false) => self.state = State::Call { before, call },
            Ok(true) => {
                self.quiet = true;
                self.state = State::Closing { held: String::new() };
            }
            Err(_) if call.started() => {
                self.quiet = false;
                return self.in_text(String::new(), c);
            }
            Err(_) => {
                let mut again = self.no_call(&before, *call);
                again.push(c);
                return Some(again);
            }
        }
        None
    }

    fn in_closing(&mut self, mut held: String, c: char) -> Option<String> {
        held.push(c);
        let mark = held.trim_start();
        if mark == CLOSING {
            return None;
        }
        if CLOSING.starts_with(mark) {
            self.state = State::Closing { held };
            return None;
        }
        Some(held)
    }

    /// Gives back the mark of a call that is none; returns what followed the mark.
    fn no_call(&mut self, before: &str, call: Call) -> String {
        self.text(before);
        self.text(OPENING);
        call.into_raw()
    }

    fn text(&mut self, text: &str) {
        if !text.is_empty() {
            self.quiet = false;
            self.piece(Piece::Text(text.to_owned()));
        }
    }

    /// Adds a piece, joined to the last one where both are the same text.
    fn piece(&mut self, piece: Piece) {
        match (self.out.last_mut(), piece) {
            (Some(Piece::Text(last)), Piece::Text(text)) => last.push_str(&text),
            (
                Some(Piece::CallArguments { index: last, json_fragment: whole }),
                Piece::CallArguments { index, json_fragment },
            ) if *last == index => whole.push_str(&json_fragment),
            (_, piece) => self.out.push(piece),
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
