//! Python's literals, told as JSON while they are written.

use super::json::{DEPTH, Invalid};

/// Longest number or word taken.
const LONGEST_WORD: usize = 400;

/// Follows one literal: a string, a number, `True`, `False`, `None` (or their names in JSON), a list or a dictionary.
#[derive(Debug)]
pub(super) struct Literal {
    open: Vec<Open>,
    state: State,
    /// A comma was read that is told only before another item.
    comma: bool,
    /// The first half of a surrogate pair.
    high: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Dict,
    List,
}

#[derive(Debug)]
enum State {
    /// A value, or the end of a list that may end here.
    Value {
        end: bool,
    },
    /// A key, or the end of a dictionary.
    Key,
    Colon,
    /// A comma, or the end of what is open.
    Comma,
    Text {
        quote: char,
        key: bool,
    },
    /// Behind a backslash.
    Escape {
        quote: char,
        key: bool,
    },
    /// Digits of an escape.
    Code {
        quote: char,
        key: bool,
        left: u8,
        code: u32,
    },
    /// A number or a word.
    Word(String),
}

/// What became of a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Took {
    /// It is part of the literal.
    Part,
    /// It is the last of the literal.
    Last,
    /// The literal ended before it.
    Nothing,
}

impl Literal {
    pub(super) fn new() -> Self {
        Self { open: Vec::new(), state: State::Value { end: false }, comma: false, high: None }
    }

    /// Takes one more character and adds the JSON of it to `json`.
    pub(super) fn push(&mut self, c: char, json: &mut String) -> Result<Took, Invalid> {
        match &mut self.state {
            State::Text { quote, key } => {
                let (quote, key) = (*quote, *key);
                Ok(self.in_text(c, quote, key, json))
            }
            State::Escape { quote, key } => {
                let (quote, key) = (*quote, *key);
                if c != 'u' {
                    self.settle(json);
                }
                self.state = after_backslash(c, quote, key, json);
                Ok(Took::Part)
            }
            State::Code { quote, key, left, code } => {
                let (quote, key, left) = (*quote, *key, *left - 1);
                let code = (*code << 4) + c.to_digit(16).ok_or(Invalid)?;
                self.state = if left > 0 {
                    State::Code { quote, key, left, code }
                } else {
                    self.unit(code, json);
                    State::Text { quote, key }
                };
                Ok(Took::Part)
            }
            State::Word(word) if c.is_alphanumeric() || matches!(c, '.' | '+' | '-' | '_') => {
                if word.len() >= LONGEST_WORD {
                    return Err(Invalid);
                }
                word.push(c);
                Ok(Took::Part)
            }
            State::Word(word) => {
                json.push_str(&as_json(word)?);
                match self.value_ends() {
                    Took::Last => Ok(Took::Nothing),
                    _ => self.structure(c, json),
                }
            }
            _ => self.structure(c, json),
        }
    }

    /// A character between values, keys and strings.
    fn structure(&mut self, c: char, json: &mut String) -> Result<Took, Invalid> {
        if matches!(c, ' ' | '\t' | '\n' | '\r') {
            return Ok(Took::Part);
        }
        match (&self.state, c) {
            (State::Value { end: true }, ']') | (State::Key, '}') => return self.close(c, json),
            (State::Comma, ']' | '}') => return self.close(c, json),
            (State::Value { .. }, _) => return self.value(c, json),
            (State::Key, '\'' | '"') => {
                self.item(json);
                json.push('"');
                self.state = State::Text { quote: c, key: true };
            }
            (State::Colon, ':') => {
                json.push_str(": ");
                self.state = State::Value { end: false };
            }
            (State::Comma, ',') => {
                self.comma = true;
                self.state = match self.open.last() {
                    Some(Open::Dict) => State::Key,
                    _ => State::Value { end: true },
                };
            }
            _ => return Err(Invalid),
        }
        Ok(Took::Part)
    }

    /// The first character of a value.
    fn value(&mut self, c: char, json: &mut String) -> Result<Took, Invalid> {
        let opens = matches!(c, '[' | '{');
        if opens && self.open.len() >= DEPTH {
            return Err(Invalid);
        }
        self.item(json);
        self.state = match c {
            '\'' | '"' => {
                json.push('"');
                State::Text { quote: c, key: false }
            }
            '[' => {
                self.open.push(Open::List);
                State::Value { end: true }
            }
            '{' => {
                self.open.push(Open::Dict);
                State::Key
            }
            c if c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.') => State::Word(c.to_string()),
            _ => return Err(Invalid),
        };
        if opens {
            json.push(c);
        }
        Ok(Took::Part)
    }

    /// Tells the comma before a further item.
    fn item(&mut self, json: &mut String) {
        if std::mem::take(&mut self.comma) {
            json.push_str(", ");
        }
    }

    fn close(&mut self, c: char, json: &mut String) -> Result<Took, Invalid> {
        let kind = if c == ']' { Open::List } else { Open::Dict };
        if self.open.pop() != Some(kind) {
            return Err(Invalid);
        }
        self.comma = false;
        json.push(c);
        Ok(self.value_ends())
    }

    fn value_ends(&mut self) -> Took {
        self.state = State::Comma;
        if self.open.is_empty() { Took::Last } else { Took::Part }
    }

    fn in_text(&mut self, c: char, quote: char, key: bool, json: &mut String) -> Took {
        if c == '\\' {
            self.state = State::Escape { quote, key };
            return Took::Part;
        }
        self.settle(json);
        if c != quote {
            escaped(c, json);
            return Took::Part;
        }
        json.push('"');
        if key {
            self.state = State::Colon;
            return Took::Part;
        }
        self.value_ends()
    }

    /// A code point or half of one.
    fn unit(&mut self, code: u32, json: &mut String) {
        match (self.high.take(), code) {
            (Some(high), 0xDC00..=0xDFFF) => {
                let whole = 0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00);
                escaped(char::from_u32(whole).unwrap_or(char::REPLACEMENT_CHARACTER), json);
            }
            (before, _) => {
                if before.is_some() {
                    json.push(char::REPLACEMENT_CHARACTER);
                }
                match code {
                    0xD800..=0xDBFF => self.high = Some(code),
                    _ => escaped(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), json),
                }
            }
        }
    }

    /// A first half that no second half follows.
    fn settle(&mut self, json: &mut String) {
        if self.high.take().is_some() {
            json.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// What follows a backslash; Python keeps the backslash before what it does not know.
fn after_backslash(c: char, quote: char, key: bool, json: &mut String) -> State {
    let left = match c {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => 0,
    };
    if left > 0 {
        return State::Code { quote, key, left, code: 0 };
    }
    json.push_str(&written(c));
    State::Text { quote, key }
}

/// The JSON of `\c`.
fn written(c: char) -> String {
    let mut json = String::new();
    match c {
        'n' => json.push_str("\\n"),
        't' => json.push_str("\\t"),
        'r' => json.push_str("\\r"),
        'b' => json.push_str("\\b"),
        'f' => json.push_str("\\f"),
        '\n' => {}
        '\\' | '\'' | '"' | '/' => escaped(c, &mut json),
        _ => {
            json.push_str("\\\\");
            escaped(c, &mut json);
        }
    }
    json
}

/// A character inside of a JSON string.
fn escaped(c: char, json: &mut String) {
    match c {
        '"' | '\\' => json.extend(['\\', c]),
        '\n' => json.push_str("\\n"),
        '\r' => json.push_str("\\r"),
        '\t' => json.push_str("\\t"),
        '\0'..='\x1f' => json.push_str(&format!("\\u{:04x}", u32::from(c))),
        _ => json.push(c),
    }
}

/// A word or number as JSON writes it.
fn as_json(word: &str) -> Result<String, Invalid> {
    let constant = match word {
        "True" | "true" => Some("true"),
        "False" | "false" => Some("false"),
        "None" | "null" => Some("null"),
        _ => None,
    };
    if let Some(constant) = constant {
        return Ok(constant.to_owned());
    }
    let mut number = word.strip_prefix('+').unwrap_or(word).replace('_', "");
    if number.starts_with('.') || number.starts_with("-.") {
        number = number.replacen('.', "0.", 1);
    }
    if number.ends_with('.') {
        number.push('0');
    }
    let starts = number.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit());
    match serde_json::from_str::<serde_json::Value>(&number) {
        Ok(_) if starts => Ok(number),
        _ => Err(Invalid),
    }
}
