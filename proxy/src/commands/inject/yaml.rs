//! JSON as YAML that readers of both its versions, 1.1 (Kubernetes') and 1.2, take alike.

use std::fmt::Write;

use serde_json::Value;

/// Plain words that some reader takes for no text.
const RESERVED: [&str; 11] = ["true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf"];

/// A document, in blocks.
pub(super) fn emit(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(&mut text, value, 0),
        Value::Array(items) if !items.is_empty() => block(&mut text, value, 0),
        _ => {
            inline(&mut text, value, 0);
            text.push('\n');
        }
    }
    text
}

/// The lines of a map or list that is not empty.
fn block(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(map) => {
            for (at, (key, value)) in map.iter().enumerate() {
                // The first key of a list's item stands behind its dash.
                if at > 0 || !text.ends_with("- ") {
                    indent(text, depth);
                }
                scalar(text, key);
                text.push(':');
                below(text, value, depth);
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                if at > 0 || !text.ends_with("- ") {
                    indent(text, depth);
                }
                text.push_str("- ");
                if is_block(item) {
                    block(text, item, depth + 2);
                } else {
                    inline(text, item, depth);
                    text.push('\n');
                }
            }
        }
        _ => {}
    }
}

/// What follows a key: a list at the key's own depth, as kubectl writes it.
fn below(text: &mut String, value: &Value, depth: usize) {
    if is_block(value) {
        text.push('\n');
        block(text, value, if value.is_array() { depth } else { depth + 2 });
    } else {
        text.push(' ');
        inline(text, value, depth);
        text.push('\n');
    }
}

fn is_block(value: &Value) -> bool {
    value.as_object().is_some_and(|map| !map.is_empty())
        || value.as_array().is_some_and(|items| !items.is_empty())
}

fn inline(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::String(string) if is_literal(string) => literal(text, string, depth + 2),
        Value::String(string) => scalar(text, string),
        other => {
            let _ = write!(text, "{other}");
        }
    }
}

fn scalar(text: &mut String, string: &str) {
    if is_plain(string) {
        text.push_str(string);
        return;
    }
    text.push('"');
    for char in string.chars() {
        match char {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            char if is_printable(char) => text.push(char),
            char => {
                let _ = write!(text, "\\U{:08X}", u32::from(char));
            }
        }
    }
    text.push('"');
}

/// Lines as they are; the mark tells how many ends of lines follow the last.
fn literal(text: &mut String, string: &str, depth: usize) {
    text.push_str(if !string.ends_with('\n') {
        "|-"
    } else if string.ends_with("\n\n") {
        "|+"
    } else {
        "|"
    });
    for line in string.strip_suffix('\n').unwrap_or(string).split('\n') {
        text.push('\n');
        if !line.is_empty() {
            indent(text, depth);
            text.push_str(line);
        }
    }
}

fn is_literal(string: &str) -> bool {
    let first = string.chars().next();
    string.trim_end_matches('\n').contains('\n')
        && first.is_some_and(|char| !char.is_whitespace())
        && string.chars().all(|char| char == '\n' || is_printable(char))
}

/// Begins as no number, date, mark or alias does, and holds nothing that ends a plain text.
fn is_plain(string: &str) -> bool {
    let known = |char: char| char.is_ascii_alphanumeric() || "_./-:@+ =,()%".contains(char);
    string.starts_with(|char: char| char.is_ascii_alphabetic() || char == '/')
        && string.chars().all(known)
        && !string.contains(": ")
        && !string.ends_with([':', ' '])
        && !RESERVED.contains(&string.to_ascii_lowercase().as_str())
}

fn is_printable(char: char) -> bool {
    !char.is_control() && !matches!(char, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn indent(text: &mut String, depth: usize) {
    text.extend(std::iter::repeat_n(' ', depth));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks_are_written_as_kubectl_writes_them() {
        let value = json!({
            "kind": "Pod", "empty": {}, "none": null, "list": [], "port": 80,
            "metadata": {"labels": {"on": "yes", "version": "1.10"}},
            "spec": {"args": ["a: b", "-x", ["deep", {"k": "v"}]], "script": "one\n  two\n", "text": " x\ny"},
        });
        let wanted = "kind: Pod\nempty: {}\nnone: null\nlist: []\nport: 80\nmetadata:\n  labels:\n    \"on\": \"yes\"\n    \
                      version: \"1.10\"\nspec:\n  args:\n  - \"a: b\"\n  - \"-x\"\n  - - deep\n    - k: v\n  \
                      script: |\n    one\n      two\n  text: \" x\\ny\"\n";
        assert_eq!(emit(&value), wanted);
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[ -~\n\t]{0,12}".prop_map(Value::from),
            "(yes|No|0x1f|1e3|~|=|<<|12:30|2001-01-01|a#b| #|%a|@b|`|\\?|- |key: |\\||>)"
                .prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ -~]{1,8}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in tree()) {
            let text = emit(&value);
            let read: Option<Value> = serde_saphyr::from_str(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
            prop_assert_eq!(read.unwrap_or_default(), value, "{}", text);
        }
    }
}
