//! Search results keep the first hits of each file: one of every file, then a second of every file, and so on.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;

use super::lines::{Lines, by_rank};

/// How a search tool writes its hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Search {
    /// `path:12:text`, as grep writes into a pipe; context lines `path-12-text` belong to the hit before them.
    Prefixed,
    /// The path on a line of its own, `12:text` below it, as ripgrep writes to a terminal.
    Headed,
}

impl Search {
    /// Whether these lines are search results, and of which form.
    pub(super) fn of(lines: &[&str]) -> Option<Self> {
        let filled: Vec<&str> =
            lines.iter().copied().filter(|line| !line.trim().is_empty() && *line != "--").collect();
        if filled.len() < 5 {
            return None;
        }
        let most = |count: usize| count * 10 >= filled.len() * 6;
        let prefixed: Vec<Option<&str>> = filled.iter().map(|line| path_of(line)).collect();
        if most(prefixed.iter().flatten().count()) || most(with_context(&filled)) {
            return Some(Self::Prefixed);
        }
        let hits = filled.iter().filter(|line| is_numbered(line)).count();
        let heads = lines.windows(2).filter(|pair| is_head(pair[0], pair[1])).count();
        (most(hits) && heads >= 2).then_some(Self::Headed)
    }

    /// The lines, first hits first.
    pub(super) fn lines(self, text: &str) -> Lines<'_> {
        let lines: Vec<&str> = text.lines().collect();
        let ranks = match self {
            Self::Prefixed => prefixed(&lines),
            Self::Headed => headed(&lines),
        };
        Lines { order: by_rank(&ranks), lines, gaps: false }
    }
}

/// Each hit ranks by its number within its file; what is around a hit comes after all hits.
fn prefixed(lines: &[&str]) -> Vec<usize> {
    let mut hits: HashMap<&str, usize> = HashMap::new();
    let mut rank = |path| {
        let count = hits.entry(path).or_insert(0);
        *count += 1;
        *count
    };
    lines.iter().map(|line| path_of(line).map_or(usize::MAX / 2, &mut rank)).collect()
}

/// A path ranks with its first hit.
fn headed(lines: &[&str]) -> Vec<usize> {
    let mut hit = 0;
    let rank = |(index, line): (usize, &&str)| {
        if is_head(line, lines.get(index + 1).copied().unwrap_or_default()) {
            hit = 0;
            return 1;
        }
        if is_numbered(line) {
            hit += 1;
            return hit;
        }
        usize::MAX / 2
    };
    lines.iter().enumerate().map(rank).collect()
}

/// The path that a hit names.
fn path_of(line: &str) -> Option<&str> {
    static HIT: LazyLock<Regex> = LazyLock::new(|| pattern(r"^([^\s:]*[/.][^\s:]*):\d+:"));
    let line = &line[..line.floor_char_boundary(400)];
    HIT.captures(line)?.get(1).map(|path| path.as_str())
}

/// Hits together with their context lines, where the path of a context line is one that a hit names too.
fn with_context(lines: &[&str]) -> usize {
    static CONTEXT: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(\S*[/.]\S*?)-\d+-"));
    let paths: Vec<&str> = lines.iter().filter_map(|line| path_of(line)).collect();
    let known = |path: &str| paths.contains(&path);
    let context = |line: &&&str| {
        CONTEXT.captures(line).and_then(|found| found.get(1)).is_some_and(|path| known(path.as_str()))
    };
    paths.len() + lines.iter().filter(context).count()
}

fn is_numbered(line: &str) -> bool {
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    rest.len() < line.len() && rest.starts_with([':', '-'])
}

fn is_head(line: &str, next: &str) -> bool {
    let path = line.contains(['/', '.']) && !line.contains(' ') && !is_numbered(line);
    path && is_numbered(next)
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is valid. This is a bug.")
}
