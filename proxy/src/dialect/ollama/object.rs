//! A JSON object over its text: members by name, as raw text and as places in it.

use plimsoll_policies::ParseError;
use plimsoll_policies::json::{self, Field, Span};
use serde_json::value::RawValue;

use super::super::DialectError;
use crate::cut::cut;

/// An object and where it stands in a larger text.
pub(super) struct Object<'b> {
    text: &'b str,
    /// Byte of the larger text at which it begins.
    start: usize,
    fields: Vec<Field>,
}

impl<'b> Object<'b> {
    /// Reads a whole body.
    ///
    /// # Errors
    /// It is no JSON, or no object.
    pub(super) fn body(body: &'b str) -> Result<Self, DialectError> {
        let raw: &RawValue = serde_json::from_str(body).map_err(|error| ParseError::from_json(&error))?;
        let start = raw.get().as_ptr().addr() - body.as_ptr().addr();
        Self::read(raw.get(), start).ok_or_else(|| DialectError::form("body", "must be a JSON object"))
    }

    /// Reads an object that begins at `start` of a larger text; none where it is something else.
    pub(super) fn read(text: &'b str, start: usize) -> Option<Self> {
        Some(Self { text, start, fields: json::members(text)? })
    }

    /// The raw value of a member; none where it is absent or null.
    pub(super) fn get(&self, name: &str) -> Option<&'b str> {
        self.field(name).map(|field| &self.text[field.value.clone()]).filter(|raw| *raw != "null")
    }

    /// Where the value of a member stands in the larger text, null or not.
    pub(super) fn span(&self, name: &str) -> Option<Span> {
        let value = &self.field(name)?.value;
        Some(self.start + value.start..self.start + value.end)
    }

    /// A member that is a text.
    ///
    /// # Errors
    /// It is something else.
    pub(super) fn string(&self, at: &str, name: &str) -> Result<Option<String>, DialectError> {
        let Some(raw) = self.get(name) else { return Ok(None) };
        let text = json::decode(raw).map(|decoded| decoded.text);
        text.map(Some).ok_or_else(|| wrong(&place(at, name), "a string", raw))
    }

    /// A member that is true or false.
    ///
    /// # Errors
    /// It is something else.
    pub(super) fn flag(&self, at: &str, name: &str) -> Result<Option<bool>, DialectError> {
        let Some(raw) = self.get(name) else { return Ok(None) };
        raw.parse().map(Some).map_err(|_| wrong(&place(at, name), "true or false", raw))
    }

    /// The elements of a member that is a list: raw text and place.
    ///
    /// # Errors
    /// It is something else.
    pub(super) fn list(&self, at: &str, name: &str) -> Result<Vec<(&'b str, Span)>, DialectError> {
        let (Some(raw), Some(span)) = (self.get(name), self.span(name)) else { return Ok(Vec::new()) };
        let elements = json::elements(raw).ok_or_else(|| wrong(&place(at, name), "an array", raw))?;
        let element = |own: Span| (&raw[own.clone()], span.start + own.start..span.start + own.end);
        Ok(elements.into_iter().map(element).collect())
    }

    /// Just behind the brace that opens it, in the larger text, and whether a member follows.
    pub(super) fn open(&self) -> (usize, bool) {
        (self.start + 1, !self.fields.is_empty())
    }

    fn field(&self, name: &str) -> Option<&Field> {
        json::last(self.text, &self.fields, name)
    }
}

/// `at.name`, or `name` at the top.
pub(super) fn place(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

/// A value of the wrong type.
pub(super) fn wrong(place: &str, wanted: &str, found: &str) -> DialectError {
    DialectError::form(place, format!("must be {wanted}, found `{}`", cut(found)))
}
