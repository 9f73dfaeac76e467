//! The summary of what was said: gathered, corrected, chosen.

use super::choose::{fitting, without_superseded};
use super::lines::{Said, carried, told};
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
    fitting(&without_superseded(lines), max_tokens, count)
}
