//! Words that must survive word for word: paths, urls, e-mail addresses, ids, numbers, error codes.

use std::collections::HashSet;

/// Shouted words of logs that name nothing.
const LOG_LEVELS: [&str; 6] = ["ERROR", "DEBUG", "FATAL", "TRACE", "WARNING", "NOTICE"];
/// The shortest word in capitals that is taken for a code, such as the booking reference `QWZXTR`.
const MIN_CAPITALS: usize = 5;
/// The longest file extension, in bytes.
const MAX_EXTENSION: usize = 5;

/// The identifiers of a text in their order, repeated ones included. They are slices of `text`.
pub fn identifiers(text: &str) -> Vec<&str> {
    words(text).filter(|word| is_identifier(word)).collect()
}

/// The share of the different identifiers of `dropped` that `kept` still holds, from 0 to 1; 1 where there are none.
pub fn recall(dropped: &[&str], kept: &str) -> f64 {
    let wanted: HashSet<&str> = dropped.iter().flat_map(|text| identifiers(text)).collect();
    if wanted.is_empty() {
        return 1.0;
    }
    let present: HashSet<&str> = identifiers(kept).into_iter().collect();
    wanted.intersection(&present).count() as f64 / wanted.len() as f64
}

/// Runs of characters that may stand inside an identifier, without the marks around them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.find(|c: char| !ends_word(c))?;
        let (word, after) = rest[start..].split_at(word_end(&rest[start..]));
        rest = after;
        Some(trim(word))
    })
}

/// Where the word at the start of `text` ends, in bytes.
fn word_end(text: &str) -> usize {
    let (mut before, mut in_url) = (' ', false);
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let after = chars.peek().map_or(' ', |&(_, next)| next);
        in_url |= c == ':' && text[at..].starts_with("://");
        let stays = if in_url { !ends_url(c) } else { !ends_word(c) || joins(before, c, after) };
        if !stays {
            return at;
        }
        before = c;
    }
    text.len()
}

/// `1,500` and `12:30` are one word each, and so is `C:\`.
fn joins(before: char, c: char, after: char) -> bool {
    matches!(c, ':' | ',') && before.is_ascii_digit() && after.is_ascii_digit() || (c == ':' && after == '\\')
}

fn ends_url(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '"' | '\'' | '`' | '<' | '>' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '\\' | '”')
}

fn ends_word(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '"' | '\'' | '`' | '<' | '>' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '=')
        || matches!(c, ',' | ';' | ':' | '!' | '?' | '“' | '”' | '„' | '‘' | '’' | '«' | '»' | '…')
        // Chinese, Japanese and Korean letters and marks: they stand beside an identifier without a space.
        || c >= '\u{2e80}'
}

fn trim(word: &str) -> &str {
    word.trim_end_matches(['.', ',', ';', ':', '!', '?', '*', '-', '$', '€', '£', '%'])
        .trim_start_matches(['*', '-', '+', '$', '€', '£', '#'])
}

fn is_identifier(word: &str) -> bool {
    has_number(word) || is_address(word) || is_path(word) || is_program_name(word) || is_capitals(word)
}

/// Anything with a digit but a lone one and an ordinal: `48213`, `ORD-48213`, `E4512`, `7A`, `1.2.3`, `0x1F`.
fn has_number(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let letters = word.chars().any(char::is_alphabetic);
    let ordinal = ["st", "nd", "rd", "th"].iter().any(|end| word.ends_with(end)) && digits + 2 == word.len();
    !ordinal && (digits > 1 || (digits == 1 && letters))
}

/// `https://...` or `name@host.example`.
fn is_address(word: &str) -> bool {
    word.contains("://")
        || word.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.'))
}

/// `and/or` is no path; `src/main.rs`, `a/b/c` and `/etc` are.
fn is_path(word: &str) -> bool {
    let slashes = word.bytes().filter(|b| *b == b'/').count();
    let rooted = slashes > 0 && word.starts_with(['/', '~', '.']) && word.contains(char::is_alphanumeric);
    let drive = word.get(1..3) == Some(r":\");
    rooted || drive || slashes > 1 || (slashes == 1 && word.contains(['.', '_', '-']))
}

/// `snake_case`, `config.yaml`, `TimeoutError`.
fn is_program_name(word: &str) -> bool {
    let snake = word.trim_matches('_').contains('_');
    let error = ["Error", "Exception"].iter().any(|end| word.len() > end.len() && word.ends_with(end));
    snake || error || is_file_name(word)
}

fn is_file_name(word: &str) -> bool {
    let Some((stem, extension)) = word.rsplit_once('.') else { return false };
    // Two letters before the dot keep `e.g` and `U.S` out.
    stem.rsplit('.').next().is_some_and(|part| part.len() > 1)
        && (1..=MAX_EXTENSION).contains(&extension.len())
        && extension.bytes().all(|b| b.is_ascii_lowercase())
}

/// `QWZXTR` or `ABCD-EFGH`.
fn is_capitals(word: &str) -> bool {
    word.len() >= MIN_CAPITALS
        && word.split('-').all(|part| part.len() > 1 && part.bytes().all(|b| b.is_ascii_uppercase()))
        && !LOG_LEVELS.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_found_without_the_marks_around_them() {
        let text = "Order ORD-48213 (1,500 euros) at 12:30: see https://a.example/x?id=7, /srv/keys/alpha-7. \
                    \"E4512\" in src/main.rs; mail mia.12@basil.example, run_query, `config.yaml`, 0x1F, \
                    QWZXTR, seat 7A, C:\\logs\\a.txt, key=db-41 and TimeoutError!";
        let found = [
            "ORD-48213",
            "1,500",
            "12:30",
            "https://a.example/x?id=7",
            "/srv/keys/alpha-7",
            "E4512",
            "src/main.rs",
            "mia.12@basil.example",
            "run_query",
            "config.yaml",
            "0x1F",
            "QWZXTR",
            "7A",
            "C:\\logs\\a.txt",
            "db-41",
            "TimeoutError",
        ];
        assert_eq!(identifiers(text), found);
    }

    #[test]
    fn plain_words_lone_digits_ordinals_and_abbreviations_are_none() {
        let text = "I and/or you, e.g. the 2nd of 3 ERROR lines ... / ~ -- (TCP/IP) \u{2014} Straße 日本語。";
        assert_eq!(identifiers(text), Vec::<&str>::new());
        assert_eq!(identifiers(""), Vec::<&str>::new());
    }

    #[test]
    fn other_scripts_do_not_hide_identifiers() {
        assert_eq!(identifiers("注文番号はORD-48213です。サーバー：db-41、"), ["ORD-48213", "db-41"]);
        assert_eq!(identifiers("Рейс SU1234, «счёт 4711»"), ["SU1234", "4711"]);
    }

    #[test]
    fn recall_counts_each_different_identifier_once() {
        let dropped = ["ORD-48213 and ORD-48213", "port 8080"];
        assert!((recall(&dropped, "- user: my order is ORD-48213.") - 0.5).abs() < 1e-9);
        assert!((recall(&dropped, "8080 ORD-48213") - 1.0).abs() < 1e-9);
        assert!((recall(&["nothing to keep"], "") - 1.0).abs() < 1e-9);
        assert!(recall(&["port 8080"], "18080").abs() < 1e-9);
    }
}
