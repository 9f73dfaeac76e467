use crate::session::mock::{Run, answer};
use crate::worker::tests::{Bench, Events, PER_TOKEN, hear, prompt};

/// A prompt that begins as all of them do.
fn shared(tokens: u32, seed: u32, own: u32) -> Vec<u32> {
    [prompt(1, tokens), prompt(seed, own)].concat()
}

fn run(bench: &mut Bench, prompt: &[u32], tokens: u32) -> u32 {
    let mut events = bench.ask(prompt, tokens);
    bench.work();
    let heard = hear(&mut events);
    assert_eq!(heard.tokens, answer(prompt, tokens as usize));
    heard.cached
}

#[test]
fn a_prefix_is_held_once() {
    let mut bench = Bench::sharing(6, usize::MAX, 6000 * PER_TOKEN);
    for seed in 2..8 {
        let cached = run(&mut bench, &shared(200, seed, 30), 11);
        assert_eq!(cached, if seed == 2 { 0 } else { 200 });
    }
    // 200 tokens once, and six times 30 of a prompt and 10 of an answer.
    assert_eq!(bench.bytes(), (200 + 6 * 40) * PER_TOKEN);
    let copies = bench.runs().into_iter().filter(|run| matches!(run, Run::Copy { .. })).count();
    assert_eq!((copies, bench.reserved()), (0, 0));
}

#[test]
fn what_is_no_whole_step_is_copied() {
    let mut bench = Bench::sharing(3, usize::MAX, 3000 * PER_TOKEN);
    run(&mut bench, &shared(205, 2, 30), 1);
    assert_eq!(run(&mut bench, &shared(205, 3, 30), 1), 205);
    assert!(bench.runs().contains(&Run::Copy { tokens: 5 }));
    // From the segment itself, where no slot holds the beginning any more.
    for slot in 0..3 {
        bench.worker.erase(slot).unwrap();
    }
    assert_eq!(run(&mut bench, &shared(150, 4, 30), 1), 150);
}

/// Room for one prefix of 200 tokens and 40 more for each of ten; not for two prefixes more.
#[test]
fn admission_counts_a_prefix_once() {
    let mut bench = Bench::sharing(10, usize::MAX, (200 + 10 * 40 + 200) * PER_TOKEN);
    run(&mut bench, &shared(200, 2, 20), 20);
    run(&mut bench, &shared(200, 3, 20), 20);
    let mut all: Vec<(Events, Vec<u32>)> = Vec::new();
    for seed in 2..12 {
        let prompt = shared(200, seed, 20);
        all.push((bench.ask(&prompt, 20), prompt));
    }
    assert_eq!(bench.reserved(), (200 + 10 * 40) * PER_TOKEN);
    bench.work();
    for (mut events, prompt) in all {
        let heard = hear(&mut events);
        assert_eq!((heard.tokens, heard.cached >= 200), (answer(&prompt, 20), true));
    }
    assert_eq!(bench.reserved(), 0);
}

#[test]
fn a_prefix_outlives_its_conversations_within_its_share() {
    let mut bench = Bench::sharing(2, usize::MAX, 1000 * PER_TOKEN);
    for (round, tokens) in [(0, 0), (1, 104), (2, 104), (3, 104)] {
        // Two conversations begin alike, and go.
        let prefix = prompt(50 + round, 104);
        for seed in 2..4 {
            run(&mut bench, &[prefix.clone(), prompt(seed, 20)].concat(), 2);
        }
        for slot in 0..2 {
            bench.worker.erase(slot).unwrap();
        }
        let kept = bench.worker.segments.alone();
        assert_eq!(kept, 104 * (round as usize + 1).min(2), "{round} {tokens}");
    }
    // The last two are there, the others went: a quarter of the memory is for them.
    for (round, cached) in [(3, 104), (2, 104), (0, 0)] {
        let prompt = [prompt(50 + round, 104), prompt(9, 30)].concat();
        assert_eq!(bench.worker.chains().prefix(&prompt), cached);
    }
}

#[test]
fn segments_make_room_when_they_are_the_longest_unused() {
    let mut bench = Bench::sharing(3, usize::MAX, 600 * PER_TOKEN);
    for seed in 2..4 {
        run(&mut bench, &shared(104, seed, 20), 2);
    }
    for slot in 0..3 {
        bench.worker.erase(slot).unwrap();
    }
    run(&mut bench, &prompt(60, 300), 2);
    assert_eq!(bench.bytes(), (104 + 301) * PER_TOKEN);
    run(&mut bench, &prompt(61, 250), 2);
    assert_eq!((bench.worker.segments.count(), bench.bytes()), (0, (301 + 251) * PER_TOKEN));
}

#[test]
fn where_no_pieces_are_left_prefixes_are_copied_and_counted() {
    let mut bench = Bench::sharing(5, 3, 5000 * PER_TOKEN);
    for seed in 2..7 {
        let cached = run(&mut bench, &shared(200, seed, 30), 11);
        assert_eq!(cached, if seed == 2 { 0 } else { 200 });
    }
    let reading = bench.worker.board.sharing();
    assert_eq!((reading.mode, reading.maps, reading.maps_limit, reading.copied), ("shared", 3, 3, 2));
    assert_eq!((reading.segments, reading.bytes), (1, 200 * PER_TOKEN));
    assert_eq!(bench.bytes(), (200 + 5 * 40 + 2 * 200) * PER_TOKEN);
}

#[test]
fn a_conversation_that_goes_back_into_what_it_shares_keeps_whole_steps() {
    let mut bench = Bench::sharing(3, usize::MAX, 3000 * PER_TOKEN);
    for seed in 2..4 {
        run(&mut bench, &shared(200, seed, 30), 5);
    }
    // It begins with 150 of the 200 tokens and is most of what the third slot holds afterwards.
    let back = shared(150, 7, 40);
    assert_eq!(run(&mut bench, &back, 5), 150);
    assert_eq!(run(&mut bench, &[back.clone(), answer(&back, 5), prompt(8, 9)].concat(), 5), 194);
    assert_eq!(run(&mut bench, &shared(120, 7, 90), 5), 120);
    assert_eq!(bench.reserved(), 0);
}

#[test]
fn a_branch_shares_what_it_can() {
    let mut bench = Bench::sharing(3, usize::MAX, 400 * PER_TOKEN);
    let tokens = prompt(3, 250);
    run(&mut bench, &tokens, 1);
    let source = u32::try_from(bench.worker.slots.holder(&tokens).unwrap()).unwrap();
    // As a copy it would not fit beside its source.
    let (slot, count) = bench.worker.branch(source, None).unwrap();
    assert_eq!((count, bench.bytes()), (250, (248 + 2 * 2) * PER_TOKEN));
    assert_eq!(bench.worker.slots.len(slot as usize), 250);
    assert_eq!(run(&mut bench, &[&tokens[..], &[5, 6]].concat(), 4), 250);
}

#[test]
fn an_unloaded_model_shares_nothing() {
    let mut bench = Bench::sharing(3, usize::MAX, 3000 * PER_TOKEN);
    for seed in 2..4 {
        run(&mut bench, &shared(200, seed, 30), 5);
    }
    // Admitted, and not yet told to the worker.
    let ask = crate::memory::Ask::new(300, shared(200, 5, 20).into());
    let permit = bench.worker.budget.try_reserve(ask).unwrap();
    assert_eq!((permit.bytes(), bench.reserved()), (100 * PER_TOKEN, 300 * PER_TOKEN));
    bench.worker.unload();
    assert_eq!((bench.bytes(), bench.reserved()), (0, 100 * PER_TOKEN));
    drop(permit);
    assert_eq!((bench.reserved(), bench.worker.segments.count()), (0, 0));
    assert_eq!(run(&mut bench, &shared(200, 5, 20), 5), 0);
}
