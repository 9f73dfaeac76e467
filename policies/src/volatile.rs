//! Text that changes from request to request at the head of a prompt: everything after it is computed again.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

/// What kinds there are and how they look. Where two begin together the first named counts.
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

/// Volatile text, by kind, in the order of the kinds; `patterns` are the user's own.
pub(crate) fn find(text: &str, patterns: &[&Regex]) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for Piece { kind, range } in pieces(text, patterns) {
        match found.iter_mut().find(|found| found.kind == kind) {
            Some(same) => same.count += 1,
            None => found.push(Found { kind, count: 1, first: range.start }),
        }
    }
    let order = |kind: &str| KINDS.iter().position(|(name, _)| *name == kind).unwrap_or(KINDS.len());
    found.sort_by_key(|found| order(found.kind));
    found
}

/// The pieces of volatile text, in their order; none overlaps another. A user's own pattern counts before ours.
pub(crate) fn pieces(text: &str, patterns: &[&Regex]) -> Vec<Piece> {
    let own = patterns.iter().map(|regex| (PATTERN, *regex));
    let all = own.chain(KINDS.iter().map(|(kind, regex)| (*kind, regex)));
    let mut pieces: Vec<Piece> = all
        .flat_map(|(kind, regex)| {
            regex.find_iter(text).map(move |found| Piece { kind, range: found.range() })
        })
        .filter(|piece| !piece.range.is_empty())
        .collect();
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

/// A time of day, or a count of seconds, rounded down to a whole `interval` of seconds; every other character stays.
/// None where the piece holds no time.
pub(crate) fn rounded(kind: &str, text: &str, interval: u64) -> Option<String> {
    match kind {
        "timestamp" => {
            let number: u64 = text.parse().ok()?;
            // Thirteen digits are milliseconds.
            let step = if text.len() > 10 { interval * 1000 } else { interval };
            Some((number - number % step).to_string())
        }
        "time" => rounded_clock(text, interval),
        _ => None,
    }
}

static CLOCK: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r"(?i)([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]+))?)?(?: ?([ap])m)?";
    Regex::new(pattern).expect("the pattern is a constant. This is a bug.")
});

fn rounded_clock(text: &str, interval: u64) -> Option<String> {
    // In ISO 8601 the clock follows the T, and an offset may follow the clock.
    let start = text.find('T').map_or(0, |at| at + 1);
    let clock = CLOCK.captures(&text[start..])?;
    let number = |group: usize| clock.get(group).map_or(Some(0), |found| found.as_str().parse::<u64>().ok());
    let (hour, minute, second) = (number(1)?, number(2)?, number(3)?);
    let half = clock.get(5).map(|half| half.as_str().to_ascii_lowercase());
    let hour = match half.as_deref() {
        Some("a") => hour % 12,
        Some(_) => hour % 12 + 12,
        None => hour,
    };
    let seconds = hour * 3600 + minute * 60 + second;
    let seconds = seconds - seconds % interval;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let shown = if half.is_some() { (hour + 11) % 12 + 1 } else { hour };
    let mut rounded = text.to_owned();
    // From the end, so that no place moves.
    let mut put = |group: usize, value: String| {
        if let Some(found) = clock.get(group) {
            rounded.replace_range(start + found.start()..start + found.end(), &value);
        }
    };
    // Its case stays where the half does.
    if half.as_deref().is_some_and(|half| (half == "a") != (hour < 12)) {
        put(5, if hour < 12 { "a" } else { "p" }.to_owned());
    }
    put(4, "0".repeat(clock.get(4).map_or(0, |fraction| fraction.len())));
    put(3, format!("{second:02}"));
    put(2, format!("{minute:02}"));
    let width = clock[1].len();
    put(1, format!("{shown:0width$}"));
    Some(rounded)
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
        let want = [("uuid", 1), ("time", 1), ("date", 2), ("timestamp", 1), ("nonce", 1), ("counter", 1)];
        assert_eq!(kinds, want);
    }

    #[test]
    fn plain_instructions_are_not() {
        let text = "Answer in at most 3 sentences. Refunds take 5-7 days; use ISO 8601. Open 9:00 to 17:00, deadbeef.";
        assert_eq!(find(text, &[]), []);
    }

    #[test]
    fn pieces_do_not_overlap() {
        let text = "at 2024-05-15T15:23:45.125Z, user build-2024-05-15";
        let own = Regex::new("build-[0-9-]+").unwrap();
        let pieces = pieces(text, &[&own]);
        let found: Vec<(&str, &str)> =
            pieces.into_iter().map(|piece| (piece.kind, &text[piece.range])).collect();
        assert_eq!(found, [("time", "2024-05-15T15:23:45.125Z"), ("pattern", "build-2024-05-15")]);
    }

    #[test]
    fn times_are_rounded_down() {
        let hour = [
            ("15:23:45", "15:00:00"),
            ("9:05:59", "9:00:00"),
            ("2024-05-15T15:23:45.125Z", "2024-05-15T15:00:00.000Z"),
            ("2024-05-15T15:23+02:30", "2024-05-15T15:00+02:30"),
            ("3:59 PM", "3:00 PM"),
            ("12:30 am", "12:00 am"),
        ];
        for (text, want) in hour {
            assert_eq!(rounded("time", text, 3600).as_deref(), Some(want));
        }
        assert_eq!(rounded("time", "3:59 pm", 24 * 3600).as_deref(), Some("12:00 am"));
        assert_eq!(rounded("time", "15:23:45", 900).as_deref(), Some("15:15:00"));
        assert_eq!(rounded("timestamp", "1715785245", 3600).as_deref(), Some("1715785200"));
        assert_eq!(rounded("timestamp", "1715785245123", 60).as_deref(), Some("1715785200000"));
        assert_eq!(rounded("uuid", "0f8fad5b", 3600), None);
    }
}
