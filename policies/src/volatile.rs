//! Text that changes from request to request at the head of a prompt: everything after it is computed again.
//!
//! What looks like it is reported. What is changed must say that it is of the moment: a date in a rule is a rule.

mod clock;
mod moment;

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

pub(crate) use clock::rounded;

/// What kinds there are and how they look, wherever they stand. Where two begin together the first named counts.
static KINDS: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
    let months = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*";
    let clock = r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?";
    [
        ("uuid", r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b".to_owned()),
        // ISO 8601 in one word.
        ("time", format!(r"\b[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T{clock}(?:Z\b|[+-][0-9]{{2}}:?[0-9]{{2}}\b|\b)")),
        ("date", r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}\b|\b[0-9]{1,2}[./][0-9]{1,2}[./][0-9]{4}\b".to_owned()),
        ("date", format!(r"(?i)\b{months}\.? [0-9]{{1,2}},? [0-9]{{4}}\b|\b[0-9]{{1,2}}\.? {months} [0-9]{{4}}\b")),
        ("time", r"\b[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?\b|(?i)\b[0-9]{1,2}:[0-9]{2} ?[ap]m\b".to_owned()),
        ("timestamp", r"\b1[5-9][0-9]{8}(?:[0-9]{3})?\b".to_owned()),
        ("nonce", r"\b(?:[0-9]+[a-f]|[a-f]+[0-9])[0-9a-f]{14,}\b|\bcch=[^\s;,]+".to_owned()),
        ("counter", r"(?i)\b(?:request|turn|message|attempt|session|call)(?: (?:id|no\.?|number))?(?: ?[#:=] ?| )[0-9]+\b".to_owned()),
    ]
    .into_iter()
    .map(|(kind, pattern)| (kind, Regex::new(&pattern).expect("the pattern is a constant. This is a bug.")))
    .collect()
});

/// What a user's own pattern finds.
const PATTERN: &str = "pattern";

/// A kind of volatile text that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) kind: &'static str,
    pub(crate) count: usize,
    /// Byte offset of the first one in the text.
    pub(crate) first: usize,
}

/// A piece of volatile text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) kind: &'static str,
    pub(crate) range: Range<usize>,
}

/// Kinds that are nothing else wherever they stand.
const EVERYWHERE: [&str; 2] = ["uuid", "nonce"];

/// What looks volatile, by kind, in the order of the kinds; `patterns` are the user's own. Pieces that `but` names are
/// left out.
pub(crate) fn find(text: &str, patterns: &[&Regex], but: impl Fn(&Piece) -> bool) -> Vec<Found> {
    let looks = KINDS.iter().flat_map(|(kind, regex)| matches(kind, regex, text));
    let sure = certain(text, patterns);
    let mut found: Vec<Found> = Vec::new();
    for piece in free(sure.into_iter().chain(looks).collect()) {
        if but(&piece) {
            continue;
        }
        let Piece { kind, range } = piece;
        match found.iter_mut().find(|found| found.kind == kind) {
            Some(same) => same.count += 1,
            None => found.push(Found { kind, count: 1, first: range.start }),
        }
    }
    let order = |kind: &str| KINDS.iter().position(|(name, _)| *name == kind).unwrap_or(KINDS.len());
    found.sort_by_key(|found| order(found.kind));
    found
}

/// The pieces that may be changed, in their order; none overlaps another: what the user's own patterns name, ids that
/// are nothing else, dates and times that are said to be of the moment, and numbers behind the name of a counter.
pub(crate) fn pieces(text: &str, patterns: &[&Regex]) -> Vec<Piece> {
    free(certain(text, patterns))
}

/// A user's own pattern counts before ours.
fn certain(text: &str, patterns: &[&Regex]) -> Vec<Piece> {
    let own = patterns.iter().flat_map(|regex| matches(PATTERN, regex, text));
    let ids = KINDS.iter().filter(|(kind, _)| EVERYWHERE.contains(kind));
    let ids = ids.flat_map(|(kind, regex)| matches(kind, regex, text));
    own.chain(ids).chain(moment::now(text)).chain(moment::counters(text)).collect()
}

fn matches<'a>(kind: &'static str, regex: &'a Regex, text: &'a str) -> impl Iterator<Item = Piece> {
    regex.find_iter(text).map(move |found| Piece { kind, range: found.range() })
}

/// Those that overlap none before them.
fn free(mut pieces: Vec<Piece>) -> Vec<Piece> {
    pieces.retain(|piece| !piece.range.is_empty());
    pieces.sort_by_key(|piece| piece.range.start);
    let mut done = 0;
    pieces.retain(|piece| {
        let free = piece.range.start >= done;
        if free {
            done = piece.range.end;
        }
        free
    });
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found() {
        let text = "Now: 2024-05-15 15:00:00. May 3, 2025. Id 0f8fad5b-d9cb-469f-a165-70867728950e; request #12; \
                    x-billing cch=ab12; 1715785200";
        let kinds: Vec<(&str, usize)> =
            find(text, &[], |_| false).into_iter().map(|found| (found.kind, found.count)).collect();
        let want = [("uuid", 1), ("time", 1), ("date", 2), ("timestamp", 1), ("nonce", 1), ("counter", 1)];
        assert_eq!(kinds, want);
    }

    #[test]
    fn plain_instructions_are_not() {
        let text = "Answer in at most 3 sentences. Refunds take 5-7 days; use ISO 8601. Open 9:00 to 17:00, deadbeef.";
        assert_eq!(find(text, &[], |_| false), []);
    }

    #[test]
    fn pieces_do_not_overlap() {
        let text = "at: 2024-05-15T15:23:45.125Z, user build-2024-05-15";
        let own = Regex::new("build-[0-9-]+").unwrap();
        let pieces = pieces(text, &[&own]);
        let found: Vec<(&str, &str)> =
            pieces.into_iter().map(|piece| (piece.kind, &text[piece.range])).collect();
        assert_eq!(found, [("time", "2024-05-15T15:23:45.125Z"), ("pattern", "build-2024-05-15")]);
    }

    fn taken(text: &str) -> Vec<(&str, &str)> {
        pieces(text, &[]).into_iter().map(|piece| (piece.kind, &text[piece.range])).collect()
    }

    /// Dates, times and numbers that are instructions.
    #[test]
    fn prose_stays() {
        let prose = [
            "In an emergency tell the user to call 911. Users may request 10 items. Each message 3 sentences at \
             most. The refund law of 2023-05-01 applies.",
            "In an emergency, call: 911. Emergency call: 112. Line 1800555012 is toll free.",
            "Items per request: 10. Request: 10 items at most. Session: 30 minutes. Attempt: 3 times.",
            "Per session 5 questions; after attempt 3 give up. See message 12 of the guide, and request #5 there.",
            "We open at 9:00 AM and close at 5:30 pm, from 2024-05-15 on. Report times such as 15:23:45.",
            "Start date: 2024-05-15. The effective date is 2023-05-01. Effective-date: 2023-05-01.",
            "If today is 2024-12-25, say merry Christmas. When the current time is 12:00 PM or later, say so. \
             Pretend that today is 1999-12-31.",
            "If it is 12:00 PM or later, say good afternoon. The law of May 3, 2025 says so.",
            "Valid until: 2024-12-31T23:59:59Z; tickets before 2024-01-01T00:00:00Z are old.",
            "Write the current date as 2024-05-15. Today is a good day; the deadline is 2024-06-01.",
            "Today is not 2024-05-15. The current time zone is UTC, 15:00:00 there is late.",
        ];
        for text in prose {
            assert_eq!(taken(text), [], "{text}");
        }
    }

    #[test]
    fn what_is_of_the_moment_is_taken() {
        let (date, time) = (("date", "2024-05-15"), ("time", "15:23:45"));
        let cases: [(&str, &[(&str, &str)]); 17] = [
            ("Today is 2024-05-15.", &[date]),
            ("For you: today's date is Wednesday, May 15, 2024.", &[("date", "May 15, 2024")]),
            ("The current date and time is 2024-05-15 15:23:45 UTC.", &[date, time]),
            ("Current time: 15:23", &[("time", "15:23")]),
            (
                "The current date is 2024-05-15, and the current time is 3:23 pm.",
                &[date, ("time", "3:23 pm")],
            ),
            ("Be brief. Date: 2024-05-15\n- **Time**: 15:23:45", &[date, time]),
            ("date=2024-05-15, time=15:23:45", &[date, time]),
            ("It is 15:23:45 on 2024-05-15. Since 2024-05-15 we ship.", &[time, date]),
            (r#"{"now": "2024-05-15T15:23:45Z", "from": "2024-01-01"}"#, &[("time", "2024-05-15T15:23:45Z")]),
            ("generated_at: 2024-05-15T15:23+02:00", &[("time", "2024-05-15T15:23+02:00")]),
            ("<current_date>2024-05-15</current_date>", &[date]),
            ("Timestamp: 1715785200", &[("timestamp", "1715785200")]),
            ("Request id: 123", &[("counter", "Request id: 123")]),
            ("Session #42 has begun.", &[("counter", "Session #42")]),
            (
                "This is attempt no. 3 of it; request_id=77",
                &[("counter", "attempt no. 3"), ("counter", "request_id=77")],
            ),
            ("Turn: 7\nmessage number: 8, go", &[("counter", "Turn: 7"), ("counter", "message number: 8")]),
            (
                "cch=ab12 by 0f8fad5b-d9cb-469f-a165-70867728950e",
                &[("nonce", "cch=ab12"), ("uuid", "0f8fad5b-d9cb-469f-a165-70867728950e")],
            ),
        ];
        for (text, want) in cases {
            assert_eq!(taken(text), want, "{text}");
        }
    }

    /// What is named in place of a piece makes nothing else one.
    #[test]
    fn what_is_left_has_none() {
        let text = "Date: 2024-05-15 Time: 15:23:45 now: 2024-05-15T15:23:45Z Session #4 #5 turn: 6";
        let strip = |text: &str| {
            let mut left = text.to_owned();
            for Piece { kind, range } in pieces(text, &[]).into_iter().rev() {
                left.replace_range(range, &format!("[{kind}]"));
            }
            left
        };
        let once = strip(text);
        assert!(once.starts_with("Date: [date] Time: [time]"), "{once}");
        assert_eq!(strip(&once), once);
    }
}
