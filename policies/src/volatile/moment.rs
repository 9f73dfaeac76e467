//! Dates, times and numbers that a text says are of the moment: `today is`, `current time`, `date:`, `session #42`.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::Piece;

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is a constant. This is a bug.")
}

/// What stands around a label in Markdown, JSON and YAML.
const MARKS: &str = r#"["'*_`]*"#;

/// How a text says that the present follows.
struct Lead {
    regex: Regex,
    /// Whether it must begin a line, a sentence or a list: `date:`, not `start date:`.
    first: bool,
    /// Whether only a whole ISO 8601 time follows.
    iso: bool,
}

static LEADS: LazyLock<[Lead; 4]> = LazyLock::new(|| {
    let stamp = r"date(?:[ _/-]?(?:and[ _-])?time)?|time[ _-]?stamp|time|now|today|ts|epoch";
    let of = r"(?:current|system|server|local|utc|today['’]s)[ _-]?";
    let sign = format!(r"{MARKS}[ \t]*[:=][ \t]*{MARKS}");
    // A rule for another day names a condition.
    let unless = r"(?:\b(?P<rule>if|when|whenever|unless|once|until|till|whether|while|after|before|as if|assume|pretend|suppose|imagine|say)(?: that)? (?:the )?)?";
    let said = format!(
        r"\btoday(?:['’]s date)? is|\btoday['’]s date|\b{of}(?:date and time|date/time|datetime|date|time|day|time ?stamp)(?: is)?(?: now)?|\b(?:right )?now is|\bit(?: is|['’]s) (?:now|currently)|\bthe (?:date|time)(?: now)? is(?: now)?"
    );
    let lead = |pattern: &str, first, iso| Lead { regex: regex(pattern), first, iso };
    [
        lead(&format!(r"(?i){unless}(?:{said}){MARKS}[ \t]*[:=]?[ \t]*{MARKS}"), false, false),
        lead(&format!(r"(?i)<(?:{of})?(?:{stamp})>[ \t]*"), false, false),
        lead(&format!(r"(?i)\b(?:(?:{of})*(?:{stamp}){sign}|it(?: is|['’]s) )"), true, false),
        lead(
            &format!(r"(?i)(?:\b|_)(?:{stamp}|at|generated|rendered|sent|requested|started|as of){sign}"),
            false,
            true,
        ),
    ]
});

/// What a lead leads to, where it begins. Where two begin together the first named counts.
static VALUES: LazyLock<[(&str, Regex); 4]> = LazyLock::new(|| {
    let months = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*";
    let iso = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?:Z\b|[+-][0-9]{2}:?[0-9]{2}\b|\b)";
    let day = format!(
        r"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}\b|[0-9]{{1,2}}[./][0-9]{{1,2}}[./][0-9]{{4}}\b|{months}\.? [0-9]{{1,2}},? [0-9]{{4}}\b|[0-9]{{1,2}}\.? {months} [0-9]{{4}}\b"
    );
    [
        ("time", regex(&format!("^(?:{iso})"))),
        ("date", regex(&format!("(?i)^(?:{day})"))),
        ("time", regex(r"(?i)^[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?: ?[ap]m)?\b")),
        ("timestamp", regex(r"^1[5-9][0-9]{8}(?:[0-9]{3})?\b")),
    ]
});

static WEEKDAY: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?i)^(?:(?:on )?(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,? +)?(?:the )?"));

/// Between a date and its time.
static BETWEEN: LazyLock<Regex> = LazyLock::new(|| {
    let between = r#"(?i)^(?:,? +(?:at|on) +|,? +and (?:the |it )?(?:current )?(?:time |date )?is +|,? +(?:current )?(?:time|date)["'*_`]* ?[:=] *|,? *\(|,? +)"#;
    regex(between)
});

/// Dates and times of the moment.
pub(super) fn now(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for lead in LEADS.iter() {
        for found in lead.regex.captures_iter(text) {
            let Some(whole) = found.get(0) else { continue };
            if found.name("rule").is_some() || (lead.first && !begins(&text[..whole.start()])) {
                continue;
            }
            let from = whole.end() + WEEKDAY.find(&text[whole.end()..]).map_or(0, |day| day.len());
            let Some(piece) = value(text, from) else { continue };
            if lead.iso && !text[piece.range.clone()].contains('T') {
                continue;
            }
            let second = joined(text, &piece);
            pieces.push(piece);
            pieces.extend(second);
        }
    }
    pieces
}

fn value(text: &str, from: usize) -> Option<Piece> {
    VALUES.iter().find_map(|(kind, regex)| {
        let length = regex.find(&text[from..])?.len();
        Some(Piece { kind, range: from..from + length })
    })
}

/// The time behind a date, or the date behind a time.
fn joined(text: &str, first: &Piece) -> Option<Piece> {
    let Range { start, end } = first.range.clone();
    let length = BETWEEN.find_iter(&text[end..]).map(|found| found.len()).next()?;
    let second = value(text, end + length)?;
    let whole = |piece: &Piece| text[piece.range.clone()].contains('T') || piece.kind == "timestamp";
    (second.kind != first.kind && !whole(&second) && !text[start..end].contains('T')).then_some(second)
}

/// Whether a label may begin behind this text: a line, a sentence, an element of a list.
fn begins(before: &str) -> bool {
    let before = before.trim_end_matches([' ', '\t', '*', '_', '"', '\'', '#', '`', '-']);
    before.is_empty()
        || before.ends_with(['\n', '\r', '.', ',', ';', ':', '!', '?', '(', '[', '{', '<', '>', '|'])
}

static COUNTER: LazyLock<Regex> = LazyLock::new(|| {
    // A sign makes a label, and so does a word for a number with one; `request 10` is prose.
    let number = r"(?:[ _-]?(?P<number>id|no\.|number|count|index))?";
    regex(&format!(
        r"(?i)(?P<this>\b(?:this is|current)(?: the)? )?\b(?P<piece>(?:request|turn|message|attempt|session|call){number}{MARKS} ?(?P<sign>[#:=])?{MARKS} ?#?[0-9]+\b)"
    ))
});

/// Numbers behind the name of a counter.
pub(super) fn counters(text: &str) -> Vec<Piece> {
    let labelled = COUNTER.captures_iter(text).filter_map(|found| {
        let (whole, piece) = (found.get(0)?, found.name("piece")?);
        let number = found.name("number").map(|number| number.as_str().to_ascii_lowercase());
        let sign = found.name("sign").map(|sign| sign.as_str());
        let numbered =
            number.is_some() && (sign.is_some() || matches!(number.as_deref(), Some("id" | "no.")));
        // `Request: 10 items` is a rule: nothing may follow such a number.
        let label = numbered || sign == Some("#") || (sign.is_some() && ends(&text[piece.end()..]));
        let called =
            sign != Some("#") && number.is_none() && piece.as_str().to_ascii_lowercase().starts_with("call");
        let first = found.name("this").is_some() || begins(&text[..whole.start()]);
        (label && !called && first).then(|| Piece { kind: "counter", range: piece.range() })
    });
    labelled.collect()
}

/// Whether a label's value ends where this text begins.
fn ends(after: &str) -> bool {
    let mut after = after.chars();
    match after.next() {
        None | Some('\n' | '\r' | ',' | ';' | ')' | ']' | '}' | '|' | '"' | '\'' | '<') => true,
        Some('.') => !after.next().is_some_and(|next| next.is_ascii_digit()),
        Some(_) => false,
    }
}
