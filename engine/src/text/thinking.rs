//! The thoughts that a model writes before its answer.
//!
//! Reasoning models write `<think>`, their thoughts, `</think>`, and then the answer; some templates write the opening
//! mark themselves, at the end of the prompt. Which marks a model uses shows in its template: that writes the thoughts
//! of earlier turns between them, or cuts them out, or opens them for the answer.

use serde_json::{Map, Value, json};

use crate::text::template::Templates;
use crate::text::wire::probe_prompt;

/// Opening and closing mark of the families there are.
const PAIRS: [[&str; 2]; 6] = [
    ["<think>", "</think>"],
    ["[THINK]", "[/THINK]"],
    ["<seed:think>", "</seed:think>"],
    ["<|START_THINKING|>", "<|END_THINKING|>"],
    ["<thinking>", "</thinking>"],
    ["◁think▷", "◁/think▷"],
];

/// Texts that no template writes by itself.
const THOUGHT: &str = "plimsoll-thought";
const ANSWER: &str = "plimsoll-answer";

/// The marks between which a model thinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThinkingFormat {
    pair: [&'static str; 2],
}

impl ThinkingFormat {
    /// The mark that begins the thoughts.
    pub fn opening(self) -> &'static str {
        self.pair[0]
    }

    /// The mark that ends them.
    pub fn closing(self) -> &'static str {
        self.pair[1]
    }

    /// Whether an answer to `prompt` begins inside of the thoughts.
    pub fn opened_by(self, prompt: &str) -> bool {
        prompt.trim_end().ends_with(self.opening())
    }

    /// A parser for one answer; `opened` tells that it begins inside of the thoughts.
    pub(super) fn parser(self, opened: bool) -> ThinkingParser {
        let state = if opened { State::Thinking } else { State::Before };
        ThinkingParser { format: self, state, held: String::new(), said: false }
    }
}

/// The marks that the template knows.
pub(super) fn detect(templates: &Templates) -> Option<ThinkingFormat> {
    if templates.is_empty() {
        return None;
    }
    let formats = PAIRS.into_iter().map(|pair| ThinkingFormat { pair });
    formats
        .into_iter()
        .find(|format| opens(templates, *format) || writes(templates, *format) || cuts(templates, *format))
}

/// The generation prompt opens the thoughts, or has them empty where they are switched off.
fn opens(templates: &Templates, format: ThinkingFormat) -> bool {
    let off = Map::from_iter([("enable_thinking".to_owned(), Value::Bool(false))]);
    [Map::new(), off].iter().any(|kwargs| {
        let messages = [json!({"role": "user", "content": "q"})];
        let prompt = probe_prompt(&messages, None);
        let without = templates.render(&prompt).unwrap_or_default();
        let with = templates.render(&super::Prompt { add_generation_prompt: true, kwargs, ..prompt });
        let with = with.unwrap_or_default();
        with.strip_prefix(&without).unwrap_or(&with).trim_end().ends_with(format.opening())
            || with.trim_end().ends_with(format.closing())
    })
}

/// Thoughts that stand apart from the answer are written between the marks.
fn writes(templates: &Templates, format: ThinkingFormat) -> bool {
    let apart = |name: &str| json!({"role": "assistant", "content": ANSWER, name: THOUGHT});
    let parts = json!([{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": ANSWER}]);
    let answers = [
        apart("reasoning_content"),
        apart("reasoning"),
        apart("thinking"),
        json!({"role": "assistant", "content": parts}),
    ];
    answers.into_iter().any(|answer| {
        let messages = [json!({"role": "user", "content": "q"}), answer];
        let text = templates.render(&probe_prompt(&messages, None)).unwrap_or_default();
        let Some((before, behind)) = text.split_once(THOUGHT) else { return false };
        before.trim_end().ends_with(format.opening()) && behind.trim_start().starts_with(format.closing())
    })
}

/// Thoughts inside of an earlier answer are cut out.
fn cuts(templates: &Templates, format: ThinkingFormat) -> bool {
    let [opening, closing] = format.pair;
    let content = format!("{opening}\n{THOUGHT}\n{closing}\n\n{ANSWER}");
    let messages = [
        json!({"role": "user", "content": "q"}),
        json!({"role": "assistant", "content": content}),
        json!({"role": "user", "content": "q"}),
    ];
    let text = templates.render(&probe_prompt(&messages, None)).unwrap_or_default();
    text.contains(ANSWER) && !text.contains(THOUGHT)
}

/// Parts thoughts from the answer in a text that comes in chunks.
///
/// White space around the thoughts is layout and not returned. Marks anywhere but at the beginning are text.
#[derive(Debug)]
pub(super) struct ThinkingParser {
    format: ThinkingFormat,
    state: State,
    /// White space and what may be the beginning of a mark.
    held: String,
    /// Whether a thought has been told.
    said: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but white space and the beginning of the opening mark.
    Before,
    /// Inside of the thoughts.
    Thinking,
    /// Behind them, at white space.
    Behind,
    /// In the answer.
    Answer,
}

/// What a chunk holds: thoughts, and behind them text of the answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parted {
    pub(super) thoughts: String,
    pub(super) answer: String,
}

impl ThinkingParser {
    /// Whether the text so far ends inside of the thoughts.
    pub(super) fn thinking(&self) -> bool {
        self.state == State::Thinking
    }

    /// Adds a chunk; returns what is certain by now.
    pub(super) fn push(&mut self, text: &str) -> Parted {
        let mut parted = Parted::default();
        for (at, c) in text.char_indices() {
            match self.state {
                State::Before => self.before(c, &mut parted),
                State::Thinking => self.inside(c, &mut parted),
                State::Behind if c.is_whitespace() => {}
                State::Behind | State::Answer => {
                    self.state = State::Answer;
                    parted.answer.push_str(&text[at..]);
                    break;
                }
            }
        }
        parted
    }

    /// Ends the text; returns what was held back.
    pub(super) fn finish(&mut self) -> Parted {
        let held = std::mem::take(&mut self.held);
        match self.state {
            State::Thinking if !held.trim().is_empty() => Parted { thoughts: held, ..Parted::default() },
            State::Before => Parted { answer: held, ..Parted::default() },
            _ => Parted::default(),
        }
    }

    fn before(&mut self, c: char, parted: &mut Parted) {
        self.held.push(c);
        let mark = self.held.trim_start();
        if mark == self.format.opening() {
            self.held.clear();
            self.state = State::Thinking;
        } else if !self.format.opening().starts_with(mark) {
            self.state = State::Answer;
            parted.answer.push_str(&std::mem::take(&mut self.held));
        }
    }

    fn inside(&mut self, c: char, parted: &mut Parted) {
        self.held.push(c);
        loop {
            let mark = self.held.trim_start();
            if mark == self.format.closing() {
                self.held.clear();
                self.state = State::Behind;
                return;
            }
            let Some(first) = mark.chars().next().filter(|_| !self.format.closing().starts_with(mark)) else {
                return;
            };
            // The first character begins no mark; those behind it may.
            let layout = self.held.len() - mark.len();
            let from = if self.said { 0 } else { layout };
            let to = layout + first.len_utf8();
            parted.thoughts.push_str(&self.held[from..to]);
            self.said = true;
            self.held.drain(..to);
        }
    }
}

#[cfg(test)]
#[path = "thinking_tests.rs"]
mod tests;
