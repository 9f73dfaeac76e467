use super::*;

/// Slots that hold these conversations, all idle, used in this order.
fn holding(chains: &[&[u32]]) -> Slots {
    let now = Instant::now();
    let mut slots = Slots::new(chains.len(), now);
    for (slot, chain) in chains.iter().enumerate() {
        if !chain.is_empty() {
            slots.start(slot, chain, chain.len(), chain.len());
            slots.finish(slot, now);
        }
    }
    slots
}

fn picked(slot: SlotId, held: usize, donor: Option<(SlotId, usize)>) -> Option<Picked> {
    let donor = donor.map(|(slot, tokens)| (Donor::Slot(slot), tokens));
    Some(Picked { slot, held, donor })
}

#[test]
fn the_conversation_that_goes_on_wins() {
    let slots = holding(&[&[1, 2, 3], &[1, 2, 3, 4, 5], &[]]);
    assert_eq!(slots.pick(&[1, 2, 3, 4, 5, 6]), picked(1, 5, None));
}

#[test]
fn the_last_token_is_always_computed() {
    let slots = holding(&[&[1, 2, 3]]);
    assert_eq!(slots.pick(&[1, 2, 3]), picked(0, 2, None));
    assert_eq!(slots.pick(&[1]), picked(0, 0, None));
}

#[test]
fn where_nothing_is_taken_back_only_whole_conversations_go_on() {
    let slots = holding(&[&[1, 2], &[1, 2, 3, 4, 5], &[]]).whole();
    assert_eq!(slots.pick(&[1, 2, 3, 4, 5, 6]), picked(1, 5, None));
    // The longer one shares three tokens, of which nothing can be made.
    assert_eq!(slots.pick(&[1, 2, 3, 9]), picked(0, 2, None));
    assert_eq!(slots.pick(&[1, 2]), picked(2, 0, None));
    let mut slots = holding(&[&[], &[]]).whole();
    slots.start(0, &[1, 2, 3, 4], 4, 10);
    assert_eq!(slots.pick(&[1, 2, 3, 9]), picked(1, 0, None));
    assert_eq!(slots.pick(&[1, 2, 3, 4, 9]), picked(1, 0, Some((0, 4))));
}

#[test]
fn a_short_prefix_is_copied_rather_than_a_long_conversation_lost() {
    let long: Vec<u32> = (0..100).collect();
    let slots = holding(&[&long, &[]]);
    assert_eq!(slots.pick(&[0, 1, 2, 500]), picked(1, 0, Some((0, 3))));
}

#[test]
fn without_an_empty_slot_the_longest_unused_goes() {
    let slots = holding(&[&[7, 7, 7], &[8, 8, 8]]);
    assert_eq!(slots.pick(&[9, 9]), picked(0, 0, None));
}

#[test]
fn busy_slots_are_not_picked_but_lend_their_prefix() {
    let mut slots = holding(&[&[], &[]]);
    slots.start(0, &[1, 2, 3, 4], 4, 10);
    assert_eq!(slots.pick(&[1, 2, 3, 9]), picked(1, 0, Some((0, 3))));
    slots.start(1, &[1, 2, 3, 9], 3, 10);
    assert_eq!(slots.pick(&[1, 2]), None);
}

#[test]
fn decoding_slots_stay_in_the_first_rows() {
    let now = Instant::now();
    let mut slots = Slots::new(4, now);
    for slot in 0..4 {
        slots.start(slot, &[1], 1, 4);
    }
    assert_eq!(slots.promote(2), Some((2, 0)));
    assert_eq!(slots.promote(1), None);
    assert_eq!(slots.promote(3), Some((3, 2)));
    assert_eq!([slots.slot(0), slots.slot(1), slots.slot(2), slots.decoding()], [2, 1, 3, 3]);
    // The last decoding row fills the place of the one that ends.
    assert_eq!(slots.finish(2, now), Some((0, 2)));
    assert_eq!([slots.slot(0), slots.slot(1), slots.decoding()], [3, 1, 2]);
    // One that never decoded leaves the rows alone.
    assert_eq!(slots.finish(0, now), None);
    assert_eq!(slots.decoding(), 2);
}

#[test]
fn the_oldest_idle_conversation_is_found() {
    let mut slots = holding(&[&[1, 1], &[2, 2, 2], &[3]]);
    assert_eq!((slots.oldest(&[0]), slots.oldest(&[1])), (Some(1), Some(0)));
    assert_eq!((slots.idle_tokens(1), slots.tokens()), (3, 6));
    slots.clear(0);
    assert_eq!(slots.oldest(&[1]), Some(2));
}
