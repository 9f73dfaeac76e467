use proptest::prelude::*;

use super::*;

const MARKS: Marks = Marks { budget: 100, high: 80, low: 50, min_progress: 10, keep_last: 2 };

fn item(weight: Tokens, kind: Kind) -> Item {
    Item { weight, kind, fixed: false, gone_at: None, waits: false }
}

/// A pinned question, then answers and questions in turn.
fn chat(weights: &[Tokens]) -> Vec<Item> {
    let kind = |index: usize| if index.is_multiple_of(2) { Kind::User } else { Kind::Other };
    let item = |(index, weight): (usize, &Tokens)| Item { fixed: index == 0, ..item(*weight, kind(index)) };
    weights.iter().enumerate().map(item).collect()
}

fn replay(overhead: Tokens, items: &[Item], marks: Marks, manner: Manner) -> Vec<Cut> {
    super::replay(Past { overhead, items, shrinks: &[] }, marks, manner)
}

fn spans(cuts: &[Cut]) -> Vec<(usize, Vec<usize>)> {
    cuts.iter().map(|cut| (cut.at, cut.span.clone())).collect()
}

#[test]
fn from_high_to_low() {
    let cuts = replay(0, &chat(&[10; 14]), MARKS, Manner::default());
    assert_eq!(spans(&cuts), [(8, vec![1, 2, 3, 4]), (12, vec![5, 6, 7, 8])]);
    let with_summary = Manner { summary: Some(20), alternate: false, plan: false };
    let cuts = replay(0, &chat(&[10; 14]), MARKS, with_summary);
    assert_eq!(spans(&cuts), [(8, vec![1, 2, 3, 4, 5, 6]), (12, vec![7, 8, 9, 10])]);
    assert_eq!(cuts[0].summary, 20);
}

#[test]
fn what_shrinks_later_weighs_less_from_then_on() {
    let items = chat(&[10; 14]);
    let shrink = |item, at| Shrink { at, item, by: 8 };
    let shrinks = [shrink(2, 7), shrink(3, 7), shrink(1, 9)];
    let cuts =
        super::replay(Past { overhead: 0, items: &items, shrinks: &shrinks }, MARKS, Manner::default());
    assert_eq!(spans(&cuts), [(10, vec![1, 2, 3, 4, 5, 6])]);
    assert_eq!(cuts[0].tokens, 36);
}

#[test]
fn alternating_roles_stay_so() {
    let cuts = replay(
        0,
        &chat(&[10; 10]),
        Marks { low: 60, ..MARKS },
        Manner { summary: None, alternate: true, plan: false },
    );
    assert_eq!(spans(&cuts), [(8, vec![1, 2, 3, 4])]);
    let free = replay(0, &chat(&[10; 10]), Marks { low: 60, ..MARKS }, Manner::default());
    assert_eq!(spans(&free), [(8, vec![1, 2, 3])]);
}

#[test]
fn the_last_question_outlives_its_older_exchanges() {
    let mut items = vec![Item { fixed: true, ..item(10, Kind::System) }, item(10, Kind::User)];
    items.extend([item(10, Kind::Exchange); 12]);
    let cuts = replay(0, &items, MARKS, Manner::default());
    assert_eq!(spans(&cuts), [(8, vec![2, 3, 4, 5]), (12, vec![6, 7, 8, 9])]);
    items.push(item(10, Kind::User));
    let cuts = replay(0, &items, MARKS, Manner::default());
    assert!(cuts.iter().all(|cut| !cut.span.contains(&14)));
}

#[test]
fn a_small_gain_waits_for_the_budget() {
    let items = chat(&[60, 5, 1, 20, 5, 10, 5]);
    let cuts = replay(0, &items, MARKS, Manner::default());
    assert_eq!(spans(&cuts), [(5, vec![1, 2, 3])]);
    let marks = Marks { budget: 90, ..MARKS };
    let items = chat(&[60, 5, 1, 20, 2, 1, 2]);
    assert_eq!(spans(&replay(0, &items, marks, Manner::default())), [(5, vec![1, 2, 3])]);
    let items = chat(&[75, 2, 1, 2, 4]);
    assert_eq!(spans(&replay(0, &items, MARKS, Manner::default())), []);
}

const PLANNED: Manner = Manner { summary: Some(12), alternate: false, plan: true };

fn ahead(items: &[Item]) -> Option<(usize, Vec<usize>)> {
    let cuts = replay_ahead(Past { overhead: 0, items, shrinks: &[] }, MARKS, PLANNED)?;
    spans(&cuts).pop()
}

#[test]
fn the_next_cut_is_planned_half_way_to_it() {
    let items = chat(&[10; 9]);
    // 60 tokens are not half way, 70 are; the cut comes at 90.
    let seen: Vec<_> = (1..=8).map(|end| ahead(&items[..end])).collect();
    assert_eq!(seen[..6], [const { None }; 6]);
    assert_eq!(seen[6..], [Some((6, vec![1, 2, 3, 4])), Some((7, vec![1, 2, 3, 4]))]);
    assert_eq!(spans(&replay(0, &items, MARKS, PLANNED)), [(8, vec![1, 2, 3, 4])]);
    // One that overshoots needs more than was planned.
    let cuts = replay(0, &chat(&[10, 10, 10, 10, 10, 10, 10, 10, 20]), MARKS, PLANNED);
    assert_eq!(spans(&cuts), [(8, vec![1, 2, 3, 4, 5, 6])]);
}

#[test]
fn a_plan_falls_with_an_earlier_drop() {
    let mut items = chat(&[10; 10]);
    items[1].gone_at = Some(8);
    assert_eq!(ahead(&items[..8]), Some((7, vec![1, 2, 3, 4])));
    assert_eq!(ahead(&items[..9]), None);
}

#[test]
fn earlier_drops_take_part() {
    let mut items = chat(&[10; 9]);
    for index in [1, 2, 3] {
        items[index].gone_at = Some(6);
    }
    let cuts = replay(0, &items, MARKS, Manner { summary: Some(20), alternate: false, plan: false });
    assert_eq!(spans(&cuts), [(6, vec![1, 2, 3])]);
    assert_eq!(cuts[0].summary, 20);
}

proptest! {
    #[test]
    fn a_longer_history_begins_with_the_same_cuts(weights in prop::collection::vec(0_u64..40, 1..60), end in 0_usize..60) {
        let manner = Manner { summary: Some(12), alternate: false, plan: false };
        let whole = replay(5, &chat(&weights), MARKS, manner);
        let end = end.min(weights.len());
        let part = replay(5, &chat(&weights[..end]), MARKS, manner);
        let same: Vec<Cut> = whole.into_iter().filter(|cut| cut.at < end).collect();
        prop_assert_eq!(part, same);
    }

    #[test]
    fn what_is_planned_is_what_goes(weights in prop::collection::vec(1_u64..12, 1..120)) {
        let items = chat(&weights);
        let cuts = spans(&replay(0, &items, MARKS, PLANNED));
        for end in 1..items.len() {
            let Some((_, planned)) = ahead(&items[..end]) else { continue };
            if let Some((_, next)) = cuts.iter().find(|(at, _)| *at >= end) {
                prop_assert!(next == &planned || next.len() > planned.len(), "{planned:?} {next:?}");
            }
        }
        let part = spans(&replay(0, &items[..items.len() / 2], MARKS, PLANNED));
        prop_assert_eq!(&cuts[..part.len()], &part);
    }

    #[test]
    fn a_cut_moves_once_per_distance_of_the_marks(weights in prop::collection::vec(1_u64..15, 1..400)) {
        let cuts = replay(0, &chat(&weights), MARKS, Manner::default());
        let total: u64 = weights.iter().sum();
        prop_assert!(cuts.len() as u64 <= total / (MARKS.high - MARKS.low) + 1, "{} cuts of {total}", cuts.len());
    }
}
