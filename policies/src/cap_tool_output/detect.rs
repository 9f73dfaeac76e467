//! Tells what a tool result is from its look: JSON by parsing it, all else from a sample of its lines.

use std::sync::LazyLock;

use regex::Regex;

use super::json::Json;
use super::search::Search;

/// Lines looked at from each end.
const SAMPLE: usize = 200;
/// Bytes of a line looked at.
const WIDTH: usize = 300;

/// What a result is.
pub(super) enum Kind {
    Json(Json),
    Diff,
    Search(Search),
    Log,
    Text,
}

/// The kind of a text.
pub(super) fn kind(text: &str) -> Kind {
    if let Some(json) = Json::read(text) {
        return Kind::Json(json);
    }
    let sample = sample(text);
    if is_diff(&sample) {
        return Kind::Diff;
    }
    if let Some(search) = Search::of(&sample) {
        return Kind::Search(search);
    }
    if is_log(&sample) { Kind::Log } else { Kind::Text }
}

/// The first and the last lines.
fn sample(text: &str) -> Vec<&str> {
    let clip = |line: &'_ str| line.floor_char_boundary(WIDTH);
    let mut lines: Vec<&str> = text.lines().take(SAMPLE).collect();
    let rest = lines.last().map_or("", |last| {
        let end = last.as_ptr().addr() - text.as_ptr().addr() + last.len();
        &text[end..]
    });
    let tail: Vec<&str> = rest.trim_start_matches(['\r', '\n']).lines().rev().take(SAMPLE).collect();
    lines.extend(tail.into_iter().rev());
    lines.into_iter().map(|line| &line[..clip(line)]).collect()
}

/// A unified diff: git's header, or a file's two names above a hunk.
fn is_diff(lines: &[&str]) -> bool {
    let header = |line: &&str| line.starts_with("diff --git ") || line.starts_with("diff -");
    let hunk = |line: &&str| line.starts_with("@@ -");
    let names = lines.windows(2).any(|pair| pair[0].starts_with("--- ") && pair[1].starts_with("+++ "));
    lines.iter().any(hunk) && (names || lines.iter().any(header))
}

/// Half of its lines carry a time or a level, or one of them reports an error.
fn is_log(lines: &[&str]) -> bool {
    static ENTRY: LazyLock<Regex> = LazyLock::new(|| {
        let time = r"^[\[(]?(?:\d{4}[-/]\d\d[-/]\d\d|\d\d/[A-Z][a-z]{2}/\d{4}|\d\d:\d\d:\d\d|[A-Z][a-z]{2} [ \d]\d \d\d:)";
        let level = r"^.{0,60}(?-u:\b)(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|CRITICAL)(?-u:\b)";
        Regex::new(&format!("{time}|{level}")).expect("the pattern is valid. This is a bug.")
    });
    if lines.len() < 8 {
        return false;
    }
    let entries = lines.iter().filter(|line| ENTRY.is_match(line)).count();
    entries * 2 >= lines.len() || lines.iter().any(|line| super::log::reports_error(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> &'static str {
        match kind(text) {
            Kind::Json(_) => "json",
            Kind::Diff => "diff",
            Kind::Search(_) => "search",
            Kind::Log => "log",
            Kind::Text => "text",
        }
    }

    #[test]
    fn real_shapes_are_told_apart() {
        let repeat = |line: &str, count: usize| vec![line; count].join("\n");
        let cases = [
            ("json", r#" {"rows": [1, 2.50, {"a": null}]} "#.to_owned()),
            ("json", "[\n  {\"id\": 1}\n]\n".to_owned()),
            ("text", r#"{"rows": [1, 2, "#.to_owned()),
            ("text", "42".to_owned()),
            (
                "diff",
                "diff --git a/x b/x\nindex 1..2 100644\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n".to_owned(),
            ),
            ("diff", "--- x\t2026-01-01\n+++ y\t2026-01-02\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n".to_owned()),
            ("search", repeat("src/main.rs:12:    let x = 1;\nsrc/main.rs-13-    y", 6)),
            ("search", repeat("./a/b.py:7: import os", 8)),
            ("search", repeat("src/main.rs\n12:    let x = 1;\n40:    let y = 2;\n41:z\n", 4)),
            ("log", repeat("2026-11-21T10:00:00Z INFO start request id=7", 9)),
            ("log", repeat("[10:00:00] done", 9)),
            ("log", repeat("Nov 21 10:00:00 host sshd[7]: accepted", 9)),
            (
                "log",
                format!(
                    "{}\nerror[E0308]: mismatched types\n --> src/x.rs:1:2\n",
                    repeat("   Compiling x v1", 9)
                ),
            ),
            (
                "log",
                format!("{}\nTraceback (most recent call last):\n  File \"x\", line 1\n", repeat("ok", 9)),
            ),
            ("text", repeat("    fn error(&self) -> Error { self.error }", 30)),
            ("text", repeat("The quick brown fox: 12 of them. See also a/b.", 30)),
            ("text", repeat("# Heading\n\n- item: a\n", 30)),
            ("text", String::new()),
        ];
        for (want, text) in cases {
            assert_eq!(name(&text), want, "{text}");
        }
    }
}
