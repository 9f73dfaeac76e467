//! JSON stays JSON: objects keep their keys, arrays their first items, those that report errors, and the last; long
//! strings keep both ends. What is kept keeps its spelling, without the white space between values.

use super::fit::Shrink;
use crate::conversation::{Field, Span, elements, members};
use crate::error_output::reports_error;

/// Values nested deeper are kept whole or left out.
const DEPTH: usize = 24;
/// Bytes that a note on what was left out takes about.
const NOTE: usize = 24;
/// Arrays up to this length share their room among all items.
const FEW: usize = 8;
/// Where items would have less room than this each, some are left out.
const ITEM: usize = 60;
/// An object has room for this many bytes of each value, or loses its last members.
const LEAST: usize = 8;

/// A result that is JSON.
pub(super) struct Json {
    /// Without white space between values.
    text: String,
}

impl Json {
    /// Reads a text that is one JSON object or array.
    pub(super) fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        if !text.starts_with(['{', '[']) || !text.ends_with(['}', ']']) {
            return None;
        }
        serde_json::from_str::<&serde_json::value::RawValue>(text).ok()?;
        Some(Self { text: minified(text) })
    }
}

impl Shrink for Json {
    fn len(&self) -> usize {
        self.text.len()
    }

    fn draft(&self, bytes: usize, marker: &str) -> String {
        let room = bytes.saturating_sub(marker.len());
        let mut text = String::with_capacity(bytes + NOTE);
        match members(&self.text) {
            Some(fields) => {
                object(&mut text, Members { json: &self.text, fields: &fields }, (room, 0), marker);
            }
            None => {
                let items = elements(&self.text).unwrap_or_default();
                array(&mut text, Items { json: &self.text, spans: &items }, (room, 0), marker);
            }
        }
        text
    }
}

/// The members of an object.
#[derive(Clone, Copy)]
struct Members<'a> {
    json: &'a str,
    fields: &'a [Field],
}

/// The items of an array.
#[derive(Clone, Copy)]
struct Items<'a> {
    json: &'a str,
    spans: &'a [Span],
}

/// Room in bytes, and how deep the value stands.
type Room = (usize, usize);

/// Writes a value in about `room` bytes.
fn value(out: &mut String, raw: &str, (room, depth): Room) {
    // Nothing that stands for it would be shorter than a short value.
    if raw.len() <= room || (raw.len() <= NOTE && raw.starts_with('"')) {
        return out.push_str(raw);
    }
    match raw.as_bytes().first() {
        Some(b'"') => string(out, raw, room),
        Some(b'{') if depth < DEPTH => {
            let fields = members(raw).unwrap_or_default();
            object(out, Members { json: raw, fields: &fields }, (room, depth + 1), "");
        }
        Some(b'[') if depth < DEPTH => {
            let spans = elements(raw).unwrap_or_default();
            array(out, Items { json: raw, spans: &spans }, (room, depth + 1), "");
        }
        Some(b'{' | b'[') => out.push_str("\"[...]\""),
        // A number, or a word: short, but for numbers of many digits, which are not cut.
        _ => out.push_str(raw),
    }
}

/// Writes an object; the marker, where there is one, is a member of its own.
fn object(out: &mut String, Members { json, fields }: Members, (room, depth): Room, marker: &str) {
    let frame = |field: &Field| field.key.len() + 2;
    let least = |field: &Field| frame(field) + field.value.len().min(LEAST);
    let ends = fields.iter().scan(2, |used, field| {
        *used += least(field);
        Some(*used)
    });
    let ends: Vec<usize> = ends.collect();
    let all = ends.last().is_none_or(|end| *end <= room);
    let fit = ends.iter().take_while(|end| **end + NOTE <= room).count().max(1);
    let kept = if all { fields.len() } else { fit.min(fields.len()) };
    let fields_kept = &fields[..kept];
    let frames: usize = fields_kept.iter().map(frame).sum();
    let sizes: Vec<usize> = fields_kept.iter().map(|field| field.value.len()).collect();
    let shares = allot(&sizes, room.saturating_sub(frames + 2));
    out.push('{');
    let mut separator = "";
    for (field, share) in fields_kept.iter().zip(shares) {
        out.push_str(separator);
        out.push_str(&json[field.key.clone()]);
        out.push(':');
        value(out, &json[field.value.clone()], (share, depth));
        separator = ",";
    }
    let left_out = fields.len() - kept;
    if left_out > 0 {
        out.push_str(&format!("{separator}\"[...]\":\"{left_out} more keys\""));
        separator = ",";
    }
    if !marker.is_empty() {
        out.push_str(&format!("{separator}\"plimsoll\":\"{marker}\""));
    }
    out.push('}');
}

/// Writes an array; the marker, where there is one, stands where items were left out first, else at the end.
fn array(out: &mut String, Items { json, spans }: Items, (room, depth): Room, marker: &str) {
    let shares = if spans.len() <= FEW && spans.len() * ITEM <= room {
        let sizes: Vec<usize> = spans.iter().map(ExactSizeIterator::len).collect();
        let shares = allot(&sizes, room.saturating_sub(2 + spans.len()));
        shares.into_iter().map(Some).collect()
    } else {
        chosen(Items { json, spans }, room)
    };
    let mut marker = Some(marker).filter(|marker| !marker.is_empty());
    let mut left_out = 0;
    let mut items: Vec<String> = Vec::new();
    let mut close = |items: &mut Vec<String>, left_out: &mut usize| {
        if std::mem::take(left_out) > 0 {
            let note = |count| format!("\"[... {count} items]\"");
            items.push(marker.take().map_or_else(|| note(*left_out), |marker| format!("\"{marker}\"")));
        }
    };
    for (span, share) in spans.iter().zip(shares) {
        let Some(share) = share else {
            left_out += 1;
            continue;
        };
        close(&mut items, &mut left_out);
        let mut item = String::new();
        value(&mut item, &json[span.clone()], (share, depth));
        items.push(item);
    }
    close(&mut items, &mut left_out);
    items.extend(marker.map(|marker| format!("\"{marker}\"")));
    out.push('[');
    out.push_str(&items.join(","));
    out.push(']');
}

/// The room of each item that is kept: the first, those that report errors, the last, then from the start.
fn chosen(Items { json, spans }: Items, room: usize) -> Vec<Option<usize>> {
    let mut shares = vec![None; spans.len()];
    let mut left = room.saturating_sub(2 + NOTE);
    let last = spans.len().saturating_sub(1);
    // An item that matters may be shortened to its part of the room.
    let mut keep = |index: usize, most: usize| {
        let share = spans.get(index).map_or(0, |span| span.len().min(most));
        if shares.get(index) == Some(&None) && share < left {
            left -= share + 1;
            shares[index] = Some(share);
        }
        shares.get(index).is_some_and(Option::is_some)
    };
    keep(0, room / 3);
    let errors = (0..spans.len()).filter(|&index| reports_error(&json[spans[index].clone()]));
    for index in errors {
        if !keep(index, room / 4) {
            break;
        }
    }
    keep(last, room / 6);
    for index in 1..last {
        if !keep(index, usize::MAX) {
            break;
        }
    }
    shares
}

/// Divides room among values: small ones get what they need, the others equal parts of the rest.
fn allot(sizes: &[usize], room: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&index| sizes[index]);
    let mut shares = vec![0; sizes.len()];
    let mut left = room;
    for (done, &index) in order.iter().enumerate() {
        shares[index] = sizes[index].min(left / (sizes.len() - done));
        left -= shares[index];
    }
    shares
}

/// Writes a string's two ends, cut between characters and never in an escape.
fn string(out: &mut String, raw: &str, room: usize) {
    let inner = &raw[1..raw.len() - 1];
    let ends = room.saturating_sub(NOTE + 2);
    let (head_room, tail_room) = (ends * 2 / 3, ends / 3);
    let (mut head, mut tail) = (0, inner.len());
    for (at, end) in units(inner) {
        if end <= head_room {
            head = end;
        }
        if inner.len() - at <= tail_room && at >= head {
            tail = at;
            break;
        }
    }
    out.push('"');
    out.push_str(&inner[..head]);
    out.push_str(&format!("[... {} bytes ...]", tail - head));
    out.push_str(&inner[tail..]);
    out.push('"');
}

/// Start and end of each character of a string's inside; an escape is one, a pair of surrogates too.
fn units(inner: &str) -> impl Iterator<Item = (usize, usize)> {
    let bytes = inner.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at;
        at += match bytes.get(at)? {
            b'\\' if bytes.get(at + 1) == Some(&b'u') => 6,
            b'\\' => 2,
            _ => inner[at..].chars().next().map_or(1, char::len_utf8),
        };
        let high = inner.get(start..start + 4).is_some_and(|text| {
            let text = text.to_ascii_lowercase();
            ["\\ud8", "\\ud9", "\\uda", "\\udb"].contains(&&*text)
        });
        if high && inner[at..].starts_with("\\u") {
            at += 6;
        }
        Some((start, at))
    })
}

/// The text without the white space outside of strings.
fn minified(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut start, mut in_string, mut escaped) = (0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        if in_string {
            in_string = byte != b'"' || escaped;
            escaped = byte == b'\\' && !escaped;
        } else if byte.is_ascii_whitespace() {
            out.push_str(&text[start..at]);
            start = at + 1;
        } else {
            in_string = byte == b'"';
        }
    }
    out.push_str(&text[start..]);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const MARKER: &str = "[plimsoll: 1 of 2 tokens omitted]";

    fn draft(text: &str, bytes: usize) -> String {
        Json::read(text).unwrap().draft(bytes, MARKER)
    }

    #[test]
    fn keys_stay_and_long_values_give_way() {
        let body = "x".repeat(900);
        let text = format!("{{ \"id\": 1.50, \"body\" : \"{body}\", \"ok\":true, \"n\": 1E3 }}");
        let short = draft(&text, 200);
        assert!(
            short.starts_with(r#"{"id":1.50,"body":"xxxx"#) && short.contains("bytes ...]xxx"),
            "{short}"
        );
        assert!(short.ends_with(&format!(r#","ok":true,"n":1E3,"plimsoll":"{MARKER}"}}"#)), "{short}");
        assert!((150..=210).contains(&short.len()), "{short}");
    }

    #[test]
    fn errors_and_ends_of_a_list_stay() {
        let row = |n: usize| {
            if n == 57 { json!({"id": n, "error": "boom"}) } else { json!({"id": n, "error": null}) }
        };
        let text = Value::from((0..100).map(row).collect::<Vec<_>>()).to_string();
        let short: Vec<Value> = serde_json::from_str(&draft(&text, 300)).unwrap();
        assert_eq!((&short[0], short.last().unwrap()), (&row(0), &row(99)));
        assert!(short.contains(&row(57)) && short.contains(&json!(MARKER)), "{short:?}");
        assert!(short.iter().any(|item| item.as_str().is_some_and(|note| note.ends_with(" items]"))));
    }

    #[test]
    fn escapes_are_never_cut() {
        let text = json!({"a": "\"\\\u{1}é😀".repeat(200)}).to_string().replace('😀', "\\ud83d\\ude00");
        for bytes in 60..400 {
            let value: Value = serde_json::from_str(&draft(&text, bytes)).unwrap();
            assert!(value["a"].is_string());
        }
    }

    #[test]
    fn too_many_keys_are_counted() {
        let object: serde_json::Map<String, Value> =
            (0..500).map(|n| (format!("key{n}"), json!(n))).collect();
        let short: Value = serde_json::from_str(&draft(&Value::from(object).to_string(), 300)).unwrap();
        assert_eq!(short["key0"], 0);
        let kept = short.as_object().unwrap().len() - 2;
        assert_eq!(short["[...]"], format!("{} more keys", 500 - kept));
    }

    #[test]
    fn the_deepest_nesting_is_left_out() {
        let text = format!("{}\"{}\"{}", "[".repeat(100), "x".repeat(300), "]".repeat(100));
        let short = draft(&text, 150);
        assert!(serde_json::from_str::<Value>(&short).is_ok() && short.len() < 250, "{short}");
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~é😀\n\"\\\\]{0,60}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 80, 12, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..12).prop_map(Value::from),
                prop::collection::btree_map("[a-z\"é]{0,9}", inner, 0..12)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_draft_is_json_that_names_itself(value in tree(), pretty: bool, bytes in 0_usize..600) {
            let whole = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            if let Some(json) = Json::read(&whole) {
                prop_assert_eq!(serde_json::from_str::<Value>(&json.text).unwrap(), value);
                let short = json.draft(bytes, MARKER);
                prop_assert!(serde_json::from_str::<Value>(&short).is_ok(), "{}", short);
                prop_assert_eq!(short.matches(MARKER).count(), 1);
            }
        }
    }
}
