//! Tool calls in a model's answer.
//!
//! Each family of models writes calls in a form of its own ([`ToolCallFormat`]). The parser follows such an answer as
//! it comes: text stays text, a call is announced as soon as its name is known, and its arguments are passed on while
//! they are written. What looks like a call and is none comes back as text.

mod forms;
mod detect;
mod call;
mod objects;
mod framed;
mod pythonic;
mod literal;
mod body;
mod json;
mod unescape;

use body::{Body, Step};
use forms::{Form, Known};

pub(super) use detect::detect;
pub use forms::ToolCallFormat;

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
/// members of a call besides its name and its arguments.
#[derive(Debug)]
pub struct ToolCallParser {
    form: &'static Form,
    /// The functions that a call without a mark may name.
    known: Known,
    state: State,
    calls: usize,
    /// Nothing but layout since the beginning or since the last call.
    quiet: bool,
    /// Nothing but white space since the beginning: a call may come without a mark.
    fresh: bool,
    out: Vec<Piece>,
}

#[derive(Debug)]
enum State {
    /// Text; `held` is white space and what may be the beginning of a mark.
    Text { held: String },
    /// Behind `mark`, which is empty for a call without one; `before` is the white space in front of it.
    Call { before: String, mark: &'static str, body: Box<Body> },
    /// Behind the calls of a mark; `held` may be the beginning of one of the closing marks from `from` on.
    Closing { held: String, from: usize },
}

impl Default for State {
    fn default() -> Self {
        Self::Text { held: String::new() }
    }
}

impl ToolCallParser {
    fn new(form: &'static Form, known: Known) -> Self {
        let state = State::default();
        Self { form, known, state, calls: 0, quiet: true, fresh: true, out: Vec::new() }
    }

    /// Adds a chunk of the answer; returns what is certain by now.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        self.feed(text.to_owned());
        std::mem::take(&mut self.out)
    }

    /// Ends the answer; returns what was held back.
    pub fn finish(&mut self) -> Vec<Piece> {
        loop {
            match std::mem::take(&mut self.state) {
                State::Call { body, .. } if body.open() => break,
                State::Call { before, mark, body } if !body.called() => {
                    let again = self.no_call(&before, mark, *body);
                    self.feed(again);
                }
                State::Call { body, .. } => self.rest(&body.into_raw()),
                State::Text { held } | State::Closing { held, .. } => {
                    self.rest(&held);
                    break;
                }
            }
        }
        std::mem::take(&mut self.out)
    }

    /// The end of the answer, as text unless it is layout.
    fn rest(&mut self, held: &str) {
        let layout = self.calls > 0 && self.quiet && held.trim_start().is_empty();
        if !layout {
            self.text(held);
        }
    }

    /// Follows `text`; what turns out to be no call is read again from behind its mark.
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
            State::Call { before, mark, body } => self.in_call(before, mark, body, c),
            State::Closing { held, from } => self.in_closing(held, from, c),
        }
    }

    fn in_text(&mut self, mut held: String, c: char) -> Option<String> {
        if self.fresh && self.form.bare.contains(&c) && held.trim_start().is_empty() {
            let body = Box::new(Body::new(self.form, self.calls, self.known.clone()));
            return self.in_call(held, "", body, c);
        }
        held.push(c);
        loop {
            let mark = held.trim_start();
            if let Some(whole) = self.form.opening.iter().find(|opening| mark == **opening) {
                held.truncate(held.len() - whole.len());
                let body = Box::new(Body::new(self.form, self.calls, Known::any()));
                self.state = State::Call { before: held, mark: whole, body };
                return None;
            }
            let begins = self.form.opening.iter().any(|opening| opening.starts_with(mark));
            let Some(first) = mark.chars().next().filter(|_| !begins) else {
                self.state = State::Text { held };
                return None;
            };
            // The first character begins no mark; those behind it may.
            let text: String = held.drain(..held.len() - mark.len() + first.len_utf8()).collect();
            self.text(&text);
        }
    }

    fn in_call(
        &mut self,
        before: String,
        mark: &'static str,
        mut body: Box<Body>,
        c: char,
    ) -> Option<String> {
        let (was_called, mut pieces) = (body.called(), Vec::new());
        let pushed = body.push(c, &mut pieces);
        if body.called() && !was_called {
            // One line break belongs to the call: templates write it in front of the mark.
            let text = if self.quiet { "" } else { before.strip_suffix('\n').unwrap_or(&before) };
            self.text(text);
        }
        for piece in pieces {
            self.piece(piece);
        }
        match pushed {
            Ok(Step::More) => self.state = State::Call { before, mark, body },
            Ok(Step::Done) => self.state = State::Closing { held: String::new(), from: 0 },
            Err(_) if body.open() => {
                self.quiet = false;
                return self.in_text(String::new(), c);
            }
            Err(_) => {
                let mut again =
                    if body.called() { body.into_raw() } else { self.no_call(&before, mark, *body) };
                again.push(c);
                return Some(again);
            }
        }
        None
    }

    fn in_closing(&mut self, mut held: String, from: usize, c: char) -> Option<String> {
        held.push(c);
        let mark = held.trim_start();
        let closing = &self.form.closing[from..];
        if let Some(at) = closing.iter().position(|closing| mark == *closing) {
            let from = from + at + 1;
            if from < self.form.closing.len() {
                self.state = State::Closing { held: String::new(), from };
            }
            return None;
        }
        if closing.iter().any(|closing| closing.starts_with(mark)) {
            self.state = State::Closing { held, from };
            return None;
        }
        Some(held)
    }

    /// Gives back the mark of a call that is none; returns what followed the mark.
    fn no_call(&mut self, before: &str, mark: &str, body: Body) -> String {
        self.text(before);
        self.text(mark);
        self.fresh = false;
        body.into_raw()
    }

    fn text(&mut self, text: &str) {
        if !text.is_empty() {
            self.quiet = false;
            self.fresh &= text.trim_start().is_empty();
            self.piece(Piece::Text(text.to_owned()));
        }
    }

    /// Adds a piece, joined to the last one where both are the same text.
    fn piece(&mut self, piece: Piece) {
        match &piece {
            Piece::CallStart { .. } => {
                self.calls += 1;
                self.fresh = false;
            }
            Piece::CallEnd { .. } => self.quiet = true,
            _ => {}
        }
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
#[cfg(test)]
#[path = "families_tests.rs"]
mod families_tests;
#[cfg(test)]
#[path = "properties_tests.rs"]
mod properties_tests;
