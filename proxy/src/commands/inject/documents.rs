//! A file as its documents: which may pass as they came, and which are written anew.

use serde_json::Value;

use super::yaml;

/// A document's own text, with the `---` before it, and the line at which it begins.
pub(super) struct Piece<'a> {
    pub(super) text: &'a str,
    line: usize,
}

/// The documents of a file, in order; joined, their texts are the file's.
pub(super) fn split(text: &str) -> Vec<Piece<'_>> {
    let mut starts = vec![(0, 0)];
    let mut at = 0;
    for (line, content) in text.split_inclusive('\n').enumerate() {
        if at > 0 && is_separator(content) {
            starts.push((at, line));
        }
        at += content.len();
    }
    let ends = starts.iter().skip(1).map(|(at, _)| *at).chain([text.len()]);
    starts.iter().zip(ends).map(|((at, line), end)| Piece { text: &text[*at..end], line: *line }).collect()
}

/// Whether a document can follow what is already written.
pub(super) fn is_separated(written: &str, next: &str) -> bool {
    next.lines().next().is_some_and(is_separator) || written.ends_with("---\n") || next.trim().is_empty()
}

/// The document's value; null where there is nothing but comments.
///
/// # Errors
/// Why it is no YAML, with the line.
pub(super) fn parse(piece: &Piece<'_>) -> Result<Value, String> {
    // Kubernetes reads numbers with a leading 0 as octal, as `defaultMode: 0644` wants. Definitions of resources are deep.
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        with_snippet: false,
        budget: serde_saphyr::budget! { max_depth: 256 },
    };
    // Lines before it, so that the line in a message is the file's.
    let text = format!("{}{}", "\n".repeat(piece.line), piece.text);
    let value: Option<Value> = serde_saphyr::from_str_with_options(&text, options)
        .map_err(|error| format!("is no YAML that Kubernetes reads: {error}"))?;
    Ok(value.unwrap_or_default())
}

/// The text of a changed document, below the separator and the comments that it began with.
pub(super) fn replaced(piece: &Piece<'_>, value: &Value) -> String {
    let is_head = |line: &str| is_separator(line) || line.trim().is_empty() || line.starts_with('#');
    let head: String = piece
        .text
        .split_inclusive('\n')
        .take_while(|line| is_head(line))
        // What stands behind the dashes is in the value.
        .map(|line| if is_separator(line) && !is_bare(line) { "---\n" } else { line })
        .collect();
    head + &yaml::emit(value)
}

fn is_separator(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

/// Whether nothing but a comment follows the dashes.
fn is_bare(separator: &str) -> bool {
    let rest = separator.trim_start_matches('-').trim();
    rest.is_empty() || rest.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_file() {
        for text in
            ["", "a: 1\n", "---\na: 1\n---\n# b\n--- # c\nd: |\n  ---\n---x: 1", "\n---\r\na: 1\r\n---\r\n"]
        {
            let joined: String = split(text).iter().map(|piece| piece.text).collect();
            assert_eq!(joined, text);
        }
        assert_eq!(split("---\na: 1\n---\nb: 2\n").len(), 2);
    }

    #[test]
    fn numbers_are_read_as_kubernetes_reads_them() {
        let text = "mode: 0644\nport: 80\nname: 'yes'\nempty:\n";
        let value = parse(&Piece { text, line: 0 }).expect("YAML");
        assert_eq!(value, serde_json::json!({"mode": 420, "port": 80, "name": "yes", "empty": null}));
        assert_eq!(parse(&Piece { text: "# nothing\n", line: 0 }), Ok(Value::Null));
    }

    #[test]
    fn a_fault_names_the_line_of_the_file() {
        let text = "a: 1\n---\nb: 2\nc: [1\n";
        let pieces = split(text);
        let reason = parse(&pieces[1]).expect_err("no YAML");
        assert!(reason.contains("line 4") || reason.contains("line 5"), "{reason}");
    }
}
