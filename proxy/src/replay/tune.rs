//! Which water marks a recording asks for.

use plimsoll_policies::config::{FitContext, Step};

use super::tally::{Marks, Row, ratio};

/// High and low marks that are tried.
const HIGH: [f64; 3] = [0.85, 0.95, 1.0];
const LOW: [f64; 5] = [0.3, 0.4, 0.5, 0.6, 0.7];
/// Prefilled tokens that differ by less are the same: recall decides.
const SAME: f64 = 0.01;

/// The steps of a policy with every pair of marks.
pub fn grid(steps: &[Step]) -> Vec<(Marks, Vec<Step>)> {
    let marks = HIGH.iter().flat_map(|high| LOW.iter().map(|low| Marks { high: *high, low: *low }));
    marks.map(|marks| (marks, with_marks(steps, marks))).collect()
}

/// Steps whose guard cuts at these marks.
fn with_marks(steps: &[Step], marks: Marks) -> Vec<Step> {
    let set = |step: &Step| match step {
        Step::FitContext(params) => {
            Step::FitContext(FitContext { high: marks.high, low: marks.low, ..*params })
        }
        other => other.clone(),
    };
    steps.iter().map(set).collect()
}

/// The marks with the fewest prefilled tokens, by recall where that is about the same, among those that break and
/// refuse no more than the policy's own; none where its own are as good.
pub fn best<'a>(rows: &'a [Row], own: &'a Row) -> Option<&'a Row> {
    let same = |row: &&Row| row.policy == own.policy && row.window == own.window && row.marks.is_some();
    let sound = |row: &&Row| {
        row.faults <= own.faults && row.refused <= own.refused && row.over_window <= own.over_window
    };
    let tried: Vec<&Row> = rows.iter().filter(same).filter(sound).chain([own]).collect();
    let least = tried.iter().map(|row| row.prefilled).min()?;
    let near = |row: &&Row| row.prefilled == least || ratio(row.prefilled, least) - 1.0 < SAME;
    // Of equals the last one: the policy's own.
    let best = tried.into_iter().filter(near).max_by(|one, other| one.recall.total_cmp(&other.recall));
    best.filter(|row| row.marks.is_some())
}
