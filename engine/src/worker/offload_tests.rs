use std::sync::Arc;

use proptest::prelude::*;

use crate::offload::Store;
use crate::session::mock::{STRIPS, answer};
use crate::worker::tests::{Bench, Events, PER_TOKEN, hear, prompt};

/// Bytes of a conversation of up to 1024 tokens that is put by: one page.
const PAGE: u64 = 4096;

/// With room for so many conversations beside the slots.
fn keeping(mut bench: Bench, conversations: u64) -> (Bench, Arc<Store>) {
    let store = Store::in_memory(&STRIPS, conversations * PAGE);
    bench.worker = bench.worker.keeping(&store);
    (bench, store)
}

/// Runs a prompt and compares its answer with that of the prompt alone. Tells what was cached, and what was brought back
/// for it.
fn run(bench: &mut Bench, prompt: &[u32], tokens: u32) -> (u32, u32) {
    let mut events = bench.ask(prompt, tokens);
    bench.work();
    let heard = hear(&mut events);
    assert_eq!(heard.tokens, answer(prompt, tokens as usize));
    (heard.cached, heard.restored)
}

/// Those that map and those that copy.
fn both(slots: u32, bytes: u64) -> [Bench; 3] {
    [
        Bench::sharing(slots, usize::MAX, bytes),
        Bench::with_budget(slots, bytes),
        // No pieces of memory are left to map.
        Bench::sharing(slots, 0, bytes),
    ]
}

#[test]
fn a_conversation_goes_on_after_it_has_left_its_slot() {
    for bench in both(2, 2000 * PER_TOKEN) {
        let (mut bench, store) = keeping(bench, 4);
        let first = prompt(1, 120);
        run(&mut bench, &first, 9);
        for seed in 2..4 {
            assert_eq!(run(&mut bench, &prompt(seed, 100), 5), (0, 0));
        }
        assert_eq!((store.reading().host_conversations, store.reading().counts.put_by), (1, 1));
        let held = [&first[..], &answer(&first, 9)].concat();
        assert_eq!(bench.worker.chains().prefix(&held), 0);
        let next = [&held[..], &prompt(5, 20)].concat();
        // All but the last token made, which was never put in.
        assert_eq!(run(&mut bench, &next, 9), (128, 128));
        let counts = store.reading().counts;
        assert_eq!((counts.restored, counts.restored_tokens, counts.failed), (1, 128, 0));
        assert_eq!(bench.reserved(), 0);
        assert!(bench.bytes() <= 2000 * PER_TOKEN);
    }
}

#[test]
fn a_part_of_it_serves_another_conversation() {
    for bench in both(1, 1000 * PER_TOKEN) {
        let (mut bench, _) = keeping(bench, 4);
        let first = prompt(1, 200);
        run(&mut bench, &first, 2);
        run(&mut bench, &prompt(2, 100), 2);
        let other = [&first[..150], &prompt(3, 30)].concat();
        assert_eq!(run(&mut bench, &other, 2), (150, 150));
        // And the whole is still there for who goes on with it, in memory or in a segment.
        run(&mut bench, &prompt(4, 100), 2);
        let longer = [&first[..], &prompt(6, 9)].concat();
        assert!(run(&mut bench, &longer, 2).0 >= 150);
    }
}

#[test]
fn what_makes_room_in_memory_is_put_by_too() {
    let (mut bench, store) = keeping(Bench::with_budget(3, 300 * PER_TOKEN), 4);
    for seed in 1..3 {
        run(&mut bench, &prompt(seed, 120), 2);
    }
    run(&mut bench, &prompt(3, 200), 2);
    assert_eq!(store.reading().counts.put_by, 2);
    assert_eq!(run(&mut bench, &prompt(2, 120), 2), (119, 119));
}

#[test]
fn the_limit_holds_and_the_longest_unused_goes() {
    let (mut bench, store) = keeping(Bench::new(1), 2);
    for seed in 1..5 {
        run(&mut bench, &prompt(seed, 100), 2);
        assert!(store.reading().host_bytes <= 2 * PAGE);
    }
    // The fourth is in its slot, the third and the second are put by.
    let reading = store.reading();
    assert_eq!((reading.host_bytes, reading.host_conversations, reading.counts.evicted), (2 * PAGE, 2, 1));
    assert_eq!(run(&mut bench, &prompt(2, 100), 2), (99, 99));
    assert_eq!(run(&mut bench, &prompt(1, 100), 2), (0, 0));
    // Nothing is too large for what there is: it is forgotten, as before.
    let (mut bench, store) = keeping(Bench::new(1), 0);
    for seed in 1..4 {
        run(&mut bench, &prompt(seed, 100), 2);
    }
    assert_eq!((store.reading().host_bytes, store.reading().counts.put_by), (0, 0));
}

#[test]
fn a_conversation_is_put_by_once() {
    let (mut bench, store) = keeping(Bench::new(1), 9);
    let mut text = prompt(1, 100);
    for turn in 0..4 {
        run(&mut bench, &text, 10);
        text = [&text[..], &answer(&text, 10), &prompt(turn + 20, 15)].concat();
        run(&mut bench, &prompt(30, 100), 2);
    }
    // What it goes on from is in it, so that there are just this one and the other one, which was copied into its slot.
    assert_eq!(store.reading().host_conversations, 2);
    assert_eq!(run(&mut bench, &text, 2).1, 184);
}

#[test]
fn what_is_dearer_than_computing_is_computed() {
    let (mut bench, store) = keeping(Bench::new(1), 9);
    run(&mut bench, &prompt(1, 100), 2);
    run(&mut bench, &prompt(2, 100), 2);
    store.fix(Some(false));
    assert_eq!(run(&mut bench, &prompt(1, 100), 2), (0, 0));
    // Neither brought back nor put by.
    let counts = store.reading().counts;
    assert_eq!((counts.put_by, counts.restored, counts.declined), (1, 0, 2));
    store.fix(Some(true));
    run(&mut bench, &prompt(3, 100), 2);
    assert_eq!(run(&mut bench, &prompt(1, 100), 2), (99, 99));
}

#[test]
fn former_versions_and_copies_are_not_missed() {
    let (mut bench, store) = keeping(Bench::sharing(2, usize::MAX, 2000 * PER_TOKEN), 9);
    let tokens = prompt(1, 200);
    run(&mut bench, &tokens, 1);
    let source = u32::try_from(bench.worker.slots.holder(&tokens).unwrap()).unwrap();
    bench.worker.branch(source, None).unwrap();
    run(&mut bench, &prompt(2, 100), 1);
    assert_eq!(store.reading().counts.put_by, 0);
    run(&mut bench, &prompt(3, 100), 1);
    assert_eq!(store.reading().counts.put_by, 1);
}

#[test]
fn what_is_erased_is_nowhere() {
    let (mut bench, store) = keeping(Bench::with_budget(1, 1000 * PER_TOKEN), 9);
    let tokens = prompt(1, 100);
    run(&mut bench, &tokens, 2);
    run(&mut bench, &prompt(2, 100), 2);
    assert_eq!(store.reading().host_conversations, 1);
    // It comes back by copying, and is erased in its slot.
    run(&mut bench, &tokens, 2);
    bench.worker.erase(0).unwrap();
    assert_eq!(run(&mut bench, &tokens, 2), (0, 0));
    run(&mut bench, &prompt(2, 100), 2);
    let held = [&tokens[..], &answer(&tokens, 1)].concat();
    assert!(store.erase(&held) && !store.erase(&held));
    assert_eq!(run(&mut bench, &tokens, 2), (0, 0));
}

#[test]
fn an_unloaded_model_keeps_nothing_in_memory() {
    let (mut bench, store) = keeping(Bench::new(1), 9);
    run(&mut bench, &prompt(1, 100), 2);
    run(&mut bench, &prompt(2, 100), 2);
    bench.worker.unload();
    assert_eq!((store.reading().host_bytes, store.reading().host_conversations), (0, 0));
    assert_eq!(run(&mut bench, &prompt(1, 100), 2), (0, 0));
}

proptest! {
    /// Whatever comes in whatever order, whoever leaves, and whatever had to be put by: each answer is the one that its
    /// prompt alone gives. A token of another conversation anywhere in a row would change all that follow.
    #[test]
    fn answers_do_not_depend_on_what_was_put_by(
        asked in prop::collection::vec((0u32..4, 1u32..160, 0u32..20, 0usize..9, any::<bool>(), any::<bool>()), 1..30),
        kind in 0usize..3,
        room in 0u64..6,
    ) {
        let bench = both(2, 700 * PER_TOKEN).into_iter().nth(kind).unwrap();
        let (mut bench, store) = keeping(bench, room);
        let mut open: Vec<(Events, Vec<u32>, u32)> = Vec::new();
        for (family, length, max_tokens, turns, leaves, worth) in asked {
            store.fix(Some(worth || room % 2 == 0));
            let prompt = [prompt(family, 90), prompt(family * 50 + length, length)].concat();
            let tokens = u32::try_from(prompt.len()).unwrap() + max_tokens;
            while bench.worker.budget.try_reserve(tokens).is_err() {
                bench.turn();
            }
            let events = bench.ask(&prompt, max_tokens);
            if leaves {
                drop(events);
            } else {
                open.push((events, prompt, max_tokens));
            }
            bench.turns(turns);
            prop_assert!(store.reading().host_bytes <= room * PAGE);
        }
        bench.work();
        for (mut events, prompt, max_tokens) in open {
            let heard = hear(&mut events);
            prop_assert_eq!(heard.tokens, answer(&prompt, max_tokens as usize));
            prop_assert!(heard.restored <= heard.cached);
        }
        prop_assert_eq!((bench.reserved(), store.reading().counts.failed), (0, 0));
        prop_assert!(bench.bytes() <= bench.worker.budget.limit());
    }
}
