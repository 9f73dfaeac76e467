use super::*;
use crate::request::Generate;
use crate::session::mock::{Mock, answer, next};
use crate::worker::tests::{Bench, Events, PER_TOKEN, hear, prompt, request};

/// What is answered in a window of so many tokens, of which the first `keep` stay, and what each shift drops.
fn going_on(prompt: &[u32], tokens: usize, window: usize, keep: usize) -> (Vec<u32>, Vec<u32>) {
    let (mut held, mut answer, mut dropped) = (prompt.to_vec(), Vec::new(), Vec::new());
    loop {
        let token = next(&held);
        answer.push(token);
        if answer.len() == tokens {
            return (answer, dropped);
        }
        if held.len() == window {
            let half = (window - keep) / 2;
            held.drain(keep..keep + half);
            dropped.push(u32::try_from(half).unwrap());
        }
        held.push(token);
    }
}

fn ask(bench: &mut Bench, prompt: &[u32], (tokens, window): (u32, u32), keep: u32) -> Events {
    let request = Generate { shift: Some(Shift { keep }), ..request(prompt, tokens) };
    bench.order(request, window)
}

#[test]
fn a_full_window_loses_half_of_what_does_not_stay() {
    let cut = |keep, held, window| Shift { keep }.cut(held, window);
    assert_eq!(cut(4, 100, 100), Some(Cut { keep: 4, drop: 48, held: 100 }));
    assert_eq!(cut(0, 101, 101), Some(Cut { keep: 0, drop: 50, held: 101 }));
    // All but a sixteenth may stay.
    assert_eq!(cut(u32::MAX, 1600, 1600), Some(Cut { keep: 1500, drop: 50, held: 1600 }));
    // A window that has become smaller than what is held.
    assert_eq!(cut(10, 100, 60), Some(Cut { keep: 10, drop: 65, held: 100 }));
    assert_eq!((cut(0, 7, 7), cut(0, 4, 100)), (None, None));
}

#[test]
fn an_answer_goes_on_past_the_window() {
    let mut bench = Bench::new(2);
    let prompt = prompt(1, 40);
    for keep in [0, 5, 40] {
        let mut events = ask(&mut bench, &prompt, (200, 64), keep);
        bench.work();
        let heard = hear(&mut events);
        let expected = going_on(&prompt, 200, 64, keep as usize);
        assert!(expected.1.len() > 3);
        assert_eq!((heard.tokens, heard.dropped), expected, "keep {keep}");
        let (reason, usage) = heard.done.unwrap();
        assert_eq!((reason, usage.completion, usage.prompt), (Finish::Length, 200, 40));
        assert!(usage.kv_bytes <= 64 * PER_TOKEN);
        // What saw dropped tokens is nobody's prefix: only what stayed is held on.
        assert_eq!((bench.held(), bench.reserved()), (keep as usize, 0));
    }
    // Where nothing has to go nothing does.
    let mut events = ask(&mut bench, &prompt, (24, 64), 0);
    bench.work();
    let heard = hear(&mut events);
    assert_eq!((heard.tokens, heard.dropped.len(), heard.cached), (answer(&prompt, 24), 0, 39));
}

#[test]
fn what_was_shifted_is_no_prefix() {
    let mut bench = Bench::new(3);
    let first = prompt(1, 40);
    let mut events = ask(&mut bench, &first, (90, 64), 8);
    bench.turns(35);
    // While it runs, too.
    let dropped = hear(&mut events).dropped;
    assert_eq!(dropped, [28]);
    assert_eq!(bench.worker.chains().prefix(&first), 8);
    let mut beside = bench.ask(&first, 20);
    bench.work();
    let heard = hear(&mut beside);
    assert_eq!((heard.tokens, heard.cached), (answer(&first, 20), 8));
    let told = hear(&mut events).tokens;
    assert!(going_on(&first, 90, 64, 8).0.ends_with(&told));
    // Nor what it has become, token by token.
    let (answer_of_it, _) = going_on(&first, 90, 64, 8);
    let all = [first, answer_of_it].concat();
    let now = [&all[..8], &all[36..70]].concat();
    let mut events = bench.ask(&now, 5);
    bench.work();
    let heard = hear(&mut events);
    assert_eq!((heard.tokens, heard.cached), (answer(&now, 5), 8));
}

#[test]
fn it_is_the_same_beside_others() {
    let mut bench = Bench::new(4);
    let prompts: Vec<_> = (0..4).map(|seed| prompt(seed, 20 + 11 * seed)).collect();
    let mut all: Vec<_> = (0..4).map(|n| ask(&mut bench, &prompts[n], (150, 60 + 7 * n as u32), 3)).collect();
    bench.work();
    for (place, events) in all.iter_mut().enumerate() {
        let heard = hear(events);
        assert_eq!((heard.tokens, heard.dropped), going_on(&prompts[place], 150, 60 + 7 * place, 3));
    }
    assert_eq!(bench.reserved(), 0);
}

/// Two conversations over one beginning: one goes on past its window, the other holds what it held.
#[test]
fn a_shared_beginning_stays_what_it_is_for_others() {
    let mut bench = Bench::sharing(3, usize::MAX, 6000 * PER_TOKEN);
    let with = |seed| [prompt(1, 640), prompt(seed, 30)].concat();
    let mut other = bench.ask(&with(2), 9);
    bench.work();
    assert_eq!(hear(&mut other).tokens, answer(&with(2), 9));
    let mut events = ask(&mut bench, &with(3), (300, 700), 20);
    bench.work();
    let heard = hear(&mut events);
    assert_eq!(heard.cached, 640);
    assert_eq!((heard.tokens, heard.dropped), going_on(&with(3), 300, 700, 20));
    assert_eq!(bench.reserved(), 0);
    let longer = [with(2), answer(&with(2), 9), prompt(5, 12)].concat();
    let mut events = bench.ask(&longer, 30);
    bench.work();
    let heard = hear(&mut events);
    assert_eq!((heard.tokens, heard.cached), (answer(&longer, 30), 678));
}

/// There is no memory for a second copy of what is shared: the window becomes smaller, and nobody's memory is taken.
#[test]
fn without_memory_for_its_own_copy_the_window_becomes_smaller() {
    // 640 tokens shared, 60 of one's own each, and nothing more.
    let mut bench = Bench::sharing(2, usize::MAX, (640 + 2 * 60) * PER_TOKEN);
    let with = |seed| [prompt(1, 640), prompt(seed, 30)].concat();
    let mut first = bench.ask(&with(2), 1);
    bench.work();
    drop(hear(&mut first));
    let mut other = bench.order(request(&with(2), 30), 700);
    bench.turns(2);
    let mut events = ask(&mut bench, &with(3), (100, 700), 20);
    let limit = bench.worker.budget.limit();
    let mut most = 0;
    for _ in 0..400 {
        bench.turns(1);
        most = most.max(bench.reserved());
        assert!(bench.worker.budget.reserved() <= limit);
    }
    assert!(most > limit / 2);
    let heard = hear(&mut events);
    assert_eq!((heard.tokens.len(), heard.error), (100, None));
    // Of the window 60 tokens of its own are left, and the first 16, which it still shares: 20 stay, and half of the rest.
    assert_eq!(heard.dropped[..2], [652, 28]);
    assert_eq!(hear(&mut other).tokens, answer(&with(2), 30));
    assert_eq!(bench.reserved(), 0);
}

#[test]
fn a_window_too_small_to_shift_ends_the_answer() {
    let mut bench = Bench::new(1);
    let prompt = prompt(1, 4);
    let mut events = ask(&mut bench, &prompt, (50, 7), 2);
    bench.work();
    let heard = hear(&mut events);
    assert_eq!((heard.tokens, heard.done.unwrap().0), (answer(&prompt, 4), Finish::Length));
    assert_eq!(bench.reserved(), 0);
}

#[test]
fn memory_that_fails_ends_one_answer_and_leaves_nothing() {
    let mut bench = Bench::over(Mock::new(2, 64).stuck(), 2, 4000 * PER_TOKEN);
    let (one, two) = (prompt(1, 40), prompt(2, 50));
    let mut fails = ask(&mut bench, &one, (200, 64), 8);
    let mut stays = bench.ask(&two, 60);
    bench.work();
    let heard = hear(&mut fails);
    assert_eq!(
        (heard.tokens, heard.error),
        (answer(&one, 25), Some(crate::GenerateError::Session("stuck".into())))
    );
    assert_eq!(hear(&mut stays).tokens, answer(&two, 60));
    assert_eq!((bench.worker.chains().prefix(&one), bench.reserved()), (0, 0));
}
