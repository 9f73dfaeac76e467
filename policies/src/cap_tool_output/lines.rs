//! Lines of a result, of which the most important are kept in their order.

use super::fit::Shrink;

/// Stands for lines that were left out elsewhere than at the marker.
const GAP: &str = "[...]";
/// No line takes more than this part of what is kept.
const LINE_SHARE: usize = 6;
/// A line is not cut shorter than this.
const LINE_MIN: usize = 80;

/// Lines and which of them matter most.
pub(super) struct Lines<'t> {
    pub(super) lines: Vec<&'t str>,
    /// All their numbers, the most important first.
    pub(super) order: Vec<usize>,
    /// Whether the marker stands at the largest gap and others are shown too; else it stands at the end.
    pub(super) gaps: bool,
}

impl Shrink for Lines<'_> {
    fn len(&self) -> usize {
        self.lines.iter().map(|line| line.len() + 1).sum()
    }

    fn draft(&self, bytes: usize, marker: &str) -> String {
        let width = (bytes / LINE_SHARE).max(LINE_MIN);
        let mut kept = vec![false; self.lines.len()];
        let mut used = 0;
        for &index in &self.order {
            used += self.lines[index].len().min(width) + 1;
            if used > bytes {
                break;
            }
            kept[index] = true;
        }
        let place = if self.gaps { largest_gap(&self.lines, &kept) } else { None };
        self.write(&kept, width, place, marker)
    }
}

impl Lines<'_> {
    fn write(&self, kept: &[bool], width: usize, place: Option<usize>, marker: &str) -> String {
        let mut text = String::new();
        let mut open = false;
        for (index, line) in self.lines.iter().enumerate() {
            if kept[index] {
                push_clipped(&mut text, line, width);
                open = false;
            } else if Some(index) == place {
                push_line(&mut text, marker);
                open = true;
            } else if !open && self.gaps {
                push_line(&mut text, GAP);
                open = true;
            }
        }
        if place.is_none() {
            push_line(&mut text, marker);
        }
        text
    }
}

/// The first line of the longest run of lines that were left out.
fn largest_gap(lines: &[&str], kept: &[bool]) -> Option<usize> {
    let (mut best, mut start, mut bytes) = (None, 0, 0);
    let mut largest = 0;
    for (index, line) in lines.iter().enumerate() {
        if kept[index] {
            (start, bytes) = (index + 1, 0);
            continue;
        }
        bytes += line.len() + 1;
        if bytes > largest {
            (best, largest) = (Some(start), bytes);
        }
    }
    best
}

fn push_line(text: &mut String, line: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(line);
}

fn push_clipped(text: &mut String, line: &str, width: usize) {
    if line.len() <= width {
        return push_line(text, line);
    }
    push_line(text, &line[..line.floor_char_boundary(width.saturating_sub(GAP.len()))]);
    text.push_str(GAP);
}

/// Puts numbers in order by rank, keeping the order within a rank.
pub(super) fn by_rank(ranks: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..ranks.len()).collect();
    order.sort_by_key(|&index| ranks[index]);
    order
}
