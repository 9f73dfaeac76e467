//! Reads JSON that no Rust value holds: half a surrogate pair is U+FFFD; a number beyond `f64`, and what is nested beyond
//! all reason, are the text that they are written in.

use std::borrow::Cow;
use std::sync::LazyLock;

use plimsoll_policies::CountError;
use regex::{Captures, Regex};
use serde_json::Value;

use super::exact;

/// An escape, or a pair that is one character. Whatever follows a backslash is taken with it, so that `\\ud800` is none.
static ESCAPE: LazyLock<Regex> = LazyLock::new(|| {
    let (high, low) = (r"\\u[dD][89abAB][0-9a-fA-F]{2}", r"\\u[dD][c-fC-F][0-9a-fA-F]{2}");
    let pattern = format!(r"(?s){high}{low}|({high}|{low})|\\.");
    Regex::new(&pattern).expect("the pattern is a constant. This is a bug.")
});

/// A string, taken whole so that what stands in it is no number; or a number.
static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r#"(?s)"(?:[^"\\]|\\.)*"|-?[0-9][-+.0-9eE]*"#;
    Regex::new(pattern).expect("the pattern is a constant. This is a bug.")
});

/// How deep values are read; `serde_json` reads 128 levels.
const DEEPEST: usize = 100;

/// As JSON is read, with U+FFFD for what is half a pair, and strings for numbers that are too large and values that lie too
/// deep.
pub(super) fn parse(json: &str) -> Result<Value, CountError> {
    exact::parse(json)
        .or_else(|_| exact::parse(&whole(json)))
        .or_else(|_| exact::parse(&held(&whole(&flat(json)))))
}

/// With strings in the place of values that lie too deep.
fn flat(json: &str) -> String {
    let (mut flat, mut copied) = (String::with_capacity(json.len()), 0);
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, byte) in json.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                if depth == DEEPEST {
                    flat.push_str(&json[copied..at]);
                    copied = at;
                }
                depth += 1;
            }
            b'}' | b']' if !quoted => {
                depth = depth.saturating_sub(1);
                if depth == DEEPEST {
                    flat.push_str(&Value::from(&json[copied..=at]).to_string());
                    copied = at + 1;
                }
            }
            _ => {}
        }
    }
    flat.push_str(&json[copied..]);
    flat
}

fn held(json: &str) -> Cow<'_, str> {
    NUMBER.replace_all(json, |found: &Captures<'_>| match found[0].parse::<f64>() {
        Ok(number) if number.is_infinite() => format!("\"{}\"", &found[0]),
        _ => found[0].to_owned(),
    })
}

fn whole(json: &str) -> Cow<'_, str> {
    ESCAPE.replace_all(json, |found: &Captures<'_>| match found.get(1) {
        Some(_) => r"\ufffd".to_owned(),
        None => found[0].to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_pairs_are_replaced() {
        let cases = [
            (r#""a\ud83d\ude00b""#, "a\u{1f600}b"),
            (r#""\ud83dx""#, "\u{fffd}x"),
            (r#""\uD83D\uD83D\uDE00""#, "\u{fffd}\u{1f600}"),
            (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}"),
            (r#""\ud83d\u0041\n""#, "\u{fffd}A\n"),
            (r#""\\ud83d \\\ud83d""#, "\\ud83d \\\u{fffd}"),
        ];
        for (json, want) in cases {
            assert_eq!(parse(json).unwrap(), want, "{json}");
        }
        assert_eq!(parse(r#"{"\udead":[1,"é"]}"#).unwrap(), serde_json::json!({"\u{fffd}": [1, "é"]}));
        assert!(parse("{").is_err());
    }

    #[test]
    fn numbers_that_are_too_large_are_told_by_their_digits() {
        let json = r#"{"a":[1e999,-1E400,2.5,7],"1e999":"say \"1e999\" \ud83d","b":1e5}"#;
        let want = serde_json::json!({"a": ["1e999", "-1E400", 2.5, 7], "1e999": "say \"1e999\" \u{fffd}", "b": 1e5});
        assert_eq!(parse(json).unwrap(), want);
        assert!(parse("[1e999,1e]").is_err());
    }

    #[test]
    fn what_lies_too_deep_is_told_by_its_text() {
        let nested = |depth: usize| format!("{}\"]\\\"\"{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(flat(&nested(DEEPEST)), nested(DEEPEST));
        let deep = format!(r#"{{"a":{},"b":[{{}}],"c":"[{{"}}"#, nested(10_000));
        let read = parse(&deep).unwrap();
        assert_eq!((&read["b"], &read["c"]), (&serde_json::json!([{}]), &Value::from("[{")));
        // An object stands around it.
        let innermost = (1..DEEPEST).fold(&read["a"], |value, _| &value[0]);
        assert_eq!(*innermost, Value::from(nested(10_000 - DEEPEST + 1)));
        assert!(parse(&"[".repeat(10_000)).is_err());
    }
}
