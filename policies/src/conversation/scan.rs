//! Finding the pieces of a JSON text without rewriting it: every span is a byte range of the original.
//!
//! Keys and values are read as raw text, so that duplicate keys, lone surrogates, numbers beyond `f64` and any
//! depth survive.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A byte range of a JSON text.
pub type Span = Range<usize>;

/// One member of an object: the raw key (quotes included) and the raw value.
#[derive(Debug, Clone)]
pub struct Field {
    /// The key, quotes included.
    pub key: Span,
    /// The value.
    pub value: Span,
}

/// The outline of a chat request body.
#[derive(Debug)]
pub(crate) struct Outline {
    /// Members of the body in order, the `messages` that count left out.
    pub(crate) fields: Vec<Field>,
    /// Elements of the last `messages` array.
    pub(crate) elements: Vec<Span>,
    /// Just after the opening bracket of that array.
    pub(crate) open: usize,
}

/// What `messages` was, where it was not an array.
const NOT_AN_ARRAY: &str = "`messages` must be an array";

/// Reads the outline of a body.
///
/// # Errors
/// Bytes that are not JSON, a body that is not an object, `messages` missing or not an array.
pub(crate) fn outline(body: &str) -> Result<Outline, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(body);
    let outline = json.deserialize_map(BodyVisitor { body })?;
    json.end()?;
    Ok(outline)
}

/// The members of an object, or none where the text is not an object.
#[must_use]
pub fn members(object: &str) -> Option<Vec<Field>> {
    if !object.starts_with('{') {
        return None;
    }
    serde_json::Deserializer::from_str(object).deserialize_map(FieldsVisitor { text: object }).ok()
}

/// The elements of an array, or none where the text is not an array.
#[must_use]
pub fn elements(array: &str) -> Option<Vec<Span>> {
    if !array.starts_with('[') {
        return None;
    }
    let values: Vec<&RawValue> = serde_json::from_str(array).ok()?;
    Some(values.iter().map(|value| span_of(array, value)).collect())
}

/// The last member of that name: readers of JSON keep the last of duplicates.
#[must_use]
pub fn last<'f>(text: &str, fields: &'f [Field], name: &str) -> Option<&'f Field> {
    fields.iter().rev().find(|field| key_is(&text[field.key.clone()], name))
}

/// Whether a raw key spells this name; escapes in keys are honoured.
#[must_use]
pub fn key_is(raw: &str, name: &str) -> bool {
    let plain = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match plain {
        Some(plain) if !plain.contains('\\') => plain == name,
        _ => decode(raw).is_some_and(|decoded| decoded.text == name),
    }
}

/// A JSON string as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The text; lone surrogates are U+FFFD.
    pub text: String,
    /// False where the string holds lone surrogates, which no Rust string can: reading it is fine, writing it
    /// back would change it.
    pub exact: bool,
}

/// Decodes a raw JSON string; none where the text is not a string.
#[must_use]
pub fn decode(raw: &str) -> Option<Decoded> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Decoded { text: inner.to_owned(), exact: true });
    }
    if let Ok(text) = serde_json::from_str(raw) {
        return Some(Decoded { text, exact: true });
    }
    let bytes = serde_json::Deserializer::from_str(raw).deserialize_bytes(BytesVisitor).ok()?;
    Some(Decoded { text: String::from_utf8_lossy(&bytes).into_owned(), exact: false })
}

/// A text as a JSON string.
#[must_use]
pub fn encode(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn span_of(text: &str, value: &RawValue) -> Span {
    let start = value.get().as_ptr().addr() - text.as_ptr().addr();
    start..start + value.get().len()
}

struct BodyVisitor<'a> {
    body: &'a str,
}

impl<'de> Visitor<'de> for BodyVisitor<'_> {
    type Value = Outline;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object with `messages`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Outline, A::Error> {
        let mut fields = Vec::with_capacity(16);
        let mut messages = None;
        while let Some(key) = map.next_key::<&RawValue>()? {
            let key_span = span_of(self.body, key);
            if key_is(key.get(), "messages") {
                messages = Some((map.next_value::<Elements<'de>>()?, key_span.end));
            } else {
                let value = span_of(self.body, map.next_value::<&RawValue>()?);
                fields.push(Field { key: key_span, value });
            }
        }
        let (elements, key_end) =
            messages.ok_or_else(|| A::Error::custom("the body must have a member `messages`"))?;
        let Elements::Array(values) = elements else { return Err(A::Error::custom(NOT_AN_ARRAY)) };
        let open = self.body[key_end..].find('[').map_or(key_end, |offset| key_end + offset + 1);
        let elements = values.iter().map(|value| span_of(self.body, value)).collect();
        Ok(Outline { fields, elements, open })
    }
}

/// The value of `messages`: an array, or something else that a later duplicate may still replace.
enum Elements<'de> {
    Array(Vec<&'de RawValue>),
    Other,
}

impl<'de> serde::Deserialize<'de> for Elements<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ElementsVisitor)
    }
}

struct ElementsVisitor;

impl<'de> Visitor<'de> for ElementsVisitor {
    type Value = Elements<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Elements<'de>, A::Error> {
        let mut values = Vec::with_capacity(64);
        while let Some(value) = seq.next_element::<&RawValue>()? {
            values.push(value);
        }
        Ok(Elements::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Elements<'de>, A::Error> {
        while map.next_entry::<&RawValue, IgnoredAny>()?.is_some() {}
        Ok(Elements::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Elements<'de>, E> {
        Ok(Elements::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Elements<'de>, E> {
        Ok(Elements::Other)
    }

    fn visit_unit<E>(self) -> Result<Elements<'de>, E> {
        Ok(Elements::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Elements<'de>, E> {
        Ok(Elements::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Elements<'de>, E> {
        Ok(Elements::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Elements<'de>, E> {
        Ok(Elements::Other)
    }
}

struct FieldsVisitor<'a> {
    text: &'a str,
}

impl<'de> Visitor<'de> for FieldsVisitor<'_> {
    type Value = Vec<Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Field>, A::Error> {
        let mut fields = Vec::with_capacity(4);
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            fields.push(Field { key: span_of(self.text, key), value: span_of(self.text, value) });
        }
        Ok(fields)
    }
}

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }
}
