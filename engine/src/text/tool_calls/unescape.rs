//! The text that a JSON string stands for, character by character.

/// Undoes the escapes of a JSON string whose grammar has been checked.
#[derive(Debug, Default)]
pub(super) struct Unescape {
    state: State,
    /// The first half of a surrogate pair, waiting for the second.
    high: Option<u32>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Plain,
    Backslash,
    Hex {
        code: u32,
        digits: u8,
    },
}

impl Unescape {
    /// Takes one more character of the string, its closing quote included; returns the text that it completes. A
    /// surrogate without its other half becomes U+FFFD.
    pub(super) fn push(&mut self, c: char) -> String {
        let mut text = String::new();
        match std::mem::take(&mut self.state) {
            State::Plain if c == '\\' => self.state = State::Backslash,
            State::Plain => {
                self.settle(&mut text);
                if c != '"' {
                    text.push(c);
                }
            }
            State::Backslash if c == 'u' => self.state = State::Hex { code: 0, digits: 0 },
            State::Backslash => {
                self.settle(&mut text);
                text.push(escaped(c));
            }
            State::Hex { code, digits } => {
                let code = code * 16 + c.to_digit(16).unwrap_or(0);
                if digits < 3 {
                    self.state = State::Hex { code, digits: digits + 1 };
                } else {
                    self.unit(code, &mut text);
                }
            }
        }
        text
    }

    /// A whole UTF-16 code unit.
    fn unit(&mut self, code: u32, text: &mut String) {
        match (self.high.take(), code) {
            (Some(high), 0xDC00..=0xDFFF) => {
                let whole = 0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00);
                text.extend(char::from_u32(whole));
            }
            (before, 0xD800..=0xDBFF) => {
                text.extend(before.map(|_| char::REPLACEMENT_CHARACTER));
                self.high = Some(code);
            }
            (before, _) => {
                text.extend(before.map(|_| char::REPLACEMENT_CHARACTER));
                text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
        }
    }

    /// A first half that no second half follows.
    fn settle(&mut self, text: &mut String) {
        text.extend(self.high.take().map(|_| char::REPLACEMENT_CHARACTER));
    }
}

fn escaped(c: char) -> char {
    match c {
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        same => same,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Unescape;

    fn whole(written: &str) -> String {
        let mut unescape = Unescape::default();
        written[1..].chars().map(|c| unescape.push(c)).collect()
    }

    #[test]
    fn surrogates_are_joined_or_replaced() {
        assert_eq!(whole(r#""a\ud83d\ude00b""#), "a😀b");
        assert_eq!(whole(r#""\ud83dx""#), "\u{fffd}x");
        assert_eq!(whole(r#""\ud83d\n""#), "\u{fffd}\n");
        assert_eq!(whole(r#""\ud83d\ud83d\ude00""#), "\u{fffd}😀");
        assert_eq!(whole(r#""\ude00""#), "\u{fffd}");
        assert_eq!(whole(r#""\ud83d""#), "\u{fffd}");
    }

    proptest! {
        #[test]
        fn undoes_what_serde_writes(text in ".*") {
            prop_assert_eq!(whole(&serde_json::to_string(&text).unwrap()), text);
        }
    }
}
