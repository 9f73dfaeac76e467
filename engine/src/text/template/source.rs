//! Makes a template's source fit for a Jinja that is not Python's.

/// Python's Jinja reads all line ends as `\n`; `{% generation %}` only marks what a model is trained on.
pub(super) fn prepare(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut prepared = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        prepared.push_str(before);
        let length = match generation(tag) {
            Some((replacement, length)) => {
                prepared.push_str(&replacement);
                length
            }
            None => {
                prepared.push_str("{%");
                2
            }
        };
        rest = &tag[length..];
    }
    prepared.push_str(rest);
    prepared
}

/// For a `generation` or `endgeneration` tag at the start of `text`: a tag without effect that trims the same white
/// space, and the length of the original.
fn generation(text: &str) -> Option<(String, usize)> {
    let end = text.find("%}")?;
    let inner = &text[2..end];
    let (left, name) = match inner.strip_prefix(['-', '+']) {
        Some(name) => (&inner[..1], name),
        None => ("", inner),
    };
    let (name, right) = match name.strip_suffix(['-', '+']) {
        Some(shorter) => (shorter, &name[name.len() - 1..]),
        None => (name, ""),
    };
    let replacement = match name.trim() {
        "generation" => "if true",
        "endgeneration" => "endif",
        _ => return None,
    };
    Some((format!("{{%{left} {replacement} {right}%}}"), end + 2))
}

#[cfg(test)]
mod tests {
    use super::prepare;

    #[test]
    fn only_generation_tags_are_replaced() {
        let source = "a\r\n{%- generation -%}{{ x }}{% endgeneration %}{% if generation %}{%+ endif +%}";
        let expected = "a\n{%- if true -%}{{ x }}{% endif %}{% if generation %}{%+ endif +%}";
        assert_eq!(prepare(source), expected);
    }

    #[test]
    fn an_open_tag_is_left_to_the_parser() {
        assert_eq!(prepare("x {% generation"), "x {% generation");
    }
}
