//! Calls as a Python list: `[f(a=1), g()]`.

use super::Piece;
use super::body::Step;
use super::forms::Known;
use super::json::Invalid;
use super::literal::{Literal, Took};

/// Follows a list of calls and tells their arguments as JSON.
#[derive(Debug)]
pub(super) struct Pythonic {
    index: usize,
    known: Known,
    at: At,
    /// What was read and told by no piece.
    raw: String,
    /// Whether a call has been announced.
    called: bool,
}

#[derive(Debug)]
enum At {
    /// Before the list.
    Outside,
    /// A function's name, or the end of the list behind a comma.
    Name(String),
    /// White space behind the name is not taken: the first argument's name, or the end of the call.
    First,
    /// An argument's name.
    Key { key: String, first: bool },
    /// White space between an argument's name and `=`.
    Equals { key: String, first: bool },
    /// An argument's value.
    Value(Literal),
    /// A comma or the end of the call.
    Behind,
    /// A comma or the end of the list.
    Between,
}

impl Pythonic {
    pub(super) fn new(index: usize, known: Known) -> Self {
        Self { index, known, at: At::Outside, raw: String::new(), called: false }
    }

    pub(super) fn push(&mut self, c: char, out: &mut Vec<Piece>) -> Result<Step, Invalid> {
        let layout = matches!(c, ' ' | '\t' | '\n' | '\r');
        let at = std::mem::replace(&mut self.at, At::Outside);
        match self.step(at, c, layout, out) {
            Ok(At::Outside) if c == ']' => Ok(Step::Done),
            Ok(next) => {
                self.at = next;
                Ok(Step::More)
            }
            Err((before, fault)) => {
                self.at = before;
                Err(fault)
            }
        }
    }

    fn step(&mut self, at: At, c: char, layout: bool, out: &mut Vec<Piece>) -> Result<At, (At, Invalid)> {
        let next = match (at, c) {
            (At::Outside, '[') => At::Name(String::new()),
            (At::Outside, _) if layout => At::Outside,
            (At::Name(name), '(') if named(&name) && self.known.has(&name) => {
                self.called = true;
                self.raw.clear();
                out.push(Piece::CallStart { index: self.index, name });
                self.fragment("{", out);
                return Ok(At::First);
            }
            (At::Name(mut name), _) if part_of_name(c) => {
                name.push(c);
                At::Name(name)
            }
            (At::Name(name), _) if layout && name.is_empty() => At::Name(name),
            (At::Name(name), ']') if name.is_empty() && self.called => At::Outside,
            (At::First, ')') => return Ok(self.end_of_call(out)),
            (At::First, _) if layout => At::First,
            (At::First, _) if part_of_name(c) => At::Key { key: c.to_string(), first: true },
            (At::Key { key, first } | At::Equals { key, first }, '=') if named(&key) => {
                let comma = if first { "" } else { ", " };
                self.fragment(&format!("{comma}{}: ", serde_json::Value::from(key)), out);
                return Ok(At::Value(Literal::new()));
            }
            (At::Key { mut key, first }, _) if part_of_name(c) => {
                key.push(c);
                At::Key { key, first }
            }
            (At::Key { key, .. }, ')') if key.is_empty() => return Ok(self.end_of_call(out)),
            (At::Key { key, first }, _) if layout && key.is_empty() => At::Key { key, first },
            (At::Key { key, first } | At::Equals { key, first }, _) if layout => At::Equals { key, first },
            (At::Value(literal), _) => return self.in_value(literal, c, layout, out),
            (At::Behind, ',') => At::Key { key: String::new(), first: false },
            (At::Behind, ')') => return Ok(self.end_of_call(out)),
            (At::Behind, _) if layout => At::Behind,
            (At::Between, ',') => At::Name(String::new()),
            (At::Between, ']') => At::Outside,
            (At::Between, _) if layout => At::Between,
            (at, _) => return Err((at, Invalid)),
        };
        self.raw.push(c);
        Ok(next)
    }

    fn in_value(
        &mut self,
        mut literal: Literal,
        c: char,
        layout: bool,
        out: &mut Vec<Piece>,
    ) -> Result<At, (At, Invalid)> {
        let mut json = String::new();
        let took = literal.push(c, &mut json);
        self.fragment(&json, out);
        match took {
            Ok(Took::Part) => Ok(At::Value(literal)),
            Ok(Took::Last) => Ok(At::Behind),
            Ok(Took::Nothing) => self.step(At::Behind, c, layout, out),
            Err(fault) => Err((At::Value(literal), fault)),
        }
    }

    fn end_of_call(&mut self, out: &mut Vec<Piece>) -> At {
        self.fragment("}", out);
        out.push(Piece::CallEnd { index: self.index });
        self.index += 1;
        self.raw.clear();
        At::Between
    }

    fn fragment(&self, json: &str, out: &mut Vec<Piece>) {
        if !json.is_empty() {
            out.push(Piece::CallArguments { index: self.index, json_fragment: json.to_owned() });
        }
    }

    pub(super) fn called(&self) -> bool {
        self.called
    }

    pub(super) fn open(&self) -> bool {
        matches!(self.at, At::First | At::Key { .. } | At::Equals { .. } | At::Value(_) | At::Behind)
    }

    pub(super) fn into_raw(self) -> String {
        self.raw
    }
}

fn part_of_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '-')
}

fn named(name: &str) -> bool {
    name.starts_with(|c: char| c.is_alphabetic() || c == '_')
}
