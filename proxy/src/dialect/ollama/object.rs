//! A JSON object of the caller's, its members by their types: another one is a fault that tells the place.

use plimsoll_policies::ParseError;
use plimsoll_policies::json::Span;
use serde_json::value::RawValue;

use super::super::DialectError;
use super::super::raw::{self, Raw};
use crate::cut::cut;

/// An object and where it stands in a larger text.
pub(super) struct Object<'b>(raw::Object<'b>);

impl<'b> Object<'b> {
    /// Reads a whole body.
    ///
    /// # Errors
    /// It is no JSON, or no object.
    pub(super) fn body(body: &'b str) -> Result<Self, DialectError> {
        serde_json::from_str::<&RawValue>(body).map_err(|error| ParseError::from_json(&error))?;
        let object = raw::Object::of(body);
        object.map(Self).ok_or_else(|| DialectError::form("body", "must be a JSON object"))
    }

    /// Reads an object that begins at `start` of a larger text; none where it is something else.
    pub(super) fn read(text: &'b str, start: usize) -> Option<Self> {
        Raw { text, at: start }.object().map(Self)
    }

    /// The raw value of a member; none where it is absent or null.
    pub(super) fn get(&self, name: &str) -> Option<&'b str> {
        self.0.given(name)
    }

    /// Where the value of a member stands in the larger text, null or not.
    pub(super) fn span(&self, name: &str) -> Option<Span> {
        self.0.span(name)
    }

    /// A member that is a text.
    ///
    /// # Errors
    /// It is something else.
    pub(super) fn string(&self, at: &str, name: &str) -> Result<Option<String>, DialectError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        value.string().map(Some).ok_or_else(|| wrong(&place(at, name), "a string", value.text))
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
        let Some(value) = self.0.get(name) else { return Ok(Vec::new()) };
        let elements = value.elements().ok_or_else(|| wrong(&place(at, name), "an array", value.text))?;
        Ok(elements.into_iter().map(|element| (element.text, element.span())).collect())
    }

    /// Just behind the brace that opens it, in the larger text, and whether a member follows.
    pub(super) fn open(&self) -> (usize, bool) {
        self.0.open()
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
