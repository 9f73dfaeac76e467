use super::*;
use crate::request::Generate;
use crate::worker::tests::{Bench, PER_TOKEN, hear, prompt};

/// Runs a prompt with an answer of one token, so that just the prompt is held.
fn hold(bench: &mut Bench, prompt: &[u32]) {
    let mut events = bench.ask(prompt, 1);
    bench.work();
    assert!(hear(&mut events).done.is_some());
}

fn whole(tokens: &[u32]) -> Part {
    Part { strip: 0, heads: 1, filled: tokens.len() * 4, region: 4096 }
}

#[test]
fn a_conversation_is_read_wherever_it_is() {
    let mut bench = Bench::new(3);
    for seed in 0..3 {
        hold(&mut bench, &prompt(seed, 30 + seed));
    }
    let tokens = prompt(1, 31);
    let bytes = bench.worker.read(&tokens[..20], whole(&tokens[..20])).unwrap();
    let read: Vec<_> = bytes[..80].chunks(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!((&read[..], bytes.len()), (&tokens[..20], 4096));
    assert!(bytes[80..].iter().all(|&byte| byte == 0));
    let missing = bench.worker.read(&[1, 2, 3], whole(&[1, 2, 3])).unwrap_err();
    assert_eq!(missing, CheckpointError::NotResident { tokens: 3 });
}

#[test]
fn a_branch_goes_on_in_two_ways() {
    let mut bench = Bench::new(3);
    let tokens = prompt(2, 40);
    hold(&mut bench, &tokens);
    let source = u32::try_from(bench.worker.slots.holder(&tokens).unwrap()).unwrap();
    let (branch, count) = bench.worker.branch(source, Some(25)).unwrap();
    assert_ne!(branch, source);
    assert_eq!((count, bench.worker.slots.len(branch as usize)), (25, 25));
    // Both are there: the branch goes on, and the source is as long as before.
    let other = [&tokens[..25], &[3, 3, 3]].concat();
    let mut events = bench.ask(&other, 4);
    bench.work();
    let heard = hear(&mut events);
    assert_eq!((heard.cached, heard.tokens), (25, crate::session::mock::answer(&other, 4)));
    assert_eq!(bench.worker.slots.holder(&tokens), Some(source as usize));
    let short = |asked| CheckpointError::Short { slot: source, asked, held: 40 };
    assert_eq!(bench.worker.branch(source, Some(41)), Err(short(41)));
    assert_eq!(bench.worker.branch(source, Some(0)), Err(short(0)));
    assert_eq!(bench.worker.branch(9, None), Err(CheckpointError::NoSlot { slot: 9, last: 2 }));
}

#[test]
fn what_runs_is_neither_erased_nor_overwritten() {
    let mut bench = Bench::new(2);
    hold(&mut bench, &prompt(3, 50));
    let (one, other) = (bench.ask(&prompt(3, 50), 30), bench.ask(&prompt(4, 20), 30));
    bench.turns(6);
    let busy = bench.worker.slots.holder(&prompt(3, 50)).unwrap();
    let slot = u32::try_from(busy).unwrap();
    assert_eq!(bench.worker.erase(slot), Err(CheckpointError::Busy { slot }));
    assert_eq!(bench.worker.branch(slot, None), Err(CheckpointError::AllBusy { slots: 2 }));
    drop((one, other));
    bench.turn();
    assert!(bench.worker.erase(slot).unwrap() >= 50);
    assert_eq!(bench.worker.erase(slot), Ok(0));
}

#[test]
fn a_branch_makes_room_and_keeps_its_source() {
    // Room for 100 tokens.
    let mut bench = Bench::with_budget(3, 100 * PER_TOKEN);
    for seed in 5..8 {
        hold(&mut bench, &prompt(seed, 30));
    }
    let source = bench.worker.slots.holder(&prompt(5, 30)).unwrap();
    let slot = u32::try_from(source).unwrap();
    bench.worker.branch(slot, None).unwrap();
    assert!(bench.worker.slots.tokens() <= 100);
    assert_eq!(bench.worker.slots.holder(&prompt(5, 30)), Some(source));
    // Beside a request that reserves almost everything there is no room for another one.
    let request = Generate { prompt: prompt(9, 10).into(), ..super::super::tests::request(&[], 0) };
    let _events = bench.order(request, 60);
    let refused = bench.worker.branch(slot, None).unwrap_err();
    assert_eq!(
        refused,
        CheckpointError::NoRoom { tokens: 30, needed: 300, reserved: 600, limit: 1000, context: 1000 }
    );
}

/// States that cannot be taken back: a conversation goes on from its end, also in another slot, or is computed anew.
#[test]
fn whole_conversations_go_on() {
    let mut bench = Bench::whole(2);
    let tokens = prompt(40, 50);
    let mut events = bench.ask(&tokens, 10);
    bench.work();
    let made = hear(&mut events).tokens;
    let longer = [&tokens[..], &made[..9], &[7, 7]].concat();
    let asks = [(&tokens, 0), (&longer, 59), (&tokens, 0)];
    for (prompt, cached) in asks {
        let mut events = bench.ask(prompt, 4);
        bench.work();
        let heard = hear(&mut events);
        assert_eq!((heard.cached, heard.tokens), (cached, crate::session::mock::answer(prompt, 4)));
    }
    let slot = bench.worker.slots.holder(&longer).unwrap();
    let (slot, held) = (u32::try_from(slot).unwrap(), u32::try_from(bench.worker.slots.len(slot)).unwrap());
    let refused = CheckpointError::Whole { slot, asked: 9, held };
    assert_eq!(bench.worker.branch(slot, Some(9)), Err(refused));
    assert_eq!(bench.worker.branch(slot, None).unwrap().1, held);
}
