//! Values of a JSON text, each as its own bytes and where they stand.

use plimsoll_policies::json::{Field, Span, decode, elements, last, members};

/// A value inside a text.
#[derive(Debug, Clone)]
pub(crate) struct Raw<'a> {
    /// Its bytes.
    pub(crate) text: &'a str,
    /// Where they begin in the whole text.
    pub(crate) at: usize,
}

impl<'a> Raw<'a> {
    /// A whole text, which is one value.
    pub(crate) fn whole(text: &'a str) -> Self {
        let at = text.len() - text.trim_start().len();
        Self { text: text.trim(), at }
    }

    /// The value at a span of a text.
    pub(crate) fn at(text: &'a str, span: &Span) -> Self {
        Self { at: span.start, text: &text[span.clone()] }
    }

    /// Where it stands in the whole text.
    pub(crate) fn span(&self) -> Span {
        self.at..self.at + self.text.len()
    }

    /// A string's text; lone surrogates are U+FFFD.
    pub(crate) fn string(&self) -> Option<String> {
        decode(self.text).map(|decoded| decoded.text)
    }

    /// Whether it is a string.
    pub(crate) fn is_string(&self) -> bool {
        self.text.starts_with('"')
    }

    /// The elements of an array.
    pub(crate) fn elements(&self) -> Option<Vec<Self>> {
        Some(elements(self.text)?.into_iter().map(|span| self.inner(span)).collect())
    }

    /// The members of an object.
    pub(crate) fn object(&self) -> Option<Object<'a>> {
        Some(Object { fields: members(self.text)?, raw: self.clone() })
    }

    fn inner(&self, span: Span) -> Self {
        Self { at: self.at + span.start, text: &self.text[span] }
    }
}

/// An object inside a text.
#[derive(Debug, Clone)]
pub(crate) struct Object<'a> {
    raw: Raw<'a>,
    fields: Vec<Field>,
}

impl<'a> Object<'a> {
    /// A text that is an object; blanks may stand around it.
    pub(crate) fn of(text: &'a str) -> Option<Self> {
        Raw::whole(text).object()
    }

    /// The last member of this name, null or not.
    pub(crate) fn member(&self, name: &str) -> Option<Raw<'a>> {
        let field = last(self.raw.text, &self.fields, name)?;
        Some(self.raw.inner(field.value.clone()))
    }

    /// The last member of this name, where it is not null.
    pub(crate) fn get(&self, name: &str) -> Option<Raw<'a>> {
        self.member(name).filter(|value| value.text != "null")
    }

    /// The bytes of a member that is not null.
    pub(crate) fn given(&self, name: &str) -> Option<&'a str> {
        self.get(name).map(|value| value.text)
    }

    /// The bytes of a member, null or not.
    pub(crate) fn raw(&self, name: &str) -> Option<&'a str> {
        self.member(name).map(|value| value.text)
    }

    /// Where the value of a member stands in the whole text, null or not.
    pub(crate) fn span(&self, name: &str) -> Option<Span> {
        self.member(name).map(|value| value.span())
    }

    /// Where a member that is a string stands in the whole text.
    pub(crate) fn string_span(&self, name: &str) -> Option<Span> {
        self.member(name).filter(Raw::is_string).map(|value| value.span())
    }

    /// All members: name between its quotes, and raw value.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let text = self.raw.text;
        self.fields
            .iter()
            .map(move |field| (&text[field.key.start + 1..field.key.end - 1], &text[field.value.clone()]))
    }

    /// Just behind the brace that opens it, in the whole text, and whether a member follows.
    pub(crate) fn open(&self) -> (usize, bool) {
        (self.raw.at + 1, !self.fields.is_empty())
    }

    /// The text of a member that is a string.
    pub(crate) fn string(&self, name: &str) -> Option<String> {
        self.get(name)?.string()
    }

    /// Its own members as raw JSON, without those of a name.
    pub(crate) fn without(&self, name: &str) -> String {
        let raw = |span: &Span| &self.raw.text[span.clone()];
        let own = |field: &&Field| !plimsoll_policies::json::key_is(raw(&field.key), name);
        let members = self.fields.iter().filter(own);
        let members: Vec<String> =
            members.map(|field| format!("{}:{}", raw(&field.key), raw(&field.value))).collect();
        format!("{{{}}}", members.join(","))
    }
}

/// Edits of a text: what stands in place of each span, spans that do not overlap.
#[derive(Debug, Default)]
pub(crate) struct Edits(Vec<(Span, String)>);

impl Edits {
    /// Puts a text in place of a span.
    pub(crate) fn put(&mut self, span: Span, text: impl Into<String>) {
        self.0.push((span, text.into()));
    }

    /// The part of a text with its edits; all of them lie in it.
    pub(crate) fn apply(self, text: &str, part: Span) -> String {
        spliced(text, part, self.0)
    }
}

/// The part of a text with some of its spans replaced; they lie in it and do not overlap.
pub(crate) fn spliced(text: &str, part: Span, mut edits: Vec<(Span, String)>) -> String {
    edits.sort_by_key(|(span, _)| span.start);
    let mut out = String::with_capacity(part.len());
    let mut done = part.start;
    for (span, instead) in edits {
        out.push_str(&text[done..span.start]);
        out.push_str(&instead);
        done = span.end;
    }
    out.push_str(&text[done..part.end]);
    out
}
