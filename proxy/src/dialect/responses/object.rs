//! An object of the body by its members, as spans of the body.

use plimsoll_policies::json::{Field, Span, decode, last, members};

/// The members of an object that stands in a text.
pub(super) struct Object<'a> {
    /// The whole text.
    body: &'a str,
    /// Where the object begins in it.
    start: usize,
    /// The object's own text.
    text: &'a str,
    fields: Vec<Field>,
}

impl<'a> Object<'a> {
    /// Reads the object at a span of a text; none where there is none.
    pub(super) fn at(body: &'a str, span: &Span) -> Option<Self> {
        let text = &body[span.clone()];
        Some(Self { body, start: span.start, text, fields: members(text)? })
    }

    /// A body that is an object; blanks may stand around it.
    pub(super) fn of_body(body: &'a str) -> Option<Self> {
        let start = body.len() - body.trim_start().len();
        Self::at(body, &(start..start + body.trim().len()))
    }

    /// A text that is an object.
    pub(super) fn of(text: &'a str) -> Option<Self> {
        Self::at(text, &(0..text.len()))
    }

    /// Where a member's value stands in the whole text.
    pub(super) fn span(&self, name: &str) -> Option<Span> {
        let value = &last(self.text, &self.fields, name)?.value;
        Some(self.start + value.start..self.start + value.end)
    }

    /// A member's raw value.
    pub(super) fn raw(&self, name: &str) -> Option<&'a str> {
        self.span(name).map(|span| &self.body[span])
    }

    /// A member's raw value, where it says something.
    pub(super) fn given(&self, name: &str) -> Option<&'a str> {
        self.raw(name).filter(|raw| *raw != "null")
    }

    /// A member that is a string.
    pub(super) fn string(&self, name: &str) -> Option<String> {
        self.raw(name).and_then(decode).map(|decoded| decoded.text)
    }

    /// Where a member that is a string stands.
    pub(super) fn string_span(&self, name: &str) -> Option<Span> {
        self.span(name).filter(|span| self.body[span.clone()].starts_with('"'))
    }

    /// All members: name between its quotes, and raw value.
    pub(super) fn members(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let text = self.text;
        self.fields
            .iter()
            .map(move |field| (&text[field.key.start + 1..field.key.end - 1], &text[field.value.clone()]))
    }
}

/// A text with some of its spans replaced; they do not overlap.
pub(super) fn spliced(text: &str, span: &Span, mut edits: Vec<(Span, String)>) -> String {
    edits.sort_by_key(|(span, _)| span.start);
    let mut out = String::with_capacity(span.len());
    let mut done = span.start;
    for (edit, new) in edits {
        out.push_str(&text[done..edit.start]);
        out.push_str(&new);
        done = edit.end;
    }
    out.push_str(&text[done..span.end]);
    out
}
