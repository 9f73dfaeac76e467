//! Cuts a message into pieces that can be quoted one by one: lines, then sentences, then parts of long sentences.

use std::ops::Range;

/// The longest piece, in bytes; longer sentences (and JSON of one line) are cut at commas or spaces.
const LONGEST: usize = 240;
/// Words that end in a dot without ending a sentence.
const ABBREVIATIONS: [&str; 13] =
    ["mr", "mrs", "ms", "dr", "prof", "st", "vs", "e.g", "i.e", "no", "nr", "approx", "inc"];
/// A sentence that begins so says nothing without the one before it.
const BACKWARD: [&str; 7] = ["it is ", "it's ", "this is ", "that is ", "that's ", "they are ", "these are "];

/// The sentences of prose; one that leans on its predecessor ("It is 4711.") stays joined to it.
pub(super) fn sentences(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .flat_map(|line| joined_sentences(line).into_iter().flat_map(|range| parts(line[range].trim())))
}

/// The lines of a tool's output, long ones in parts.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).flat_map(parts)
}

fn joined_sentences(line: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    while start < line.len() {
        let end = start + sentence_end(&line[start..]);
        match found.last_mut() {
            Some(last) if leans_back(&line[start..end]) && end - last.start <= LONGEST => last.end = end,
            _ => found.push(start..end),
        }
        start = end;
    }
    found.retain(|range| !line[range.clone()].trim().is_empty());
    found
}

fn leans_back(sentence: &str) -> bool {
    let sentence = sentence.trim_start();
    BACKWARD
        .iter()
        .any(|start| sentence.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start)))
}

/// Where the first sentence of `text` ends, in bytes.
fn sentence_end(text: &str) -> usize {
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let after = chars.peek().map(|&(_, next)| next);
        let closed = after.is_none_or(char::is_whitespace);
        let ends = match c {
            '。' | '！' | '？' => true,
            '!' | '?' | '؟' | '।' => closed,
            '.' => closed && !is_abbreviation(&text[..at]),
            _ => false,
        };
        if ends {
            return at + c.len_utf8();
        }
    }
    text.len()
}

/// Whether the dot after `before` belongs to its last word: "Dr.", the initial "J." or the list number "1.".
fn is_abbreviation(before: &str) -> bool {
    let word = before.rsplit(char::is_whitespace).next().unwrap_or_default();
    let initial = word.chars().count() == 1 && word.chars().all(char::is_uppercase) && word != "I";
    let list_number = word.len() == before.trim_start().len() && word.bytes().all(|b| b.is_ascii_digit());
    initial || list_number || ABBREVIATIONS.iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// The text in pieces of at most [`LONGEST`] bytes, cut after a comma or semicolon where there is one, else at a space.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (part, after) = rest.split_at(part_end(rest));
        rest = after.trim_start();
        Some(part.trim()).filter(|part| !part.is_empty())
    })
}

fn part_end(text: &str) -> usize {
    if text.len() <= LONGEST {
        return text.len();
    }
    let window = &text[..text.floor_char_boundary(LONGEST)];
    // A comma between digits belongs to a number.
    let comma = window
        .rmatch_indices([',', ';'])
        .find(|(at, _)| !text[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
    let comma = comma.map(|(at, _)| at + 1).filter(|end| *end > LONGEST / 3);
    comma.or_else(|| window.rfind(' ').filter(|at| *at > 0)).unwrap_or(window.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<&str> {
        sentences(text).collect()
    }

    #[test]
    fn prose_is_cut_after_sentences_and_lines() {
        assert_eq!(
            cut("My name is Ana. Is it 3.5 or 4?\n\nYes! ok"),
            ["My name is Ana.", "Is it 3.5 or 4?", "Yes!", "ok"]
        );
        assert_eq!(
            cut("See Dr. J. Lopez, e.g. today.\n1. First point."),
            ["See Dr. J. Lopez, e.g. today.", "1. First point."]
        );
        assert_eq!(cut("名前は田中です。番号は4711です。"), ["名前は田中です。", "番号は4711です。"]);
        assert_eq!(cut(" \n "), Vec::<&str>::new());
    }

    #[test]
    fn a_sentence_that_leans_on_the_one_before_stays_with_it() {
        assert_eq!(
            cut("You will need my order number. It is ORD-1."),
            ["You will need my order number. It is ORD-1."]
        );
        assert_eq!(cut("Fine.\nIt is ORD-1."), ["Fine.", "It is ORD-1."]);
        assert_eq!(cut("Itemise it. ités."), ["Itemise it.", "ités."]);
    }

    #[test]
    fn long_lines_come_in_parts_and_lose_no_word() {
        let json = format!(
            "{{{}}}",
            (0..60).map(|n| format!("\"key{n}\": \"value {n}\"")).collect::<Vec<_>>().join(", ")
        );
        let cut: Vec<_> = lines(&json).collect();
        assert!(cut.len() > 3 && cut.iter().all(|part| part.len() <= LONGEST));
        assert_eq!(cut.join(" "), json);
        let unbroken = "ä".repeat(LONGEST);
        assert_eq!(lines(&unbroken).collect::<String>(), unbroken);
    }
}
