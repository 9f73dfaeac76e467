//! A diff keeps the headers of its files, then its hunks, then changed lines of every hunk in turn.

use super::lines::{Lines, by_rank};

/// The lines of a unified diff.
pub(super) fn lines(text: &str) -> Lines<'_> {
    let lines: Vec<&str> = text.lines().collect();
    let mut ranks = Vec::with_capacity(lines.len());
    // Lines of the hunk so far, of each sort.
    let (mut in_hunk, mut changed, mut context) = (false, 0, 0);
    for (index, line) in lines.iter().enumerate() {
        let next = lines.get(index + 1).copied().unwrap_or_default();
        if starts_file(line, next) {
            in_hunk = false;
        }
        let rank = if line.starts_with("@@ -") {
            (in_hunk, changed, context) = (true, 0, 0);
            1
        } else if !in_hunk {
            0
        } else if line.starts_with(['+', '-']) {
            changed += 1;
            1 + changed
        } else {
            context += 1;
            // After every changed line of any hunk.
            usize::MAX / 2 + context
        };
        ranks.push(rank);
    }
    Lines { order: by_rank(&ranks), lines, gaps: true }
}

/// A removed line may begin with `-- ` too: a file's old name has the new one below it.
fn starts_file(line: &str, next: &str) -> bool {
    line.starts_with("diff -") || (line.starts_with("--- ") && next.starts_with("+++ "))
}
