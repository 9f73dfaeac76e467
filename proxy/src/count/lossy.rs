//! Reads JSON whose strings need not be Unicode text: half a surrogate pair is U+FFFD.

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

/// As JSON is read, with U+FFFD for what is half a pair.
pub(super) fn parse(json: &str) -> Result<Value, CountError> {
    exact::parse(json).or_else(|_| exact::parse(&whole(json)))
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
}
