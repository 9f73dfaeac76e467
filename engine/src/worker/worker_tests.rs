use std::sync::{LazyLock, Mutex};

use proptest::prelude::*;
use tokio::sync::mpsc::{Sender, UnboundedReceiver, channel, unbounded_channel};

use super::*;
use crate::config::KeepAlive;
use crate::memory::Ask;
use crate::request::{Finish, Sampling, Usage};
use crate::session::mock::{self, BLANK, Mock, POISON, Run, answer};

pub(super) const PER_TOKEN: u64 = 10;
const CONTEXT: u32 = 1000;

/// What all clocks show.
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

pub(super) type Events = UnboundedReceiver<Result<Event, GenerateError>>;

/// A worker over a mock, moved by hand.
pub(super) struct Bench {
    pub(super) worker: Worker,
    commands: Sender<Command>,
    runs: Arc<Mutex<Vec<Run>>>,
    orders: u64,
}

impl Bench {
    pub(super) fn new(slots: u32) -> Self {
        Self::with_budget(slots, PER_TOKEN * u64::from(CONTEXT) * u64::from(slots))
    }

    pub(super) fn with_budget(slots: u32, bytes: u64) -> Self {
        Self::over(Mock::new(slots as usize, 64), slots, bytes)
    }

    /// Whose conversations go on as a whole or not at all.
    pub(super) fn whole(slots: u32) -> Self {
        let mock = Mock::new(slots as usize, 64).whole();
        Self::over(mock, slots, PER_TOKEN * u64::from(CONTEXT) * u64::from(slots))
    }

    /// Whose rows hold nothing of use after a run that failed.
    fn fragile(slots: u32) -> Self {
        let mock = Mock::new(slots as usize, 64).fragile();
        Self::over(mock, slots, PER_TOKEN * u64::from(CONTEXT) * u64::from(slots))
    }

    /// Whose conversations share what they begin with, in steps of eight tokens; so many of them at most.
    pub(super) fn sharing(slots: u32, rows: usize, bytes: u64) -> Self {
        Self::over(Mock::new(slots as usize, 64).sharing(rows, 8), slots, bytes)
    }

    pub(super) fn over(mock: Mock, slots: u32, bytes: u64) -> Self {
        let (commands, orders) = channel(slots as usize + 1);
        let runs = mock.runs.clone();
        let board = Arc::new(Board::new(slots, CONTEXT, Arc::default()));
        let budget = Budget::new(bytes, PER_TOKEN, CONTEXT, slots, 1);
        let facts = Facts { eos: vec![mock::VOCAB - 3], kv_bytes_per_token: PER_TOKEN };
        let mock_again = move || Box::new(Mock::new(slots as usize, 64)) as Box<dyn Session>;
        let again = move || Ok((mock_again(), crate::memory::Holdings::default()));
        let life = Life::new(KeepAlive::Always, Box::new(again));
        let worker = Worker::new(Box::new(mock), orders, board, budget, (facts, life));
        // No run takes any time: what is decided does not depend on the machine.
        let worker = Worker { clock: || *BEGIN, ..worker };
        Self { worker, commands, runs, orders: 0 }
    }

    pub(super) fn order(&mut self, request: Generate, tokens: u32) -> Events {
        self.order_ahead(request, tokens, None)
    }

    pub(super) fn tagged(&mut self, request: Generate, tokens: u32, tag: Option<Tag>) -> Events {
        self.any(request, tokens, tag, None)
    }

    pub(super) fn order_ahead(&mut self, request: Generate, tokens: u32, ahead: Option<Ahead>) -> Events {
        self.any(request, tokens, None, ahead)
    }

    fn any(&mut self, request: Generate, tokens: u32, tag: Option<Tag>, ahead: Option<Ahead>) -> Events {
        self.orders += 1;
        let (sender, events) = unbounded_channel();
        let ask = Ask::new(tokens, request.prompt.clone());
        let permit = self.worker.budget.try_reserve(ask).unwrap();
        let (id, asked) = (self.orders, Instant::now());
        let order = Order { id, request, permit, events: sender, asked, tag, ahead };
        self.commands.try_send(Command::Generate(Box::new(order))).unwrap();
        events
    }

    pub(super) fn ask(&mut self, prompt: &[u32], max_tokens: u32) -> Events {
        self.order(request(prompt, max_tokens), u32::try_from(prompt.len()).unwrap() + max_tokens)
    }

    /// One turn, where there is something to do: a worker with nothing to do would wait for ever.
    pub(super) fn turn(&mut self) {
        self.worker.leave_cancelled();
        if self.busy() {
            let happening = self.worker.select().unwrap();
            self.worker.apply(happening);
        }
    }

    pub(super) fn turns(&mut self, turns: usize) {
        (0..turns).for_each(|_| self.turn());
    }

    /// Works until nothing is left to do.
    pub(super) fn work(&mut self) {
        while self.busy() {
            self.turn();
        }
    }

    /// Tokens held.
    pub(super) fn held(&self) -> usize {
        self.worker.slots.tokens()
    }

    /// Bytes of all that is held, each segment once.
    pub(super) fn bytes(&self) -> u64 {
        (self.worker.slots.tokens() + self.worker.segments.tokens()) as u64 * PER_TOKEN
    }

    pub(super) fn reserved(&self) -> u64 {
        self.worker.budget.reserved()
    }

    pub(super) fn runs(&self) -> Vec<Run> {
        self.runs.lock().unwrap().clone()
    }

    /// Somebody waits for memory.
    pub(super) fn wait_for(&self, tokens: u32) -> impl Future<Output = ()> + use<> {
        let budget = self.worker.budget.clone();
        let mut waiting = Box::pin(async move { drop(budget.reserve(tokens).await) });
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        waiting
    }

    fn busy(&self) -> bool {
        let told = self.commands.capacity() < self.commands.max_capacity();
        told || self.worker.jobs.iter().any(Option::is_some)
    }
}

pub(super) fn request(prompt: &[u32], max_tokens: u32) -> Generate {
    Generate { prompt: prompt.into(), max_tokens, sampling: Sampling::greedy(), ..Generate::default() }
}

/// Tokens told so far, and how it ended.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) tokens: Vec<u32>,
    pub(super) cached: u32,
    pub(super) restored: u32,
    pub(super) prefilled: bool,
    pub(super) dropped: Vec<u32>,
    pub(super) done: Option<(Finish, Usage)>,
    pub(super) error: Option<GenerateError>,
}

pub(super) fn hear(events: &mut Events) -> Heard {
    let mut heard = Heard::default();
    while let Ok(event) = events.try_recv() {
        match event {
            Ok(Event::Started { cached, restored, .. }) => {
                (heard.cached, heard.restored) = (cached, restored);
            }
            Ok(Event::Prefilled) => heard.prefilled = true,
            Ok(Event::Logprobs(_)) => {}
            Ok(Event::Shifted { dropped }) => heard.dropped.push(dropped),
            Ok(Event::Token(token)) => heard.tokens.push(token),
            Ok(Event::Done { reason, usage }) => heard.done = Some((reason, usage)),
            Err(error) => heard.error = Some(error),
        }
    }
    heard
}

pub(super) fn prompt(seed: u32, length: u32) -> Vec<u32> {
    (0..length).map(|i| (i * 7 + seed * 13 + i * i * seed) % 90).collect()
}

#[test]
fn one_request_from_start_to_end() {
    let mut bench = Bench::new(2);
    let prompt = prompt(1, 100);
    let mut events = bench.ask(&prompt, 5);
    bench.work();
    let heard = hear(&mut events);
    assert_eq!(heard.tokens, answer(&prompt, 5));
    let usage = Usage { prompt: 100, cached: 0, completion: 5, kv_bytes: 104 * PER_TOKEN };
    assert_eq!(heard.done, Some((Finish::Length, usage)));
    assert!(heard.prefilled);
    let prefills = [Run::Prefill { tokens: 64 }, Run::Prefill { tokens: 36 }];
    assert_eq!(bench.runs.lock().unwrap()[..2], prefills);
    assert_eq!(bench.worker.budget.reserved(), 0);
}

#[test]
fn concurrent_requests_share_runs_and_get_their_own_answers() {
    let mut bench = Bench::new(4);
    let prompts: Vec<_> = (0..4).map(|seed| prompt(seed, 10 + seed * 40)).collect();
    let lengths = [30, 3, 17, 1];
    let mut all: Vec<_> =
        prompts.iter().zip(lengths).map(|(prompt, length)| bench.ask(prompt, length)).collect();
    bench.work();
    for ((events, prompt), length) in all.iter_mut().zip(&prompts).zip(lengths) {
        assert_eq!(hear(events).tokens, answer(prompt, length as usize));
    }
    assert!(bench.runs.lock().unwrap().contains(&Run::Decode { rows: 2 }));
}

#[test]
fn stop_tokens_end_an_answer_untold() {
    let mut bench = Bench::new(1);
    let prompt = prompt(3, 20);
    let full = answer(&prompt, 10);
    let stop = full[4];
    let told = full.iter().position(|&token| token == stop).unwrap();
    let mut events = bench.order(Generate { stop_tokens: vec![stop], ..request(&prompt, 10) }, 30);
    bench.work();
    let heard = hear(&mut events);
    assert_eq!(heard.tokens, full[..told]);
    assert_eq!(heard.done.unwrap().0, Finish::Stop);
}

#[test]
fn end_of_text_ends_unless_ignored() {
    let mut bench = Bench::new(1);
    let prompt = prompt(4, 20);
    let made = answer(&prompt, 6);
    bench.worker.facts.eos = vec![made[0]];
    let mut events = bench.ask(&prompt, 6);
    let reason = |heard: &Heard| heard.done.unwrap().0;
    bench.work();
    let heard = hear(&mut events);
    assert_eq!((heard.tokens.len(), reason(&heard)), (0, Finish::Stop));
    let mut events = bench.order(Generate { ignore_eos: true, ..request(&prompt, 6) }, 26);
    bench.work();
    let heard = hear(&mut events);
    assert_eq!((heard.tokens.clone(), reason(&heard)), (made, Finish::Length));
}

#[test]
fn a_permit_bounds_the_answer() {
    let mut bench = Bench::new(1);
    let prompt = prompt(5, 20);
    for (tokens, made) in [(23, 3), (20, 0)] {
        let mut events = bench.order(request(&prompt, 100), tokens);
        bench.work();
        let heard = hear(&mut events);
        assert_eq!((heard.tokens.len(), heard.done.unwrap().0), (made, Finish::Length));
    }
}

#[test]
fn the_next_turn_reuses_prompt_and_answer() {
    let mut bench = Bench::new(2);
    let first = prompt(6, 50);
    let mut events = bench.ask(&first, 8);
    bench.work();
    let mut second = first.clone();
    second.extend(hear(&mut events).tokens);
    second.extend(prompt(7, 10));
    let mut events = bench.ask(&second, 8);
    bench.work();
    let heard = hear(&mut events);
    // All but the last token made, which was never put in.
    assert_eq!((heard.cached, heard.tokens), (57, answer(&second, 8)));
}

#[test]
fn the_same_prompt_computes_its_last_token_again() {
    let mut bench = Bench::new(1);
    let prompt = prompt(8, 30);
    let _events = bench.ask(&prompt, 4);
    bench.work();
    let mut events = bench.ask(&prompt, 4);
    bench.work();
    let heard = hear(&mut events);
    assert_eq!((heard.cached, heard.tokens), (29, answer(&prompt, 4)));
}

#[test]
fn a_prefix_is_copied_from_a_busy_slot() {
    let mut bench = Bench::new(3);
    let shared = prompt(9, 60);
    let with = |seed| [shared.clone(), prompt(seed, 20)].concat();
    let mut one = bench.ask(&with(10), 40);
    bench.turns(6);
    let mut other = bench.ask(&with(11), 10);
    bench.work();
    let (one, other) = (hear(&mut one), hear(&mut other));
    assert_eq!(one.tokens, answer(&with(10), 40));
    assert_eq!((other.cached, other.tokens), (60, answer(&with(11), 10)));
    assert!(bench.runs.lock().unwrap().contains(&Run::Copy { tokens: 60 }));
}

#[test]
fn who_leaves_frees_slot_and_memory() {
    let mut bench = Bench::new(2);
    let prompts = [prompt(12, 30), prompt(13, 30)];
    let (gone, mut stays) = (bench.ask(&prompts[0], 500), bench.ask(&prompts[1], 20));
    bench.turns(10);
    assert_eq!(bench.worker.budget.reserved(), (530 + 50) * PER_TOKEN);
    drop(gone);
    bench.turn();
    assert_eq!(bench.worker.budget.reserved(), 50 * PER_TOKEN);
    bench.work();
    assert_eq!(hear(&mut stays).tokens, answer(&prompts[1], 20));
}

#[test]
fn a_long_prefill_ends_with_its_reader() {
    let mut bench = Bench::new(1);
    let events = bench.ask(&prompt(14, 640), 5);
    bench.turns(3);
    drop(events);
    let computed = bench.runs.lock().unwrap().len();
    assert_eq!(computed, 2);
    bench.worker.leave_cancelled();
    assert_eq!((bench.runs.lock().unwrap().len(), bench.worker.budget.reserved()), (computed, 0));
    // What was computed serves who asks again.
    let mut events = bench.ask(&prompt(14, 640), 5);
    bench.work();
    let heard = hear(&mut events);
    assert_eq!((heard.cached, heard.tokens), (128, answer(&prompt(14, 640), 5)));
}

#[test]
fn cancel_ends_only_the_run_of_its_request() {
    let mock = Mock::new(1, 64);
    let flag = mock.interrupted.clone();
    let on = || flag.0.load(std::sync::atomic::Ordering::SeqCst);
    let current = Arc::new(Current::new(mock.interrupt()));
    current.begin(7);
    drop(Cancel::new(current.clone(), 6));
    assert!(!on());
    drop(Cancel::new(current.clone(), 7));
    assert!(on());
    current.end();
    assert!(!on());
    drop(Cancel::new(current, 7));
    assert!(!on());
}

#[test]
fn a_failing_prompt_fails_alone() {
    let mut bench = Bench::new(2);
    let good = prompt(15, 20);
    let (mut fails, mut runs) = (bench.ask(&[1, POISON, 2], 5), bench.ask(&good, 12));
    bench.work();
    assert_eq!(hear(&mut fails).error, Some(GenerateError::Session("poison".to_owned())));
    assert_eq!(hear(&mut runs).tokens, answer(&good, 12));
    assert_eq!(bench.worker.budget.reserved(), 0);
}

#[test]
fn a_failing_batch_is_run_row_by_row() {
    let mut bench = Bench::new(3);
    let prompts: Vec<_> = (16..19).map(|seed| prompt(seed, 20)).collect();
    let biased = |prompt: &[u32]| Generate {
        sampling: Sampling { logit_bias: vec![(POISON, 100.0)], ..Sampling::greedy() },
        ..request(prompt, 12)
    };
    let mut good = bench.ask(&prompts[0], 12);
    // It makes the poisonous token itself, which then fails the run that all share.
    let mut bad = bench.order(biased(&prompts[1]), 32);
    let mut other = bench.ask(&prompts[2], 12);
    bench.work();
    assert_eq!(hear(&mut good).tokens, answer(&prompts[0], 12));
    assert_eq!(hear(&mut other).tokens, answer(&prompts[2], 12));
    assert!(matches!(hear(&mut bad).error, Some(GenerateError::Session(_))));
}

#[test]
fn what_a_failed_run_has_spoilt_is_forgotten() {
    // A window that a run moves on is not what it was: neither are the rows that ran beside it.
    let mut bench = Bench::fragile(2);
    let first = prompt(30, 64);
    let mut fails = bench.ask(&[&first[..], &[POISON]].concat(), 5);
    bench.work();
    assert!(matches!(hear(&mut fails).error, Some(GenerateError::Session(_))));
    assert_eq!((bench.held(), bench.reserved()), (0, 0));
    let again = [&first[..], &[7]].concat();
    let mut goes_on = bench.ask(&again, 5);
    bench.work();
    let heard = hear(&mut goes_on);
    assert_eq!((heard.cached, heard.tokens), (0, answer(&again, 5)));
    let biased = Generate {
        sampling: Sampling { logit_bias: vec![(POISON, 100.0)], ..Sampling::greedy() },
        ..request(&prompt(31, 20), 12)
    };
    let (mut beside, mut bad) = (bench.ask(&prompt(32, 20), 12), bench.order(biased, 32));
    bench.work();
    for events in [&mut beside, &mut bad] {
        assert!(matches!(hear(events).error, Some(GenerateError::Session(_))));
    }
    assert_eq!(bench.held(), 0);
}

#[test]
fn logits_that_are_no_numbers_are_an_error() {
    let mut bench = Bench::new(1);
    let mut events = bench.ask(&[1, 2, BLANK], 5);
    bench.work();
    assert_eq!(hear(&mut events).error, Some(GenerateError::NoLogits));
}

#[test]
fn idle_conversations_make_room_oldest_first() {
    // Room for 300 tokens in 3 slots.
    let mut bench = Bench::with_budget(3, 300 * PER_TOKEN);
    let prompts: Vec<_> = (20..23).map(|seed| prompt(seed, 90)).collect();
    for prompt in &prompts {
        let _events = bench.ask(prompt, 10);
        bench.work();
    }
    let used = |bench: &Bench| bench.worker.slots.tokens();
    assert_eq!(used(&bench), 3 * 99);
    // The second conversation goes on: it needs 201 tokens, so the first one goes and the third one may stay.
    let longer = [prompts[1].clone(), answer(&prompts[1], 10), prompt(30, 60)].concat();
    let mut events = bench.ask(&longer, 40);
    bench.work();
    assert_eq!((hear(&mut events).cached, used(&bench)), (99, 99 + 199));
    for (prompt, cached) in [(&prompts[2], 89), (&prompts[0], 0)] {
        let mut events = bench.ask(prompt, 5);
        bench.work();
        let heard = hear(&mut events);
        assert_eq!((heard.cached, heard.tokens), (cached, answer(prompt, 5)));
    }
}

#[test]
fn shutdown_ends_what_runs() {
    let mut bench = Bench::new(2);
    let mut events = bench.ask(&prompt(24, 20), 500);
    bench.turns(5);
    bench.commands.try_send(Command::Shutdown).unwrap();
    let budget = bench.worker.budget.clone();
    bench.worker.run();
    let heard = hear(&mut events);
    assert_eq!((heard.done.unwrap().0, budget.reserved()), (Finish::Cancelled, 0));
}

proptest! {
    /// Whatever comes in whatever order, and whoever leaves, each answer is the one that its prompt alone gives.
    #[test]
    fn answers_do_not_depend_on_neighbours(
        asked in prop::collection::vec((0u32..4, 1u32..120, 0u32..30, 0usize..12, any::<bool>()), 1..24),
        kind in 0..4,
    ) {
        let mut bench = match kind {
            0 => Bench::whole(3),
            1 => Bench::new(3),
            2 => Bench::sharing(3, 2, 1000 * PER_TOKEN),
            _ => Bench::sharing(4, usize::MAX, 700 * PER_TOKEN),
        };
        let mut open: Vec<(Events, Vec<u32>, u32)> = Vec::new();
        for (family, length, max_tokens, turns, leaves) in asked {
            // Prompts of a family share their beginning.
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
        }
        bench.work();
        for (mut events, prompt, max_tokens) in open {
            let heard = hear(&mut events);
            prop_assert_eq!(heard.tokens, answer(&prompt, max_tokens as usize));
            prop_assert_eq!(heard.done.unwrap().0, Finish::Length);
        }
        prop_assert_eq!(bench.worker.budget.reserved(), 0);
        prop_assert!(bench.bytes() <= bench.worker.budget.limit());
    }
}

/// A worker whose device holds one MiB more after each request.
#[test]
fn memory_is_looked_at_when_nothing_runs_and_a_leak_is_told() {
    let used = crate::memory::fake::Figure::of(1 << 30);
    let device = Arc::new(crate::memory::fake::FakeDevice(used.clone()));
    let ledger = Arc::new(crate::memory::Ledger::new(device));
    let mut bench = Bench::new(2);
    let budget = bench.worker.budget.clone();
    let meter = Meter::every(std::time::Duration::ZERO, budget, Default::default(), ledger);
    bench.worker = bench.worker.metered(&meter);
    for turn in 0..50 {
        let _events = bench.ask(&prompt(turn, 40), 3);
        bench.work();
        used.add(4 << 20);
        bench.worker.rest();
    }
    let leak = meter.read().leak;
    assert_eq!((leak.samples, leak.state.as_str(), leak.component), (50, "leak", Some("unattributed")));
    // Nothing has run since: there is nothing to look at.
    bench.worker.rest();
    assert_eq!(meter.read().leak.samples, 50);
}

#[test]
fn an_answer_ends_no_sooner_than_it_may() {
    let mut bench = Bench::new(1);
    let prompt = prompt(31, 20);
    bench.worker.facts.eos = vec![answer(&prompt, 1)[0]];
    let mut events = bench.order(Generate { min_tokens: 3, ..request(&prompt, 8) }, 30);
    bench.work();
    let heard = hear(&mut events);
    assert!(heard.tokens.len() >= 3, "{heard:?}");
    assert!(!heard.tokens[..3].contains(&bench.worker.facts.eos[0]), "{heard:?}");
}
