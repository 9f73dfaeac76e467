//! Where in a configuration a value stands.

use std::fmt;

use serde_json::Value;

/// A step from a value to one of its children.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Segment {
    /// An element of a list.
    Index(usize),
    /// A value of a map.
    Key(String),
}

/// The way from the root to a value; shown as `routes[2].upstream`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Path(pub(super) Vec<Segment>);

impl Path {
    /// The path of these keys.
    pub(super) fn of(keys: &[&str]) -> Self {
        Self(keys.iter().map(|key| Segment::Key((*key).to_owned())).collect())
    }

    /// The path of a value of this map.
    pub(super) fn key(&self, key: &str) -> Self {
        self.with(Segment::Key(key.to_owned()))
    }

    /// The path of an element of this list.
    pub(super) fn index(&self, index: usize) -> Self {
        self.with(Segment::Index(index))
    }

    /// The policy that this is a part of.
    pub(super) fn policy(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Segment::Key(section), Segment::Key(name), ..] if section == "policies" => Some(name),
            _ => None,
        }
    }

    fn with(&self, segment: Segment) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment);
        Self(segments)
    }

    /// Whether `other` stands here or below.
    pub(super) fn holds(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    /// The value that stands here in `root`.
    #[cfg(test)]
    pub(super) fn find<'a>(&self, root: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(root, |value, segment| match segment {
            Segment::Key(key) => value.get(key),
            Segment::Index(index) => value.get(index),
        })
    }

    /// The value that stands here in `root`, to be changed.
    pub(super) fn find_mut<'a>(&self, root: &'a mut Value) -> Option<&'a mut Value> {
        self.0.iter().try_fold(root, |value, segment| match segment {
            Segment::Key(key) => value.get_mut(key),
            Segment::Index(index) => value.get_mut(index),
        })
    }

    /// Takes the last segment off: the parent and the segment.
    pub(super) fn split_last(&self) -> Option<(Self, &Segment)> {
        let (last, parents) = self.0.split_last()?;
        Some((Self(parents.to_vec()), last))
    }

    /// Reads `a.b[2].c`; a key with dots stands in quotes: `headers."a.b"`.
    ///
    /// # Errors
    /// Says what is malformed.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut segments = Vec::new();
        let mut rest = text;
        loop {
            let (segment, after) = first_segment(rest)?;
            segments.push(segment);
            if after.is_empty() {
                return Ok(Self(segments));
            }
            rest = if after.starts_with('[') { after } else { after.strip_prefix('.').unwrap_or(after) };
        }
    }
}

fn first_segment(text: &str) -> Result<(Segment, &str), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (index, after) = rest.split_once(']').ok_or("a `[` is not closed")?;
        let index = index.parse().map_err(|_| format!("`{index}` is not the number of a list's element"))?;
        return Ok((Segment::Index(index), after));
    }
    if let Some(rest) = text.strip_prefix('"') {
        let (key, after) = rest.split_once('"').ok_or("a `\"` is not closed")?;
        return Ok((Segment::Key(key.to_owned()), after));
    }
    let end = text.find(['.', '[']).unwrap_or(text.len());
    let (key, after) = text.split_at(end);
    if key.is_empty() {
        return Err("a key is missing".to_owned());
    }
    Ok((Segment::Key(key.to_owned()), after))
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) => {
                    f.write_str(if at == 0 { "" } else { "." })?;
                    f.write_str(&shown(key))?;
                }
            }
        }
        Ok(())
    }
}

/// A key as it must be written in a path.
fn shown(key: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-/*".contains(c);
    if !key.is_empty() && key.chars().all(plain) { key.to_owned() } else { format!("{key:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_as_it_is_written() {
        for text in ["routes[2].upstream", "a.b-c.d", "headers.\"a.b\".c", "steps[0][1]"] {
            assert_eq!(Path::parse(text).map(|path| path.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn a_malformed_path_is_refused() {
        for (text, why) in
            [("", "missing"), ("a..b", "missing"), ("a[x]", "`x`"), ("a[1", "closed"), ("\"a", "closed")]
        {
            let fault = Path::parse(text).expect_err(text);
            assert!(fault.contains(why), "{text}: {fault}");
        }
    }
}
