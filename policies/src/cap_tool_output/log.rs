//! A log keeps its first lines, its first error with what follows it, and its tail.

use std::sync::LazyLock;

use regex::Regex;

use super::lines::Lines;

/// Share of the start that goes to the first lines where there is an error.
const FIRST: f64 = 0.25;

/// The lines of a log; `head` is the share that the start and the first error have.
pub(super) fn lines(text: &str, head: f64) -> Lines<'_> {
    let lines: Vec<&str> = text.lines().collect();
    let count = lines.len();
    let error = lines.iter().position(|line| reports_error(line));
    // The error and what it says next come before what led to it.
    let at = error.unwrap_or(count);
    let around =
        (at..count).take(2).chain(at.checked_sub(1).filter(|_| at < count)).chain((at + 2).min(count)..count);
    let first = if error.is_some() { head * FIRST } else { head };
    let runs = [
        Run { lines: Box::new(around), share: head - first, taken: 0 },
        Run { lines: Box::new((0..count).rev()), share: 1.0 - head, taken: 0 },
        Run { lines: Box::new(0..at), share: first, taken: 0 },
    ];
    let order = interleave(&lines, runs);
    Lines { lines, order, gaps: true }
}

/// Whether a line reports an error, as loggers, compilers, test runners and interpreters write it.
pub(super) fn reports_error(line: &str) -> bool {
    static ERROR: LazyLock<Regex> = LazyLock::new(|| {
        let level = r"^.{0,80}?(?-u:\b)(?:ERROR|FATAL|CRITICAL|SEVERE|FAILED|FAIL)(?-u:\b)";
        let opening =
            r"^\s*(?i:error|fatal|fatal error|traceback|panic|exception|npm err!)(?: \(| ?[:\[!]|\[)";
        let typed = r"^\s*[\w.]{0,80}(?:Error|Exception): |panicked at|: (?:fatal )?error: |^npm ERR!";
        Regex::new(&format!("{level}|{opening}|{typed}")).expect("the pattern is valid. This is a bug.")
    });
    ERROR.is_match(&line[..line.floor_char_boundary(400)])
}

/// Lines in the order in which one part of the log takes them.
struct Run {
    lines: Box<dyn Iterator<Item = usize>>,
    /// Of all bytes that are kept.
    share: f64,
    taken: usize,
}

/// Takes lines from the runs in turn, so that at any length each has its share; every line once.
fn interleave(lines: &[&str], mut runs: [Run; 3]) -> Vec<usize> {
    let mut taken = vec![false; lines.len()];
    let mut order = Vec::with_capacity(lines.len());
    while order.len() < lines.len() {
        // The run that is furthest behind its share; exhausted ones have none.
        let behind = |run: &Run| (run.taken as f64 + 1.0) / run.share.max(f64::MIN_POSITIVE);
        let Some(run) = runs
            .iter_mut()
            .filter(|run| run.share >= 0.0)
            .min_by(|one, other| behind(one).total_cmp(&behind(other)))
        else {
            break;
        };
        match run.lines.find(|&index| !taken[index]) {
            Some(index) => {
                taken[index] = true;
                run.taken += lines[index].len() + 1;
                order.push(index);
            }
            None => run.share = -1.0,
        }
    }
    order
}
