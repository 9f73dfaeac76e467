//! The lines that a summary may hold: those of the former summary, then what each message says.

use std::borrow::Cow;

use super::cues::{Kind, Speaker, is_correction, kind, subject};
use super::ledger::names_of;
use super::sentences::{lines, sentences};

/// Pieces of one user message, and of any other one, that may outrank a mere detail: a pasted page or a long log must
/// not crowd out the rest.
const LEADING_OF_USER: usize = 8;
const LEADING_OF_OTHERS: usize = 3;

/// One thing that one speaker said.
pub(super) struct Said<'a> {
    pub(super) speaker: Speaker,
    pub(super) text: Cow<'a, str>,
}

/// A line that may go into the summary.
pub(super) struct Line {
    pub(super) speaker: Speaker,
    pub(super) text: String,
    pub(super) kind: Kind,
    /// How many lines of the same message stand before this one.
    pub(super) depth: usize,
    /// Whether it comes from the former summary.
    pub(super) carried: bool,
    pub(super) correction: bool,
    /// What it tells about, where that can be told.
    pub(super) subject: Option<String>,
}

impl Line {
    fn new(speaker: Speaker, text: &str, kind: Kind, depth: usize) -> Self {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let tells =
            matches!(speaker, Speaker::User | Speaker::Assistant | Speaker::Note) && kind != Kind::Request;
        let subject = if tells { subject(&text) } else { None };
        let correction = speaker == Speaker::User && tells && is_correction(&text);
        Self { speaker, text, kind, depth, carried: false, correction, subject }
    }

    /// As it stands in the summary.
    pub(super) fn render(&self) -> String {
        let asked = self.speaker == Speaker::User && self.kind == Kind::Request;
        format!("- {}{}", if asked { ASKED } else { prefix(self.speaker) }, self.text)
    }
}

/// Tells what the user wants from what the user says.
const ASKED: &str = "user asked: ";

fn prefix(speaker: Speaker) -> &'static str {
    match speaker {
        Speaker::User => "user: ",
        Speaker::Assistant => "assistant: ",
        Speaker::Call => "assistant called ",
        Speaker::Tool => "tool: ",
        Speaker::Note => "",
    }
}

/// The lines of a former summary. It may be a model's: bullets of any kind, or none.
pub(super) fn carried(previous: &str) -> Vec<Line> {
    let lines = previous
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !is_heading(line) && !is_marker(line) && names_of(line).is_none());
    lines.map(|line| carried_line(without_bullet(line))).collect()
}

fn carried_line(line: &str) -> Line {
    if let Some(request) = line.strip_prefix(ASKED) {
        return Line { carried: true, ..Line::new(Speaker::User, request, Kind::Request, 0) };
    }
    let speakers = [Speaker::User, Speaker::Assistant, Speaker::Call, Speaker::Tool];
    let named = speakers.into_iter().find_map(|speaker| Some((speaker, line.strip_prefix(prefix(speaker))?)));
    let (speaker, text) = named.unwrap_or((Speaker::Note, line));
    let kind = kind(speaker, text).unwrap_or(Kind::Detail);
    Line { carried: true, ..Line::new(speaker, text, kind, 0) }
}

fn is_heading(line: &str) -> bool {
    line.ends_with(':') && without_bullet(line) == line
}

/// What a policy left where it took text away tells nothing about the conversation.
pub(super) fn is_marker(line: &str) -> bool {
    line.starts_with("[plimsoll:")
}

fn without_bullet(line: &str) -> &str {
    let numbered = line.split_once(". ").filter(|(number, _)| number.bytes().all(|b| b.is_ascii_digit()));
    let bulleted = ["- ", "* ", "• "].iter().find_map(|bullet| line.strip_prefix(bullet));
    bulleted.or(numbered.map(|(_, rest)| rest)).unwrap_or(line)
}

/// What is worth keeping of one message.
pub(super) fn told(said: &Said<'_>) -> Vec<Line> {
    let pieces: Vec<&str> = match said.speaker {
        Speaker::Tool => lines(&said.text).collect(),
        // The name and the first arguments tell what was done; a file's whole text does not.
        Speaker::Call => lines(&said.text).take(1).collect(),
        _ => sentences(&said.text).collect(),
    };
    let leading = if said.speaker == Speaker::User { LEADING_OF_USER } else { LEADING_OF_OTHERS };
    let mut found: Vec<Line> = Vec::new();
    let mut outranking = 0;
    let worthy = pieces.iter().filter(|piece| !is_marker(piece));
    for (piece, kind) in worthy.filter_map(|piece| Some((piece, kind(said.speaker, piece)?))) {
        // Details before it do not count: the one error of a long log stands at its end.
        let kind = if outranking < leading { kind } else { kind.max(Kind::Detail) };
        outranking += usize::from(kind < Kind::Detail);
        found.push(Line::new(said.speaker, piece, kind, found.len()));
    }
    found
}
