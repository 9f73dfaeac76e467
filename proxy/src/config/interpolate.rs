//! `${NAME}` and `${NAME:-default}` in the file's texts: the way secrets come in without standing in it.

use std::collections::BTreeMap;

/// Fills in the environment's values; `$${` stands for `${` itself. `None` where there is nothing to fill in.
///
/// # Errors
/// Says which variable is not set, or which brace is not closed.
pub(super) fn interpolate(
    text: &str,
    environment: &BTreeMap<String, String>,
) -> Result<Option<String>, Unfilled> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            filled.push_str(before);
            filled.push_str("${");
            rest = &from[2..];
            continue;
        }
        filled.push_str(before);
        let (inside, after) = from[2..].split_once('}').ok_or(Unfilled::Open)?;
        filled.push_str(value(inside, environment)?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(Some(filled))
}

/// Why a text could not be filled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfilled {
    /// No `}`.
    #[error("a `${{` is not closed by `}}`")]
    Open,
    /// Not in the environment.
    #[error("the environment variable `{0}` is not set")]
    Unset(String),
}

impl Unfilled {
    pub(super) fn hint(&self) -> String {
        match self {
            Self::Open => "write `$${` for the two characters themselves".to_owned(),
            Self::Unset(name) => format!("set it, or give a default: `${{{name}:-text}}`"),
        }
    }
}

fn value<'a>(inside: &'a str, environment: &'a BTreeMap<String, String>) -> Result<&'a str, Unfilled> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let set = environment.get(name).map(String::as_str);
    // As in a shell: an empty variable counts as unset where there is a default.
    let found = if default.is_some() { set.filter(|value| !value.is_empty()) } else { set };
    found.or(default).ok_or_else(|| Unfilled::Unset(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<Option<String>, Unfilled> {
        let environment =
            [("KEY", "k"), ("EMPTY", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        interpolate(text, &BTreeMap::from(environment))
    }

    #[test]
    fn variables_are_filled_in() {
        for (text, want) in [
            ("${KEY}", "k"),
            ("a${KEY}b${KEY}", "akbk"),
            ("${NONE:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY}", ""),
            ("$${KEY} costs $5", "${KEY} costs $5"),
        ] {
            assert_eq!(filled(text), Ok(Some(want.to_owned())), "{text}");
        }
        assert_eq!(filled("$5"), Ok(None));
    }

    #[test]
    fn what_cannot_be_filled_in_is_named() {
        assert_eq!(filled("${NONE}"), Err(Unfilled::Unset("NONE".to_owned())));
        assert_eq!(filled("${KEY"), Err(Unfilled::Open));
        assert_eq!(Unfilled::Open.to_string(), "a `${` is not closed by `}`");
    }
}
