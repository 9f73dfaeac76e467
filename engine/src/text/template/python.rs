//! What Jinja under Python has and minijinja lacks: some methods of texts, and the test `sequence`.

use minijinja::value::{ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

/// Python's methods of texts, lists and mappings.
pub(super) fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    match value.as_str() {
        Some(text) if matches!(name, "partition" | "rpartition") => partition(text, name, args),
        Some(text) if matches!(name, "removeprefix" | "removesuffix") => remove(text, name, args),
        Some(text) if name == "rsplit" => rsplit(text, args),
        _ => unknown_method_callback(state, value, name, args),
    }
}

/// `is sequence`: for Python a text and a mapping are sequences too.
pub(super) fn is_sequence(value: &Value) -> bool {
    value.is_undefined() || matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map)
}

fn partition(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let (separator,): (&str,) = from_args(args)?;
    if separator.is_empty() {
        return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
    }
    let parts = if name == "partition" {
        text.split_once(separator).map_or([text, "", ""], |(left, right)| [left, separator, right])
    } else {
        text.rsplit_once(separator).map_or(["", "", text], |(left, right)| [left, separator, right])
    };
    Ok(texts(&parts))
}

fn texts(parts: &[&str]) -> Value {
    parts.iter().map(|part| Value::from(*part)).collect()
}

fn remove(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let (part,): (&str,) = from_args(args)?;
    let rest = if name == "removeprefix" { text.strip_prefix(part) } else { text.strip_suffix(part) };
    Ok(Value::from(rest.unwrap_or(text)))
}

fn rsplit(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
    let most =
        most.and_then(|most| usize::try_from(most).ok()).map_or(usize::MAX, |most| most.saturating_add(1));
    let mut parts: Vec<&str> = match separator {
        Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
        Some(separator) => text.rsplitn(most, separator).collect(),
        None => rsplit_space(text, most),
    };
    parts.reverse();
    Ok(texts(&parts))
}

/// The last words of a text, then what is left of it, at most `most` parts.
fn rsplit_space(text: &str, most: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text.trim_end();
    while !rest.is_empty() && parts.len() + 1 < most {
        let (left, word) = rest.rsplit_once(char::is_whitespace).unwrap_or(("", rest));
        parts.push(word);
        rest = left.trim_end();
    }
    if !rest.is_empty() {
        parts.push(rest);
    }
    parts
}

#[cfg(test)]
mod tests {
    use minijinja::{Environment, context};

    fn eval(expression: &str) -> String {
        let mut environment = Environment::new();
        environment.set_unknown_method_callback(super::method);
        environment.add_test("sequence", super::is_sequence);
        environment.render_str(&format!("{{{{ {expression} }}}}"), context! {}).unwrap()
    }

    #[test]
    fn methods_do_what_they_do_in_python() {
        for (expression, value) in [
            ("'a-b-c'.partition('-')|list", "['a', '-', 'b-c']"),
            ("'abc'.partition('-')|list", "['abc', '', '']"),
            ("'a-b-c'.rpartition('-')|list", "['a-b', '-', 'c']"),
            ("'abc'.rpartition('-')|list", "['', '', 'abc']"),
            ("'abc'.removeprefix('a')", "bc"),
            ("'abc'.removesuffix('a')", "abc"),
            ("'a-b-c'.rsplit('-', 1)", "['a-b', 'c']"),
            ("'a-b'.rsplit('-')", "['a', 'b']"),
            ("' a  b c '.rsplit(none, 1)", "[' a  b', 'c']"),
            ("' a  b '.rsplit()", "['a', 'b']"),
            ("' a '.strip()", "a"),
            ("'a' is sequence", "True"),
            ("{} is sequence", "True"),
            ("1 is sequence", "False"),
        ] {
            assert_eq!(eval(expression), value, "{expression}");
        }
    }
}
