//! A JSON value checked character by character.

/// Deepest nesting taken; `serde_json` and most clients stop there too.
pub(super) const DEPTH: usize = 128;

/// The text so far cannot be the beginning of a JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Invalid;

/// Follows the grammar of RFC 8259 through one value whose outermost part is an object or an array.
#[derive(Debug, Clone)]
pub(super) struct JsonScan {
    open: Vec<Open>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Object,
    Array,
}

/// What the next character may be part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// A value.
    Value,
    /// A value, or the end of an array that has none yet.
    FirstValue,
    /// A key.
    Key,
    /// A key, or the end of an object that has none yet.
    FirstKey,
    /// The colon behind a key.
    Colon,
    /// A comma, or the end of what is open.
    Comma,
    /// A string; `key` tells what it is.
    String { key: bool },
    /// The character behind a backslash.
    Escape { key: bool },
    /// `left` more hexadecimal digits.
    Unicode { key: bool, left: u8 },
    /// The rest of `true`, `false` or `null`.
    Literal(&'static str),
    /// A number.
    Number(Number),
    /// Nothing but white space.
    End,
}

/// How far a number has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    Sign,
    Power,
}

impl JsonScan {
    pub(super) fn new() -> Self {
        Self { open: Vec::new(), state: State::Value }
    }

    /// What is expected next.
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Number of objects and arrays that are open.
    pub(super) fn depth(&self) -> usize {
        self.open.len()
    }

    /// Takes one more character.
    pub(super) fn push(&mut self, c: char) -> Result<(), Invalid> {
        self.state = match self.state {
            State::String { key } => in_string(c, key)?,
            State::Escape { key } => after_backslash(c, key)?,
            State::Unicode { key, left } => in_unicode(c, key, left)?,
            State::Literal(rest) => in_literal(c, rest)?,
            State::Number(number) => match in_number(c, number) {
                Some(next) => State::Number(next),
                None if number_may_end(number) => self.structure(State::Comma, c)?,
                None => return Err(Invalid),
            },
            between => self.structure(between, c)?,
        };
        Ok(())
    }

    /// A character between values, keys and strings.
    fn structure(&mut self, state: State, c: char) -> Result<State, Invalid> {
        match (state, c) {
            (_, ' ' | '\t' | '\n' | '\r') => Ok(state),
            (State::Key | State::FirstKey, '"') => Ok(State::String { key: true }),
            (State::FirstKey | State::Comma, '}') => self.close(Open::Object),
            (State::FirstValue | State::Comma, ']') => self.close(Open::Array),
            (State::Colon, ':') => Ok(State::Value),
            (State::Comma, ',') => Ok(match self.open.last() {
                Some(Open::Object) => State::Key,
                _ => State::Value,
            }),
            (State::Value | State::FirstValue, _) => self.value(c),
            _ => Err(Invalid),
        }
    }

    /// The first character of a value.
    fn value(&mut self, c: char) -> Result<State, Invalid> {
        let (open, state) = match c {
            '{' => (Some(Open::Object), State::FirstKey),
            '[' => (Some(Open::Array), State::FirstValue),
            '"' => (None, State::String { key: false }),
            't' => (None, State::Literal("rue")),
            'f' => (None, State::Literal("alse")),
            'n' => (None, State::Literal("ull")),
            '-' => (None, State::Number(Number::Minus)),
            '0' => (None, State::Number(Number::Zero)),
            '1'..='9' => (None, State::Number(Number::Integer)),
            _ => return Err(Invalid),
        };
        if self.open.len() + usize::from(open.is_some()) > DEPTH {
            return Err(Invalid);
        }
        self.open.extend(open);
        Ok(state)
    }

    fn close(&mut self, kind: Open) -> Result<State, Invalid> {
        if self.open.pop() != Some(kind) {
            return Err(Invalid);
        }
        Ok(if self.open.is_empty() { State::End } else { State::Comma })
    }
}

fn in_string(c: char, key: bool) -> Result<State, Invalid> {
    match c {
        '"' if key => Ok(State::Colon),
        '"' => Ok(State::Comma),
        '\\' => Ok(State::Escape { key }),
        '\0'..='\x1f' => Err(Invalid),
        _ => Ok(State::String { key }),
    }
}

fn after_backslash(c: char, key: bool) -> Result<State, Invalid> {
    match c {
        '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' => Ok(State::String { key }),
        'u' => Ok(State::Unicode { key, left: 4 }),
        _ => Err(Invalid),
    }
}

fn in_unicode(c: char, key: bool, left: u8) -> Result<State, Invalid> {
    match (c.is_ascii_hexdigit(), left) {
        (false, _) => Err(Invalid),
        (true, 1) => Ok(State::String { key }),
        (true, _) => Ok(State::Unicode { key, left: left - 1 }),
    }
}

fn in_literal(c: char, rest: &'static str) -> Result<State, Invalid> {
    match rest.strip_prefix(c) {
        Some("") => Ok(State::Comma),
        Some(rest) => Ok(State::Literal(rest)),
        None => Err(Invalid),
    }
}

/// The number with one more character; `None` where the character is not part of it.
fn in_number(c: char, number: Number) -> Option<Number> {
    match (number, c) {
        (Number::Minus, '0') => Some(Number::Zero),
        (Number::Minus, '1'..='9') | (Number::Integer, '0'..='9') => Some(Number::Integer),
        (Number::Zero | Number::Integer, '.') => Some(Number::Point),
        (Number::Point | Number::Fraction, '0'..='9') => Some(Number::Fraction),
        (Number::Zero | Number::Integer | Number::Fraction, 'e' | 'E') => Some(Number::Exponent),
        (Number::Exponent, '+' | '-') => Some(Number::Sign),
        (Number::Exponent | Number::Sign | Number::Power, '0'..='9') => Some(Number::Power),
        _ => None,
    }
}

fn number_may_end(number: Number) -> bool {
    matches!(number, Number::Zero | Number::Integer | Number::Fraction | Number::Power)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{JsonScan, State};

    /// Whether the scan takes `text` as one whole array or object.
    fn takes(text: &str) -> bool {
        let mut scan = JsonScan::new();
        text.chars().all(|c| scan.push(c).is_ok()) && scan.state() == State::End
    }

    #[test]
    fn takes_what_serde_takes() {
        for text in [
            "{}",
            "[]",
            r#"{"a":1}"#,
            r#" {"a" : [ 1 , -0.5e+3, "x\u00e9\n", true, false, null ] , "b":{}} "#,
            r#"{"a":[[],{}]}"#,
            r#"[0,10,1e5,-0]"#,
            r#"{"a":1,}"#,
            r#"{"a" 1}"#,
            r#"[1,]"#,
            r#"[01]"#,
            r#"[1.]"#,
            r#"[-]"#,
            r#"[1e]"#,
            r#"["\x"]"#,
            r#"["\u12g4"]"#,
            "[\"a\nb\"]",
            r#"[tru]"#,
            r#"[}"#,
            r#"{]"#,
            r#"{"a":1}}"#,
            "",
            "[1",
            r#"{,}"#,
            r#"[nulll]"#,
        ] {
            let expected = serde_json::from_str::<serde_json::Value>(text).is_ok();
            assert_eq!(takes(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_serde_on_json_like_text(text in r#"[\[{]([\[\]{},: ]|"[ab\\"]{0,3}"|-?[0-9.eE]{1,4}|true|null){0,12}"#) {
            prop_assert_eq!(takes(&text), serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }
    }
}
