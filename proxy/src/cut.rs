//! What a message shows of somebody's own text.

use std::borrow::Cow;

/// Characters of a text that a message shows.
const SHOWN: usize = 80;

/// The text, or its first 80 characters and an ellipsis.
pub fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}

/// A message in which each text between backticks is cut.
pub fn cut_quoted(message: &str) -> String {
    // Every second piece stands between two backticks.
    let pieces = message.split('`').enumerate();
    let cut = pieces.map(|(index, piece)| if index % 2 == 1 { cut(piece) } else { Cow::Borrowed(piece) });
    cut.collect::<Vec<_>>().join("`")
}

#[cfg(test)]
mod tests {
    use super::{cut, cut_quoted};

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"ä".repeat(80)), "ä".repeat(80));
        assert_eq!(cut(&"ä".repeat(81)), "ä".repeat(80) + "…");
    }

    #[test]
    fn only_what_is_quoted_is_cut() {
        let long = "x".repeat(100);
        let want = format!("`{}…` is not {long} `y`", &long[..80]);
        assert_eq!(cut_quoted(&format!("`{long}` is not {long} `y`")), want);
        assert_eq!(cut_quoted("no quotes"), "no quotes");
    }
}
