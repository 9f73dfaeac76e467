//! The summary of what was said: gathered, corrected, chosen.

use std::collections::HashSet;

use super::choose::{fitting, superseded};
use super::identifiers::identifiers;
use super::ledger::names_of;
use super::lines::{Said, carried, is_marker, told};
use crate::Tokens;

/// Lines `- ...` of at most `max_tokens` as `count` counts them; empty where nothing fits or is worth keeping.
pub(super) fn summary(
    said: &[Said<'_>],
    previous: Option<&str>,
    max_tokens: Tokens,
    count: &dyn Fn(&str) -> Tokens,
) -> String {
    let mut lines = previous.map(carried).unwrap_or_default();
    lines.extend(said.iter().flat_map(told));
    let (lines, gone) = superseded(lines);
    let retracted: HashSet<&str> = gone.iter().flat_map(|line| identifiers(&line.text)).collect();
    let noted = previous.into_iter().flat_map(str::lines).filter_map(names_of).flatten();
    let lines_said = said.iter().flat_map(|said| said.text.lines()).filter(|line| !is_marker(line));
    let told = lines_said.flat_map(identifiers);
    let mut seen = HashSet::new();
    let names = noted.chain(told).filter(|name| !retracted.contains(name) && seen.insert(*name));
    let names: Vec<&str> = names.collect();
    fitting(&lines, &names, max_tokens, count)
}
