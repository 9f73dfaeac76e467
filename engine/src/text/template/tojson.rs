//! The `tojson` filter of chat templates: Python's `json.dumps`, to the byte.

use std::borrow::Cow;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

/// Bytes that most values take.
const TYPICAL: usize = 128;

/// `json.dumps(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
#[expect(clippy::needless_pass_by_value, reason = "filters get their options by value")]
pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let plain = options.args().next().is_none();
    let style = if plain { Style::PLAIN } else { Style::read(&options)? };
    let mut dump = Dump { style, depth: 0, out: String::with_capacity(TYPICAL) };
    dump.value(value)?;
    Ok(Value::from_safe_string(dump.out))
}

fn fault(message: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson: {message}"))
}

/// The options of `json.dumps`.
struct Style {
    ascii: bool,
    sorted: bool,
    /// What one level is indented by; without it all stands on one line.
    indent: Option<String>,
    item: Cow<'static, str>,
    key: Cow<'static, str>,
}

impl Style {
    const PLAIN: Self = Self {
        ascii: false,
        sorted: false,
        indent: None,
        item: Cow::Borrowed(", "),
        key: Cow::Borrowed(": "),
    };

    fn read(options: &Kwargs) -> Result<Self, Error> {
        let indent = match options.get::<Option<Value>>("indent")? {
            None => None,
            Some(indent) if indent.is_none() => None,
            Some(indent) => Some(match indent.as_str() {
                Some(text) => text.to_owned(),
                None => " ".repeat(usize::try_from(indent)?.min(64)),
            }),
        };
        let (item, key) = match options.get::<Option<Vec<String>>>("separators")?.as_deref() {
            Some([item, key]) => (item.clone().into(), key.clone().into()),
            Some(_) => return Err(fault("`separators` must be two texts")),
            None if indent.is_some() => (",".into(), Self::PLAIN.key),
            None => (Self::PLAIN.item, Self::PLAIN.key),
        };
        let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
        let sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
        options.assert_all_used()?;
        Ok(Self { ascii, sorted, indent, item, key })
    }

    /// Whether a text cannot hold this byte as it is.
    const fn escapes(&self, byte: u8) -> bool {
        byte < b' ' || byte == b'"' || byte == b'\\' || (self.ascii && byte > b'~')
    }
}

struct Dump {
    style: Style,
    depth: usize,
    out: String,
}

impl Dump {
    fn value(&mut self, value: &Value) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => self.out.push_str(&value.to_string()),
            ValueKind::Number => self.out.push_str(&python_float(f64::try_from(value.clone())?)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.container('[', ']', &items, Self::value)?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.style.sorted {
                    keys.sort();
                }
                self.container('{', '}', &keys, |dump, key| dump.member(key, &value.get_item(key)?))?;
            }
            kind => return Err(fault(&format!("a value of kind {kind} has no JSON form"))),
        }
        Ok(())
    }

    fn member(&mut self, key: &Value, value: &Value) -> Result<(), Error> {
        match key.kind() {
            ValueKind::String => self.string(key.as_str().unwrap_or_default()),
            ValueKind::None | ValueKind::Bool | ValueKind::Number => {
                self.out.push('"');
                self.value(key)?;
                self.out.push('"');
            }
            kind => return Err(fault(&format!("a key of kind {kind} has no JSON form"))),
        }
        self.out.push_str(&self.style.key);
        self.value(value)
    }

    fn container(
        &mut self,
        open: char,
        close: char,
        items: &[Value],
        mut write: impl FnMut(&mut Self, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        self.depth += 1;
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.out.push_str(&self.style.item);
            }
            self.line();
            write(self, item)?;
        }
        self.depth -= 1;
        if !items.is_empty() {
            self.line();
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self) {
        if let Some(indent) = &self.style.indent {
            self.out.push('\n');
            self.out.push_str(&indent.repeat(self.depth));
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        let mut rest = text;
        while let Some(at) = rest.bytes().position(|byte| self.style.escapes(byte)) {
            self.out.push_str(&rest[..at]);
            let mut chars = rest[at..].chars();
            chars.next().into_iter().for_each(|c| self.escape(c));
            rest = chars.as_str();
        }
        self.out.push_str(rest);
        self.out.push('"');
    }

    fn escape(&mut self, c: char) {
        match c {
            '"' => self.out.push_str("\\\""),
            '\\' => self.out.push_str("\\\\"),
            '\n' => self.out.push_str("\\n"),
            '\r' => self.out.push_str("\\r"),
            '\t' => self.out.push_str("\\t"),
            '\u{8}' => self.out.push_str("\\b"),
            '\u{c}' => self.out.push_str("\\f"),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    self.out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
}

/// A float as Python writes it: shortest digits, an exponent below 1e-4 and from 1e16 on.
fn python_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = value.to_string();
    if plain.contains('.') { plain } else { plain + ".0" }
}

#[cfg(test)]
mod tests {
    use minijinja::value::Serde;
    use minijinja::{Environment, Value, context};
    use serde_json::json;

    use super::{python_float, tojson};

    fn dump(expression: &str, value: &serde_json::Value) -> String {
        let mut environment = Environment::new();
        environment.add_filter("tojson", tojson);
        environment
            .render_str(&format!("{{{{ {expression} }}}}"), context! { x => Value::from(Serde(value)) })
            .unwrap()
    }

    #[test]
    fn writes_what_python_writes() {
        let value = json!({"b": [1, 2.5, 1e20, true, null, {}], "a": "é\"\\\n\u{7f}<&>😀", "c": []});
        assert_eq!(
            dump("x|tojson", &value),
            r#"{"b": [1, 2.5, 1e+20, true, null, {}], "a": "é\"\\\n"#.to_owned()
                + "\u{7f}"
                + r#"<&>😀", "c": []}"#
        );
        assert_eq!(
            dump("x|tojson(ensure_ascii=true, sort_keys=true, separators=(',', ':'))", &value),
            r#"{"a":"\u00e9\"\\\n\u007f<&>\ud83d\ude00","b":[1,2.5,1e+20,true,null,{}],"c":[]}"#
        );
        assert_eq!(
            dump("x|tojson(indent=2)", &json!({"k": [1, {}], "e": []})),
            "{\n  \"k\": [\n    1,\n    {}\n  ],\n  \"e\": []\n}"
        );
    }

    #[test]
    fn floats_are_written_like_python() {
        let cases = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (-2.5e-7, "-2.5e-07"),
            (123_456_789.125, "123456789.125"),
        ];
        for (value, written) in cases {
            assert_eq!(python_float(value), written);
        }
    }
}
