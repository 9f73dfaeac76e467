//! Text that changes from request to request at the head of a prompt: everything after it is computed again.

use std::sync::LazyLock;

use regex::Regex;

/// What kinds there are and how they look.
static KINDS: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
    let months = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*";
    [
        ("uuid", r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b".to_owned()),
        ("date", r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}\b|\b[0-9]{1,2}[./][0-9]{1,2}[./][0-9]{4}\b".to_owned()),
        ("date", format!(r"(?i)\b{months}\.? [0-9]{{1,2}},? [0-9]{{4}}\b|\b[0-9]{{1,2}}\.? {months} [0-9]{{4}}\b")),
        ("time", r"\b[0-9]{1,2}:[0-9]{2}:[0-9]{2}\b|(?i)\b[0-9]{1,2}:[0-9]{2} ?[ap]m\b".to_owned()),
        ("timestamp", r"\b1[5-9][0-9]{8}(?:[0-9]{3})?\b".to_owned()),
        ("nonce", r"\b(?:[0-9]+[a-f]|[a-f]+[0-9])[0-9a-f]{14,}\b|\bcch=[^\s;,]+".to_owned()),
        ("counter", r"(?i)\b(?:request|turn|message|attempt|session|call)(?: (?:id|no\.?|number))?(?: ?[#:=] ?| )[0-9]+\b".to_owned()),
    ]
    .into_iter()
    .map(|(kind, pattern)| (kind, Regex::new(&pattern).expect("the pattern is a constant. This is a bug.")))
    .collect()
});

/// A kind of volatile text that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) kind: &'static str,
    pub(crate) count: usize,
    /// Byte offset of the first one in the text.
    pub(crate) first: usize,
}

/// Volatile text, by kind, in the order of the kinds; `patterns` are the user's own.
pub(crate) fn find(text: &str, patterns: &[&Regex]) -> Vec<Found> {
    let own = patterns.iter().map(|regex| ("pattern", *regex));
    let mut found: Vec<Found> = Vec::new();
    for (kind, regex) in KINDS.iter().map(|(kind, regex)| (*kind, regex)).chain(own) {
        let mut matches = regex.find_iter(text);
        let Some(first) = matches.next().map(|found| found.start()) else { continue };
        let count = 1 + matches.count();
        match found.iter_mut().find(|found| found.kind == kind) {
            Some(same) => (same.count, same.first) = (same.count + count, same.first.min(first)),
            None => found.push(Found { kind, count, first }),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found() {
        let text = "Now: 2024-05-15 15:00:00. May 3, 2025. Id 0f8fad5b-d9cb-469f-a165-70867728950e; request #12; \
                    x-billing cch=ab12; 1715785200";
        let kinds: Vec<(&str, usize)> =
            find(text, &[]).into_iter().map(|found| (found.kind, found.count)).collect();
        let want = [("uuid", 1), ("date", 2), ("time", 1), ("timestamp", 1), ("nonce", 1), ("counter", 1)];
        assert_eq!(kinds, want);
    }

    #[test]
    fn plain_instructions_are_not() {
        let text = "Answer in at most 3 sentences. Refunds take 5-7 days; use ISO 8601. Open 9:00 to 17:00, deadbeef.";
        assert_eq!(find(text, &[]), []);
    }
}
